//! Topics of a benchmark as a client sees them: how many records they hold, what a group has not read yet,
//! records put there beforehand, and a topic emptied between two measurements.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use router_runtime::{kafka::KafkaSettings, producer::HeaderList};
use router_schemas::topics::{Cleanup, TopicPlan, TopicSpec};

const CALL: Duration = Duration::from_secs(20);

/// Reads positions; holds one idle connection to each broker.
pub struct Topics {
    settings: KafkaSettings,
    reader: BaseConsumer,
}

impl Topics {
    /// # Errors
    /// librdkafka refuses the settings.
    pub fn connect(settings: &KafkaSettings) -> anyhow::Result<Self> {
        let reader = settings
            .client_config()
            .set("group.id", settings.names().group("bench-reader"))
            .create()?;
        Ok(Self {
            settings: settings.clone(),
            reader,
        })
    }

    /// Removes every topic whose name starts with the prefix of these settings.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn delete_all(&self, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
        let metadata = self.reader.fetch_metadata(None, CALL)?;
        let prefix = self.settings.topic_prefix.as_str();
        anyhow::ensure!(
            !prefix.is_empty(),
            "without a prefix, these may be someone's own topics"
        );
        let names = metadata
            .topics()
            .iter()
            .map(rdkafka::metadata::MetadataTopic::name);
        let ours: Vec<&str> = names.filter(|name| name.starts_with(prefix)).collect();
        let admin: AdminClient<DefaultClientContext> = self.settings.client_config().create()?;
        runtime.block_on(admin.delete_topics(&ours, &AdminOptions::new()))?;
        Ok(())
    }

    #[must_use]
    pub fn settings(&self) -> &KafkaSettings {
        &self.settings
    }

    fn partitions(&self, topic: &str) -> anyhow::Result<Vec<i32>> {
        let metadata = self.reader.fetch_metadata(Some(topic), CALL)?;
        let topic = metadata.topics().first().context("no metadata")?;
        Ok(topic
            .partitions()
            .iter()
            .map(rdkafka::metadata::MetadataPartition::id)
            .collect())
    }

    /// Ends of all partitions, in one request.
    fn ends(&self, topic: &str) -> anyhow::Result<TopicPartitionList> {
        let mut wanted = TopicPartitionList::new();
        for partition in self.partitions(topic)? {
            // ListOffsets reads this as "the end" (the logical offset -1).
            wanted.add_partition_offset(topic, partition, Offset::End)?;
        }
        Ok(self.reader.offsets_for_times(wanted, CALL)?)
    }

    /// Records that a topic has taken since it was made, transaction markers included.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn count(&self, topic: &str) -> anyhow::Result<u64> {
        let ends = self.ends(topic)?;
        let offsets = ends
            .elements()
            .into_iter()
            .filter_map(|element| element.offset().to_raw());
        Ok(offsets
            .filter_map(|offset| u64::try_from(offset).ok())
            .sum())
    }

    /// Records of these topics that a group has not committed yet.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn lag(&self, group: &str, topics: &[&str]) -> anyhow::Result<u64> {
        let consumer: BaseConsumer = self
            .settings
            .client_config()
            .set("group.id", group)
            .create()?;
        let mut wanted = TopicPartitionList::new();
        for topic in topics {
            for partition in self.partitions(topic)? {
                wanted.add_partition(topic, partition);
            }
        }
        let committed = consumer.committed_offsets(wanted, CALL)?;
        let mut lag = 0;
        for element in committed.elements() {
            let (low, high) =
                self.reader
                    .fetch_watermarks(element.topic(), element.partition(), CALL)?;
            let at = match element.offset() {
                Offset::Offset(offset) => offset.max(low),
                _ => low,
            };
            lag += u64::try_from(high - at).unwrap_or(0);
        }
        Ok(lag)
    }

    /// Waits until a topic holds `target` records; calls `tell` with the count at every look.
    ///
    /// # Errors
    /// It does not within `limit`, or `tell` fails.
    pub fn wait_for_count(
        &self,
        topic: &str,
        target: u64,
        limit: Duration,
        mut tell: impl FnMut(u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let count = self.count(topic)?;
            tell(count)?;
            if count >= target {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{topic} holds {count} of {target} records after {limit:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Deletes a topic and makes it again as the product does, so that disks do not fill up.
    ///
    /// # Errors
    /// Kafka refuses, or takes longer than it should.
    pub fn recreate(&self, runtime: &tokio::runtime::Runtime, topic: &str) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.settings.client_config().create()?;
        let options = AdminOptions::new().operation_timeout(Some(CALL));
        runtime.block_on(admin.delete_topics(&[topic], &options))?;
        self.create(runtime, topic)
    }

    /// Makes a topic of its name by the product's plan, or as the raw one where the plan has none.
    ///
    /// # Errors
    /// Kafka refuses, or takes longer than it should.
    pub fn create(&self, runtime: &tokio::runtime::Runtime, topic: &str) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.settings.client_config().create()?;
        let options = AdminOptions::new().operation_timeout(Some(CALL));
        let names = self.settings.names();
        let plan = TopicPlan::default().topics(&names);
        let spec = plan
            .iter()
            .find(|spec| spec.name == topic)
            .unwrap_or(&plan[0]);
        let retention = match spec.cleanup {
            Cleanup::Delete { retention_ms } => retention_ms.to_string(),
            Cleanup::Compact => bail!("{topic} is not a topic to make again"),
        };
        let deadline = Instant::now() + CALL;
        loop {
            let new = new_topic(topic, spec, &retention);
            let made = runtime.block_on(admin.create_topics([&new], &options))?;
            match made.into_iter().next().context("no answer for the topic")? {
                Ok(_) => break,
                // It is still being deleted.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err((name, code)) => bail!("creating {name}: {code}"),
            }
        }
        while self.ends(topic).is_err() || self.partitions(topic)?.is_empty() {
            anyhow::ensure!(Instant::now() < deadline, "{topic} does not appear");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

fn new_topic<'a>(name: &'a str, spec: &TopicSpec, retention: &'a str) -> NewTopic<'a> {
    NewTopic::new(name, spec.partitions, TopicReplication::Fixed(1))
        .set("retention.ms", retention)
        .set("message.timestamp.type", "LogAppendTime")
        .set("min.insync.replicas", "1")
}

/// A record put into a topic before a measurement.
pub struct Prepared<'a> {
    pub key: &'a [u8],
    pub payload: &'a [u8],
    pub headers: HeaderList,
    pub partition: Option<i32>,
}

#[derive(Default)]
struct Fates {
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

struct CountFates(Arc<Fates>);

impl ClientContext for CountFates {}

impl ProducerContext for CountFates {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() {
            &self.0.acknowledged
        } else {
            &self.0.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Fills a topic as fast as Kafka takes it, and knows that every record arrived.
pub struct Preload {
    producer: ThreadedProducer<CountFates>,
    fates: Arc<Fates>,
    topic: String,
    sent: u64,
}

impl Preload {
    /// # Errors
    /// librdkafka refuses the settings.
    pub fn into_topic(settings: &KafkaSettings, topic: &str) -> anyhow::Result<Self> {
        let fates = Arc::new(Fates::default());
        let producer = settings
            .producer_config()
            .set("linger.ms", "20")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "50000")
            .create_with_context(CountFates(Arc::clone(&fates)))?;
        Ok(Self {
            producer,
            fates,
            topic: topic.to_owned(),
            sent: 0,
        })
    }

    /// # Errors
    /// Kafka refuses the record.
    pub fn put(&mut self, record: Prepared<'_>) -> anyhow::Result<()> {
        let mut to_send = BaseRecord::to(&self.topic)
            .key(record.key)
            .payload(record.payload)
            .headers(record.headers.finish());
        to_send.partition = record.partition;
        loop {
            match self.producer.send(to_send) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    to_send = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(error).context("preloading"),
            }
        }
        self.sent += 1;
        Ok(())
    }

    /// Waits for every acknowledgement.
    ///
    /// # Errors
    /// A record did not arrive.
    pub fn finish(self) -> anyhow::Result<()> {
        self.producer.flush(Duration::from_secs(60))?;
        let acknowledged = self.fates.acknowledged.load(Ordering::Relaxed);
        let failed = self.fates.failed.load(Ordering::Relaxed);
        anyhow::ensure!(
            acknowledged == self.sent && failed == 0,
            "{acknowledged} of {} records arrived, {failed} failed",
            self.sent
        );
        Ok(())
    }
}
