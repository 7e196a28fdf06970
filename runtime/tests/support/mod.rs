//! Topics on the test stack, each test under a prefix of its own.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer},
};
use router_runtime::kafka::{GroupProtocol, KafkaSettings};

/// Settings of the test stack, or none with a message that the test was skipped.
pub fn stack(protocol: GroupProtocol) -> Option<KafkaSettings> {
    if std::env::var("ROUTER_TEST_STACK").is_err() {
        eprintln!("SKIPPED: needs the test stack; run it by `make test`");
        return None;
    }
    router_runtime::telemetry::init("test");
    let mut settings = KafkaSettings::from_env().unwrap();
    let id = uuid::Uuid::now_v7().simple().to_string();
    settings.topic_prefix = format!("t{}.", &id[20..]);
    settings.group_protocol = protocol;
    Some(settings)
}

pub async fn create_topics(settings: &KafkaSettings, topics: &[(&str, i32)]) {
    let admin: AdminClient<DefaultClientContext> = settings.client_config().create().unwrap();
    let names: Vec<String> = topics
        .iter()
        .map(|(name, _)| format!("{}{name}", settings.topic_prefix))
        .collect();
    let new: Vec<NewTopic<'_>> = names
        .iter()
        .zip(topics)
        .map(|(name, (_, partitions))| NewTopic::new(name, *partitions, TopicReplication::Fixed(1)))
        .collect();
    for result in admin
        .create_topics(&new, &AdminOptions::new())
        .await
        .unwrap()
    {
        result.unwrap();
    }
}

/// Writes `count` records with their number as the value, in turn over the partitions.
pub fn fill(settings: &KafkaSettings, topic: &str, partitions: i32, numbers: std::ops::Range<u32>) {
    let producer: BaseProducer = settings.producer_config().create().unwrap();
    let topic = format!("{}{topic}", settings.topic_prefix);
    for number in numbers {
        let value = number.to_string();
        let partition = i32::try_from(number).unwrap() % partitions;
        let record = BaseRecord::<[u8], str>::to(&topic)
            .partition(partition)
            .payload(value.as_str());
        producer.send(record).unwrap();
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(20)).unwrap();
}

/// How often each number was worked.
#[derive(Debug, Default, Clone)]
pub struct Seen(Arc<Mutex<BTreeMap<u32, u32>>>);

impl Seen {
    pub fn note(&self, number: u32) {
        *self.0.lock().unwrap().entry(number).or_default() += 1;
    }
    pub fn counts(&self) -> BTreeMap<u32, u32> {
        self.0.lock().unwrap().clone()
    }
    pub fn distinct(&self) -> usize {
        self.0.lock().unwrap().len()
    }
    pub fn more_than_once(&self) -> Vec<u32> {
        self.counts()
            .into_iter()
            .filter(|(_, count)| *count > 1)
            .map(|(n, _)| n)
            .collect()
    }
}

/// Waits until `done`, and fails with `what` after a while.
pub async fn until(what: &str, limit: Duration, done: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !done() {
        assert!(
            began.elapsed() < limit,
            "{what} did not happen within {limit:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}
