//! One rate for one stretch of time: was it sustained, and how long did webhooks take?

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::house::{House, Lag};
use crate::{
    bench::{machine::machine_cpu, report::thousands},
    load::{Latency, LoadPlan, Pace, bodies::samples, client::request_bytes},
};

pub(super) const CONNECTIONS: usize = 128;
/// Lag may swing by this much of a second's events without anything falling behind: commits come twice a
/// second, and a batch of the archive holds about as much.
const SWING_SECONDS: f64 = 1.5;
/// What is still on its way when the load ends must have arrived by then.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);
/// Fewer say nothing of growth.
const FEWEST_LOOKS: usize = 3;
const LOOK_EVERY: Duration = Duration::from_millis(1_000);

#[derive(Debug, Clone, Serialize)]
pub(super) struct Trial {
    pub(super) rate: f64,
    pub(super) seconds: f64,
    pub(super) sustained: bool,
    /// Why it was not.
    pub(super) because: Option<String>,
    pub(super) accepted: u64,
    pub(super) not_accepted: u64,
    /// From when a webhook was due to be sent to its receipt.
    pub(super) transit: Latency,
    /// From when a webhook was due to be sent to the edge's answer.
    pub(super) answer: Latency,
    pub(super) machine_cpu_us_per_event: f64,
    pub(super) machine_busy_percent: f64,
    /// The same by process; the kernel's own threads are what is left.
    pub(super) cpu_us_per_event: Vec<(String, f64)>,
    pub(super) drained_after_s: f64,
    pub(super) lag: Vec<Lag>,
}

/// # Errors
/// A service has ended, or a webhook that was accepted does not arrive.
pub(super) fn run(house: &mut House, rate: f64, length: Duration) -> anyhow::Result<Trial> {
    eprint!(
        "  {} a second for {:.0} s: ",
        thousands(rate),
        length.as_secs_f64()
    );
    house.reset_receiver()?;
    let load = plan(house, rate, length).start()?;
    let (cpu_before, each_before) = (machine_cpu()?, house.cpu()?);
    let started = Instant::now();
    let mut lag = Vec::new();
    while started.elapsed() + LOOK_EVERY < length {
        std::thread::sleep(LOOK_EVERY);
        lag.push(house.lag()?);
    }
    load.wait_for_end();
    let cpu = machine_cpu()?.saturating_sub(cpu_before);
    let each_after = house.cpu()?;
    let seconds = started.elapsed().as_secs_f64();
    let arrived = house.receiver_stats()?.distinct_ids;
    let sent = load.join()?;
    house.check_alive()?;
    house.add_accepted(sent.accepted_in_all);
    let drained_after_s = wait_for_all(house, sent.accepted_in_all)?;

    let stats = house.receiver_stats()?;
    let accepted = sent.accepted();
    let not_accepted = sent.refused() + sent.errors;
    let transit = stats
        .transit
        .map(|transit| transit.latency)
        .unwrap_or_default();
    let backlog = sent.accepted_in_all.saturating_sub(arrived);
    let because = falls_short(rate, seconds, accepted, not_accepted, backlog, &lag);
    eprintln!(
        "{}, p50 {:.1} ms, p99 {:.1} ms",
        because.as_deref().unwrap_or("sustained"),
        transit.p50_ms,
        transit.p99_ms
    );
    let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    let each = each_after.into_iter().zip(each_before);
    let cpu_us_per_event = each.map(|((name, after), (_, before))| {
        let used = after.saturating_sub(before).as_secs_f64();
        (name, used * 1e6 / accepted.max(1) as f64)
    });
    Ok(Trial {
        rate,
        seconds,
        sustained: because.is_none(),
        because,
        accepted,
        not_accepted,
        transit,
        answer: sent.latency.summary(),
        machine_cpu_us_per_event: cpu.as_secs_f64() * 1e6 / accepted.max(1) as f64,
        machine_busy_percent: cpu.as_secs_f64() * 100.0 / seconds / cores,
        cpu_us_per_event: cpu_us_per_event.collect(),
        drained_after_s,
        lag,
    })
}

fn plan(house: &House, rate: f64, length: Duration) -> LoadPlan {
    let addr = house.edge_addr();
    let requests = samples(512, 41);
    let requests = requests
        .iter()
        .map(|sample| request_bytes("/webhooks", addr, Some(house.key()), sample));
    LoadPlan {
        addr,
        requests: Arc::new(requests.collect()),
        connections: CONNECTIONS,
        threads: 1,
        pace: Pace::Open { per_second: rate },
        warm_up: Duration::ZERO,
        measure: length,
        stamp: true,
    }
}

/// Waits until the receiver has seen every webhook that was accepted and no stage lags.
fn wait_for_all(house: &House, accepted: u64) -> anyhow::Result<f64> {
    let started = Instant::now();
    loop {
        let arrived = house.receiver_stats()?.distinct_ids;
        let lag = house.lag()?.total();
        if arrived >= accepted && lag == 0 {
            return Ok(started.elapsed().as_secs_f64());
        }
        let waited = started.elapsed();
        let in_time = waited < DRAIN_WITHIN;
        // What was too much may take as long again; what never arrives is a fault, not a figure.
        anyhow::ensure!(
            in_time || (lag > 0 && waited < 5 * DRAIN_WITHIN),
            "{arrived} of {accepted} webhooks arrived within {waited:.0?}, lag {lag}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What keeps a rate from counting as sustained.
fn falls_short(
    rate: f64,
    seconds: f64,
    accepted: u64,
    not_accepted: u64,
    backlog: u64,
    lag: &[Lag],
) -> Option<String> {
    if not_accepted > 0 {
        return Some(format!("{not_accepted} not accepted"));
    }
    if (accepted as f64) < rate * seconds * 0.98 {
        return Some(format!(
            "only {} a second answered",
            thousands(accepted as f64 / seconds)
        ));
    }
    // Whatever the offsets say: what is accepted and has not arrived when the load ends is a queue somewhere.
    if backlog as f64 > rate * SWING_SECONDS {
        let backlog = thousands(backlog as f64);
        return Some(format!("{backlog} had not arrived at its end"));
    }
    if lag.len() < FEWEST_LOOKS {
        let looks = lag.len();
        return Some(format!("Kafka told the lag only {looks} times"));
    }
    type Of = fn(&Lag) -> u64;
    let stages: [(&str, Of); 3] = [
        ("process", |lag| lag.process),
        ("deliver", |lag| lag.deliver),
        ("archive", |lag| lag.archive),
    ];
    stages.into_iter().find_map(|(stage, of)| {
        let growth = growth(&lag.iter().map(|lag| of(lag) as f64).collect::<Vec<_>>());
        let (growth, swing) = (growth?, rate * SWING_SECONDS);
        (growth > swing).then(|| format!("{stage} falls behind by {}", thousands(growth)))
    })
}

/// Mean of the last third less mean of the first: what grows steadily grows by two thirds of the whole.
fn growth(looks: &[f64]) -> Option<f64> {
    let third = looks.len() / 3;
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    (third > 0).then(|| mean(&looks[looks.len() - third..]) - mean(&looks[..third]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lags(archive: impl Fn(u64) -> u64) -> Vec<Lag> {
        (0..30)
            .map(|at| Lag {
                archive: archive(at),
                ..Lag::default()
            })
            .collect()
    }

    #[test]
    fn swinging_lag_is_fine_and_growing_lag_is_not() {
        let swings = lags(|at| 500 + (at % 3) * 900);
        assert_eq!(falls_short(1_000.0, 30.0, 30_000, 0, 900, &swings), None);
        let grows = lags(|at| at * 100);
        let why = falls_short(1_000.0, 30.0, 30_000, 0, 900, &grows).expect("grows");
        assert!(why.contains("archive"), "{why}");
    }

    #[test]
    fn refusals_and_a_slow_edge_count_too() {
        let flat = lags(|_| 500);
        let short = |accepted, not_accepted, backlog, lag: &[Lag]| {
            falls_short(1_000.0, 30.0, accepted, not_accepted, backlog, lag)
        };
        assert_eq!(short(30_000, 0, 900, &flat), None);
        assert!(short(30_000, 1, 0, &flat).is_some());
        assert!(short(20_000, 0, 0, &flat).is_some());
        assert!(short(30_000, 0, 2_000, &flat).is_some());
        assert!(short(30_000, 0, 0, &flat[..2]).is_some());
    }
}
