//! Carries `config.outbox` to the topic `control.config`, in order and never an older version behind a
//! newer one.
//!
//! Two things hold that. Rows are read only after the producer's epoch was taken, so that who was fenced
//! meanwhile fails to commit whatever it had read before; and of each key only its newest row is written.
//! The advisory lock ([`Lease`]) keeps publishers from fighting over the epoch; it is a courtesy, the fence
//! is the guarantee. Publishing a row twice (a crash before it was marked) writes the same value again.
//!
//! `serve` keeps a publisher running ([`follow`]); commands wait for it or publish themselves ([`confirm`]).

mod confirm;
mod follow;
mod lease;
mod producer;

pub use confirm::confirm;
pub use follow::follow;
pub use lease::Lease;
use producer::ConfigProducer;
use router_runtime::kafka::KafkaSettings;
use router_schemas::config::{ConfigRecord, READER_VERSION};
use serde_json::value::to_raw_value;
use sqlx::PgConnection;

use crate::store::{
    StoreError,
    outbox::{self, Pending, STRAY},
};

/// Records in one transaction: a transaction costs some 30 ms, so they are batched, and the batch is
/// bounded so that one transaction stays far below the broker's limits.
const BATCH: i64 = 500;

/// Why changes were not published. They are stored all the same, and will be published later.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    #[error(
        "the change is stored but not yet published: Kafka at {brokers} does not take it ({why}); it will be published when `control-plane serve` reaches Kafka, or with the next change"
    )]
    Kafka { brokers: String, why: String },
    #[error(
        "the change is stored but not yet published: the running publisher has not confirmed it within {seconds} s; see its log and /readyz. It will be published when it can"
    )]
    NotConfirmed { seconds: u64 },
    #[error("another publisher took over; it publishes what is left")]
    Fenced,
    #[error("the change is stored but not yet published: {0}")]
    Store(String),
}

impl From<StoreError> for PublishError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<sqlx::Error> for PublishError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

/// Publishes while its producer holds the newest epoch.
pub struct Publisher {
    kafka: KafkaSettings,
    /// None before the first use and after a failure that the producer does not survive.
    producer: Option<ConfigProducer>,
}

impl Publisher {
    #[must_use]
    pub fn new(kafka: KafkaSettings) -> Self {
        Self {
            kafka,
            producer: None,
        }
    }

    /// Publishes everything that is pending; returns how many records were written.
    ///
    /// # Errors
    /// Kafka or PostgreSQL fails, or another publisher took over. Whatever was not committed stays
    /// pending, and the next call starts over with an epoch of its own.
    pub async fn publish_pending(
        &mut self,
        connection: &mut PgConnection,
    ) -> Result<usize, PublishError> {
        let done = self.try_publish(connection).await;
        if done.is_err() {
            self.producer = None;
        }
        done
    }

    /// Takes the epoch, so that whoever published before can no longer commit.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub async fn take_over(&mut self) -> Result<(), PublishError> {
        if self.producer.is_none() {
            self.producer = Some(ConfigProducer::start(&self.kafka).await?);
        }
        Ok(())
    }

    async fn try_publish(&mut self, connection: &mut PgConnection) -> Result<usize, PublishError> {
        let mut written = 0;
        loop {
            // Only what is read after the epoch was taken may be written under it.
            self.take_over().await?;
            let Some(producer) = &self.producer else {
                return Ok(written);
            };
            let rows = outbox::pending(connection, BATCH).await?;
            if rows.is_empty() {
                return Ok(written);
            }
            let records = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
            producer.write(records).await?;
            outbox::mark_published(connection, &rows).await?;
            written += rows.len();
            tracing::info!(
                records = rows.len(),
                last_seq = rows.last().map(|row| row.seq),
                "config published"
            );
        }
    }
}

/// Key and value of a config record; no value deletes.
type KeyValue = (Vec<u8>, Option<Vec<u8>>);

fn record(row: &Pending) -> Result<KeyValue, PublishError> {
    let unreadable = |why: String| {
        PublishError::Store(format!("outbox row {} cannot be written: {why}", row.seq))
    };
    if row.kind == STRAY {
        let key = unhex(&row.id).ok_or_else(|| unreadable("its id is not hexadecimal".into()))?;
        return Ok((key, None));
    }
    let key = format!("{}/{}", row.kind, row.id).into_bytes();
    let Some(value) = &row.record else {
        return Ok((key, None));
    };
    let value = to_raw_value(&value.0).map_err(|error| unreadable(error.to_string()))?;
    let envelope = ConfigRecord {
        version: row.version,
        reader: READER_VERSION,
        value: &value,
    };
    let json = serde_json::to_vec(&envelope).map_err(|error| unreadable(error.to_string()))?;
    Ok((key, Some(json)))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sqlx::types::Json;

    use super::*;

    fn row(kind: &str, id: &str, record: Option<serde_json::Value>) -> Pending {
        Pending {
            seq: 1,
            kind: kind.into(),
            id: id.into(),
            version: 7,
            record: record.map(Json),
        }
    }

    #[test]
    fn a_row_becomes_key_and_envelope() {
        let (key, value) = record(&row("key", "abc", Some(json!({ "a": 1 })))).unwrap();
        assert_eq!(key, b"key/abc");
        assert_eq!(
            value.unwrap(),
            br#"{"version":7,"reader":1,"value":{"a":1}}"#
        );
    }

    #[test]
    fn no_record_deletes_and_a_stray_key_is_named_by_its_bytes() {
        assert_eq!(
            record(&row("key", "abc", None)).unwrap(),
            (b"key/abc".to_vec(), None)
        );
        assert_eq!(
            record(&row(STRAY, "ff00", None)).unwrap(),
            (vec![0xff, 0], None)
        );
        assert!(record(&row(STRAY, "f", None)).is_err());
    }
}
