//! `delivery_logs`: a row for each thing that happened to a delivery.

use router_runtime::consumer::{Incoming, Unreadable};
use router_schemas::{AttemptRecord, ErrorClass, EventId, Next, ProjectId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::text;

#[derive(Debug)]
pub(super) struct AttemptRow {
    pub(super) event_id: EventId,
    pub(super) project_id: ProjectId,
    pub(super) delivery_id: Uuid,
    pub(super) source_id: Uuid,
    pub(super) destination_id: Uuid,
    pub(super) item: i32,
    /// Nil where it is no replay.
    pub(super) replay_id: Uuid,
    pub(super) round: i32,
    pub(super) attempt: i32,
    pub(super) at_ms: i64,
    pub(super) state: &'static str,
    /// [`Next::rank`].
    pub(super) rank: i16,
    pub(super) reason: Option<String>,
    pub(super) until_ms: Option<i64>,
    pub(super) status: Option<i32>,
    pub(super) error_message: Option<String>,
    route_id: Option<Uuid>,
    attempted: bool,
    duration_ms: i64,
    response_start: Option<String>,
    error_class: Option<&'static str>,
    error_code: Option<String>,
    /// The partition of `webhooks.attempts`, which holds all records of the delivery.
    pub(super) partition: i32,
}

impl AttemptRow {
    pub(super) fn read(record: &Incoming) -> Result<Self, Unreadable> {
        let read: AttemptRecord = serde_json::from_slice(record.payload())?;
        let (state, rank) = (read.next.name(), i16::from(read.next.rank()));
        let (reason, until_ms) = match read.next {
            Next::Delivered => (None, None),
            Next::Parked { until_ms, reason } => (Some(reason), Some(until_ms)),
            Next::Dead { reason } | Next::Cancelled { reason } => (Some(reason), None),
        };
        let (status, response_start) = read.answer.map_or((None, None), |answer| {
            (Some(i32::from(answer.status)), Some(answer.body_start))
        });
        let (error_class, error_code, error_message) =
            read.error.map_or((None, None, None), |error| {
                let class = match error.class {
                    ErrorClass::Retryable => "retryable",
                    ErrorClass::Permanent => "permanent",
                    ErrorClass::Ours => "ours",
                };
                (Some(class), Some(error.code), Some(error.message))
            });
        Ok(Self {
            event_id: read.event_id,
            project_id: read.project_id,
            delivery_id: read.delivery_id.0,
            source_id: read.source_id.0,
            destination_id: read.destination_id.0,
            item: super::integer("item", read.item)?,
            replay_id: read.replay_id.map_or(Uuid::nil(), |replay| replay.0),
            round: super::integer("round", read.round)?,
            attempt: super::integer("attempt", read.attempt)?,
            at_ms: read.at_ms,
            state,
            rank,
            reason: reason.map(text::plain),
            until_ms,
            status,
            error_message: error_message.map(text::plain),
            route_id: read.route_id.map(|route| route.0),
            attempted: read.attempted,
            duration_ms: i64::from(read.duration_ms),
            response_start: response_start.map(text::plain),
            error_class,
            error_code: error_code.map(text::plain),
            partition: record.partition(),
        })
    }

    /// How far the delivery is by this record: the furthest state of the latest round counts (see
    /// [`Next::rank`]), among several waits the latest.
    pub(super) fn progress(&self) -> (i32, i16, i32, i64) {
        (self.round, self.rank, self.attempt, self.at_ms)
    }
}

const INSERT: &str = "\
insert into delivery_logs (event_id, delivery_id, round, attempt, state, at, rank, item, replay_id, project_id, \
    source_id, destination_id, route_id, attempted, duration_ms, status, response_start, error_class, error_code, \
    error_message, reason, until_at) \
select event_id, delivery_id, round, attempt, state, ingestion.at_ms(at_ms), rank, item, replay_id, project_id, \
    source_id, destination_id, route_id, attempted, duration_ms, status, response_start, error_class, error_code, \
    error_message, reason, ingestion.at_ms(until_ms) \
from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::integer[], $5::text[], $6::bigint[], $7::smallint[], \
    $8::integer[], $9::uuid[], $10::uuid[], $11::uuid[], $12::uuid[], $13::uuid[], $14::boolean[], $15::bigint[], \
    $16::integer[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[], $22::bigint[]) \
    as new (event_id, delivery_id, round, attempt, state, at_ms, rank, item, replay_id, project_id, \
    source_id, destination_id, route_id, attempted, duration_ms, status, response_start, error_class, error_code, \
    error_message, reason, until_ms) \
on conflict do nothing";

/// Writes the rows that are not there yet; returns how many those were.
pub(super) async fn insert(
    connection: &mut PgConnection,
    mut rows: Vec<&AttemptRow>,
) -> Result<u64, sqlx::Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    // Two writers that meet in the same rows must meet in the same order, or they deadlock.
    rows.sort_unstable_by_key(|row| (row.event_id, row.delivery_id, row.progress()));
    macro_rules! column {
        ($row:ident => $value:expr) => {
            rows.iter().map(|$row| $value).collect::<Vec<_>>()
        };
    }
    let done = sqlx::query(INSERT)
        .bind(column!(row => row.event_id.0))
        .bind(column!(row => row.delivery_id))
        .bind(column!(row => row.round))
        .bind(column!(row => row.attempt))
        .bind(column!(row => row.state))
        .bind(column!(row => row.at_ms))
        .bind(column!(row => row.rank))
        .bind(column!(row => row.item))
        .bind(column!(row => row.replay_id))
        .bind(column!(row => row.project_id.0))
        .bind(column!(row => row.source_id))
        .bind(column!(row => row.destination_id))
        .bind(column!(row => row.route_id))
        .bind(column!(row => row.attempted))
        .bind(column!(row => row.duration_ms))
        .bind(column!(row => row.status))
        .bind(column!(row => row.response_start.as_deref()))
        .bind(column!(row => row.error_class))
        .bind(column!(row => row.error_code.as_deref()))
        .bind(column!(row => row.error_message.as_deref()))
        .bind(column!(row => row.reason.as_deref()))
        .bind(column!(row => row.until_ms))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}
