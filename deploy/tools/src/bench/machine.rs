//! What the system accounts for: CPU time and memory of a process, CPU time of the whole machine, and what
//! machine and commit a figure belongs to. Linux only: everything comes from `/proc`.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::Context;
use serde::Serialize;

/// `USER_HZ`, the unit of CPU times in `/proc` (proc(5)); 100 on every architecture Linux runs servers on.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time that a process has used, in user and kernel mode, all its threads together.
///
/// # Errors
/// The process is gone.
pub fn process_cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    cpu_from_stat(&stat).with_context(|| format!("/proc/{pid}/stat is not as expected"))
}

/// Fields 14 and 15; counted behind the last `)`, since a program's name may hold anything.
fn cpu_from_stat(stat: &str) -> Option<Duration> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(ticks(user + system))
}

/// CPU time of all living processes of a program, by the name that the kernel has for it.
///
/// # Errors
/// `/proc` cannot be read.
pub fn program_cpu(program: &str) -> anyhow::Result<Duration> {
    let mut total = Duration::ZERO;
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        // What is not a process, or has just ended, has no such file.
        let Ok(stat) = fs::read_to_string(entry?.path().join("stat")) else {
            continue;
        };
        if name_from_stat(&stat) == Some(program) {
            total += cpu_from_stat(&stat).unwrap_or_default();
        }
    }
    Ok(total)
}

fn name_from_stat(stat: &str) -> Option<&str> {
    let (before, _) = stat.rsplit_once(')')?;
    Some(before.split_once('(')?.1)
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1_000 / TICKS_PER_SECOND)
}

/// Memory of a process in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub resident_kib: u64,
    /// The most it ever had (`VmHWM`).
    pub peak_kib: u64,
}

/// # Errors
/// The process is gone.
pub fn process_memory(pid: u32) -> anyhow::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Ok(Memory {
        resident_kib: field("VmRSS:").context("no VmRSS")?,
        peak_kib: field("VmHWM:").context("no VmHWM")?,
    })
}

/// CPU time that the machine has spent on anything but idling, all cores together.
///
/// # Errors
/// `/proc/stat` cannot be read.
pub fn machine_cpu() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    busy_from_stat(&stat).context("/proc/stat is not as expected")
}

/// user, nice, system, irq, softirq of the first line; idle and iowait are not work, and what a hypervisor
/// took away is not ours.
fn busy_from_stat(stat: &str) -> Option<Duration> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    let busy = [0, 1, 2, 5, 6].iter().map(|index| fields.get(*index));
    busy.sum::<Option<u64>>().map(ticks)
}

/// What a figure belongs to.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_kib: u64,
    pub kernel: String,
    /// Of the checkout; `-dirty` where files were changed.
    pub commit: String,
}

impl Machine {
    #[must_use]
    pub fn describe(root: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let after_colon = |line: &str| {
            line.split_once(':')
                .map(|(_, value)| value.trim().to_owned())
        };
        let cpu = read("/proc/cpuinfo")
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(after_colon);
        let memory = read("/proc/meminfo")
            .lines()
            .find(|line| line.starts_with("MemTotal"))
            .and_then(after_colon);
        let memory_kib = memory.and_then(|text| text.split_whitespace().next()?.parse().ok());
        Self {
            cpu: cpu.unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_kib: memory_kib.unwrap_or(0),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit: commit(root),
        }
    }
}

fn commit(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(root)
            .args(arguments)
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => hash,
        _ => format!("{hash}-dirty"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_any_name_of_a_program() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 1";
        assert_eq!(cpu_from_stat(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu_from_stat("7 (x"), None);
        assert_eq!(name_from_stat(stat), Some("a ) b"));
    }

    #[test]
    fn waiting_is_not_work() {
        let stat = "cpu  100 10 50 9999 8888 5 5 77 0 0\ncpu0 1 1 1 1";
        assert_eq!(busy_from_stat(stat), Some(Duration::from_millis(1_700)));
    }

    #[test]
    fn this_process_uses_memory_and_time() {
        let own = std::process::id();
        let memory = process_memory(own).expect("alive");
        assert!(memory.peak_kib >= memory.resident_kib && memory.resident_kib > 0);
        assert!(process_cpu(own).is_ok() && machine_cpu().is_ok_and(|cpu| !cpu.is_zero()));
    }
}
