//! Forms as fields: `application/x-www-form-urlencoded` (`a[b]=c` is `b` within `a`) and `multipart/form-data`
//! (RFC 7578), files left out.

use super::fields::{Fields, MAX_DEPTH, Origin, Span};

const MAX_PAIRS: usize = 400;
/// A value that holds a whole document as JSON may be long; any other is cut by `Fields`.
const MAX_DECODED_BYTES: usize = 64 << 10;

/// Whether a body without a telling content type is a form: `name=`, with nothing before it but what
/// stands in names.
pub(super) fn looks_like(body: &[u8]) -> bool {
    let head = &body[..body.len().min(128)];
    let Some(end) = memchr::memchr(b'=', head) else {
        return false;
    };
    let name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-[]%+".contains(byte);
    end > 0 && head[..end].iter().all(name) && !head.iter().any(|byte| matches!(byte, b' ' | b'\n'))
}

pub(super) fn scan(body: &[u8], fields: &mut Fields) {
    let mut name = Vec::new();
    let mut value = Vec::new();
    for pair in body
        .trim_ascii()
        .split(|byte| *byte == b'&')
        .take(MAX_PAIRS)
    {
        let cut = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        decode(&pair[..cut], &mut name);
        decode(pair.get(cut + 1..).unwrap_or_default(), &mut value);
        if !name.is_empty() {
            field(&name, &value, fields);
        }
    }
}

/// `+` and `%XX` undone; what is no such escape stays.
fn decode(encoded: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut at = 0;
    while at < encoded.len() && out.len() < MAX_DECODED_BYTES {
        let digit = |offset: usize| {
            let byte = encoded.get(at + offset)?;
            char::from(*byte).to_digit(16)
        };
        match (encoded[at], digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        at += 1;
    }
}

/// A field whose name may be a path: `a[b][0][c]` or `a.b`.
fn field(name: &[u8], value: &[u8], fields: &mut Fields) {
    let mut parent = Span::default();
    let mut key = Span::default();
    let mut depth = 0;
    let parts = name.split(|byte| matches!(byte, b'[' | b']' | b'.'));
    for part in parts.filter(|part| !part.is_empty()) {
        if part.iter().all(u8::is_ascii_digit) && !key.is_empty() {
            continue;
        }
        if !key.is_empty() {
            depth = (depth + 1).min(MAX_DEPTH);
            parent = key;
        }
        key = fields.key(part);
    }
    let origin = Origin { depth, parent, key };
    fields.text(origin, value);
}

/// Text fields of multipart form data.
pub(super) fn scan_multipart(body: &[u8], fields: &mut Fields) {
    let end = memchr::memchr(b'\n', body).unwrap_or(body.len());
    let boundary = body[..end].trim_ascii_end();
    if boundary.len() < 3 {
        return;
    }
    let mut rest = &body[boundary.len()..];
    for _ in 0..MAX_PAIRS {
        let end = memchr::memmem::find(rest, boundary).unwrap_or(rest.len());
        part(&rest[..end], fields);
        let Some(next) = rest.get(end + boundary.len()..) else {
            return;
        };
        rest = next;
    }
}

fn part(part: &[u8], fields: &mut Fields) {
    let blank = |mark: &[u8]| memchr::memmem::find(part, mark).map(|at| (at, at + mark.len()));
    let Some((end, start)) = blank(b"\r\n\r\n").or_else(|| blank(b"\n\n")) else {
        return;
    };
    let (head, value) = (&part[..end], part[start..].trim_ascii_end());
    if memchr::memmem::find(head, b"filename=").is_some() {
        return;
    }
    let Some(at) = memchr::memmem::find(head, b" name=\"") else {
        return;
    };
    let name = &head[at + 7..];
    let end = memchr::memchr(b'"', name).unwrap_or(name.len());
    if end > 0 {
        field(&name[..end], value, fields);
    }
}
