//! XML as fields: tags and attributes are keys, text is a value. It knows no entities but the five that
//! every document has, and follows none.

use super::fields::{Fields, MAX_DEPTH, Origin, Span};

/// Every tag, attribute and text. The root tag is a field on top, and so is what stands right within it.
pub(super) fn scan(body: &[u8], fields: &mut Fields) {
    let mut open: Vec<Span> = Vec::with_capacity(MAX_DEPTH);
    // Tags beyond those levels: they are counted and otherwise passed over.
    let mut deeper = 0_usize;
    let mut rest = body;
    while !fields.is_full() {
        let Some(start) = memchr::memchr(b'<', rest) else {
            break;
        };
        text(&rest[..start], &open, fields);
        rest = &rest[start + 1..];
        if let Some(data) = rest.strip_prefix(b"![CDATA[") {
            let end = memchr::memmem::find(data, b"]]>").unwrap_or(data.len());
            text(&data[..end], &open, fields);
            rest = data.get(end + 3..).unwrap_or_default();
            continue;
        }
        if let Some(comment) = rest.strip_prefix(b"!--") {
            let end = memchr::memmem::find(comment, b"-->").unwrap_or(comment.len());
            rest = comment.get(end + 3..).unwrap_or_default();
            continue;
        }
        let end = memchr::memchr(b'>', rest).unwrap_or(rest.len());
        let tag = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        match tag.first() {
            Some(b'?' | b'!') | None => {}
            Some(b'/') if deeper > 0 => deeper -= 1,
            Some(b'/') => drop(open.pop()),
            Some(_) => {
                let closed = tag.ends_with(b"/");
                if open.len() >= MAX_DEPTH {
                    deeper += usize::from(!closed);
                    continue;
                }
                let name = element(tag, &open, fields);
                if !closed {
                    open.push(name);
                }
            }
        }
    }
}

fn depth(open: &[Span]) -> usize {
    open.len().saturating_sub(1)
}

/// A tag and its attributes; returns the tag's name.
fn element(tag: &[u8], open: &[Span], fields: &mut Fields) -> Span {
    let end = tag
        .iter()
        .position(|byte| byte.is_ascii_whitespace() || *byte == b'/')
        .unwrap_or(tag.len());
    let key = fields.key(local(&tag[..end]));
    let parent = open.last().copied().unwrap_or_default();
    let origin = Origin {
        depth: depth(open),
        parent,
        key,
    };
    fields.container(origin);
    let mut rest = &tag[end..];
    while let Some(equals) = memchr::memchr(b'=', rest) {
        let name = rest[..equals].trim_ascii();
        rest = rest[equals + 1..].trim_ascii_start();
        let Some(quote @ (b'"' | b'\'')) = rest.first() else {
            break;
        };
        let value = &rest[1..];
        let end = memchr::memchr(*quote, value).unwrap_or(value.len());
        rest = value.get(end + 1..).unwrap_or_default();
        if name.starts_with(b"xmlns") || name.is_empty() || fields.is_full() {
            continue;
        }
        let attribute = fields.key(local(name));
        let origin = Origin {
            depth: depth(open) + 1,
            parent: key,
            key: attribute,
        };
        fields.text(origin, &value[..end]);
    }
    key
}

/// A name without its prefix.
fn local(name: &[u8]) -> &[u8] {
    let colon = memchr::memchr(b':', name);
    colon.map_or(name, |colon| &name[colon + 1..])
}

fn text(text: &[u8], open: &[Span], fields: &mut Fields) {
    let text = text.trim_ascii();
    let Some(key) = open.last().copied() else {
        return;
    };
    if text.is_empty() {
        return;
    }
    let parent = open
        .len()
        .checked_sub(2)
        .map_or(Span::default(), |at| open[at]);
    let origin = Origin {
        depth: depth(open).saturating_sub(1),
        parent,
        key,
    };
    fields.text(origin, text);
}
