//! The batch stage: reads records into rows, stores them, waits out a database that is away, and finds
//! the row that the database refuses.

use std::{
    collections::HashMap,
    future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use router_runtime::{
    consumer::{BatchStage, Envelope, Incoming, Outcome, Unreadable},
    lifecycle::Shutdown,
    now_ms,
};
use router_schemas::topics::TopicNames;

use super::{
    attempts::AttemptRow,
    fault::{Fault, wait_before},
    processed::ProcessedRow,
    raw::{AHEAD_MS, RawRow},
    row::Row,
    store::Store,
};

pub(super) struct ArchiveStage {
    store: Arc<Store>,
    raw: String,
    processed: String,
    shutdown: Shutdown,
    /// The database is away, and the log says so already.
    away: AtomicBool,
    refused: metrics::Counter,
    database_up: metrics::Gauge,
}

impl ArchiveStage {
    pub(super) fn new(store: Arc<Store>, names: &TopicNames, shutdown: Shutdown) -> Self {
        Self {
            store,
            raw: names.raw.clone(),
            processed: names.processed.clone(),
            shutdown,
            away: AtomicBool::new(false),
            refused: metrics::counter!("router_archive_refused_rows_total"),
            database_up: metrics::gauge!("router_archive_database_up"),
        }
    }

    /// Makes the partitions of the kept days, however long it takes.
    pub(super) async fn prepare_tables(&self) {
        let mut tries = 0;
        while let Err(fault) = self.store.maintain().await {
            let (reason, detail) = match fault {
                Fault::Wait { reason, detail } => (reason, detail),
                Fault::Row(detail) => ("other", detail),
            };
            tries += 1;
            self.wait(tries, reason, &detail).await;
        }
        self.back();
    }

    /// Stores the rows together where that goes, and apart where some are refused. Returns why, by index.
    async fn store_all(&self, rows: &[&Row]) -> HashMap<usize, String> {
        let mut refused = HashMap::new();
        let mut parts: Vec<_> = std::iter::once(0..rows.len()).collect();
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let Err(why) = self.patiently(&rows[part.clone()]).await else {
                continue;
            };
            if part.len() > 1 {
                let middle = part.start + part.len() / 2;
                parts.push(middle..part.end);
                parts.push(part.start..middle);
            } else if let Err(why) = self.once_more(rows[part.start], why).await {
                refused.insert(part.start, why);
            }
        }
        refused
    }

    /// A single row that was refused: its partition may have been dropped by another worker a moment ago.
    async fn once_more(&self, row: &Row, why: String) -> Result<(), String> {
        if self.store.is_expired(row.event_id()) || self.store.maintain().await.is_err() {
            return Err(why);
        }
        if self.store.is_expired(row.event_id()) {
            return self.patiently(&[row]).await;
        }
        Err(why)
    }

    /// Writes the rows; an error means that one of them is refused. Waits for the database as long as it
    /// takes, and for ever once the process is to stop: the records stay unfinished and are read again.
    async fn patiently(&self, rows: &[&Row]) -> Result<(), String> {
        let mut tries = 0;
        loop {
            match self.store.write(rows).await {
                Ok(()) => {
                    self.back();
                    return Ok(());
                }
                Err(Fault::Row(why)) => {
                    self.back();
                    return Err(why);
                }
                Err(Fault::Wait { reason, detail }) => {
                    tries += 1;
                    self.wait(tries, reason, &detail).await;
                }
            }
        }
    }

    async fn wait(&self, tries: u32, reason: &'static str, detail: &str) {
        metrics::counter!("router_archive_waits_total", "reason" => reason).increment(1);
        // Two writers that met in the same rows are no outage.
        if reason != "contention" {
            self.database_up.set(0.0);
            if !self.away.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    reason,
                    detail,
                    "PostgreSQL cannot store the archive; the records wait in Kafka until it can"
                );
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait_before(tries)) => {}
            () = self.shutdown.wait() => future::pending().await,
        }
    }

    fn back(&self) {
        self.database_up.set(1.0);
        if self.away.swap(false, Ordering::Relaxed) {
            tracing::info!("PostgreSQL stores the archive again");
        }
    }
}

impl BatchStage for ArchiveStage {
    type In = Row;

    fn read(&self, record: &Incoming) -> Result<Row, Unreadable> {
        let topic = record.topic();
        Ok(if topic == self.raw {
            Row::Raw(Box::new(RawRow::read(record)))
        } else if topic == self.processed {
            Row::Processed(Box::new(ProcessedRow::read(record)?))
        } else {
            Row::Attempt(Box::new(AttemptRow::read(record)?))
        })
    }

    async fn work(&self, batch: Vec<Envelope<Row>>) -> Vec<Outcome> {
        let newest_ms = now_ms() + AHEAD_MS;
        let unusable = |row: &Row| row.event_id().check_range(0, newest_ms).err();
        let usable: Vec<&Row> = batch
            .iter()
            .map(|envelope| &envelope.value)
            .filter(|row| unusable(row).is_none())
            .collect();
        let mut refused = self.store_all(&usable).await;
        let mut index = 0;
        let outcome = |envelope: &Envelope<Row>| {
            let row = &envelope.value;
            if let Some(error) = unusable(row) {
                return row.reject("unreadable", error.to_string());
            }
            let why = refused.remove(&index);
            index += 1;
            match why {
                Some(why) => {
                    self.refused.increment(1);
                    row.reject("refused_by_database", why)
                }
                None if self.store.is_expired(row.event_id()) => Outcome::done("expired"),
                None => Outcome::done("archived"),
            }
        };
        batch.iter().map(outcome).collect()
    }
}
