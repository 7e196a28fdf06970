//! One line of the file as a request: which headers go along and which the client makes itself.

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

/// A webhook that is ready to be posted.
#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    content_type: Option<String>,
    body: String,
}

/// Headers that belong to one connection or are made from the body (RFC 9110, sections 7.6.1 and 8.6).
const OF_THE_CONNECTION: [&str; 8] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
];

impl Webhook {
    /// # Errors
    /// A sentence that says what is wrong with the line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::with_capacity(line.headers.len() + 2);
        for (name, value) in &line.headers {
            if OF_THE_CONNECTION
                .iter()
                .any(|skipped| name.eq_ignore_ascii_case(skipped))
            {
                continue;
            }
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("{name:?} is not a header name"))?;
            headers.insert(header, header_value(name, value)?);
        }
        if let Some(content_type) = line
            .content_type
            .filter(|content_type| !content_type.is_empty())
        {
            headers.insert(CONTENT_TYPE, header_value("content_type", &content_type)?);
        }
        Ok(Self {
            headers,
            body: line.body,
        })
    }
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_bytes(value.as_bytes())
        .map_err(|_| format!("the value of header {name:?} holds a control character"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_connection_stay_behind_and_content_type_is_the_lines() {
        let text = r#"{"headers":{"Host":"x","X-Event":"push","content-type":"a/b","Content-Length":"9"},
            "content_type":"application/json","body":"{}","label":"code","also":["tasks"]}"#;
        let webhook = Webhook::parse(text).expect("a good line");
        assert_eq!(webhook.headers.len(), 2);
        assert_eq!(webhook.headers["content-type"], "application/json");
        assert_eq!(webhook.body, "{}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let why = |text: &str| Webhook::parse(text).expect_err("a bad line");
        assert!(why("{\"headers\":{}}").contains("`body`"));
        assert!(why("{\"body\":\"\",\"headers\":{\"a b\":\"\"}}").contains("a b"));
        assert!(why("{\"body\":\"\",\"headers\":{\"a\":\"x\\ny\"}}").contains("control"));
        assert!(why("{").contains("line 1"));
    }
}
