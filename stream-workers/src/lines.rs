//! Webhooks of a file: JSON lines `{"id": ..., "headers": {...}, "content_type": "...", "body": "..."}`, as `make send`
//! takes them. For commands that try something without Kafka, and for examples.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use crate::headers::SenderHeaders;

/// One webhook of a file. Other fields are passed over.
#[derive(Debug, Deserialize)]
pub struct Line {
    #[serde(default)]
    pub id: Option<Value>,
    #[serde(default)]
    headers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    content_type: Option<String>,
    body: String,
}

impl Line {
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.body.as_bytes()
    }
    #[must_use]
    pub fn headers(&self) -> SenderHeaders<'static> {
        let pairs = self.headers.iter().flatten();
        SenderHeaders::from_pairs(pairs.map(|(n, v)| (n.to_ascii_lowercase(), v.clone())))
    }
}

/// Every line with its number, from 1; what is no webhook as an error that says what is wrong with it. Empty lines are
/// passed over, and nothing comes behind an error of the file itself. `-` is stdin.
///
/// # Errors
/// The file cannot be opened.
pub fn read(
    file: &Path,
) -> anyhow::Result<impl Iterator<Item = (usize, anyhow::Result<Line>)> + use<>> {
    let reader: Box<dyn BufRead> = if file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        anyhow::ensure!(
            !opened.metadata()?.is_dir(),
            "{} is a directory",
            file.display()
        );
        Box::new(BufReader::new(opened))
    };
    let mut numbered = reader.split(b'\n').enumerate();
    let mut broken = false;
    Ok(std::iter::from_fn(move || {
        while !broken {
            let (at, line) = numbered.next()?;
            let line = match line {
                Ok(line) => line,
                Err(error) => {
                    broken = true;
                    return Some((at + 1, Err(error.into())));
                }
            };
            let text = line
                .strip_prefix(b"\xef\xbb\xbf")
                .unwrap_or(&line)
                .trim_ascii();
            if !text.is_empty() {
                return Some((at + 1, parse(text)));
            }
        }
        None
    }))
}

fn parse(text: &[u8]) -> anyhow::Result<Line> {
    // A list would be taken for the fields in their order.
    anyhow::ensure!(text.starts_with(b"{"), "not a JSON object");
    serde_json::from_slice(text).context(
        "not a webhook: {\"id\": ..., \"headers\": {...}, \"content_type\": \"...\", \"body\": \"...\"}",
    )
}
