//! `measure`: what classification costs on this machine, without Kafka: reading, making features, inference, in
//! batches and alone, a large body, and memory. For `router-tools bench classify`.

use std::{
    collections::BTreeMap,
    fs,
    hint::black_box,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use router_schemas::{
    EventId, KnowledgeId, ProjectId, SourceId,
    config::{CorrectionConfig, ModelConfig},
};
use serde_json::{Value, json};

use super::classify::LinesArgs;
use crate::{
    classify::{self, Classifier, Model, Models, Row, count_tokens, example, library, model_dir},
    directory::Tables,
    headers::SenderHeaders,
    lines::{self, Line},
};

const BATCH: usize = 64;
/// The most that a project may have.
const MAX_CORRECTIONS: usize = 2_000;
const LARGE_BYTES: usize = 1 << 20;

#[derive(Debug, Args)]
pub struct MeasureArgs {
    #[command(flatten)]
    lines: LinesArgs,
    /// Seconds for each figure
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// One webhook, ready to be read.
struct Webhook {
    headers: SenderHeaders<'static>,
    line: Line,
}

impl Webhook {
    fn read(&self, features: &mut crate::classify::Features<'_>) -> Row {
        let line = &self.line;
        features.read(&self.headers, line.content_type(), line.body())
    }
}

/// Resident memory of this process in KiB.
fn resident_kib() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no VmRSS")?.parse()?)
}

/// Microseconds a call of `work` takes, the mean over `length`.
fn microseconds(
    length: Duration,
    mut work: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    work()?;
    let began = Instant::now();
    let mut times = 0_u32;
    while began.elapsed() < length {
        work()?;
        times += 1;
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(times))
}

/// Prints the figures as one JSON object.
///
/// # Errors
/// The file cannot be read or is empty, or there is no model.
pub fn run(args: MeasureArgs) -> anyhow::Result<()> {
    let webhooks: Vec<Webhook> = lines::read(&args.lines.input)?
        .map(|(number, line)| {
            let line = line.with_context(|| format!("line {number}"))?;
            let headers = line.headers();
            Ok(Webhook { headers, line })
        })
        .collect::<anyhow::Result<_>>()?;
    anyhow::ensure!(!webhooks.is_empty(), "no webhooks to measure with");
    let length = Duration::from_secs_f64(args.seconds);
    let before_kib = resident_kib()?;
    let dir = model_dir()?;
    let model = Model::load(&library()?, &dir)?;
    let figures = json!({
        "model": model.version(),
        "webhooks": webhooks.len(),
        "body_bytes": webhooks.iter().map(|w| w.line.body().len()).sum::<usize>() / webhooks.len(),
        "batched_us": batched(&model, &webhooks, length)?,
        "alone_us": alone(&model, &webhooks, length)?,
        "large": large(&model, length)?,
        // Before a second model is loaded, and after the first has worked.
        "memory_kib": resident_kib()?.saturating_sub(before_kib),
        "taught_us": taught(&dir, &webhooks, length)?,
    });
    println!("{figures}");
    Ok(())
}

/// Microseconds for each webhook of batches.
fn batched(model: &Model, webhooks: &[Webhook], length: Duration) -> anyhow::Result<Value> {
    let count = webhooks.len() as f64;
    let reading = microseconds(length, || {
        for webhook in webhooks {
            black_box(count_tokens(
                &webhook.headers,
                webhook.line.content_type(),
                webhook.line.body(),
            ));
        }
        Ok(())
    })? / count;
    let features = microseconds(length, || {
        for batch in webhooks.chunks(BATCH) {
            let mut features = model.features();
            for webhook in batch {
                black_box(webhook.read(&mut features));
            }
        }
        Ok(())
    })? / count;
    let mut features_of = model.features();
    let rows: Vec<Row> = webhooks
        .iter()
        .map(|webhook| webhook.read(&mut features_of))
        .collect();
    let inference = microseconds(length, || {
        for batch in rows.chunks(BATCH) {
            black_box(model.answers(batch)?);
        }
        Ok(())
    })? / count;
    let mean = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>() / rows.len();
    Ok(json!({
        "reading": reading,
        "tokenising": features - reading,
        "inference": inference,
        "together": features + inference,
        "tokens": mean(|row| row.tokens.len()),
        "words": mean(|row| row.words.len()),
    }))
}

/// Microseconds for one webhook by itself.
fn alone(model: &Model, webhooks: &[Webhook], length: Duration) -> anyhow::Result<Value> {
    let mut next = webhooks.iter().cycle();
    let together = microseconds(length, || {
        if let Some(webhook) = next.next() {
            let row = webhook.read(&mut model.features());
            black_box(model.answers(&[row])?);
        }
        Ok(())
    })?;
    Ok(json!({ "together": together }))
}

/// Microseconds for bodies of 1 MB: a long list, one long text, and many keys.
fn large(model: &Model, length: Duration) -> anyhow::Result<Value> {
    let item = r#"{"id":"line_1","description":"Yearly plan of the team","amount":4200,"tags":["a","b"]},"#;
    let list = format!(
        "{{\"lines\":[{}{{}}],\"type\":\"invoice.paid\"}}",
        item.repeat(LARGE_BYTES / item.len())
    );
    let text = format!(
        "{{\"note\":\"{}\",\"type\":\"invoice.paid\"}}",
        "word \\n ".repeat(LARGE_BYTES / 8)
    );
    let keys: String = (0..LARGE_BYTES / 24)
        .map(|i| format!("\"key_number_{i:07}\":{i},"))
        .collect();
    let keys = format!("{{{keys}\"type\":\"invoice.paid\"}}");
    let headers = SenderHeaders::default();
    let mut figures = json!({ "body_bytes": LARGE_BYTES });
    for (name, body) in [("list_us", list), ("text_us", text), ("keys_us", keys)] {
        let together = microseconds(length / 3, || {
            let row = model
                .features()
                .read(&headers, Some("application/json"), body.as_bytes());
            black_box(model.answers(&[row])?);
            Ok(())
        })?;
        figures[name] = json!(together);
    }
    Ok(figures)
}

/// Microseconds that as many corrections as a project may have add to each webhook of a batch.
fn taught(dir: &Path, webhooks: &[Webhook], length: Duration) -> anyhow::Result<f64> {
    let classifier = Classifier::new(Models::load(&library()?, dir, &ModelConfig::default())?);
    let source_id = SourceId(uuid::Uuid::nil());
    let shown: Vec<_> = webhooks
        .iter()
        .map(|webhook| classify::Webhook {
            project_id: ProjectId::DEFAULT,
            source_id,
            headers: &webhook.headers,
            content_type: webhook.line.content_type(),
            body: webhook.line.body(),
            document: None,
        })
        .collect();
    let correction = |webhook: &classify::Webhook<'_>| CorrectionConfig {
        project_id: ProjectId::DEFAULT,
        source_id,
        event_id: EventId::generate(),
        category: "other".into(),
        instead_of: None,
        example: example(webhook.headers, webhook.content_type, webhook.body),
    };
    let corrections = shown.iter().cycle().take(MAX_CORRECTIONS);
    let corrections: BTreeMap<_, _> = corrections
        .map(|webhook| (KnowledgeId::generate(), Arc::new(correction(webhook))))
        .collect();
    let mut tables = Tables::default();
    let cost = |tables: &Tables| {
        let all = microseconds(length, || {
            for batch in shown.chunks(BATCH) {
                black_box(classifier.classify(tables, batch)?);
            }
            Ok(())
        })?;
        Ok::<_, anyhow::Error>(all / shown.len() as f64)
    };
    let without = cost(&tables)?;
    tables
        .corrections
        .insert(ProjectId::DEFAULT, Arc::new(corrections));
    Ok(cost(&tables)? - without)
}
