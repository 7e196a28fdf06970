//! The `deliver` role: one consumer for first attempts and one for redeliveries, each with its own
//! budget, both through the same lanes.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use router_runtime::{
    config_view,
    consumer::{ConsumerSettings, Effects, run_each},
    crypto::MasterKey,
    env,
    kafka::KafkaSettings,
    lifecycle::{Readiness, Shutdown},
};
use router_schemas::topics::Ladder;

use super::{
    address::AddressPolicy,
    client::Sender,
    lanes::Share,
    stage::{DeliverStage, Shared},
};
use crate::{
    directory::Directory,
    retry::{ladder::Plans, park::Parking},
};

/// First attempts come in small portions; a few milliseconds make one answer of many.
const FETCH: (u32, Duration) = (64 << 10, Duration::from_millis(5));

/// Settings of the role, from the environment.
#[derive(Debug, Clone)]
pub struct DeliverSettings {
    pub allowed: AddressPolicy,
    pub master_key: MasterKey,
    pub max_in_flight: usize,
}

impl DeliverSettings {
    /// # Errors
    /// `MASTER_KEY` is missing, or a variable cannot be read.
    pub fn from_env() -> anyhow::Result<Self> {
        let list = env::text("DESTINATION_ALLOW_CIDRS").unwrap_or_default();
        Ok(Self {
            allowed: AddressPolicy::parse(&list).context("DESTINATION_ALLOW_CIDRS")?,
            master_key: MasterKey::from_env()?.context(
                "MASTER_KEY is not set: deliveries are signed with secrets that it opens (the control plane's key)",
            )?,
            max_in_flight: env::or("DELIVER_MAX_IN_FLIGHT", 4_096)?,
        })
    }
}

/// Runs both consumers until `shutdown`.
///
/// # Errors
/// A consumer cannot be made, or ended for a reason that only a new process can mend.
pub async fn run(
    kafka: &KafkaSettings,
    ladder: &Ladder,
    settings: DeliverSettings,
    instance_id: Option<&str>,
    effects: &Effects,
    readiness: &Readiness,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let names = kafka.names();
    let directory = Arc::new(Directory::new(Some(settings.master_key)));
    let config_position = config_view::follow(
        kafka,
        Arc::clone(&directory),
        readiness.part("config"),
        shutdown.clone(),
    )?;
    if !config_position.completed(shutdown).await {
        return Ok(());
    }
    let shared = Arc::new(Shared::new(
        directory,
        config_position,
        Sender::new(settings.allowed)?,
        Parking::new(Plans::new(ladder.clone()), &names),
        &names,
    ));
    // What was accepted must not wait for what comes late, so each has its own consumer and budget.
    let consumers = [
        (
            "deliver",
            names.deliveries,
            Share::First,
            settings.max_in_flight,
        ),
        (
            "redeliver",
            names.redeliveries,
            Share::Late,
            settings.max_in_flight / 4,
        ),
    ];
    let mut running = tokio::task::JoinSet::new();
    for (stage, topic, share, max_in_flight) in consumers {
        let mut consumer = ConsumerSettings::new(kafka.clone(), stage, vec![topic]);
        consumer.instance_id = instance_id.map(ToOwned::to_owned);
        consumer.max_in_flight = max_in_flight.max(1);
        if share == Share::First {
            (consumer.fetch_min_bytes, consumer.fetch_wait) = FETCH;
        }
        let stage_of = DeliverStage {
            shared: Arc::clone(&shared),
            share,
        };
        running.spawn(run_each(
            consumer,
            Arc::new(stage_of),
            effects.clone(),
            readiness.part(stage),
            shutdown.clone(),
        ));
    }
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended? {
            shutdown.fail(&format!("{error:#}"));
        }
    }
    Ok(())
}
