//! Forms as objects: the last of several fields of one name counts, and a field that holds a JSON object
//! (as GitHub and Slack send theirs) is parsed.

use serde_json::{Map, Value};

/// More fields than this are not looked at.
const MAX_FIELDS: usize = 1_000;

pub(super) fn parse(text: &str) -> Value {
    let fields = url::form_urlencoded::parse(text.as_bytes()).take(MAX_FIELDS);
    object(fields.map(|(name, value)| (name.into_owned(), value.into_owned())))
}

/// The text fields of multipart form data (RFC 7578), files left out. None where it is not such.
pub(super) fn parse_multipart(text: &str) -> Option<Value> {
    let boundary = text.lines().next()?.trim_end();
    if !boundary.starts_with("--") || boundary.len() < 3 {
        return None;
    }
    let fields = text.split(boundary).take(MAX_FIELDS).filter_map(|part| {
        let (head, value) = part
            .split_once("\r\n\r\n")
            .or_else(|| part.split_once("\n\n"))?;
        if head.contains("filename=") {
            return None;
        }
        let (_, name) = head.split_once(" name=\"")?;
        let (name, _) = name.split_once('"')?;
        Some((
            name.to_owned(),
            value.trim_end_matches(['\r', '\n']).to_owned(),
        ))
    });
    Some(object(fields))
}

fn object(fields: impl Iterator<Item = (String, String)>) -> Value {
    let mut object = Map::new();
    for (name, value) in fields {
        let parsed = if value.starts_with('{') {
            serde_json::from_str(&value).ok()
        } else {
            None
        };
        object.insert(name, parsed.unwrap_or(Value::String(value)));
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn multipart_fields_are_read_and_files_left_out() {
        let text = "--x1\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nHello\r\n\
            --x1\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.bin\"\r\n\r\nxyz\r\n\
            --x1\r\nContent-Disposition: form-data; name=\"payload\"\r\n\r\n{\"a\":1}\r\n--x1--\r\n";
        assert_eq!(
            parse_multipart(text),
            Some(json!({"title": "Hello", "payload": {"a": 1}}))
        );
        assert_eq!(parse_multipart("no boundary"), None);
    }
}
