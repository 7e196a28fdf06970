//! `classify`: what the model says of webhooks in a file, without Kafka; `features`: what it reads of them.
//!
//! Lines are `{"headers": {...}, "content_type": "...", "body": "..."}`, as `make send` takes them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::PathBuf,
};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use serde::Deserialize;
use serde_json::json;

use crate::{
    body::Body,
    classify::{Features, Model, decide, library, model_dir},
    extract::Extractor,
    headers::SenderHeaders,
};

/// Webhooks classified in one call.
const BATCH: usize = 64;
const BODY_LIMIT_BYTES: usize = 5 * 1024 * 1024;

#[derive(Debug, Args)]
pub struct ClassifyArgs {
    /// File of JSON lines `{"headers": {...}, "content_type": "...", "body": "..."}`; `-` reads stdin.
    #[arg(default_value = "-")]
    file: PathBuf,
}

#[derive(Debug, Args)]
pub struct FeaturesArgs {
    /// As for `classify`.
    #[arg(default_value = "-")]
    file: PathBuf,
}

/// One webhook of a file. Other fields are passed over.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    body: String,
}

impl Line {
    fn headers(&self) -> SenderHeaders<'_> {
        let pairs = self.headers.iter();
        SenderHeaders::from_pairs(pairs.map(|(n, v)| (n.to_ascii_lowercase(), v.clone())))
    }
    fn body(&self) -> Body {
        let bytes = Bytes::copy_from_slice(self.body.as_bytes());
        Body::read(bytes, self.content_type.as_deref(), None, BODY_LIMIT_BYTES)
    }
}

fn lines(file: &PathBuf) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Line>> + use<>> {
    let reader: Box<dyn BufRead> = if file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        Box::new(BufReader::new(file))
    };
    Ok(reader
        .lines()
        .enumerate()
        .filter(|(_, line)| !matches!(line, Ok(l) if l.is_empty()))
        .map(|(at, line)| {
            let line = line.with_context(|| format!("line {}", at + 1))?;
            serde_json::from_str(&line).with_context(|| format!("line {}", at + 1))
        }))
}

/// Writes one JSON line for each webhook: category, confidence, runner-up, who decided, and the result.
///
/// # Errors
/// The file cannot be read, or there is no model.
pub fn run(args: ClassifyArgs) -> anyhow::Result<()> {
    let model = Model::load(&library()?, &model_dir()?, 1)?;
    let extractor = Extractor::default();
    let mut features = Features::default();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut batch = Vec::with_capacity(BATCH);
    let mut lines = lines(&args.file)?;
    loop {
        batch.clear();
        let mut rows = Vec::with_capacity(BATCH);
        for line in lines.by_ref().take(BATCH) {
            let line = line?;
            let body = line.body();
            rows.push(features.read(&line.headers(), &body).to_vec());
            batch.push((line, body));
        }
        if batch.is_empty() {
            return Ok(out.flush()?);
        }
        for ((line, body), probabilities) in batch.iter().zip(model.probabilities(&rows)?) {
            let classification = decide(&model, &probabilities);
            let result = extractor.extract(&line.headers(), body);
            serde_json::to_writer(
                &mut out,
                &json!({"classification": classification, "result": result}),
            )?;
            out.write_all(b"\n")?;
        }
    }
}

/// Writes one line of feature numbers for each webhook.
///
/// # Errors
/// The file cannot be read.
pub fn features(args: FeaturesArgs) -> anyhow::Result<()> {
    let mut features = Features::default();
    let mut out = BufWriter::new(io::stdout().lock());
    for line in lines(&args.file)? {
        let line = line?;
        let body = line.body();
        let ids = features.read(&line.headers(), &body);
        let text: Vec<String> = ids.iter().map(u32::to_string).collect();
        writeln!(out, "{}", text.join(" "))?;
    }
    Ok(out.flush()?)
}
