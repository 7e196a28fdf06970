//! The publisher of a running control plane: holds the lease, is woken by every new outbox row, looks
//! by itself each second.

use std::time::{Duration, Instant};

use router_runtime::{kafka::KafkaSettings, lifecycle::Shutdown};
use sqlx::{PgPool, postgres::PgListener};

use super::{Lease, PublishError, Publisher};
use crate::store::outbox;

/// Looks without being woken this often, and tries again after a failure.
const FALLBACK: Duration = Duration::from_secs(1);
/// While another holds the lease: often enough to take over within a second.
const STANDBY: Duration = Duration::from_millis(500);
/// Published rows are kept this long, for who asks what was published when.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);
const PRUNE_EVERY: Duration = Duration::from_secs(600);

struct Meters {
    leading: metrics::Gauge,
    pending: metrics::Gauge,
    oldest: metrics::Gauge,
    published: metrics::Counter,
    failures: metrics::Counter,
    fenced: metrics::Counter,
}

/// Publishes until `shutdown`.
pub async fn follow(pool: PgPool, kafka: KafkaSettings, shutdown: Shutdown) {
    let meters = Meters {
        leading: metrics::gauge!("router_publisher_leading"),
        pending: metrics::gauge!("router_publisher_pending_records"),
        oldest: metrics::gauge!("router_publisher_oldest_pending_seconds"),
        published: metrics::counter!("router_publisher_records_total"),
        failures: metrics::counter!("router_publisher_failures_total"),
        fenced: metrics::counter!("router_publisher_fenced_total"),
    };
    let mut said = false;
    while !shutdown.requested() {
        match Lease::try_take(&pool).await {
            Ok(Some(lease)) => {
                said = false;
                meters.leading.set(1.0);
                lead(lease, &pool, &kafka, &meters, &shutdown).await;
                meters.leading.set(0.0);
                if !shutdown.requested() {
                    pause(&shutdown, FALLBACK).await;
                }
            }
            Ok(None) => pause(&shutdown, STANDBY).await,
            Err(error) => {
                if !said {
                    tracing::error!(%error, "the publisher cannot reach PostgreSQL; it goes on trying");
                }
                said = true;
                pause(&shutdown, FALLBACK).await;
            }
        }
    }
}

/// Publishes for as long as the lease holds.
async fn lead(
    mut lease: Lease,
    pool: &PgPool,
    kafka: &KafkaSettings,
    meters: &Meters,
    shutdown: &Shutdown,
) {
    let Ok(mut listener) = PgListener::connect_with(pool).await else {
        return;
    };
    if listener.listen("config_outbox").await.is_err() {
        return;
    }
    tracing::info!("this process publishes changes of the configuration");
    let mut publisher = Publisher::new(kafka.clone());
    let mut failing = false;
    let mut pruned = Instant::now();
    while !shutdown.requested() {
        match publisher.publish_pending(lease.connection()).await {
            Ok(count) => {
                meters.published.increment(count as u64);
                failing = false;
            }
            Err(PublishError::Fenced) => {
                // Only a publisher that does not see our lock does this: another database on one topic.
                meters.fenced.increment(1);
                tracing::warn!("another publisher took over the config topic; stepping back");
                break;
            }
            Err(error) => {
                meters.failures.increment(1);
                if !failing {
                    tracing::error!(%error, "publishing failed; it is tried again each second");
                }
                failing = true;
            }
        }
        // This also tells whether the connection, and with it the lease, still stands.
        let Ok((pending, oldest_s)) = outbox::backlog(lease.connection()).await else {
            tracing::warn!(
                "the publisher lost its connection to PostgreSQL, and with it its lease"
            );
            return;
        };
        meters.pending.set(pending as f64);
        meters.oldest.set(oldest_s);
        if pruned.elapsed() > PRUNE_EVERY {
            pruned = Instant::now();
            // What is not pruned now is pruned later.
            outbox::prune(lease.connection(), KEPT).await.ok();
        }
        tokio::select! {
            () = shutdown.wait() => {}
            () = tokio::time::sleep(FALLBACK) => {}
            // A listener that broke connects again by itself; meanwhile the fallback looks.
            Ok(_) = listener.recv(), if !failing => {}
        }
    }
    lease.release().await;
}

async fn pause(shutdown: &Shutdown, time: Duration) {
    tokio::select! {
        () = shutdown.wait() => {}
        () = tokio::time::sleep(time) => {}
    }
}
