//! Tokens as the numbers that a model takes: each token hashed into one of a fixed number of buckets, and of
//! single words those that the model's vocabulary knows, with the place where they stood.

use router_schemas::config::Example;

use super::{
    reading::{Reader, SCHEME, Sink, Texts},
    vocabulary::Vocabulary,
};
use crate::headers::SenderHeaders;

/// Buckets that tokens are hashed into.
pub const BUCKETS: u32 = 32_768;
/// Tokens of one webhook at the most.
pub const MAX_TOKENS: usize = 128;
/// Words of one webhook at the most.
pub const MAX_WORDS: usize = 96;
/// Places whose words are averaged apart from those of others.
pub(super) const GROUPS: u8 = 6;
/// Tokens of one example; more than a model takes, so that another model may take more.
const MAX_EXAMPLE_TOKENS: usize = 256;

/// What a model is shown of one webhook, without doubles, in the order in which it was met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// At most [`MAX_TOKENS`], each below [`BUCKETS`].
    pub tokens: Vec<i32>,
    /// At most [`MAX_WORDS`], each below the size of the vocabulary.
    pub words: Vec<i32>,
    /// For each word the number of the places it was met in.
    pub groups: Vec<i32>,
    /// Of `tokens` those that are words of the event's name. No model takes them; they tell events of one sender apart.
    pub event: Vec<i32>,
}

/// Which words are averaged together, by the place of their token.
fn group(place: u8) -> i32 {
    match place {
        b'e' => 0,
        b'k' => 1,
        b'd' => 2,
        b'z' | b'v' | b'u' => 3,
        b'n' | b't' | b'x' => 4,
        _ => 5,
    }
}

/// Words of values that name the event.
const EVENT_PLACE: u8 = b'e';

/// Tokens of these places are single words.
fn is_word(place: u8) -> bool {
    b"hwkdeznvtux".contains(&place)
}

/// A set of numbers that is emptied in the time it took to fill.
#[derive(Debug, Default)]
struct Seen(Vec<u64>);

impl Seen {
    fn of(size: usize) -> Self {
        Self(vec![0; size.div_ceil(64)])
    }
    /// Whether it was not in it.
    fn insert(&mut self, number: usize) -> bool {
        let (slot, bit) = (number / 64, 1_u64 << (number % 64));
        let new = self.0[slot] & bit == 0;
        self.0[slot] |= bit;
        new
    }
    fn remove(&mut self, number: usize) {
        self.0[number / 64] &= !(1 << (number % 64));
    }
}

/// Reads webhooks for one model.
pub struct Features<'a> {
    reader: Reader,
    row: Collecting<'a>,
}

struct Collecting<'a> {
    vocabulary: &'a Vocabulary,
    row: Row,
    tokens: Seen,
    words: Seen,
}

impl<'a> Features<'a> {
    #[must_use]
    pub fn new(vocabulary: &'a Vocabulary) -> Self {
        Self {
            reader: Reader::default(),
            row: Collecting {
                vocabulary,
                row: Row::default(),
                tokens: Seen::of(BUCKETS as usize),
                words: Seen::of(vocabulary.len() * usize::from(GROUPS)),
            },
        }
    }

    /// One webhook. `body` is unpacked.
    pub fn read(
        &mut self,
        headers: &SenderHeaders<'_>,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Row {
        self.reader.read(headers, content_type, body, &mut self.row);
        self.row.take()
    }

    /// A webhook of which only the tokens are left.
    pub fn read_tokens<'t>(&mut self, tokens: impl Iterator<Item = &'t str>) -> Row {
        for token in tokens {
            if let [place, b':', text @ ..] = token.as_bytes() {
                self.row.token(*place, text);
            }
        }
        self.row.take()
    }
}

impl Collecting<'_> {
    fn take(&mut self) -> Row {
        let row = std::mem::take(&mut self.row);
        for token in &row.tokens {
            self.tokens.remove(*token as usize);
        }
        for (word, group) in row.words.iter().zip(&row.groups) {
            self.words.remove(place_in_set(*word, *group));
        }
        row
    }
}

fn place_in_set(word: i32, group: i32) -> usize {
    word as usize * usize::from(GROUPS) + group as usize
}

impl Sink for Collecting<'_> {
    fn token(&mut self, place: u8, text: &[u8]) {
        let id = bucket(place, text);
        if self.row.tokens.len() < MAX_TOKENS && self.tokens.insert(id as usize) {
            self.row.tokens.push(id);
            if place == EVENT_PLACE {
                self.row.event.push(id);
            }
        }
        if !is_word(place) {
            return;
        }
        let group = group(place);
        for found in self.vocabulary.find(text).into_iter().flatten() {
            let found = i32::try_from(found).expect("a vocabulary is small");
            if self.row.words.len() < MAX_WORDS && self.words.insert(place_in_set(found, group)) {
                self.row.words.push(found);
                self.row.groups.push(group);
            }
        }
    }
    fn is_full(&self) -> bool {
        self.row.tokens.len() >= MAX_TOKENS && self.row.words.len() >= MAX_WORDS
    }
}

/// FNV-1a of place and text.
fn bucket(place: u8, text: &[u8]) -> i32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = text
        .iter()
        .fold(step(0x811c_9dc5, place), |hash, byte| step(hash, *byte));
    // The finaliser of MurmurHash3: neighbouring words must not share neighbouring buckets.
    let mut mixed = hash;
    mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x85eb_ca6b);
    mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35);
    ((mixed ^ (mixed >> 16)) % BUCKETS) as i32
}

/// A webhook as an example of a label or a correction: its tokens, in which no id, number, date or address is
/// left. `body` is unpacked.
#[must_use]
pub fn example(headers: &SenderHeaders<'_>, content_type: Option<&str>, body: &[u8]) -> Example {
    let mut texts = Texts::default();
    Reader::default().read(headers, content_type, body, &mut texts);
    let mut tokens = texts.0;
    let mut seen = std::collections::HashSet::new();
    tokens.retain(|token| seen.len() < MAX_EXAMPLE_TOKENS && seen.insert(token.clone()));
    Example {
        scheme: SCHEME,
        tokens,
    }
}

/// How many tokens a webhook has, doubles included, when they are read and nothing is made of them. For measuring
/// what reading costs.
#[must_use]
pub fn count_tokens(headers: &SenderHeaders<'_>, content_type: Option<&str>, body: &[u8]) -> usize {
    struct Count(usize);
    impl Sink for Count {
        fn token(&mut self, _place: u8, _text: &[u8]) {
            self.0 += 1;
        }
        fn is_full(&self) -> bool {
            self.0 >= MAX_TOKENS + MAX_WORDS
        }
    }
    let mut count = Count(0);
    Reader::default().read(headers, content_type, body, &mut count);
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(features: &mut Features<'_>, headers: &str, body: &str) -> Row {
        features.read(&SenderHeaders::parse(headers), None, body.as_bytes())
    }

    #[test]
    fn the_same_webhook_gives_the_same_row_again_and_after_others() {
        let words = Vocabulary::read("invoice\npaid\ntype").unwrap();
        let mut features = Features::new(&words);
        let body = r#"{"type":"invoice.paid"}"#;
        let first = of(&mut features, "[]", body);
        of(&mut features, "[]", r#"{"a":"b c d"}"#);
        assert_eq!(of(&mut features, "[]", body), first);
        assert_eq!(
            (&*first.words, &*first.groups),
            (&[2, 0, 1][..], &[1, 0, 0][..])
        );
    }

    #[test]
    fn the_tokens_of_a_webhook_give_its_row() {
        let words = Vocabulary::read("invoice\npaid\npush\nevent").unwrap();
        let mut features = Features::new(&words);
        let headers = r#"[["x-acme-event","push"]]"#;
        let body = r#"{"type":"invoice.paid","data":{"customerEmail":"a@b.co","note":"the invoice was paid by mail"}}"#;
        let direct = of(&mut features, headers, body);
        let example = example(&SenderHeaders::parse(headers), None, body.as_bytes());
        let again = features.read_tokens(example.tokens.iter().map(String::as_str));
        assert_eq!(direct, again);
        assert!(!example.tokens.iter().any(|token| token.contains('@')));
    }

    #[test]
    fn writing_styles_share_tokens_and_transport_headers_are_not_read() {
        let none = Vocabulary::default();
        let mut features = Features::new(&none);
        let snake = of(&mut features, "[]", r#"{"invoice_paid":"PaymentFailed"}"#);
        let camel = of(&mut features, "[]", r#"{"invoicePaid":"payment failed"}"#);
        assert_eq!(snake, camel);
        let transport = r#"[["host","stripe.com"],["date","Mon"],["x-request-id","abc"]]"#;
        assert_eq!(of(&mut features, transport, ""), Row::default());
    }

    #[test]
    fn anything_gives_a_bounded_row() {
        let words = Vocabulary::read("a\nb\nthe").unwrap();
        proptest::proptest!(|(headers in ".{0,200}", kind in ".{0,40}", body in proptest::collection::vec(proptest::num::u8::ANY, 0..2000))| {
            let row = Features::new(&words).read(&SenderHeaders::parse(&headers), Some(&kind), &body);
            assert!(row.tokens.len() <= MAX_TOKENS && row.words.len() <= MAX_WORDS);
            assert_eq!(row.words.len(), row.groups.len());
        });
    }
}
