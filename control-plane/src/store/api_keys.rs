//! `auth.api_keys`: what lets webhooks in. A key is shown once and stored as its hash.

use router_runtime::crypto::{self, token};
use router_schemas::{
    KeyId, ProjectId, SourceId,
    config::{KeyConfig, Kind, SCOPE_INGEST},
};
use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{Change, Setting, StoreError, Wanted, json_value, name_taken, rows, sources};
use crate::validate::{self, Invalid};

/// Prefix of keys.
pub const KEY_PREFIX: &str = "whr_";
const KIND: &str = "key";
const RATE_MAX: f64 = 1_000_000.0;

#[derive(Debug, Clone, FromRow)]
pub struct ApiKey {
    pub id: Uuid,
    pub project_id: Uuid,
    pub source_id: Uuid,
    pub source_name: String,
    pub name: String,
    pub prefix: String,
    pub hash: Vec<u8>,
    pub scopes: Vec<String>,
    pub rate_per_s: Option<f64>,
    pub burst: Option<i32>,
    pub expires_at_ms: Option<i64>,
    pub revoked_at_ms: Option<i64>,
    pub last_used_at_ms: Option<i64>,
    pub created_at_ms: i64,
    pub version: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select k.*, s.name as source_name,
                    (extract(epoch from k.expires_at) * 1000)::bigint as expires_at_ms,
                    (extract(epoch from k.revoked_at) * 1000)::bigint as revoked_at_ms,
                    (extract(epoch from k.last_used_at) * 1000)::bigint as last_used_at_ms,
                    (extract(epoch from k.created_at) * 1000)::bigint as created_at_ms
             from auth.api_keys k join config.sources s on s.id = k.source_id ",
            $rest
        )
    };
}

impl ApiKey {
    #[must_use]
    pub fn config(&self) -> KeyConfig {
        KeyConfig {
            project_id: ProjectId(self.project_id),
            source_id: SourceId(self.source_id),
            name: self.name.clone(),
            hash: super::hex(&self.hash),
            scopes: self.scopes.clone(),
            expires_at_ms: self.expires_at_ms,
            rate_per_s: self.rate_per_s,
            burst: self.burst.and_then(|burst| u32::try_from(burst).ok()),
            disabled: false,
        }
    }
}

impl Setting for ApiKey {
    const KIND: Kind = Kind::Key;
    fn id(&self) -> String {
        self.id.to_string()
    }
    fn version(&self) -> i64 {
        self.version
    }
    /// Nothing stands in the topic for a revoked key.
    fn record(&self) -> Option<Value> {
        self.revoked_at_ms
            .is_none()
            .then(|| json_value(&self.config()))
    }
    fn audited(&self) -> Value {
        json!({
            "name": self.name, "prefix": self.prefix, "source": self.source_name, "scopes": self.scopes,
            "rate_per_s": self.rate_per_s, "burst": self.burst, "expires_at_ms": self.expires_at_ms,
            "revoked_at_ms": self.revoked_at_ms,
        })
    }
}

/// A key to be made.
#[derive(Debug)]
pub struct NewKey {
    pub name: String,
    pub source: Wanted,
    pub rate_per_s: Option<f64>,
    pub burst: Option<u32>,
    /// Milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
}

impl NewKey {
    fn validate(&self, now_ms: i64) -> Result<(), Invalid> {
        validate::name(&self.name)?;
        if let Some(rate) = self.rate_per_s {
            validate::within("rate", rate, f64::MIN_POSITIVE..=RATE_MAX)?;
        }
        if let Some(burst) = self.burst {
            validate::within("burst", burst, 1..=1_000_000)?;
            if self.rate_per_s.is_none() {
                return Err(Invalid::new("burst", "means nothing without a rate"));
            }
        }
        if self.expires_at_ms.is_some_and(|at| at <= now_ms) {
            return Err(Invalid::new("expires", "lies in the past"));
        }
        Ok(())
    }
}

/// Adds a key; returns its row and the key itself, which is stored nowhere.
///
/// # Errors
/// Something is refused, the name is taken, or there is no such source.
pub async fn create(change: &mut Change, new: NewKey) -> Result<(ApiKey, String), StoreError> {
    new.validate(router_runtime::now_ms())?;
    let project = change.project_id();
    let source = sources::find(change.connection(), project, &new.source).await?;
    let (id, key) = (KeyId::generate(), token::generate(KEY_PREFIX));
    sqlx::query(
        "insert into auth.api_keys (id, project_id, source_id, name, prefix, hash, scopes, rate_per_s, burst, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, to_timestamp($10::double precision / 1000))",
    )
    .bind(id.0)
    .bind(project.0)
    .bind(source.id)
    .bind(&new.name)
    .bind(super::shown_prefix(&key))
    .bind(crypto::sha256(key.as_bytes()).to_vec())
    .bind(vec![SCOPE_INGEST.to_owned()])
    .bind(new.rate_per_s)
    .bind(new.burst.and_then(|burst| i32::try_from(burst).ok()))
    .bind(new.expires_at_ms)
    .execute(change.connection())
    .await
    .map_err(|error| name_taken(error, KIND, &new.name))?;
    let row = find(change.connection(), project, &Wanted::Id(id.0)).await?;
    change.created(&row).await?;
    Ok((row, key))
}

/// Revokes a key for good. Revoking it again changes nothing.
///
/// # Errors
/// There is no such key.
pub async fn revoke(change: &mut Change, wanted: &Wanted) -> Result<ApiKey, StoreError> {
    let project = change.project_id();
    let before = find(change.connection(), project, wanted).await?;
    let done = sqlx::query(
        "update auth.api_keys set revoked_at = now() where id = $1 and revoked_at is null",
    )
    .bind(before.id)
    .execute(change.connection())
    .await?;
    let after = find(change.connection(), project, &Wanted::Id(before.id)).await?;
    if done.rows_affected() > 0 {
        change.updated("revoke", &before, &after).await?;
    }
    Ok(after)
}

/// A key by its id, or the unrevoked key of this name.
///
/// # Errors
/// There is no such key in the project.
pub async fn find(
    connection: &mut PgConnection,
    project: ProjectId,
    wanted: &Wanted,
) -> Result<ApiKey, StoreError> {
    let select =
        select!("where k.project_id = $1 and (k.id = $2 or k.name = $3 and k.revoked_at is null)");
    rows::one(connection, select, project, wanted, KIND).await
}

/// Keys of a project, the oldest first, revoked ones included.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn list(
    connection: &mut PgConnection,
    project: ProjectId,
) -> Result<Vec<ApiKey>, StoreError> {
    let rows = sqlx::query_as(select!(
        "where k.project_id = $1 order by k.created_at, k.id"
    ));
    Ok(rows.bind(project.0).fetch_all(connection).await?)
}

/// Keys of all projects that are not revoked.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn all(connection: &mut PgConnection) -> Result<Vec<ApiKey>, StoreError> {
    Ok(
        sqlx::query_as(select!("where k.revoked_at is null order by k.id"))
            .fetch_all(connection)
            .await?,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> NewKey {
        NewKey {
            name: "local".into(),
            source: Wanted::Name("default".into()),
            rate_per_s: Some(10.0),
            burst: Some(20),
            expires_at_ms: Some(2_000),
        }
    }

    #[test]
    fn limits_and_expiry_are_checked() {
        assert_eq!(new().validate(1_000), Ok(()));
        let bad = [
            NewKey {
                rate_per_s: Some(0.0),
                ..new()
            },
            NewKey {
                rate_per_s: Some(f64::NAN),
                ..new()
            },
            NewKey {
                burst: Some(0),
                ..new()
            },
            NewKey {
                rate_per_s: None,
                ..new()
            },
            NewKey {
                expires_at_ms: Some(1_000),
                ..new()
            },
        ];
        for key in bad {
            assert!(key.validate(1_000).is_err(), "{key:?}");
        }
    }
}
