//! `model show|shadow|promote|rollback|disagreements`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Format, Outcome, Session, key::duration_ms, say};
use crate::{
    error::CommandError,
    output::{self, Table},
    settings::Settings,
    store::{
        disagreements, json_value,
        models::{self, Models},
    },
    validate,
};

#[derive(Debug, Subcommand)]
pub(super) enum Model {
    /// Shows which model classifies, which is tried out, and which were current before
    Show(Format),
    /// Lets a model answer beside the current one; where they disagree it is recorded, and nothing else follows
    #[command(after_help = "\
Examples:
  control-plane model shadow 2026-11-25
  control-plane model disagreements --since 24h
  control-plane model promote
  control-plane model rollback

A model is named by its directory below MODEL_DIR, which every worker of the role `process` must have; one that cannot
load it says so and goes on with the model it has. `builtin` is the model that came with the program.")]
    Shadow(Shadow),
    /// Makes the shadow, or the model that is named, the current one
    Promote(Promote),
    /// Makes the model that was current before the current one again
    Rollback(Format),
    /// Shows where the shadow and the current model disagreed: how often, and the latest events
    Disagreements(Disagreements),
}

#[derive(Debug, Args)]
pub(super) struct Shadow {
    /// The model's name
    #[arg(required_unless_present = "off")]
    name: Option<String>,
    /// End the trial
    #[arg(long, conflicts_with = "name")]
    off: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Promote {
    /// The model's name [default: the shadow's]
    name: Option<String>,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Disagreements {
    /// How many events to show, 0 to 1000
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: i64,
    /// How far to look back, such as 30m, 24h or 7d
    #[arg(long, default_value = "24h", value_name = "WHILE")]
    since: String,
    #[command(flatten)]
    format: Format,
}

impl Model {
    pub(super) async fn run(self, settings: &Settings) -> Outcome {
        let session = Session::open(settings)?;
        match self {
            Self::Show(format) => show(&session, format).await,
            Self::Shadow(shadow) => shadow.run(&session).await,
            Self::Promote(promote) => promote.run(&session).await,
            Self::Rollback(format) => roll_back(&session, format).await,
            Self::Disagreements(asked) => asked.run(&session).await,
        }
    }
}

async fn show(session: &Session<'_>, format: Format) -> Outcome {
    let mut connection = session.pool.acquire().await?;
    let models = models::get(&mut connection).await?;
    if format.json {
        return Ok(output::json(&json!({
            "current": models.current, "shadow": models.shadow, "history": models.history,
        }))?);
    }
    let before: Vec<&str> = models.history.iter().rev().map(String::as_str).collect();
    let before = if before.is_empty() {
        "none".into()
    } else {
        before.join(", ")
    };
    output::line(&format!("current  {}", models.current))?;
    output::line(&format!("shadow   {}", shadow_name(&models)))?;
    Ok(output::line(&format!("before   {before}"))?)
}

impl Shadow {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let mut change = session.change().await?;
        let models = models::set_shadow(&mut change, self.name.as_deref()).await?;
        session.publish(change).await?;
        tell(self.format, &models)
    }
}

impl Promote {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let mut change = session.change().await?;
        let models = models::promote(&mut change, self.name.as_deref()).await?;
        session.publish(change).await?;
        tell(self.format, &models)
    }
}

async fn roll_back(session: &Session<'_>, format: Format) -> Outcome {
    let mut change = session.change().await?;
    let models = models::roll_back(&mut change).await?;
    session.publish(change).await?;
    tell(format, &models)
}

fn shadow_name(models: &Models) -> &str {
    models.shadow.as_deref().unwrap_or("none")
}

fn tell(format: Format, models: &Models) -> Outcome {
    let said = format!(
        "current model {}, shadow {}",
        models.current,
        shadow_name(models)
    );
    let json = json!({ "current": models.current, "shadow": models.shadow });
    say(format, &json, &said)
}

impl Disagreements {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let limit = validate::within("limit", self.limit, 0..=1_000)?;
        let since_ms = since_ms(&self.since, router_runtime::now_ms())?;
        let mut connection = session.pool.acquire().await?;
        let project = session.settings.project_id;
        let counts = disagreements::counts(&mut connection, project, since_ms).await?;
        let latest = disagreements::latest(&mut connection, project, since_ms, limit).await?;
        if self.format.json {
            let told = json!({ "counts": json_value(&counts), "latest": json_value(&latest) });
            return Ok(output::json(&told)?);
        }
        if counts.is_empty() {
            return Ok(output::line(&format!(
                "no disagreement within {}; `control-plane model show` says whether a model is tried out",
                self.since
            ))?);
        }
        let headings = ["events", "current says", "shadow says", "shadow's version"];
        let mut table = Table::new(&headings).numeric(&[0]);
        for count in counts {
            table.row([
                count.events.to_string(),
                count.category,
                count.shadow_category,
                count.shadow_version,
            ]);
        }
        table.print()?;
        if latest.is_empty() {
            return Ok(());
        }
        output::line("")?;
        let headings = ["event", "source", "current says", "by", "shadow says"];
        let mut table = Table::new(&headings);
        for one in latest {
            table.row([
                one.event_id.to_string(),
                one.source.unwrap_or_else(|| "(deleted)".into()),
                format!("{} {:.2}", one.category, one.confidence),
                one.decided_by,
                format!("{} {:.2}", one.shadow_category, one.shadow_confidence),
            ]);
        }
        Ok(table.print()?)
    }
}

/// The moment that a while ago was.
fn since_ms(text: &str, now_ms: i64) -> Result<i64, CommandError> {
    let refuse = || {
        CommandError::Usage(format!(
            "since: {text:?} is not a while such as 30m, 24h or 7d"
        ))
    };
    let while_ms = duration_ms(text).ok_or_else(refuse)?;
    // Nothing came before 1970, and event ids know no earlier time.
    Ok(now_ms.saturating_sub(while_ms).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_while_ago_is_never_before_all_time() {
        assert_eq!(since_ms("1m", 90_000).ok(), Some(30_000));
        assert_eq!(since_ms("9999d", 90_000).ok(), Some(0));
        for bad in ["", "yesterday", "-1h", "24"] {
            assert!(since_ms(bad, 0).is_err(), "{bad:?}");
        }
    }
}
