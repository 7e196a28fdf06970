//! The tables of settings, one module each, and the one way to change them: a [`Change`] writes the row,
//! its outbox record and its line in the audit log in one transaction.
//!
//! Nothing here talks to Kafka: [`crate::publisher`] carries the outbox there.

pub mod api_keys;
mod change;
pub mod corrections;
pub mod destinations;
pub mod disagreements;
pub mod events;
pub mod labels;
pub mod models;
pub mod outbox;
pub mod routes;
mod rows;
pub mod rules;
pub mod sources;
pub mod users;

use std::fmt;

pub use change::{Change, Setting};
use sqlx::{PgPool, migrate::Migrator};
use uuid::Uuid;

use crate::validate::Invalid;

/// Every migration of the product.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// Why the tables could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no {kind} {wanted:?}; `control-plane {kind} list` shows what there is")]
    NotFound { kind: &'static str, wanted: String },
    #[error("a {kind} named {name:?} exists already; choose another name or update that one")]
    NameTaken { kind: &'static str, name: String },
    #[error("{0}")]
    Conflict(String),
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("the tables do not exist yet: run `control-plane migrate`")]
    NotMigrated,
    #[error("cannot reach PostgreSQL: {0}; check DATABASE_URL and that it runs")]
    Unreachable(String),
    #[error("PostgreSQL: {0}")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            // 42P01 undefined_table, 3F000 invalid_schema_name.
            sqlx::Error::Database(told)
                if matches!(told.code().as_deref(), Some("42P01" | "3F000")) =>
            {
                Self::NotMigrated
            }
            sqlx::Error::Database(told)
                if matches!(
                    told.code().as_deref(),
                    Some("28P01" | "28000" | "3D000" | "57P03" | "53300")
                ) =>
            {
                Self::Unreachable(told.message().to_owned())
            }
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Tls(_) => {
                Self::Unreachable(error.to_string())
            }
            _ => Self::Database(error),
        }
    }
}

/// Whether an insert or update met another row under the same name.
fn name_taken(error: sqlx::Error, kind: &'static str, name: &str) -> StoreError {
    match error.as_database_error() {
        Some(told) if told.is_unique_violation() => StoreError::NameTaken {
            kind,
            name: name.to_owned(),
        },
        _ => error.into(),
    }
}

/// Refuses one row more where the project has `limit` of them. Those who add rows wait for each other here, so that
/// two at once do not both take the last place.
async fn room(
    change: &mut Change,
    kind: &'static str,
    count: &'static str,
    limit: i64,
) -> Result<(), StoreError> {
    let project = change.project_id();
    sqlx::query("select 1 from config.projects where id = $1 for no key update")
        .bind(project.0)
        .execute(change.connection())
        .await?;
    let rows: i64 = sqlx::query_scalar(count)
        .bind(project.0)
        .fetch_one(change.connection())
        .await?;
    if rows < limit {
        return Ok(());
    }
    Err(StoreError::Conflict(format!(
        "a project holds {limit} {kind}s at the most; delete one that is not needed any more (`control-plane {kind} list`)"
    )))
}

/// How people point at a row: by its id or by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Id(Uuid),
    Name(String),
}

impl From<&str> for Wanted {
    fn from(text: &str) -> Self {
        Uuid::parse_str(text).map_or_else(|_| Self::Name(text.to_owned()), Self::Id)
    }
}

impl Wanted {
    fn id(&self) -> Option<Uuid> {
        match self {
            Self::Id(id) => Some(*id),
            Self::Name(_) => None,
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Id(_) => None,
            Self::Name(name) => Some(name),
        }
    }

    fn missing(&self, kind: &'static str) -> StoreError {
        StoreError::NotFound {
            kind,
            wanted: self.to_string(),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => fmt::Display::fmt(id, f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A config value as JSON, with numbers as they are written: a 32-bit 0.6 stays 0.6.
pub(crate) fn json_value<T: serde::Serialize>(config: &T) -> serde_json::Value {
    let text = serde_json::to_string(config).expect("config values are structs of plain fields");
    serde_json::from_str(&text).expect("what serde_json writes it reads")
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            use fmt::Write as _;
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").ok();
            text
        })
}

/// The first characters of a token, by which people recognise it: far too few to guess the rest from.
fn shown_prefix(token: &str) -> String {
    token.chars().take(10).collect()
}

/// Brings the tables to this version. Safe to run again, and by several at once (sqlx takes a lock).
///
/// # Errors
/// PostgreSQL does not answer, or a migration that ran before was changed since.
pub async fn migrate(pool: &PgPool) -> anyhow::Result<usize> {
    use anyhow::Context as _;
    let before = applied(pool).await?;
    MIGRATIONS
        .run(pool)
        .await
        .context("a migration failed; nothing of it was kept")?;
    Ok(applied(pool).await?.saturating_sub(before))
}

async fn applied(pool: &PgPool) -> Result<usize, StoreError> {
    let exists: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(pool)
        .await?;
    if !exists {
        return Ok(0);
    }
    let count: i64 = sqlx::query_scalar("select count(*) from _sqlx_migrations where success")
        .fetch_one(pool)
        .await?;
    Ok(usize::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_told_from_a_name() {
        let id = "00000000-0000-7000-8000-000000000001";
        assert_eq!(Wanted::from(id), Wanted::Id(Uuid::parse_str(id).unwrap()));
        assert_eq!(Wanted::from("github"), Wanted::Name("github".into()));
    }
}
