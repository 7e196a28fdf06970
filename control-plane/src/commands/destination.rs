//! `destination create|update|list|disable|enable|delete`.

use clap::{Args, Subcommand, ValueEnum};
use router_schemas::config::BodyMode;
use serde_json::json;

use super::{Format, Outcome, Session};
use crate::{
    output::{self, Table},
    settings::Settings,
    store::{
        Wanted,
        destinations::{self, Secrets},
    },
    validate,
};

#[derive(Debug, Subcommand)]
pub(super) enum Destination {
    /// Adds a destination, with a signing secret that is printed once
    #[command(after_help = "\
Examples:
  control-plane destination create --name app --url https://example.com/hooks
  control-plane destination create --name slow --url https://example.com/slow --concurrency 2 --timeout-ms 30000 --max-attempts 20

Deliveries are signed as Standard Webhooks describes (webhook-id, webhook-timestamp, webhook-signature).
A destination receives nothing until a route names it: control-plane route create --name all --destination app")]
    Create(Create),
    /// Changes a destination, or rotates its signing secret
    #[command(after_help = "\
Examples:
  control-plane destination update app --timeout-ms 5000
  control-plane destination update app --rotate-secret      sign with the new and the old secret
  control-plane destination update app --drop-old-secret    once the receiver knows the new one")]
    Update(Update),
    /// Shows the destinations
    List(Format),
    /// Sends nothing to a destination until it is enabled again
    Disable(Disable),
    /// Sends to a disabled destination again
    Enable(Point),
    /// Deletes a destination; what still waits for it is cancelled
    Delete(Delete),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Body {
    /// The processed result as JSON, with the payload inside
    Result,
    /// The webhook's own body
    Raw,
}

#[derive(Debug, Args)]
struct Fields {
    /// What is sent [default: result]
    #[arg(long)]
    body: Option<Body>,
    /// From connecting to the status of the answer; its body has two seconds more. 100 to 60000 [default: 15000]
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u32>,
    /// Requests in flight, for each worker, 1 to 1024 [default: 32]
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// Attempts before it goes to the dead letters, 1 to 100 [default: 10]
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Age at which it goes to the dead letters [default: 172800]
    #[arg(long, value_name = "SECONDS")]
    max_age_s: Option<i64>,
    /// Delay before the second attempt [default: 5000]
    #[arg(long, value_name = "MS")]
    base_ms: Option<i64>,
    /// By how much each delay is longer than the one before, 1 to 100 [default: 4]
    #[arg(long)]
    factor: Option<f64>,
    /// Longest delay [default: 21600000]
    #[arg(long, value_name = "MS")]
    cap_ms: Option<i64>,
    /// Share of a delay that is added at random, 0 to 1 [default: 0.1]
    #[arg(long)]
    jitter: Option<f64>,
}

impl Fields {
    fn with_url(self, url: Option<String>) -> destinations::Fields {
        destinations::Fields {
            url,
            body: self.body.map(|body| match body {
                Body::Result => BodyMode::Result,
                Body::Raw => BodyMode::Raw,
            }),
            timeout_ms: self.timeout_ms,
            concurrency: self.concurrency,
            max_attempts: self.max_attempts,
            max_age_ms: self.max_age_s.map(|seconds| seconds.saturating_mul(1_000)),
            base_ms: self.base_ms,
            factor: self.factor,
            cap_ms: self.cap_ms,
            jitter: self.jitter,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[arg(long)]
    name: String,
    /// http:// or https://, without user name or fragment
    #[arg(long)]
    url: String,
    /// Signing secret: whsec_ and base64 of 24 to 64 bytes [default: a new one]
    #[arg(long)]
    secret: Option<String>,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// The destination's id or name
    destination: String,
    #[arg(long)]
    name: Option<String>,
    #[arg(long)]
    url: Option<String>,
    /// Sign with a new secret; the old one signs as well until it is dropped
    #[arg(long, conflicts_with = "drop_old_secret")]
    rotate_secret: bool,
    /// Rotate to this secret instead of a generated one
    #[arg(long, requires = "rotate_secret")]
    secret: Option<String>,
    /// End a rotation: only the newest secret signs
    #[arg(long)]
    drop_old_secret: bool,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Disable {
    /// The destination's id or name
    destination: String,
    /// Why, for whoever looks at it later
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Point {
    /// The destination's id or name
    destination: String,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The destination's id or name
    destination: String,
    /// Take it out of the routes that name it; a route left without any is disabled
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    format: Format,
}

impl Destination {
    pub(super) async fn run(self, settings: &Settings) -> Outcome {
        let session = Session::open(settings)?;
        match self {
            // Boxed: their futures hold all the fields.
            Self::Create(create) => Box::pin(create.run(&session)).await,
            Self::Update(update) => Box::pin(update.run(&session)).await,
            Self::List(format) => list(&session, format).await,
            Self::Disable(disable) => {
                set_disabled(
                    &session,
                    &disable.destination,
                    true,
                    disable.reason.as_deref(),
                    disable.format,
                )
                .await
            }
            Self::Enable(point) => {
                set_disabled(&session, &point.destination, false, None, point.format).await
            }
            Self::Delete(delete) => delete.run(&session).await,
        }
    }
}

impl Create {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let master = session.settings.master_key()?;
        let secret = self.secret.unwrap_or_else(validate::generate_secret);
        let mut change = session.change().await?;
        let fields = self.fields.with_url(Some(self.url));
        let destination =
            destinations::create(&mut change, &self.name, fields, &secret, &master).await?;
        let published = session.publish(change).await;
        if self.format.json {
            output::json(&json!({ "id": destination.id, "secret": secret }))?;
        } else {
            output::line(&format!(
                "destination {} ({}) at {}",
                destination.name, destination.id, destination.url
            ))?;
            output::line(&format!("signing secret (shown once): {secret}"))?;
        }
        published
    }
}

impl Update {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let (secrets, master, shown) = match (self.rotate_secret, self.drop_old_secret) {
            (true, _) => {
                let secret = self.secret.unwrap_or_else(validate::generate_secret);
                let master = session.settings.master_key()?;
                (
                    Secrets::Rotate { to: secret.clone() },
                    Some(master),
                    Some(secret),
                )
            }
            (false, true) => (Secrets::DropOld, None, None),
            (false, false) => (Secrets::Keep, None, None),
        };
        let mut change = session.change().await?;
        let wanted = Wanted::from(self.destination.as_str());
        let fields = self.fields.with_url(self.url);
        let destination = destinations::update(
            &mut change,
            &wanted,
            self.name.as_deref(),
            fields,
            (secrets, master.as_ref()),
        )
        .await?;
        let published = session.publish(change).await;
        if self.format.json {
            output::json(&json!({ "id": destination.id, "secret": shown }))?;
        } else {
            output::line(&format!(
                "destination {} ({}) updated",
                destination.name, destination.id
            ))?;
            if let Some(secret) = shown {
                output::line(&format!("new signing secret (shown once): {secret}"))?;
            }
        }
        published
    }
}

impl Delete {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let mut change = session.change().await?;
        let wanted = Wanted::from(self.destination.as_str());
        let (destination, routes) = destinations::delete(&mut change, &wanted, self.force).await?;
        session.publish(change).await?;
        if self.format.json {
            return Ok(output::json(
                &json!({ "id": destination.id, "deleted": true, "routes_changed": routes }),
            )?);
        }
        output::line(&format!(
            "destination {} ({}) is deleted",
            destination.name, destination.id
        ))?;
        if !routes.is_empty() {
            output::line(&format!("taken out of routes: {}", routes.join(", ")))?;
        }
        Ok(())
    }
}

async fn set_disabled(
    session: &Session<'_>,
    wanted: &str,
    disabled: bool,
    reason: Option<&str>,
    format: Format,
) -> Outcome {
    let mut change = session.change().await?;
    let (destination, _) =
        destinations::set_disabled(&mut change, &Wanted::from(wanted), disabled, reason).await?;
    session.publish(change).await?;
    if format.json {
        return Ok(output::json(
            &json!({ "id": destination.id, "disabled": disabled }),
        )?);
    }
    let state = if disabled { "disabled" } else { "enabled" };
    Ok(output::line(&format!(
        "destination {} ({}) is {state}",
        destination.name, destination.id
    ))?)
}

async fn list(session: &Session<'_>, format: Format) -> Outcome {
    let mut connection = session.pool.acquire().await?;
    let destinations = destinations::list(&mut connection, session.settings.project_id).await?;
    if format.json {
        let shown = |destination: &destinations::Destination| {
            let config = destination.config();
            json!({
                "id": destination.id, "name": config.name, "url": config.url, "body": config.body,
                "timeout_ms": config.timeout_ms, "concurrency": config.concurrency, "retry": config.retry,
                "secrets": config.secrets.len(), "disabled": config.disabled,
                "disabled_reason": destination.disabled_reason, "created_at_ms": destination.created_at_ms,
            })
        };
        return Ok(output::json(
            &destinations.iter().map(shown).collect::<Vec<_>>(),
        )?);
    }
    let mut table = Table::new(&[
        "name",
        "url",
        "body",
        "in flight",
        "timeout",
        "attempts",
        "state",
        "id",
    ])
    .numeric(&[3, 4, 5]);
    for destination in destinations {
        let state = match (destination.disabled, &destination.disabled_reason) {
            (false, _) => "active".into(),
            (true, None) => "disabled".into(),
            (true, Some(reason)) => format!("disabled: {reason}"),
        };
        table.row([
            destination.name,
            destination.url,
            destination.body,
            destination.concurrency.to_string(),
            format!("{} ms", destination.timeout_ms),
            destination.max_attempts.to_string(),
            state,
            destination.id.to_string(),
        ]);
    }
    Ok(table.print()?)
}
