//! `config.labels`: categories of a project's own, known by examples.

use router_schemas::{
    EventId, KnowledgeId, ProjectId,
    config::{Example, Kind, LabelConfig},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection, types::Json};
use uuid::Uuid;

use super::{Change, Setting, StoreError, Wanted, json_value, name_taken, room, rows};
use crate::validate::{self, Invalid};

const KIND: &str = "label";
/// Labels of a project, and examples of a label, at the most: every webhook is compared with each of them.
pub const LIMIT: i64 = 50;
pub const EXAMPLES_MAX: usize = 50;
/// Bytes of all examples of a label as JSON: its record stays below the largest that the config topic takes.
const EXAMPLES_BYTES: usize = 600_000;

#[derive(Debug, Clone, FromRow)]
pub struct Label {
    pub id: Uuid,
    pub project_id: Uuid,
    pub name: String,
    pub examples: Json<Vec<Kept>>,
    pub threshold: Option<f32>,
    pub disabled: bool,
    pub version: i64,
    pub created_at_ms: i64,
}

/// An example, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(flatten)]
    pub example: Example,
    /// None: from a file.
    pub event_id: Option<EventId>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select *, (extract(epoch from created_at) * 1000)::bigint as created_at_ms from config.labels ",
            $rest
        )
    };
}

impl Label {
    #[must_use]
    pub fn config(&self) -> LabelConfig {
        LabelConfig {
            project_id: ProjectId(self.project_id),
            name: self.name.clone(),
            examples: self
                .examples
                .iter()
                .map(|kept| kept.example.clone())
                .collect(),
            threshold: self.threshold,
            disabled: self.disabled,
        }
    }
}

impl Setting for Label {
    const KIND: Kind = Kind::Label;
    fn id(&self) -> String {
        self.id.to_string()
    }
    fn version(&self) -> i64 {
        self.version
    }
    fn record(&self) -> Option<Value> {
        Some(json_value(&self.config()))
    }
    fn audited(&self) -> Value {
        // Of the examples only which they are: their words would make the log many times as long.
        let events: Vec<_> = self.examples.iter().map(|kept| kept.event_id).collect();
        let mut value = json!({ "name": self.name, "examples": events, "disabled": self.disabled });
        value["threshold"] = json_value(&self.threshold);
        value
    }
}

/// # Errors
/// The name is refused or taken, something is wrong with the examples, or there are too many labels.
pub async fn create(
    change: &mut Change,
    name: &str,
    examples: Vec<Kept>,
    threshold: Option<f32>,
) -> Result<Label, StoreError> {
    let name = validate::category(name)?;
    let threshold = checked_threshold(threshold)?;
    let examples = checked(Vec::new(), examples)?;
    let count = "select count(*) from config.labels where project_id = $1";
    room(change, KIND, count, LIMIT).await?;
    let (id, project) = (KnowledgeId::generate(), change.project_id());
    sqlx::query("insert into config.labels (id, project_id, name, examples, threshold) values ($1, $2, $3, $4, $5)")
        .bind(id.0)
        .bind(project.0)
        .bind(name)
        .bind(Json(&examples))
        .bind(threshold)
        .execute(change.connection())
        .await
        .map_err(|error| name_taken(error, KIND, name))?;
    let row = find(change.connection(), project, &Wanted::Id(id.0)).await?;
    change.created(&row).await?;
    Ok(row)
}

/// Adds examples; those that it has already are passed over.
///
/// # Errors
/// There is no such label, or it has no room for them.
pub async fn add_examples(
    change: &mut Change,
    wanted: &Wanted,
    examples: Vec<Kept>,
) -> Result<Label, StoreError> {
    let before = lock(change, wanted).await?;
    let mut after = before.clone();
    after.examples = Json(checked(before.examples.0.clone(), examples)?);
    rewrite(change, "add_example", &before, &after).await
}

/// Takes examples away, by their places (from 1).
///
/// # Errors
/// There is no such label or example, or none would be left.
pub async fn drop_examples(
    change: &mut Change,
    wanted: &Wanted,
    places: &[usize],
) -> Result<Label, StoreError> {
    let before = lock(change, wanted).await?;
    let held = before.examples.len();
    if let Some(place) = places.iter().find(|place| !(1..=held).contains(place)) {
        let why = format!("there is no example {place}; the label has 1 to {held}");
        return Err(Invalid::new("example", why).into());
    }
    let mut after = before.clone();
    let mut place = 0;
    after.examples.retain(|_| {
        place += 1;
        !places.contains(&place)
    });
    if after.examples.is_empty() {
        return Err(StoreError::Conflict(
            "a label needs at least one example; add others first, or delete the label".into(),
        ));
    }
    rewrite(change, "drop_example", &before, &after).await
}

/// Sets the threshold; none lets it be chosen from the examples.
///
/// # Errors
/// There is no such label, or the threshold is refused.
pub async fn set_threshold(
    change: &mut Change,
    wanted: &Wanted,
    threshold: Option<f32>,
) -> Result<Label, StoreError> {
    let threshold = checked_threshold(threshold)?;
    let before = lock(change, wanted).await?;
    let after = Label {
        threshold,
        ..before.clone()
    };
    rewrite(change, "update", &before, &after).await
}

/// Leaves a label out or knows it again. Returns it, and whether anything changed.
///
/// # Errors
/// There is no such label.
pub async fn set_disabled(
    change: &mut Change,
    wanted: &Wanted,
    disabled: bool,
) -> Result<(Label, bool), StoreError> {
    let before = lock(change, wanted).await?;
    if before.disabled == disabled {
        return Ok((before, false));
    }
    let after = Label {
        disabled,
        ..before.clone()
    };
    let action = if disabled { "disable" } else { "enable" };
    Ok((rewrite(change, action, &before, &after).await?, true))
}

/// # Errors
/// There is no such label.
pub async fn delete(change: &mut Change, wanted: &Wanted) -> Result<Label, StoreError> {
    let label = lock(change, wanted).await?;
    sqlx::query("delete from config.labels where id = $1")
        .bind(label.id)
        .execute(change.connection())
        .await?;
    change.deleted(&label).await?;
    Ok(label)
}

async fn rewrite(
    change: &mut Change,
    action: &str,
    before: &Label,
    after: &Label,
) -> Result<Label, StoreError> {
    sqlx::query(
        "update config.labels set examples = $2, threshold = $3, disabled = $4 where id = $1",
    )
    .bind(before.id)
    .bind(&after.examples)
    .bind(after.threshold)
    .bind(after.disabled)
    .execute(change.connection())
    .await?;
    let project = change.project_id();
    let after = find(change.connection(), project, &Wanted::Id(before.id)).await?;
    change.updated(action, before, &after).await?;
    Ok(after)
}

fn checked_threshold(threshold: Option<f32>) -> Result<Option<f32>, Invalid> {
    threshold
        .map(|threshold| validate::within("threshold", threshold, 0.0..=1.0))
        .transpose()
}

/// The examples held and those to add, each once.
fn checked(mut held: Vec<Kept>, added: Vec<Kept>) -> Result<Vec<Kept>, Invalid> {
    for kept in added {
        if !held.iter().any(|other| other.example == kept.example) {
            held.push(kept);
        }
    }
    let refuse = |why: String| Err(Invalid::new("example", why));
    if held.is_empty() {
        return refuse("a label needs at least one".into());
    }
    if held.len() > EXAMPLES_MAX {
        return refuse(format!(
            "{} different ones are more than the {EXAMPLES_MAX} that a label takes",
            held.len()
        ));
    }
    let bytes = serde_json::to_vec(&held).map_or(usize::MAX, |json| json.len());
    if bytes > EXAMPLES_BYTES {
        return refuse(format!(
            "together they are {bytes} bytes long, more than the {EXAMPLES_BYTES} that a label takes; leave some out"
        ));
    }
    Ok(held)
}

async fn lock(change: &mut Change, wanted: &Wanted) -> Result<Label, StoreError> {
    let project = change.project_id();
    let select = select!("where project_id = $1 and (id = $2 or name = $3) for update");
    rows::one(change.connection(), select, project, wanted, KIND).await
}

/// # Errors
/// There is no such label in the project.
pub async fn find(
    connection: &mut PgConnection,
    project: ProjectId,
    wanted: &Wanted,
) -> Result<Label, StoreError> {
    let select = select!("where project_id = $1 and (id = $2 or name = $3)");
    rows::one(connection, select, project, wanted, KIND).await
}

/// Labels of a project by name.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn list(
    connection: &mut PgConnection,
    project: ProjectId,
) -> Result<Vec<Label>, StoreError> {
    let select = select!("where project_id = $1 order by name");
    rows::of_project(connection, select, project).await
}

/// Labels of all projects.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn all(connection: &mut PgConnection) -> Result<Vec<Label>, StoreError> {
    rows::every(connection, select!("order by id")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(word: &str) -> Kept {
        Kept {
            example: Example {
                scheme: 1,
                tokens: vec![word.into()],
            },
            event_id: None,
        }
    }

    #[test]
    fn an_example_is_kept_once_and_what_is_too_much_is_refused() {
        let held = checked(vec![kept("a")], vec![kept("b"), kept("a"), kept("b")]).unwrap();
        assert_eq!(held, [kept("a"), kept("b")]);
        assert!(checked(Vec::new(), Vec::new()).is_err());
        let many = |count: usize| (0..count).map(|n| kept(&n.to_string())).collect();
        assert!(checked(Vec::new(), many(EXAMPLES_MAX)).is_ok());
        assert!(checked(vec![kept("a")], many(EXAMPLES_MAX)).is_err());
        assert!(checked(Vec::new(), vec![kept(&"x".repeat(EXAMPLES_BYTES))]).is_err());
    }

    #[test]
    fn thresholds_are_likenesses() {
        assert_eq!(checked_threshold(None), Ok(None));
        assert!(checked_threshold(Some(1.0)).is_ok());
        assert!(checked_threshold(Some(1.1)).is_err());
        assert!(checked_threshold(Some(f32::NAN)).is_err());
    }
}
