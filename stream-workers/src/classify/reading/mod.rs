//! What a classifier can read of a webhook: its headers and body as tokens, in one bounded pass over the bytes.
//!
//! - `json`, `form`, `xml`: bodies as fields ([`Fields`]), forgiving of what is broken or cut off.
//! - `fields`: what was found, kept in the order of its depth.
//! - `shape`: what kind of value a text is (an amount, a date, an address, a sentence).
//! - `words`: words of keys and texts.
//! - `tokens`: from fields to tokens.
//!
//! The body is not parsed into a document: classification needs no more of it than its first
//! [`SCAN_BYTES`], and costs the same whether the rest is well formed or not. What is read is a matter
//! between this module and the model: a change here needs a new [`SCHEME`] and a newly trained model.

mod fields;
mod form;
mod json;
mod shape;
mod tokens;
mod words;
mod xml;

use fields::{Fields, Origin};

pub(super) use tokens::{Sink, Texts};

use tokens::Emitter;

use crate::headers::SenderHeaders;

/// Version of what this module does, written into each model and each example.
pub const SCHEME: u32 = 2;

/// Bytes of a body that are looked at.
const SCAN_BYTES: usize = 256 << 10;
/// Text without any structure is read this far.
const TEXT_BYTES: usize = 4 << 10;
/// Documents within documents (`payload={...}` of a form, a message as a JSON string) that are read.
const MAX_EMBEDDED: usize = 4;

/// Reads webhooks, one after the other, without giving its memory back in between.
#[derive(Debug, Default)]
pub(super) struct Reader {
    fields: Fields,
}

impl Reader {
    /// Tokens of one webhook into `sink`: headers first, then the body from its outer levels inwards.
    /// `body` is unpacked; its content type is believed only where its first bytes say nothing.
    pub(super) fn read(
        &mut self,
        headers: &SenderHeaders<'_>,
        content_type: Option<&str>,
        body: &[u8],
        sink: &mut impl Sink,
    ) {
        let mut emitter = Emitter::new(sink);
        for (name, value) in headers.iter().filter(|(name, _)| words::is_telling(name)) {
            emitter.header(name, value);
        }
        let body = &body[..body.len().min(SCAN_BYTES)];
        self.fields.clear();
        match Kind::of(content_type, body) {
            Kind::Json => json::scan(body, Origin::default(), &mut self.fields),
            Kind::Xml => xml::scan(body, &mut self.fields),
            Kind::Form => form::scan(body, &mut self.fields),
            Kind::Multipart => form::scan_multipart(body, &mut self.fields),
            Kind::Text => {
                emitter.text(fields::valid(&body[..body.len().min(TEXT_BYTES)]));
                return;
            }
            Kind::Binary => {
                emitter.binary();
                return;
            }
        }
        let mut embedded = 0;
        while embedded < MAX_EMBEDDED
            && let Some((document, origin)) = self.fields.take_embedded()
        {
            embedded += 1;
            json::scan(&document, origin, &mut self.fields);
        }
        self.fields.by_depth(|field| emitter.field(&field));
    }
}

/// How a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Xml,
    Form,
    Multipart,
    Text,
    Binary,
}

impl Kind {
    fn of(content_type: Option<&str>, body: &[u8]) -> Self {
        let start = body.trim_ascii_start();
        match start.first() {
            None => return Self::Text,
            Some(b'{' | b'[') => return Self::Json,
            Some(b'<') => return Self::Xml,
            // A byte order mark.
            Some(0xef) if matches!(start.get(3), Some(b'{' | b'[')) => return Self::Json,
            Some(0xef) if start.get(3) == Some(&b'<') => return Self::Xml,
            _ => {}
        }
        let says = |kind: &str| {
            content_type.is_some_and(|told| {
                told.get(..kind.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(kind))
            })
        };
        if says("multipart/") && start.starts_with(b"--") {
            return Self::Multipart;
        }
        if says("application/x-www-form-urlencoded") || form::looks_like(start) {
            return Self::Form;
        }
        let head = &body[..body.len().min(512)];
        let odd = head
            .iter()
            .filter(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace())
            .count();
        let text = match std::str::from_utf8(head) {
            Ok(_) => true,
            // Cut within a character.
            Err(error) => error.error_len().is_none(),
        };
        if text && odd * 20 <= head.len() {
            Self::Text
        } else {
            Self::Binary
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens as text, for these tests.
    pub(super) fn tokens(content_type: &str, body: &[u8]) -> Vec<String> {
        let mut sink = tokens::Texts::default();
        Reader::default().read(
            &SenderHeaders::default(),
            Some(content_type),
            body,
            &mut sink,
        );
        sink.0
    }

    fn has(found: &[String], token: &str) -> bool {
        found.iter().any(|t| t == token)
    }

    #[test]
    fn every_format_gives_the_same_tokens_for_the_same_fields() {
        let json = tokens(
            "application/json",
            br#"{"type":"invoice.paid","data":{"customer_email":"a@b.co"}}"#,
        );
        let form = tokens(
            "application/x-www-form-urlencoded",
            b"type=invoice.paid&data%5Bcustomer_email%5D=a%40b.co",
        );
        let xml = tokens(
            "application/xml",
            b"<?xml version='1.0'?><root><type>invoice.paid</type><data><customer_email>a@b.co</customer_email></data></root>",
        );
        let multipart = tokens(
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data; name=\"type\"\r\n\r\ninvoice.paid\r\n--b--",
        );
        for token in ["k:type", "e:invoice", "e:paid", "p:type=invoice_paid"] {
            for found in [&json, &form, &xml, &multipart] {
                assert!(has(found, token), "{token} in {found:?}");
            }
        }
        for token in ["q:data.customer_email", "s:customer_email=email"] {
            for found in [&json, &form, &xml] {
                assert!(has(found, token), "{token} in {found:?}");
            }
        }
    }

    #[test]
    fn documents_within_documents_are_read() {
        let inner = r#"{\"eventName\":\"ObjectCreated:Put\"}"#;
        let found = tokens(
            "text/plain",
            format!(r#"{{"Message":"{inner}"}}"#).as_bytes(),
        );
        assert!(has(&found, "e:object"), "{found:?}");
        let found = tokens(
            "application/x-www-form-urlencoded",
            b"payload=%7B%22action%22%3A%22opened%22%7D",
        );
        assert!(has(&found, "e:opened"), "{found:?}");
    }

    #[test]
    fn what_is_broken_or_cut_off_is_read_as_far_as_it_goes() {
        let found = tokens(
            "application/json",
            br#"{"type":"invoice.paid","data":{"amount":12,"cus"#,
        );
        assert!(
            has(&found, "e:invoice") && has(&found, "s:amount=number"),
            "{found:?}"
        );
        for odd in [
            &b"{"[..],
            b"[",
            b"{\"",
            b"{\"a\":",
            b"{]}",
            b"}}}}",
            b"{\"a\" \"b\"}",
            b"\xef\xbb\xbf{}",
            b"<",
            b"<a",
            b"&&==",
            b"",
        ] {
            tokens("application/json", odd);
        }
        assert_eq!(
            tokens("application/octet-stream", &[0, 1, 2, 0xff, 0xfe]),
            ["s:body=binary"]
        );
    }

    #[test]
    fn hostile_bodies_are_bounded() {
        let deep = [b"[".repeat(10_000), b"{\"a\":".repeat(10_000)].concat();
        assert!(tokens("application/json", &deep).len() < 2_000);
        let keys: Vec<String> = (0..100_000).map(|i| format!("\"key{i}x\":{i}")).collect();
        let wide = format!("{{{},\"type\":\"invoice.paid\"}}", keys.join(","));
        assert!(tokens("application/json", wide.as_bytes()).len() < 4_000);
        let long = format!("{{\"a\":\"{}\",\"b\":1}}", "x y ".repeat(1_250_000));
        assert!(tokens("application/json", long.as_bytes()).len() < 100);
        for script in [
            "支払いが完了しました",
            "تم الدفع بنجاح",
            "💸🎉",
            "\u{1F1E9}\u{1F1EA}",
            "платеж получен",
        ] {
            let found = tokens(
                "application/json",
                format!("{{\"note\":\"{script}\"}}").as_bytes(),
            );
            assert!(has(&found, "k:note"), "{found:?}");
        }
        assert!(
            has(
                &tokens("application/json", "{\"note\":\"платеж\"}".as_bytes()),
                "n:платеж"
            ) || has(
                &tokens("application/json", "{\"note\":\"платеж\"}".as_bytes()),
                "v:платеж"
            )
        );
        tokens("application/json", b"{\"a\":\"\xff\xfe\",\"type\":\"x\"}");
    }

    #[test]
    fn a_long_list_does_not_hide_what_stands_behind_it() {
        let items = r#"{"sku":"a","quantity":1},"#.repeat(2_000);
        let body = format!(r#"{{"items":[{}{{}}],"type":"order.created"}}"#, items);
        assert!(has(&tokens("application/json", body.as_bytes()), "e:order"));
    }
}
