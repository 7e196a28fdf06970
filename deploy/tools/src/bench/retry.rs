//! `bench retry`: what parked deliveries cost while they wait, and how late they come back. Parks a few and
//! many in one delay topic, 200 a second of them falling due, and reads when each arrives in
//! `webhooks.redeliveries`.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
};
use router_runtime::now_ms;
use router_schemas::{DeliveryMeta, DestinationId, ProjectId, SourceId, topics::Rung};
use serde::Serialize;
use serde_json::json;

use super::{
    Options,
    machine::Memory,
    preload::{self, DuePlan, Owner},
    report::{Figures, Table, thousands},
    world::World,
};
use crate::load::{Histogram, Latency};

const PER_SECOND: f64 = 200.0;
const PARTITIONS: i32 = 12;
/// Long enough that the last of 100,000 at 200 a second (500 s) is due before the rung's own delay is over.
const RUNG: Rung = Rung::from_ms(600_000);
/// From the end of preloading to the first due time: the role starts and settles meanwhile.
const SETTLE: Duration = Duration::from_secs(15);
const AIM_P99_MS: f64 = 500.0;

#[derive(Debug, Serialize)]
struct Measured {
    parked: u64,
    /// How many of them fell due while it was watched.
    came_back: u64,
    early: u64,
    lateness: Latency,
    /// With everything parked, before the first was due.
    memory_at_rest: Memory,
    memory_at_end: Memory,
    cpu_percent: f64,
}

/// # Errors
/// The stack does not answer, or records do not come back.
pub(super) fn run(options: &Options) -> anyhow::Result<Figures> {
    let many = options.records(100_000, 5_000);
    let seconds = options.seconds(60, 5);
    let mut measured = Vec::new();
    for parked in [1_000, many] {
        measured.push(measure(options, parked, seconds)?);
    }
    let rows = measured.iter().map(row).collect();
    Ok(Figures {
        name: "retry",
        parameters: json!({
            "per_second": PER_SECOND, "seconds": seconds, "rung": RUNG, "partitions": PARTITIONS,
        }),
        figures: json!({ "measured": measured, "aim_p99_ms": AIM_P99_MS }),
        notes: vec![format!(
            "Lateness is from the due time to the broker's timestamp in webhooks.redeliveries (milliseconds, \
             LogAppendTime); aim: p99 under {AIM_P99_MS} ms, and memory that does not grow with what is parked."
        )],
        tables: vec![Table {
            title: format!("retry, {PER_SECOND} a second falling due"),
            headings: vec![
                "parked",
                "came back",
                "early",
                "p50 ms late",
                "p99 ms late",
                "max ms late",
                "MiB at rest",
                "MiB at end",
                "CPU %",
            ],
            rows,
        }],
    })
}

fn row(measured: &Measured) -> Vec<String> {
    let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
    vec![
        thousands(measured.parked as f64),
        thousands(measured.came_back as f64),
        measured.early.to_string(),
        format!("{:.0}", measured.lateness.p50_ms),
        format!("{:.0}", measured.lateness.p99_ms),
        format!("{:.0}", measured.lateness.max_ms),
        mib(measured.memory_at_rest.resident_kib),
        mib(measured.memory_at_end.resident_kib),
        format!("{:.1}", measured.cpu_percent),
    ]
}

fn measure(options: &Options, parked: u64, seconds: u64) -> anyhow::Result<Measured> {
    let world = World::create(&options.stack, &format!("retry{parked}"))?;
    let owner = Owner {
        project_id: ProjectId::DEFAULT,
        source_id: SourceId::generate(),
    };
    // Preloading takes a few seconds for the most that is parked here.
    let preload_allowance_ms = i64::try_from(parked / 5)?;
    let plan = DuePlan {
        rung: RUNG,
        first_due_ms: now_ms() + preload_allowance_ms + i64::try_from(SETTLE.as_millis())?,
        per_second: PER_SECOND,
        partitions: PARTITIONS,
    };
    preload::parked(
        world.kafka(),
        owner,
        DestinationId::generate(),
        plan,
        parked,
    )?;
    let mut role = world.start_role("retry", &[])?;
    let before_due = Duration::from_millis(
        u64::try_from(plan.first_due_ms - now_ms())
            .context("preloading took longer than it should: the first record is already due")?,
    );
    eprintln!(
        "  {} parked, the first is due in {:.0} s",
        thousands(parked as f64),
        before_due.as_secs_f64()
    );
    std::thread::sleep(before_due.saturating_sub(Duration::from_millis(500)));

    let memory_at_rest = role.child.memory()?;
    let cpu_before = role.child.cpu()?;
    let started = Instant::now();
    let expected = parked.min((seconds as f64 * PER_SECOND) as u64);
    let watched = watch(&world, expected, || role.child.check_alive())?;
    let cpu = role.child.cpu()?.saturating_sub(cpu_before);
    let memory_at_end = role.child.memory()?;
    role.child.stop()?;
    Ok(Measured {
        parked,
        came_back: watched.lateness.count(),
        early: watched.early,
        lateness: watched.lateness.summary(),
        memory_at_rest,
        memory_at_end,
        cpu_percent: cpu.as_secs_f64() * 100.0 / started.elapsed().as_secs_f64(),
    })
}

#[derive(Default)]
struct Watched {
    lateness: Histogram,
    early: u64,
}

/// Reads what comes back until `expected` records have.
fn watch(
    world: &World,
    expected: u64,
    mut still_alive: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Watched> {
    let topic = world.kafka().names().redeliveries;
    let consumer: BaseConsumer = world
        .kafka()
        .client_config()
        .set("group.id", "bench-retry-watch")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assignment.add_partition_offset(&topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let deadline = Instant::now()
        + Duration::from_secs_f64(expected as f64 / PER_SECOND)
        + Duration::from_secs(30);
    let mut watched = Watched::default();
    while watched.lateness.count() < expected {
        if Instant::now() > deadline {
            bail!(
                "{} of {expected} records came back in time",
                watched.lateness.count()
            );
        }
        still_alive()?;
        let Some(message) = consumer.poll(Duration::from_millis(200)) else {
            continue;
        };
        let message = message?;
        let headers = message.headers().context("a redelivery without headers")?;
        let (meta, _) =
            DeliveryMeta::read(headers.iter().map(|header| (header.key, header.value)))?;
        let due_ms = meta
            .parked
            .context("a redelivery that does not say when it was due")?
            .due_ms;
        let arrived_ms = message.timestamp().to_millis().context("no timestamp")?;
        watched.early += u64::from(arrived_ms < due_ms);
        let late_ms = u64::try_from(arrived_ms - due_ms).unwrap_or(0);
        watched.lateness.record(late_ms * 1_000);
    }
    Ok(watched)
}
