//! Fields of a body as they were found, handed on by depth: what stands on top says what an event is about.

/// Fields kept of one body.
const MAX_FIELDS: usize = 768;
/// Levels that are told apart.
pub(super) const MAX_DEPTH: usize = 10;
const MAX_KEY_BYTES: usize = 64;
const MAX_VALUE_BYTES: usize = 320;
/// A document within a document is read this far.
const MAX_EMBEDDED_BYTES: usize = 64 << 10;
/// A longer text of braces is taken for a document.
const MIN_EMBEDDED_BYTES: usize = 9;

/// A stretch of the arena.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    pub(super) fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// Where in a body a value stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Origin {
    pub(super) depth: usize,
    /// The key of the object around it.
    pub(super) parent: Span,
    /// Its own key; that of its list for an item of a list.
    pub(super) key: Span,
}

/// A value, as far as it is kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    /// An object or a list: the key is all there is to say.
    Container,
    Text(Span),
    /// A number, `true`, `false`, `null` as written.
    Literal(Span),
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    origin: Origin,
    value: Value,
}

/// A field as the tokens are made of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) depth: usize,
    pub(super) parent: &'a str,
    pub(super) key: &'a str,
    pub(super) value: FieldValue<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum FieldValue<'a> {
    Container,
    Text(&'a str),
    Literal(&'a str),
}

/// Fields of one body, and the bytes of their keys and values.
#[derive(Debug, Default)]
pub(super) struct Fields {
    arena: Vec<u8>,
    kept: Vec<Kept>,
    embedded: Vec<(Vec<u8>, Origin)>,
}

impl Fields {
    pub(super) fn clear(&mut self) {
        self.arena.clear();
        self.kept.clear();
        self.embedded.clear();
    }

    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= MAX_FIELDS
    }

    /// Keeps a key as it stands.
    pub(super) fn key(&mut self, text: &[u8]) -> Span {
        self.copy(text, MAX_KEY_BYTES)
    }

    /// Keeps a key of JSON, its escapes undone.
    pub(super) fn json_key(&mut self, escaped: &[u8]) -> Span {
        self.unescape(escaped, MAX_KEY_BYTES)
    }

    pub(super) fn container(&mut self, origin: Origin) {
        self.add(origin, Value::Container);
    }

    pub(super) fn literal(&mut self, origin: Origin, text: &[u8]) {
        let span = self.copy(text, MAX_VALUE_BYTES);
        self.add(origin, Value::Literal(span));
    }

    /// Keeps a text as it stands, or puts it aside to be read as a document.
    pub(super) fn text(&mut self, origin: Origin, text: &[u8]) {
        if text.len() >= MIN_EMBEDDED_BYTES
            && matches!(text[0], b'{' | b'[')
            && text.contains(&b'"')
        {
            self.embed(origin, text[..text.len().min(MAX_EMBEDDED_BYTES)].to_vec());
            return;
        }
        let span = self.copy(text, MAX_VALUE_BYTES);
        self.add(origin, Value::Text(span));
    }

    /// As [`Fields::text`] of a JSON string, its escapes undone.
    pub(super) fn json_text(&mut self, origin: Origin, escaped: &[u8]) {
        let document = escaped.len() >= MIN_EMBEDDED_BYTES
            && matches!(escaped[0], b'{' | b'[')
            && memchr::memmem::find(&escaped[..escaped.len().min(256)], b"\\\"").is_some();
        if document {
            let start = self.arena.len();
            self.unescape(
                &escaped[..escaped.len().min(2 * MAX_EMBEDDED_BYTES)],
                MAX_EMBEDDED_BYTES,
            );
            let bytes = self.arena.split_off(start);
            self.embed(origin, bytes);
            return;
        }
        let span = self.unescape(escaped, MAX_VALUE_BYTES);
        self.add(origin, Value::Text(span));
    }

    fn embed(&mut self, origin: Origin, document: Vec<u8>) {
        self.add(origin, Value::Container);
        let depth = origin.depth + 1;
        if self.embedded.len() < super::MAX_EMBEDDED && depth < MAX_DEPTH {
            self.embedded.push((document, Origin { depth, ..origin }));
        }
    }

    /// A document that stood in a text, the first found first.
    pub(super) fn take_embedded(&mut self) -> Option<(Vec<u8>, Origin)> {
        (!self.embedded.is_empty()).then(|| self.embedded.remove(0))
    }

    fn add(&mut self, origin: Origin, value: Value) {
        if !self.is_full() {
            self.kept.push(Kept { origin, value });
        }
    }

    fn copy(&mut self, text: &[u8], limit: usize) -> Span {
        let start = self.arena.len();
        self.arena.extend_from_slice(&text[..text.len().min(limit)]);
        self.span(start)
    }

    fn span(&self, start: usize) -> Span {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span {
            start: narrow(start),
            len: narrow(self.arena.len() - start),
        }
    }

    /// Undoes the escapes of JSON. What is no escape stays as it is; a lone surrogate becomes a space.
    fn unescape(&mut self, escaped: &[u8], limit: usize) -> Span {
        let start = self.arena.len();
        let mut rest = escaped;
        while !rest.is_empty() && self.arena.len() - start < limit {
            let plain = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
            let room = limit - (self.arena.len() - start);
            self.arena.extend_from_slice(&rest[..plain.min(room)]);
            rest = &rest[plain..];
            let Some(escape) = rest.get(1) else { break };
            let (byte, length) = match escape {
                b'n' | b't' | b'r' | b'b' | b'f' => (b' ', 2),
                b'u' => {
                    let (character, length) = code_point(rest);
                    let mut buffer = [0; 4];
                    self.arena
                        .extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
                    rest = &rest[length..];
                    continue;
                }
                other => (*other, 2),
            };
            self.arena.push(byte);
            rest = &rest[length..];
        }
        self.span(start)
    }

    fn str(&self, span: Span) -> &str {
        let start = span.start as usize;
        valid(&self.arena[start..start + span.len as usize])
    }

    /// Hands on every field, the outer ones first, else in the order in which they were found.
    pub(super) fn by_depth(&self, mut each: impl FnMut(Field<'_>)) {
        let mut deepest = 0;
        let mut depth = 0;
        while depth <= deepest {
            for kept in &self.kept {
                let at = kept.origin.depth.min(MAX_DEPTH);
                deepest = deepest.max(at);
                if at == depth {
                    each(Field {
                        depth,
                        parent: self.str(kept.origin.parent),
                        key: self.str(kept.origin.key),
                        value: match kept.value {
                            Value::Container => FieldValue::Container,
                            Value::Text(span) => FieldValue::Text(self.str(span)),
                            Value::Literal(span) => FieldValue::Literal(self.str(span)),
                        },
                    });
                }
            }
            depth += 1;
        }
    }
}

/// The character of `\uXXXX`, or of two of them that belong together, and how long that is.
fn code_point(escape: &[u8]) -> (char, usize) {
    let unit = |at: usize| {
        let digits = escape.get(at + 2..at + 6)?;
        let digits = std::str::from_utf8(digits).ok()?;
        (escape.get(at..at + 2)? == b"\\u").then_some(())?;
        u16::from_str_radix(digits, 16).ok()
    };
    let Some(first) = unit(0) else {
        return (' ', escape.len().min(2));
    };
    let second = unit(6).unwrap_or(0);
    let units = [first, second];
    match char::decode_utf16(units).next() {
        Some(Ok(character)) if character.len_utf16() == 2 => (character, 12),
        Some(Ok(character)) => (character, 6),
        _ => (' ', 6),
    }
}

/// As much of it as is UTF-8.
pub(super) fn valid(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unescaped(text: &str) -> String {
        let mut fields = Fields::default();
        let span = fields.unescape(text.as_bytes(), 100);
        fields.str(span).to_owned()
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(
            unescaped(r#"caf\u00e9 \ud83d\ude00 a\nb \"c\" \\d\/e"#),
            "café 😀 a b \"c\" \\d/e"
        );
        assert_eq!(unescaped(r"\ud83d x"), "  x");
        assert_eq!(unescaped(r"\u12"), " 12");
        assert_eq!(unescaped(r"end\"), "end");
    }
}
