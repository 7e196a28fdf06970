//! `user create|list`.

use std::io::Read as _;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use router_runtime::crypto::token;
use serde_json::json;

use super::{Format, Outcome, Session};
use crate::{
    output::{self, Table},
    settings::Settings,
    store::users,
};

#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Adds a person; a password is made and printed once unless one is given
    #[command(after_help = "\
Examples:
  control-plane user create --email ada@example.com
  pass show router | control-plane user create --email ada@example.com --password-stdin")]
    Create(Create),
    /// Shows who there is
    List(Format),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[arg(long)]
    email: String,
    /// Read the password from standard input (one line)
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    format: Format,
}

impl User {
    pub(super) async fn run(self, settings: &Settings) -> Outcome {
        let session = Session::open(settings)?;
        match self {
            Self::Create(create) => create.run(&session).await,
            Self::List(format) => list(&session, format).await,
        }
    }
}

impl Create {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let given = if self.password_stdin {
            Some(read_password()?)
        } else {
            None
        };
        let generated = given.is_none().then(|| token::generate(""));
        let password = given
            .as_deref()
            .or(generated.as_deref())
            .unwrap_or_default();
        let mut change = session.change().await?;
        let id = users::create(&mut change, &self.email, password).await?;
        session.publish(change).await?;
        if self.format.json {
            return Ok(output::json(
                &json!({ "id": id, "email": self.email, "password": generated }),
            )?);
        }
        output::line(&format!("user {} ({id}) can sign in", self.email))?;
        if let Some(password) = generated {
            output::line(&format!("password (shown once): {password}"))?;
        }
        Ok(())
    }
}

fn read_password() -> anyhow::Result<String> {
    let mut text = String::new();
    // More than the longest password that is taken; whoever sends more hears so.
    std::io::stdin()
        .take(4_096)
        .read_to_string(&mut text)
        .context("the password on standard input is not text")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

async fn list(session: &Session<'_>, format: Format) -> Outcome {
    let users = users::list(&session.pool).await?;
    if format.json {
        return Ok(output::json(&users)?);
    }
    let mut table = Table::new(&["e-mail", "id", "created", "state"]);
    for user in users {
        let state = if user.disabled { "disabled" } else { "active" };
        table.row([
            user.email,
            user.id.to_string(),
            output::time(Some(user.created_at_ms)),
            state.into(),
        ]);
    }
    Ok(table.print()?)
}
