//! `config.rules`: what decides before any model.

use router_schemas::{
    KnowledgeId, ProjectId, SourceId,
    config::{Condition, Kind, RuleConfig},
};
use serde_json::Value;
use sqlx::{FromRow, PgConnection, types::Json};
use stream_workers::classify;
use uuid::Uuid;

use super::{Change, Setting, StoreError, Wanted, json_value, name_taken, room, rows, sources};
use crate::{
    condition,
    validate::{self, Invalid},
};

const KIND: &str = "rule";
/// Rules of a project at the most: a webhook that none of them decides is asked by all.
pub const LIMIT: i64 = 500;
/// Sources of one rule at the most.
const SOURCES_MAX: usize = 100;
/// Room left between positions, so that a rule can be put between two others.
const POSITION_STEP: i32 = 10;

#[derive(Debug, Clone, FromRow)]
pub struct Rule {
    pub id: Uuid,
    pub project_id: Uuid,
    pub name: String,
    pub position: i32,
    pub sources: Vec<Uuid>,
    pub conditions: Json<Vec<Condition>>,
    pub category: String,
    pub disabled: bool,
    pub version: i64,
    pub created_at_ms: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select r.*, (extract(epoch from r.created_at) * 1000)::bigint as created_at_ms,
                 array(select source_id from config.rule_sources s where s.rule_id = r.id order by source_id) as sources
             from config.rules r ",
            $rest
        )
    };
}

impl Rule {
    #[must_use]
    pub fn config(&self) -> RuleConfig {
        RuleConfig {
            project_id: ProjectId(self.project_id),
            name: self.name.clone(),
            position: self.position,
            sources: self.sources.iter().copied().map(SourceId).collect(),
            conditions: self.conditions.0.clone(),
            category: self.category.clone(),
            disabled: self.disabled,
        }
    }

    /// As a worker asks it.
    ///
    /// # Errors
    /// It cannot be compiled.
    pub fn compiled(&self) -> Result<classify::Rule, StoreError> {
        compile(KnowledgeId(self.id), self.config())
    }
}

fn compile(id: KnowledgeId, config: RuleConfig) -> Result<classify::Rule, StoreError> {
    Ok(classify::Rule::compile(id, config).map_err(|why| Invalid::new("when", why))?)
}

impl Setting for Rule {
    const KIND: Kind = Kind::Rule;
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
        json_value(&self.config())
    }
}

/// What people set of a rule; none means the default on creation, and no change on an update.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    pub name: Option<String>,
    pub position: Option<i32>,
    /// Empty means any.
    pub sources: Option<Vec<Wanted>>,
    pub conditions: Option<Vec<Condition>>,
    pub category: Option<String>,
}

/// Adds a rule, behind all others unless a position is given.
///
/// # Errors
/// Something is refused, the name is taken, a source does not exist, or there are too many rules.
pub async fn create(change: &mut Change, fields: Fields) -> Result<Rule, StoreError> {
    let project = change.project_id();
    let count = "select count(*) from config.rules where project_id = $1";
    room(change, KIND, count, LIMIT).await?;
    let position = match fields.position {
        Some(position) => position,
        None => last_position(change.connection(), project)
            .await?
            .saturating_add(POSITION_STEP),
    };
    let blank = RuleConfig {
        project_id: project,
        name: String::new(),
        position,
        sources: Vec::new(),
        conditions: Vec::new(),
        category: String::new(),
        disabled: false,
    };
    let id = KnowledgeId::generate();
    let config = over(change, id, fields, blank).await?;
    let sql =
        "insert into config.rules (id, project_id, name, position, conditions, category, disabled)
               values ($1, $2, $3, $4, $5, $6, $7)";
    write(change, sql, id, &config).await?;
    let row = find(change.connection(), project, &Wanted::Id(id.0)).await?;
    change.created(&row).await?;
    Ok(row)
}

/// # Errors
/// There is no such rule, something is refused, or a source does not exist.
pub async fn update(
    change: &mut Change,
    wanted: &Wanted,
    fields: Fields,
) -> Result<Rule, StoreError> {
    let before = lock(change, wanted).await?;
    let config = over(change, KnowledgeId(before.id), fields, before.config()).await?;
    rewrite(change, "update", &before, &config).await
}

/// Leaves a rule out or reads it again. Returns it, and whether anything changed.
///
/// # Errors
/// There is no such rule.
pub async fn set_disabled(
    change: &mut Change,
    wanted: &Wanted,
    disabled: bool,
) -> Result<(Rule, bool), StoreError> {
    let before = lock(change, wanted).await?;
    if before.disabled == disabled {
        return Ok((before, false));
    }
    let config = RuleConfig {
        disabled,
        ..before.config()
    };
    let action = if disabled { "disable" } else { "enable" };
    let after = rewrite(change, action, &before, &config).await?;
    Ok((after, true))
}

/// # Errors
/// There is no such rule.
pub async fn delete(change: &mut Change, wanted: &Wanted) -> Result<Rule, StoreError> {
    let rule = lock(change, wanted).await?;
    sqlx::query("delete from config.rules where id = $1")
        .bind(rule.id)
        .execute(change.connection())
        .await?;
    change.deleted(&rule).await?;
    Ok(rule)
}

async fn rewrite(
    change: &mut Change,
    action: &str,
    before: &Rule,
    config: &RuleConfig,
) -> Result<Rule, StoreError> {
    let sql = "update config.rules set name = $3, position = $4, conditions = $5, category = $6, disabled = $7
               where id = $1 and project_id = $2";
    write(change, sql, KnowledgeId(before.id), config).await?;
    let project = change.project_id();
    let after = find(change.connection(), project, &Wanted::Id(before.id)).await?;
    change.updated(action, before, &after).await?;
    Ok(after)
}

/// The settings that result when `fields` are laid over `base`; a worker can use them.
async fn over(
    change: &mut Change,
    id: KnowledgeId,
    fields: Fields,
    base: RuleConfig,
) -> Result<RuleConfig, StoreError> {
    let project = change.project_id();
    let name = fields.name.unwrap_or(base.name);
    let category = fields.category.unwrap_or(base.category);
    let conditions = fields.conditions.unwrap_or(base.conditions);
    condition::check(&conditions)?;
    let position = fields.position.unwrap_or(base.position);
    let config = RuleConfig {
        project_id: project,
        name: validate::name(&name)?.to_owned(),
        position: validate::within("position", position, 0..=i32::MAX)?,
        sources: match &fields.sources {
            Some(wanted) => source_ids(change, wanted).await?,
            None => base.sources,
        },
        conditions,
        category: validate::category(&category)?.to_owned(),
        disabled: base.disabled,
    };
    Ok(compile(id, config)?.config)
}

/// Each source once.
async fn source_ids(change: &mut Change, wanted: &[Wanted]) -> Result<Vec<SourceId>, StoreError> {
    if wanted.len() > SOURCES_MAX {
        let why = format!("a rule takes {SOURCES_MAX} at the most");
        return Err(Invalid::new("source", why).into());
    }
    let project = change.project_id();
    let mut ids = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let source = sources::find(change.connection(), project, wanted).await?;
        if !ids.contains(&SourceId(source.id)) {
            ids.push(SourceId(source.id));
        }
    }
    Ok(ids)
}

/// Writes the row (`$1` id, `$2` project, `$3` to `$7` settings) and its sources.
async fn write(
    change: &mut Change,
    sql: &'static str,
    id: KnowledgeId,
    config: &RuleConfig,
) -> Result<(), StoreError> {
    sqlx::query(sql)
        .bind(id.0)
        .bind(config.project_id.0)
        .bind(&config.name)
        .bind(config.position)
        .bind(Json(&config.conditions))
        .bind(&config.category)
        .bind(config.disabled)
        .execute(change.connection())
        .await
        .map_err(|error| name_taken(error, KIND, &config.name))?;
    sqlx::query("delete from config.rule_sources where rule_id = $1")
        .bind(id.0)
        .execute(change.connection())
        .await?;
    let source_ids: Vec<Uuid> = config.sources.iter().map(|id| id.0).collect();
    sqlx::query("insert into config.rule_sources (project_id, rule_id, source_id) select $1, $2, unnest($3::uuid[])")
        .bind(config.project_id.0)
        .bind(id.0)
        .bind(&source_ids)
        .execute(change.connection())
        .await?;
    Ok(())
}

async fn last_position(
    connection: &mut PgConnection,
    project: ProjectId,
) -> Result<i32, StoreError> {
    let sql = "select coalesce(max(position), 0) from config.rules where project_id = $1";
    Ok(sqlx::query_scalar(sql)
        .bind(project.0)
        .fetch_one(connection)
        .await?)
}

async fn lock(change: &mut Change, wanted: &Wanted) -> Result<Rule, StoreError> {
    let project = change.project_id();
    let select = select!("where r.project_id = $1 and (r.id = $2 or r.name = $3) for update of r");
    rows::one(change.connection(), select, project, wanted, KIND).await
}

/// # Errors
/// There is no such rule in the project.
pub async fn find(
    connection: &mut PgConnection,
    project: ProjectId,
    wanted: &Wanted,
) -> Result<Rule, StoreError> {
    let select = select!("where r.project_id = $1 and (r.id = $2 or r.name = $3)");
    rows::one(connection, select, project, wanted, KIND).await
}

/// Rules of a project in the order in which they are read.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn list(
    connection: &mut PgConnection,
    project: ProjectId,
) -> Result<Vec<Rule>, StoreError> {
    let select = select!("where r.project_id = $1 order by r.position, r.id");
    rows::of_project(connection, select, project).await
}

/// Rules of all projects.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn all(connection: &mut PgConnection) -> Result<Vec<Rule>, StoreError> {
    rows::every(connection, select!("order by r.id")).await
}
