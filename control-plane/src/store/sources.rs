//! `config.sources`: one row for each sender.

use router_runtime::crypto::{self, token};
use router_schemas::{
    ProjectId, SourceId,
    config::{Kind, SourceConfig},
};
use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{Change, Setting, StoreError, Wanted, json_value, name_taken, rows};
use crate::validate;

/// Prefix of the tokens in `/in/{token}`.
pub const TOKEN_PREFIX: &str = "whs_";
/// The source of keys that name no other; every project has it.
pub const DEFAULT: &str = "default";
const KIND: &str = "source";

#[derive(Debug, Clone, FromRow)]
pub struct Source {
    pub id: Uuid,
    pub project_id: Uuid,
    pub name: String,
    pub token_hash: Option<Vec<u8>>,
    pub token_prefix: Option<String>,
    pub disabled: bool,
    pub version: i64,
    pub created_at_ms: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select *, (extract(epoch from created_at) * 1000)::bigint as created_at_ms from config.sources ",
            $rest
        )
    };
}

impl Source {
    #[must_use]
    pub fn config(&self) -> SourceConfig {
        SourceConfig {
            project_id: ProjectId(self.project_id),
            name: self.name.clone(),
            token_hash: self.token_hash.as_deref().map(super::hex),
            disabled: self.disabled,
        }
    }
}

impl Setting for Source {
    const KIND: Kind = Kind::Source;
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
        json!({ "name": self.name, "token_prefix": self.token_prefix, "disabled": self.disabled })
    }
}

/// A token that was made just now, and is shown once.
#[derive(Debug)]
pub struct NewToken {
    pub text: String,
    hash: Vec<u8>,
    prefix: String,
}

impl NewToken {
    fn generate() -> Self {
        let text = token::generate(TOKEN_PREFIX);
        let (hash, prefix) = (
            crypto::sha256(text.as_bytes()).to_vec(),
            super::shown_prefix(&text),
        );
        Self { text, hash, prefix }
    }
}

/// Adds a source with a token of its own; returns both.
///
/// # Errors
/// The name is refused or taken.
pub async fn create(change: &mut Change, name: &str) -> Result<(Source, NewToken), StoreError> {
    let name = validate::name(name)?;
    let token = NewToken::generate();
    let id = SourceId::generate();
    let project = change.project_id();
    sqlx::query(
        "insert into config.sources (id, project_id, name, token_hash, token_prefix) values ($1, $2, $3, $4, $5)",
    )
    .bind(id.0)
    .bind(project.0)
    .bind(name)
    .bind(&token.hash)
    .bind(&token.prefix)
    .execute(change.connection())
    .await
    .map_err(|error| name_taken(error, KIND, name))?;
    let source = find(change.connection(), project, &Wanted::Id(id.0)).await?;
    change.created(&source).await?;
    Ok((source, token))
}

/// What is to change; what is none stays.
#[derive(Debug, Default)]
pub struct Update {
    pub name: Option<String>,
    pub disabled: Option<bool>,
    /// A new token takes the place of the old one at once.
    pub rotate_token: bool,
}

/// # Errors
/// There is no such source, or the new name is refused or taken.
pub async fn update(
    change: &mut Change,
    wanted: &Wanted,
    action: &str,
    update: Update,
) -> Result<(Source, Option<NewToken>), StoreError> {
    let before = lock(change, wanted).await?;
    let name = update.name.as_deref().unwrap_or(&before.name);
    if before.name == DEFAULT && name != DEFAULT {
        return Err(StoreError::Conflict(
            "the default source keeps its name: keys without a source belong to it".into(),
        ));
    }
    let token = update.rotate_token.then(NewToken::generate);
    sqlx::query(
        "update config.sources set name = $2, disabled = $3,
             token_hash = coalesce($4, token_hash), token_prefix = coalesce($5, token_prefix)
         where id = $1",
    )
    .bind(before.id)
    .bind(validate::name(name)?)
    .bind(update.disabled.unwrap_or(before.disabled))
    .bind(token.as_ref().map(|token| &token.hash))
    .bind(token.as_ref().map(|token| &token.prefix))
    .execute(change.connection())
    .await
    .map_err(|error| name_taken(error, KIND, name))?;
    let project = change.project_id();
    let after = find(change.connection(), project, &Wanted::Id(before.id)).await?;
    change.updated(action, &before, &after).await?;
    Ok((after, token))
}

/// Deletes a source. Keys that belong to it, and routes and rules limited to it, stand in the way.
///
/// # Errors
/// There is no such source, it is the default one, or something still names it.
pub async fn delete(change: &mut Change, wanted: &Wanted) -> Result<Source, StoreError> {
    let source = lock(change, wanted).await?;
    if source.name == DEFAULT {
        return Err(StoreError::Conflict(
            "the default source cannot be deleted; `source disable default` stops it".into(),
        ));
    }
    let keys = names(
        change,
        "select name from auth.api_keys where source_id = $1 and revoked_at is null",
        source.id,
    );
    let keys = keys.await?;
    if !keys.is_empty() {
        let list = keys.join(", ");
        return Err(StoreError::Conflict(format!(
            "keys belong to this source: {list}; revoke them first (`control-plane key revoke NAME`)"
        )));
    }
    let routes = names(
        change,
        "select r.name from config.routes r join config.route_sources s on s.route_id = r.id where s.source_id = $1",
        source.id,
    );
    let routes = routes.await?;
    if !routes.is_empty() {
        let list = routes.join(", ");
        return Err(StoreError::Conflict(format!(
            "routes are limited to this source: {list}; update or delete them first"
        )));
    }
    let rules = names(
        change,
        "select r.name from config.rules r join config.rule_sources s on s.rule_id = r.id where s.source_id = $1",
        source.id,
    );
    let rules = rules.await?;
    if !rules.is_empty() {
        let list = rules.join(", ");
        return Err(StoreError::Conflict(format!(
            "rules are limited to this source: {list}; update or delete them first"
        )));
    }
    // Revoked keys stay as history, under the default source.
    sqlx::query(
        "update auth.api_keys set source_id =
             (select id from config.sources where project_id = $2 and name = 'default')
         where source_id = $1",
    )
    .bind(source.id)
    .bind(source.project_id)
    .execute(change.connection())
    .await?;
    sqlx::query("delete from config.sources where id = $1")
        .bind(source.id)
        .execute(change.connection())
        .await?;
    change.deleted(&source).await?;
    Ok(source)
}

async fn names(
    change: &mut Change,
    sql: &'static str,
    id: Uuid,
) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar(sql)
        .bind(id)
        .fetch_all(change.connection())
        .await?)
}

async fn lock(change: &mut Change, wanted: &Wanted) -> Result<Source, StoreError> {
    let project = change.project_id();
    let select = select!("where project_id = $1 and (id = $2 or name = $3) for update");
    rows::one(change.connection(), select, project, wanted, KIND).await
}

/// # Errors
/// There is no such source in the project.
pub async fn find(
    connection: &mut PgConnection,
    project: ProjectId,
    wanted: &Wanted,
) -> Result<Source, StoreError> {
    let select = select!("where project_id = $1 and (id = $2 or name = $3)");
    rows::one(connection, select, project, wanted, KIND).await
}

/// Sources of a project by name.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn list(
    connection: &mut PgConnection,
    project: ProjectId,
) -> Result<Vec<Source>, StoreError> {
    let select = select!("where project_id = $1 order by name");
    rows::of_project(connection, select, project).await
}

/// Sources of all projects.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn all(connection: &mut PgConnection) -> Result<Vec<Source>, StoreError> {
    rows::every(connection, select!("order by id")).await
}
