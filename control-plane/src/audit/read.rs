//! Reads topics from their beginning to an end that was fixed before, with a consumer that belongs to no
//! group. Everything here blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::KafkaError,
    message::{BorrowedMessage, Message as _},
};
use router_runtime::kafka::KafkaSettings;

use crate::kafka::{watermarks, with_ours};

const TIMEOUT: Duration = Duration::from_secs(15);
/// Nothing at all for this long while more is due is an error.
const STALL: Duration = Duration::from_secs(60);

/// What is kept of one partition: from `low` up to `end`, `end` left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) partition: i32,
    pub(super) low: i64,
    pub(super) end: i64,
}

/// The topics that there are, and their partitions.
#[derive(Debug)]
pub(super) struct Topics(BTreeMap<String, i32>);

impl Topics {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// How many partitions a topic has; none where it does not exist.
    pub(super) fn partitions(&self, topic: &str) -> i32 {
        self.0.get(topic).copied().unwrap_or(0)
    }
}

/// Errors come back from the calls; what librdkafka says beside them is for who debugs.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "audit");
    }
}

impl ConsumerContext for Quiet {}

pub(super) struct Reader {
    consumer: BaseConsumer<Quiet>,
    brokers: String,
}

impl Reader {
    pub(super) fn new(kafka: &KafkaSettings) -> anyhow::Result<Self> {
        let config = with_ours(
            kafka,
            &[
                // Partitions are assigned by hand and nothing is committed; librdkafka wants a name.
                ("group.id", "control-plane-audit"),
                ("enable.auto.commit", "false"),
                ("enable.partition.eof", "true"),
                ("isolation.level", "read_committed"),
                ("auto.offset.reset", "earliest"),
                // What is read ahead of the ledger is memory, and reading on is never slower than it.
                ("queued.max.messages.kbytes", "16384"),
                // By default fetching rests a second whenever that much is queued: six times slower.
                ("fetch.queue.backoff.ms", "10"),
                ("fetch.message.max.bytes", "1048576"),
            ],
        );
        Ok(Self {
            consumer: config
                .create_with_context(Quiet)
                .context("cannot make a consumer")?,
            brokers: kafka.brokers.clone(),
        })
    }

    pub(super) fn topics(&self) -> anyhow::Result<Topics> {
        let metadata = self
            .consumer
            .fetch_metadata(None, TIMEOUT)
            .with_context(|| {
                format!(
                    "Kafka at {} does not answer; check KAFKA_BROKERS and that it runs",
                    self.brokers
                )
            })?;
        let topics = metadata.topics().iter();
        Ok(Topics(
            topics
                .map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32))
                .collect(),
        ))
    }

    /// What is kept of a topic now; nothing where it does not exist.
    pub(super) fn ranges(&self, topics: &Topics, topic: &str) -> anyhow::Result<Vec<Range>> {
        let mut ranges = Vec::new();
        for partition in 0..topics.partitions(topic) {
            let (low, end) = watermarks(&self.consumer, topic, partition)
                .with_context(|| format!("cannot ask for the ends of {topic}"))?;
            ranges.push(Range {
                partition,
                low,
                end,
            });
        }
        Ok(ranges)
    }

    /// Hands every record of the ranges to `each`. Records that retention takes while this reads are
    /// passed over.
    pub(super) fn read(
        &self,
        topic: &str,
        ranges: &[Range],
        bar: &ProgressBar,
        mut each: impl FnMut(&BorrowedMessage<'_>),
    ) -> anyhow::Result<()> {
        let mut open: BTreeSet<i32> = BTreeSet::new();
        let mut list = TopicPartitionList::new();
        for range in ranges.iter().filter(|range| range.low < range.end) {
            list.add_partition_offset(topic, range.partition, Offset::Offset(range.low))?;
            open.insert(range.partition);
        }
        if open.is_empty() {
            return Ok(());
        }
        let ends: BTreeMap<i32, i64> = ranges
            .iter()
            .map(|range| (range.partition, range.end))
            .collect();
        self.consumer.assign(&list)?;
        let mut heard = Instant::now();
        while !open.is_empty() {
            match self.consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let (partition, offset) = (message.partition(), message.offset());
                    let end = ends.get(&partition).copied().unwrap_or(0);
                    if offset < end {
                        each(&message);
                        bar.inc(1);
                    }
                    if offset + 1 >= end && open.remove(&partition) {
                        self.pause(topic, partition);
                    }
                }
                // The partition is read to its present end, which lies at or behind the one fixed before.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) => bail!("reading {topic}: {error}"),
                None if heard.elapsed() > STALL => {
                    bail!("reading {topic}: nothing came for {} s", STALL.as_secs())
                }
                None => {}
            }
        }
        self.consumer.unassign()?;
        Ok(())
    }

    /// Spares the fetching of what came after the end, on a partition that is done while others are not.
    fn pause(&self, topic: &str, partition: i32) {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        if let Err(error) = self.consumer.pause(&list) {
            tracing::debug!(%error, topic, partition, "cannot pause");
        }
    }
}
