//! How a command sees to it that what it changed is in force: it waits for the running publisher, or
//! publishes itself where none runs.

use std::time::{Duration, Instant};

use router_runtime::kafka::KafkaSettings;
use sqlx::{PgPool, postgres::PgListener};

use super::{Lease, PublishError, Publisher};
use crate::store::outbox;

/// How long a command waits for the acknowledgement.
const PATIENCE: Duration = Duration::from_secs(20);
/// The lock and the rows are looked at again after this long, should a notification be missed.
const RECHECK: Duration = Duration::from_millis(250);

/// Returns once these outbox rows are acknowledged by Kafka.
///
/// # Errors
/// They are stored but not published; the error says why, and that they will be.
pub async fn confirm(
    pool: &PgPool,
    kafka: &KafkaSettings,
    seqs: &[i64],
) -> Result<(), PublishError> {
    if seqs.is_empty() {
        return Ok(());
    }
    let started = Instant::now();
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen("config_published").await?;
    loop {
        if outbox::count_unpublished(pool, seqs).await? == 0 {
            return Ok(());
        }
        if let Some(lease) = Lease::try_take(pool).await? {
            match publish_once(lease, kafka).await {
                // Fenced: somebody else publishes, whose acknowledgement is awaited instead.
                Ok(()) | Err(PublishError::Fenced) => continue,
                Err(error) => return Err(error),
            }
        }
        if started.elapsed() > PATIENCE {
            return Err(PublishError::NotConfirmed {
                seconds: PATIENCE.as_secs(),
            });
        }
        // A broken listener only means that the next look comes a little later.
        tokio::time::timeout(RECHECK, listener.recv()).await.ok();
    }
}

async fn publish_once(mut lease: Lease, kafka: &KafkaSettings) -> Result<(), PublishError> {
    let mut publisher = Publisher::new(kafka.clone());
    let done = publisher.publish_pending(lease.connection()).await;
    lease.release().await;
    done.map(|_| ())
}
