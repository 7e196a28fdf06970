//! `retry_queue` and the deliveries in `dead_letters`: where each delivery stands now.
//!
//! Both hold only what waits or is dead; what ended leaves them. So that a late "parked" does not bring
//! back what was delivered meanwhile, a row is only written where `delivery_logs` knows nothing further,
//! and all writers of one partition of `webhooks.attempts` (after a rebalance there may be two for a
//! moment) take their turn behind an advisory lock, which is held until the transaction ends.

use std::collections::{BTreeSet, HashMap};

use sqlx::PgConnection;
use uuid::Uuid;

use super::attempts::AttemptRow;

/// First half of the advisory locks' keys; the second is the partition.
const LOCK_SPACE: i32 = 0x6172_6368;

/// Takes the turn of every partition that the rows come from. Before the rows are written: what another
/// writer has committed by then is seen by every later statement.
pub(super) async fn lock(
    connection: &mut PgConnection,
    rows: &[&AttemptRow],
) -> Result<(), sqlx::Error> {
    // In ascending order, as everybody else takes them.
    let partitions: BTreeSet<i32> = rows.iter().map(|row| row.partition).collect();
    if !partitions.is_empty() {
        sqlx::query("select pg_advisory_xact_lock($1, p) from unnest($2::integer[]) as p")
            .bind(LOCK_SPACE)
            .bind(Vec::from_iter(partitions))
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// The furthest row of each delivery, in the order of deliveries.
fn furthest<'a>(rows: &[&'a AttemptRow]) -> Vec<&'a AttemptRow> {
    let mut chosen: HashMap<Uuid, &AttemptRow> = HashMap::with_capacity(rows.len());
    for row in rows {
        let place = chosen.entry(row.delivery_id).or_insert(row);
        if row.progress() > place.progress() {
            *place = row;
        }
    }
    let mut chosen: Vec<_> = chosen.into_values().collect();
    chosen.sort_unstable_by_key(|row| row.delivery_id);
    chosen
}

// A row that waits is outranked by every other state of its round.
const NO_LONGER_WAITING: &str = "\
delete from retry_queue as old \
using unnest($1::uuid[], $2::uuid[], $3::integer[]) as new (event_id, delivery_id, round) \
where old.delivery_id = new.delivery_id and old.event_id = new.event_id and old.round <= new.round";

// A dead one is outranked by what ended otherwise in its round, and by every later round.
const NO_LONGER_DEAD: &str = "\
delete from dead_letters as old \
using unnest($1::uuid[], $2::integer[], $3::uuid[], $4::uuid[], $5::integer[], $6::smallint[]) \
    as new (event_id, item, replay_id, delivery_id, round, rank) \
where old.event_id = new.event_id and old.item = new.item and old.replay_id = new.replay_id \
    and old.delivery_id = new.delivery_id and (old.round, 1) < (new.round, new.rank)";

const WAITS: &str = "\
insert into retry_queue as old (delivery_id, event_id, project_id, source_id, destination_id, item, replay_id, \
    round, attempts, parked_at, until_at, reason, last_status, last_error) \
select delivery_id, event_id, project_id, source_id, destination_id, item, replay_id, \
    round, attempts, ingestion.at_ms(at_ms), ingestion.at_ms(until_ms), reason, last_status, last_error \
from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::integer[], $7::uuid[], $8::integer[], \
    $9::integer[], $10::bigint[], $11::text[], $12::integer[], $13::text[], $14::bigint[]) \
    as new (delivery_id, event_id, project_id, source_id, destination_id, item, replay_id, round, \
    attempts, at_ms, reason, last_status, last_error, until_ms) \
left join lateral ( \
    select true as further from delivery_logs l \
    where l.event_id = new.event_id and l.delivery_id = new.delivery_id and (l.round, l.rank) > (new.round, 0) \
    limit 1 \
) as log on true \
where log.further is null \
on conflict (delivery_id, event_id) do update set \
    round = excluded.round, attempts = excluded.attempts, parked_at = excluded.parked_at, \
    until_at = excluded.until_at, reason = excluded.reason, last_status = excluded.last_status, \
    last_error = excluded.last_error \
where (excluded.round, excluded.attempts, excluded.parked_at) > (old.round, old.attempts, old.parked_at)";

const DIED: &str = "\
insert into dead_letters as old (delivery_id, event_id, project_id, source_id, destination_id, item, replay_id, \
    round, attempts, died_at, reason, last_status, last_error, kind) \
select delivery_id, event_id, project_id, source_id, destination_id, item, replay_id, \
    round, attempts, ingestion.at_ms(at_ms), reason, last_status, last_error, 'delivery' \
from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::integer[], $7::uuid[], $8::integer[], \
    $9::integer[], $10::bigint[], $11::text[], $12::integer[], $13::text[]) \
    as new (delivery_id, event_id, project_id, source_id, destination_id, item, replay_id, round, \
    attempts, at_ms, reason, last_status, last_error) \
left join lateral ( \
    select true as further from delivery_logs l \
    where l.event_id = new.event_id and l.delivery_id = new.delivery_id and (l.round, l.rank) > (new.round, 1) \
    limit 1 \
) as log on true \
where log.further is null \
on conflict (event_id, item, replay_id, delivery_id) do update set \
    round = excluded.round, attempts = excluded.attempts, died_at = excluded.died_at, reason = excluded.reason, \
    last_status = excluded.last_status, last_error = excluded.last_error \
where (excluded.round, excluded.attempts, excluded.died_at) > (old.round, old.attempts, old.died_at)";

macro_rules! column {
    ($rows:ident, $row:ident => $value:expr) => {
        $rows.iter().map(|$row| $value).collect::<Vec<_>>()
    };
}

/// Moves each delivery to where the rows say it is, unless more is known already. Behind [`lock`] and
/// behind the insert into `delivery_logs`.
pub(super) async fn advance(
    connection: &mut PgConnection,
    rows: &[&AttemptRow],
) -> Result<(), sqlx::Error> {
    let rows = furthest(rows);
    let (waits, left): (Vec<_>, Vec<_>) = rows.iter().copied().partition(|row| row.rank == 0);
    let dead: Vec<_> = left.iter().copied().filter(|row| row.rank == 1).collect();
    if !left.is_empty() {
        sqlx::query(NO_LONGER_WAITING)
            .bind(column!(left, row => row.event_id.0))
            .bind(column!(left, row => row.delivery_id))
            .bind(column!(left, row => row.round))
            .execute(&mut *connection)
            .await?;
    }
    if !rows.is_empty() {
        sqlx::query(NO_LONGER_DEAD)
            .bind(column!(rows, row => row.event_id.0))
            .bind(column!(rows, row => row.item))
            .bind(column!(rows, row => row.replay_id))
            .bind(column!(rows, row => row.delivery_id))
            .bind(column!(rows, row => row.round))
            .bind(column!(rows, row => row.rank))
            .execute(&mut *connection)
            .await?;
    }
    if !waits.is_empty() {
        bind_common(sqlx::query(WAITS), &waits)
            .bind(column!(waits, row => row.until_ms))
            .execute(&mut *connection)
            .await?;
    }
    if !dead.is_empty() {
        bind_common(sqlx::query(DIED), &dead)
            .execute(connection)
            .await?;
    }
    Ok(())
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// Parameters 1 to 13 of [`WAITS`] and [`DIED`].
fn bind_common<'q>(query: Query<'q>, rows: &'q [&AttemptRow]) -> Query<'q> {
    query
        .bind(column!(rows, row => row.delivery_id))
        .bind(column!(rows, row => row.event_id.0))
        .bind(column!(rows, row => row.project_id.0))
        .bind(column!(rows, row => row.source_id))
        .bind(column!(rows, row => row.destination_id))
        .bind(column!(rows, row => row.item))
        .bind(column!(rows, row => row.replay_id))
        .bind(column!(rows, row => row.round))
        .bind(column!(rows, row => row.attempt))
        .bind(column!(rows, row => row.at_ms))
        .bind(column!(rows, row => row.reason.as_deref().unwrap_or_default()))
        .bind(column!(rows, row => row.status))
        .bind(column!(rows, row => row.error_message.as_deref()))
}
