//! What the model reads of a webhook: words of header names and values, of JSON keys and of values, each
//! hashed into one of a fixed number of buckets.
//!
//! Training reads them through the same code (`stream-workers features`), so what a model has learnt is
//! what it is shown. A change here needs a new [`SCHEME`] and a newly trained model.
//!
//! The outer levels of a document come first and the number of features is bounded, so a large document
//! costs no more than a middling one and its depths do not drown what stands on top.

use std::collections::VecDeque;

use serde_json::Value;

use super::words::{Words, is_telling};
use crate::{body::Body, headers::SenderHeaders};

/// Version of what this file does, written into each model.
pub const SCHEME: u32 = 1;
/// Buckets that words are hashed into.
pub const BUCKETS: u32 = 32_768;
/// Features of one webhook at the most.
pub const MAX_FEATURES: usize = 256;

/// Nodes of a document that are looked at.
const MAX_NODES: usize = 1_024;
/// Items of one array: the tenth line of an invoice says what the first has said.
const MAX_ITEMS: usize = 3;
/// Words of one value.
const MAX_VALUE_WORDS: usize = 12;
/// Words of a body that is not JSON.
const MAX_TEXT_WORDS: usize = 160;
const MAX_TEXT_BYTES: usize = 8_192;
/// A value up to this length may be a name for something (`paid`, `issue_comment`), and is a feature as a whole.
const MAX_NAME_BYTES: usize = 40;

/// Keys whose values name the event.
const EVENT_KEYS: [&str; 18] = [
    "type",
    "event",
    "action",
    "topic",
    "kind",
    "object",
    "status",
    "state",
    "name",
    "category",
    "trigger",
    "subject",
    "title",
    "reason",
    "resource",
    "entity",
    "operation",
    "summary",
];

/// Where a word stood: the same word means different things in a key and in a value.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Place {
    Header = 1,
    HeaderValue = 2,
    Key = 3,
    /// Two keys, one within the other.
    Path = 4,
    Value = 5,
    /// A value of a key that names the event.
    Event = 6,
    /// A short value as a whole with its key.
    Pair = 7,
    Text = 8,
}

/// Collects features without doubles.
pub struct Features {
    ids: Vec<u32>,
    seen: Box<[u64; BUCKETS as usize / 64]>,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            ids: Vec::with_capacity(MAX_FEATURES),
            seen: Box::new([0; BUCKETS as usize / 64]),
        }
    }
}

impl Features {
    /// The features of one webhook, in the order in which they were met; at most [`MAX_FEATURES`], each
    /// below [`BUCKETS`]. The slice stands until the next call.
    pub fn read(&mut self, headers: &SenderHeaders<'_>, body: &Body) -> &[u32] {
        for id in self.ids.drain(..) {
            self.seen[id as usize / 64] &= !(1 << (id % 64));
        }
        self.headers(headers);
        match body.value() {
            Some(value) => self.document(value),
            None => {
                if let Some(text) = body.text() {
                    self.text(text);
                }
            }
        }
        &self.ids
    }

    fn headers(&mut self, headers: &SenderHeaders<'_>) {
        for (name, value) in headers.iter().filter(|(name, _)| is_telling(name)) {
            self.words(Place::Header, name, MAX_VALUE_WORDS);
            self.words(Place::HeaderValue, value, MAX_VALUE_WORDS);
        }
    }

    fn document(&mut self, root: &Value) {
        let mut queue: VecDeque<(&str, &str, &Value)> = VecDeque::from([("", "", root)]);
        let mut nodes = 0;
        while let Some((parent, key, value)) = queue.pop_front() {
            nodes += 1;
            if nodes > MAX_NODES || self.full() {
                return;
            }
            match value {
                Value::Object(fields) => {
                    for (name, field) in fields {
                        if nodes + queue.len() > MAX_NODES {
                            break;
                        }
                        self.key(key, name);
                        queue.push_back((key, name, field));
                    }
                }
                Value::Array(items) => {
                    queue.extend(items.iter().take(MAX_ITEMS).map(|item| (parent, key, item)));
                }
                Value::String(text) => self.value(key, text),
                Value::Bool(_) | Value::Number(_) | Value::Null => {}
            }
        }
    }

    fn key(&mut self, parent: &str, name: &str) {
        self.words(Place::Key, name, 6);
        if !parent.is_empty() {
            let (a, b) = (Words::whole(parent), Words::whole(name));
            self.add(Place::Path, a.rotate_left(16) ^ b);
        }
    }

    fn value(&mut self, key: &str, text: &str) {
        let last = Words::new(key).last();
        let event = last.is_some_and(|word| {
            let word = word.lower();
            EVENT_KEYS.contains(&word.as_str())
        });
        if event {
            self.words(Place::Event, text, MAX_VALUE_WORDS);
        }
        if text.len() <= MAX_NAME_BYTES && !text.is_empty() {
            let whole = Words::whole(text);
            if whole != Words::EMPTY {
                self.add(Place::Pair, Words::whole(key).rotate_left(16) ^ whole);
            }
        }
        self.words(Place::Value, text, MAX_VALUE_WORDS);
    }

    fn text(&mut self, text: &str) {
        let end = text.floor_char_boundary(MAX_TEXT_BYTES);
        self.words(Place::Text, &text[..end], MAX_TEXT_WORDS);
    }

    fn words(&mut self, place: Place, text: &str, limit: usize) {
        for word in Words::new(text).take(limit) {
            self.add(place, word.hash());
        }
    }

    fn full(&self) -> bool {
        self.ids.len() >= MAX_FEATURES
    }

    fn add(&mut self, place: Place, hash: u32) {
        // The finaliser of MurmurHash3: neighbouring words must not share neighbouring buckets.
        let mut mixed = hash ^ (place as u32).wrapping_mul(0x9e37_79b9);
        mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x85eb_ca6b);
        mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35);
        let id = (mixed ^ (mixed >> 16)) % BUCKETS;
        let (slot, bit) = (id as usize / 64, 1 << (id % 64));
        if self.seen[slot] & bit == 0 && !self.full() {
            self.seen[slot] |= bit;
            self.ids.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn of(headers: &str, body: &str) -> Vec<u32> {
        let body = Body::read(Bytes::copy_from_slice(body.as_bytes()), None, None, 1 << 20);
        Features::default()
            .read(&SenderHeaders::parse(headers), &body)
            .to_vec()
    }

    #[test]
    fn the_same_webhook_gives_the_same_features_again_and_after_others() {
        let body = Body::read(
            Bytes::from_static(br#"{"type":"invoice.paid"}"#),
            None,
            None,
            100,
        );
        let other = Body::read(Bytes::from_static(br#"{"a":"b c d"}"#), None, None, 100);
        let none = SenderHeaders::parse("[]");
        let mut features = Features::default();
        let first = features.read(&none, &body).to_vec();
        features.read(&none, &other);
        assert_eq!(features.read(&none, &body), first);
        assert!(!first.is_empty());
    }

    #[test]
    fn writing_styles_share_words_and_transport_headers_are_not_read() {
        let snake = of("[]", r#"{"invoice_paid":"PaymentFailed"}"#);
        let camel = of("[]", r#"{"invoicePaid":"payment failed"}"#);
        let shared = snake.iter().filter(|id| camel.contains(id)).count();
        assert!(shared >= 4, "{snake:?} {camel:?}");
        assert!(
            of(
                r#"[["host","stripe.com"],["date","Mon"],["x-request-id","abc"]]"#,
                ""
            )
            .is_empty()
        );
        assert!(!of(r#"[["x-github-event","push"]]"#, "").is_empty());
    }

    #[test]
    fn large_documents_are_bounded_and_their_top_is_read() {
        let wide: Vec<_> = (0..50_000)
            .map(|i| json!({"inner": format!("w{i} word{i}ish")}))
            .collect();
        let body = json!({"big": wide, "type": "invoice.paid"}).to_string();
        let features = of("[]", &body);
        assert!(features.len() <= MAX_FEATURES);
        let top = of("[]", r#"{"type":"invoice.paid"}"#);
        assert!(top.iter().all(|id| features.contains(id)));
    }

    #[test]
    fn anything_gives_bounded_features() {
        proptest::proptest!(|(headers in ".{0,200}", body in ".{0,2000}")| {
            let features = of(&headers, &body);
            assert!(features.len() <= MAX_FEATURES && features.iter().all(|id| *id < BUCKETS));
        });
    }
}
