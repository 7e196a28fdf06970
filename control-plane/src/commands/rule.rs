//! `rule create|update|list|show|test|disable|enable|delete`.

use std::collections::HashMap;

use clap::{Args, Subcommand};
use router_schemas::config::Condition;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Format, Outcome, Session, event_id, replacing, say, wanted};
use crate::{
    condition, example,
    output::{self, Table},
    settings::Settings,
    store::{
        Wanted, events, json_value,
        rules::{self, Fields},
        sources,
    },
    validate::Invalid,
};

#[derive(Debug, Subcommand)]
pub(super) enum Rule {
    /// Adds a rule
    #[command(after_help = "\
Examples:
  control-plane rule create --name deploys --category ci_cd --when 'header:x-github-event in deployment,workflow_run'
  control-plane rule create --name charges --category billing --source stripe --when 'json:/type^=charge.' --when 'json:/data/object/amount exists'

A condition is header:NAME or json:/POINTER (RFC 6901; a form is an object of its fields), and one of
  =VALUE      equals                in A,B,C    is one of these
  ~=VALUE     contains              exists      is there, whatever it holds
  ^=VALUE     starts with           absent      is not there
Spaces around the parts do not count. A name or value with spaces at its ends, commas or = stands in double quotes:
  'json:\"/a = b\"=\" c\"'. Numbers, true, false and null are compared as JSON writes them.

All conditions of a rule must hold. Rules are read by position, the lowest first; the first that holds decides, and no
model is asked. `control-plane rule test --event EVENT_ID` says what they would make of an event.")]
    Create(Create),
    /// Changes a rule; lists that are given take the place of the old ones
    Update(Update),
    /// Shows the rules in the order in which they are read
    List(Format),
    /// Shows one rule
    Show(Point),
    /// Says which rule would decide an event that came before, and why or why not
    Test(Test),
    /// Leaves a rule out until it is enabled again
    Disable(Point),
    /// Reads a disabled rule again
    Enable(Point),
    /// Deletes a rule
    Delete(Point),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[arg(long)]
    name: String,
    /// What such a webhook is: any word of lower-case letters, digits, '_', '-' and '.'
    #[arg(long)]
    category: String,
    /// A condition, such as header:x-github-event=push; may be repeated, and all must hold
    #[arg(long, required = true, value_name = "CONDITION")]
    when: Vec<String>,
    /// Only webhooks of this source (name or id); may be repeated [default: any]
    #[arg(long)]
    source: Vec<String>,
    /// Place in the order, the lowest first [default: behind the last]
    #[arg(long)]
    position: Option<i32>,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Update {
    /// The rule's id or name
    rule: String,
    #[arg(long)]
    name: Option<String>,
    #[arg(long)]
    category: Option<String>,
    /// A condition; those given take the place of all the old ones
    #[arg(long, value_name = "CONDITION")]
    when: Vec<String>,
    #[arg(long, conflicts_with = "any_source")]
    source: Vec<String>,
    /// Take the limit to sources away
    #[arg(long)]
    any_source: bool,
    #[arg(long)]
    position: Option<i32>,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Point {
    /// The rule's id or name
    rule: String,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Test {
    /// Only this rule (id or name), disabled or not [default: all that are enabled]
    rule: Option<String>,
    /// The event, by the id that its sender was answered with
    #[arg(long, value_name = "EVENT_ID")]
    event: String,
    #[command(flatten)]
    format: Format,
}

impl Rule {
    pub(super) async fn run(self, settings: &Settings) -> Outcome {
        let session = Session::open(settings)?;
        match self {
            Self::Create(create) => create.run(&session).await,
            Self::Update(update) => update.run(&session).await,
            Self::List(format) => list(&session, format).await,
            Self::Show(point) => point.show(&session).await,
            Self::Test(test) => test.run(&session).await,
            Self::Disable(point) => point.set_disabled(&session, true).await,
            Self::Enable(point) => point.set_disabled(&session, false).await,
            Self::Delete(point) => point.delete(&session).await,
        }
    }
}

fn conditions(texts: &[String]) -> Result<Vec<Condition>, Invalid> {
    texts.iter().map(|text| condition::parse(text)).collect()
}

impl Create {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let fields = Fields {
            name: Some(self.name),
            position: self.position,
            sources: Some(wanted(&self.source)),
            conditions: Some(conditions(&self.when)?),
            category: Some(self.category),
        };
        let mut change = session.change().await?;
        let rule = rules::create(&mut change, fields).await?;
        session.publish(change).await?;
        let said = format!(
            "rule {} ({}) at position {}: {}",
            rule.name, rule.id, rule.position, rule.category
        );
        say(self.format, &json!({ "id": rule.id }), &said)
    }
}

impl Update {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let fields = Fields {
            name: self.name,
            position: self.position,
            sources: replacing(wanted(&self.source), self.any_source),
            conditions: replacing(conditions(&self.when)?, false),
            category: self.category,
        };
        let mut change = session.change().await?;
        let rule = rules::update(&mut change, &Wanted::from(self.rule.as_str()), fields).await?;
        session.publish(change).await?;
        let said = format!("rule {} ({}) updated", rule.name, rule.id);
        say(self.format, &json!({ "id": rule.id }), &said)
    }
}

impl Point {
    fn wanted(&self) -> Wanted {
        Wanted::from(self.rule.as_str())
    }

    async fn show(self, session: &Session<'_>) -> Outcome {
        let mut connection = session.pool.acquire().await?;
        let project = session.settings.project_id;
        let rule = rules::find(&mut connection, project, &self.wanted()).await?;
        if self.format.json {
            return Ok(output::json(&shown(&rule))?);
        }
        let names = source_names(session).await?;
        output::line(&format!("rule {} ({})", rule.name, rule.id))?;
        output::line(&format!("category  {}", rule.category))?;
        output::line(&format!("position  {}", rule.position))?;
        output::line(&format!("sources   {}", listed(&rule.sources, &names)))?;
        output::line(&format!("state     {}", state(&rule)))?;
        for one in rule.conditions.iter() {
            output::line(&format!("when      {}", condition::show(one)))?;
        }
        Ok(())
    }

    async fn set_disabled(self, session: &Session<'_>, disabled: bool) -> Outcome {
        let mut change = session.change().await?;
        let (rule, _) = rules::set_disabled(&mut change, &self.wanted(), disabled).await?;
        session.publish(change).await?;
        let said = format!("rule {} ({}) is {}", rule.name, rule.id, state(&rule));
        let json = json!({ "id": rule.id, "disabled": disabled });
        say(self.format, &json, &said)
    }

    async fn delete(self, session: &Session<'_>) -> Outcome {
        let mut change = session.change().await?;
        let rule = rules::delete(&mut change, &self.wanted()).await?;
        session.publish(change).await?;
        let said = format!("rule {} ({}) is deleted", rule.name, rule.id);
        let json = json!({ "id": rule.id, "deleted": true });
        say(self.format, &json, &said)
    }
}

impl Test {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let mut connection = session.pool.acquire().await?;
        let project = session.settings.project_id;
        let id = event_id(&self.event)?;
        let event = events::find(&mut connection, project, id).await?;
        let asked = match &self.rule {
            Some(rule) => {
                vec![rules::find(&mut connection, project, &Wanted::from(rule.as_str())).await?]
            }
            None => {
                let mut all = rules::list(&mut connection, project).await?;
                all.retain(|rule| !rule.disabled);
                all
            }
        };
        let read = example::read(&event)?;
        let mut decided = None;
        let mut told = Vec::new();
        for rule in &asked {
            let compiled = rule.compiled()?;
            let why = compiled.explain(event.source_id, &read.headers, read.body.value());
            if why.holds() && decided.is_none() {
                decided = Some(rule);
            }
            let conditions = why.conditions.iter().map(|asked| {
                json!({
                    "when": condition::show(asked.condition), "holds": asked.holds, "found": asked.found,
                })
            });
            told.push(json!({
                "id": rule.id, "name": rule.name, "category": rule.category, "holds": why.holds(),
                "source_fits": why.source_fits, "conditions": conditions.collect::<Vec<_>>(),
            }));
        }
        if self.format.json {
            let decided = decided.map(|rule| rule.id);
            return Ok(output::json(
                &json!({ "decided_by": decided, "rules": told }),
            )?);
        }
        print_told(&told)?;
        Ok(output::line(&match decided {
            Some(rule) => format!("rule {} decides: {}", rule.name, rule.category),
            None => format!("none of {} rule(s) decides", asked.len()),
        })?)
    }
}

/// One line for each condition.
fn print_told(rules: &[Value]) -> Outcome {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut table = Table::new(&["rule", "holds", "when", "found"]);
    let yes = |holds: &Value| if *holds == true { "yes" } else { "no" };
    for rule in rules {
        let name = text(&rule["name"]);
        if rule["source_fits"] == false {
            let why = "the event came from another source";
            table.row([name.clone(), "no".into(), why.into(), String::new()]);
        }
        for one in rule["conditions"].as_array().into_iter().flatten() {
            let found = match one["found"].as_str() {
                // Long values would make every line as long.
                Some(found) => format!("{:?}", found.chars().take(60).collect::<String>()),
                None => "nothing".into(),
            };
            let holds = yes(&one["holds"]).into();
            table.row([name.clone(), holds, text(&one["when"]), found]);
        }
    }
    Ok(table.print()?)
}

fn state(rule: &rules::Rule) -> &'static str {
    if rule.disabled { "disabled" } else { "enabled" }
}

fn shown(rule: &rules::Rule) -> Value {
    let mut value = json_value(&rule.config());
    value["id"] = json!(rule.id);
    let when: Vec<String> = rule.conditions.iter().map(condition::show).collect();
    value["when"] = json!(when);
    value
}

async fn source_names(
    session: &Session<'_>,
) -> Result<HashMap<Uuid, String>, crate::error::CommandError> {
    let mut connection = session.pool.acquire().await?;
    let sources = sources::list(&mut connection, session.settings.project_id).await?;
    Ok(sources.into_iter().map(|row| (row.id, row.name)).collect())
}

fn listed(ids: &[Uuid], names: &HashMap<Uuid, String>) -> String {
    if ids.is_empty() {
        return "any".into();
    }
    let named = ids
        .iter()
        .filter_map(|id| names.get(id).map(String::as_str));
    named.collect::<Vec<_>>().join(", ")
}

async fn list(session: &Session<'_>, format: Format) -> Outcome {
    let mut connection = session.pool.acquire().await?;
    let rules = rules::list(&mut connection, session.settings.project_id).await?;
    drop(connection);
    if format.json {
        return Ok(output::json(&rules.iter().map(shown).collect::<Vec<_>>())?);
    }
    let names = source_names(session).await?;
    let headings = [
        "position", "name", "sources", "when", "category", "state", "id",
    ];
    let mut table = Table::new(&headings).numeric(&[0]);
    for rule in rules {
        let when: Vec<String> = rule.conditions.iter().map(condition::show).collect();
        table.row([
            rule.position.to_string(),
            rule.name.clone(),
            listed(&rule.sources, &names),
            when.join(" and "),
            rule.category.clone(),
            state(&rule).into(),
            rule.id.to_string(),
        ]);
    }
    Ok(table.print()?)
}
