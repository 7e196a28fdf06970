//! `config.corrections`: events that were classified wrongly, and what they are.

use router_schemas::{
    EventId, KnowledgeId, ProjectId, SourceId,
    config::{CorrectionConfig, Example, Kind},
};
use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection, types::Json};
use uuid::Uuid;

use super::{Change, Setting, StoreError, Wanted, events::Event, json_value, room, rows};
use crate::validate::{self, Invalid};

const KIND: &str = "correction";
/// Corrections of a project at the most: they are held in memory by every worker of `process`.
pub const LIMIT: i64 = 2_000;
/// Bytes of one example as JSON.
const EXAMPLE_BYTES: usize = 100_000;

#[derive(Debug, Clone, FromRow)]
pub struct Correction {
    pub id: Uuid,
    pub project_id: Uuid,
    pub source_id: Uuid,
    /// None where the source is deleted.
    pub source_name: Option<String>,
    pub event_id: Uuid,
    pub category: String,
    pub instead_of: Option<String>,
    pub example: Json<Example>,
    pub version: i64,
    pub created_at_ms: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select c.*, s.name as source_name, (extract(epoch from c.created_at) * 1000)::bigint as created_at_ms
             from config.corrections c left join config.sources s on s.id = c.source_id ",
            $rest
        )
    };
}

impl Correction {
    #[must_use]
    pub fn config(&self) -> CorrectionConfig {
        CorrectionConfig {
            project_id: ProjectId(self.project_id),
            source_id: SourceId(self.source_id),
            event_id: EventId(self.event_id),
            category: self.category.clone(),
            instead_of: self.instead_of.clone(),
            example: self.example.0.clone(),
        }
    }
}

impl Setting for Correction {
    const KIND: Kind = Kind::Correction;
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
        json!({
            "event_id": self.event_id, "source_id": self.source_id, "category": self.category,
            "instead_of": self.instead_of,
        })
    }
}

/// Says what an event is. Of an event that was corrected before the new word counts, and what it had been taken for
/// at first stays.
///
/// # Errors
/// The category is refused, or there are too many corrections.
pub async fn add(
    change: &mut Change,
    event: &Event,
    example: Example,
    category: &str,
) -> Result<Correction, StoreError> {
    let category = validate::category(category)?;
    let bytes = serde_json::to_vec(&example).map_or(usize::MAX, |json| json.len());
    if bytes > EXAMPLE_BYTES {
        let why = format!("its words are {bytes} bytes long, more than a correction takes");
        return Err(Invalid::new("event", why).into());
    }
    let project = change.project_id();
    let of_event = Wanted::Id(event.id.0);
    if let Some(before) = lock(change, &of_event).await? {
        sqlx::query("update config.corrections set category = $2, example = $3 where id = $1")
            .bind(before.id)
            .bind(category)
            .bind(Json(&example))
            .execute(change.connection())
            .await?;
        let after = find(change.connection(), project, &of_event).await?;
        change.updated("update", &before, &after).await?;
        return Ok(after);
    }
    let count = "select count(*) from config.corrections where project_id = $1";
    room(change, KIND, count, LIMIT).await?;
    let id = KnowledgeId::generate();
    sqlx::query(
        "insert into config.corrections (id, project_id, source_id, event_id, category, instead_of, example)
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id.0)
    .bind(project.0)
    .bind(event.source_id.0)
    .bind(event.id.0)
    .bind(category)
    .bind(&event.classified_as)
    .bind(Json(&example))
    .execute(change.connection())
    .await?;
    let row = find(change.connection(), project, &Wanted::Id(id.0)).await?;
    change.created(&row).await?;
    Ok(row)
}

/// # Errors
/// There is no such correction.
pub async fn delete(change: &mut Change, wanted: &Wanted) -> Result<Correction, StoreError> {
    let row = lock(change, wanted).await?;
    let row = row.ok_or_else(|| wanted.missing(KIND))?;
    sqlx::query("delete from config.corrections where id = $1")
        .bind(row.id)
        .execute(change.connection())
        .await?;
    change.deleted(&row).await?;
    Ok(row)
}

/// By its own id or by that of its event.
async fn lock(change: &mut Change, wanted: &Wanted) -> Result<Option<Correction>, StoreError> {
    let project = change.project_id();
    let row = sqlx::query_as(select!(
        "where c.project_id = $1 and (c.id = $2 or c.event_id = $2) for update of c"
    ))
    .bind(project.0)
    .bind(wanted.id())
    .fetch_optional(change.connection())
    .await?;
    Ok(row)
}

async fn find(
    connection: &mut PgConnection,
    project: ProjectId,
    wanted: &Wanted,
) -> Result<Correction, StoreError> {
    let row = sqlx::query_as(select!(
        "where c.project_id = $1 and (c.id = $2 or c.event_id = $2)"
    ))
    .bind(project.0)
    .bind(wanted.id())
    .fetch_optional(connection)
    .await?;
    row.ok_or_else(|| wanted.missing(KIND))
}

/// Corrections of a project, the latest first.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn list(
    connection: &mut PgConnection,
    project: ProjectId,
) -> Result<Vec<Correction>, StoreError> {
    let select = select!("where c.project_id = $1 order by c.id desc");
    rows::of_project(connection, select, project).await
}

/// Corrections of all projects.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn all(connection: &mut PgConnection) -> Result<Vec<Correction>, StoreError> {
    rows::every(connection, select!("order by c.id")).await
}
