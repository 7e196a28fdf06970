//! `classify`: what the classifier says of webhooks in a file, without Kafka; `tokens`: what it reads of them.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use anyhow::Context;
use clap::Args;
use router_schemas::{Classification, ProjectId, SourceId, config::ModelConfig};
use serde::Serialize;
use serde_json::Value;

use crate::{
    classify::{Classifier, Model, Models, Webhook, Weight, example, explain, library, model_dir},
    directory::Tables,
    lines::{self, Line},
};

/// Webhooks classified in one call.
const BATCH: usize = 64;

#[derive(Debug, Args)]
pub struct ClassifyArgs {
    #[command(flatten)]
    lines: LinesArgs,
    /// Also say which tokens weighed most, for the model's first choice (above 0) or against it
    #[arg(long)]
    explain: bool,
    /// Tokens named by --explain
    #[arg(long, default_value_t = 8)]
    tokens: usize,
    /// Directory of another model (default: MODEL_DIR, else the one that came with the program)
    #[arg(long)]
    model: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct LinesArgs {
    /// File of JSON lines `{"id": ..., "headers": {...}, "content_type": "...", "body": "..."}`; `-` reads stdin
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(super) input: PathBuf,
}

/// What is written in place of an answer to a line that is no webhook.
#[derive(Debug, Serialize)]
struct Refusal {
    line: usize,
    error: String,
}

/// One line of the answer.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    #[serde(flatten)]
    classification: Classification,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Vec<Weight>>,
}

/// Writes one JSON line for each webhook: id, category, confidence, runner-up, who decided, and which tokens
/// weighed most where that is asked; and one with the error for each line that is no webhook.
///
/// # Errors
/// The file cannot be read, there is no model, or a line was no webhook.
pub fn run(args: ClassifyArgs) -> anyhow::Result<()> {
    let dir = args.model.clone().map_or_else(model_dir, Ok)?;
    let models = Models::load(&library()?, &dir, &ModelConfig::default())?;
    let model = models.in_force().current.clone();
    let classifier = Classifier::new(models);
    let mut out = BufWriter::new(io::stdout().lock());
    let mut lines = lines::read(&args.lines.input)?;
    let mut refused = 0;
    loop {
        let batch: Vec<_> = lines.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        let good: Vec<&Line> = batch
            .iter()
            .filter_map(|(_, line)| line.as_ref().ok())
            .collect();
        let mut answers = answers(&args, &classifier, &model, &good)?.into_iter();
        for (number, line) in &batch {
            match line {
                Ok(_) => serde_json::to_writer(&mut out, &answers.next())?,
                Err(error) => {
                    refused += 1;
                    let (line, error) = (*number, format!("{error:#}"));
                    serde_json::to_writer(&mut out, &Refusal { line, error })?;
                }
            }
            out.write_all(b"\n")?;
        }
        out.flush()?;
    }
    anyhow::ensure!(
        refused == 0,
        "{refused} lines are no webhooks; their answers say what is wrong"
    );
    Ok(())
}

fn answers<'a>(
    args: &ClassifyArgs,
    classifier: &Classifier,
    model: &Model,
    lines: &[&'a Line],
) -> anyhow::Result<Vec<Answer<'a>>> {
    let headers: Vec<_> = lines.iter().map(|line| line.headers()).collect();
    let webhooks: Vec<_> = lines
        .iter()
        .zip(&headers)
        .map(|(line, headers)| Webhook {
            project_id: ProjectId::DEFAULT,
            source_id: SourceId(uuid::Uuid::nil()),
            headers,
            content_type: line.content_type(),
            body: line.body(),
            document: None,
        })
        .collect();
    let classified = classifier.classify(&Tables::default(), &webhooks)?;
    lines
        .iter()
        .zip(&webhooks)
        .zip(classified)
        .map(|((line, webhook), classification)| {
            let weights = || {
                explain(
                    model,
                    webhook.headers,
                    webhook.content_type,
                    webhook.body,
                    args.tokens,
                )
            };
            Ok(Answer {
                id: line.id.as_ref(),
                classification,
                tokens: args.explain.then(weights).transpose()?,
            })
        })
        .collect()
}

/// Writes the tokens of each webhook as a line of a JSON array.
///
/// # Errors
/// The file cannot be read.
pub fn tokens(args: LinesArgs) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for (number, line) in lines::read(&args.input)? {
        let line = line.with_context(|| format!("line {number}"))?;
        let example = example(&line.headers(), line.content_type(), line.body());
        serde_json::to_writer(&mut out, &example.tokens)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}
