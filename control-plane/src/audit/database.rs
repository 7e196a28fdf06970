//! The same counts from PostgreSQL, beside those of Kafka.
//!
//! The tables are written by `archive` behind the data plane, and both sides forget old events, each by its
//! own retention. So only events that both still keep are compared, and a difference counts only where the
//! archive had finished everything and nothing came while the rows were counted.

use router_runtime::kafka::KafkaSettings;
use sqlx::{PgConnection, PgPool};

use super::{
    Audit,
    ledger::{Account, RawLedger},
    report::{Comparison, Database},
};
use crate::{error::CommandError, store::StoreError};

/// Counts the rows.
///
/// # Errors
/// PostgreSQL or Kafka does not answer, or the tables do not exist.
pub async fn compare(
    audit: &Audit,
    pool: &PgPool,
    kafka: &KafkaSettings,
) -> Result<Database, CommandError> {
    // One view of all tables, however long counting takes.
    let mut transaction = pool.begin().await?;
    sqlx::query("set transaction isolation level repeatable read, read only")
        .execute(&mut *transaction)
        .await?;
    let since_ms = oldest_ms(&mut transaction).await?.max(audit.kept_since_ms);
    let rows = Rows::count(&mut transaction, since_ms, &kafka.names().replay).await?;
    transaction.rollback().await?;
    let quiet = tokio::task::block_in_place(|| audit.is_unchanged(kafka))?;
    // Whether what waits is lost is Kafka's affair; here it only has to be the same.
    let account = audit.books.account(false, since_ms);
    Ok(Database {
        archived: audit.archived && quiet,
        since_ms,
        counts: rows.beside(&account),
    })
}

/// The first moment that the partitioned tables still hold.
async fn oldest_ms(connection: &mut PgConnection) -> Result<i64, StoreError> {
    let sql = "select coalesce((extract(epoch from min(to_date(right(c.relname, 8), 'YYYYMMDD'))) * 1000)::bigint, 0)
               from pg_inherits i join pg_class c on c.oid = i.inhrelid
               where i.inhparent = 'ingestion.logs'::regclass";
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}

/// Counts of rows by what they say.
#[derive(Debug, Default)]
struct Rows {
    raw: u64,
    /// Raw records by outcome.
    outcomes: Vec<(String, i64)>,
    /// Deliveries by state.
    states: Vec<(String, i64)>,
    waiting: u64,
    dead_webhooks: u64,
    dead_deliveries: u64,
}

/// Replays are new work on a record that has its own outcome; what comes from their topic ($2) without an id of
/// a replay, and is no redrive, is garbage that somebody put there: as `Audit::is_of_a_raw_record` has it.
const OUTCOMES: &str = "\
select outcome, count(*) from ( \
    select distinct on (event_id) outcome from processed_results \
    where event_id >= ingestion.first_id(ingestion.at_ms($1)) \
        and replay_id = '00000000-0000-0000-0000-000000000000' and (round > 0 or raw_topic <> $2) \
    order by event_id, round desc, ingestion.outcome_rank(outcome) desc) furthest \
group by outcome";

const DEAD_WEBHOOKS: &str = "\
select count(*) from dead_letters where event_id >= ingestion.first_id(ingestion.at_ms($1)) and kind = 'webhook' \
    and replay_id = '00000000-0000-0000-0000-000000000000' and (round > 0 or raw_topic is distinct from $2)";

impl Rows {
    async fn count(
        connection: &mut PgConnection,
        since_ms: i64,
        replay_topic: &str,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            raw: one(
                connection,
                "select count(*) from ingestion.logs where event_id >= ingestion.first_id(ingestion.at_ms($1))",
                since_ms,
            )
            .await?,
            outcomes: sqlx::query_as(OUTCOMES)
                .bind(since_ms)
                .bind(replay_topic)
                .fetch_all(&mut *connection)
                .await?,
            states: by_name(
                connection,
                "select state, count(*) from (
                     select distinct on (event_id, delivery_id) state from delivery_logs
                     where event_id >= ingestion.first_id(ingestion.at_ms($1))
                     order by event_id, delivery_id, round desc, rank desc) furthest
                 group by state",
                since_ms,
            )
            .await?,
            waiting: one(
                connection,
                "select count(*) from retry_queue where event_id >= ingestion.first_id(ingestion.at_ms($1))",
                since_ms,
            )
            .await?,
            dead_webhooks: sqlx::query_scalar::<_, i64>(DEAD_WEBHOOKS)
                .bind(since_ms)
                .bind(replay_topic)
                .fetch_one(&mut *connection)
                .await?
                .unsigned_abs(),
            dead_deliveries: one(
                connection,
                "select count(*) from dead_letters where event_id >= ingestion.first_id(ingestion.at_ms($1))
                     and kind = 'delivery'",
                since_ms,
            )
            .await?,
        })
    }

    fn beside(&self, account: &Account) -> Vec<Comparison> {
        let (raw, deliveries) = (&account.raw, &account.deliveries);
        let outcome = |name| named(&self.outcomes, name);
        let state = |name| named(&self.states, name);
        let parked = deliveries.parked + deliveries.held;
        [
            ("raw records", kept(raw), self.raw),
            ("routed", raw.routed, outcome("routed")),
            ("unrouted", raw.unrouted, outcome("unrouted")),
            ("dead raw records", raw.dead, outcome("dead")),
            (
                "dead raw records, dead_letters",
                raw.dead,
                self.dead_webhooks,
            ),
            ("delivered", deliveries.delivered, state("delivered")),
            ("cancelled", deliveries.cancelled, state("cancelled")),
            ("dead deliveries", deliveries.dead, state("dead")),
            (
                "dead deliveries, dead_letters",
                deliveries.dead,
                self.dead_deliveries,
            ),
            ("parked", parked, state("parked")),
            ("parked, retry_queue", parked, self.waiting),
        ]
        .map(|(what, kafka, database)| Comparison {
            what,
            kafka,
            database,
        })
        .into()
    }
}

/// Raw records that are still in the topic: each has its row.
fn kept(raw: &RawLedger) -> u64 {
    raw.records - raw.expired - raw.unknown.count
}

fn named(counts: &[(String, i64)], name: &str) -> u64 {
    let found = counts.iter().find(|(known, _)| known == name);
    found.map_or(0, |(_, count)| count.unsigned_abs())
}

async fn one(
    connection: &mut PgConnection,
    sql: &'static str,
    since_ms: i64,
) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(sql)
        .bind(since_ms)
        .fetch_one(connection)
        .await?;
    Ok(count.unsigned_abs())
}

async fn by_name(
    connection: &mut PgConnection,
    sql: &'static str,
    since_ms: i64,
) -> Result<Vec<(String, i64)>, StoreError> {
    Ok(sqlx::query_as(sql)
        .bind(since_ms)
        .fetch_all(connection)
        .await?)
}
