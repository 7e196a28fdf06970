//! From headers and fields to tokens: short texts of a place and a word, such as `k:invoice`.
//!
//! | token | what it is |
//! | --- | --- |
//! | `h:event`, `w:push` | word of a header's name, of its value |
//! | `k:invoice`, `d:invoice` | word of a key on the two outermost levels, of one further in |
//! | `K:pull_request` | a key of several words as a whole |
//! | `q:data.object` | a key within another |
//! | `e:paid`, `E:invoice_paid` | word of a value that names the event, two words of it |
//! | `z:open` | word of a status |
//! | `n:outage` | word of a name, title or subject |
//! | `v:eur` | word of any other short value |
//! | `t:failed` | word of prose |
//! | `u:pulls` | word of a URL's path |
//! | `x:backup` | word of a body without structure |
//! | `p:status=past_due` | a short value as a whole with its key |
//! | `s:amount=decimal` | the kind of value a key has |

use super::{
    fields::{Field, FieldValue},
    shape::Shape,
    words::Words,
};

/// Takes tokens.
pub(crate) trait Sink {
    /// `word` says that the text is a single word, of which more may be known than of a combination.
    fn token(&mut self, place: u8, text: &[u8], word: bool);
    /// Nothing more can be taken.
    fn is_full(&self) -> bool;
}

/// Tokens as text.
#[derive(Debug, Default)]
pub(crate) struct Texts(pub(crate) Vec<String>);

/// Tokens of one example at the most.
const MAX_TEXTS: usize = 4_096;

impl Sink for Texts {
    fn token(&mut self, place: u8, text: &[u8], _word: bool) {
        let text = String::from_utf8_lossy(text);
        self.0.push(format!("{}:{text}", char::from(place)));
    }
    fn is_full(&self) -> bool {
        self.0.len() >= MAX_TEXTS
    }
}

const MAX_KEY_WORDS: usize = 6;
const MAX_NAME_WORDS: usize = 8;
const MAX_PROSE_WORDS: usize = 16;
const MAX_TEXT_WORDS: usize = 120;
const MAX_URL_WORDS: usize = 6;
const MAX_URL_PART_WORDS: usize = 2;
const MAX_HEADER_WORDS: usize = 10;
/// A longer value is no name for something.
const MAX_WHOLE_BYTES: usize = 40;
/// Depth up to which a key stands on top.
const TOP: usize = 1;

/// Last words of keys whose values name the event.
const EVENT: [&str; 15] = [
    "type",
    "event",
    "action",
    "topic",
    "kind",
    "object",
    "trigger",
    "resource",
    "entity",
    "operation",
    "hook",
    "activity",
    "category",
    "change",
    "verb",
];
/// Words that make a key one of these wherever they stand in it.
const EVENT_ANYWHERE: [&str; 5] = ["event", "topic", "action", "trigger", "webhook"];
const STATUS: [&str; 7] = [
    "status",
    "state",
    "reason",
    "result",
    "outcome",
    "conclusion",
    "severity",
];
const NAMING: [&str; 9] = [
    "name",
    "title",
    "subject",
    "summary",
    "message",
    "description",
    "text",
    "label",
    "caption",
];

/// Makes tokens.
pub(crate) struct Emitter<'a, S> {
    sink: &'a mut S,
    buffer: Vec<u8>,
}

impl<'a, S: Sink> Emitter<'a, S> {
    pub(super) fn new(sink: &'a mut S) -> Self {
        Self {
            sink,
            buffer: Vec::with_capacity(128),
        }
    }

    /// A header that may say something.
    pub(super) fn header(&mut self, name: &str, value: &str) {
        self.words(b'h', name, MAX_KEY_WORDS);
        if matches!(Shape::of_text(value), Shape::Name | Shape::Prose) {
            let place = match place_of(name) {
                b'e' => b'e',
                _ => b'w',
            };
            self.words(place, value, MAX_HEADER_WORDS);
            if place == b'e' {
                self.pairs_of_words(value);
                self.whole(name, value);
            }
        }
    }

    /// A body that is neither fields nor text.
    pub(super) fn binary(&mut self) {
        self.sink.token(b's', b"body=binary", false);
    }

    /// A body without structure.
    pub(super) fn text(&mut self, text: &str) {
        self.words(b'x', text, MAX_TEXT_WORDS);
    }

    pub(super) fn field(&mut self, field: &Field<'_>) {
        if self.sink.is_full() {
            return;
        }
        self.key(field);
        match field.value {
            FieldValue::Container => {}
            FieldValue::Literal(text) => {
                let shape = Shape::of_literal(text);
                if shape == Shape::Boolean {
                    self.whole(field.key, text);
                } else {
                    self.shape(field.key, shape);
                }
            }
            FieldValue::Text(text) => self.value(field.key, text),
        }
    }

    fn key(&mut self, field: &Field<'_>) {
        let place = if field.depth <= TOP { b'k' } else { b'd' };
        if self.words(place, field.key, MAX_KEY_WORDS) > 1 {
            self.buffer.clear();
            join(&mut self.buffer, field.key);
            self.sink.token(b'K', &self.buffer, false);
        }
        if !field.parent.is_empty() && field.parent != field.key {
            self.buffer.clear();
            join(&mut self.buffer, field.parent);
            self.buffer.push(b'.');
            join(&mut self.buffer, field.key);
            self.sink.token(b'q', &self.buffer, false);
        }
    }

    fn value(&mut self, key: &str, text: &str) {
        let shape = Shape::of_text(text);
        match shape {
            Shape::Name => {
                let place = place_of(key);
                self.words(place, text, MAX_NAME_WORDS);
                if place == b'e' {
                    self.pairs_of_words(text);
                }
                if text.len() <= MAX_WHOLE_BYTES {
                    self.whole(key, text);
                }
            }
            Shape::Prose => {
                let place = if place_of(key) == b'n' { b'n' } else { b't' };
                self.words(place, text, MAX_PROSE_WORDS);
                self.shape(key, shape);
            }
            Shape::Url => {
                // Who sends it is not to be learnt; what stands in its path is.
                let path = text.splitn(4, '/').nth(3).unwrap_or_default();
                let path = path.split(['?', '#']).next().unwrap_or_default();
                // A part with digits is an id.
                let parts = path
                    .split('/')
                    .filter(|part| !part.bytes().any(|byte| byte.is_ascii_digit()));
                for part in parts.take(MAX_URL_WORDS) {
                    self.words(b'u', part, MAX_URL_PART_WORDS);
                }
                self.shape(key, shape);
            }
            Shape::Boolean => self.whole(key, text),
            _ => self.shape(key, shape),
        }
    }

    /// The value as a whole with its key.
    fn whole(&mut self, key: &str, text: &str) {
        self.buffer.clear();
        join(&mut self.buffer, key);
        self.buffer.push(b'=');
        let before = self.buffer.len();
        join(&mut self.buffer, text);
        if self.buffer.len() > before {
            self.sink.token(b'p', &self.buffer, false);
        }
    }

    fn shape(&mut self, key: &str, shape: Shape) {
        self.buffer.clear();
        join(&mut self.buffer, key);
        self.buffer.push(b'=');
        self.buffer.extend_from_slice(shape.name().as_bytes());
        self.sink.token(b's', &self.buffer, false);
    }

    fn pairs_of_words(&mut self, text: &str) {
        self.buffer.clear();
        let mut start = 0;
        for word in Words::new(text).take(MAX_NAME_WORDS) {
            let next = self.buffer.len() + 1;
            if !self.buffer.is_empty() {
                self.buffer.push(b'_');
            }
            word.push_to(&mut self.buffer);
            if next > 1 {
                self.sink.token(b'E', &self.buffer[start..], false);
                start = next;
            }
        }
    }

    fn words(&mut self, place: u8, text: &str, limit: usize) -> usize {
        let mut count = 0;
        for word in Words::new(text).take(limit) {
            self.buffer.clear();
            word.push_to(&mut self.buffer);
            self.sink.token(place, &self.buffer, true);
            count += 1;
        }
        count
    }
}

/// The words of a text with `_` between them: the same for `issueComment` and `Issue comments`.
fn join(buffer: &mut Vec<u8>, text: &str) {
    let start = buffer.len();
    for word in Words::new(text).take(MAX_KEY_WORDS) {
        if buffer.len() > start {
            buffer.push(b'_');
        }
        word.push_to(buffer);
    }
}

/// Where the words of a short value belong, by its key.
fn place_of(key: &str) -> u8 {
    let mut last = None;
    for word in Words::new(key).take(MAX_KEY_WORDS) {
        if EVENT_ANYWHERE.iter().any(|known| word.is(known)) {
            return b'e';
        }
        last = Some(word);
    }
    let Some(last) = last else { return b'v' };
    let one_of = |known: &[&str]| known.iter().any(|known| last.is(known));
    if one_of(&EVENT) {
        b'e'
    } else if one_of(&STATUS) {
        b'z'
    } else if one_of(&NAMING) {
        b'n'
    } else {
        b'v'
    }
}
