//! Where Kafka is and how to speak to it. About ten settings are typed; anything else of librdkafka's
//! passes through a free map (`KAFKA_PROPERTIES`, a JSON object) and wins over ours.

use std::{collections::BTreeMap, fmt, str::FromStr};

use anyhow::Context;
use rdkafka::ClientConfig;
use router_schemas::topics::{Ladder, TopicNames};

use crate::env;

/// Which protocol consumer groups speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupProtocol {
    /// Cooperative-sticky assignment by the clients.
    Classic,
    /// KIP-848: assignment by the broker. Session timeout is the broker's setting.
    Consumer,
}

impl FromStr for GroupProtocol {
    type Err = &'static str;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "classic" => Ok(Self::Classic),
            "consumer" => Ok(Self::Consumer),
            _ => Err("must be classic or consumer"),
        }
    }
}

#[derive(Clone)]
pub struct KafkaSettings {
    /// `host:port`, comma separated.
    pub brokers: String,
    /// Passed to librdkafka as they are.
    pub properties: BTreeMap<String, String>,
    pub group_protocol: GroupProtocol,
    pub topic_prefix: String,
    /// After this long without a heartbeat another member takes over (classic protocol only).
    pub session_timeout_ms: u32,
}

/// Settings are written to the log at start: of the free map, only the names are.
impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("properties", &self.properties.keys())
            .field("group_protocol", &self.group_protocol)
            .field("topic_prefix", &self.topic_prefix)
            .field("session_timeout_ms", &self.session_timeout_ms)
            .finish()
    }
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            properties: BTreeMap::new(),
            group_protocol: GroupProtocol::Classic,
            topic_prefix: String::new(),
            session_timeout_ms: 6_000,
        }
    }
}

impl KafkaSettings {
    /// Reads `KAFKA_BROKERS`, `KAFKA_PROPERTIES`, `KAFKA_GROUP_PROTOCOL`, `KAFKA_SESSION_TIMEOUT_MS`
    /// and `TOPIC_PREFIX`.
    ///
    /// # Errors
    /// A variable is set and cannot be read.
    pub fn from_env() -> anyhow::Result<Self> {
        let default = Self::default();
        let properties = match env::text("KAFKA_PROPERTIES") {
            None => BTreeMap::new(),
            Some(json) => serde_json::from_str(&json).context(
                "KAFKA_PROPERTIES must be a JSON object of strings, such as {\"security.protocol\":\"SASL_SSL\"}",
            )?,
        };
        Ok(Self {
            brokers: env::or("KAFKA_BROKERS", default.brokers)?,
            properties,
            group_protocol: env::or("KAFKA_GROUP_PROTOCOL", default.group_protocol)?,
            topic_prefix: env::text("TOPIC_PREFIX").unwrap_or_default(),
            session_timeout_ms: env::or("KAFKA_SESSION_TIMEOUT_MS", default.session_timeout_ms)?,
        })
    }

    #[must_use]
    pub fn names(&self) -> TopicNames {
        TopicNames::new(&self.topic_prefix)
    }

    /// Bootstrap servers and the free map; the base of every client.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        self.with(&[])
    }

    /// An idempotent producer that waits for all in-sync replicas. `linger.ms` is 0: batches form by
    /// themselves while a request is in flight, and waiting only adds latency.
    #[must_use]
    pub fn producer_config(&self) -> ClientConfig {
        self.with(&[
            ("enable.idempotence", "true"),
            ("acks", "all"),
            // The same partitions as the Java client chooses.
            ("partitioner", "murmur2_random"),
            ("linger.ms", "0"),
            ("message.max.bytes", "15000000"),
            ("queue.buffering.max.messages", "1000000"),
            ("queue.buffering.max.kbytes", "1048576"),
        ])
    }

    /// Ours first, then the free map, so that an operator's setting wins.
    #[must_use]
    pub fn with(&self, ours: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config.set("client.id", "webhook-router");
        // A broker that is back should not be waited for as long as it was away.
        config.set("reconnect.backoff.max.ms", "1000");
        for (name, value) in ours {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }
}

/// `RETRY_LADDER`, or the default one.
///
/// # Errors
/// The variable is set and is not a ladder.
pub fn ladder_from_env() -> anyhow::Result<Ladder> {
    env::or("RETRY_LADDER", Ladder::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_the_free_map_are_not_printed() {
        let settings = KafkaSettings {
            properties: [("sasl.password".to_owned(), "hush".to_owned())].into(),
            ..KafkaSettings::default()
        };
        assert!(!format!("{settings:?}").contains("hush"));
    }

    #[test]
    fn the_free_map_wins_over_our_settings() {
        let settings = KafkaSettings {
            properties: [("linger.ms".to_owned(), "7".to_owned())].into(),
            ..KafkaSettings::default()
        };
        let config = settings.producer_config();
        assert_eq!(config.get("linger.ms"), Some("7"));
        assert_eq!(config.get("acks"), Some("all"));
    }
}
