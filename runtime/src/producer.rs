//! The producer: records in, acknowledgements out, without a future or a wake-up for each record.
//!
//! librdkafka reports deliveries in batches. A task of the runtime that made the producer is woken for all that
//! have come and tells them to an [`AckSink`]; whoever owns the sink decides how to wake its readers. The same
//! task sends what has gathered in a [`Group`] meanwhile. What the broker refuses for good and what only takes
//! longer are told apart here and nowhere else.

mod arrivals;
mod group;

use std::{
    sync::{Arc, PoisonError, RwLock, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rdkafka::{
    ClientConfig, ClientContext,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::KafkaError,
    message::{DeliveryResult, Header, Message as _, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
    types::RDKafkaErrorCode,
    util::IntoOpaque,
};
use tokio::sync::Notify;

pub use self::group::Group;

use self::{
    arrivals::Arrivals,
    group::{Batch, Record},
};
use crate::lifecycle::Shutdown;

/// librdkafka's defaults of `message.timeout.ms` and `queue.buffering.max.kbytes`.
const DEFAULT_TIMEOUT_MS: u64 = 300_000;
const DEFAULT_QUEUE_KBYTES: u64 = 1 << 20;

/// How often a topic's partitions are counted, and how soon again where Kafka did not say.
const COUNT_EVERY: Duration = Duration::from_secs(30);
const COUNT_AGAIN: Duration = Duration::from_secs(1);
const COUNT_TIMEOUT: Duration = Duration::from_secs(2);

/// A producer whose queue is full is tried again after this long.
const ROOM_AGAIN: Duration = Duration::from_millis(5);

/// After so many events of librdkafka the other tasks of the thread have their turn.
const EVENTS_A_TURN: usize = 64;

/// Receives the fate of every record that was accepted by [`Producer::send`] or [`Producer::gather`], exactly once
/// each, from a task of the runtime that made the producer: it must not block.
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

struct Context<S: AckSink> {
    sink: Arc<S>,
    shutdown: Shutdown,
    groups: Groups<S::Token>,
}

type Groups<T> = Arc<RwLock<Vec<Arc<Group<T>>>>>;

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
        let (message, result) = match result {
            Ok(message) => (message, Ok(())),
            Err((error, message)) => (message, Err(Failure::of(error))),
        };
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.iter().find(|group| group.topic() == message.topic()) {
            group.settled(message.partition());
        }
        drop(groups);
        self.sink.acked(token, result);
    }
}

/// Why a record was not queued, and what of it comes back.
type NotQueued<T> = (Failure, T, Option<OwnedHeaders>);

/// A producer whose acknowledgements go to `S`. Cheap to clone.
pub struct Producer<S: AckSink> {
    inner: Arc<Inner<S>>,
}

struct Inner<S: AckSink> {
    // Dropped first: it uses the client.
    arrivals: Arrivals,
    client: BaseProducer<Context<S>>,
    /// Woken when events have arrived, and when a record waits that found nobody looking.
    wake: Arc<Notify>,
    groups: Groups<S::Token>,
    sink: Arc<S>,
    /// `message.timeout.ms`; none where records wait as long as it takes.
    timeout: Option<Duration>,
    max_waiting_bytes: usize,
    /// `linger.ms`: so much longer than usual an acknowledgement takes.
    linger: Duration,
}

impl<S: AckSink> Clone for Producer<S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<S: AckSink> Inner<S> {
    /// Serves what has come. True where there may be more.
    fn serve(&self) -> bool {
        for _ in 0..EVENTS_A_TURN {
            if self.arrivals.is_empty() {
                return false;
            }
            // One event: of no duration, this does not go round again.
            self.client.poll(Duration::ZERO);
        }
        true
    }

    /// Sends what has gathered. Says when to look again where nothing else will tell.
    fn send_gathered(&self) -> Option<Instant> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        groups
            .iter()
            .filter_map(|group| self.send_group(group))
            .min()
    }

    fn send_group(&self, group: &Group<S::Token>) -> Option<Instant> {
        let again = loop {
            match group.depart(Instant::now()) {
                Err(again) => break again,
                Ok(batch) => {
                    if !self.send_batch(group, batch) {
                        break Some(Instant::now() + ROOM_AGAIN);
                    }
                }
            }
        };
        let Some(timeout) = self.timeout else {
            return again;
        };
        let (expired, expires) = group.expire(Instant::now(), timeout);
        for record in expired {
            let failure = Failure::Unavailable("kafka took no record in time".into());
            self.sink.acked(record.token, Err(failure));
        }
        [again, expires].into_iter().flatten().min()
    }

    /// False where the producer has no room: what is left goes back to wait.
    fn send_batch(&self, group: &Group<S::Token>, batch: Batch<S::Token>) -> bool {
        let partition = batch.partition;
        let mut records = batch.records.into_iter();
        while let Some(record) = records.next() {
            let Record {
                key,
                payload,
                headers,
                token,
                queued,
            } = record;
            let sent = self.send(group.topic(), partition, &key, &payload, headers, token);
            match sent {
                Ok(()) => {}
                Err((Failure::QueueFull, token, headers)) => {
                    let back = Record {
                        key,
                        payload,
                        headers: headers.unwrap_or_default(),
                        token,
                        queued,
                    };
                    let records = std::iter::once(back).chain(records).collect();
                    group.put_back(Batch { partition, records });
                    return false;
                }
                Err((failure, token, _)) => {
                    if let Some(partition) = partition {
                        group.settled(partition);
                    }
                    self.sink.acked(token, Err(failure));
                }
            }
        }
        true
    }

    fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: &[u8],
        payload: &[u8],
        headers: OwnedHeaders,
        token: S::Token,
    ) -> Result<(), NotQueued<S::Token>> {
        let mut record = BaseRecord::with_opaque_to(topic, token)
            .key(key)
            .payload(payload)
            .headers(headers);
        record.partition = partition;
        match self.client.send(record) {
            Ok(()) => Ok(()),
            Err((error, record)) => {
                Err((Failure::of(&error), record.delivery_opaque, record.headers))
            }
        }
    }

    fn partitions(&self, topic: &str) -> Result<usize, KafkaError> {
        let client = self.client.client();
        let metadata = client.fetch_metadata(Some(topic), COUNT_TIMEOUT)?;
        let mut topics = metadata.topics().iter();
        Ok(topics.next().map_or(0, |topic| topic.partitions().len()))
    }
}

/// Tells acknowledgements to the sink, and sends what gathers, for as long as anybody has the producer.
async fn drive<S: AckSink>(inner: Weak<Inner<S>>, wake: Arc<Notify>) {
    while let Some(inner) = inner.upgrade() {
        let more = inner.serve();
        let again = inner.send_gathered();
        drop(inner);
        if more {
            tokio::task::yield_now().await;
            continue;
        }
        match again {
            None => wake.notified().await,
            Some(at) => {
                let at = tokio::time::Instant::from_std(at);
                tokio::time::timeout_at(at, wake.notified()).await.ok();
            }
        }
    }
}

/// Keeps the number of a topic's partitions for as long as anybody has producer and group.
async fn count_partitions<S: AckSink>(inner: Weak<Inner<S>>, group: Weak<Group<S::Token>>) {
    loop {
        let (Some(inner), Some(group)) = (inner.upgrade(), group.upgrade()) else {
            return;
        };
        let counted = tokio::task::spawn_blocking(move || {
            let count = inner.partitions(group.topic()).unwrap_or(0);
            if count > 0 {
                group.set_partitions(count, Instant::now());
            }
            count
        });
        // Not there yet, or Kafka is away: keys decide until it is back, or what was known does.
        let known = counted.await.is_ok_and(|count| count > 0);
        tokio::time::sleep(if known { COUNT_EVERY } else { COUNT_AGAIN }).await;
    }
}

impl<S: AckSink> Producer<S> {
    /// Must be called within a tokio runtime, which serves the acknowledgements from then on.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    #[allow(unsafe_code, reason = "see `Arrivals`")]
    pub fn new(config: &ClientConfig, sink: Arc<S>, shutdown: Shutdown) -> anyhow::Result<Self> {
        let mut config = config.clone();
        config.set_log_level(RDKafkaLogLevel::Warning);
        let number = |name: &str| config.get(name).and_then(|text| text.parse::<u64>().ok());
        let timeout_ms = number("message.timeout.ms").unwrap_or(DEFAULT_TIMEOUT_MS);
        let linger_ms = number("linger.ms").unwrap_or(0);
        let max_kbytes = number("queue.buffering.max.kbytes").unwrap_or(DEFAULT_QUEUE_KBYTES);
        let groups = Groups::<S::Token>::default();
        let context = Context {
            sink: Arc::clone(&sink),
            shutdown,
            groups: Arc::clone(&groups),
        };
        let client: BaseProducer<_> = BaseProducer::from_config_and_context(&config, context)?;
        // SAFETY: `Inner` drops it before the client.
        let arrivals = unsafe { Arrivals::watch(client.client().native_ptr()) };
        let wake = arrivals.notify();
        let inner = Arc::new(Inner {
            arrivals,
            client,
            wake: Arc::clone(&wake),
            groups,
            sink,
            timeout: (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms)),
            max_waiting_bytes: usize::try_from(max_kbytes << 10).unwrap_or(usize::MAX),
            linger: Duration::from_millis(linger_ms),
        });
        tokio::spawn(drive(Arc::downgrade(&inner), wake));
        Ok(Self { inner })
    }

    /// Where records of a topic gather whose key orders nothing. To be called within a tokio runtime.
    #[must_use]
    pub fn group(&self, topic: &str) -> Arc<Group<S::Token>> {
        let start = uuid::Uuid::now_v7().as_u128() as usize;
        let group = Arc::new(Group::new(
            topic,
            self.inner.max_waiting_bytes,
            self.inner.linger,
            start,
        ));
        let mut groups = self
            .inner
            .groups
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        groups.push(Arc::clone(&group));
        drop(groups);
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(count_partitions(inner, Arc::downgrade(&group)));
        group
    }

    /// Lets a record wait for the next batch of its topic; its fate is told to the sink. Never blocks.
    ///
    /// # Errors
    /// As much waits as may; the token comes back and the sink hears nothing of it.
    pub fn gather(
        &self,
        group: &Group<S::Token>,
        key: &[u8],
        payload: Bytes,
        headers: OwnedHeaders,
        token: S::Token,
    ) -> Result<(), (Failure, S::Token)> {
        let record = Record {
            key: key.to_vec(),
            payload,
            headers,
            token,
            queued: Instant::now(),
        };
        match group.push(record) {
            Ok(first) => {
                if first {
                    self.inner.wake.notify_one();
                }
                Ok(())
            }
            Err(record) => Err((Failure::QueueFull, record.token)),
        }
    }

    /// Puts a record into the local queue, for the partition of its key; its fate is told to the sink. Never
    /// blocks.
    ///
    /// # Errors
    /// The record was not queued; the token comes back and the sink hears nothing of it.
    pub fn send(
        &self,
        topic: &str,
        key: &[u8],
        payload: &[u8],
        headers: OwnedHeaders,
        token: S::Token,
    ) -> Result<(), (Failure, S::Token)> {
        let sent = self.inner.send(topic, None, key, payload, headers, token);
        sent.map_err(|(failure, token, _)| (failure, token))
    }

    /// Records waiting, queued or in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let groups = self
            .inner
            .groups
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let waiting: usize = groups.iter().map(|group| group.waiting()).sum();
        waiting + usize::try_from(self.inner.client.in_flight_count()).unwrap_or(0)
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
