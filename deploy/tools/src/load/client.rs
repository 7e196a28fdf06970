//! The load generator: many keep-alive connections over raw TCP, one request in flight on each, requests
//! prepared beforehand, so that the client takes little of the machine it shares with the server.
//!
//! Closed pace sends the next request when the answer is there (how much can it take?); open pace sends by
//! the clock and measures from the time a request was due, so that a stalled server is not flattered (how
//! late does it answer?). Called by `bench`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    bodies::{Sample, stamp},
    histogram::Histogram,
    response::parse_head,
};

/// A server that takes longer than this is counted as an error and gets a new connection.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(20);
/// After an error, so that a server that is down is not hammered.
const AFTER_ERROR: Duration = Duration::from_millis(20);
/// Connections are opened over this long, so that none falls out of the listener's queue.
const CONNECT_SPREAD: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    Closed,
    /// Requests a second over all connections, evenly spread.
    Open {
        per_second: f64,
    },
}

#[derive(Debug, Clone)]
pub struct LoadPlan {
    pub addr: SocketAddr,
    /// Whole requests, head and body; see [`request_bytes`].
    pub requests: Arc<Vec<Vec<u8>>>,
    pub connections: usize,
    pub threads: usize,
    pub pace: Pace,
    /// Sent, but not counted.
    pub warm_up: Duration,
    pub measure: Duration,
    /// Write the time at which it was due into the end of each body.
    pub stamp: bool,
}

#[derive(Debug, Default)]
pub struct LoadResult {
    /// Answers within the measured window, by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Exchanges that failed within the window.
    pub errors: u64,
    pub latency: Histogram,
    /// All requests that were answered 2xx, warm-up included.
    pub accepted_in_all: u64,
}

impl LoadResult {
    #[must_use]
    pub fn accepted(&self) -> u64 {
        let good = self.by_status.range(200..300);
        good.map(|(_, count)| count).sum()
    }

    #[must_use]
    pub fn refused(&self) -> u64 {
        self.by_status.values().sum::<u64>() - self.accepted()
    }

    fn merge(&mut self, other: &Self) {
        for (status, count) in &other.by_status {
            *self.by_status.entry(*status).or_default() += count;
        }
        self.errors += other.errors;
        self.accepted_in_all += other.accepted_in_all;
        self.latency.merge(&other.latency);
    }
}

/// Load that runs on threads of its own.
pub struct RunningLoad {
    started: Instant,
    plan: LoadPlan,
    threads: Vec<JoinHandle<anyhow::Result<LoadResult>>>,
}

impl LoadPlan {
    /// # Errors
    /// A thread cannot be started.
    pub fn start(self) -> anyhow::Result<RunningLoad> {
        let clock = Clock::now();
        let threads = (0..self.threads)
            .map(|thread| {
                let plan = self.clone();
                std::thread::Builder::new()
                    .name(format!("load-{thread}"))
                    .spawn(move || run_thread(&plan, thread, clock))
                    .context("starting a load thread")
            })
            .collect::<Result<_, _>>()?;
        Ok(RunningLoad {
            started: clock.instant,
            plan: self,
            threads,
        })
    }
}

impl RunningLoad {
    /// Blocks until the warm-up is over.
    pub fn wait_for_window(&self) {
        sleep_until(self.started + self.plan.warm_up);
    }

    /// Blocks until the measured window is over.
    pub fn wait_for_end(&self) {
        sleep_until(self.started + self.plan.warm_up + self.plan.measure);
    }

    /// # Errors
    /// A thread could not set up its connections.
    pub fn join(self) -> anyhow::Result<LoadResult> {
        let mut all = LoadResult::default();
        for thread in self.threads {
            let result = thread
                .join()
                .map_err(|_| anyhow::anyhow!("a load thread panicked"))??;
            all.merge(&result);
        }
        Ok(all)
    }
}

fn sleep_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(Instant::now()));
}

/// A whole HTTP/1.1 request.
#[must_use]
pub fn request_bytes(path: &str, host: SocketAddr, key: Option<&str>, sample: &Sample) -> Vec<u8> {
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\n");
    if let Some(key) = key {
        head.push_str(&format!("x-api-key: {key}\r\n"));
    }
    for (name, value) in &sample.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", sample.body.len()));
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&sample.body);
    bytes
}

/// The same moment on both clocks.
#[derive(Clone, Copy)]
struct Clock {
    instant: Instant,
    unix_us: u64,
}

impl Clock {
    fn now() -> Self {
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            instant: Instant::now(),
            unix_us: micros(since_1970),
        }
    }

    fn unix_us(&self, at: Instant) -> u64 {
        self.unix_us + micros(at.saturating_duration_since(self.instant))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn run_thread(plan: &LoadPlan, thread: usize, clock: Clock) -> anyhow::Result<LoadResult> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for index in (thread..plan.connections).step_by(plan.threads) {
            tasks.spawn(Connection::new(plan.clone(), index, clock).run());
        }
        let mut all = LoadResult::default();
        while let Some(result) = tasks.join_next().await {
            all.merge(&result.context("a connection's task failed")?);
        }
        Ok(all)
    })
}

/// One keep-alive connection and what it has seen.
struct Connection {
    plan: LoadPlan,
    clock: Clock,
    index: usize,
    sent: usize,
    stream: Option<TcpStream>,
    request: Vec<u8>,
    answer: Vec<u8>,
    result: LoadResult,
}

impl Connection {
    fn new(plan: LoadPlan, index: usize, clock: Clock) -> Self {
        Self {
            plan,
            clock,
            index,
            sent: 0,
            stream: None,
            request: Vec::with_capacity(8 * 1024),
            answer: Vec::with_capacity(2 * 1024),
            result: LoadResult::default(),
        }
    }

    async fn run(mut self) -> LoadResult {
        let spread = CONNECT_SPREAD.mul_f64(self.index as f64 / self.plan.connections as f64);
        let window_start = self.clock.instant + self.plan.warm_up;
        let window_end = window_start + self.plan.measure;
        tokio::time::sleep(spread).await;
        loop {
            let due = self.next_due().await;
            if due >= window_end {
                return self.result;
            }
            let outcome = self.exchange(due).await;
            let now = Instant::now();
            // By the clock of the plan, a request counts where it was due; otherwise where it ended.
            let counted_at = match self.plan.pace {
                Pace::Closed => now,
                Pace::Open { .. } => due,
            };
            let counted = (window_start..window_end).contains(&counted_at);
            match outcome {
                Ok(status) => {
                    self.result.accepted_in_all += u64::from((200..300).contains(&status));
                    if counted {
                        *self.result.by_status.entry(status).or_default() += 1;
                        self.result
                            .latency
                            .record(micros(now.saturating_duration_since(due)));
                    }
                }
                Err(_) => {
                    self.stream = None;
                    self.result.errors += u64::from(counted);
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
    }

    /// Waits for this connection's next turn and says when it was.
    async fn next_due(&self) -> Instant {
        let Pace::Open { per_second } = self.plan.pace else {
            return Instant::now();
        };
        let turn = self.sent * self.plan.connections + self.index;
        let due = self.clock.instant + Duration::from_secs_f64(turn as f64 / per_second);
        tokio::time::sleep_until(due.into()).await;
        due
    }

    /// Sends the next request and reads the answer's status.
    async fn exchange(&mut self, due: Instant) -> anyhow::Result<u16> {
        let which = (self.index * 31 + self.sent) % self.plan.requests.len();
        self.sent += 1;
        self.request.clear();
        self.request.extend_from_slice(&self.plan.requests[which]);
        if self.plan.stamp {
            stamp(&mut self.request, self.clock.unix_us(due));
        }
        tokio::time::timeout(EXCHANGE_TIMEOUT, self.send_and_read()).await?
    }

    async fn send_and_read(&mut self) -> anyhow::Result<u16> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.plan.addr).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut().expect("connected just above");
        stream.write_all(&self.request).await?;
        self.answer.clear();
        loop {
            let read = stream.read_buf(&mut self.answer).await?;
            anyhow::ensure!(read > 0, "the server ended the connection");
            let Some(head) = parse_head(&self.answer).map_err(anyhow::Error::msg)? else {
                continue;
            };
            if self.answer.len() >= head.total_bytes {
                if head.closes {
                    self.stream = None;
                }
                return Ok(head.status);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::bodies::samples;
    use crate::receiver::{Receiver, ReceiverSettings};

    fn plan(addr: SocketAddr, pace: Pace) -> LoadPlan {
        let requests = samples(16, 3)
            .iter()
            .map(|sample| request_bytes("/hook", addr, None, sample))
            .collect();
        LoadPlan {
            addr,
            requests: Arc::new(requests),
            connections: 4,
            threads: 2,
            pace,
            warm_up: Duration::from_millis(200),
            measure: Duration::from_millis(500),
            stamp: true,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_request_is_answered_and_counted_once() {
        let receiver = Receiver::start(ReceiverSettings::default())
            .await
            .expect("starts");
        let load = plan(receiver.addr(), Pace::Open { per_second: 400.0 });
        let result = tokio::task::spawn_blocking(move || load.start()?.join())
            .await
            .expect("joins")
            .expect("runs");
        assert_eq!((result.errors, result.refused()), (0, 0));
        // 400 a second for 0.5 s, give or take the edges of the window.
        assert!(
            (195..=205).contains(&result.accepted()),
            "{}",
            result.accepted()
        );
        let stats = receiver.stats();
        assert_eq!(stats.requests, result.accepted_in_all);
        assert_eq!(
            stats.transit.map(|transit| transit.count),
            Some(stats.requests)
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_is_not_there_is_an_error_not_a_hang() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let addr = nobody.local_addr().expect("bound");
        drop(nobody);
        let load = plan(addr, Pace::Closed);
        let result = tokio::task::spawn_blocking(move || load.start()?.join())
            .await
            .expect("joins")
            .expect("runs");
        assert_eq!(result.accepted(), 0);
        assert!(result.errors > 0);
    }
}
