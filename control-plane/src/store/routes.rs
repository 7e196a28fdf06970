//! `config.routes`: which events go to which destinations.

use router_schemas::{
    DestinationId, ProjectId, RouteId, SourceId,
    config::{Kind, RouteConfig},
};
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{
    Change, Setting, StoreError, Wanted, destinations, json_value, name_taken, rows, sources,
};
use crate::validate::{self, Invalid};

const KIND: &str = "route";
/// Destinations, sources or categories of one route at the most: its record stays far below the largest
/// that the config topic takes.
const LIST_MAX: usize = 100;
/// Room left between positions, so that a route can be put between two others.
const POSITION_STEP: i32 = 10;

#[derive(Debug, Clone, FromRow)]
pub struct Route {
    pub id: Uuid,
    pub project_id: Uuid,
    pub name: String,
    pub position: i32,
    pub sources: Vec<Uuid>,
    pub categories: Vec<String>,
    pub min_confidence: f32,
    pub destinations: Vec<Uuid>,
    pub disabled: bool,
    pub version: i64,
    pub created_at_ms: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select r.*, (extract(epoch from r.created_at) * 1000)::bigint as created_at_ms,
                 array(select source_id from config.route_sources s where s.route_id = r.id order by source_id) as sources,
                 array(select destination_id from config.route_destinations d where d.route_id = r.id order by ordinal) as destinations
             from config.routes r ",
            $rest
        )
    };
}

impl Route {
    #[must_use]
    pub fn config(&self) -> RouteConfig {
        RouteConfig {
            project_id: ProjectId(self.project_id),
            name: self.name.clone(),
            position: self.position,
            sources: self.sources.iter().copied().map(SourceId).collect(),
            categories: self.categories.clone(),
            min_confidence: self.min_confidence,
            destinations: self
                .destinations
                .iter()
                .copied()
                .map(DestinationId)
                .collect(),
            disabled: self.disabled,
        }
    }
}

impl Setting for Route {
    const KIND: Kind = Kind::Route;
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

/// What people set of a route; none means the default on creation, and no change on an update.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    pub name: Option<String>,
    pub position: Option<i32>,
    /// Empty means any.
    pub sources: Option<Vec<Wanted>>,
    /// Empty means any.
    pub categories: Option<Vec<String>>,
    pub min_confidence: Option<f32>,
    pub destinations: Option<Vec<Wanted>>,
}

/// Adds a route, behind all others unless a position is given.
///
/// # Errors
/// Something is refused, the name is taken, or a source or destination does not exist.
pub async fn create(change: &mut Change, fields: Fields) -> Result<Route, StoreError> {
    let project = change.project_id();
    let position = match fields.position {
        Some(position) => position,
        None => last_position(change.connection(), project)
            .await?
            .saturating_add(POSITION_STEP),
    };
    let blank = RouteConfig {
        project_id: project,
        name: String::new(),
        position,
        sources: Vec::new(),
        categories: Vec::new(),
        min_confidence: 0.0,
        destinations: Vec::new(),
        disabled: false,
    };
    let config = over(change, fields, blank).await?;
    let id = RouteId::generate();
    let sql = "insert into config.routes (id, project_id, name, position, categories, min_confidence, disabled)
               values ($1, $2, $3, $4, $5, $6, $7)";
    write(change, sql, id, &config).await?;
    let row = find(change.connection(), project, &Wanted::Id(id.0)).await?;
    change.created(&row).await?;
    Ok(row)
}

/// # Errors
/// There is no such route, something is refused, or a source or destination does not exist.
pub async fn update(
    change: &mut Change,
    wanted: &Wanted,
    fields: Fields,
) -> Result<Route, StoreError> {
    let before = lock(change, wanted).await?;
    let config = over(change, fields, before.config()).await?;
    rewrite(change, "update", &before, &config).await
}

/// Stops a route or lets it go on. Returns it, and whether anything changed.
///
/// # Errors
/// There is no such route, or it has no destination to go on with.
pub async fn set_disabled(
    change: &mut Change,
    wanted: &Wanted,
    disabled: bool,
) -> Result<(Route, bool), StoreError> {
    let before = lock(change, wanted).await?;
    if before.disabled == disabled {
        return Ok((before, false));
    }
    if !disabled && before.destinations.is_empty() {
        return Err(StoreError::Conflict(
            "the route has no destination any more; give it one with `route update`".into(),
        ));
    }
    let config = RouteConfig {
        disabled,
        ..before.config()
    };
    let after = rewrite(
        change,
        if disabled { "disable" } else { "enable" },
        &before,
        &config,
    )
    .await?;
    Ok((after, true))
}

/// # Errors
/// There is no such route.
pub async fn delete(change: &mut Change, wanted: &Wanted) -> Result<Route, StoreError> {
    let route = lock(change, wanted).await?;
    sqlx::query("delete from config.routes where id = $1")
        .bind(route.id)
        .execute(change.connection())
        .await?;
    change.deleted(&route).await?;
    Ok(route)
}

/// The routes that send to a destination, locked.
pub(super) async fn naming(
    connection: &mut PgConnection,
    destination: DestinationId,
) -> Result<Vec<Route>, StoreError> {
    let rows = sqlx::query_as(select!(
        "where exists (select 1 from config.route_destinations d where d.route_id = r.id and d.destination_id = $1)
         order by r.position, r.id for update of r"
    ))
    .bind(destination.0)
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Takes a destination out of a route; one that has no other is disabled.
pub(super) async fn take_out(
    change: &mut Change,
    route: &Route,
    destination: DestinationId,
) -> Result<(), StoreError> {
    let mut config = route.config();
    config.destinations.retain(|id| *id != destination);
    config.disabled |= config.destinations.is_empty();
    rewrite(change, "update", route, &config).await?;
    Ok(())
}

async fn rewrite(
    change: &mut Change,
    action: &str,
    before: &Route,
    config: &RouteConfig,
) -> Result<Route, StoreError> {
    let sql = "update config.routes set name = $3, position = $4, categories = $5, min_confidence = $6, disabled = $7
               where id = $1 and project_id = $2";
    write(change, sql, RouteId(before.id), config).await?;
    let project = change.project_id();
    let after = find(change.connection(), project, &Wanted::Id(before.id)).await?;
    change.updated(action, before, &after).await?;
    Ok(after)
}

/// The settings that result when `fields` are laid over `base`.
async fn over(
    change: &mut Change,
    fields: Fields,
    base: RouteConfig,
) -> Result<RouteConfig, StoreError> {
    let project = change.project_id();
    let name = fields.name.unwrap_or(base.name);
    let categories = fields.categories.unwrap_or(base.categories);
    for category in &categories {
        validate::category(category)?;
    }
    let mut source_ids = base.sources;
    if let Some(wanted) = &fields.sources {
        source_ids.clear();
        for wanted in wanted {
            source_ids.push(SourceId(
                sources::find(change.connection(), project, wanted)
                    .await?
                    .id,
            ));
        }
    }
    let mut destination_ids = base.destinations;
    if let Some(wanted) = &fields.destinations {
        destination_ids.clear();
        for wanted in wanted {
            destination_ids.push(DestinationId(
                destinations::find(change.connection(), project, wanted)
                    .await?
                    .id,
            ));
        }
    }
    if destination_ids.is_empty() && !base.disabled {
        return Err(Invalid::new("destination", "a route needs at least one").into());
    }
    Ok(RouteConfig {
        project_id: project,
        name: validate::name(&name)?.to_owned(),
        position: validate::within(
            "position",
            fields.position.unwrap_or(base.position),
            0..=i32::MAX,
        )?,
        sources: listed("source", source_ids)?,
        categories: listed("category", categories)?,
        min_confidence: validate::within(
            "min-confidence",
            fields.min_confidence.unwrap_or(base.min_confidence),
            0.0..=1.0,
        )?,
        destinations: listed("destination", destination_ids)?,
        disabled: base.disabled,
    })
}

/// A list in its order, each entry once.
fn listed<T: PartialEq>(field: &'static str, entries: Vec<T>) -> Result<Vec<T>, Invalid> {
    if entries.len() > LIST_MAX {
        return Err(Invalid::new(
            field,
            format!("a route takes {LIST_MAX} at the most"),
        ));
    }
    let mut once = Vec::with_capacity(entries.len());
    for entry in entries {
        if !once.contains(&entry) {
            once.push(entry);
        }
    }
    Ok(once)
}

/// Writes the row (`$1` id, `$2` project, `$3` to `$7` settings) and its two lists.
async fn write(
    change: &mut Change,
    sql: &'static str,
    id: RouteId,
    config: &RouteConfig,
) -> Result<(), StoreError> {
    sqlx::query(sql)
        .bind(id.0)
        .bind(config.project_id.0)
        .bind(&config.name)
        .bind(config.position)
        .bind(&config.categories)
        .bind(config.min_confidence)
        .bind(config.disabled)
        .execute(change.connection())
        .await
        .map_err(|error| name_taken(error, KIND, &config.name))?;
    sqlx::query("delete from config.route_sources where route_id = $1")
        .bind(id.0)
        .execute(change.connection())
        .await?;
    sqlx::query("delete from config.route_destinations where route_id = $1")
        .bind(id.0)
        .execute(change.connection())
        .await?;
    let source_ids: Vec<Uuid> = config.sources.iter().map(|id| id.0).collect();
    sqlx::query("insert into config.route_sources (project_id, route_id, source_id) select $1, $2, unnest($3::uuid[])")
        .bind(config.project_id.0)
        .bind(id.0)
        .bind(&source_ids)
        .execute(change.connection())
        .await?;
    let destination_ids: Vec<Uuid> = config.destinations.iter().map(|id| id.0).collect();
    sqlx::query(
        "insert into config.route_destinations (project_id, route_id, destination_id, ordinal)
         select $1, $2, d.id, d.place::integer - 1 from unnest($3::uuid[]) with ordinality as d (id, place)",
    )
    .bind(config.project_id.0)
    .bind(id.0)
    .bind(&destination_ids)
    .execute(change.connection())
    .await?;
    Ok(())
}

async fn last_position(
    connection: &mut PgConnection,
    project: ProjectId,
) -> Result<i32, StoreError> {
    let sql = "select coalesce(max(position), 0) from config.routes where project_id = $1";
    Ok(sqlx::query_scalar(sql)
        .bind(project.0)
        .fetch_one(connection)
        .await?)
}

async fn lock(change: &mut Change, wanted: &Wanted) -> Result<Route, StoreError> {
    let project = change.project_id();
    let select = select!("where r.project_id = $1 and (r.id = $2 or r.name = $3) for update of r");
    rows::one(change.connection(), select, project, wanted, KIND).await
}

/// # Errors
/// There is no such route in the project.
pub async fn find(
    connection: &mut PgConnection,
    project: ProjectId,
    wanted: &Wanted,
) -> Result<Route, StoreError> {
    let select = select!("where r.project_id = $1 and (r.id = $2 or r.name = $3)");
    rows::one(connection, select, project, wanted, KIND).await
}

/// Routes of a project in the order in which they are read.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn list(
    connection: &mut PgConnection,
    project: ProjectId,
) -> Result<Vec<Route>, StoreError> {
    let select = select!("where r.project_id = $1 order by r.position, r.id");
    rows::of_project(connection, select, project).await
}

/// Routes of all projects.
///
/// # Errors
/// PostgreSQL does not answer.
pub async fn all(connection: &mut PgConnection) -> Result<Vec<Route>, StoreError> {
    rows::every(connection, select!("order by r.id")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_order_and_hold_each_entry_once() {
        assert_eq!(listed("x", vec![3, 1, 3, 2]), Ok(vec![3, 1, 2]));
        assert!(listed("x", (0..=LIST_MAX).collect()).is_err());
    }
}
