//! The sender's headers as the edge recorded them: a JSON array of `[name, value]` pairs in their order.

use std::borrow::Cow;

/// Headers of the request. Untrusted; credentials are blanked already.
#[derive(Debug, Default)]
pub struct SenderHeaders<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> SenderHeaders<'a> {
    /// What cannot be read is no headers: nothing depends on them but classification and extraction.
    #[must_use]
    pub fn parse(json: &'a str) -> Self {
        #[derive(serde::Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        let rows: Vec<Vec<Text<'a>>> = serde_json::from_str(json).unwrap_or_default();
        let pairs = rows.into_iter().filter_map(|row| {
            let mut row = row.into_iter();
            let (name, value) = (row.next()?, row.next()?);
            // A third element marks a value in base64: bytes that are no text say nothing here.
            row.next().is_none().then_some((name.0, value.0))
        });
        Self(pairs.collect())
    }

    /// From names and values, the names in lower case.
    pub fn from_pairs(pairs: impl Iterator<Item = (String, String)>) -> Self {
        Self(
            pairs
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The first header of that name (lower case).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(n, value)| (n == name).then_some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_and_what_is_no_text_is_left_out() {
        let headers =
            SenderHeaders::parse(r#"[["a","1"],["b","//4=","base64"],["c","\u0041\""],["a","2"]]"#);
        assert_eq!(headers.get("a"), Some("1"));
        assert_eq!(headers.get("b"), None);
        assert_eq!(headers.get("c"), Some("A\""));
        assert_eq!(SenderHeaders::parse("not json").iter().count(), 0);
    }
}
