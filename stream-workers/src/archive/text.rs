//! Text that PostgreSQL takes: it knows no NUL, neither in `text` nor as `\u0000` in `jsonb`.
//!
//! NUL becomes U+FFFD, the sign for what cannot be shown. Bodies are `bytea` and stay as they are.

use serde_json::value::RawValue;

/// The text without NUL.
pub(super) fn plain(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

/// JSON text without the escape of NUL. A backslash that is itself escaped is no escape:
/// `"\\u0000"` is a backslash and five characters, and stays.
pub(super) fn json(text: String) -> String {
    if !text.contains("\\u0000") {
        return text;
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find('\\') {
        clean.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(behind) = rest.strip_prefix("\\u0000") {
            clean.push('\u{fffd}');
            rest = behind;
        } else {
            // The backslash and the character that it escapes, whatever that is.
            let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            clean.push_str(&rest[..length]);
            rest = &rest[length..];
        }
    }
    clean.push_str(rest);
    clean
}

/// JSON text that somebody else wrote: what is no JSON is kept as a JSON string.
pub(super) fn foreign_json(text: String) -> String {
    let is_json = serde_json::from_str::<&RawValue>(&text).is_ok();
    json(if is_json {
        text
    } else {
        serde_json::Value::String(text).to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_replaced_and_nothing_else() {
        assert_eq!(plain("a\0b".into()), "a\u{fffd}b");
        assert_eq!(plain("a\\u0000b".into()), "a\\u0000b");
    }

    #[test]
    fn an_escaped_nul_is_replaced_and_an_escaped_backslash_is_not() {
        for (given, wanted) in [
            (r#""a\u0000b""#, "\"a\u{fffd}b\""),
            (r#""a\\u0000b""#, r#""a\\u0000b""#),
            (r#""a\\\u0000b""#, "\"a\\\\\u{fffd}b\""),
            (r#""\"\u0000é\u00e9""#, "\"\\\"\u{fffd}é\\u00e9\""),
            (r#""\u0000\u0000""#, "\"\u{fffd}\u{fffd}\""),
            ("\"\\u0000\\", "\"\u{fffd}\\"),
        ] {
            assert_eq!(json(given.into()), wanted);
        }
    }

    #[test]
    fn what_is_no_json_becomes_a_string() {
        assert_eq!(foreign_json("[[1]]".into()), "[[1]]");
        assert_eq!(foreign_json("[[".into()), r#""[[""#);
        assert_eq!(foreign_json("a\0".into()), "\"a\u{fffd}\"");
    }
}
