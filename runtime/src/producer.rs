//! The producer: records in, acknowledgements out, without a future or a wake-up for each record.
//!
//! librdkafka reports deliveries in batches on a thread of its own. An [`AckSink`] collects them there;
//! whoever owns the sink decides how to wake its readers. What the broker refuses for good and what only
//! takes longer are told apart here and nowhere else.

use std::sync::Arc;

use rdkafka::{
    ClientConfig, ClientContext,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::KafkaError,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
    util::IntoOpaque,
};

use crate::lifecycle::Shutdown;

/// Receives the fate of every record that was accepted by [`Producer::send`], exactly once each, on the
/// producer's own thread: it must not block.
pub trait AckSink: Send + Sync + 'static {
    type Token: IntoOpaque + Send + Sync;
    fn acked(&self, token: Self::Token, result: Result<(), Failure>);
}

/// Why a record did not reach all in-sync replicas.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The local queue is at its bound: Kafka is slower than we are.
    #[error("the producer's queue is full")]
    QueueFull,
    /// This record can never be produced.
    #[error("kafka refuses the record: {0}")]
    Refused(RDKafkaErrorCode),
    /// Kafka did not acknowledge in time, or the producer is stopping.
    #[error("kafka did not take the record: {0}")]
    Unavailable(String),
}

impl Failure {
    fn of(error: &KafkaError) -> Self {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::QueueFull) => Self::QueueFull,
            Some(
                code @ (Code::MessageSizeTooLarge
                | Code::InvalidMessage
                | Code::InvalidMessageSize
                | Code::InvalidRecord
                | Code::InvalidTimestamp
                | Code::MessageBatchTooLarge),
            ) => Self::Refused(code),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

struct Context<S> {
    sink: Arc<S>,
    shutdown: Shutdown,
}

impl<S: AckSink> ClientContext for Context<S> {
    fn error(&self, error: KafkaError, reason: &str) {
        // A fatal error of an idempotent producer means that order or exactly-once within a partition
        // can no longer be promised; only a new producer can go on.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.shutdown.fail(&format!("kafka producer: {reason}"));
        } else {
            tracing::warn!(%error, reason, "kafka producer");
        }
    }
}

impl<S: AckSink> ProducerContext for Context<S> {
    type DeliveryOpaque = S::Token;

    fn delivery(&self, result: &DeliveryResult<'_>, token: S::Token) {
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(Failure::of(error)),
        };
        self.sink.acked(token, result);
    }
}

/// A producer whose acknowledgements go to `S`. Cheap to clone.
pub struct Producer<S: AckSink> {
    inner: Arc<ThreadedProducer<Context<S>>>,
}

impl<S: AckSink> Clone for Producer<S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<S: AckSink> Producer<S> {
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(config: &ClientConfig, sink: Arc<S>, shutdown: Shutdown) -> anyhow::Result<Self> {
        let mut config = config.clone();
        config.set_log_level(RDKafkaLogLevel::Warning);
        let context = Context { sink, shutdown };
        let inner = ThreadedProducer::from_config_and_context(&config, context)?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Puts a record into the local queue; its fate is told to the sink. Never blocks.
    ///
    /// # Errors
    /// The record was not queued; the token comes back and the sink hears nothing of it.
    pub fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: &[u8],
        payload: &[u8],
        headers: OwnedHeaders,
        token: S::Token,
    ) -> Result<(), (Failure, S::Token)> {
        let mut record = BaseRecord::with_opaque_to(topic, token)
            .key(key)
            .payload(payload)
            .headers(headers);
        record.partition = partition;
        match self.inner.send(record) {
            Ok(()) => Ok(()),
            Err((error, record)) => Err((Failure::of(&error), record.delivery_opaque)),
        }
    }

    /// Records queued or in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.inner.in_flight_count()).unwrap_or(0)
    }

    /// The client underneath, for metadata.
    pub fn fetch_partition_count(
        &self,
        topic: &str,
        timeout: std::time::Duration,
    ) -> anyhow::Result<usize> {
        let metadata = self.inner.client().fetch_metadata(Some(topic), timeout)?;
        Ok(metadata
            .topics()
            .first()
            .map_or(0, |topic| topic.partitions().len()))
    }
}

/// Collects headers for [`Producer::send`].
pub struct HeaderList(Option<OwnedHeaders>);

impl HeaderList {
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Some(OwnedHeaders::new_with_capacity(capacity)))
    }

    pub fn put(&mut self, name: &str, value: &[u8]) {
        if let Some(headers) = self.0.take() {
            self.0 = Some(headers.insert(Header {
                key: name,
                value: Some(value),
            }));
        }
    }

    #[must_use]
    pub fn finish(self) -> OwnedHeaders {
        self.0.unwrap_or_default()
    }
}
