//! `topics create`.

use clap::{Args, Subcommand};
use router_schemas::topics::{DAY_MS, Ladder, TopicPlan};

use super::{Format, Outcome, Session};
use crate::{
    error::CommandError,
    output::{self, Table},
    republish,
    settings::Settings,
    topics,
};

#[derive(Debug, Subcommand)]
pub(super) enum Topics {
    /// Makes the topics that are missing and mends the settings of those that are there
    ///
    /// Running it again changes nothing. Partitions are only ever added, and then keys go to other
    /// partitions from that moment on. Whatever else was set on a topic stays.
    #[command(after_help = "\
Examples:
  control-plane topics create
  control-plane topics create --partitions 24 --raw-retention-days 14 --processed-retention-days 14")]
    Create(Create),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Partitions of every topic but control.config: the most workers of a role that can share the work
    #[arg(long, env = "TOPIC_PARTITIONS", default_value_t = 12)]
    partitions: i32,
    /// Copies of every record [default: 3, or as many as there are brokers]
    #[arg(long, env = "TOPIC_REPLICATION_FACTOR")]
    replication_factor: Option<i32>,
    /// How long webhooks and deliveries are kept, and can be replayed
    #[arg(long, env = "RAW_RETENTION_DAYS", default_value_t = 7)]
    raw_retention_days: u32,
    /// How long results and attempts are kept; no shorter than webhooks
    #[arg(long, env = "PROCESSED_RETENTION_DAYS", default_value_t = 7)]
    processed_retention_days: u32,
    /// How long an outage a waiting retry survives
    #[arg(long, env = "RETRY_SLACK_DAYS", default_value_t = 7)]
    retry_slack_days: u32,
    /// How long dead letters are kept; no shorter than webhooks
    #[arg(long, env = "DEAD_LETTER_RETENTION_DAYS", default_value_t = 30)]
    dead_letter_retention_days: u32,
    /// Largest body that the edge accepts; the same as the edge's BODY_LIMIT_BYTES
    #[arg(long, env = "BODY_LIMIT_BYTES", default_value_t = 5 * 1024 * 1024)]
    body_limit_bytes: u32,
    /// Delays of the retry topics, ascending; the same as the workers' RETRY_LADDER
    #[arg(long, env = "RETRY_LADDER", default_value = "1s,5s,30s,2m,10m,1h,6h")]
    retry_ladder: String,
    #[command(flatten)]
    format: Format,
}

impl Create {
    fn plan(&self) -> Result<TopicPlan, CommandError> {
        let ladder: Ladder = self
            .retry_ladder
            .parse()
            .map_err(|why| CommandError::Usage(format!("retry-ladder: {why}")))?;
        let days = |days: u32| i64::from(days) * DAY_MS;
        let plan = TopicPlan {
            partitions: self.partitions,
            body_limit_bytes: self.body_limit_bytes.into(),
            raw_retention_ms: days(self.raw_retention_days),
            processed_retention_ms: days(self.processed_retention_days),
            rung_slack_ms: days(self.retry_slack_days),
            dead_letter_retention_ms: days(self.dead_letter_retention_days),
            ladder,
        };
        plan.validate().map_err(CommandError::Usage)?;
        Ok(plan)
    }
}

impl Topics {
    pub(super) async fn run(self, settings: &Settings) -> Outcome {
        let Self::Create(create) = self;
        let reports =
            topics::create(&settings.kafka, &create.plan()?, create.replication_factor).await?;
        let raised = reports.iter().any(|report| {
            report
                .done
                .iter()
                .any(|done| matches!(done, topics::Done::PartitionsRaised { .. }))
        });
        if raised {
            eprintln!(
                "warning: partitions were added: keys go to other partitions from now on, so order is not kept across this moment"
            );
        }
        let config_topic = settings.kafka.names().config;
        let emptied = reports
            .iter()
            .any(|report| report.name == config_topic && report.is_new());
        if emptied {
            fill(settings).await?;
        }
        if create.format.json {
            return Ok(output::json(&reports)?);
        }
        let mut table =
            Table::new(&["topic", "partitions", "kept", "largest record", ""]).numeric(&[1, 3]);
        for report in reports {
            let done = report.done_text();
            table.row([
                report.name,
                report.partitions.to_string(),
                report.retention,
                report.max_message_bytes.to_string(),
                done,
            ]);
        }
        Ok(table.print()?)
    }
}

/// A config topic that was just made is empty: what stands in the tables is written to it at once.
async fn fill(settings: &Settings) -> Outcome {
    if !settings.has_database() {
        eprintln!(
            "note: control.config is empty and DATABASE_URL is not set: edges and workers get ready once `control-plane config republish` (or `serve`) has run"
        );
        return Ok(());
    }
    let session = Session::open(settings)?;
    match republish::republish(&session.pool, &settings.kafka).await {
        Err(CommandError::Store(error)) => {
            eprintln!(
                "note: control.config is empty and could not be filled: {error}; then run `control-plane config republish`"
            );
            Ok(())
        }
        done => done.map(|_| ()),
    }
}
