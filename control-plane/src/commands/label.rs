//! `label create|add-example|drop-example|update|list|show|disable|enable|delete`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use router_schemas::config::Example;
use serde_json::{Value, json};
use stream_workers::classify;

use super::{Format, Outcome, Session, event_id, say};
use crate::{
    error::CommandError,
    example,
    output::{self, Table},
    settings::Settings,
    store::{
        Wanted, events, json_value,
        labels::{self, Kept},
    },
};

/// Words of an example that are shown.
const WORDS_SHOWN: usize = 8;

#[derive(Debug, Subcommand)]
pub(super) enum Label {
    /// Adds a category of your own
    #[command(after_help = "\
Examples:
  control-plane label create --name refund --example 01a20bc2-ebbf-70fe-8974-568b6173e849
  control-plane label create --name refund --file refunds.jsonl --threshold 0.9

An example is an event that came before, by the id that its sender was answered with, or a line of a file:
  {\"headers\": {\"x-event\": \"refund\"}, \"content_type\": \"application/json\", \"body\": \"{...}\"}
A webhook that is like one of the examples is of this category, whatever the model says; rules and corrections come
before. Ids, numbers, dates and addresses in an example do not count and are not kept. Up to 50 labels of up to 50
examples.")]
    Create(Create),
    /// Adds examples to a label; those that it has already are passed over
    AddExample(AddExample),
    /// Takes examples away, by their numbers in `label show`
    DropExample(DropExample),
    /// Changes how like its examples a webhook must be
    Update(Update),
    /// Shows the labels
    List(Format),
    /// Shows a label and its examples
    Show(Point),
    /// Leaves a label out until it is enabled again
    Disable(Point),
    /// Knows a disabled label again
    Enable(Point),
    /// Deletes a label and its examples
    Delete(Point),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Examples {
    /// Events to learn from, by their ids
    #[arg(long, value_name = "EVENT_ID", num_args = 1..)]
    example: Vec<String>,
    /// A file of webhooks to learn from, one a line
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// The category: lower-case letters, digits, '_', '-' and '.'
    #[arg(long, value_name = "CATEGORY")]
    name: String,
    #[command(flatten)]
    from: Examples,
    /// The least likeness to an example, 0 to 1 [default: chosen from the examples]
    #[arg(long)]
    threshold: Option<f32>,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct AddExample {
    /// The label's id or name
    label: String,
    #[command(flatten)]
    from: Examples,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct DropExample {
    /// The label's id or name
    label: String,
    /// Numbers of examples, from 1
    #[arg(required = true, value_name = "NUMBER")]
    numbers: Vec<usize>,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// The label's id or name
    label: String,
    /// The least likeness to an example, 0 to 1
    #[arg(long, required_unless_present = "auto_threshold")]
    threshold: Option<f32>,
    /// Let the threshold be chosen from the examples
    #[arg(long, conflicts_with = "threshold")]
    auto_threshold: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Point {
    /// The label's id or name
    label: String,
    #[command(flatten)]
    format: Format,
}

impl Label {
    pub(super) async fn run(self, settings: &Settings) -> Outcome {
        let session = Session::open(settings)?;
        match self {
            Self::Create(create) => create.run(&session).await,
            Self::AddExample(add) => add.run(&session).await,
            Self::DropExample(drop) => drop.run(&session).await,
            Self::Update(update) => update.run(&session).await,
            Self::List(format) => list(&session, format).await,
            Self::Show(point) => point.show(&session).await,
            Self::Disable(point) => point.set_disabled(&session, true).await,
            Self::Enable(point) => point.set_disabled(&session, false).await,
            Self::Delete(point) => point.delete(&session).await,
        }
    }
}

impl Examples {
    async fn read(&self, session: &Session<'_>) -> Result<Vec<Kept>, CommandError> {
        let mut connection = session.pool.acquire().await?;
        let project = session.settings.project_id;
        let mut kept = Vec::new();
        for text in &self.example {
            let event = events::find(&mut connection, project, event_id(text)?).await?;
            kept.push(Kept {
                example: example::of_event(&event)?,
                event_id: Some(event.id),
            });
        }
        let from_file = |example: Example| Kept {
            example,
            event_id: None,
        };
        if let Some(file) = &self.file {
            kept.extend(example::of_file(file)?.into_iter().map(from_file));
        }
        Ok(kept)
    }
}

impl Create {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let examples = self.from.read(session).await?;
        let mut change = session.change().await?;
        let label = labels::create(&mut change, &self.name, examples, self.threshold).await?;
        session.publish(change).await?;
        tell(self.format, &label)
    }
}

impl AddExample {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let examples = self.from.read(session).await?;
        let mut change = session.change().await?;
        let wanted = Wanted::from(self.label.as_str());
        let label = labels::add_examples(&mut change, &wanted, examples).await?;
        session.publish(change).await?;
        tell(self.format, &label)
    }
}

impl DropExample {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let mut change = session.change().await?;
        let wanted = Wanted::from(self.label.as_str());
        let label = labels::drop_examples(&mut change, &wanted, &self.numbers).await?;
        session.publish(change).await?;
        tell(self.format, &label)
    }
}

impl Update {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let mut change = session.change().await?;
        let wanted = Wanted::from(self.label.as_str());
        let label = labels::set_threshold(&mut change, &wanted, self.threshold).await?;
        session.publish(change).await?;
        tell(self.format, &label)
    }
}

impl Point {
    fn wanted(&self) -> Wanted {
        Wanted::from(self.label.as_str())
    }

    async fn show(self, session: &Session<'_>) -> Outcome {
        let mut connection = session.pool.acquire().await?;
        let project = session.settings.project_id;
        let label = labels::find(&mut connection, project, &self.wanted()).await?;
        if self.format.json {
            let mut value = shown(&label);
            value["examples"] = json_value(&label.examples.0);
            return Ok(output::json(&value)?);
        }
        output::line(&format!("label {} ({})", label.name, label.id))?;
        output::line(&format!("threshold  {}", threshold(&label)))?;
        output::line(&format!("state      {}", state(&label)))?;
        let mut table = Table::new(&["example", "from", "read", "words"]).numeric(&[0]);
        for (at, kept) in label.examples.iter().enumerate() {
            let from = kept.event_id.map(|id| id.to_string());
            table.row([
                (at + 1).to_string(),
                from.unwrap_or_else(|| "a file".into()),
                reading(&kept.example).into(),
                words(&kept.example),
            ]);
        }
        Ok(table.print()?)
    }

    async fn set_disabled(self, session: &Session<'_>, disabled: bool) -> Outcome {
        let mut change = session.change().await?;
        let (label, _) = labels::set_disabled(&mut change, &self.wanted(), disabled).await?;
        session.publish(change).await?;
        let said = format!("label {} ({}) is {}", label.name, label.id, state(&label));
        let json = json!({ "id": label.id, "disabled": disabled });
        say(self.format, &json, &said)
    }

    async fn delete(self, session: &Session<'_>) -> Outcome {
        let mut change = session.change().await?;
        let label = labels::delete(&mut change, &self.wanted()).await?;
        session.publish(change).await?;
        let said = format!("label {} ({}) is deleted", label.name, label.id);
        let json = json!({ "id": label.id, "deleted": true });
        say(self.format, &json, &said)
    }
}

fn tell(format: Format, label: &labels::Label) -> Outcome {
    let examples = label.examples.len();
    let said = format!(
        "label {} ({}) of {examples} example(s), threshold {}",
        label.name,
        label.id,
        threshold(label)
    );
    let json = json!({ "id": label.id, "examples": examples });
    say(format, &json, &said)
}

fn threshold(label: &labels::Label) -> String {
    label
        .threshold
        .map_or_else(|| "from the examples".into(), |least| least.to_string())
}

fn state(label: &labels::Label) -> &'static str {
    if label.disabled {
        "disabled"
    } else {
        "enabled"
    }
}

/// The first words, and how many follow.
fn words(example: &Example) -> String {
    let shown = example.tokens.len().min(WORDS_SHOWN);
    let words = example.tokens[..shown].join(" ");
    match example.tokens.len() - shown {
        0 => words,
        more => format!("{words} and {more} more"),
    }
}

/// Examples of another version of the reading are passed over by the workers, and have to be added again.
fn reading(example: &Example) -> &'static str {
    if example.scheme == classify::SCHEME {
        "as now"
    } else {
        "otherwise; add it again"
    }
}

fn shown(label: &labels::Label) -> Value {
    let mut value = json!({
        "id": label.id, "name": label.name, "examples": label.examples.len(), "disabled": label.disabled,
        "created_at_ms": label.created_at_ms,
    });
    value["threshold"] = json_value(&label.threshold);
    value
}

async fn list(session: &Session<'_>, format: Format) -> Outcome {
    let mut connection = session.pool.acquire().await?;
    let labels = labels::list(&mut connection, session.settings.project_id).await?;
    if format.json {
        return Ok(output::json(&labels.iter().map(shown).collect::<Vec<_>>())?);
    }
    let headings = ["name", "examples", "threshold", "state", "created", "id"];
    let mut table = Table::new(&headings).numeric(&[1]);
    for label in labels {
        table.row([
            label.name.clone(),
            label.examples.len().to_string(),
            threshold(&label),
            state(&label).into(),
            output::time(Some(label.created_at_ms)),
            label.id.to_string(),
        ]);
    }
    Ok(table.print()?)
}
