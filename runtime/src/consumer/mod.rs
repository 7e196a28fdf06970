//! The consumer engine: one owner task for each consumer, a ledger for each partition, stages that see
//! neither offsets nor producers.
//!
//! A record is polled into the budget, read by its stage, worked, and its effects are produced; when
//! Kafka has acknowledged them all, its ticket comes back and the ledger moves. What is committed is
//! never ahead of what is acknowledged.
//!
//! - `owner`: the task that polls, commits, and answers rebalances.
//! - `ledger`: what is finished, and what may be committed.
//! - `effects`: producing, acknowledgements, dead letters.
//! - `runner`: how stages are called, in batches or one by one, and what a panic costs.

mod context;
mod effects;
pub mod ledger;
mod owner;
mod record;
mod runner;

use std::{future::Future, sync::Arc, time::Duration};

pub use effects::Effects;
pub use record::{Dead, Envelope, Incoming, Order, OutRecord, Outcome, Unreadable};

use crate::{
    kafka::{GroupProtocol, KafkaSettings},
    lifecycle::{ReadinessPart, Shutdown},
};

/// A stage that works records together.
pub trait BatchStage: Send + Sync + 'static {
    type In: Send + 'static;

    /// Reads a record. Called on the owner's task: no I/O, no heavy work.
    ///
    /// # Errors
    /// The record cannot be read; `refuse` says what becomes of it.
    fn read(&self, record: &Incoming) -> Result<Self::In, Unreadable>;

    /// One outcome for each envelope, in the same order. A batch that panics is worked again one by one,
    /// and the record that panics alone goes to the dead letters.
    fn work(&self, batch: Vec<Envelope<Self::In>>) -> impl Future<Output = Vec<Outcome>> + Send;

    /// A record is left where it is until this time, milliseconds since 1970, and everything behind it in
    /// its partition too: only for topics in which the time never decreases.
    fn not_before_ms(&self, _value: &Self::In) -> i64 {
        0
    }

    /// What becomes of a record that cannot be read (`unreadable`), on which the stage panicked (`panic`),
    /// or of which Kafka refuses an effect for good (`effect_refused`).
    fn refuse(&self, _record: &Incoming, reason: &'static str, detail: String) -> Outcome {
        Outcome::reject(reason, detail)
    }

    /// Whose record it is. Panics over records of many origins at once end the process; those of one
    /// origin never do.
    fn origin(&self, _record: &Incoming) -> u64 {
        0
    }
}

/// A stage that works each record by itself, many at a time.
pub trait EachStage: Send + Sync + 'static {
    type In: Send + 'static;

    /// See [`BatchStage::read`].
    ///
    /// # Errors
    /// The record cannot be read; `refuse` says what becomes of it.
    fn read(&self, record: &Incoming) -> Result<Self::In, Unreadable>;

    fn process(&self, envelope: Envelope<Self::In>) -> impl Future<Output = Outcome> + Send;

    /// See [`BatchStage::refuse`].
    fn refuse(&self, _record: &Incoming, reason: &'static str, detail: String) -> Outcome {
        Outcome::reject(reason, detail)
    }

    /// See [`BatchStage::origin`].
    fn origin(&self, _record: &Incoming) -> u64 {
        0
    }
}

/// How one consumer behaves.
#[derive(Debug, Clone)]
pub struct ConsumerSettings {
    pub kafka: KafkaSettings,
    /// Name of the stage: metric label and, with the topic prefix, the consumer group.
    pub stage: &'static str,
    pub topics: Vec<String>,
    /// Static membership: the same member after a restart, so that a restart moves no partition. Of the classic
    /// protocol only.
    pub instance_id: Option<String>,
    /// Bounds on what is received and not finished.
    pub max_in_flight: usize,
    pub max_in_flight_bytes: usize,
    /// Bounds of a batch ([`run_batches`] only), and how many are worked at a time.
    pub max_batch: usize,
    pub max_batch_bytes: usize,
    pub parallel_batches: usize,
    /// What librdkafka may fetch ahead for each partition.
    pub prefetch_kbytes: u32,
    /// The broker answers a fetch when it has this much, or after `fetch_wait`: fewer and fuller answers
    /// for a delay of at most that.
    pub fetch_min_bytes: u32,
    pub fetch_wait: Duration,
    pub commit_interval: Duration,
    /// How long a revoked partition, or a stopping process, waits for what is in work. Must stay far
    /// below `max.poll.interval.ms`.
    pub drain_timeout: Duration,
}

impl ConsumerSettings {
    #[must_use]
    pub fn new(kafka: KafkaSettings, stage: &'static str, topics: Vec<String>) -> Self {
        Self {
            kafka,
            stage,
            topics,
            instance_id: None,
            max_in_flight: 4_096,
            max_in_flight_bytes: 64 << 20,
            max_batch: 64,
            max_batch_bytes: 8 << 20,
            parallel_batches: 2,
            prefetch_kbytes: 4_096,
            fetch_min_bytes: 1,
            fetch_wait: Duration::from_millis(100),
            commit_interval: Duration::from_millis(200),
            drain_timeout: Duration::from_secs(5),
        }
    }

    fn client_config(&self) -> rdkafka::ClientConfig {
        let group = self.kafka.names().group(self.stage);
        let prefetch = self.prefetch_kbytes.to_string();
        let min_bytes = self.fetch_min_bytes.to_string();
        let wait = self.fetch_wait.as_millis().to_string();
        let session = self.kafka.session_timeout_ms.to_string();
        let mut ours = vec![
            ("group.id", group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // A committed offset that is gone is an alarm, never a silent reset.
            ("auto.offset.reset", "error"),
            ("isolation.level", "read_committed"),
            ("queued.max.messages.kbytes", prefetch.as_str()),
            ("fetch.min.bytes", min_bytes.as_str()),
            ("fetch.wait.max.ms", wait.as_str()),
            ("fetch.error.backoff.ms", "100"),
            ("fetch.queue.backoff.ms", "20"),
            ("statistics.interval.ms", "5000"),
            ("topic.metadata.refresh.interval.ms", "10000"),
        ];
        match self.kafka.group_protocol {
            GroupProtocol::Classic => {
                ours.extend([
                    ("partition.assignment.strategy", "cooperative-sticky"),
                    ("session.timeout.ms", session.as_str()),
                    ("heartbeat.interval.ms", "1500"),
                ]);
                if let Some(id) = &self.instance_id {
                    ours.push(("group.instance.id", id));
                }
            }
            // Without static membership: under KIP-848 a member that was killed keeps its id until the broker's
            // session timeout ends, and its successor would be refused for good in the meantime.
            GroupProtocol::Consumer => ours.push(("group.protocol", "consumer")),
        }
        self.kafka.with(&ours)
    }
}

/// Runs a batch stage until `shutdown`, then drains.
///
/// # Errors
/// The consumer cannot be made, or ended for a reason that only a new process can mend.
pub async fn run_batches<S: BatchStage>(
    settings: ConsumerSettings,
    stage: Arc<S>,
    effects: Effects,
    ready: ReadinessPart,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    owner::run(settings, runner::Batches(stage), effects, ready, shutdown).await
}

/// Runs a stage record by record until `shutdown`, then drains.
///
/// # Errors
/// As [`run_batches`].
pub async fn run_each<S: EachStage>(
    settings: ConsumerSettings,
    stage: Arc<S>,
    effects: Effects,
    ready: ReadinessPart,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    owner::run(settings, runner::Each(stage), effects, ready, shutdown).await
}
