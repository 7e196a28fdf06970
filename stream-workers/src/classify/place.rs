//! Where a rule's condition looks, a header or a place in the body by JSON Pointer (RFC 6901), and what it finds there.
//!
//! What a condition means stands with its type in `router_schemas::config`. Values are compared as JSON writes them,
//! without an allocation.

use std::fmt::{self, Write as _};

use router_schemas::config::{Field, Test};
use serde_json::Value;

use crate::headers::SenderHeaders;

/// A field of a condition, its pointer parsed.
#[derive(Debug)]
pub(super) enum Place {
    /// Lower case.
    Header(Box<str>),
    Json(Box<[Step]>),
}

/// One step of a JSON Pointer: a key of an object, or a place in an array where it has the form of one.
#[derive(Debug)]
pub(super) struct Step {
    key: Box<str>,
    index: Option<usize>,
}

impl Place {
    /// # Errors
    /// A pointer is none.
    pub(super) fn of(field: &Field) -> Result<Self, String> {
        match field {
            Field::Header(name) => Ok(Self::Header(name.to_ascii_lowercase().into())),
            Field::Json(pointer) => pointer_steps(pointer).map(Self::Json),
        }
    }

    /// Whether what stands here passes.
    pub(super) fn passes(
        &self,
        test: &Test,
        headers: &SenderHeaders<'_>,
        body: Option<&Value>,
    ) -> bool {
        match self {
            Self::Header(name) => {
                let mut values = headers
                    .iter()
                    .filter_map(|(other, value)| (other == &**name).then_some(value));
                match test {
                    Test::Exists(wanted) => values.next().is_some() == *wanted,
                    test => values.any(|value| passes(test, value)),
                }
            }
            Self::Json(steps) => {
                let found = body.and_then(|body| walk(body, steps));
                match (test, found) {
                    (Test::Exists(wanted), found) => found.is_some() == *wanted,
                    (_, None) => false,
                    (test, Some(value)) => {
                        with_text(value, |text| passes(test, text)) == Some(true)
                    }
                }
            }
        }
    }

    /// What stands here, as it is compared.
    pub(super) fn shown(
        &self,
        headers: &SenderHeaders<'_>,
        body: Option<&Value>,
    ) -> Option<String> {
        match self {
            Self::Header(name) => headers.get(name).map(str::to_owned),
            Self::Json(steps) => {
                let value = walk(body?, steps)?;
                Some(with_text(value, str::to_owned).unwrap_or_else(|| {
                    if value.is_array() {
                        "an array"
                    } else {
                        "an object"
                    }
                    .into()
                }))
            }
        }
    }
}

/// `Exists` is not asked here.
fn passes(test: &Test, text: &str) -> bool {
    match test {
        Test::Exists(wanted) => *wanted,
        Test::Equals(wanted) => text == wanted,
        Test::OneOf(wanted) => wanted.iter().any(|one| one == text),
        Test::StartsWith(start) => text.starts_with(&**start),
        Test::Contains(part) => text.contains(&**part),
    }
}

fn walk<'v>(body: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(body, |value, step| match value {
        Value::Object(fields) => fields.get(&*step.key),
        Value::Array(items) => items.get(step.index?),
        _ => None,
    })
}

/// Hands over a value as it is compared; none for arrays and objects.
fn with_text<T>(value: &Value, with: impl FnOnce(&str) -> T) -> Option<T> {
    match value {
        Value::String(text) => Some(with(text)),
        Value::Bool(true) => Some(with("true")),
        Value::Bool(false) => Some(with("false")),
        Value::Null => Some(with("null")),
        Value::Number(number) => {
            let mut text = NumberText {
                bytes: [0; 40],
                length: 0,
            };
            // Longer than any number is; it would then equal nothing.
            write!(text, "{number}").ok()?;
            Some(with(text.as_str()))
        }
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// A number's text without an allocation: the longest of a 64-bit float or integer has 25 characters.
struct NumberText {
    bytes: [u8; 40],
    length: usize,
}

impl NumberText {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl fmt::Write for NumberText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let room = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// RFC 6901: empty for the whole body, else steps behind slashes; `~1` is a slash and `~0` a tilde.
fn pointer_steps(pointer: &str) -> Result<Box<[Step]>, String> {
    if pointer.is_empty() {
        return Ok(Box::default());
    }
    let refuse = |why| Err(format!("JSON Pointer {pointer:?} {why}"));
    let Some(steps) = pointer.strip_prefix('/') else {
        return refuse("does not begin with a slash");
    };
    if !escapes_are_whole(pointer) {
        return refuse("holds a ~ that is neither ~0 nor ~1");
    }
    let step = |text: &str| {
        // In this order, so that ~01 is ~1.
        let key = text.replace("~1", "/").replace("~0", "~");
        let index = index(&key);
        let key = key.into_boxed_str();
        Step { key, index }
    };
    Ok(steps.split('/').map(step).collect())
}

fn escapes_are_whole(pointer: &str) -> bool {
    let mut behind = pointer.split('~').skip(1);
    behind.all(|text| text.starts_with(['0', '1']))
}

/// Digits without leading zeros.
fn index(key: &str) -> Option<usize> {
    let digits = key.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (key == "0" || !key.starts_with('0')))
        .then(|| key.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    proptest::proptest! {
        #[test]
        fn any_pointer_finds_what_serde_json_finds(pointer in "(/([ab01]|~[01]|-|é){0,3}){0,4}") {
            let inner = json!({"a": {"": [1, {"0": 2, "b": "x"}]}, "0": [[3]], "~": 4, "/": {"1": 5}});
            let body = json!({"a": inner, "": inner, "b": [inner, null], "1": inner});
            let steps = pointer_steps(&pointer).unwrap();
            assert_eq!(walk(&body, &steps), body.pointer(&pointer));
        }
    }
}
