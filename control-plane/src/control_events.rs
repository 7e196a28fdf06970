//! What the data plane tells the control plane (`control.events`), and what follows from it.
//!
//! A destination that answered `410 Gone` is disabled, with the reason, as any change is: row, outbox and
//! audit log together. Working an event twice changes nothing. The offset moves only after the commit, so
//! while PostgreSQL is down events wait in the topic.

use std::time::Duration;

use router_runtime::{
    consumer::{
        self, ConsumerSettings, EachStage, Effects, Envelope, Incoming, Outcome, Unreadable,
    },
    kafka::KafkaSettings,
    lifecycle::{ReadinessPart, Shutdown},
};
use router_schemas::{DestinationId, ProjectId, events::ControlEvent};
use sqlx::PgPool;

use crate::store::{Change, StoreError, Wanted, destinations};

/// Name of the stage: consumer group, metric label, actor in the audit log.
const STAGE: &str = "control-events";
/// Between two tries while PostgreSQL does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// The stage that works control events.
pub struct ControlEvents {
    pool: PgPool,
    shutdown: Shutdown,
}

impl EachStage for ControlEvents {
    type In = ControlEvent;

    fn read(&self, record: &Incoming) -> Result<ControlEvent, Unreadable> {
        Ok(serde_json::from_slice(record.payload())?)
    }

    async fn process(&self, envelope: Envelope<ControlEvent>) -> Outcome {
        let mut said = false;
        loop {
            match apply(&self.pool, &envelope.value).await {
                Ok(label) => return Outcome::done(label),
                Err(error) if is_final(&error) => {
                    return Outcome::reject("refused_by_database", error.to_string());
                }
                Err(error) if !said => {
                    said = true;
                    tracing::error!(%error, "a control event waits for PostgreSQL");
                }
                Err(_) => {}
            }
            if self.shutdown.requested() {
                // Never finished: the event is read again after the restart.
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Whether trying again cannot help: the event itself is refused. Everything else (no server, no tables
/// yet, a deadlock, a full disk) passes.
fn is_final(error: &StoreError) -> bool {
    match error {
        StoreError::Invalid(_) | StoreError::Conflict(_) | StoreError::NameTaken { .. } => true,
        StoreError::Database(error) => {
            // Classes of SQLSTATE: 22 data exception, 23 integrity constraint violation.
            let code = error.as_database_error().and_then(|told| told.code());
            code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
        }
        StoreError::NotFound { .. } | StoreError::NotMigrated | StoreError::Unreachable(_) => false,
    }
}

/// Does what an event asks for; returns the outcome's label.
///
/// # Errors
/// PostgreSQL does not answer or refuses.
pub async fn apply(pool: &PgPool, event: &ControlEvent) -> Result<&'static str, StoreError> {
    match event {
        ControlEvent::DestinationGone {
            project_id,
            destination_id,
            delivery_id,
            ..
        } => {
            let reason = format!("it answered 410 Gone to delivery {delivery_id}");
            disable(pool, *project_id, *destination_id, &reason).await
        }
    }
}

async fn disable(
    pool: &PgPool,
    project: ProjectId,
    id: DestinationId,
    reason: &str,
) -> Result<&'static str, StoreError> {
    let mut change = Change::begin(pool, STAGE, project).await?;
    let done = destinations::set_disabled(&mut change, &Wanted::Id(id.0), true, Some(reason)).await;
    match done {
        Ok((destination, true)) => {
            change.commit().await?;
            tracing::warn!(destination = %destination.id, name = destination.name, reason, "destination disabled");
            Ok("disabled")
        }
        Ok((_, false)) => Ok("unchanged"),
        Err(StoreError::NotFound { .. }) => Ok("unknown_destination"),
        Err(error) => Err(error),
    }
}

/// Follows the topic until `shutdown`, then drains.
///
/// # Errors
/// The consumer cannot be made, or ended for a reason that only a new process can mend.
pub async fn follow(
    pool: PgPool,
    kafka: &KafkaSettings,
    ready: ReadinessPart,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut settings = ConsumerSettings::new(kafka.clone(), STAGE, vec![kafka.names().events]);
    // Rare and small: a few at a time keep their order close and the database calm.
    settings.max_in_flight = 16;
    settings.prefetch_kbytes = 256;
    let effects = Effects::new(kafka, &shutdown)?;
    let stage = ControlEvents {
        pool,
        shutdown: shutdown.clone(),
    };
    consumer::run_each(settings, stage.into(), effects, ready, shutdown).await
}
