//! Templates of the mapping files: text with places such as `{data.object.id}`, `{header:x-github-event}`
//! or, in summaries, `{@actor}`; each may be followed by `|` and a filter.
//!
//! A template in which one place finds nothing yields nothing, and the next candidate is tried.

use std::fmt::Write as _;

use router_schemas::processed::ExtractedResult;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use super::{Input, values};

/// Keys from the outside in; a number picks the item of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Vec<String>);

impl Path {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let keys: Vec<String> = text.split('.').map(ToOwned::to_owned).collect();
        if keys.iter().any(String::is_empty) {
            return Err(format!("{text:?} is not a path such as data.object.id"));
        }
        Ok(Self(keys))
    }

    pub(super) fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        let found = self.0.iter().try_fold(value, |value, key| match value {
            Value::Object(fields) => fields.get(key),
            Value::Array(items) => items.get(key.parse::<usize>().ok()?),
            _ => None,
        })?;
        (!found.is_null()).then_some(found)
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(String),
    Place(Place, Option<Filter>),
}

#[derive(Debug)]
enum Place {
    Path(Path),
    Header(String),
    Result(Field),
}

/// A field of the result that stands already.
#[derive(Debug, Clone, Copy)]
enum Field {
    EventType,
    Actor,
    Subject,
    Amount,
    Severity,
    Status,
}

#[derive(Debug, Clone, Copy)]
enum Filter {
    /// `refs/heads/main` becomes `main`.
    Ref,
    /// How many items an array has.
    Count,
    /// Separators become spaces.
    Words,
    Lower,
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let close = rest[open..]
                .find('}')
                .ok_or_else(|| format!("{text:?}: a {{ is not closed"))?;
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            parts.push(Part::parse(&rest[open + 1..open + close])?);
            rest = &rest[open + close + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The text, where every place finds something.
    pub(super) fn render(&self, input: Input<'_>, result: &ExtractedResult) -> Option<String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(fixed) => text.push_str(fixed),
                Part::Place(place, filter) => {
                    let before = text.len();
                    place.render(*filter, input, result, &mut text)?;
                    if text.len() == before {
                        return None;
                    }
                }
            }
        }
        Some(text)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, String> {
        let (place, filter) = match text.split_once('|') {
            None => (text, None),
            Some((place, "ref")) => (place, Some(Filter::Ref)),
            Some((place, "count")) => (place, Some(Filter::Count)),
            Some((place, "words")) => (place, Some(Filter::Words)),
            Some((place, "lower")) => (place, Some(Filter::Lower)),
            Some((_, other)) => return Err(format!("{other:?} is not a filter")),
        };
        let place = if let Some(name) = place.strip_prefix("header:") {
            Place::Header(name.to_owned())
        } else if let Some(field) = place.strip_prefix('@') {
            Place::Result(match field {
                "event_type" => Field::EventType,
                "actor" => Field::Actor,
                "subject" => Field::Subject,
                "amount" => Field::Amount,
                "severity" => Field::Severity,
                "status" => Field::Status,
                other => return Err(format!("{other:?} is not a field of the result")),
            })
        } else {
            Place::Path(Path::parse(place)?)
        };
        Ok(Self::Place(place, filter))
    }
}

impl Place {
    fn render(
        &self,
        filter: Option<Filter>,
        input: Input<'_>,
        result: &ExtractedResult,
        out: &mut String,
    ) -> Option<()> {
        match self {
            Self::Header(name) => put(filter, input.headers.get(name)?, out),
            Self::Path(path) => match (path.find(input.value)?, filter) {
                (Value::Array(items), Some(Filter::Count)) => {
                    write!(out, "{}", items.len()).ok()?
                }
                (Value::String(text), _) => put(filter, text, out),
                (Value::Number(number), _) => write!(out, "{number}").ok()?,
                (Value::Bool(bool), _) => write!(out, "{bool}").ok()?,
                _ => return None,
            },
            Self::Result(field) => {
                let text = match field {
                    Field::EventType => result.event_type.as_deref()?,
                    Field::Actor => result.actor.as_deref()?,
                    Field::Subject => result.subject.as_deref()?,
                    Field::Severity => result.severity.as_deref()?,
                    Field::Status => result.status.as_deref()?,
                    Field::Amount => {
                        out.push_str(&values::money(result.amount.as_ref()?));
                        return Some(());
                    }
                };
                put(filter, text, out);
            }
        }
        Some(())
    }
}

fn put(filter: Option<Filter>, text: &str, out: &mut String) {
    match filter {
        None | Some(Filter::Count) => out.push_str(text),
        Some(Filter::Ref) => {
            let short = ["refs/heads/", "refs/tags/"]
                .iter()
                .find_map(|p| text.strip_prefix(p));
            out.push_str(short.unwrap_or(text));
        }
        Some(Filter::Words) => out.push_str(&text.replace(['_', '.', '/', '-'], " ")),
        Some(Filter::Lower) => out.push_str(&text.to_lowercase()),
    }
}
