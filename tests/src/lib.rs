//! Tests of the whole product: its real processes on a real Kafka and a real PostgreSQL, seen from outside.
//!
//! Here is what they share: a world for each test (its own topics, groups, database, keys and processes), a
//! receiver that can misbehave, a steady sender, and a view into topics. They run where `ROUTER_TEST_STACK`
//! is set, as `make test` does, and say that they were skipped elsewhere.

mod broker;
mod promises;
mod receiver;
mod sender;
mod service;
mod topics;
mod world;

pub use broker::{OwnKafka, OwnPostgres};
pub use promises::{all_arrive, under_load};
pub use receiver::{Arrival, Behaviour, Received, Receiver};
pub use sender::{Sent, SteadySender};
pub use service::Service;
pub use topics::{Record, produce, read_topic};
pub use world::{Destination, World, WorldSettings};

use std::time::{Duration, Instant};

/// Polls `probe` until it gives a value.
///
/// # Panics
/// It gives none within `patience`.
pub async fn eventually<T, F>(what: &str, patience: Duration, mut probe: F) -> T
where
    F: AsyncFnMut() -> Option<T>,
{
    let began = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(
            began.elapsed() < patience,
            "not within {patience:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
