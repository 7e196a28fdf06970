//! `control.config`: settings as they travel from the control plane to every edge and worker.
//!
//! Key `<kind>/<id>`, value a [`ConfigRecord`] as JSON, a tombstone deletes. API keys and tokens travel as
//! hashes, other secrets sealed with the master key.

mod classify;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{DestinationId, ProjectId, SourceId};

pub use classify::{
    ACTIVE_MODEL, BUILTIN_MODEL, Condition, CorrectionConfig, Example, Field, LabelConfig,
    ModelConfig, RuleConfig, Test,
};

/// The version of this reader: a record that names a higher one is not understood.
pub const READER_VERSION: u32 = 1;

/// Key of the record that a complete topic always holds. A topic without it is an error, not "no keys".
pub const MARKER_KEY: &str = "marker/installation";

/// Kinds of records, as they stand in keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Key,
    Source,
    Destination,
    Route,
    Rule,
    Label,
    Correction,
    Model,
    Marker,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Key,
        Self::Source,
        Self::Destination,
        Self::Route,
        Self::Rule,
        Self::Label,
        Self::Correction,
        Self::Model,
        Self::Marker,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Route => "route",
            Self::Rule => "rule",
            Self::Label => "label",
            Self::Correction => "correction",
            Self::Model => "model",
            Self::Marker => "marker",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Envelope of every value.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConfigRecord<'a> {
    /// Rises with every change of this row; an older one never replaces a newer one.
    pub version: i64,
    /// The lowest reader that understands `value`.
    pub reader: u32,
    #[serde(borrow)]
    pub value: &'a RawValue,
}

/// An API key. The key itself is never stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyConfig {
    pub project_id: ProjectId,
    /// Where webhooks sent with this key belong.
    pub source_id: SourceId,
    pub name: String,
    /// SHA-256 of the whole key, lower-case hexadecimal.
    pub hash: String,
    pub scopes: Vec<String>,
    #[serde(default)]
    pub expires_at_ms: Option<i64>,
    /// Requests a second, for each edge instance; none means no limit.
    #[serde(default)]
    pub rate_per_s: Option<f64>,
    #[serde(default)]
    pub burst: Option<u32>,
    #[serde(default)]
    pub disabled: bool,
}

/// Scope that lets a key send webhooks.
pub const SCOPE_INGEST: &str = "ingest";

/// One sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceConfig {
    pub project_id: ProjectId,
    pub name: String,
    /// SHA-256 of the token in `/in/{token}`, lower-case hexadecimal.
    #[serde(default)]
    pub token_hash: Option<String>,
    #[serde(default)]
    pub disabled: bool,
}

/// Where results go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DestinationConfig {
    pub project_id: ProjectId,
    pub name: String,
    pub url: String,
    /// Signing secrets, sealed with the master key; two during a rotation.
    #[serde(default)]
    pub secrets: Vec<String>,
    #[serde(default)]
    pub body: BodyMode,
    /// From connecting to the status of the answer.
    pub timeout_ms: u32,
    /// Requests in flight, for each worker process.
    pub concurrency: u32,
    pub retry: RetryPolicy,
    #[serde(default)]
    pub disabled: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyMode {
    /// The processed result with the payload inside.
    #[default]
    Result,
    /// The webhook's own body with its content type.
    Raw,
}

/// When a failed delivery is tried again, and when it is given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RetryPolicy {
    pub max_attempts: u32,
    pub max_age_ms: i64,
    pub base_ms: i64,
    pub factor: f64,
    pub cap_ms: i64,
    /// Share of the delay that is added at random, 0 to 1.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    /// Ten attempts over about a day: 5 s, 20 s, 80 s, 5 min, 21 min, 85 min, then every 6 h.
    fn default() -> Self {
        Self {
            max_attempts: 10,
            max_age_ms: 2 * crate::topics::DAY_MS,
            base_ms: 5_000,
            factor: 4.0,
            cap_ms: 6 * crate::topics::HOUR_MS,
            jitter: 0.1,
        }
    }
}

/// Which events go to which destinations. Routes are read by position; the first that matches and names
/// a destination gives it the event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RouteConfig {
    pub project_id: ProjectId,
    pub name: String,
    pub position: i32,
    /// Empty means any.
    #[serde(default)]
    pub sources: Vec<SourceId>,
    /// Empty means any.
    #[serde(default)]
    pub categories: Vec<String>,
    #[serde(default)]
    pub min_confidence: f32,
    pub destinations: Vec<DestinationId>,
    #[serde(default)]
    pub disabled: bool,
}
