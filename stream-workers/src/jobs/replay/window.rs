//! What a topic holds between two times, partition by partition, with a progress bar.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::Message,
};
use router_runtime::{consumer::Incoming, kafka::KafkaSettings, lifecycle::Shutdown};

const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(200);

/// A stretch of a topic, as it stood when it was opened.
pub(super) struct Window {
    consumer: BaseConsumer,
    topic: Arc<str>,
    to_ms: i64,
    /// Partitions that are not read to their end yet, with the offset at which they end.
    open: HashMap<i32, i64>,
    bar: ProgressBar,
    shutdown: Shutdown,
}

impl Window {
    pub(super) fn open(
        kafka: &KafkaSettings,
        topic: &str,
        from_ms: i64,
        to_ms: i64,
        what: &'static str,
        shutdown: Shutdown,
    ) -> anyhow::Result<Self> {
        let config = kafka.with(&[
            // Nothing is committed and no group is joined; librdkafka wants a name all the same.
            ("group.id", "replay"),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("auto.offset.reset", "earliest"),
        ]);
        let consumer: BaseConsumer = config.create().context("cannot make a consumer")?;
        let metadata = consumer
            .fetch_metadata(Some(topic), PATIENCE)
            .with_context(|| format!("Kafka at {} does not answer", kafka.brokers))?;
        let partitions = metadata
            .topics()
            .first()
            .map_or(&[][..], |topic| topic.partitions());
        let mut times = TopicPartitionList::new();
        for partition in partitions {
            times.add_partition_offset(topic, partition.id(), Offset::Offset(from_ms))?;
        }
        let starts = consumer
            .offsets_for_times(times, PATIENCE)
            .with_context(|| format!("cannot find the start in {topic}"))?;
        let mut assignment = TopicPartitionList::new();
        let mut open = HashMap::new();
        let mut total = 0;
        for start in starts.elements() {
            let (_, end) = consumer.fetch_watermarks(topic, start.partition(), PATIENCE)?;
            // Past the last record there is no offset for a time.
            let Offset::Offset(first) = start.offset() else {
                continue;
            };
            if first < end {
                assignment.add_partition_offset(topic, start.partition(), Offset::Offset(first))?;
                open.insert(start.partition(), end);
                total += (end - first).unsigned_abs();
            }
        }
        consumer.assign(&assignment)?;
        let style = "{msg} [{bar:40}] {pos}/{len} {per_sec} {eta}";
        let bar = ProgressBar::new(total).with_message(what);
        bar.set_style(
            ProgressStyle::with_template(style)
                .context("progress bar")?
                .progress_chars("=> "),
        );
        Ok(Self {
            consumer,
            topic: topic.into(),
            to_ms,
            open,
            bar,
            shutdown,
        })
    }

    /// Hands every record to `each`, until the end or until the process is asked to stop.
    pub(super) fn read(
        mut self,
        mut each: impl FnMut(&Incoming) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        while !self.open.is_empty() && !self.shutdown.requested() {
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    let partition = message.partition();
                    let Some(end) = self.open.get(&partition).copied() else {
                        continue;
                    };
                    let late = message
                        .timestamp()
                        .to_millis()
                        .is_some_and(|at| at >= self.to_ms);
                    if late || message.offset() >= end {
                        self.open.remove(&partition);
                        continue;
                    }
                    each(&Incoming::copy(Arc::clone(&self.topic), &message))?;
                    self.bar.inc(1);
                    if message.offset() + 1 >= end {
                        self.open.remove(&partition);
                    }
                }
                // The last offsets may be markers of transactions, which are never handed out.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.open.remove(&partition);
                }
                Some(Err(error)) => tracing::warn!(%error, topic = &*self.topic, "reading"),
            }
        }
        self.bar.finish_and_clear();
        Ok(())
    }
}
