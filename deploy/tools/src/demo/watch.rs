//! Reads `webhooks.processed` and `webhooks.attempts` from their ends on, as any consumer may.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use anyhow::Context;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use router_runtime::kafka::KafkaSettings;
use router_schemas::{AttemptRecord, EventId, ProcessedRecord};

use crate::local_env::LocalEnv;

const PATIENCE: Duration = Duration::from_secs(10);

/// A record that tells something.
pub(super) enum News {
    Processed(Box<ProcessedRecord>),
    Attempt(Box<AttemptRecord>),
}

impl News {
    pub(super) fn event_id(&self) -> EventId {
        match self {
            Self::Processed(record) => record.event_id,
            Self::Attempt(record) => record.event_id,
        }
    }
}

/// Kafka as the local stack has it.
pub(super) fn kafka(local: &LocalEnv) -> anyhow::Result<KafkaSettings> {
    Ok(KafkaSettings {
        brokers: local.require("KAFKA_BROKERS")?,
        ..KafkaSettings::from_env()?
    })
}

/// Both topics, from where they ended when this was made.
pub(super) struct Watch {
    consumer: BaseConsumer,
    processed: String,
}

impl Watch {
    pub(super) fn open(kafka: &KafkaSettings) -> anyhow::Result<Self> {
        let names = kafka.names();
        let config = kafka.with(&[
            ("group.id", "demo"),
            ("enable.auto.commit", "false"),
            ("fetch.wait.max.ms", "50"),
        ]);
        let consumer: BaseConsumer = config.create()?;
        let mut assignment = TopicPartitionList::new();
        for topic in [&names.processed, &names.attempts] {
            let metadata = consumer
                .fetch_metadata(Some(topic), PATIENCE)
                .with_context(|| {
                    format!(
                        "Kafka at {} does not answer; is it up? make status",
                        kafka.brokers
                    )
                })?;
            for partition in metadata
                .topics()
                .iter()
                .flat_map(|topic| topic.partitions())
            {
                let (_, end) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE)?;
                assignment.add_partition_offset(topic, partition.id(), Offset::Offset(end))?;
            }
        }
        consumer.assign(&assignment)?;
        Ok(Self {
            consumer,
            processed: names.processed,
        })
    }

    /// Reads on a thread of its own, until the other end is dropped.
    pub(super) fn start(self) -> Stream {
        let (sender, receiver) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                let Some(Ok(message)) = self.consumer.poll(Duration::from_millis(100)) else {
                    continue;
                };
                let payload = message.payload().unwrap_or_default();
                // Records that cannot be read are not the demo's.
                let news = if message.topic() == self.processed {
                    serde_json::from_slice(payload).ok().map(News::Processed)
                } else {
                    serde_json::from_slice(payload).ok().map(News::Attempt)
                };
                if news.is_some_and(|news| sender.send(news).is_err()) {
                    return;
                }
            }
        });
        Stream { receiver, stop }
    }
}

/// What has been read and not yet been taken.
pub(super) struct Stream {
    receiver: mpsc::Receiver<News>,
    stop: Arc<AtomicBool>,
}

impl Stream {
    pub(super) fn drain(&mut self) -> Vec<News> {
        self.receiver.try_iter().collect()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
