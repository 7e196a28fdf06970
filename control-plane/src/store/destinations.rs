//! `config.destinations`: where results go, how fast, how often it is tried, and with which secrets they
//! are signed. Secrets come in sealed; only who makes one sees it in the clear.

use router_runtime::crypto::MasterKey;
use router_schemas::{
    DestinationId, ProjectId,
    config::{BodyMode, DestinationConfig, Kind, RetryPolicy},
};
use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{Change, Setting, StoreError, Wanted, json_value, name_taken, routes, rows};
use crate::validate::{self, Invalid};

const KIND: &str = "destination";
/// A secret and the one it took the place of.
const SECRETS: usize = 2;
const DAY_MS: i64 = router_schemas::topics::DAY_MS;

#[derive(Debug, Clone, FromRow)]
pub struct Destination {
    pub id: Uuid,
    pub project_id: Uuid,
    pub name: String,
    pub url: String,
    pub secrets: Vec<String>,
    pub body: String,
    pub timeout_ms: i32,
    pub concurrency: i32,
    pub max_attempts: i32,
    pub max_age_ms: i64,
    pub base_ms: i64,
    pub factor: f64,
    pub cap_ms: i64,
    pub jitter: f64,
    pub disabled: bool,
    pub disabled_reason: Option<String>,
    pub version: i64,
    pub created_at_ms: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select *, (extract(epoch from created_at) * 1000)::bigint as created_at_ms from config.destinations ",
            $rest
        )
    };
}

impl Destination {
    #[must_use]
    pub fn config(&self) -> DestinationConfig {
        DestinationConfig {
            project_id: ProjectId(self.project_id),
            name: self.name.clone(),
            url: self.url.clone(),
            secrets: self.secrets.clone(),
            body: match self.body.as_str() {
                "raw" => BodyMode::Raw,
                _ => BodyMode::Result,
            },
            timeout_ms: self.timeout_ms.unsigned_abs(),
            concurrency: self.concurrency.unsigned_abs(),
            retry: RetryPolicy {
                max_attempts: self.max_attempts.unsigned_abs(),
                max_age_ms: self.max_age_ms,
                base_ms: self.base_ms,
                factor: self.factor,
                cap_ms: self.cap_ms,
                jitter: self.jitter,
            },
            disabled: self.disabled,
        }
    }
}

impl Setting for Destination {
    const KIND: Kind = Kind::Destination;
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
        let config = DestinationConfig {
            secrets: Vec::new(),
            ..self.config()
        };
        let mut value = json_value(&config);
        value["secrets"] = json!(self.secrets.len());
        value["disabled_reason"] = json!(self.disabled_reason);
        value
    }
}

/// The secret of a destination in its sealed form, bound to the destination's id.
#[must_use]
pub fn seal(master: &MasterKey, id: DestinationId, secret: &str) -> String {
    master.seal(secret.as_bytes(), &id.to_string())
}

/// What people set of a destination; none means the default on creation, and no change on an update.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    pub url: Option<String>,
    pub body: Option<BodyMode>,
    pub timeout_ms: Option<u32>,
    pub concurrency: Option<u32>,
    pub max_attempts: Option<u32>,
    pub max_age_ms: Option<i64>,
    pub base_ms: Option<i64>,
    pub factor: Option<f64>,
    pub cap_ms: Option<i64>,
    pub jitter: Option<f64>,
}

/// From connecting to the last byte of the answer: what most receivers promise to keep below.
const DEFAULT_TIMEOUT_MS: u32 = 15_000;
/// Requests in flight for each worker: enough for 600 a second at an answer time of 50 ms.
const DEFAULT_CONCURRENCY: u32 = 32;

impl Fields {
    /// The settings that result when these are laid over `base`.
    fn over(self, base: DestinationConfig) -> Result<DestinationConfig, Invalid> {
        let retry = RetryPolicy {
            max_attempts: validate::within(
                "max-attempts",
                self.max_attempts.unwrap_or(base.retry.max_attempts),
                1..=100,
            )?,
            max_age_ms: validate::within(
                "max-age",
                self.max_age_ms.unwrap_or(base.retry.max_age_ms),
                1_000..=30 * DAY_MS,
            )?,
            base_ms: validate::within(
                "base-ms",
                self.base_ms.unwrap_or(base.retry.base_ms),
                1..=DAY_MS,
            )?,
            factor: validate::within(
                "factor",
                self.factor.unwrap_or(base.retry.factor),
                1.0..=100.0,
            )?,
            cap_ms: validate::within(
                "cap-ms",
                self.cap_ms.unwrap_or(base.retry.cap_ms),
                1..=DAY_MS,
            )?,
            jitter: validate::within(
                "jitter",
                self.jitter.unwrap_or(base.retry.jitter),
                0.0..=1.0,
            )?,
        };
        if retry.base_ms > retry.cap_ms {
            return Err(Invalid::new(
                "cap-ms",
                format!(
                    "{} is below the first delay of {}",
                    retry.cap_ms, retry.base_ms
                ),
            ));
        }
        Ok(DestinationConfig {
            url: validate::destination_url(self.url.as_deref().unwrap_or(&base.url))?,
            body: self.body.unwrap_or(base.body),
            timeout_ms: validate::within(
                "timeout-ms",
                self.timeout_ms.unwrap_or(base.timeout_ms),
                100..=60_000,
            )?,
            concurrency: validate::within(
                "concurrency",
                self.concurrency.unwrap_or(base.concurrency),
                1..=1_024,
            )?,
            retry,
            ..base
        })
    }
}

/// Adds a destination whose signing secret is `secret`.
///
/// # Errors
/// Something is refused, or the name is taken.
pub async fn create(
    change: &mut Change,
    name: &str,
    fields: Fields,
    secret: &str,
    master: &MasterKey,
) -> Result<Destination, StoreError> {
    let id = DestinationId::generate();
    let base = DestinationConfig {
        project_id: change.project_id(),
        name: validate::name(name)?.to_owned(),
        url: String::new(),
        secrets: vec![seal(master, id, validate::secret(secret)?)],
        body: BodyMode::default(),
        timeout_ms: DEFAULT_TIMEOUT_MS,
        concurrency: DEFAULT_CONCURRENCY,
        retry: RetryPolicy::default(),
        disabled: false,
    };
    let config = fields.over(base)?;
    let sql = "insert into config.destinations
        (id, project_id, name, url, secrets, body, timeout_ms, concurrency, max_attempts, max_age_ms, base_ms, factor, cap_ms, jitter)
        values ($1, $14, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    write(change, sql, id, &config).await?;
    let row = find(change.connection(), config.project_id, &Wanted::Id(id.0)).await?;
    change.created(&row).await?;
    Ok(row)
}

/// Binds the columns that creating and updating share: `$1` the id, `$2` to `$13` the settings, `$14` the
/// project.
async fn write(
    change: &mut Change,
    sql: &'static str,
    id: DestinationId,
    config: &DestinationConfig,
) -> Result<(), StoreError> {
    // The checks of `Fields::over` keep every one of these far below the bound of the column's type.
    let int = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    sqlx::query(sql)
        .bind(id.0)
        .bind(&config.name)
        .bind(&config.url)
        .bind(&config.secrets)
        .bind(match config.body {
            BodyMode::Result => "result",
            BodyMode::Raw => "raw",
        })
        .bind(int(config.timeout_ms))
        .bind(int(config.concurrency))
        .bind(int(config.retry.max_attempts))
        .bind(config.retry.max_age_ms)
        .bind(config.retry.base_ms)
        .bind(config.retry.factor)
        .bind(config.retry.cap_ms)
        .bind(config.retry.jitter)
        .bind(config.project_id.0)
        .execute(change.connection())
        .await
        .map_err(|error| name_taken(error, KIND, &config.name))?;
    Ok(())
}

/// What becomes of the signing secrets.
#[derive(Debug, Default)]
pub enum Secrets {
    #[default]
    Keep,
    /// A new one takes the lead; the one before it signs as well, until it is dropped.
    Rotate { to: String },
    /// Only the newest stays.
    DropOld,
}

/// Changes settings and secrets.
///
/// # Errors
/// There is no such destination, something is refused, or the new name is taken.
pub async fn update(
    change: &mut Change,
    wanted: &Wanted,
    name: Option<&str>,
    fields: Fields,
    secrets: (Secrets, Option<&MasterKey>),
) -> Result<Destination, StoreError> {
    let before = lock(change, wanted).await?;
    let mut base = before.config();
    if let Some(name) = name {
        base.name = validate::name(name)?.to_owned();
    }
    let id = DestinationId(before.id);
    match secrets {
        (Secrets::Keep, _) => {}
        (Secrets::DropOld, _) => base.secrets.truncate(1),
        (Secrets::Rotate { to }, Some(master)) => {
            base.secrets
                .insert(0, seal(master, id, validate::secret(&to)?));
            base.secrets.truncate(SECRETS);
        }
        (Secrets::Rotate { .. }, None) => {
            return Err(Invalid::new("secret", "cannot be sealed without a master key").into());
        }
    }
    let config = fields.over(base)?;
    let sql = "update config.destinations set
        name = $2, url = $3, secrets = $4, body = $5, timeout_ms = $6, concurrency = $7, max_attempts = $8,
        max_age_ms = $9, base_ms = $10, factor = $11, cap_ms = $12, jitter = $13
        where id = $1 and project_id = $14";
    write(change, sql, id, &config).await?;
    let after = find(change.connection(), config.project_id, &Wanted::Id(id.0)).await?;
    change.updated("update", &before, &after).await?;
    Ok(after)
}

/// Stops a destination or lets it go on. Returns it, and whether anything changed.
///
/// # Errors
/// There is no such destination.
pub async fn set_disabled(
    change: &mut Change,
    wanted: &Wanted,
    disabled: bool,
    reason: Option<&str>,
) -> Result<(Destination, bool), StoreError> {
    let before = lock(change, wanted).await?;
    if before.disabled == disabled {
        return Ok((before, false));
    }
    sqlx::query("update config.destinations set disabled = $2, disabled_reason = $3 where id = $1")
        .bind(before.id)
        .bind(disabled)
        .bind(
            reason
                .filter(|_| disabled)
                .map(|text| text.chars().take(500).collect::<String>()),
        )
        .execute(change.connection())
        .await?;
    let project = change.project_id();
    let after = find(change.connection(), project, &Wanted::Id(before.id)).await?;
    change
        .updated(if disabled { "disable" } else { "enable" }, &before, &after)
        .await?;
    Ok((after, true))
}

/// Deletes a destination: what is still queued for it is cancelled by the workers. Routes that name it
/// stand in the way unless `force` takes it out of them; a route that then has no destination is disabled.
/// Returns the names of the routes that were changed.
///
/// # Errors
/// There is no such destination, or routes name it.
pub async fn delete(
    change: &mut Change,
    wanted: &Wanted,
    force: bool,
) -> Result<(Destination, Vec<String>), StoreError> {
    let destination = lock(change, wanted).await?;
    let id = DestinationId(destination.id);
    let naming = routes::naming(change.connection(), id).await?;
    let names: Vec<String> = naming.iter().map(|route| route.name.clone()).collect();
    if !naming.is_empty() && !force {
        return Err(StoreError::Conflict(format!(
            "routes send to this destination: {}; update them first, or take it out of them with --force",
            names.join(", ")
        )));
    }
    for route in naming {
        routes::take_out(change, &route, id).await?;
    }
    sqlx::query("delete from config.destinations where id = $1")
        .bind(id.0)
        .execute(change.connection())
        .await?;
    change.deleted(&destination).await?;
    Ok((destination, names))
}

async fn lock(change: &mut Change, wanted: &Wanted) -> Result<Destination, StoreError> {
    let project = change.project_id();
    let select = select!("where project_id = $1 and (id = $2 or name = $3) for update");
    rows::one(change.connection(), select, project, wanted, KIND).await
}

/// # Errors
/// There is no such destination in the project.
pub async fn find(
    connection: &mut PgConnection,
    project: ProjectId,
    wanted: &Wanted,
) -> Result<Destination, StoreError> {
    let select = select!("where project_id = $1 and (id = $2 or name = $3)");
    rows::one(connection, select, project, wanted, KIND).await
}

/// Destinations of a project by name.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn list(
    connection: &mut PgConnection,
    project: ProjectId,
) -> Result<Vec<Destination>, StoreError> {
    let select = select!("where project_id = $1 order by name");
    rows::of_project(connection, select, project).await
}

/// Destinations of all projects.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn all(connection: &mut PgConnection) -> Result<Vec<Destination>, StoreError> {
    rows::every(connection, select!("order by id")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> DestinationConfig {
        DestinationConfig {
            project_id: ProjectId::DEFAULT,
            name: "x".into(),
            url: "https://example.com/".into(),
            secrets: vec![],
            body: BodyMode::Result,
            timeout_ms: DEFAULT_TIMEOUT_MS,
            concurrency: DEFAULT_CONCURRENCY,
            retry: RetryPolicy::default(),
            disabled: false,
        }
    }

    #[test]
    fn what_is_not_named_stays() {
        let fields = Fields {
            timeout_ms: Some(500),
            ..Fields::default()
        };
        let expected = DestinationConfig {
            timeout_ms: 500,
            ..base()
        };
        assert_eq!(fields.over(base()), Ok(expected));
    }

    #[test]
    fn every_limit_is_checked_and_named() {
        let bad = [
            (
                "timeout-ms",
                Fields {
                    timeout_ms: Some(99),
                    ..Fields::default()
                },
            ),
            (
                "timeout-ms",
                Fields {
                    timeout_ms: Some(60_001),
                    ..Fields::default()
                },
            ),
            (
                "concurrency",
                Fields {
                    concurrency: Some(0),
                    ..Fields::default()
                },
            ),
            (
                "concurrency",
                Fields {
                    concurrency: Some(1_025),
                    ..Fields::default()
                },
            ),
            (
                "max-attempts",
                Fields {
                    max_attempts: Some(101),
                    ..Fields::default()
                },
            ),
            (
                "max-age",
                Fields {
                    max_age_ms: Some(999),
                    ..Fields::default()
                },
            ),
            (
                "factor",
                Fields {
                    factor: Some(0.5),
                    ..Fields::default()
                },
            ),
            (
                "jitter",
                Fields {
                    jitter: Some(1.1),
                    ..Fields::default()
                },
            ),
            (
                "cap-ms",
                Fields {
                    base_ms: Some(10),
                    cap_ms: Some(9),
                    ..Fields::default()
                },
            ),
            (
                "url",
                Fields {
                    url: Some("ftp://x".into()),
                    ..Fields::default()
                },
            ),
        ];
        for (field, fields) in bad {
            assert_eq!(
                fields.over(base()).map_err(|invalid| invalid.field),
                Err(field)
            );
        }
    }
}
