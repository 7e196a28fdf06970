//! `webhooks.attempts`: one record for each thing that happened to a delivery. JSON, keyed by event id.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DeliveryId, DestinationId, EventId, ProjectId, ReplayId, RouteId, SourceId};

/// What happened to a delivery, and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptRecord {
    pub delivery_id: DeliveryId,
    pub event_id: EventId,
    #[serde(default)]
    pub item: u32,
    pub project_id: ProjectId,
    pub source_id: SourceId,
    pub destination_id: DestinationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_id: Option<RouteId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_id: Option<ReplayId>,
    pub round: u32,
    /// Number of the attempt, from 1. Where no request was made, how many had been.
    pub attempt: u32,
    /// Whether a request was made.
    pub attempted: bool,
    /// When the attempt began (or the decision was taken), milliseconds since 1970.
    pub at_ms: i64,
    pub duration_ms: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<AttemptError>,
    pub next: Next,
}

/// What the destination said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    pub status: u16,
    /// The first bytes of the response, bytes that are not UTF-8 replaced.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body_start: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptError {
    pub class: ErrorClass,
    /// A short code: `timeout`, `connect`, `dns`, `tls`, `address_refused`, `status`, ...
    pub code: String,
    /// For people; never the body, never a secret.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    Retryable,
    Permanent,
    /// The destination had no part in it.
    Ours,
}

/// The state of a delivery after this record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Next {
    Delivered,
    /// Waits in the delay topics; no attempt before `until_ms`.
    Parked {
        until_ms: i64,
        reason: String,
    },
    /// Rests in the dead-letter topic.
    Dead {
        reason: String,
    },
    /// Will not be delivered, because of what a person did (the destination was deleted).
    Cancelled {
        reason: String,
    },
}

impl Next {
    /// How final the state is: the furthest of all records of a round counts.
    #[must_use]
    pub fn rank(&self) -> u8 {
        match self {
            Self::Parked { .. } => 0,
            Self::Dead { .. } => 1,
            Self::Cancelled { .. } => 2,
            Self::Delivered => 3,
        }
    }

    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Parked { .. } => "parked",
            Self::Dead { .. } => "dead",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}
