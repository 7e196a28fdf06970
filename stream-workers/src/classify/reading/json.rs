//! JSON as fields, without a parser: it forgives what is broken, cut off or nested beyond reason, and passes
//! over what a reader would skip, the tenth item of a list for one.

use super::fields::{Fields, MAX_DEPTH, Origin, Span};

/// Items of one list: the tenth line of an invoice says what the first has said.
const MAX_ITEMS: usize = 3;
/// Keys of one object.
const MAX_KEYS: usize = 160;

struct Level {
    object: bool,
    origin: Origin,
    /// The key whose value comes next.
    pending: Option<Span>,
    /// Items or keys met.
    count: usize,
}

impl Level {
    /// Where the next value stands, or none where it is one too many.
    fn next(&mut self) -> Option<Origin> {
        if self.object {
            let key = self.pending.take()?;
            return (self.count <= MAX_KEYS).then_some(Origin {
                depth: self.origin.depth,
                parent: self.origin.key,
                key,
            });
        }
        self.count += 1;
        (self.count <= MAX_ITEMS).then_some(self.origin)
    }
}

/// Every field of a document, or of several one behind the other.
pub(super) fn scan(text: &[u8], root: Origin, fields: &mut Fields) {
    let mut levels: Vec<Level> = Vec::with_capacity(MAX_DEPTH);
    let mut at = 0;
    while at < text.len() && !fields.is_full() {
        let byte = text[at];
        match byte {
            b'{' | b'[' => {
                let origin = match levels.last_mut() {
                    None => Some(root),
                    Some(level) => level.next(),
                };
                match origin {
                    Some(origin) if levels.len() < MAX_DEPTH => {
                        fields.container(origin);
                        // A list is no level of its own: its items stand where it stands.
                        let nested = byte == b'{' && !levels.is_empty();
                        let depth = origin.depth + usize::from(nested);
                        levels.push(Level {
                            object: byte == b'{',
                            origin: Origin { depth, ..origin },
                            pending: None,
                            count: 0,
                        });
                        at += 1;
                    }
                    _ => at = skip(text, at),
                }
            }
            b'}' | b']' => {
                levels.pop();
                at += 1;
            }
            b'"' => {
                let end = end_of_string(text, at + 1);
                let inner = &text[at + 1..end];
                at = (end + 1).min(text.len());
                match levels.last_mut() {
                    Some(level) if level.object && level.pending.is_none() => {
                        level.count += 1;
                        level.pending = Some(if level.count <= MAX_KEYS {
                            fields.json_key(inner)
                        } else {
                            Span::default()
                        });
                    }
                    Some(level) => {
                        if let Some(origin) = level.next() {
                            fields.json_text(origin, inner);
                        }
                    }
                    None => fields.json_text(root, inner),
                }
            }
            b' ' | b'\n' | b'\r' | b'\t' | b',' | b':' => at += 1,
            _ => {
                let end = end_of_literal(text, at);
                if let Some(origin) = levels.last_mut().and_then(Level::next) {
                    fields.literal(origin, &text[at..end]);
                }
                at = end;
            }
        }
    }
}

/// The closing quote from `at` on, or the end.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while let Some(found) = memchr::memchr2(b'"', b'\\', &text[at..]) {
        at += found;
        if text[at] == b'"' {
            return at;
        }
        at = (at + 2).min(text.len());
    }
    text.len()
}

fn end_of_literal(text: &[u8], at: usize) -> usize {
    let ends = |byte: &u8| {
        matches!(byte, b',' | b'}' | b']' | b'{' | b'[' | b'"') || byte.is_ascii_whitespace()
    };
    let length = text[at..].iter().position(ends);
    length.map_or(text.len(), |length| at + length.max(1))
}

/// Behind the object or list that begins at `at`.
fn skip(text: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < text.len() {
        match text[at] {
            b'"' => at = end_of_string(text, at + 1),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}
