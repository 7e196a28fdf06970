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
    /// The place as in the table above.
    fn token(&mut self, place: u8, text: &[u8]);
    /// Nothing more can be taken.
    fn is_full(&self) -> bool;
}

/// Tokens as text.
#[derive(Debug, Default)]
pub(crate) struct Texts(pub(crate) Vec<String>);

/// Tokens of one example at the most.
const MAX_TEXTS: usize = 4_096;

impl Sink for Texts {
    fn token(&mut self, place: u8, text: &[u8]) {
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

/// Words of one key or name, in lower case, with `_` between them: the same for `issueComment` and `Issue comments`.
#[derive(Debug, Default)]
struct Joined {
    text: Vec<u8>,
    /// Where each word begins and ends.
    words: [(usize, usize); MAX_NAME_WORDS],
    count: usize,
}

impl Joined {
    fn set(&mut self, text: &str, limit: usize) {
        self.text.clear();
        self.count = 0;
        for word in Words::new(text).take(limit.min(MAX_NAME_WORDS)) {
            if self.count > 0 {
                self.text.push(b'_');
            }
            let start = self.text.len();
            word.push_to(&mut self.text);
            self.words[self.count] = (start, self.text.len());
            self.count += 1;
        }
    }

    fn words(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.words[..self.count]
            .iter()
            .map(|(start, end)| &self.text[*start..*end])
    }

    /// Each word with the one behind it.
    fn pairs(&self) -> impl Iterator<Item = &[u8]> {
        self.words[..self.count]
            .windows(2)
            .map(|pair| &self.text[pair[0].0..pair[1].1])
    }

    /// The first words of it.
    fn whole(&self, words: usize) -> &[u8] {
        match self.count.min(words) {
            0 => &[],
            count => &self.text[..self.words[count - 1].1],
        }
    }

    /// Where the words of a short value belong whose key this is.
    fn place(&self) -> u8 {
        if self.words().any(names_event) {
            return b'e';
        }
        match self.words().next_back() {
            None => b'v',
            Some(
                b"type" | b"object" | b"kind" | b"resource" | b"entity" | b"operation" | b"hook"
                | b"activity" | b"category" | b"change" | b"verb",
            ) => b'e',
            Some(
                b"status" | b"state" | b"reason" | b"result" | b"outcome" | b"conclusion"
                | b"severity",
            ) => b'z',
            Some(
                b"name" | b"title" | b"subject" | b"summary" | b"message" | b"description"
                | b"text" | b"label" | b"caption",
            ) => b'n',
            Some(_) => b'v',
        }
    }
}

/// Wherever such a word stands in a key, its value names the event.
fn names_event(word: &[u8]) -> bool {
    matches!(
        word,
        b"event" | b"topic" | b"action" | b"trigger" | b"webhook"
    )
}

/// Makes tokens.
pub(crate) struct Emitter<'a, S> {
    sink: &'a mut S,
    buffer: Vec<u8>,
    key: Joined,
    name: Joined,
    parent: Joined,
    /// Of what `parent` is made: fields of one object come one after the other.
    parent_text: String,
}

impl<'a, S: Sink> Emitter<'a, S> {
    pub(super) fn new(sink: &'a mut S) -> Self {
        Self {
            sink,
            buffer: Vec::with_capacity(128),
            key: Joined::default(),
            name: Joined::default(),
            parent: Joined::default(),
            parent_text: String::new(),
        }
    }

    /// A header that may say something.
    pub(super) fn header(&mut self, name: &str, value: &str) {
        self.key.set(name, MAX_KEY_WORDS);
        for word in self.key.words() {
            self.sink.token(b'h', word);
        }
        if !matches!(Shape::of_text(value), Shape::Name | Shape::Prose) {
            return;
        }
        if self.key.place() == b'e' {
            self.name.set(value, MAX_NAME_WORDS);
            self.named(b'e', value.len());
        } else {
            self.words(b'w', value, MAX_HEADER_WORDS);
        }
    }

    /// A body that is neither fields nor text.
    pub(super) fn binary(&mut self) {
        self.sink.token(b's', b"body=binary");
    }

    /// A body without structure.
    pub(super) fn text(&mut self, text: &str) {
        self.words(b'x', text, MAX_TEXT_WORDS);
    }

    pub(super) fn field(&mut self, field: &Field<'_>) {
        if self.sink.is_full() {
            return;
        }
        self.key.set(field.key, MAX_KEY_WORDS);
        self.keys(field);
        match field.value {
            FieldValue::Container => {}
            FieldValue::Literal(text) => match Shape::of_literal(text) {
                Shape::Boolean => self.boolean(text),
                shape => self.shape(shape),
            },
            FieldValue::Text(text) => self.value(text),
        }
    }

    fn keys(&mut self, field: &Field<'_>) {
        let place = if field.depth <= TOP { b'k' } else { b'd' };
        for word in self.key.words() {
            self.sink.token(place, word);
        }
        if self.key.count > 1 {
            self.sink.token(b'K', &self.key.text);
        }
        if !field.parent.is_empty() && field.parent != field.key {
            if self.parent_text != field.parent {
                self.parent.set(field.parent, MAX_KEY_WORDS);
                field.parent.clone_into(&mut self.parent_text);
            }
            let (parent, key) = (&self.parent.text, &self.key.text);
            combined(self.sink, &mut self.buffer, b'q', &[parent, b".", key]);
        }
    }

    fn value(&mut self, text: &str) {
        match Shape::of_text(text) {
            Shape::Name => {
                self.name.set(text, MAX_NAME_WORDS);
                self.named(self.key.place(), text.len());
            }
            Shape::Prose => {
                let place = if self.key.place() == b'n' { b'n' } else { b't' };
                self.words(place, text, MAX_PROSE_WORDS);
                self.shape(Shape::Prose);
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
                self.shape(Shape::Url);
            }
            Shape::Boolean => self.boolean(text),
            shape => self.shape(shape),
        }
    }

    /// A short value, which stands in `name`.
    fn named(&mut self, place: u8, bytes: usize) {
        for word in self.name.words() {
            self.sink.token(place, word);
        }
        if place == b'e' {
            for pair in self.name.pairs() {
                self.sink.token(b'E', pair);
            }
        }
        if bytes <= MAX_WHOLE_BYTES && self.name.count > 0 {
            let value = self.name.whole(MAX_KEY_WORDS);
            combined(
                self.sink,
                &mut self.buffer,
                b'p',
                &[&self.key.text, b"=", value],
            );
        }
    }

    fn boolean(&mut self, text: &str) {
        combined(
            self.sink,
            &mut self.buffer,
            b'p',
            &[&self.key.text, b"=", text.as_bytes()],
        );
    }

    fn shape(&mut self, shape: Shape) {
        let name = shape.name().as_bytes();
        combined(
            self.sink,
            &mut self.buffer,
            b's',
            &[&self.key.text, b"=", name],
        );
    }

    fn words(&mut self, place: u8, text: &str, limit: usize) {
        for word in Words::new(text).take(limit) {
            self.buffer.clear();
            word.push_to(&mut self.buffer);
            self.sink.token(place, &self.buffer);
        }
    }
}

/// A token of several texts.
fn combined(sink: &mut impl Sink, buffer: &mut Vec<u8>, place: u8, texts: &[&[u8]]) {
    buffer.clear();
    for text in texts {
        buffer.extend_from_slice(text);
    }
    sink.token(place, buffer);
}
