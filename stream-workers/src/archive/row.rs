//! A record of one of the three topics, read for the tables.

use router_runtime::consumer::{Dead, Outcome};
use router_schemas::{EventId, ProjectId};

use super::{attempts::AttemptRow, processed::ProcessedRow, raw::RawRow};

/// A record as the tables have it.
#[derive(Debug)]
pub(super) enum Row {
    Raw(Box<RawRow>),
    Processed(Box<ProcessedRow>),
    Attempt(Box<AttemptRow>),
}

impl Row {
    pub(super) fn event_id(&self) -> EventId {
        match self {
            Self::Raw(row) => row.event_id,
            Self::Processed(row) => row.event_id,
            Self::Attempt(row) => row.event_id,
        }
    }

    pub(super) fn project_id(&self) -> ProjectId {
        match self {
            Self::Raw(row) => row.project_id,
            Self::Processed(row) => row.project_id,
            Self::Attempt(row) => row.project_id,
        }
    }

    pub(super) fn reject(&self, reason: &'static str, detail: String) -> Outcome {
        let dead = Dead {
            reason,
            detail,
            project_id: Some(self.project_id()),
        };
        Outcome {
            label: "dead",
            records: Vec::new(),
            dead: Some(dead),
        }
    }
}
