//! How records travel: Kafka producer and consumer, the offset ledger, the view of `control.config`,
//! lifecycle, telemetry and crypto helpers.
//!
//! Nothing here knows what a webhook, a provider or an HTTP route is: stages bring that along. The
//! binaries (`ingest-edge`, `stream-workers`, `control-plane`) are built from these parts.

pub mod admin;
pub mod config_view;
pub mod consumer;
pub mod crypto;
pub mod env;
pub mod kafka;
pub mod lifecycle;
pub mod producer;
pub mod telemetry;

/// Milliseconds since 1970 by the system's clock.
#[must_use]
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |elapsed| {
        i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
    })
}
