//! What rides with a record of `webhooks.dead-letter`, beside its original key, headers and value.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ProjectId, ReadError, RecordPosition};

/// Header that carries [`DeadLetterInfo`] as JSON; replaced, never appended.
pub const INFO: &str = "router-dead-letter";

/// Why a record rests here and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterInfo {
    /// A short code: `panic`, `unreadable`, `too_large`, `attempts_exhausted`, `too_old`, ...
    pub reason: String,
    /// For people.
    pub detail: String,
    /// The stage that gave it up.
    pub stage: String,
    pub from: RecordPosition,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<ProjectId>,
    /// How often this record has come to rest here.
    pub times: u32,
}

impl DeadLetterInfo {
    /// # Errors
    /// The header is missing or is not readable.
    pub fn read<'a>(
        mut headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Result<Self, ReadError> {
        let json = headers
            .find_map(|(name, value)| if name == INFO { value } else { None })
            .ok_or(ReadError::MissingHeader(INFO))?;
        serde_json::from_slice(json).map_err(|error| ReadError::BadHeader {
            name: INFO,
            why: error.to_string(),
        })
    }
}
