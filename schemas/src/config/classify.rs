//! What users teach the classifier: rules, labels of their own, corrections, and which model is in force.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{EventId, ProjectId, SourceId};

/// Id of the only record of kind `model`.
pub const ACTIVE_MODEL: &str = "active";
/// Name of the model that came with the program.
pub const BUILTIN_MODEL: &str = "builtin";

/// A rule: decides before anything else, exactly. Rules are read by position; the first of which every
/// condition holds decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleConfig {
    pub project_id: ProjectId,
    pub name: String,
    pub position: i32,
    /// Empty means any.
    #[serde(default)]
    pub sources: Vec<SourceId>,
    /// All of them must hold; there is at least one.
    pub conditions: Vec<Condition>,
    /// An open string.
    pub category: String,
    #[serde(default)]
    pub disabled: bool,
}

/// One condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    #[serde(flatten)]
    pub field: Field,
    #[serde(flatten)]
    pub test: Test,
}

/// What a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// A header's value; the name is lower case.
    Header(String),
    /// A value of the body by JSON Pointer (RFC 6901). A form is an object of its fields.
    Json(String),
}

/// How a condition compares. A number, `true`, `false` or `null` is compared as JSON writes it; an object or
/// an array is there and equals nothing. Of several headers of a name one is enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// `true`: it is there, whatever it holds; `false`: it is not there.
    Exists(bool),
    Equals(String),
    OneOf(Vec<String>),
    StartsWith(String),
    Contains(String),
}

/// A webhook as the classifier reads it: words without ids, numbers and addresses, in the order in which
/// they were met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Example {
    /// Version of the reading; of another version it is not used.
    pub scheme: u32,
    /// Place and word, as `k:invoice`.
    pub tokens: Vec<String>,
}

/// A category of a project's own, known by examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LabelConfig {
    pub project_id: ProjectId,
    /// The category.
    pub name: String,
    pub examples: Vec<Example>,
    /// The least likeness (cosine, 0 to 1) to one of the examples. None: chosen from the examples.
    #[serde(default)]
    pub threshold: Option<f32>,
    #[serde(default)]
    pub disabled: bool,
}

/// An event that was classified wrongly: the next like it is of this category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CorrectionConfig {
    pub project_id: ProjectId,
    pub source_id: SourceId,
    pub event_id: EventId,
    pub category: String,
    /// What it had been classified as.
    #[serde(default)]
    pub instead_of: Option<String>,
    pub example: Example,
}

/// Which models are in force, by the names of their directories in the model directory, `builtin`
/// among them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ModelConfig {
    /// None: the model that came with the program.
    pub current: Option<String>,
    /// Answers beside the current one; where they disagree it is counted and recorded.
    pub shadow: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_is_one_flat_object() {
        let condition = Condition {
            field: Field::Json("/type".into()),
            test: Test::OneOf(vec!["a".into(), "b".into()]),
        };
        let value = json!({ "json": "/type", "one_of": ["a", "b"] });
        assert_eq!(serde_json::to_value(&condition).unwrap(), value);
        assert_eq!(
            serde_json::from_value::<Condition>(value).unwrap(),
            condition
        );
        let unknown = json!({ "json": "/type", "later": 1 });
        assert!(serde_json::from_value::<Condition>(unknown).is_err());
    }
}
