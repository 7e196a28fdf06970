//! What became of the webhooks that were sent: counted, and told at the end.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use tokio::sync::mpsc;

use crate::load::Histogram;

/// Bad lines that are shown; the others are counted.
const SHOWN_BAD_LINES: usize = 10;

/// What became of one line.
#[derive(Debug)]
pub(super) enum Report {
    Answered { status: u16, latency: Duration },
    Failed { why: String },
    BadLine { number: u64, why: String },
}

/// The sum of all reports.
#[derive(Debug)]
pub(super) struct Outcomes {
    by_status: BTreeMap<u16, u64>,
    /// By cause.
    failures: BTreeMap<String, u64>,
    bad_lines: Vec<(u64, String)>,
    bad_line_count: u64,
    latency: Histogram,
    elapsed: Duration,
}

impl Outcomes {
    /// Listens until every sender of reports is gone.
    pub(super) async fn collect(
        mut reports: mpsc::Receiver<Report>,
        progress: &ProgressBar,
    ) -> Self {
        let start = Instant::now();
        let mut all = Self {
            by_status: BTreeMap::new(),
            failures: BTreeMap::new(),
            bad_lines: Vec::new(),
            bad_line_count: 0,
            latency: Histogram::default(),
            elapsed: Duration::ZERO,
        };
        while let Some(report) = reports.recv().await {
            all.add(report);
            progress.inc(1);
            let not_accepted = all.refused() + all.failed() + all.bad_line_count;
            if not_accepted > 0 {
                progress.set_message(format!("({not_accepted} not accepted)"));
            }
        }
        all.elapsed = start.elapsed();
        all
    }

    fn add(&mut self, report: Report) {
        match report {
            Report::Answered { status, latency } => {
                *self.by_status.entry(status).or_default() += 1;
                self.latency
                    .record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
            }
            Report::Failed { why } => *self.failures.entry(why).or_default() += 1,
            Report::BadLine { number, why } => {
                self.bad_line_count += 1;
                if self.bad_lines.len() < SHOWN_BAD_LINES {
                    self.bad_lines.push((number, why));
                }
            }
        }
    }

    pub(super) fn accepted(&self) -> u64 {
        self.by_status.range(200..300).map(|(_, count)| count).sum()
    }

    fn refused(&self) -> u64 {
        self.by_status.values().sum::<u64>() - self.accepted()
    }

    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    #[cfg(test)]
    pub(super) fn bad_lines(&self) -> &[(u64, String)] {
        &self.bad_lines
    }

    /// What a person should look at first when nothing got through.
    pub(super) fn hint(&self) -> &'static str {
        if self.by_status.contains_key(&401) {
            ": the edge does not know this key (ROUTER_API_KEY, --key)"
        } else if self.by_status.contains_key(&503) {
            ": the edge cannot reach Kafka, or is full"
        } else if self.bad_line_count > 0 && self.by_status.is_empty() {
            ": no line of the file could be read"
        } else {
            ""
        }
    }

    pub(super) fn print(&self) {
        for (number, why) in &self.bad_lines {
            println!("line {number} was not sent: {why}");
        }
        if self.bad_line_count > self.bad_lines.len() as u64 {
            println!(
                "... and {} more bad lines",
                self.bad_line_count - self.bad_lines.len() as u64
            );
        }
        println!("accepted   {}", self.accepted());
        for (status, count) in &self.by_status {
            if !(200..300).contains(status) {
                println!("refused    {count} with {status}");
            }
        }
        for (why, count) in &self.failures {
            println!("failed     {count}: {why}");
        }
        if self.bad_line_count > 0 {
            println!("bad lines  {}", self.bad_line_count);
        }
        let seconds = self.elapsed.as_secs_f64().max(0.001);
        println!(
            "rate       {:.0} a second over {seconds:.1} s",
            self.accepted() as f64 / seconds
        );
        let latency = self.latency.summary();
        println!(
            "latency    p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.max_ms
        );
    }
}

/// The innermost cause, which is the one that says something; addresses in outer ones would make every
/// failure its own kind.
pub(super) fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
