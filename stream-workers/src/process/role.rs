//! The `process` role: one consumer for live traffic and one for replays, through the same model.

use std::{path::PathBuf, sync::Arc, time::Duration};

use router_runtime::{
    config_view,
    consumer::{ConsumerSettings, Effects, run_batches},
    env,
    kafka::KafkaSettings,
    lifecycle::{Readiness, Shutdown},
};
use router_schemas::config::ModelConfig;

use super::{
    compose::Outlets,
    stage::{Meters, ProcessStage, Shared},
};
use crate::{
    classify::{self, Classifier, Models},
    directory::Directory,
    extract::Extractor,
};

/// Batches worked at a time by each consumer.
const PARALLEL_BATCHES: usize = 2;

/// Live traffic comes in small portions; a few milliseconds make one answer of many.
const FETCH: (u32, Duration) = (64 << 10, Duration::from_millis(5));

/// How soon another model is noticed.
const MODEL_TICK: Duration = Duration::from_millis(250);

/// Settings of the role, from the environment.
#[derive(Debug, Clone)]
pub struct ProcessSettings {
    /// None: rules alone decide.
    pub model: Option<ModelPlace>,
    pub body_limit_bytes: usize,
}

/// Where the model and what runs it are.
#[derive(Debug, Clone)]
pub struct ModelPlace {
    pub dir: PathBuf,
    pub library: PathBuf,
}

impl ProcessSettings {
    /// # Errors
    /// Model or library are not found, or a variable cannot be read.
    pub fn from_env() -> anyhow::Result<Self> {
        let model = match env::text("CLASSIFIER").as_deref() {
            None | Some("model") => Some(ModelPlace {
                dir: classify::model_dir()?,
                library: classify::library()?,
            }),
            Some("rules") => None,
            Some(other) => anyhow::bail!("CLASSIFIER is `model` or `rules`, not {other:?}"),
        };
        Ok(Self {
            model,
            body_limit_bytes: env::or("BODY_LIMIT_BYTES", 5 * 1024 * 1024)?,
        })
    }

    /// With the models that are wanted, so that nothing is classified by one that was replaced.
    fn classifier(&self, wanted: &ModelConfig) -> anyhow::Result<Classifier> {
        let Some(place) = &self.model else {
            tracing::warn!(
                "CLASSIFIER=rules: no model is asked, and what no rule decides is `other`"
            );
            return Ok(Classifier::rules_alone());
        };
        let models = Models::load(&place.library, &place.dir, wanted)?;
        let version = models.in_force().current.version().to_owned();
        tracing::info!(version, dir = %place.dir.display(), "model loaded");
        Ok(Classifier::new(models))
    }
}

/// Runs both consumers until `shutdown`.
///
/// # Errors
/// The model cannot be loaded, a consumer cannot be made, or one ended for a reason that only a new
/// process can mend.
pub async fn run(
    kafka: &KafkaSettings,
    settings: ProcessSettings,
    instance_id: Option<&str>,
    effects: &Effects,
    readiness: &Readiness,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let names = kafka.names();
    let directory = Arc::new(Directory::default());
    let config_position = config_view::follow(
        kafka,
        Arc::clone(&directory),
        readiness.part("config"),
        shutdown.clone(),
    )?;
    if !config_position.completed(shutdown).await {
        return Ok(());
    }
    let classifier = settings.classifier(&directory.snapshot().model)?;
    let stage = ProcessStage(Arc::new(Shared {
        directory,
        config_position,
        meters: Meters::default(),
        classifier,
        extractor: Extractor::default(),
        outlets: Outlets::new(&names),
        body_limit_bytes: settings.body_limit_bytes,
    }));
    let mut running = tokio::task::JoinSet::new();
    let following = tokio::spawn(follow_models(stage.clone()));
    for (name, topic) in [("process", names.raw), ("reprocess", names.replay)] {
        let mut consumer = ConsumerSettings::new(kafka.clone(), name, vec![topic]);
        consumer.instance_id = instance_id.map(ToOwned::to_owned);
        consumer.parallel_batches = PARALLEL_BATCHES;
        if name == "process" {
            (consumer.fetch_min_bytes, consumer.fetch_wait) = FETCH;
        }
        let stage = Arc::new(stage.clone());
        let ready = readiness.part(name);
        running.spawn(run_batches(
            consumer,
            stage,
            effects.clone(),
            ready,
            shutdown.clone(),
        ));
    }
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended? {
            shutdown.fail(&format!("{error:#}"));
        }
    }
    following.abort();
    Ok(())
}

/// Sees to it that the models that are wanted are in force, whether or not webhooks come.
async fn follow_models(stage: ProcessStage) {
    let mut ticks = tokio::time::interval(MODEL_TICK);
    loop {
        ticks.tick().await;
        let shared = Arc::clone(&stage.0);
        let follow = move || shared.classifier.follow(&shared.directory.snapshot().model);
        if let Err(error) = tokio::task::spawn_blocking(follow).await {
            tracing::error!(%error, "a model could not be loaded");
        }
    }
}
