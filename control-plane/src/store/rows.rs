//! How rows of settings are read: the one that somebody means, those of a project, and all of them. Each kind brings its
//! own `select`; what surrounds it is the same for all.

use router_schemas::ProjectId;
use sqlx::{FromRow, PgConnection, postgres::PgRow};

use super::{StoreError, Wanted};

/// The row that is wanted: `$1` project, `$2` id, `$3` name, one of these null. For update, too.
pub(super) async fn one<T>(
    connection: &mut PgConnection,
    select: &'static str,
    project: ProjectId,
    wanted: &Wanted,
    kind: &'static str,
) -> Result<T, StoreError>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    let row = sqlx::query_as(select)
        .bind(project.0)
        .bind(wanted.id())
        .bind(wanted.name())
        .fetch_optional(connection)
        .await?;
    row.ok_or_else(|| wanted.missing(kind))
}

/// Rows of a project: `$1`.
pub(super) async fn of_project<T>(
    connection: &mut PgConnection,
    select: &'static str,
    project: ProjectId,
) -> Result<Vec<T>, StoreError>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    Ok(sqlx::query_as(select)
        .bind(project.0)
        .fetch_all(connection)
        .await?)
}

/// Rows of all projects.
pub(super) async fn every<T>(
    connection: &mut PgConnection,
    select: &'static str,
) -> Result<Vec<T>, StoreError>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    Ok(sqlx::query_as(select).fetch_all(connection).await?)
}
