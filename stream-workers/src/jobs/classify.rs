//! `classify`: what the classifier says of webhooks in a file, without Kafka; `tokens`: what it reads of them.
//!
//! Lines are `{"id": "...", "headers": {...}, "content_type": "...", "body": "..."}`, as `make send` takes them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use router_schemas::{Classification, ProjectId, SourceId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    classify::{Classifier, Models, Webhook, Weight, example, explain, library, model_dir},
    directory::Tables,
    headers::SenderHeaders,
};

/// Webhooks classified in one call.
const BATCH: usize = 64;

#[derive(Debug, Args)]
pub struct ClassifyArgs {
    #[command(flatten)]
    lines: LinesArgs,
    /// Also say which tokens weighed most, for the answer (above 0) or against it
    #[arg(long)]
    explain: bool,
    /// Tokens named by --explain
    #[arg(long, default_value_t = 8)]
    tokens: usize,
    /// Directory of another model than the one in force (default: MODEL_DIR, else the one that came along)
    #[arg(long)]
    model: Option<PathBuf>,
    /// Write the probability of every label
    #[arg(long, hide = true)]
    probabilities: bool,
}

#[derive(Debug, Args)]
pub struct LinesArgs {
    /// File of JSON lines `{"id": ..., "headers": {...}, "content_type": "...", "body": "..."}`; `-` reads stdin
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub(super) input: PathBuf,
}

/// One webhook of a file. Other fields are passed over.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    #[serde(default)]
    id: Option<Value>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    body: String,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    probabilities: Option<BTreeMap<&'a str, f32>>,
}

impl Line {
    pub(super) fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }
    pub(super) fn body(&self) -> &[u8] {
        self.body.as_bytes()
    }
    pub(super) fn headers(&self) -> SenderHeaders<'static> {
        let pairs = self.headers.iter();
        SenderHeaders::from_pairs(pairs.map(|(n, v)| (n.to_ascii_lowercase(), v.clone())))
    }
}

pub(super) fn lines(
    file: &Path,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Line>> + use<>> {
    let reader: Box<dyn BufRead> = if file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        Box::new(BufReader::new(file))
    };
    Ok(reader
        .lines()
        .enumerate()
        .filter(|(_, line)| !matches!(line, Ok(l) if l.trim().is_empty()))
        .map(|(at, line)| {
            let line = line.with_context(|| format!("line {}", at + 1))?;
            serde_json::from_str(&line).with_context(|| {
                format!("line {}: not {{\"headers\": {{...}}, \"content_type\": \"...\", \"body\": \"...\"}}", at + 1)
            })
        }))
}

/// Writes one JSON line for each webhook: id, category, confidence, runner-up, who decided, and which tokens
/// weighed most where that is asked.
///
/// # Errors
/// The file cannot be read, or there is no model.
pub fn run(args: ClassifyArgs) -> anyhow::Result<()> {
    let dir = args.model.map_or_else(model_dir, Ok)?;
    let models = Models::load(&library()?, &dir)?;
    let model = models.in_force().current.clone();
    let classifier = Classifier::new(models);
    let tables = Tables::default();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut lines = lines(&args.lines.input)?;
    loop {
        let batch = lines
            .by_ref()
            .take(BATCH)
            .collect::<anyhow::Result<Vec<_>>>()?;
        if batch.is_empty() {
            return Ok(out.flush()?);
        }
        let headers: Vec<_> = batch.iter().map(Line::headers).collect();
        let webhooks: Vec<_> = batch
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
        let probabilities = if args.probabilities {
            let mut features = model.features();
            let rows: Vec<_> = webhooks
                .iter()
                .map(|w| features.read(w.headers, w.content_type, w.body))
                .collect();
            Some(model.answers(&rows)?)
        } else {
            None
        };
        let answers = classifier.classify(&tables, &webhooks)?;
        for (at, classification) in answers.into_iter().enumerate() {
            let webhook = &webhooks[at];
            let weights = || {
                explain(
                    &model,
                    webhook.headers,
                    webhook.content_type,
                    webhook.body,
                    args.tokens,
                )
            };
            let answer = Answer {
                id: batch[at].id.as_ref(),
                classification,
                tokens: args.explain.then(weights).transpose()?,
                probabilities: probabilities.as_ref().map(|all| {
                    let labels = model.labels().iter().map(String::as_str);
                    labels.zip(all[at].probabilities.iter().copied()).collect()
                }),
            };
            serde_json::to_writer(&mut out, &answer)?;
            out.write_all(b"\n")?;
        }
    }
}

/// Writes the tokens of each webhook as a line of a JSON array.
///
/// # Errors
/// The file cannot be read.
pub fn tokens(args: LinesArgs) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for line in lines(&args.input)? {
        let line = line?;
        let example = example(&line.headers(), line.content_type(), line.body());
        serde_json::to_writer(&mut out, &example.tokens)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}
