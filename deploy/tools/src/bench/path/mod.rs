//! `bench path`: the whole way with everything on. Searches for the highest rate at which no stage falls
//! behind, confirms it for a minute, and measures how long webhooks take at that rate and at half of it.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::{
    Options,
    machine::Memory,
    report::{Figures, Table, thousands},
};

mod house;
mod search;
mod trial;

use house::House;
use search::Search;
use trial::Trial;

const AIM_PER_SECOND: f64 = 6_000.0;
const AIM_P99_MS: f64 = 100.0;
/// Length of the confirming runs that the aim is stated for.
const CONFIRM_SECONDS: u64 = 60;

#[derive(Debug, Serialize)]
struct ProcessMemory {
    process: String,
    #[serde(flatten)]
    memory: Memory,
}

/// # Errors
/// A service does not start, or not even the lowest rate is sustained.
pub(super) fn run(options: &Options) -> anyhow::Result<Figures> {
    let mut house = House::start(&options.stack)?;
    let step = Duration::from_secs(if options.quick { 3 } else { 15 });
    let confirm = Duration::from_secs(options.seconds(CONFIRM_SECONDS, 5));
    // Caches, connections and the allocator settle before anything counts.
    trial::run(&mut house, 500.0, Duration::from_secs(3))?;

    let mut trials = Vec::new();
    let mut search = if options.quick {
        Search::new(500.0, 1_000.0)
    } else {
        Search::new(1_000.0, 20_000.0)
    };
    while let Some(rate) = search.next_rate() {
        let trial = trial::run(&mut house, rate, step)?;
        search.tell(trial.sustained);
        trials.push(trial);
    }
    let full = confirmed(&mut house, &mut search, confirm, &mut trials)?;
    let half = trial::run(&mut house, full.rate / 2.0, confirm)?;
    let memory = house.memory()?;
    let archived = house.audit()?;
    house.stop()?;
    Ok(figures(&full, &half, &trials, &memory, &archived, confirm))
}

/// The rate that the short trials found, lowered until a long one sustains it.
fn confirmed(
    house: &mut House,
    search: &mut Search,
    length: Duration,
    trials: &mut Vec<Trial>,
) -> anyhow::Result<Trial> {
    const LOWERED: f64 = 0.92;
    let mut rate = search
        .best()
        .ok_or_else(|| anyhow::anyhow!("not even the lowest rate is sustained"))?;
    for _ in 0..6 {
        let trial = trial::run(house, rate, length)?;
        if trial.sustained {
            return Ok(trial);
        }
        trials.push(trial);
        rate *= LOWERED;
    }
    anyhow::bail!("no rate above {rate:.0} a second was sustained for {length:?}")
}

fn figures(
    full: &Trial,
    half: &Trial,
    trials: &[Trial],
    memory: &[ProcessMemory],
    archived: &house::Archived,
    confirm: Duration,
) -> Figures {
    let row = |name: &str, trial: &Trial| {
        vec![
            name.to_owned(),
            thousands(trial.rate),
            format!("{:.1}", trial.transit.p50_ms),
            format!("{:.1}", trial.transit.p99_ms),
            format!("{:.1}", trial.answer.p50_ms),
            format!("{:.1}", trial.answer.p99_ms),
            format!("{:.0}", trial.machine_cpu_us_per_event),
            format!("{:.0}", trial.machine_busy_percent),
        ]
    };
    let memory_rows = memory.iter().map(|entry| {
        let mib = |kib: u64| format!("{:.0}", kib as f64 / 1024.0);
        vec![
            entry.process.clone(),
            mib(entry.memory.resident_kib),
            mib(entry.memory.peak_kib),
        ]
    });
    let cpu_rows = full.cpu_us_per_event.iter().zip(&half.cpu_us_per_event);
    let cpu_rows = cpu_rows.map(|((name, full), (_, half))| {
        vec![name.clone(), format!("{full:.0}"), format!("{half:.0}")]
    });
    Figures {
        name: "path",
        parameters: json!({
            "confirm_seconds": confirm.as_secs(), "partitions": 12, "destinations": house::DESTINATIONS,
            "connections": trial::CONNECTIONS,
        }),
        figures: json!({
            "sustained": full, "half": half, "trials": trials, "memory": memory, "archived": archived,
            "aim_per_second": AIM_PER_SECOND, "aim_p99_ms_at_half": AIM_P99_MS,
        }),
        notes: vec![
            format!(
                "Sustained for {} s without lag growing at any stage, the archive included; aim {} a second, \
                 and p99 under {AIM_P99_MS} ms at half of what is sustained. Transit is from when a webhook was \
                 due to be sent to the receiver's having read it.",
                confirm.as_secs(),
                thousands(AIM_PER_SECOND)
            ),
            "CPU is the whole machine's, load generator, receiver, Kafka and PostgreSQL included."
                .to_owned(),
            format!(
                "{} webhooks were accepted, {} archived, {} results, {} attempts.",
                archived.accepted, archived.raw, archived.results, archived.attempts
            ),
        ],
        tables: vec![
            Table {
                title: "The whole path".to_owned(),
                headings: vec![
                    "",
                    "events/s",
                    "transit p50 ms",
                    "p99 ms",
                    "answer p50 ms",
                    "p99 ms",
                    "CPU us/event",
                    "busy %",
                ],
                rows: vec![row("sustained", full), row("half", half)],
            },
            Table {
                title: "Whose CPU, us/event".to_owned(),
                headings: vec!["process", "sustained", "half"],
                rows: cpu_rows.collect(),
            },
            Table {
                title: "Memory after it".to_owned(),
                headings: vec!["process", "MiB", "peak MiB"],
                rows: memory_rows.collect(),
            },
        ],
    }
}
