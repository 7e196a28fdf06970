//! The `retry` role: one consumer for each rung. The head of a partition is always the next to go, so
//! waiting costs nothing and memory does not grow with the number parked.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use rdkafka::producer::{BaseProducer, Producer as _};
use router_runtime::{
    consumer::{
        BatchStage, ConsumerSettings, Effects, Envelope, Incoming, Outcome, Unreadable, run_batches,
    },
    kafka::KafkaSettings,
    lifecycle::{Readiness, Shutdown},
    now_ms,
};
use router_schemas::{
    DeliveryMeta,
    topics::{Ladder, Rung},
};

use super::{
    ladder::Plans,
    park::{Parking, hop_at_ms},
};

const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits out one rung.
struct RungStage {
    rung: Rung,
    parking: Parking,
    lateness: metrics::Histogram,
}

struct Waiting {
    meta: DeliveryMeta,
    content_type: Option<String>,
    hop_at_ms: i64,
}

impl BatchStage for RungStage {
    type In = Waiting;

    fn read(&self, record: &Incoming) -> Result<Waiting, Unreadable> {
        let (meta, content_type) = DeliveryMeta::read(record.headers())?;
        meta.check_times(record.timestamp_ms())?;
        let parked = meta
            .parked
            .as_ref()
            .ok_or(Unreadable("the delivery is not parked".into()))?;
        let hop_at_ms = hop_at_ms(parked, self.rung, record.timestamp_ms());
        Ok(Waiting {
            meta,
            content_type,
            hop_at_ms,
        })
    }

    fn not_before_ms(&self, waiting: &Waiting) -> i64 {
        waiting.hop_at_ms
    }

    async fn work(&self, batch: Vec<Envelope<Waiting>>) -> Vec<Outcome> {
        let now = now_ms();
        let hop = |envelope: Envelope<Waiting>| {
            let Envelope {
                value:
                    Waiting {
                        meta,
                        content_type,
                        hop_at_ms,
                    },
                record,
            } = envelope;
            self.lateness.record((now - hop_at_ms).max(0) as f64 / 1e3);
            let last = meta
                .parked
                .as_ref()
                .is_none_or(|parked| parked.rungs.is_empty());
            let label = if last { "due" } else { "hopped" };
            let payload = record.payload_bytes();
            let next = self
                .parking
                .hop(meta, now, record.key(), payload, content_type.as_deref());
            Outcome::emit(label, vec![next])
        };
        batch.into_iter().map(hop).collect()
    }
}

/// The rungs of the ladder, and those that it had before and whose topics are still there: what is parked in them
/// must come out. None where the process is to stop before Kafka has answered.
async fn rungs_to_serve(
    kafka: &KafkaSettings,
    ladder: &Ladder,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<Vec<Rung>>> {
    let config = kafka.client_config();
    let client: Arc<BaseProducer> = Arc::new(config.create().context("cannot make a client")?);
    let prefix = kafka.names().group("webhooks.retry.");
    while !shutdown.requested() {
        let asked = Arc::clone(&client);
        let metadata = tokio::task::spawn_blocking(move || {
            asked.client().fetch_metadata(None, METADATA_TIMEOUT)
        });
        match metadata.await? {
            Ok(metadata) => {
                let topics = metadata.topics().iter().map(|topic| topic.name());
                let there = topics.filter_map(|name| name.strip_prefix(&prefix)?.parse().ok());
                let mut rungs = ladder.rungs().to_vec();
                for rung in there {
                    if !rungs.contains(&rung) {
                        tracing::info!(%rung, "a delay that the ladder no longer has: what waits there comes out");
                        rungs.push(rung);
                    }
                }
                return Ok(Some(rungs));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot list the delay topics yet");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
    Ok(None)
}

/// Runs a consumer for each rung until `shutdown`.
///
/// # Errors
/// A consumer cannot be made, or ended for a reason that only a new process can mend.
pub async fn run(
    kafka: &KafkaSettings,
    ladder: &Ladder,
    instance_id: Option<&str>,
    effects: &Effects,
    readiness: &Readiness,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let names = kafka.names();
    let parking = Parking::new(Plans::new(ladder.clone()), &names);
    let mut rungs = tokio::task::JoinSet::new();
    let Some(serving) = rungs_to_serve(kafka, ladder, shutdown).await? else {
        return Ok(());
    };
    for rung in &serving {
        // Stages are few and live as long as the process, so their names may.
        let stage: &'static str = Box::leak(format!("retry.{rung}").into_boxed_str());
        let mut settings = ConsumerSettings::new(kafka.clone(), stage, vec![names.retry(*rung)]);
        settings.instance_id = instance_id.map(ToOwned::to_owned);
        // What waits must wait in Kafka: each partition holds one head and a little prefetch.
        settings.prefetch_kbytes = 64;
        settings.max_in_flight = 2_048;
        settings.max_in_flight_bytes = 16 << 20;
        settings.commit_interval = Duration::from_millis(500);
        let stage = RungStage {
            rung: *rung,
            parking: parking.clone(),
            lateness: metrics::histogram!("router_retry_hop_lateness_seconds", "rung" => rung.to_string()),
        };
        rungs.spawn(run_batches(
            settings,
            Arc::new(stage),
            effects.clone(),
            readiness.part(&format!("retry.{rung}")),
            shutdown.clone(),
        ));
    }
    while let Some(ended) = rungs.join_next().await {
        if let Err(error) = ended? {
            shutdown.fail(&format!("{error:#}"));
        }
    }
    Ok(())
}
