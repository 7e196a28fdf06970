//! Reads `control.config` from its start to its end, as it stands now.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::Message as _,
};
use router_runtime::kafka::KafkaSettings;

use crate::kafka::{watermarks, with_ours};

/// Nothing at all for this long while more is due is an error.
const STALL: Duration = Duration::from_secs(30);

/// What a reader sees who starts now: the last value of each key, by the key's bytes.
pub type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// Blocks while it reads; to be called on a thread for blocking work.
///
/// # Errors
/// Kafka does not answer, or the topic does not exist.
pub fn read(kafka: &KafkaSettings) -> anyhow::Result<Contents> {
    let config = with_ours(
        kafka,
        &[
            ("group.id", "control-plane-config-reader"),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            // The end is told by the first answer without records, which the broker holds back this long.
            ("fetch.wait.max.ms", "50"),
        ],
    );
    let consumer: BaseConsumer = config.create().context("cannot make a consumer")?;
    let topic = kafka.names().config;
    let (_, end) = match watermarks(&consumer, &topic, 0) {
        Ok(marks) => marks,
        Err(error) => bail!(
            "cannot read {topic} at {}: {error}; check that Kafka runs and that `control-plane topics create` has been run",
            kafka.brokers
        ),
    };
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Beginning)?;
    consumer.assign(&list)?;
    let mut contents = Contents::new();
    let mut heard = Instant::now();
    loop {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                let key = message.key().unwrap_or_default().to_vec();
                match message.payload() {
                    Some(value) => contents.insert(key, value.to_vec()),
                    None => contents.remove(&key),
                };
                if message.offset() + 1 >= end {
                    return Ok(contents);
                }
            }
            // Behind the last record may stand transaction markers, which are never handed out.
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(contents),
            Some(Err(error)) => bail!("reading {topic}: {error}"),
            None if heard.elapsed() > STALL => {
                bail!("reading {topic}: nothing came for {} s", STALL.as_secs())
            }
            None => {}
        }
    }
}
