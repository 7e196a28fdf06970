//! The JSON Schemas and the AsyncAPI document, generated from the types of this crate.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::{
    attempt, config, dead_letter, delivery, events, processed,
    raw::header,
    topics::{Cleanup, TopicNames, TopicPlan},
};

/// Every generated file as its name under `schemas/generated/` and its text.
#[must_use]
pub fn all() -> Vec<(String, String)> {
    let schemas = [
        ("processed-record", schema::<processed::ProcessedRecord>()),
        (
            "delivered-body",
            schema::<processed::DeliveredBody<'static>>(),
        ),
        ("attempt-record", schema::<attempt::AttemptRecord>()),
        ("delivery-meta", schema::<delivery::DeliveryMeta>()),
        ("dead-letter-info", schema::<dead_letter::DeadLetterInfo>()),
        ("control-event", schema::<events::ControlEvent>()),
        ("config-key", schema::<config::KeyConfig>()),
        ("config-source", schema::<config::SourceConfig>()),
        ("config-destination", schema::<config::DestinationConfig>()),
        ("config-route", schema::<config::RouteConfig>()),
        ("config-rule", schema::<config::RuleConfig>()),
        ("config-label", schema::<config::LabelConfig>()),
        ("config-correction", schema::<config::CorrectionConfig>()),
        ("config-model", schema::<config::ModelConfig>()),
    ];
    let mut files: Vec<(String, String)> = schemas
        .iter()
        .map(|(name, schema)| (format!("{name}.schema.json"), text(schema)))
        .collect();
    files.push(("asyncapi.json".into(), text(&async_api())));
    files
}

fn schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

fn text(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a JSON value is always written");
    text.push('\n');
    text
}

/// What stands in a topic, for the AsyncAPI document: topic field, title, schema file, headers.
fn async_api() -> Value {
    let names = TopicNames::default();
    let plan = TopicPlan::default();
    let mut channels = serde_json::Map::new();
    for topic in plan.topics(&names) {
        let message = message_of(&topic.name, &names);
        let (cleanup, retention_ms) = match topic.cleanup {
            Cleanup::Delete { retention_ms } => ("delete", Some(retention_ms)),
            Cleanup::Compact => ("compact", None),
        };
        let mut configuration = json!({
            "cleanup.policy": [cleanup],
            "max.message.bytes": topic.max_message_bytes,
        });
        if let Some(retention_ms) = retention_ms {
            configuration["retention.ms"] = json!(retention_ms);
        }
        channels.insert(
            topic.name.clone(),
            json!({
                "address": topic.name,
                "messages": { message.0: message.1 },
                "bindings": { "kafka": {
                    "partitions": topic.partitions,
                    "topicConfiguration": configuration,
                }},
            }),
        );
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "AI Webhook Router",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Topics of the router and what travels in them.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
    })
}

fn message_of(topic: &str, names: &TopicNames) -> (&'static str, Value) {
    let json_message =
        |file: &str| json!({ "payload": { "$ref": format!("./{file}.schema.json") } });
    if topic == names.raw || topic == names.replay {
        let text = json!({ "type": "string" });
        let uuid = json!({ "type": "string", "format": "uuid" });
        let properties = json!({
            header::SPEC_VERSION: { "const": "1.0" },
            header::ID: uuid,
            header::SOURCE: { "type": "string", "pattern": "^/sources/" },
            header::TYPE: { "const": crate::raw::RECEIVED },
            header::TIME: { "type": "string", "format": "date-time" },
            header::CONTENT_TYPE: text,
            header::PROJECT: uuid,
            header::KEY_ID: uuid,
            header::CONFIG_OFFSET: { "type": "string", "pattern": "^-?[0-9]+$" },
            header::SENDER_HEADERS: { "type": "string", "contentMediaType": "application/json" },
            header::SENDER_CONTENT_TYPE: text,
            header::SENDER_ENCODING: text,
            header::SENDER_QUERY: text,
            header::TRACE_PARENT: text,
            header::REPLAY_ID: uuid,
            header::REPLAY_DESTINATION: uuid,
            header::REPLAY_ROUND: { "type": "string", "pattern": "^[0-9]+$" },
        });
        let required = [
            header::SPEC_VERSION,
            header::ID,
            header::SOURCE,
            header::TYPE,
            header::TIME,
            header::PROJECT,
        ];
        let body = json!({
            "contentType": "application/octet-stream",
            "description": "The webhook's body, byte for byte as received.",
            "headers": { "type": "object", "properties": properties, "required": required },
        });
        return ("webhook", body);
    }
    if topic == names.processed {
        return ("processed", json_message("processed-record"));
    }
    if topic == names.attempts {
        return ("attempt", json_message("attempt-record"));
    }
    if topic == names.events {
        return ("controlEvent", json_message("control-event"));
    }
    if topic == names.config {
        let kinds = [
            "config-key",
            "config-source",
            "config-destination",
            "config-route",
            "config-rule",
            "config-label",
            "config-correction",
            "config-model",
        ]
        .map(|file| json!({ "$ref": format!("./{file}.schema.json") }));
        let record = json!({
            "payload": {
                "type": "object",
                "required": ["version", "reader", "value"],
                "properties": {
                    "version": { "type": "integer" },
                    "reader": { "type": "integer" },
                    "value": { "anyOf": kinds },
                },
            },
        });
        return ("config", record);
    }
    let mut headers = serde_json::Map::new();
    let (name, header, file) = if topic == names.dead_letter {
        ("deadLetter", dead_letter::INFO, "dead-letter-info")
    } else {
        ("delivery", delivery::META, "delivery-meta")
    };
    headers.insert(
        header.into(),
        json!({
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": { "$ref": format!("./{file}.schema.json") },
        }),
    );
    let body = json!({
        "contentType": "application/octet-stream",
        "headers": { "type": "object", "properties": headers, "required": [header] },
    });
    (name, body)
}
