//! Webhooks of providers without a mapping, read by the names that fields commonly have.

use router_schemas::processed::{Amount, ExtractedResult};
use serde_json::{Map, Value};

use super::{Input, values};

/// Objects into which senders wrap what happened; looked into from the outside in.
const WRAPPERS: [&str; 14] = [
    "data",
    "payload",
    "event",
    "object",
    "resource",
    "attributes",
    "body",
    "record",
    "detail",
    "entity",
    "item",
    "message",
    "alert",
    "params",
];
/// How many objects are looked at.
const MAX_SCOPES: usize = 12;

const EVENT_TYPE: [&str; 12] = [
    "event_type",
    "eventType",
    "event_name",
    "eventName",
    "event",
    "type",
    "topic",
    "action",
    "webhookEvent",
    "notification_type",
    "trigger",
    "kind",
];
const EXTERNAL_ID: [&str; 10] = [
    "event_id",
    "eventId",
    "webhook_id",
    "id",
    "uuid",
    "guid",
    "message_id",
    "messageId",
    "uid",
    "key",
];
const ACTOR: [&str; 14] = [
    "actor",
    "user",
    "sender",
    "author",
    "creator",
    "created_by",
    "customer",
    "contact",
    "from",
    "username",
    "user_name",
    "email",
    "user_email",
    "customer_email",
];
/// What names a person within an object.
const NAMES: [&str; 7] = [
    "login",
    "username",
    "name",
    "display_name",
    "full_name",
    "email",
    "id",
];
const SUBJECT: [&str; 11] = [
    "title",
    "subject",
    "summary",
    "name",
    "headline",
    "message",
    "description",
    "text",
    "number",
    "reference",
    "order_number",
];
const URL: [&str; 6] = ["html_url", "web_url", "permalink", "url", "link", "href"];
const SEVERITY: [&str; 4] = ["severity", "priority", "urgency", "level"];
const STATUS: [&str; 5] = ["status", "state", "new_status", "result", "outcome"];
const TIME: [&str; 11] = [
    "occurred_at",
    "occurredAt",
    "timestamp",
    "created_at",
    "createdAt",
    "time",
    "date",
    "event_time",
    "created",
    "updated_at",
    "sent_at",
];
/// Amounts that say by their form in which unit they are.
const MINOR: [&str; 4] = [
    "amount_cents",
    "total_cents",
    "amount_minor",
    "amount_in_cents",
];
const MAJOR: [&str; 6] = [
    "amount",
    "total",
    "total_price",
    "total_amount",
    "price",
    "value",
];
const CURRENCY: [&str; 4] = [
    "currency",
    "currency_code",
    "currencyCode",
    "amount_currency",
];

pub(super) fn extract(input: Input<'_>) -> ExtractedResult {
    let scopes = scopes(input.value);
    let text = |keys: &[&str]| find(&scopes, keys, text_of);
    ExtractedResult {
        provider: provider(input),
        event_type: event_header(input).or_else(|| text(&EVENT_TYPE)),
        external_id: text(&EXTERNAL_ID),
        actor: find(&scopes, &ACTOR, person),
        subject: text(&SUBJECT),
        url: find(&scopes, &URL, |value| {
            text_of(value).filter(|url| url.starts_with("http"))
        }),
        amount: scopes.iter().find_map(|scope| amount(scope)),
        severity: text(&SEVERITY),
        status: text(&STATUS),
        occurred_at: find(&scopes, &TIME, values::time),
        summary: String::new(),
    }
}

/// The document and the wrappers in it, nearest first.
fn scopes(root: &Value) -> Vec<&Map<String, Value>> {
    let root = match root {
        // A batch is told by its first item.
        Value::Array(items) => items.first().unwrap_or(root),
        other => other,
    };
    let mut scopes: Vec<&Map<String, Value>> = root.as_object().into_iter().collect();
    let mut at = 0;
    while at < scopes.len() && scopes.len() < MAX_SCOPES {
        let inner = WRAPPERS
            .iter()
            .filter_map(|name| scopes[at].get(*name)?.as_object());
        let inner: Vec<_> = inner.collect();
        scopes.extend(inner);
        at += 1;
    }
    scopes
}

fn find(
    scopes: &[&Map<String, Value>],
    keys: &[&str],
    read: impl Fn(&Value) -> Option<String>,
) -> Option<String> {
    scopes
        .iter()
        .find_map(|scope| keys.iter().find_map(|key| read(scope.get(*key)?)))
}

fn text_of(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => values::line(text),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn person(value: &Value) -> Option<String> {
    match value {
        Value::Object(fields) => NAMES.iter().find_map(|name| text_of(fields.get(*name)?)),
        other => text_of(other),
    }
}

/// Only where unit and currency are beyond doubt: a bare 1000 may be ten dollars or a thousand.
fn amount(scope: &Map<String, Value>) -> Option<Amount> {
    let currency = CURRENCY.iter().find_map(|key| scope.get(*key)?.as_str())?;
    let minor = MINOR
        .iter()
        .find_map(|key| values::minor(scope.get(*key)?, currency));
    minor.or_else(|| {
        MAJOR.iter().find_map(|key| {
            let value = scope.get(*key)?;
            let pointed = match value {
                Value::String(text) => text.contains('.'),
                Value::Number(number) => number.is_f64(),
                _ => false,
            };
            pointed.then(|| values::major(value, currency)).flatten()
        })
    })
}

/// Endings of header names that carry an event or prove a sender, as in `x-acme-event`.
const EVENT_ENDINGS: [&str; 4] = ["-event", "-topic", "-event-type", "-event-key"];
const SENDER_ENDINGS: [&str; 9] = [
    "-event",
    "-topic",
    "-event-type",
    "-event-key",
    "-signature",
    "-hmac-sha256",
    "-signature-256",
    "-webhook-id",
    "-delivery",
];
/// Names that are a convention of many, not a provider.
const NOBODY: [&str; 7] = [
    "hub",
    "webhook",
    "hook",
    "request",
    "svix",
    "event",
    "forwarded",
];

fn event_header(input: Input<'_>) -> Option<String> {
    let telling = |(name, _): &(&str, &str)| EVENT_ENDINGS.iter().any(|end| name.ends_with(end));
    let (_, value) = input.headers.iter().find(telling)?;
    Some(values::line(value)).filter(|value| !value.is_empty())
}

fn provider(input: Input<'_>) -> Option<String> {
    input.headers.iter().find_map(|(name, _)| {
        let name = name.strip_prefix("x-").unwrap_or(name);
        let stem = SENDER_ENDINGS
            .iter()
            .find_map(|end| name.strip_suffix(end))?;
        (!stem.is_empty() && !NOBODY.contains(&stem) && stem.len() <= 40).then(|| stem.to_owned())
    })
}
