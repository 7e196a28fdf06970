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
    /// FNV-1a over the lower-case word without a plural `s`.
    pub(super) fn hash(self) -> u32 {
        hash(Words::EMPTY, self.stem())
    }

    pub(super) fn lower(self) -> String {
        self.0.to_ascii_lowercase()
    }

    fn stem(&self) -> &str {
        let bytes = self.0.as_bytes();
        let plural = bytes.len() > 3
            && bytes[bytes.len() - 1].eq_ignore_ascii_case(&b's')
            && !bytes[bytes.len() - 2].eq_ignore_ascii_case(&b's');
        if plural {
            &self.0[..self.0.len() - 1]
        } else {
            self.0
        }
    }
}

fn hash(start: u32, text: &str) -> u32 {
    text.bytes().fold(start, |hash, byte| {
        (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    })
}

/// The words of a text, in order.
pub(super) struct Words<'a> {
    rest: &'a str,
}

/// A longer run of letters is base64 or the like.
const MAX_WORD_BYTES: usize = 24;

impl<'a> Words<'a> {
    /// The hash of no word (FNV-1a's offset basis).
    pub(super) const EMPTY: u32 = 0x811c_9dc5;

    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// One hash of all words together, the same for `issue_comment`, `issueComment` and `Issue comment`.
    pub(super) fn whole(text: &str) -> u32 {
        Words::new(text).take(6).fold(Self::EMPTY, |sum, word| {
            if sum == Self::EMPTY {
                word.hash()
            } else {
                hash(sum ^ b' ' as u32, word.stem())
            }
        })
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        loop {
            let start = start_of_word(self.rest)?;
            let rest = &self.rest[start..];
            let end = end_of_word(rest);
            self.rest = &rest[end..];
            let word = &rest[..end];
            if is_word(word) {
                return Some(Word(word));
            }
        }
    }
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
        if !character.is_alphanumeric() {
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
    fn a_whole_is_the_same_in_every_style() {
        let style = Words::whole("issue_comment");
        for other in [
            "issueComment",
            "Issue Comments",
            "ISSUE-COMMENT",
            "issue.comment",
        ] {
            assert_eq!(Words::whole(other), style, "{other}");
        }
        assert_ne!(Words::whole("comment issue"), style);
    }
}
