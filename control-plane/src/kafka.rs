//! Configuration of Kafka clients that only the control plane makes.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
};
use router_runtime::kafka::KafkaSettings;

/// How long Kafka may take to answer a question about ends.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long a partition may be without a leader that is known: it was made a moment ago, or its broker was
/// lost. Longer than an election takes.
const ELECTION: Duration = Duration::from_secs(10);

/// The base of every client with settings of ours, over which the operator's free map wins.
pub(crate) fn with_ours(kafka: &KafkaSettings, ours: &[(&str, &str)]) -> ClientConfig {
    let mut config = kafka.client_config();
    for (name, value) in ours {
        if !kafka.properties.contains_key(*name) {
            config.set(*name, *value);
        }
    }
    config
}

/// The first and the next offset of a partition. Blocks.
///
/// # Errors
/// Kafka does not answer, or the partition does not exist.
pub(crate) fn watermarks<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
) -> KafkaResult<(i64, i64)> {
    let started = Instant::now();
    loop {
        match consumer.fetch_watermarks(topic, partition, TIMEOUT) {
            Err(KafkaError::MetadataFetch(
                Code::NotLeaderForPartition | Code::LeaderNotAvailable,
            )) if started.elapsed() < ELECTION => std::thread::sleep(Duration::from_millis(100)),
            answer => return answer,
        }
    }
}
