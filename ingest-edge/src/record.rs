//! What is stored beside the body: the sender's headers with credentials blanked, and the metadata of
//! `webhooks.raw`.

use axum::http::{HeaderMap, HeaderName, header, request::Parts};
use base64::{Engine, engine::general_purpose::STANDARD};
use router_schemas::{EventId, RawMeta, raw::is_credential};

use crate::access::Sender;

const BLANKED: &str = "***";

/// Everything that is stored beside a body.
#[must_use]
pub fn meta(parts: &Parts, sender: Sender, config_offset: i64) -> RawMeta {
    let event_id = EventId::generate();
    let headers = &parts.headers;
    RawMeta {
        event_id,
        project_id: sender.project_id,
        source_id: sender.source_id,
        key_id: sender.key_id,
        received_at: received_at(event_id),
        content_type: text(headers, &header::CONTENT_TYPE),
        content_encoding: text(headers, &header::CONTENT_ENCODING)
            .filter(|encoding| !encoding.eq_ignore_ascii_case("identity")),
        query: parts.uri.query().map(blanked_query),
        sender_headers: sender_headers(headers),
        config_offset,
        trace_parent: text(headers, &HeaderName::from_static("traceparent"))
            .filter(|value| is_trace_parent(value)),
        replay: None,
    }
}

/// The time that the event id carries, as RFC 3339 with milliseconds.
fn received_at(event_id: EventId) -> String {
    let ms = event_id.received_at_ms().unwrap_or_default();
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    format!("{time:.3}")
}

/// A header that is one line of UTF-8.
fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = std::str::from_utf8(headers.get(name)?.as_bytes())
        .ok()?
        .trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// `00-<32 hex>-<16 hex>-<2 hex>` of W3C Trace Context level 1.
fn is_trace_parent(value: &str) -> bool {
    let lengths = [2, 32, 16, 2];
    let parts: Vec<&str> = value.split('-').collect();
    parts.len() == 4
        && parts.iter().zip(lengths).all(|(part, length)| {
            part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit())
        })
}

/// A JSON array of `[name, value]` in the order of the request; a value that is not UTF-8 is base64 and
/// marked as such.
fn sender_headers(headers: &HeaderMap) -> String {
    let mut json = String::with_capacity(headers.len() * 64);
    json.push('[');
    for (name, value) in headers {
        if json.len() > 1 {
            json.push(',');
        }
        // A header's name is a token of RFC 9110: nothing in it needs escaping.
        json.push_str("[\"");
        json.push_str(name.as_str());
        json.push_str("\",");
        if is_credential(name.as_str()) {
            push_string(&mut json, BLANKED);
        } else if let Ok(value) = std::str::from_utf8(value.as_bytes()) {
            push_string(&mut json, value);
        } else {
            push_string(&mut json, &STANDARD.encode(value.as_bytes()));
            json.push_str(",\"base64\"");
        }
        json.push(']');
    }
    json.push(']');
    json
}

fn push_string(json: &mut String, text: &str) {
    json.push('"');
    if text
        .bytes()
        .all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
    {
        json.push_str(text);
    } else {
        for character in text.chars() {
            match character {
                '"' => json.push_str("\\\""),
                '\\' => json.push_str("\\\\"),
                '\t' => json.push_str("\\t"),
                // The HTTP parser lets no other control character pass.
                control if control < ' ' => json.push(' '),
                other => json.push(other),
            }
        }
    }
    json.push('"');
}

/// The query with the values of parameters that carry credentials blanked.
fn blanked_query(query: &str) -> String {
    let mut blanked = String::with_capacity(query.len());
    for pair in query.split('&') {
        if !blanked.is_empty() {
            blanked.push('&');
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let lower = name.to_ascii_lowercase().replace('_', "-");
        if !value.is_empty() && (is_credential(&lower) || lower.ends_with("key")) {
            blanked.push_str(name);
            blanked.push('=');
            blanked.push_str(BLANKED);
        } else {
            blanked.push_str(pair);
        }
    }
    blanked
}

/// Bytes of all names and values, as they count against the limit.
#[must_use]
pub fn header_bytes(headers: &HeaderMap) -> usize {
    // Four more for `: ` and the line's end, as they stood on the wire.
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        map
    }

    #[test]
    fn credentials_are_blanked_and_signatures_stay() {
        let json = sender_headers(&headers(&[
            ("x-api-key", b"whr_secret"),
            ("authorization", b"Bearer abc"),
            ("cookie", b"session=1"),
            ("x-gitlab-token", b"hush"),
            ("x-hub-signature-256", b"sha256=ab"),
        ]));
        let pairs: Vec<(String, String)> = serde_json::from_str(&json).unwrap();
        let values: Vec<&str> = pairs.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["***", "***", "***", "***", "sha256=ab"]);
    }

    #[test]
    fn every_value_survives_as_json() {
        let json = sender_headers(&headers(&[
            ("a", b"quote \" back \\ tab \t end"),
            ("b", "gr\u{fc}n".as_bytes()),
            ("c", &[0xff, 0xfe]),
            ("a", b"twice"),
        ]));
        let pairs: Vec<Vec<String>> = serde_json::from_str(&json).unwrap();
        assert!(pairs.contains(&vec!["a".into(), "quote \" back \\ tab \t end".into()]));
        assert!(pairs.contains(&vec!["b".into(), "gr\u{fc}n".into()]));
        assert!(pairs.contains(&vec!["c".into(), "//4=".into(), "base64".into()]));
        assert!(pairs.contains(&vec!["a".into(), "twice".into()]));
    }

    #[test]
    fn a_query_loses_its_credentials_only() {
        assert_eq!(
            blanked_query("a=1&token=abc&api_key=x&b"),
            "a=1&token=***&api_key=***&b"
        );
    }

    #[test]
    fn a_trace_context_must_have_its_form() {
        assert!(is_trace_parent(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        ));
        assert!(!is_trace_parent("hello"));
        assert!(!is_trace_parent(
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
        ));
    }

    #[test]
    fn the_time_is_that_of_the_id() {
        let id = EventId::synthetic(1_780_000_000_120, "t", 0, 0);
        assert_eq!(received_at(id), "2026-05-28T20:26:40.120Z");
    }
}
