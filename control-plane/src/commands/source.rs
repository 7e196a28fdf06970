//! `source create|update|list|disable|enable|delete`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Format, Outcome, Session};
use crate::{
    output::{self, Table},
    settings::Settings,
    store::{
        Wanted,
        sources::{self, Update as Fields},
    },
};

#[derive(Debug, Subcommand)]
pub(super) enum Source {
    /// Adds a sender, with a token for those that can set no header
    #[command(after_help = "\
Example:
  control-plane source create --name github
Then let it send to http://127.0.0.1:4000/in/TOKEN, or give it a key: control-plane key create --name github --source github")]
    Create(Create),
    /// Renames a source, or gives it a new token (the old one stops at once)
    Update(Update),
    /// Shows the sources
    List(Format),
    /// Refuses webhooks of a source until it is enabled again
    Disable(Point),
    /// Takes webhooks of a disabled source again
    Enable(Point),
    /// Deletes a source that no key, route or rule names any more
    Delete(Point),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[arg(long)]
    name: String,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// The source's id or name
    source: String,
    #[arg(long)]
    name: Option<String>,
    #[arg(long)]
    rotate_token: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Point {
    /// The source's id or name
    source: String,
    #[command(flatten)]
    format: Format,
}

impl Source {
    pub(super) async fn run(self, settings: &Settings) -> Outcome {
        let session = Session::open(settings)?;
        match self {
            Self::Create(create) => create.run(&session).await,
            Self::Update(update) => update.run(&session).await,
            Self::List(format) => list(&session, format).await,
            Self::Disable(point) => point.set_disabled(&session, true).await,
            Self::Enable(point) => point.set_disabled(&session, false).await,
            Self::Delete(point) => point.delete(&session).await,
        }
    }
}

impl Create {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let mut change = session.change().await?;
        let (source, token) = sources::create(&mut change, &self.name).await?;
        let published = session.publish(change).await;
        if self.format.json {
            output::json(&json!({ "id": source.id, "token": token.text }))?;
        } else {
            output::line(&format!("source {} ({})", source.name, source.id))?;
            output::line(&format!(
                "token (shown once): {}   send to /in/{}",
                token.text, token.text
            ))?;
        }
        published
    }
}

impl Update {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let mut change = session.change().await?;
        let fields = Fields {
            name: self.name,
            rotate_token: self.rotate_token,
            disabled: None,
        };
        let wanted = Wanted::from(self.source.as_str());
        let (source, token) = sources::update(&mut change, &wanted, "update", fields).await?;
        let published = session.publish(change).await;
        let token = token.map(|token| token.text);
        if self.format.json {
            output::json(&json!({ "id": source.id, "token": token }))?;
        } else {
            output::line(&format!("source {} ({}) updated", source.name, source.id))?;
            if let Some(token) = token {
                output::line(&format!("token (shown once): {token}"))?;
            }
        }
        published
    }
}

impl Point {
    async fn set_disabled(self, session: &Session<'_>, disabled: bool) -> Outcome {
        let mut change = session.change().await?;
        let fields = Fields {
            disabled: Some(disabled),
            ..Fields::default()
        };
        let action = if disabled { "disable" } else { "enable" };
        let (source, _) = sources::update(
            &mut change,
            &Wanted::from(self.source.as_str()),
            action,
            fields,
        )
        .await?;
        session.publish(change).await?;
        let said = format!("source {} ({}) is {action}d", source.name, source.id);
        self.say(&json!({ "id": source.id, "disabled": disabled }), &said)
    }

    async fn delete(self, session: &Session<'_>) -> Outcome {
        let mut change = session.change().await?;
        let source = sources::delete(&mut change, &Wanted::from(self.source.as_str())).await?;
        session.publish(change).await?;
        self.say(
            &json!({ "id": source.id, "deleted": true }),
            &format!("source {} ({}) is deleted", source.name, source.id),
        )
    }

    fn say(&self, json: &Value, text: &str) -> Outcome {
        if self.format.json {
            return Ok(output::json(json)?);
        }
        Ok(output::line(text)?)
    }
}

async fn list(session: &Session<'_>, format: Format) -> Outcome {
    let mut connection = session.pool.acquire().await?;
    let sources = sources::list(&mut connection, session.settings.project_id).await?;
    if format.json {
        let shown = |source: &sources::Source| {
            json!({
                "id": source.id, "name": source.name, "token_prefix": source.token_prefix, "disabled": source.disabled,
                "created_at_ms": source.created_at_ms,
            })
        };
        return Ok(output::json(
            &sources.iter().map(shown).collect::<Vec<_>>(),
        )?);
    }
    let mut table = Table::new(&["name", "token", "state", "created", "id"]);
    for source in sources {
        let token = source
            .token_prefix
            .map_or_else(|| "-".into(), |prefix| format!("{prefix}..."));
        let state = if source.disabled {
            "disabled"
        } else {
            "active"
        };
        table.row([
            source.name,
            token,
            state.into(),
            output::time(Some(source.created_at_ms)),
            source.id.to_string(),
        ]);
    }
    Ok(table.print()?)
}
