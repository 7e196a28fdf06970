//! `processed_results`: what became of each item of a webhook, and `dead_letters` of webhooks.
//!
//! One row for each event id, item and replay. A redrive from the dead letters is a further round of the
//! same row, which only moves forward, by round and then by how far the outcome is; so records may come
//! twice or late.

use std::collections::HashMap;

use router_runtime::consumer::{Incoming, Unreadable};
use router_schemas::{
    EventId, ProcessedRecord, ProjectId, RecordPosition, processed::ProcessOutcome,
};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::text;

#[derive(Debug)]
pub(super) struct ProcessedRow {
    pub(super) event_id: EventId,
    pub(super) project_id: ProjectId,
    item: i32,
    /// Nil where it is no replay.
    replay_id: Uuid,
    source_id: Uuid,
    round: i32,
    outcome: &'static str,
    /// As `ingestion.outcome_rank` has it.
    rank: u8,
    reason: Option<String>,
    category: Option<String>,
    confidence: Option<f32>,
    runner_up: Option<String>,
    runner_up_confidence: Option<f32>,
    decided_by: Option<&'static str>,
    decided_id: Option<Uuid>,
    model_version: Option<String>,
    shadow_version: Option<String>,
    shadow_category: Option<String>,
    shadow_confidence: Option<f32>,
    result: Option<String>,
    deliveries: i32,
    queued: String,
    processed_at_ms: i64,
    raw: RecordPosition,
}

type Key = (Uuid, i32, Uuid);

impl ProcessedRow {
    pub(super) fn read(record: &Incoming) -> Result<Self, Unreadable> {
        let read: ProcessedRecord = serde_json::from_slice(record.payload())?;
        let (outcome, rank, reason, queued) = match read.outcome {
            ProcessOutcome::Dead { reason } => ("dead", 0, Some(reason), Vec::new()),
            ProcessOutcome::Unrouted => ("unrouted", 1, None, Vec::new()),
            ProcessOutcome::Routed { deliveries } => ("routed", 2, None, deliveries),
        };
        let result = read
            .result
            .as_ref()
            .map(serde_json::to_string)
            .transpose()?;
        let mut row = Self {
            event_id: read.event_id,
            project_id: read.project_id,
            item: super::integer("item", read.item)?,
            replay_id: read.replay_id.map_or(Uuid::nil(), |replay| replay.0),
            source_id: read.source_id.0,
            round: super::integer("round", read.round)?,
            outcome,
            rank,
            reason: reason.map(text::plain),
            category: None,
            confidence: None,
            runner_up: None,
            runner_up_confidence: None,
            decided_by: None,
            decided_id: None,
            model_version: None,
            shadow_version: None,
            shadow_category: None,
            shadow_confidence: None,
            result: result.map(text::json),
            deliveries: super::integer("deliveries", queued.len())?,
            queued: serde_json::to_string(&queued)?,
            processed_at_ms: read.processed_at_ms,
            raw: RecordPosition {
                topic: text::plain(read.raw.topic),
                ..read.raw
            },
        };
        if let Some(class) = read.classification {
            row.category = Some(text::plain(class.category));
            row.confidence = Some(class.confidence);
            row.model_version = Some(text::plain(class.model_version));
            row.decided_by = Some(class.decided_by.name());
            row.decided_id = class.decided_id.map(|id| id.0);
            if let Some(second) = class.runner_up {
                row.runner_up = Some(text::plain(second.category));
                row.runner_up_confidence = Some(second.confidence);
            }
            if let Some(shadow) = class.shadow {
                row.shadow_version = Some(text::plain(shadow.model_version));
                row.shadow_category = Some(text::plain(shadow.category));
                row.shadow_confidence = Some(shadow.confidence);
            }
        }
        Ok(row)
    }

    fn key(&self) -> Key {
        (self.event_id.0, self.item, self.replay_id)
    }

    fn progress(&self) -> (i32, u8) {
        (self.round, self.rank)
    }
}

/// The furthest row of each key, in the order of keys: one statement may meet a row only once, and two
/// writers must meet rows in the same order.
fn furthest<'a>(rows: &[&'a ProcessedRow]) -> Vec<&'a ProcessedRow> {
    let mut chosen: HashMap<Key, &ProcessedRow> = HashMap::with_capacity(rows.len());
    for row in rows {
        let place = chosen.entry(row.key()).or_insert(row);
        if row.progress() > place.progress() {
            *place = row;
        }
    }
    let mut chosen: Vec<_> = chosen.into_values().collect();
    chosen.sort_unstable_by_key(|row| row.key());
    chosen
}

const UPSERT: &str = "\
insert into processed_results as old (event_id, item, replay_id, project_id, source_id, round, outcome, reason, \
    category, confidence, runner_up, runner_up_confidence, decided_by, model_version, result, deliveries, queued, \
    processed_at, raw_topic, raw_partition, raw_offset, decided_id, shadow_version, shadow_category, shadow_confidence) \
select event_id, item, replay_id, project_id, source_id, round, outcome, reason, \
    category, confidence, runner_up, runner_up_confidence, decided_by, model_version, result::jsonb, deliveries, \
    queued::jsonb, ingestion.at_ms(processed_at_ms), raw_topic, raw_partition, raw_offset, \
    decided_id, shadow_version, shadow_category, shadow_confidence \
from unnest($1::uuid[], $2::integer[], $3::uuid[], $4::uuid[], $5::uuid[], $6::integer[], $7::text[], $8::text[], \
    $9::text[], $10::real[], $11::text[], $12::real[], $13::text[], $14::text[], $15::text[], $16::integer[], \
    $17::text[], $18::bigint[], $19::text[], $20::integer[], $21::bigint[], $22::uuid[], $23::text[], $24::text[], \
    $25::real[]) \
    as new (event_id, item, replay_id, project_id, source_id, round, outcome, reason, \
    category, confidence, runner_up, runner_up_confidence, decided_by, model_version, result, deliveries, queued, \
    processed_at_ms, raw_topic, raw_partition, raw_offset, decided_id, shadow_version, shadow_category, shadow_confidence) \
on conflict (event_id, item, replay_id) do update set \
    project_id = excluded.project_id, source_id = excluded.source_id, round = excluded.round, \
    outcome = excluded.outcome, reason = excluded.reason, category = excluded.category, \
    confidence = excluded.confidence, runner_up = excluded.runner_up, \
    runner_up_confidence = excluded.runner_up_confidence, decided_by = excluded.decided_by, \
    model_version = excluded.model_version, result = excluded.result, deliveries = excluded.deliveries, \
    queued = excluded.queued, processed_at = excluded.processed_at, raw_topic = excluded.raw_topic, \
    raw_partition = excluded.raw_partition, raw_offset = excluded.raw_offset, \
    decided_id = excluded.decided_id, shadow_version = excluded.shadow_version, \
    shadow_category = excluded.shadow_category, shadow_confidence = excluded.shadow_confidence \
where (excluded.round, ingestion.outcome_rank(excluded.outcome)) > (old.round, ingestion.outcome_rank(old.outcome)) \
returning event_id, item, replay_id";

const RISEN: &str = "\
delete from dead_letters as dead \
using unnest($1::uuid[], $2::integer[], $3::uuid[], $4::integer[]) as new (event_id, item, replay_id, round) \
where dead.event_id = new.event_id and dead.item = new.item and dead.replay_id = new.replay_id \
    and dead.delivery_id = '00000000-0000-0000-0000-000000000000' and dead.round <= new.round";

const DIED: &str = "\
insert into dead_letters as old (event_id, item, replay_id, delivery_id, kind, project_id, source_id, round, \
    attempts, died_at, reason, raw_topic, raw_partition, raw_offset) \
select event_id, item, replay_id, '00000000-0000-0000-0000-000000000000', 'webhook', project_id, source_id, round, \
    0, ingestion.at_ms(died_at_ms), reason, raw_topic, raw_partition, raw_offset \
from unnest($1::uuid[], $2::integer[], $3::uuid[], $4::uuid[], $5::uuid[], $6::integer[], $7::bigint[], \
    $8::text[], $9::text[], $10::integer[], $11::bigint[]) \
    as new (event_id, item, replay_id, project_id, source_id, round, died_at_ms, reason, \
    raw_topic, raw_partition, raw_offset) \
on conflict (event_id, item, replay_id, delivery_id) do update set \
    round = excluded.round, died_at = excluded.died_at, reason = excluded.reason, \
    raw_topic = excluded.raw_topic, raw_partition = excluded.raw_partition, raw_offset = excluded.raw_offset \
where excluded.round > old.round";

macro_rules! column {
    ($rows:ident, $row:ident => $value:expr) => {
        $rows.iter().map(|$row| $value).collect::<Vec<_>>()
    };
}

/// Writes what is new or further than what is there, and moves the dead letters along. Rows of `expired`
/// have no partition any more: only their dead letters are touched. Returns how many rows were written.
pub(super) async fn upsert(
    connection: &mut PgConnection,
    rows: &[&ProcessedRow],
    expired: &[&ProcessedRow],
) -> Result<u64, sqlx::Error> {
    let rows = furthest(rows);
    let mut changed = furthest(expired);
    let mut written = 0;
    if !rows.is_empty() {
        let keys: Vec<Key> = write(connection, &rows).await?;
        let known: HashMap<Key, &ProcessedRow> = rows.iter().map(|row| (row.key(), *row)).collect();
        written = keys.len() as u64;
        changed.extend(keys.iter().filter_map(|key| known.get(key).copied()));
    }
    changed.sort_unstable_by_key(|row| row.key());
    let (dead, risen): (Vec<_>, Vec<_>) = changed.into_iter().partition(|row| row.rank == 0);
    if !risen.is_empty() {
        sqlx::query(RISEN)
            .bind(column!(risen, row => row.event_id.0))
            .bind(column!(risen, row => row.item))
            .bind(column!(risen, row => row.replay_id))
            .bind(column!(risen, row => row.round))
            .execute(&mut *connection)
            .await?;
    }
    if !dead.is_empty() {
        sqlx::query(DIED)
            .bind(column!(dead, row => row.event_id.0))
            .bind(column!(dead, row => row.item))
            .bind(column!(dead, row => row.replay_id))
            .bind(column!(dead, row => row.project_id.0))
            .bind(column!(dead, row => row.source_id))
            .bind(column!(dead, row => row.round))
            .bind(column!(dead, row => row.processed_at_ms))
            .bind(column!(dead, row => row.reason.as_deref().unwrap_or_default()))
            .bind(column!(dead, row => row.raw.topic.as_str()))
            .bind(column!(dead, row => row.raw.partition))
            .bind(column!(dead, row => row.raw.offset))
            .execute(connection)
            .await?;
    }
    Ok(written)
}

/// Returns the keys that were inserted or moved forward.
async fn write(
    connection: &mut PgConnection,
    rows: &[&ProcessedRow],
) -> Result<Vec<Key>, sqlx::Error> {
    let changed = sqlx::query(UPSERT)
        .bind(column!(rows, row => row.event_id.0))
        .bind(column!(rows, row => row.item))
        .bind(column!(rows, row => row.replay_id))
        .bind(column!(rows, row => row.project_id.0))
        .bind(column!(rows, row => row.source_id))
        .bind(column!(rows, row => row.round))
        .bind(column!(rows, row => row.outcome))
        .bind(column!(rows, row => row.reason.as_deref()))
        .bind(column!(rows, row => row.category.as_deref()))
        .bind(column!(rows, row => row.confidence))
        .bind(column!(rows, row => row.runner_up.as_deref()))
        .bind(column!(rows, row => row.runner_up_confidence))
        .bind(column!(rows, row => row.decided_by))
        .bind(column!(rows, row => row.model_version.as_deref()))
        .bind(column!(rows, row => row.result.as_deref()))
        .bind(column!(rows, row => row.deliveries))
        .bind(column!(rows, row => row.queued.as_str()))
        .bind(column!(rows, row => row.processed_at_ms))
        .bind(column!(rows, row => row.raw.topic.as_str()))
        .bind(column!(rows, row => row.raw.partition))
        .bind(column!(rows, row => row.raw.offset))
        .bind(column!(rows, row => row.decided_id))
        .bind(column!(rows, row => row.shadow_version.as_deref()))
        .bind(column!(rows, row => row.shadow_category.as_deref()))
        .bind(column!(rows, row => row.shadow_confidence))
        .fetch_all(connection)
        .await?;
    changed
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
        .collect()
}
