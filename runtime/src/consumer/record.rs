//! A record as a stage sees it, and what a stage says became of it.

use std::{borrow::Cow, ops::Range, sync::Arc};

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use router_schemas::{ReadError, RecordPosition};

/// A record copied out of the consumer: one buffer holds value, key and headers.
#[derive(Debug, Clone)]
pub struct Incoming {
    topic: Arc<str>,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    buffer: Bytes,
    payload_len: usize,
    key: Range<usize>,
    headers: Box<[HeaderSpan]>,
}

/// A header as ranges of the buffer; a null value has none.
#[derive(Debug, Clone)]
struct HeaderSpan {
    name: Range<usize>,
    value: Option<Range<usize>>,
}

impl Incoming {
    /// A record copied out of a consumer.
    #[must_use]
    pub fn copy(topic: Arc<str>, message: &BorrowedMessage<'_>) -> Self {
        let payload = message.payload().unwrap_or_default();
        let key = message.key().unwrap_or_default();
        let headers = message.headers();
        let count = headers.map_or(0, |headers| headers.count());
        let mut buffer = Vec::with_capacity(payload.len() + key.len() + count * 48);
        buffer.extend_from_slice(payload);
        let key = append(&mut buffer, key);
        let mut spans = Vec::with_capacity(count);
        for header in headers.into_iter().flat_map(|headers| headers.iter()) {
            let name = append(&mut buffer, header.key.as_bytes());
            let value = header.value.map(|value| append(&mut buffer, value));
            spans.push(HeaderSpan { name, value });
        }
        Self {
            topic,
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
            buffer: Bytes::from(buffer),
            payload_len: payload.len(),
            key,
            headers: spans.into(),
        }
    }

    /// A record made by hand, for tests of stages.
    #[must_use]
    pub fn fixture(topic: &str, offset: i64, headers: &[(&str, &[u8])], payload: &[u8]) -> Self {
        let mut buffer = payload.to_vec();
        let end = payload.len();
        let spans = headers.iter().map(|(name, value)| HeaderSpan {
            name: append(&mut buffer, name.as_bytes()),
            value: Some(append(&mut buffer, value)),
        });
        let headers = spans.collect();
        Self {
            topic: topic.into(),
            partition: 0,
            offset,
            timestamp_ms: crate::now_ms(),
            buffer: Bytes::from(buffer),
            payload_len: end,
            key: end..end,
            headers,
        }
    }

    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset
    }
    /// When the broker appended the record, milliseconds since 1970.
    #[must_use]
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.buffer[self.key.clone()]
    }
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.buffer[..self.payload_len]
    }
    /// The value without copying it.
    #[must_use]
    pub fn payload_bytes(&self) -> Bytes {
        self.buffer.slice(..self.payload_len)
    }
    /// Names and values; a name that is not UTF-8 cannot occur (the client refuses it).
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.headers.iter().map(|span| {
            let name = std::str::from_utf8(&self.buffer[span.name.clone()]).unwrap_or("");
            (name, span.value.clone().map(|value| &self.buffer[value]))
        })
    }
    #[must_use]
    pub fn position(&self) -> RecordPosition {
        RecordPosition {
            topic: self.topic.to_string(),
            partition: self.partition,
            offset: self.offset,
        }
    }
    /// What the record takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len() + self.headers.len() * size_of::<HeaderSpan>() + size_of::<Self>()
    }
}

fn append(buffer: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = buffer.len();
    buffer.extend_from_slice(bytes);
    start..buffer.len()
}

/// What a stage read from a record, with the record itself.
#[derive(Debug, Clone)]
pub struct Envelope<T> {
    pub value: T,
    pub record: Arc<Incoming>,
}

/// What a record's key means for its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Records of one key share a partition, and so stay in order.
    ByKey,
    /// The key names the record and orders nothing: it may go where most company is.
    Any,
}

/// A record to produce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutRecord {
    pub topic: Arc<str>,
    pub key: Vec<u8>,
    pub order: Order,
    pub payload: Bytes,
    pub headers: Vec<(Cow<'static, str>, Vec<u8>)>,
}

/// What became of a record. Every record ends in exactly one, counted under its label.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Metric label: `routed`, `delivered`, `parked`, ...
    pub label: &'static str,
    /// What follows; the offset moves only when Kafka has acknowledged all of it.
    pub records: Vec<OutRecord>,
    /// Set where the original record goes to the dead letters as well.
    pub dead: Option<Dead>,
}

/// Why a record is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// A short code, the metric's label.
    pub reason: &'static str,
    /// For people.
    pub detail: String,
    pub project_id: Option<router_schemas::ProjectId>,
}

impl Outcome {
    /// Nothing follows.
    #[must_use]
    pub fn done(label: &'static str) -> Self {
        Self {
            label,
            records: Vec::new(),
            dead: None,
        }
    }
    #[must_use]
    pub fn emit(label: &'static str, records: Vec<OutRecord>) -> Self {
        Self {
            label,
            records,
            dead: None,
        }
    }
    /// The original record goes to the dead letters.
    #[must_use]
    pub fn reject(reason: &'static str, detail: impl Into<String>) -> Self {
        let dead = Dead {
            reason,
            detail: detail.into(),
            project_id: None,
        };
        Self {
            label: "dead",
            records: Vec::new(),
            dead: Some(dead),
        }
    }
}

/// A record that a stage cannot read.
#[derive(Debug)]
pub struct Unreadable(pub String);

impl From<ReadError> for Unreadable {
    fn from(error: ReadError) -> Self {
        Self(error.to_string())
    }
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}
