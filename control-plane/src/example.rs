//! Webhooks as examples: read by the workers' own code, so that an example and what is compared with it are read
//! alike. From the archive, or from a file of JSON lines as `make send` takes them.

use std::path::Path;

use bytes::Bytes;
use router_runtime::env;
use router_schemas::config::Example;
use stream_workers::{body::Body, classify, headers::SenderHeaders, lines};

use crate::{error::CommandError, store::events::Event, validate::Invalid};

/// Largest file of examples: far above fifty webhooks as they come, far below what memory holds.
const FILE_BYTES: u64 = 256 << 20;

/// An event and what could be read of it.
#[derive(Debug)]
pub struct Read<'a> {
    pub headers: SenderHeaders<'a>,
    pub body: Body,
}

/// Reads an archived event as a worker of `process` does.
///
/// # Errors
/// `BODY_LIMIT_BYTES` cannot be read.
pub fn read(event: &Event) -> Result<Read<'_>, CommandError> {
    let body = Body::read(
        Bytes::copy_from_slice(&event.body),
        event.content_type.as_deref(),
        event.content_encoding.as_deref(),
        body_limit_bytes()?,
    );
    Ok(Read {
        headers: SenderHeaders::parse(&event.headers),
        body,
    })
}

/// The example that an archived event makes.
///
/// # Errors
/// Nothing in it tells it from others.
pub fn of_event(event: &Event) -> Result<Example, CommandError> {
    let Read { headers, body } = read(event)?;
    let made = classify::example(&headers, body.content_type.as_deref(), &body.bytes);
    told(made, || format!("event {}", event.id))
}

/// The examples of a file, one a line: `{"headers": {...}, "content_type": "...", "body": "..."}`.
///
/// # Errors
/// The file or a line of it cannot be read, or there is nothing in it.
pub fn of_file(path: &Path) -> Result<Vec<Example>, CommandError> {
    let shown = path.display();
    let refuse = |why: String| CommandError::Usage(format!("file: {shown}: {why}"));
    let bytes = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
    if bytes.len() > FILE_BYTES {
        return Err(refuse("is larger than 256 MiB".into()));
    }
    let mut examples = Vec::new();
    for (number, line) in lines::read(path).map_err(|error| refuse(format!("{error:#}")))? {
        let line = line.map_err(|error| refuse(format!("line {number}: {error:#}")))?;
        let made = classify::example(&line.headers(), line.content_type(), line.body());
        examples.push(told(made, || format!("line {number}"))?);
    }
    if examples.is_empty() {
        return Err(refuse("holds no webhook".into()));
    }
    Ok(examples)
}

fn told(example: Example, what: impl Fn() -> String) -> Result<Example, CommandError> {
    if example.tokens.is_empty() {
        let why = format!("{} holds no word by which another could be known", what());
        return Err(Invalid::new("example", why).into());
    }
    Ok(example)
}

/// The workers' own limit: more than that they do not read either.
fn body_limit_bytes() -> Result<usize, CommandError> {
    env::or("BODY_LIMIT_BYTES", 5 * 1024 * 1024)
        .map_err(|error| CommandError::Usage(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use router_schemas::{EventId, SourceId};

    use super::*;

    fn file(lines: &str) -> Result<Vec<Example>, CommandError> {
        let id = uuid::Uuid::now_v7();
        let path = std::env::temp_dir().join(format!("examples-{id}.jsonl"));
        std::fs::write(&path, lines).unwrap();
        let read = of_file(&path);
        std::fs::remove_file(&path).unwrap();
        read
    }

    #[test]
    fn a_file_and_the_archive_make_the_same_example() {
        let line = r#"{"headers":{"X-Event":"refund"},"content_type":"application/json","body":"{\"refund\":\"done\"}"}"#;
        let of_file = file(&format!("{line}\n\n")).unwrap();
        let event = Event {
            id: EventId::generate(),
            source_id: SourceId::generate(),
            content_type: Some("application/json".into()),
            content_encoding: None,
            headers: r#"[["x-event","refund"]]"#.into(),
            body: br#"{"refund":"done"}"#.to_vec(),
            classified_as: None,
        };
        assert_eq!(of_file, [of_event(&event).unwrap()]);
        assert_eq!(of_file[0].scheme, classify::SCHEME);
        assert!(!of_file[0].tokens.is_empty());
    }

    #[test]
    fn what_teaches_nothing_is_refused_and_its_line_is_named() {
        for (lines, told) in [
            ("", "holds no webhook"),
            ("{\"body\":\"{}\"}\nnonsense", "line"),
            ("{\"headers\":{}}", "line 1"),
            ("{\"body\":\"\"}", "line 1 holds no word"),
        ] {
            let refused = file(lines).unwrap_err().to_string();
            assert!(refused.contains(told), "{lines}: {refused}");
        }
        let missing = of_file(Path::new("/nowhere.jsonl")).unwrap_err();
        assert!(missing.to_string().contains("/nowhere.jsonl"));
    }
}
