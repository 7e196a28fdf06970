//! `webhooks.processed`: the outcome of every raw record, and the body that destinations receive.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    DeliveryId, DestinationId, EventId, KnowledgeId, ProjectId, ReplayId, RouteId, SourceId,
};

/// Where a record stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct RecordPosition {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// What became of one item of a raw webhook. JSON, keyed by event id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessedRecord {
    pub event_id: EventId,
    #[serde(default)]
    pub item: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_id: Option<ReplayId>,
    /// Counts redrives of the raw record from the dead letters.
    #[serde(default)]
    pub round: u32,
    pub project_id: ProjectId,
    pub source_id: SourceId,
    /// The raw record that was read.
    pub raw: RecordPosition,
    /// Milliseconds since 1970.
    pub processed_at_ms: i64,
    #[serde(flatten)]
    pub outcome: ProcessOutcome,
    /// Absent where the record could not even be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classification: Option<Classification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ExtractedResult>,
}

/// The state in which `process` leaves a raw record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ProcessOutcome {
    /// At least one delivery was queued.
    Routed { deliveries: Vec<QueuedDelivery> },
    /// No route matched.
    Unrouted,
    /// Set aside in the dead-letter topic.
    Dead { reason: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueuedDelivery {
    pub delivery_id: DeliveryId,
    pub destination_id: DestinationId,
    pub route_id: RouteId,
}

/// What kind of event this is, and who says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Classification {
    /// An open string; see [`crate::CATEGORIES`] for those known from the start.
    pub category: String,
    /// 0 to 1.
    pub confidence: f32,
    pub runner_up: Option<RunnerUp>,
    pub decided_by: DecidedBy,
    /// The rule's, label's or correction's id where one of these decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_id: Option<KnowledgeId>,
    /// Empty where no model was asked.
    pub model_version: String,
    /// What a shadow model says, where it disagrees with the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// The answer of a model that is tried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shadow {
    pub model_version: String,
    pub category: String,
    pub confidence: f32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunnerUp {
    pub category: String,
    pub confidence: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    /// A rule of the project.
    Rule,
    /// A correction of an event like this one.
    Correction,
    /// An example of a label of the project's own.
    Label,
    Model,
    /// The model's confidence was below the threshold, so the category is `other`.
    Threshold,
    /// The process runs without a model and no rule decided, so the category is `other`.
    Nothing,
}

impl DecidedBy {
    pub const ALL: [Self; 6] = [
        Self::Rule,
        Self::Correction,
        Self::Label,
        Self::Model,
        Self::Threshold,
        Self::Nothing,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Correction => "correction",
            Self::Label => "label",
            Self::Model => "model",
            Self::Threshold => "threshold",
            Self::Nothing => "nothing",
        }
    }
}

/// The common result. Absent is absent, never guessed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ExtractedResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// The provider's own id of the event or of its object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<String>,
    /// One line that a person can read.
    pub summary: String,
}

/// Money in the currency's smallest unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Amount {
    pub minor_units: i64,
    /// ISO 4217, upper case.
    pub currency: String,
    /// Digits after the point (JPY 0, EUR 2, KWD 3).
    pub exponent: u8,
}

/// The body that a destination receives unless it asks for the raw one.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeliveredBody<'a> {
    pub id: EventId,
    /// `provider.event_type` where known, else `webhook.received`.
    #[serde(rename = "type")]
    pub kind: Cow<'a, str>,
    /// The source's name.
    pub source: &'a str,
    /// When it happened by the payload, else when it was received. RFC 3339 in UTC.
    pub occurred_at: &'a str,
    pub category: &'a str,
    pub confidence: f32,
    pub result: &'a ExtractedResult,
    pub payload: Payload<'a>,
}

/// The webhook's own body: JSON as it came, text as a string, other bytes as base64.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Payload<'a> {
    #[schemars(with = "serde_json::Value")]
    Json(&'a RawValue),
    Text(&'a str),
    Base64 {
        base64: String,
    },
}
