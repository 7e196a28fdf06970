//! `bench classify`: what it costs to say what a webhook is about, by itself: reading, making features of it,
//! inference, on one core.

use std::{io::Write as _, process::Command};

use anyhow::Context;
use serde_json::{Value, json};

use super::{
    Options,
    report::{Figures, Table},
};
use crate::load::bodies;

const WEBHOOKS: usize = 2_000;
/// What the product aims at, for bodies of 2 KB and one of 1 MB, in microseconds; and MiB for the model.
const AIM_BATCHED_US: f64 = 40.0;
const AIM_ALONE_US: f64 = 120.0;
const AIM_LARGE_US: f64 = 1_000.0;
const AIM_MEMORY_MIB: f64 = 60.0;

/// # Errors
/// The program is not there, or fails.
pub(super) fn run(options: &Options) -> anyhow::Result<Figures> {
    let program = std::env::current_exe()?.with_file_name("stream-workers");
    let file = std::env::temp_dir().join(format!(
        "router-bench-classify-{}.jsonl",
        std::process::id()
    ));
    write_webhooks(&file)?;
    let seconds = options.seconds(3, 1).to_string();
    let output = Command::new(&program)
        .args(["measure", "--seconds", &seconds, "--input"])
        .arg(&file)
        .output()
        .with_context(|| format!("starting {}", program.display()));
    std::fs::remove_file(&file)?;
    let output = output?;
    anyhow::ensure!(
        output.status.success(),
        "stream-workers measure: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let figures: Value = serde_json::from_slice(&output.stdout)?;
    let number = |pointer: &str| {
        figures
            .pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or(f64::NAN)
    };
    let row = |name: &str, found: f64, aim: Option<f64>| {
        let aim = aim.map_or_else(String::new, |aim| format!("{aim:.0}"));
        vec![name.to_owned(), format!("{found:.1}"), aim]
    };
    let together = number("/batched_us/together");
    let share = |part: &str| {
        format!(
            "{:.0} %",
            100.0 * number(&format!("/batched_us/{part}")) / together
        )
    };
    let rows = vec![
        row("in batches of 64, us", together, Some(AIM_BATCHED_US)),
        row("  reading, us", number("/batched_us/reading"), None),
        row("  tokenising, us", number("/batched_us/tokenising"), None),
        row("  inference, us", number("/batched_us/inference"), None),
        row(
            "alone, us",
            number("/alone_us/together"),
            Some(AIM_ALONE_US),
        ),
        row("more by 2,000 corrections, us", number("/taught_us"), None),
        row(
            "1 MB, a long list, us",
            number("/large/list_us"),
            Some(AIM_LARGE_US),
        ),
        row(
            "1 MB, a long text, us",
            number("/large/text_us"),
            Some(AIM_LARGE_US),
        ),
        row(
            "1 MB, many keys, us",
            number("/large/keys_us"),
            Some(AIM_LARGE_US),
        ),
        row(
            "memory of the model, MiB",
            number("/memory_kib") / 1024.0,
            Some(AIM_MEMORY_MIB),
        ),
    ];
    Ok(Figures {
        name: "classify",
        parameters: json!({ "webhooks": WEBHOOKS, "seconds": seconds }),
        notes: vec![
            format!(
                "Bodies of {:.0} bytes on average, {:.0} tokens and {:.0} words; one thread.",
                number("/body_bytes"),
                number("/batched_us/tokens"),
                number("/batched_us/words")
            ),
            format!(
                "Shares: reading {}, tokenising {}, inference {}.",
                share("reading"),
                share("tokenising"),
                share("inference")
            ),
        ],
        tables: vec![Table {
            title: format!(
                "classify, model {}",
                figures["model"].as_str().unwrap_or("")
            ),
            headings: vec!["", "found", "aim"],
            rows,
        }],
        figures,
    })
}

fn write_webhooks(path: &std::path::Path) -> anyhow::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for sample in bodies::samples(WEBHOOKS, 1) {
        let headers: serde_json::Map<String, Value> = sample
            .headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let body = String::from_utf8(sample.body)?;
        let line = json!({ "headers": headers, "content_type": "application/json", "body": body });
        writeln!(file, "{line}")?;
    }
    Ok(file.flush()?)
}
