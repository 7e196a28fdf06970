//! What travels between the stages: ids, topic names, header names, and the types of every record.
//!
//! This crate is plain data. It does no I/O, knows no Kafka client and decides nothing; it says how a
//! record is written and read, so that every stage, and every reader in another language, agrees.
//! The JSON Schemas and the AsyncAPI document under `schemas/generated/` come from these types
//! (`cargo run --release -p router-schemas -- write`), and a test keeps them in step.

pub mod attempt;
pub mod config;
pub mod dead_letter;
pub mod delivery;
pub mod documents;
pub mod events;
pub mod ids;
pub mod processed;
pub mod raw;
pub mod topics;

pub use attempt::{Answer, AttemptError, AttemptRecord, ErrorClass, Next};
pub use dead_letter::DeadLetterInfo;
pub use delivery::DeliveryMeta;
pub use ids::{
    DeliveryId, DestinationId, EventId, KeyId, KnowledgeId, ProjectId, ReplayId, RouteId, SourceId,
    UserId,
};
pub use processed::{Classification, ProcessedRecord, RecordPosition};
pub use raw::RawMeta;

/// The categories that are known from the start, in the order of the model's outputs.
/// A category is an open string everywhere else: a rule or another model may name others.
pub const CATEGORIES: [&str; 14] = [
    "billing",
    "commerce",
    "code",
    "ci_cd",
    "alerts",
    "tasks",
    "support",
    "messaging",
    "crm",
    "forms",
    "identity",
    "scheduling",
    "content",
    "other",
];

/// Why a record's headers or value could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReadError {
    #[error("header {0} is missing")]
    MissingHeader(&'static str),
    #[error("header {name} is not readable: {why}")]
    BadHeader { name: &'static str, why: String },
    #[error("value is not readable: {0}")]
    BadValue(String),
    #[error("event id {0}")]
    BadEventId(&'static str),
}
