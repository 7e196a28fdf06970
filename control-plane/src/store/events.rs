//! What the archive has of an event, as far as it is taught from: read, never written.

use router_schemas::{EventId, ProjectId, SourceId};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::StoreError;

/// A webhook as it came, and what it was taken for.
#[derive(Debug)]
pub struct Event {
    pub id: EventId,
    pub source_id: SourceId,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    /// A JSON array of pairs.
    pub headers: String,
    /// As received, compressed or not.
    pub body: Vec<u8>,
    /// Its category by `processed_results`; none where there is no result of it yet.
    pub classified_as: Option<String>,
}

#[derive(FromRow)]
struct Row {
    source_id: Uuid,
    content_type: Option<String>,
    content_encoding: Option<String>,
    headers: String,
    body: Vec<u8>,
    classified_as: Option<String>,
}

/// # Errors
/// There is no such event in the project.
pub async fn find(
    connection: &mut PgConnection,
    project: ProjectId,
    id: EventId,
) -> Result<Event, StoreError> {
    // The result of the event itself, before those of its replays.
    let row: Option<Row> = sqlx::query_as(
        "select source_id, content_type, content_encoding, headers::text as headers, body,
             (select category from processed_results r
              where r.event_id = l.event_id and r.project_id = l.project_id and category is not null
              order by replay_id <> '00000000-0000-0000-0000-000000000000', item, processed_at limit 1) as classified_as
         from ingestion.logs l where event_id = $1 and project_id = $2",
    )
    .bind(id.0)
    .bind(project.0)
    .fetch_optional(connection)
    .await?;
    let row = row.ok_or_else(|| {
        StoreError::Conflict(format!(
            "there is no event {id} in PostgreSQL: it came longer ago than events are kept, or `archive` has not written it yet"
        ))
    })?;
    Ok(Event {
        id,
        source_id: SourceId(row.source_id),
        content_type: row.content_type,
        content_encoding: row.content_encoding,
        headers: row.headers,
        body: row.body,
        classified_as: row.classified_as,
    })
}
