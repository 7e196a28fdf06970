//! `correction add|list|export|delete`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Format, Outcome, Session, event_id, say};
use crate::{
    example,
    output::{self, Table},
    settings::Settings,
    store::{Wanted, corrections, events},
};

#[derive(Debug, Subcommand)]
pub(super) enum Correction {
    /// Says what an event is that was classified wrongly; the next like it is of this category
    #[command(after_help = "\
Examples:
  control-plane correction add --event 01a20bc2-ebbf-70fe-8974-568b6173e849 --category billing
  control-plane correction export --out corrections.jsonl

A correction is in force within a second. Of an event that was corrected before the last word counts. What the event
was delivered as stays as it was; `stream-workers replay` delivers it again. Up to 2,000 corrections; exported, they
teach the next model, and can then be deleted.")]
    Add(Add),
    /// Shows the corrections, the latest first
    List(Format),
    /// Writes the corrections for the training of a model, one JSON object a line
    Export(Export),
    /// Deletes a correction
    Delete(Point),
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// The event, by the id that its sender was answered with
    #[arg(long, value_name = "EVENT_ID")]
    event: String,
    /// What it is
    #[arg(long)]
    category: String,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// The file to write; `-` is standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Point {
    /// The id of the correction or of its event
    correction: String,
    #[command(flatten)]
    format: Format,
}

impl Correction {
    pub(super) async fn run(self, settings: &Settings) -> Outcome {
        let session = Session::open(settings)?;
        match self {
            Self::Add(add) => add.run(&session).await,
            Self::List(format) => list(&session, format).await,
            Self::Export(export) => export.run(&session).await,
            Self::Delete(point) => point.delete(&session).await,
        }
    }
}

impl Add {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let mut change = session.change().await?;
        let project = change.project_id();
        let id = event_id(&self.event)?;
        let event = events::find(change.connection(), project, id).await?;
        let example = example::of_event(&event)?;
        let row = corrections::add(&mut change, &event, example, &self.category).await?;
        session.publish(change).await?;
        let before = match &row.instead_of {
            Some(before) => format!("; it had been taken for {before}"),
            None => String::new(),
        };
        let said = format!(
            "correction {}: event {} is {}{before}",
            row.id, row.event_id, row.category
        );
        let json = json!({ "id": row.id, "instead_of": row.instead_of });
        say(self.format, &json, &said)
    }
}

impl Export {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let mut connection = session.pool.acquire().await?;
        let mut rows = corrections::list(&mut connection, session.settings.project_id).await?;
        // In the order in which they were made, so that two exports differ in their ends only.
        rows.reverse();
        let lines: String = rows.iter().map(|row| format!("{}\n", line(row))).collect();
        if self.out == Path::new("-") {
            return Ok(output::text(&lines)?);
        }
        let shown = self.out.display();
        std::fs::write(&self.out, lines).with_context(|| format!("cannot write {shown}"))?;
        let json = json!({ "file": self.out, "corrections": rows.len() });
        let said = format!("{} correction(s) in {shown}", rows.len());
        say(self.format, &json, &said)
    }
}

/// As the training reads it.
fn line(row: &corrections::Correction) -> Value {
    json!({
        "scheme": row.example.scheme, "tokens": row.example.tokens, "label": row.category,
        "source_id": row.source_id, "event_id": row.event_id,
    })
}

impl Point {
    async fn delete(self, session: &Session<'_>) -> Outcome {
        let mut change = session.change().await?;
        let wanted = Wanted::from(self.correction.as_str());
        let row = corrections::delete(&mut change, &wanted).await?;
        session.publish(change).await?;
        let said = format!("correction {} of event {} is deleted", row.id, row.event_id);
        let json = json!({ "id": row.id, "deleted": true });
        say(self.format, &json, &said)
    }
}

async fn list(session: &Session<'_>, format: Format) -> Outcome {
    let mut connection = session.pool.acquire().await?;
    let rows = corrections::list(&mut connection, session.settings.project_id).await?;
    if format.json {
        let shown = |row: &corrections::Correction| {
            json!({
                "id": row.id, "event_id": row.event_id, "source_id": row.source_id, "source": row.source_name,
                "category": row.category, "instead_of": row.instead_of, "created_at_ms": row.created_at_ms,
            })
        };
        return Ok(output::json(&rows.iter().map(shown).collect::<Vec<_>>())?);
    }
    let mut table = Table::new(&["event", "source", "was", "is", "made", "id"]);
    for row in rows {
        table.row([
            row.event_id.to_string(),
            row.source_name.unwrap_or_else(|| "(deleted)".into()),
            row.instead_of.unwrap_or_else(|| "-".into()),
            row.category,
            output::time(Some(row.created_at_ms)),
            row.id.to_string(),
        ]);
    }
    Ok(table.print()?)
}
