//! `config.outbox`: what is still to be written to `control.config`.
//!
//! For each key only its newest row counts: when a row has been superseded, publishing it could only put
//! an older version behind a newer one.

use std::time::Duration;

use serde_json::Value;
use sqlx::{FromRow, PgConnection, PgPool, types::Json};

use super::StoreError;

/// Kind of an outbox row that deletes a record which no table owns; its id is the record's key in
/// hexadecimal.
pub const STRAY: &str = "stray";

/// What is to be written under one key.
#[derive(Debug, Clone, FromRow)]
pub struct Pending {
    pub seq: i64,
    pub kind: String,
    pub id: String,
    pub version: i64,
    /// None deletes.
    pub record: Option<Json<Value>>,
}

/// Adds a row within the caller's transaction, in which it must hold the lock of the row it speaks of.
///
/// # Errors
/// PostgreSQL refuses.
pub async fn insert(
    connection: &mut PgConnection,
    kind: &str,
    id: &str,
    version: i64,
    record: Option<Value>,
) -> Result<i64, StoreError> {
    let seq = sqlx::query_scalar(
        "insert into config.outbox (kind, id, version, record) values ($1, $2, $3, $4) returning seq",
    )
    .bind(kind)
    .bind(id)
    .bind(version)
    .bind(record.map(Json))
    .fetch_one(connection)
    .await?;
    Ok(seq)
}

/// The next rows to publish, at most `limit`, in order, superseded ones left out.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn pending(
    connection: &mut PgConnection,
    limit: i64,
) -> Result<Vec<Pending>, StoreError> {
    let rows = sqlx::query_as(
        "select seq, kind, id, version, record from config.outbox o
         where published_at is null
           and not exists (select 1 from config.outbox n where n.kind = o.kind and n.id = o.id and n.seq > o.seq)
         order by seq limit $1",
    )
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Marks rows, and what they supersede, as published, and tells those who wait for it.
///
/// # Errors
/// PostgreSQL does not answer; the rows will be published again, which changes nothing.
pub async fn mark_published(
    connection: &mut PgConnection,
    rows: &[Pending],
) -> Result<(), StoreError> {
    let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
    sqlx::query(
        "with done as (
             update config.outbox o set published_at = now()
             from config.outbox p
             where p.seq = any($1) and o.kind = p.kind and o.id = p.id and o.seq <= p.seq and o.published_at is null
             returning 1)
         select pg_notify('config_published', ''), count(*) from done",
    )
    .bind(&seqs)
    .execute(connection)
    .await?;
    Ok(())
}

/// How many of these rows are not yet published.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn count_unpublished(pool: &PgPool, seqs: &[i64]) -> Result<i64, StoreError> {
    let sql = "select count(*) from config.outbox where seq = any($1) and published_at is null";
    Ok(sqlx::query_scalar(sql).bind(seqs).fetch_one(pool).await?)
}

/// Every row that is not yet published.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn unpublished(pool: &PgPool) -> Result<Vec<i64>, StoreError> {
    Ok(
        sqlx::query_scalar("select seq from config.outbox where published_at is null")
            .fetch_all(pool)
            .await?,
    )
}

/// How many rows wait, and for how long the oldest has.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn backlog(connection: &mut PgConnection) -> Result<(i64, f64), StoreError> {
    let row: (i64, f64) = sqlx::query_as(
        "select count(*), coalesce(extract(epoch from now() - min(created_at)), 0)::float8
         from config.outbox where published_at is null",
    )
    .fetch_one(connection)
    .await?;
    Ok(row)
}

/// Forgets what was published longer ago than `age`.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn prune(connection: &mut PgConnection, age: Duration) -> Result<u64, StoreError> {
    let done = sqlx::query(
        "delete from config.outbox where published_at < now() - make_interval(secs => $1)",
    )
    .bind(age.as_secs_f64())
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
