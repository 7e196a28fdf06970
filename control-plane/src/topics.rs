//! Makes the topics and keeps them as planned: partitions, retention, sizes, replication.
//!
//! Running it again changes nothing. Partitions are only ever added, settings that an operator made beside
//! ours stay. What a topic is asked to be is decided by [`TopicPlan`]; here it is only carried out.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rdkafka::{
    admin::{
        AdminClient, AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic,
        OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    error::RDKafkaErrorCode,
};
use router_runtime::kafka::KafkaSettings;
use router_schemas::topics::{Cleanup, DAY_MS, TopicPlan, TopicSpec};
use serde::Serialize;

const TIMEOUT: Duration = Duration::from_secs(15);

/// What became of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicReport {
    pub name: String,
    pub partitions: i32,
    pub retention: String,
    pub max_message_bytes: i64,
    pub done: Vec<Done>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    Created,
    /// Keys go to other partitions from now on: order is not kept across this moment.
    PartitionsRaised {
        from: i32,
    },
    /// The topic has more partitions than asked for; they cannot be taken away.
    PartitionsKept {
        asked: i32,
    },
    Configured {
        settings: Vec<String>,
    },
}

impl TopicReport {
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.done.contains(&Done::Created)
    }

    /// For people.
    #[must_use]
    pub fn done_text(&self) -> String {
        let texts: Vec<String> = self.done.iter().map(Done::text).collect();
        if texts.is_empty() {
            "as asked".into()
        } else {
            texts.join("; ")
        }
    }
}

impl Done {
    fn text(&self) -> String {
        match self {
            Self::Created => "created".into(),
            Self::PartitionsRaised { from } => format!("partitions raised from {from}"),
            Self::PartitionsKept { asked } => {
                format!("has more partitions than the {asked} asked for")
            }
            Self::Configured { settings } => format!("set {}", settings.join(", ")),
        }
    }
}

/// Makes what is missing and mends what differs.
///
/// # Errors
/// The plan does not hold together, Kafka does not answer, or it refuses.
pub async fn create(
    kafka: &KafkaSettings,
    plan: &TopicPlan,
    replication_factor: Option<i32>,
) -> anyhow::Result<Vec<TopicReport>> {
    if let Err(why) = plan.validate() {
        bail!("{why}");
    }
    let admin = Admin::connect(kafka)?;
    let cluster = admin.cluster().await?;
    let replicas = replication(replication_factor, cluster.brokers)?;
    let specs = plan.topics(&kafka.names());
    let (existing, missing): (Vec<_>, Vec<_>) = specs
        .iter()
        .partition(|spec| cluster.topics.contains_key(&spec.name));
    admin.make(&missing, replicas).await?;
    let configs = admin.configs(&existing).await?;
    let mut reports = Vec::with_capacity(specs.len());
    for spec in &specs {
        let mut report = report(spec);
        match cluster.topics.get(&spec.name) {
            None => report.done.push(Done::Created),
            Some(partitions) => {
                admin
                    .mend_partitions(spec, *partitions, &mut report)
                    .await?;
                admin
                    .mend_settings(spec, replicas, &configs, &mut report)
                    .await?;
            }
        }
        reports.push(report);
    }
    Ok(reports)
}

fn report(spec: &TopicSpec) -> TopicReport {
    TopicReport {
        name: spec.name.clone(),
        partitions: spec.partitions,
        retention: match spec.cleanup {
            Cleanup::Compact => "compacted".into(),
            Cleanup::Delete { retention_ms } if retention_ms % DAY_MS == 0 => {
                format!("{} d", retention_ms / DAY_MS)
            }
            Cleanup::Delete { retention_ms } => {
                format!("{:.1} d", retention_ms as f64 / DAY_MS as f64)
            }
        },
        max_message_bytes: spec.max_message_bytes,
        done: Vec::new(),
    }
}

/// Replication of every topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Replicas {
    factor: i32,
    in_sync: i32,
}

/// Three replicas of which two must have a record, as far as there are brokers for it.
fn replication(asked: Option<i32>, brokers: usize) -> anyhow::Result<Replicas> {
    let brokers = i32::try_from(brokers).unwrap_or(i32::MAX).max(1);
    let factor = asked.unwrap_or(brokers.min(3));
    if factor < 1 || factor > brokers {
        bail!("a replication factor of {factor} cannot be had from {brokers} broker(s)");
    }
    Ok(Replicas {
        factor,
        in_sync: if factor >= 3 { 2 } else { 1 },
    })
}

/// The settings a topic is asked to have. Those that would otherwise come from the broker's defaults and
/// could lose records (`retention.bytes`) are named as well.
fn settings(spec: &TopicSpec, replicas: Replicas) -> BTreeMap<&'static str, String> {
    let mut settings = BTreeMap::from([
        ("min.insync.replicas", replicas.in_sync.to_string()),
        ("max.message.bytes", spec.max_message_bytes.to_string()),
        // Retention counts from when the broker has a record, so that a replay or a hop is not expired at once.
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("unclean.leader.election.enable", "false".to_owned()),
    ]);
    match spec.cleanup {
        Cleanup::Delete { retention_ms } => settings.extend([
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", retention_ms.to_string()),
            // A bound by size would throw away what retries and replays still need.
            ("retention.bytes", "-1".to_owned()),
            // Only closed segments are deleted: with one a day, retention holds to within a day.
            ("segment.ms", DAY_MS.to_string()),
        ]),
        // Every edge and worker reads this topic from its start: small segments, closed every ten minutes
        // and compacted when a tenth of them is old, keep it near the size of the settings themselves.
        // Tombstones stay a day, far longer than reading takes.
        Cleanup::Compact => settings.extend([
            ("cleanup.policy", "compact".to_owned()),
            ("segment.ms", "600000".to_owned()),
            ("segment.bytes", (16 * 1024 * 1024).to_string()),
            ("min.cleanable.dirty.ratio", "0.1".to_owned()),
            ("min.compaction.lag.ms", "0".to_owned()),
            ("max.compaction.lag.ms", (DAY_MS / 24).to_string()),
            ("delete.retention.ms", DAY_MS.to_string()),
        ]),
    }
    settings
}

/// What there is: brokers, and topics with their partitions.
struct Cluster {
    brokers: usize,
    topics: HashMap<String, i32>,
}

/// Dynamic settings and effective values of one topic.
#[derive(Default)]
struct TopicConfig {
    own: BTreeMap<String, String>,
    effective: HashMap<String, String>,
}

struct Admin {
    client: AdminClient<DefaultClientContext>,
    options: AdminOptions,
    brokers: String,
}

impl Admin {
    fn connect(kafka: &KafkaSettings) -> anyhow::Result<Self> {
        let client = kafka
            .client_config()
            .create()
            .context("cannot make a client of Kafka")?;
        let options = AdminOptions::new()
            .request_timeout(Some(TIMEOUT))
            .operation_timeout(Some(TIMEOUT));
        Ok(Self {
            client,
            options,
            brokers: kafka.brokers.clone(),
        })
    }

    async fn cluster(&self) -> anyhow::Result<Cluster> {
        // Fetching metadata blocks; this command does nothing else meanwhile.
        let metadata =
            tokio::task::block_in_place(|| self.client.inner().fetch_metadata(None, TIMEOUT))
                .with_context(|| {
                    format!(
                        "Kafka at {} does not answer; check KAFKA_BROKERS and that it runs",
                        self.brokers
                    )
                })?;
        let topics = metadata
            .topics()
            .iter()
            .filter(|topic| !topic.partitions().is_empty());
        Ok(Cluster {
            brokers: metadata.brokers().len(),
            topics: topics
                .map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32))
                .collect(),
        })
    }

    async fn make(&self, specs: &[&TopicSpec], replicas: Replicas) -> anyhow::Result<()> {
        if specs.is_empty() {
            return Ok(());
        }
        let settings: Vec<_> = specs.iter().map(|spec| settings(spec, replicas)).collect();
        let topics: Vec<_> = specs
            .iter()
            .zip(&settings)
            .map(|(spec, settings)| {
                let topic = NewTopic::new(
                    &spec.name,
                    spec.partitions,
                    TopicReplication::Fixed(replicas.factor),
                );
                settings
                    .iter()
                    .fold(topic, |topic, (name, value)| topic.set(name, value))
            })
            .collect();
        for result in self.client.create_topics(&topics, &self.options).await? {
            match result {
                // Another run of this command was faster.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => bail!("Kafka does not create the topic {topic}: {code}"),
            }
        }
        Ok(())
    }

    async fn configs(&self, specs: &[&TopicSpec]) -> anyhow::Result<HashMap<String, TopicConfig>> {
        if specs.is_empty() {
            return Ok(HashMap::new());
        }
        let names: Vec<_> = specs
            .iter()
            .map(|spec| ResourceSpecifier::Topic(&spec.name))
            .collect();
        let described = self.client.describe_configs(&names, &self.options).await?;
        let mut configs = HashMap::new();
        for described in described {
            let described = described.context("Kafka does not describe a topic")?;
            let OwnedResourceSpecifier::Topic(topic) = described.specifier else {
                continue;
            };
            let mut config = TopicConfig::default();
            for entry in described.entries {
                let Some(value) = entry.value else { continue };
                if entry.source == ConfigSource::DynamicTopic {
                    config.own.insert(entry.name.clone(), value.clone());
                }
                config.effective.insert(entry.name, value);
            }
            configs.insert(topic, config);
        }
        Ok(configs)
    }

    async fn mend_partitions(
        &self,
        spec: &TopicSpec,
        partitions: i32,
        report: &mut TopicReport,
    ) -> anyhow::Result<()> {
        report.partitions = partitions.max(spec.partitions);
        if partitions > spec.partitions {
            report.done.push(Done::PartitionsKept {
                asked: spec.partitions,
            });
        }
        if partitions >= spec.partitions {
            return Ok(());
        }
        let wanted = NewPartitions::new(&spec.name, usize::try_from(spec.partitions).unwrap_or(1));
        for result in self
            .client
            .create_partitions(&[wanted], &self.options)
            .await?
        {
            if let Err((topic, code)) = result {
                bail!("Kafka does not raise the partitions of {topic}: {code}");
            }
        }
        report
            .done
            .push(Done::PartitionsRaised { from: partitions });
        Ok(())
    }

    async fn mend_settings(
        &self,
        spec: &TopicSpec,
        replicas: Replicas,
        configs: &HashMap<String, TopicConfig>,
        report: &mut TopicReport,
    ) -> anyhow::Result<()> {
        let Some(config) = configs.get(&spec.name) else {
            return Ok(());
        };
        let wanted = settings(spec, replicas);
        let differing: Vec<String> = wanted
            .iter()
            .filter(|(name, value)| config.effective.get(**name) != Some(*value))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if differing.is_empty() {
            return Ok(());
        }
        // This call replaces all settings of the topic: those that are not ours are sent along as they are.
        let mut all = config.own.clone();
        all.extend(
            wanted
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        let resource = AlterConfig::new(ResourceSpecifier::Topic(&spec.name));
        let altered = all.iter().fold(resource, |resource, (name, value)| {
            resource.set(name, value)
        });
        for result in self.client.alter_configs(&[altered], &self.options).await? {
            if let Err((_, code)) = result {
                bail!(
                    "Kafka does not change the settings of {}: {code}",
                    spec.name
                );
            }
        }
        report.done.push(Done::Configured {
            settings: differing,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replication_follows_the_brokers_there_are() {
        let of = |asked, brokers| {
            replication(asked, brokers)
                .map(|r| (r.factor, r.in_sync))
                .ok()
        };
        assert_eq!(of(None, 1), Some((1, 1)));
        assert_eq!(of(None, 2), Some((2, 1)));
        assert_eq!(of(None, 3), Some((3, 2)));
        assert_eq!(of(None, 9), Some((3, 2)));
        assert_eq!(of(Some(5), 9), Some((5, 2)));
        assert_eq!(of(Some(3), 1), None);
        assert_eq!(of(Some(0), 1), None);
    }

    #[test]
    fn no_topic_can_lose_records_by_a_default_of_the_broker() {
        let plan = TopicPlan::default();
        for spec in plan.topics(&router_schemas::topics::TopicNames::default()) {
            let settings = settings(
                &spec,
                Replicas {
                    factor: 1,
                    in_sync: 1,
                },
            );
            assert_eq!(settings["message.timestamp.type"], "LogAppendTime");
            match spec.cleanup {
                Cleanup::Delete { retention_ms } => {
                    assert_eq!(settings["retention.ms"], retention_ms.to_string());
                    assert_eq!(settings["retention.bytes"], "-1");
                }
                Cleanup::Compact => assert_eq!(settings["cleanup.policy"], "compact"),
            }
        }
    }
}
