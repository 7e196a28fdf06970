//! Words of keys, values and header names: split where people and programmers split them, digits and
//! random strings left out.

/// Header names that say how a request travelled, not what it is about.
const TRANSPORT: [&str; 26] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "accept",
    "accept-encoding",
    "accept-language",
    "accept-charset",
    "connection",
    "date",
    "via",
    "forwarded",
    "x-real-ip",
    "authorization",
    "x-api-key",
    "cookie",
    "traceparent",
    "tracestate",
    "x-request-id",
    "priority",
    "transfer-encoding",
    "cache-control",
    "pragma",
    "keep-alive",
    "te",
    "expect",
];

/// Whether a header (lower-case name) may say something about sender or event.
pub(super) fn is_telling(name: &str) -> bool {
    !TRANSPORT.contains(&name)
        && !["x-forwarded", "cf-", "x-amzn-", "x-envoy", "x-b3-", "sec-"]
            .iter()
            .any(|start| name.starts_with(start))
}

/// One word: a run of letters, with few digits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word<'a>(&'a str);

impl Word<'_> {
    /// The word in lower case without a plural `s`.
    pub(super) fn push_to(self, buffer: &mut Vec<u8>) {
        buffer.extend(self.stem().bytes().map(|byte| byte.to_ascii_lowercase()));
    }

    fn stem(&self) -> &str {
        let bytes = self.0.as_bytes();
        let [.., before, last] = bytes else {
            return self.0;
        };
        // `status`, `address`, `analysis` are no plurals.
        let plural = bytes.len() > 3
            && last.eq_ignore_ascii_case(&b's')
            && !matches!(before.to_ascii_lowercase(), b's' | b'u' | b'i');
        if plural {
            &self.0[..self.0.len() - 1]
        } else {
            self.0
        }
    }
}

/// The words of a text, in order.
pub(super) struct Words<'a> {
    rest: &'a str,
}

/// A longer run of letters is base64 or the like.
const MAX_WORD_BYTES: usize = 24;

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        loop {
            let start = start_of_word(self.rest)?;
            let rest = &self.rest[start..];
            let end = match ideograph(rest) {
                Some(length) => length,
                None => end_of_word(rest),
            };
            self.rest = &rest[end..];
            let word = &rest[..end];
            if is_word(word) {
                return Some(Word(word));
            }
        }
    }
}

/// The length of a character that is a word by itself: Chinese and Japanese put nothing between words.
fn ideograph(text: &str) -> Option<usize> {
    let first = text.chars().next().filter(|c| !c.is_ascii())?;
    matches!(first, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
        .then_some(first.len_utf8())
}

/// The first letter or digit. Most text is ASCII, and its bytes need no decoding.
fn start_of_word(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let at = bytes
        .iter()
        .position(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii())?;
    if bytes[at].is_ascii() {
        return Some(at);
    }
    let rest = &text[at..];
    rest.find(|c: char| c.is_alphanumeric())
        .map(|more| at + more)
}

/// A word ends at anything that is no letter or digit, and where a capital follows a small letter.
fn end_of_word(text: &str) -> usize {
    let mut before = b' ';
    let mut capitals = 0;
    for (at, byte) in text.bytes().enumerate() {
        if !byte.is_ascii() {
            return end_of_any_word(text);
        }
        if !byte.is_ascii_alphanumeric() {
            return at;
        }
        let capital = byte.is_ascii_uppercase();
        if capital && at > 0 && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            return at;
        }
        // `HTTPServer` is `HTTP` and `Server`.
        if byte.is_ascii_lowercase() && capitals > 1 {
            return at - 1;
        }
        capitals = if capital { capitals + 1 } else { 0 };
        before = byte;
    }
    text.len()
}

/// As [`end_of_word`], of any script.
fn end_of_any_word(text: &str) -> usize {
    let mut before = ' ';
    let mut capitals = 0;
    for (at, character) in text.char_indices() {
        if !character.is_alphanumeric() || ideograph(&text[at..]).is_some() {
            return at;
        }
        let capital = character.is_uppercase();
        if capital && at > 0 && (before.is_lowercase() || before.is_ascii_digit()) {
            return at;
        }
        // `HTTPServer` is `HTTP` and `Server`.
        if character.is_lowercase() && capitals > 1 {
            return at - before.len_utf8();
        }
        capitals = if capital { capitals + 1 } else { 0 };
        before = character;
    }
    text.len()
}

/// Numbers, ids and random strings are none.
fn is_word(word: &str) -> bool {
    if word.len() < 2 || word.len() > MAX_WORD_BYTES {
        return false;
    }
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    if digits == 0 {
        return true;
    }
    word.len() <= 4 && digits * 2 <= word.len() && !word.as_bytes()[0].is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        Words::new(text).map(|word| word.0).collect()
    }

    #[test]
    fn texts_are_split_where_people_split_them() {
        assert_eq!(
            words("invoice.payment_failed"),
            ["invoice", "payment", "failed"]
        );
        assert_eq!(words("pullRequestReview"), ["pull", "Request", "Review"]);
        assert_eq!(
            words("HTTPServer X-GitHub-Event"),
            ["HTTP", "Server", "Git", "Hub", "Event"]
        );
        assert_eq!(words("ISSUE_COMMENT"), ["ISSUE", "COMMENT"]);
        assert_eq!(
            words("evt_1Nxyz987abc 2024-01-02T03:04:05Z s3 v1 42"),
            ["evt", "s3", "v1"]
        );
        assert_eq!(words("größe straße"), ["größe", "straße"]);
    }

    #[test]
    fn the_short_way_through_ascii_ends_words_where_the_long_one_does() {
        proptest::proptest!(|(text in "[a-zA-Z0-9_ -]{1,40}")| {
            let start = start_of_word(&text);
            assert_eq!(start, text.find(|c: char| c.is_alphanumeric()));
            if let Some(start) = start {
                assert_eq!(end_of_word(&text[start..]), end_of_any_word(&text[start..]));
            }
        });
    }

    #[test]
    fn plurals_are_their_singulars_and_case_does_not_count() {
        let stems: Vec<String> = Words::new("Invoices STATUS addresses Analysis boss")
            .map(|word| {
                let mut buffer = Vec::new();
                word.push_to(&mut buffer);
                String::from_utf8(buffer).unwrap()
            })
            .collect();
        assert_eq!(stems, ["invoice", "status", "addresse", "analysis", "boss"]);
    }
}
