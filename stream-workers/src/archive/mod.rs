//! The `archive` role: from `webhooks.raw`, `webhooks.processed` and `webhooks.attempts` into PostgreSQL.
//!
//! One consumer, big batches, one transaction for each batch, every row idempotent: what is read twice is
//! stored once. While PostgreSQL cannot take a batch the records wait in Kafka, and nobody else notices.
//! A row that PostgreSQL will never take is found by halving its batch, goes to the dead letters as
//! `refused_by_database`, and stops nothing. `webhooks.replay` is not read: its records are copies, and
//! what becomes of them comes through `webhooks.processed`.
//!
//! - `stage`: batches, halving, waiting.
//! - `store`: connections, the transaction, partitions and retention.
//! - `row`: a record of any of the three topics. `raw`, `processed`, `attempts`, `waiting`: one table each
//!   (`waiting`: the two that show the present).
//! - `fault`: what an error means. `text`: what PostgreSQL takes for text.

mod attempts;
mod fault;
mod processed;
mod raw;
mod row;
mod stage;
mod store;
mod text;
mod waiting;

use std::{fmt, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use router_runtime::{
    consumer::{ConsumerSettings, Effects, Unreadable, run_batches},
    env,
    kafka::KafkaSettings,
    lifecycle::{Readiness, Shutdown},
};
use sqlx::postgres::PgConnectOptions;

use stage::ArchiveStage;
use store::Store;

/// Settings of the role, from the environment.
#[derive(Clone)]
pub struct ArchiveSettings {
    pub database: Box<PgConnectOptions>,
    /// How many days of the log tables are kept, today not counted.
    pub retention_days: u16,
}

impl ArchiveSettings {
    /// # Errors
    /// `DATABASE_URL` is missing, or a variable cannot be read.
    pub fn from_env() -> anyhow::Result<Self> {
        let url = env::required("DATABASE_URL", "where the archive is written")?;
        let database: PgConnectOptions = url.parse().context(
            "DATABASE_URL is not a URL such as postgres://user:password@host:5432/database",
        )?;
        let retention_days = env::or("ARCHIVE_RETENTION_DAYS", 30)?;
        ensure!(
            (1..=3650).contains(&retention_days),
            "ARCHIVE_RETENTION_DAYS={retention_days}: must be between 1 and 3650"
        );
        Ok(Self {
            database: Box::new(database),
            retention_days,
        })
    }
}

impl fmt::Debug for ArchiveSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = format_args!(
            "{}:{}/{}",
            self.database.get_host(),
            self.database.get_port(),
            self.database.get_database().unwrap_or("")
        )
        .to_string();
        f.debug_struct("ArchiveSettings")
            .field("database", &place)
            .field("user", &self.database.get_username())
            .field("retention_days", &self.retention_days)
            .finish_non_exhaustive()
    }
}

/// Runs the consumer and the care of the tables until `shutdown`.
///
/// # Errors
/// The consumer cannot be made, or ended for a reason that only a new process can mend. A database that
/// cannot be reached is none: that is waited out.
pub async fn run(
    kafka: &KafkaSettings,
    settings: ArchiveSettings,
    instance_id: Option<&str>,
    effects: &Effects,
    readiness: &Readiness,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let names = kafka.names();
    let topics = vec![
        names.raw.clone(),
        names.processed.clone(),
        names.attempts.clone(),
    ];
    let mut consumer = ConsumerSettings::new(kafka.clone(), "archive", topics);
    consumer.instance_id = instance_id.map(ToOwned::to_owned);
    // A row costs a fraction in company. Two batches at a time: one is read while the other is written.
    consumer.max_batch = 1_000;
    consumer.max_batch_bytes = 8 << 20;
    consumer.parallel_batches = 2;
    consumer.max_in_flight_bytes = 32 << 20;
    // Three topics, and as many partitions as there are: what is fetched ahead of each adds up.
    consumer.prefetch_kbytes = 1_024;
    // Rows may come a little later; brokers should not answer for each.
    consumer.fetch_min_bytes = 512 << 10;
    consumer.fetch_wait = Duration::from_millis(250);

    let tables_ready = readiness.part("tables");
    let consumer_ready = readiness.part("archive");
    let store = Arc::new(Store::new(settings));
    let stage = ArchiveStage::new(Arc::clone(&store), &names, shutdown.clone());
    // Without partitions there is nowhere to put a row.
    tokio::select! {
        () = stage.prepare_tables() => tables_ready.set(true),
        () = shutdown.wait() => return Ok(()),
    }
    let upkeep = tokio::spawn(store::keep_up(store, shutdown.clone()));
    let ended = run_batches(
        consumer,
        Arc::new(stage),
        effects.clone(),
        consumer_ready,
        shutdown.clone(),
    )
    .await;
    upkeep.abort();
    ended
}

/// A count of a record as PostgreSQL has it.
fn integer<T: TryInto<i32> + Copy + fmt::Display>(
    name: &str,
    number: T,
) -> Result<i32, Unreadable> {
    number
        .try_into()
        .map_err(|_| Unreadable(format!("{name} {number} is out of range")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_do_not_print_the_password() {
        let settings = ArchiveSettings {
            database: Box::new(
                "postgres://ann:hunter2@db.example:5433/router"
                    .parse()
                    .unwrap(),
            ),
            retention_days: 30,
        };
        let text = format!("{settings:?}");
        assert!(text.contains("db.example:5433/router") && text.contains("ann"));
        assert!(!text.contains("hunter2"));
    }
}
