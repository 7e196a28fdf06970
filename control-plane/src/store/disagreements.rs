//! Where a shadow model and the current one disagreed, by `processed_results`: read, never written.

use router_schemas::ProjectId;
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::StoreError;

/// How often one category became another.
#[derive(Debug, FromRow, Serialize)]
pub struct Count {
    pub shadow_version: String,
    pub category: String,
    pub shadow_category: String,
    pub events: i64,
}

/// One event about which they disagree.
#[derive(Debug, FromRow, Serialize)]
pub struct Disagreement {
    pub event_id: Uuid,
    pub source_id: Uuid,
    /// None where the source is deleted.
    pub source: Option<String>,
    pub category: String,
    pub confidence: f32,
    /// Who said so: a rule, the model, ...
    pub decided_by: String,
    pub shadow_version: String,
    pub shadow_category: String,
    pub shadow_confidence: f32,
}

macro_rules! since {
    ($head:literal, $tail:literal) => {
        concat!(
            $head,
            " where r.project_id = $1 and r.shadow_category is not null and r.category is not null
                and r.event_id >= ingestion.first_id(ingestion.at_ms($2)) ",
            $tail
        )
    };
}

/// Counts of all events that came since, the most frequent first.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn counts(
    connection: &mut PgConnection,
    project: ProjectId,
    since_ms: i64,
) -> Result<Vec<Count>, StoreError> {
    let sql = since!(
        "select coalesce(shadow_version, '') as shadow_version, category, shadow_category, count(*) as events
         from processed_results r",
        "group by 1, 2, 3 order by 4 desc, 1, 2, 3"
    );
    Ok(sqlx::query_as(sql)
        .bind(project.0)
        .bind(since_ms)
        .fetch_all(connection)
        .await?)
}

/// The latest of them.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn latest(
    connection: &mut PgConnection,
    project: ProjectId,
    since_ms: i64,
    limit: i64,
) -> Result<Vec<Disagreement>, StoreError> {
    let sql = since!(
        "select r.event_id, r.source_id, s.name as source, r.category, coalesce(r.confidence, 0) as confidence,
             coalesce(r.decided_by, '') as decided_by, coalesce(r.shadow_version, '') as shadow_version,
             r.shadow_category, coalesce(r.shadow_confidence, 0) as shadow_confidence
         from processed_results r left join config.sources s on s.id = r.source_id",
        "order by r.event_id desc limit $3"
    );
    Ok(sqlx::query_as(sql)
        .bind(project.0)
        .bind(since_ms)
        .bind(limit)
        .fetch_all(connection)
        .await?)
}
