//! The body of a webhook as the stages behind the edge see it: unpacked within a bound, parsed once.
//!
//! Nothing here fails: what cannot be unpacked or parsed is text or bytes, and is classified, routed and
//! delivered all the same. The edge stored the body as it came; this is where its encoding is undone.

mod form;
mod unpack;

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use router_schemas::processed::Payload;
use serde_json::{Value, value::RawValue};

pub use unpack::UnpackError;

/// Text is sent on as a JSON string unless that would make it larger than base64 does.
const BASE64_GROWTH: (usize, usize) = (4, 3);

/// A body and what could be read of it.
#[derive(Debug)]
pub struct Body {
    /// Unpacked where that was possible, else as received.
    pub bytes: Bytes,
    /// The content type of `bytes`.
    pub content_type: Option<String>,
    pub content: Content,
    /// Why the body is still packed.
    pub packed: Option<UnpackError>,
}

/// What a body holds.
#[derive(Debug)]
pub enum Content {
    Json(Value),
    /// Fields of a form, as an object; a field that holds JSON is parsed.
    Form(Value),
    /// UTF-8 that is none of the above, XML for one.
    Text,
    Binary,
}

impl Body {
    /// Unpacks at most `limit_bytes`, and parses.
    #[must_use]
    pub fn read(
        bytes: Bytes,
        content_type: Option<&str>,
        content_encoding: Option<&str>,
        limit_bytes: usize,
    ) -> Self {
        let unpacked = match content_encoding {
            Some(encoding) => unpack::unpack(&bytes, encoding, limit_bytes),
            None => Ok(None),
        };
        match unpacked {
            Ok(unpacked) => {
                let bytes = unpacked.map_or(bytes, Bytes::from);
                let content = Content::read(&bytes, content_type);
                let content_type = content_type.map(ToOwned::to_owned);
                Self {
                    bytes,
                    content_type,
                    content,
                    packed: None,
                }
            }
            Err(why) => Self {
                bytes,
                content_type: Some("application/octet-stream".to_owned()),
                content: Content::Binary,
                packed: Some(why),
            },
        }
    }

    /// What was parsed, where something was.
    #[must_use]
    pub fn value(&self) -> Option<&Value> {
        match &self.content {
            Content::Json(value) | Content::Form(value) => Some(value),
            Content::Text | Content::Binary => None,
        }
    }

    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self.content {
            Content::Binary => None,
            _ => std::str::from_utf8(&self.bytes).ok(),
        }
    }

    /// The body as it goes into a result: JSON as it came, text as a string, other bytes as base64.
    #[must_use]
    pub fn payload(&self) -> Payload<'_> {
        if let Some(text) = self.text() {
            // Also for JSON that was too deep or too odd to be parsed: whether it is JSON is a
            // matter of its grammar alone.
            if text.trim_start().starts_with(['{', '['])
                && let Ok(raw) = serde_json::from_str::<&RawValue>(text)
            {
                return Payload::Json(raw);
            }
            if escaped_bytes(text) <= text.len() * BASE64_GROWTH.0 / BASE64_GROWTH.1 + 64 {
                return Payload::Text(text);
            }
        }
        Payload::Base64 {
            base64: STANDARD.encode(&self.bytes),
        }
    }
}

/// How long a text is as a JSON string.
fn escaped_bytes(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
            0..=0x1f => 6,
            _ => 1,
        })
        .sum()
}

impl Content {
    fn read(bytes: &[u8], content_type: Option<&str>) -> Self {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Self::Binary;
        };
        // Senders name JSON anything from text/plain to form data: its first character tells more.
        if text.trim_start().starts_with(['{', '[']) {
            if let Ok(value) = serde_json::from_str(text) {
                return Self::Json(value);
            }
            return Self::Text;
        }
        let kind = content_type.map_or(Cow::Borrowed(""), |t| Cow::Owned(t.to_ascii_lowercase()));
        if kind.starts_with("application/x-www-form-urlencoded") && !text.is_empty() {
            return Self::Form(form::parse(text));
        }
        if kind.starts_with("multipart/form-data")
            && let Some(value) = form::parse_multipart(text)
        {
            return Self::Form(value);
        }
        Self::Text
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use serde_json::json;

    use super::*;

    fn read(bytes: &[u8], content_type: &str) -> Body {
        Body::read(
            Bytes::copy_from_slice(bytes),
            Some(content_type),
            None,
            1 << 20,
        )
    }

    fn payload(body: &Body) -> Value {
        serde_json::to_value(body.payload()).unwrap()
    }

    #[test]
    fn json_is_recognised_whatever_its_content_type_and_goes_on_as_it_came() {
        let body = read(br#" {"b":1.0, "a":"\u0000","a":2}"#, "text/plain");
        assert_eq!(body.value().unwrap()["a"], 2);
        let sent = serde_json::to_string(&body.payload()).unwrap();
        assert_eq!(sent, r#"{"b":1.0, "a":"\u0000","a":2}"#);
    }

    #[test]
    fn json_too_deep_to_parse_is_text_to_us_and_json_to_its_receiver() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        let body = read(deep.as_bytes(), "application/json");
        assert!(matches!(body.content, Content::Text));
        assert_eq!(serde_json::to_string(&body.payload()).unwrap(), deep);
    }

    #[test]
    fn text_bytes_and_nothing_are_payloads_too() {
        assert_eq!(
            payload(&read(b"hello \"you\"", "text/plain")),
            json!("hello \"you\"")
        );
        assert_eq!(payload(&read(b"", "application/json")), json!(""));
        assert_eq!(
            payload(&read(&[0xff, 0], "image/png")),
            json!({"base64": "/wA="})
        );
        assert_eq!(
            payload(&read(&[1; 300], "text/plain"))["base64"]
                .as_str()
                .unwrap()
                .len(),
            400
        );
    }

    #[test]
    fn forms_are_objects() {
        let body = read(
            b"a=1+2&b%5Bc%5D=%7B&a=3&payload=%7B%22x%22%3A1%7D",
            "application/x-www-form-urlencoded; charset=utf-8",
        );
        assert_eq!(
            body.value().unwrap(),
            &json!({"a": "3", "b[c]": "{", "payload": {"x": 1}})
        );
    }

    #[test]
    fn packed_bodies_are_unpacked_within_the_bound() {
        let gzip = |data: &[u8]| {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            packer.write_all(data).unwrap();
            Bytes::from(packer.finish().unwrap())
        };
        let body = Body::read(
            gzip(br#"{"a":1}"#),
            Some("application/json"),
            Some("gzip"),
            1 << 20,
        );
        assert_eq!(body.value().unwrap()["a"], 1);
        let bomb = gzip(&vec![b' '; 8 << 20]);
        let body = Body::read(bomb.clone(), None, Some("gzip"), 1 << 20);
        assert_eq!(
            (body.packed, &body.bytes),
            (Some(UnpackError::TooLarge), &bomb)
        );
        assert!(payload(&body)["base64"].is_string());
    }
}
