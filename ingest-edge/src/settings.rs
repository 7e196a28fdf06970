//! Settings of the edge, from the environment.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use router_runtime::{env, kafka::KafkaSettings};

#[derive(Debug, Clone)]
pub struct EdgeSettings {
    pub addr: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are served; on `addr` where there is none.
    pub admin_addr: Option<SocketAddr>,
    /// Threads that serve requests, each with a runtime of its own.
    pub threads: usize,
    pub body_limit_bytes: usize,
    /// Names and values of all request headers together.
    pub header_limit_bytes: usize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub max_requests_in_flight: usize,
    pub max_bytes_in_flight: usize,
    pub max_connections: usize,
    /// After this long without an acknowledgement the sender is told to come again.
    pub produce_timeout: Duration,
    /// How long a stopping edge goes on answering what it has accepted.
    pub drain_timeout: Duration,
    pub kafka: KafkaSettings,
}

impl EdgeSettings {
    /// # Errors
    /// A variable cannot be read, or two contradict each other.
    pub fn from_env() -> anyhow::Result<Self> {
        let ms = |name, default| env::or(name, default).map(Duration::from_millis);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let settings = Self {
            addr: env::or("EDGE_ADDR", SocketAddr::from(([0, 0, 0, 0], 4000)))?,
            admin_addr: match env::text("EDGE_ADMIN_ADDR") {
                Some(_) => Some(env::or(
                    "EDGE_ADMIN_ADDR",
                    SocketAddr::from(([0, 0, 0, 0], 0)),
                )?),
                None => None,
            },
            // One thread serves tens of thousands of requests a second and wakes nobody; librdkafka has
            // threads of its own beside it.
            threads: env::or("EDGE_THREADS", cores.div_ceil(4))?,
            body_limit_bytes: env::or("BODY_LIMIT_BYTES", 5 * 1024 * 1024)?,
            header_limit_bytes: env::or("EDGE_HEADER_LIMIT_BYTES", 32 * 1024)?,
            header_timeout: ms("EDGE_HEADER_TIMEOUT_MS", 15_000)?,
            body_timeout: ms("EDGE_BODY_TIMEOUT_MS", 30_000)?,
            max_requests_in_flight: env::or("EDGE_MAX_REQUESTS_IN_FLIGHT", 16_384)?,
            max_bytes_in_flight: env::or("EDGE_MAX_BYTES_IN_FLIGHT", 256 << 20)?,
            max_connections: env::or("EDGE_MAX_CONNECTIONS", 20_000)?,
            produce_timeout: ms("EDGE_PRODUCE_TIMEOUT_MS", 8_000)?,
            drain_timeout: ms("EDGE_DRAIN_TIMEOUT_MS", 25_000)?,
            kafka: KafkaSettings::from_env()?,
        };
        settings.validate()?;
        Ok(settings)
    }

    fn validate(&self) -> anyhow::Result<()> {
        ensure!(
            (1..=64).contains(&self.threads),
            "EDGE_THREADS must be 1 to 64"
        );
        ensure!(
            (1..=8 << 20).contains(&self.body_limit_bytes),
            "BODY_LIMIT_BYTES must be 1 to {} (topics are made for bodies of this size)",
            8 << 20
        );
        ensure!(
            (1_024..=256 * 1024).contains(&self.header_limit_bytes),
            "EDGE_HEADER_LIMIT_BYTES must be 1024 to 262144"
        );
        ensure!(
            self.max_bytes_in_flight >= self.body_limit_bytes,
            "EDGE_MAX_BYTES_IN_FLIGHT must hold at least one body (BODY_LIMIT_BYTES)"
        );
        ensure!(
            self.produce_timeout < self.drain_timeout,
            "EDGE_PRODUCE_TIMEOUT_MS must be below EDGE_DRAIN_TIMEOUT_MS, or a drain cuts off answers"
        );
        Ok(())
    }
}
