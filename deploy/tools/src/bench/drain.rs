//! How fast a role works through what waits for it: records, CPU and memory between the first record it
//! has finished and the last. Used by `bench process` and `bench deliver`.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    machine::Memory,
    world::{Running, World},
};

/// Slower than this and the part gives up.
const LEAST_PER_SECOND: u64 = 200;
/// On top, for starting: reading the configuration, loading the model, joining the group.
const START_ALLOWANCE: Duration = Duration::from_secs(60);

/// What a role did between two looks at its output.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Drained {
    pub(super) records: u64,
    pub(super) seconds: f64,
    pub(super) per_second: f64,
    pub(super) cpu_us_per_record: f64,
    /// From starting the process to the first finished record.
    pub(super) until_first_s: f64,
    pub(super) memory: Memory,
}

/// The first look at which something was finished.
struct First {
    at: Instant,
    count: u64,
    cpu: Duration,
}

/// Starts a role and waits until `output` holds `total` records.
///
/// # Errors
/// The role ends by itself, or is far slower than it should be.
pub(super) fn drain(
    world: &World,
    role: &str,
    output: &str,
    total: u64,
) -> anyhow::Result<Drained> {
    let mut running = world.spawn_role(role, &[])?;
    let started = Instant::now();
    let limit = START_ALLOWANCE + Duration::from_secs(total / LEAST_PER_SECOND);
    let style = ProgressStyle::with_template("  {msg} {bar:30} {pos}/{len} {per_sec}");
    let progress = ProgressBar::new(total)
        .with_style(style.expect("the template is fixed"))
        .with_message(role.to_owned());
    let mut first = None;
    world.topics.wait_for_count(output, total, limit, |count| {
        running.child.check_alive()?;
        progress.set_position(count);
        if count > 0 && first.is_none() {
            let cpu = running.child.cpu()?;
            first = Some(First {
                at: Instant::now(),
                count,
                cpu,
            });
        }
        Ok(())
    })?;
    progress.finish_and_clear();
    let first = first.unwrap_or(First {
        at: started,
        count: 0,
        cpu: Duration::ZERO,
    });
    let drained = measured(&running, &first, started, total)?;
    running.child.stop()?;
    Ok(drained)
}

fn measured(
    running: &Running,
    first: &First,
    started: Instant,
    total: u64,
) -> anyhow::Result<Drained> {
    let seconds = first.at.elapsed().as_secs_f64().max(0.001);
    let cpu = running.child.cpu()?.saturating_sub(first.cpu);
    let records = total.saturating_sub(first.count).max(1);
    Ok(Drained {
        records,
        seconds,
        per_second: records as f64 / seconds,
        cpu_us_per_record: cpu.as_secs_f64() * 1e6 / records as f64,
        until_first_s: first.at.duration_since(started).as_secs_f64(),
        memory: running.child.memory()?,
    })
}
