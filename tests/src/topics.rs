//! Topics seen from outside the product.

use std::time::Duration;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::{Header, Headers, Message, OwnedHeaders},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use router_runtime::kafka::KafkaSettings;

const PATIENCE: Duration = Duration::from_secs(15);

/// A record of a topic.
#[derive(Debug, Clone)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Vec<u8>,
    pub payload: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// # Panics
    /// The value is not JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload).expect("the value is JSON")
    }
}

/// All that a topic holds at this moment.
///
/// # Panics
/// Kafka does not answer.
#[must_use]
pub fn read_topic(kafka: &KafkaSettings, topic: &str) -> Vec<Record> {
    let config = kafka.with(&[
        ("group.id", "e2e"),
        ("enable.auto.commit", "false"),
        ("isolation.level", "read_committed"),
    ]);
    let consumer: BaseConsumer = config.create().expect("a consumer is made");
    let metadata = consumer
        .fetch_metadata(Some(topic), PATIENCE)
        .expect("Kafka answers");
    let mut list = TopicPartitionList::new();
    let mut left: std::collections::HashMap<i32, i64> = std::collections::HashMap::new();
    for partition in metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions())
    {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition.id(), PATIENCE)
            .expect("watermarks");
        if low < high {
            left.insert(partition.id(), high);
            list.add_partition_offset(topic, partition.id(), Offset::Beginning)
                .expect("a partition");
        }
    }
    consumer.assign(&list).expect("assigned");
    let mut records = Vec::new();
    let mut silent = 0;
    // Markers of transactions stand at ends without being handed out: silence ends the reading as well.
    while !left.is_empty() && silent < 10 {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else {
            silent += 1;
            continue;
        };
        silent = 0;
        let headers = message
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter());
        records.push(Record {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().unwrap_or_default().to_vec(),
            payload: message.payload().unwrap_or_default().to_vec(),
            headers: headers
                .map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec()))
                .collect(),
        });
        if left
            .get(&message.partition())
            .is_some_and(|end| message.offset() + 1 >= *end)
        {
            left.remove(&message.partition());
        }
    }
    records
}

/// Puts a record into a topic, as a stranger could; without a value it is a tombstone.
///
/// # Panics
/// Kafka does not take it.
pub fn produce(
    kafka: &KafkaSettings,
    topic: &str,
    key: &[u8],
    value: Option<&[u8]>,
    headers: &[(&str, &[u8])],
) {
    let producer: ThreadedProducer<DefaultProducerContext> = kafka
        .producer_config()
        .create()
        .expect("a producer is made");
    let mut list = OwnedHeaders::new();
    for (name, value) in headers {
        list = list.insert(Header {
            key: name,
            value: Some(*value),
        });
    }
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).key(key).headers(list);
    record.payload = value;
    producer.send(record).map_err(|(e, _)| e).expect("queued");
    producer.flush(PATIENCE).expect("Kafka takes it");
}
