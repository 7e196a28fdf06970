//! The command line: what can be asked, and the printing of answers. The work itself is done elsewhere.

mod audit;
mod config;
mod correction;
mod destination;
mod key;
mod label;
mod migrate;
mod model;
mod route;
mod rule;
mod serve;
mod source;
mod topics;
mod user;

use clap::{Args, Parser, Subcommand};
use router_schemas::EventId;
use serde_json::Value;
use sqlx::PgPool;

use crate::{
    error::CommandError,
    output, publisher,
    settings::Settings,
    store::{Change, Wanted},
};

type Outcome = Result<(), CommandError>;

/// Settings of the webhook router: keys, sources, destinations, routes; what the classifier is taught; topics and
/// tables; the audit.
///
/// Reads DATABASE_URL, KAFKA_BROKERS (default 127.0.0.1:9092), TOPIC_PREFIX and MASTER_KEY from the
/// environment. A change is in force on every edge and worker once its command has returned.
#[derive(Debug, Parser)]
#[command(
    name = "control-plane",
    version,
    max_term_width = 100,
    after_help = "\
Exit codes: 0 done, 1 failed (or an audit found the ledgers out of balance), 64 wrong usage or configuration.

First steps:
  control-plane migrate
  control-plane topics create
  control-plane key create --name my-first-key
  control-plane destination create --name app --url https://example.com/hooks
  control-plane route create --name everything --destination app
  control-plane serve"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Brings the database's tables to this version; safe to run again
    Migrate(migrate::Migrate),
    /// Kafka topics
    #[command(subcommand)]
    Topics(topics::Topics),
    /// People who may sign in
    #[command(subcommand)]
    User(user::User),
    /// API keys that let webhooks in
    #[command(subcommand)]
    Key(key::Key),
    /// Senders of webhooks
    #[command(subcommand)]
    Source(source::Source),
    /// Where results are delivered
    #[command(subcommand)]
    Destination(destination::Destination),
    /// Which events go to which destinations
    #[command(subcommand)]
    Route(route::Route),
    /// Rules that say what a webhook is before any model is asked
    #[command(subcommand)]
    Rule(rule::Rule),
    /// Categories of your own, known by examples
    #[command(subcommand)]
    Label(label::Label),
    /// Events that were classified wrongly, so that the next like them is not
    #[command(subcommand)]
    Correction(correction::Correction),
    /// Which model classifies, and which is tried out beside it
    #[command(subcommand)]
    Model(model::Model),
    /// The topic that carries settings to edges and workers
    #[command(subcommand)]
    Config(config::Config),
    /// Counts what was accepted against what became of it; exits with 1 if something is missing
    Audit(audit::Audit),
    /// Publishes changes, listens to the data plane, answers /healthz, /readyz and /metrics
    Serve(serve::Serve),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// It did not do what it was asked.
    pub async fn run(self) -> Outcome {
        // A command speaks through its answer and its error; logs are for `serve`, and for who asks.
        if matches!(self.command, Command::Serve(_))
            || router_runtime::env::text("RUST_LOG").is_some()
        {
            router_runtime::telemetry::init("control-plane");
        }
        let settings = Settings::from_env()?;
        match self.command {
            Command::Migrate(command) => command.run(&settings).await,
            Command::Topics(command) => command.run(&settings).await,
            Command::User(command) => command.run(&settings).await,
            Command::Key(command) => command.run(&settings).await,
            Command::Source(command) => command.run(&settings).await,
            Command::Destination(command) => command.run(&settings).await,
            Command::Route(command) => command.run(&settings).await,
            Command::Rule(command) => command.run(&settings).await,
            Command::Label(command) => command.run(&settings).await,
            Command::Correction(command) => command.run(&settings).await,
            Command::Model(command) => command.run(&settings).await,
            Command::Config(command) => command.run(&settings).await,
            Command::Audit(command) => command.run(&settings).await,
            Command::Serve(command) => command.run(&settings).await,
        }
    }
}

/// How the answer is printed.
#[derive(Debug, Clone, Copy, Args)]
struct Format {
    /// Print JSON instead of a text for people
    #[arg(long)]
    json: bool,
}

/// A command's hold on the tables.
struct Session<'a> {
    settings: &'a Settings,
    pool: PgPool,
}

impl<'a> Session<'a> {
    fn open(settings: &'a Settings) -> Result<Self, CommandError> {
        Ok(Self {
            settings,
            pool: settings.database(4)?,
        })
    }

    async fn change(&self) -> Result<Change, CommandError> {
        Ok(Change::begin(&self.pool, &self.settings.actor, self.settings.project_id).await?)
    }

    /// Commits, and returns once the change is acknowledged in the config topic.
    async fn publish(&self, change: Change) -> Outcome {
        let seqs = change.commit().await?;
        Ok(publisher::confirm(&self.pool, &self.settings.kafka, &seqs).await?)
    }
}

/// Says what was done, to people or to programs.
fn say(format: Format, json: &Value, text: &str) -> Outcome {
    if format.json {
        return Ok(output::json(json)?);
    }
    Ok(output::line(text)?)
}

/// A list that replaces the old one: none where nothing was given.
fn replacing<T>(given: Vec<T>, any: bool) -> Option<Vec<T>> {
    (any || !given.is_empty()).then_some(given)
}

/// An event's id as people give it.
fn event_id(text: &str) -> Result<EventId, CommandError> {
    text.parse().map_err(|_| {
        CommandError::Usage(format!(
            "event: {text:?} is no event id; the edge answers each webhook with one, such as 01a20bc2-ebbf-70fe-8974-568b6173e849"
        ))
    })
}

fn wanted(texts: &[String]) -> Vec<Wanted> {
    texts
        .iter()
        .map(|text| Wanted::from(text.as_str()))
        .collect()
}
