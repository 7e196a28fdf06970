//! What is known of one provider: how its webhooks are recognised, and where each field of the result
//! stands, for all events and for some.

use router_schemas::processed::{Amount, ExtractedResult};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Input,
    template::{Path, Template},
    values,
};

/// A file of `mappings/`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mapping {
    provider: String,
    /// Any of these, each with all of its signs.
    recognise: Vec<Vec<Sign>>,
    fields: Fields,
    /// The first whose pattern matches the event type adds its fields before the general ones.
    #[serde(default)]
    events: Vec<EventFields>,
}

/// One thing that must be so.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sign {
    #[serde(default)]
    header: Option<String>,
    #[serde(default)]
    path: Option<Path>,
    #[serde(default)]
    equals: Option<String>,
    #[serde(default)]
    starts_with: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventFields {
    /// Patterns of event types; `*` at the end stands for anything.
    on: Vec<String>,
    fields: Fields,
}

/// Candidates of each field; the first that yields something counts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fields {
    event_type: Vec<Template>,
    external_id: Vec<Template>,
    actor: Vec<Template>,
    subject: Vec<Template>,
    url: Vec<Template>,
    severity: Vec<Template>,
    status: Vec<Template>,
    occurred_at: Vec<Path>,
    amount: Vec<AmountAt>,
    summary: Vec<Template>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AmountAt {
    value: Path,
    currency: Path,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    /// 1250 is 12.50.
    Minor,
    /// 12.5 is 12.50.
    Major,
}

impl Mapping {
    pub(super) fn recognises(&self, input: Input<'_>) -> bool {
        self.recognise
            .iter()
            .any(|signs| signs.iter().all(|sign| sign.holds(input)))
    }

    pub(super) fn apply(&self, input: Input<'_>) -> ExtractedResult {
        let mut result = ExtractedResult {
            provider: Some(self.provider.clone()),
            ..ExtractedResult::default()
        };
        result.event_type = first(&self.fields.event_type, input, &result);
        let event_type = result.event_type.as_deref().unwrap_or_default();
        let special = self.events.iter().find(|event| event.covers(event_type));
        let layers: Vec<&Fields> = special
            .map(|event| &event.fields)
            .into_iter()
            .chain([&self.fields])
            .collect();

        let pick = |field: fn(&Fields) -> &Vec<Template>, result: &ExtractedResult| {
            layers
                .iter()
                .find_map(|fields| first(field(fields), input, result))
        };
        result.external_id = pick(|fields| &fields.external_id, &result);
        result.actor = pick(|fields| &fields.actor, &result);
        result.subject = pick(|fields| &fields.subject, &result);
        result.url = pick(|fields| &fields.url, &result);
        result.severity = pick(|fields| &fields.severity, &result);
        result.status = pick(|fields| &fields.status, &result);
        result.amount = layers.iter().find_map(|fields| fields.amount(input.value));
        result.occurred_at = layers
            .iter()
            .flat_map(|fields| &fields.occurred_at)
            .find_map(|path| values::time(path.find(input.value)?));
        result.summary = pick(|fields| &fields.summary, &result).unwrap_or_default();
        result
    }
}

fn first(candidates: &[Template], input: Input<'_>, result: &ExtractedResult) -> Option<String> {
    let texts = candidates
        .iter()
        .filter_map(|template| template.render(input, result));
    texts
        .map(|text| values::line(&text))
        .find(|text| !text.is_empty())
}

impl Sign {
    fn holds(&self, input: Input<'_>) -> bool {
        let text = match (&self.header, &self.path) {
            (Some(name), _) => input.headers.get(name),
            (None, Some(path)) => path
                .find(input.value)
                .map(|found| found.as_str().unwrap_or("")),
            (None, None) => None,
        };
        let Some(text) = text else { return false };
        self.equals.as_ref().is_none_or(|wanted| wanted == text)
            && self
                .starts_with
                .as_ref()
                .is_none_or(|start| text.starts_with(start.as_str()))
    }
}

impl EventFields {
    fn covers(&self, event_type: &str) -> bool {
        self.on
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => event_type.starts_with(start),
                None => event_type == pattern,
            })
    }
}

impl Fields {
    fn amount(&self, value: &Value) -> Option<Amount> {
        self.amount.iter().find_map(|at| {
            let currency = at.currency.find(value)?.as_str()?;
            let number = at.value.find(value)?;
            match at.unit {
                Unit::Minor => values::minor(number, currency),
                Unit::Major => values::major(number, currency),
            }
        })
    }
}
