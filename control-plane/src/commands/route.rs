//! `route create|update|list|disable|enable|delete`.

use std::collections::HashMap;

use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

use super::{Format, Outcome, Session, replacing, say, wanted};
use crate::{
    output::{self, Table},
    settings::Settings,
    store::{
        Wanted, destinations, json_value,
        routes::{self, Fields},
        sources,
    },
};

#[derive(Debug, Subcommand)]
pub(super) enum Route {
    /// Adds a route
    #[command(after_help = "\
Examples:
  control-plane route create --name everything --destination app
  control-plane route create --name money --destination billing --category billing --category commerce --min-confidence 0.7
  control-plane route create --name deploys --destination ops --source github --category ci_cd --position 5

Routes are read by position, the lowest first. A destination gets an event once, by the first route that matches.")]
    Create(Create),
    /// Changes a route; lists that are given take the place of the old ones
    Update(Update),
    /// Shows the routes in the order in which they are read
    List(Format),
    /// Leaves a route out until it is enabled again
    Disable(Point),
    /// Reads a disabled route again
    Enable(Point),
    /// Deletes a route
    Delete(Point),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[arg(long)]
    name: String,
    /// Where matching events go: a destination's name or id; may be repeated
    #[arg(long, required = true)]
    destination: Vec<String>,
    /// Only events of this source (name or id); may be repeated [default: any]
    #[arg(long)]
    source: Vec<String>,
    /// Only events of this category; may be repeated [default: any]
    #[arg(long)]
    category: Vec<String>,
    /// Only events whose category is at least this sure, 0 to 1 [default: 0]
    #[arg(long)]
    min_confidence: Option<f32>,
    /// Place in the order, the lowest first [default: behind the last]
    #[arg(long)]
    position: Option<i32>,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// The route's id or name
    route: String,
    #[arg(long)]
    name: Option<String>,
    #[arg(long)]
    destination: Vec<String>,
    #[arg(long, conflicts_with = "any_source")]
    source: Vec<String>,
    /// Take the limit to sources away
    #[arg(long)]
    any_source: bool,
    #[arg(long, conflicts_with = "any_category")]
    category: Vec<String>,
    /// Take the limit to categories away
    #[arg(long)]
    any_category: bool,
    #[arg(long)]
    min_confidence: Option<f32>,
    #[arg(long)]
    position: Option<i32>,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Point {
    /// The route's id or name
    route: String,
    #[command(flatten)]
    format: Format,
}

impl Route {
    pub(super) async fn run(self, settings: &Settings) -> Outcome {
        let session = Session::open(settings)?;
        match self {
            Self::Create(create) => create.run(&session).await,
            Self::Update(update) => update.run(&session).await,
            Self::List(format) => list(&session, format).await,
            Self::Disable(point) => point.set_disabled(&session, true).await,
            Self::Enable(point) => point.set_disabled(&session, false).await,
            Self::Delete(point) => point.delete(&session).await,
        }
    }
}

impl Create {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let fields = Fields {
            name: Some(self.name),
            position: self.position,
            sources: Some(wanted(&self.source)),
            categories: Some(self.category),
            min_confidence: self.min_confidence,
            destinations: Some(wanted(&self.destination)),
        };
        let mut change = session.change().await?;
        let route = routes::create(&mut change, fields).await?;
        session.publish(change).await?;
        let said = format!(
            "route {} ({}) at position {}",
            route.name, route.id, route.position
        );
        say(self.format, &json!({ "id": route.id }), &said)
    }
}

impl Update {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let fields = Fields {
            name: self.name,
            position: self.position,
            sources: replacing(wanted(&self.source), self.any_source),
            categories: replacing(self.category, self.any_category),
            min_confidence: self.min_confidence,
            destinations: replacing(wanted(&self.destination), false),
        };
        let mut change = session.change().await?;
        let route = routes::update(&mut change, &Wanted::from(self.route.as_str()), fields).await?;
        session.publish(change).await?;
        say(
            self.format,
            &json!({ "id": route.id }),
            &format!("route {} ({}) updated", route.name, route.id),
        )
    }
}

impl Point {
    async fn set_disabled(self, session: &Session<'_>, disabled: bool) -> Outcome {
        let mut change = session.change().await?;
        let (route, _) =
            routes::set_disabled(&mut change, &Wanted::from(self.route.as_str()), disabled).await?;
        session.publish(change).await?;
        let state = if disabled { "disabled" } else { "enabled" };
        let said = format!("route {} ({}) is {state}", route.name, route.id);
        say(
            self.format,
            &json!({ "id": route.id, "disabled": disabled }),
            &said,
        )
    }

    async fn delete(self, session: &Session<'_>) -> Outcome {
        let mut change = session.change().await?;
        let route = routes::delete(&mut change, &Wanted::from(self.route.as_str())).await?;
        session.publish(change).await?;
        let said = format!("route {} ({}) is deleted", route.name, route.id);
        say(
            self.format,
            &json!({ "id": route.id, "deleted": true }),
            &said,
        )
    }
}

async fn list(session: &Session<'_>, format: Format) -> Outcome {
    let mut connection = session.pool.acquire().await?;
    let project = session.settings.project_id;
    let routes = routes::list(&mut connection, project).await?;
    if format.json {
        let shown = |route: &routes::Route| {
            let mut value = json_value(&route.config());
            value["id"] = json!(route.id);
            value
        };
        return Ok(output::json(&routes.iter().map(shown).collect::<Vec<_>>())?);
    }
    let sources = sources::list(&mut connection, project).await?;
    let destinations = destinations::list(&mut connection, project).await?;
    let mut names: HashMap<Uuid, String> = sources
        .into_iter()
        .map(|source| (source.id, source.name))
        .collect();
    names.extend(
        destinations
            .into_iter()
            .map(|destination| (destination.id, destination.name)),
    );
    let listed = |ids: &[Uuid]| {
        let named: Vec<&str> = ids
            .iter()
            .filter_map(|id| names.get(id).map(String::as_str))
            .collect();
        if named.is_empty() {
            "any".into()
        } else {
            named.join(", ")
        }
    };
    let mut table = Table::new(&[
        "position",
        "name",
        "sources",
        "categories",
        "confidence",
        "destinations",
        "state",
        "id",
    ])
    .numeric(&[0]);
    for route in routes {
        let categories = if route.categories.is_empty() {
            "any".into()
        } else {
            route.categories.join(", ")
        };
        let destinations = if route.destinations.is_empty() {
            "none".into()
        } else {
            listed(&route.destinations)
        };
        table.row([
            route.position.to_string(),
            route.name.clone(),
            listed(&route.sources),
            categories,
            format!(">= {}", route.min_confidence),
            destinations,
            if route.disabled {
                "disabled".into()
            } else {
                "active".into()
            },
            route.id.to_string(),
        ]);
    }
    Ok(table.print()?)
}
