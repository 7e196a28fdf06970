//! PostgreSQL as the archive uses it: a few connections, one transaction for each batch, the partitions
//! of the kept days, and what is thrown away after them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use router_runtime::lifecycle::Shutdown;
use router_schemas::EventId;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    ArchiveSettings, attempts,
    fault::{Fault, WRITE_TIMEOUT},
    processed, raw,
    row::Row,
    waiting,
};

/// Partitions are made this far ahead: as long as nobody can look after the tables, rows have a place.
const AHEAD_DAYS: i32 = 7;
/// Dead letters can be redriven as long as their topic keeps them (30 days unless configured otherwise),
/// so that much of them is shown even where the logs are kept shorter.
const DEAD_LETTER_DAYS: i32 = 30;
const UPKEEP_INTERVAL: Duration = Duration::from_secs(600);
/// How long a write waits for a connection before it counts as a database that is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Store {
    pool: PgPool,
    retention_days: i32,
    /// The first moment that has a partition, and the first behind the last one, milliseconds since 1970.
    oldest_ms: AtomicI64,
    end_ms: AtomicI64,
    meters: Meters,
}

struct Meters {
    logs: metrics::Counter,
    results: metrics::Counter,
    attempts: metrics::Counter,
    write_seconds: metrics::Histogram,
    created: metrics::Counter,
    dropped: metrics::Counter,
    purged: metrics::Counter,
}

/// How many rows of a batch were new (or, of results, further than what was there).
#[derive(Default)]
struct Written {
    logs: u64,
    results: u64,
    attempts: u64,
}

impl Store {
    /// Connects when it is first used.
    pub(super) fn new(settings: ArchiveSettings) -> Self {
        let rows = |table| metrics::counter!("router_archive_rows_total", "table" => table);
        Self {
            pool: pool(*settings.database),
            retention_days: i32::from(settings.retention_days),
            oldest_ms: AtomicI64::new(0),
            end_ms: AtomicI64::new(0),
            meters: Meters {
                logs: rows("logs"),
                results: rows("processed_results"),
                attempts: rows("delivery_logs"),
                write_seconds: metrics::histogram!("router_archive_write_seconds"),
                created: metrics::counter!("router_archive_partitions_created_total"),
                dropped: metrics::counter!("router_archive_partitions_dropped_total"),
                purged: metrics::counter!("router_archive_purged_rows_total"),
            },
        }
    }

    /// Whether the event lies before the kept days: it has no partition any more.
    pub(super) fn is_expired(&self, event_id: EventId) -> bool {
        received_at_ms(event_id) < self.oldest_ms.load(Ordering::Relaxed)
    }

    /// Writes all rows or none.
    pub(super) async fn write(&self, rows: &[&Row]) -> Result<(), Fault> {
        let newest_ms = rows.iter().map(|row| received_at_ms(row.event_id())).max();
        if newest_ms.is_some_and(|ms| ms >= self.end_ms.load(Ordering::Relaxed)) {
            // Upkeep has failed for a week.
            self.maintain().await?;
        }
        let batch = Batch::sort(rows, |id| self.is_expired(id));
        let began = Instant::now();
        let mut connection = self.pool.acquire().await?;
        let Ok(written) = tokio::time::timeout(WRITE_TIMEOUT, batch.write(&mut connection)).await
        else {
            connection.close_on_drop();
            return Err(Fault::timeout());
        };
        let written = written?;
        self.meters.write_seconds.record(began.elapsed());
        self.meters.logs.increment(written.logs);
        self.meters.results.increment(written.results);
        self.meters.attempts.increment(written.attempts);
        Ok(())
    }

    /// Makes the partitions of the kept days and of those ahead, drops older ones, and remembers what is kept.
    pub(super) async fn maintain(&self) -> Result<(), Fault> {
        let mut transaction = self.pool.begin().await?;
        // Making or dropping a partition locks its table, and everybody waits behind the one who waits
        // for a lock: a report that runs for an hour must not stop the archive for an hour.
        sqlx::query("set local lock_timeout = '2s'")
            .execute(&mut *transaction)
            .await?;
        let (oldest_ms, end_ms, created, dropped): (i64, i64, i32, i32) = sqlx::query_as(
            "select oldest_ms, end_ms, created, dropped from ingestion.maintain_partitions($1, $2)",
        )
        .bind(self.retention_days)
        .bind(AHEAD_DAYS)
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        self.oldest_ms.store(oldest_ms, Ordering::Relaxed);
        self.end_ms.store(end_ms, Ordering::Relaxed);
        self.meters.created.increment(created.unsigned_abs().into());
        self.meters.dropped.increment(dropped.unsigned_abs().into());
        if created > 0 || dropped > 0 {
            tracing::info!(created, dropped, "partitions of the log tables");
        }
        Ok(())
    }

    /// Deletes what the tables without partitions keep longer than anybody can act on it.
    async fn purge(&self) -> Result<(), Fault> {
        let days = self.retention_days.max(DEAD_LETTER_DAYS);
        for delete in [
            "delete from dead_letters where died_at < now() - make_interval(days => $1)",
            "delete from retry_queue where until_at < now() - make_interval(days => $1)",
        ] {
            let done = sqlx::query(delete).bind(days).execute(&self.pool).await?;
            self.meters.purged.increment(done.rows_affected());
        }
        Ok(())
    }
}

/// Looks after the tables until the process stops.
pub(super) async fn keep_up(store: Arc<Store>, shutdown: Shutdown) {
    loop {
        let upkeep = async {
            store.maintain().await?;
            store.purge().await
        };
        if let Err(fault) = upkeep.await {
            tracing::warn!(
                ?fault,
                "the log tables could not be looked after; trying again"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(UPKEEP_INTERVAL) => {}
            () = shutdown.wait() => return,
        }
    }
}

fn pool(database: PgConnectOptions) -> PgPool {
    let options = database
        .application_name("router-archive")
        .disable_statement_logging();
    PgPoolOptions::new()
        .max_connections(4)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::query("set statement_timeout = '30s'")
                    .execute(&mut *connection)
                    .await?;
                sqlx::query("set idle_in_transaction_session_timeout = '60s'")
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .connect_lazy_with(options)
}

/// The time that the id carries; rows with other ids are rejected before they come here.
fn received_at_ms(event_id: EventId) -> i64 {
    event_id.received_at_ms().unwrap_or(0)
}

/// A batch by table. What is expired has no partition to go to, but a delivery that waits or is dead does
/// so however old its event is.
#[derive(Default)]
struct Batch<'a> {
    raw: Vec<&'a raw::RawRow>,
    processed: Vec<&'a processed::ProcessedRow>,
    processed_expired: Vec<&'a processed::ProcessedRow>,
    attempts: Vec<&'a attempts::AttemptRow>,
    attempts_all: Vec<&'a attempts::AttemptRow>,
}

impl<'a> Batch<'a> {
    fn sort(rows: &[&'a Row], is_expired: impl Fn(EventId) -> bool) -> Self {
        let mut batch = Self::default();
        for row in rows {
            let expired = is_expired(row.event_id());
            match row {
                Row::Raw(_) if expired => {}
                Row::Raw(row) => batch.raw.push(row),
                Row::Processed(row) if expired => batch.processed_expired.push(row),
                Row::Processed(row) => batch.processed.push(row),
                Row::Attempt(row) => {
                    batch.attempts_all.push(row);
                    if !expired {
                        batch.attempts.push(row);
                    }
                }
            }
        }
        batch
    }

    async fn write(self, connection: &mut PgConnection) -> Result<Written, sqlx::Error> {
        let mut transaction = connection.begin().await?;
        let logs = raw::insert(&mut transaction, self.raw).await?;
        let results =
            processed::upsert(&mut transaction, &self.processed, &self.processed_expired).await?;
        // Last, since the lock is held until the commit.
        waiting::lock(&mut transaction, &self.attempts_all).await?;
        let attempts = attempts::insert(&mut transaction, self.attempts).await?;
        waiting::advance(&mut transaction, &self.attempts_all).await?;
        transaction.commit().await?;
        Ok(Written {
            logs,
            results,
            attempts,
        })
    }
}
