//! Sources, destinations, routes, and what users teach the classifier, as `control.config` tells them.
//!
//! Readers take a snapshot and work on it without a lock; a change copies the tables only when a
//! snapshot is in use, and of the collections only the one that it is about. Secrets are opened and rules are
//! compiled here, once for each change.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;
use router_runtime::{config_view::View, crypto::MasterKey};
use router_schemas::{
    DestinationId, KnowledgeId, ProjectId, RouteId, SourceId,
    config::{
        CorrectionConfig, DestinationConfig, Kind, LabelConfig, ModelConfig, RouteConfig,
        RuleConfig, SourceConfig,
    },
};

use crate::classify::{Rule, Rules};

/// Settings in memory. Made with the master key where secrets are needed.
#[derive(Debug, Default)]
pub struct Directory {
    tables: RwLock<Arc<Tables>>,
    master_key: Option<MasterKey>,
}

/// One state of all settings.
#[derive(Debug, Default, Clone)]
pub struct Tables {
    pub sources: HashMap<SourceId, Arc<SourceConfig>>,
    pub destinations: HashMap<DestinationId, Arc<Destination>>,
    /// Destinations that exist and of which nothing can be used: another master key, or a newer version's record.
    pub unusable: HashSet<DestinationId>,
    /// Enabled routes of each project, in the order in which they are read.
    pub routes: HashMap<ProjectId, Vec<Arc<Route>>>,
    /// Enabled rules of each project.
    pub rules: HashMap<ProjectId, Arc<Rules>>,
    /// Enabled labels.
    pub labels: Taught<LabelConfig>,
    pub corrections: Taught<CorrectionConfig>,
    /// Which models are in force.
    pub model: ModelConfig,
}

/// What each project has taught, by id. A project that has taught nothing is not in it.
pub type Taught<T> = HashMap<ProjectId, Arc<BTreeMap<KnowledgeId, Arc<T>>>>;

#[derive(Debug)]
pub struct Destination {
    pub id: DestinationId,
    pub config: DestinationConfig,
    pub url: url::Url,
    /// Opened signing keys; two during a rotation.
    pub signing_keys: Vec<hmac::Key>,
}

#[derive(Debug)]
pub struct Route {
    pub id: RouteId,
    pub config: RouteConfig,
}

impl Directory {
    #[must_use]
    pub fn new(master_key: Option<MasterKey>) -> Self {
        Self {
            tables: RwLock::default(),
            master_key,
        }
    }

    #[must_use]
    pub fn snapshot(&self) -> Arc<Tables> {
        Arc::clone(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn destination(
        &self,
        id: DestinationId,
        config: DestinationConfig,
    ) -> Result<Destination, String> {
        let url = url::Url::parse(&config.url).map_err(|error| format!("url: {error}"))?;
        let mut signing_keys = Vec::new();
        if let Some(master_key) = &self.master_key {
            for sealed in &config.secrets {
                let secret = master_key
                    .open(sealed, &id.to_string())
                    .map_err(|error| format!("signing secret: {error}"))?;
                signing_keys.push(signing_key(&secret)?);
            }
        }
        Ok(Destination {
            id,
            config,
            url,
            signing_keys,
        })
    }
}

/// The key of a secret as Standard Webhooks writes it: `whsec_` and base64.
fn signing_key(secret: &[u8]) -> Result<hmac::Key, String> {
    let text = std::str::from_utf8(secret).map_err(|_| "signing secret: is not text")?;
    let base64 = text.strip_prefix("whsec_").unwrap_or(text);
    let bytes = STANDARD
        .decode(base64)
        .map_err(|_| "signing secret: is not base64")?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

impl View for Directory {
    fn apply(&self, kind: &str, id: &str, value: Option<&str>) -> Result<(), String> {
        let Some(kind) = Kind::parse(kind) else {
            return Ok(());
        };
        // Everything is read before the lock is taken, so that an error leaves no half of a change.
        match kind {
            Kind::Source => {
                let (id, config): (SourceId, _) = (parse_id(id)?, parse::<SourceConfig>(value)?);
                self.change(|tables| match config {
                    Some(config) => drop(tables.sources.insert(id, Arc::new(config))),
                    None => drop(tables.sources.remove(&id)),
                });
            }
            Kind::Destination => {
                let id: DestinationId = parse_id(id)?;
                let config = parse(value)?;
                let destination = config
                    .map(|config| self.destination(id, config))
                    .transpose()?;
                self.change(|tables| {
                    tables.unusable.remove(&id);
                    match destination {
                        Some(new) => drop(tables.destinations.insert(id, Arc::new(new))),
                        None => drop(tables.destinations.remove(&id)),
                    }
                });
            }
            Kind::Route => {
                let (id, config): (RouteId, _) = (parse_id(id)?, parse(value)?);
                self.change(|tables| tables.set_route(id, config));
            }
            Kind::Rule => {
                let (id, config): (KnowledgeId, _) = (parse_id(id)?, parse::<RuleConfig>(value)?);
                let rule = config.map(|config| Rule::compile(id, config)).transpose()?;
                self.change(|tables| tables.set_rule(id, rule));
            }
            Kind::Label => {
                let (id, config): (KnowledgeId, _) = (parse_id(id)?, parse::<LabelConfig>(value)?);
                let config = config.filter(|config| !config.disabled);
                self.change(|tables| {
                    let new = config.map(|config| (config.project_id, config));
                    teach(&mut tables.labels, id, new);
                });
            }
            Kind::Correction => {
                let id: KnowledgeId = parse_id(id)?;
                let config = parse::<CorrectionConfig>(value)?;
                self.change(|tables| {
                    let new = config.map(|config| (config.project_id, config));
                    teach(&mut tables.corrections, id, new);
                });
            }
            Kind::Model => {
                let config = parse(value)?.unwrap_or_default();
                self.change(|tables| tables.model = config);
            }
            Kind::Key | Kind::Marker => {}
        }
        Ok(())
    }

    fn unusable(&self, kind: &str, id: &str) {
        if Kind::parse(kind) == Some(Kind::Destination)
            && let Ok(id) = parse_id::<DestinationId>(id)
        {
            self.change(|tables| {
                if !tables.destinations.contains_key(&id) {
                    tables.unusable.insert(id);
                }
            });
        }
    }
}

impl Directory {
    fn change(&self, change: impl FnOnce(&mut Tables)) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut tables));
    }
}

impl Tables {
    fn set_route(&mut self, id: RouteId, config: Option<RouteConfig>) {
        for routes in self.routes.values_mut() {
            routes.retain(|route| route.id != id);
        }
        let Some(config) = config.filter(|config| !config.disabled) else {
            return;
        };
        let routes = self.routes.entry(config.project_id).or_default();
        // The same order everywhere: by position, then by id.
        let place = (config.position, id);
        let at = routes.partition_point(|route| (route.config.position, route.id) < place);
        routes.insert(at, Arc::new(Route { id, config }));
    }

    fn set_rule(&mut self, id: KnowledgeId, rule: Option<Rule>) {
        // Wherever it stood: of another project, too.
        self.rules.retain(|_, rules| {
            if rules.iter().any(|rule| rule.id == id) {
                Arc::make_mut(rules).set(id, None);
            }
            !rules.is_empty()
        });
        let Some(rule) = rule.filter(|rule| !rule.config.disabled) else {
            return;
        };
        let rules = self.rules.entry(rule.config.project_id).or_default();
        Arc::make_mut(rules).set(id, Some(rule));
    }
}

/// Sets what stands under an id, or takes it away. What a project has taught stays the very same where nothing has
/// changed: who has worked it out knows by that when to do it again.
fn teach<T: PartialEq>(taught: &mut Taught<T>, id: KnowledgeId, new: Option<(ProjectId, T)>) {
    let old = taught
        .iter()
        .find_map(|(project, all)| Some((*project, all.get(&id)?)));
    let same = match (&old, &new) {
        (Some((of, old)), Some((project, new))) => of == project && ***old == *new,
        (None, None) => true,
        _ => false,
    };
    if same {
        return;
    }
    if let Some(project) = old.map(|(project, _)| project)
        && let Some(all) = taught.get_mut(&project)
    {
        Arc::make_mut(all).remove(&id);
        if all.is_empty() {
            taught.remove(&project);
        }
    }
    if let Some((project, new)) = new {
        Arc::make_mut(taught.entry(project).or_default()).insert(id, Arc::new(new));
    }
}

fn parse_id<T: std::str::FromStr>(id: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    id.parse().map_err(|error| format!("id {id:?}: {error}"))
}

fn parse<T: serde::de::DeserializeOwned>(value: Option<&str>) -> Result<Option<T>, String> {
    value
        .map(serde_json::from_str)
        .transpose()
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(position: i32, disabled: bool) -> String {
        json!({"project_id": ProjectId::DEFAULT, "name": "r", "position": position,
            "destinations": [], "disabled": disabled})
        .to_string()
    }

    #[test]
    fn routes_are_read_by_position_and_leave_when_disabled() {
        let directory = Directory::default();
        let (a, b) = (RouteId::generate(), RouteId::generate());
        directory
            .apply("route", &a.to_string(), Some(&route(2, false)))
            .unwrap();
        directory
            .apply("route", &b.to_string(), Some(&route(1, false)))
            .unwrap();
        let order = |directory: &Directory| -> Vec<RouteId> {
            let tables = directory.snapshot();
            tables.routes[&ProjectId::DEFAULT]
                .iter()
                .map(|route| route.id)
                .collect()
        };
        assert_eq!(order(&directory), [b, a]);
        directory
            .apply("route", &b.to_string(), Some(&route(3, false)))
            .unwrap();
        assert_eq!(order(&directory), [a, b]);
        directory
            .apply("route", &a.to_string(), Some(&route(2, true)))
            .unwrap();
        assert_eq!(order(&directory), [b]);
        directory.apply("route", &b.to_string(), None).unwrap();
        assert!(order(&directory).is_empty());
    }

    #[test]
    fn a_destination_whose_secret_does_not_open_keeps_its_old_value() {
        let key = MasterKey::new(&[1; 32]);
        let directory = Directory::new(Some(key.clone()));
        let id = DestinationId::generate();
        let config = |secret: String| {
            json!({"project_id": ProjectId::DEFAULT, "name": "d", "url": "https://example.com/",
                "secrets": [secret], "timeout_ms": 1000, "concurrency": 4, "retry": {}})
            .to_string()
        };
        let good = key.seal(b"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", &id.to_string());
        directory
            .apply("destination", &id.to_string(), Some(&config(good)))
            .unwrap();
        let bad = directory.apply(
            "destination",
            &id.to_string(),
            Some(&config("v1.xx".into())),
        );
        assert!(bad.is_err());
        directory.unusable("destination", &id.to_string());
        let tables = directory.snapshot();
        assert_eq!(tables.destinations[&id].signing_keys.len(), 1);
        assert!(tables.unusable.is_empty());
    }

    #[test]
    fn a_destination_that_another_master_key_sealed_is_unusable_and_not_gone() {
        let directory = Directory::new(Some(MasterKey::new(&[2; 32])));
        let id = DestinationId::generate();
        directory.unusable("destination", &id.to_string());
        assert!(directory.snapshot().unusable.contains(&id));
        directory
            .apply("destination", &id.to_string(), None)
            .unwrap();
        assert!(directory.snapshot().unusable.is_empty());
    }

    fn rule(position: i32, disabled: bool) -> String {
        json!({"project_id": ProjectId::DEFAULT, "name": "r", "position": position, "category": "code",
            "conditions": [{"json": "/a", "exists": true}], "disabled": disabled})
        .to_string()
    }

    #[test]
    fn rules_are_compiled_once_and_one_that_cannot_be_leaves_the_one_before() {
        let directory = Directory::default();
        let id = KnowledgeId::generate();
        let apply = |value: Option<&str>| directory.apply("rule", &id.to_string(), value);
        apply(Some(&rule(1, false))).unwrap();
        let bad = rule(2, false).replace("/a", "a");
        assert!(apply(Some(&bad)).unwrap_err().contains("slash"));
        let before = directory.snapshot();
        let rules = &before.rules[&ProjectId::DEFAULT];
        assert_eq!(rules.iter().next().unwrap().config.position, 1);
        apply(Some(&rule(1, true))).unwrap();
        assert!(directory.snapshot().rules.is_empty());
        assert!(!rules.is_empty(), "a snapshot stays as it is");
        apply(Some(&rule(1, false))).unwrap();
        apply(None).unwrap();
        assert!(directory.snapshot().rules.is_empty());
    }

    #[test]
    fn what_is_taught_changes_what_it_is_about_and_nothing_else() {
        let directory = Directory::default();
        let label = |threshold: f32, disabled: bool| {
            json!({"project_id": ProjectId::DEFAULT, "name": "refund", "threshold": threshold,
                "disabled": disabled, "examples": [{"scheme": 1, "tokens": ["k:refund"]}]})
            .to_string()
        };
        let correction = |category: &str| {
            json!({"project_id": ProjectId::DEFAULT, "source_id": SourceId::generate(),
                "event_id": router_schemas::EventId::generate(), "category": category,
                "example": {"scheme": 1, "tokens": []}})
            .to_string()
        };
        let labels = |tables: &Tables| Arc::clone(&tables.labels[&ProjectId::DEFAULT]);
        let (a, b, c) = (
            KnowledgeId::generate().to_string(),
            KnowledgeId::generate().to_string(),
            KnowledgeId::generate().to_string(),
        );
        directory
            .apply("label", &a, Some(&label(0.5, false)))
            .unwrap();
        directory
            .apply("label", &b, Some(&label(0.5, false)))
            .unwrap();
        let before = directory.snapshot();
        directory
            .apply("label", &a, Some(&label(0.5, false)))
            .unwrap();
        let again = directory.snapshot();
        assert!(
            Arc::ptr_eq(&labels(&before), &labels(&again)),
            "nothing has changed"
        );
        directory
            .apply("correction", &c, Some(&correction("code")))
            .unwrap();
        let after = directory.snapshot();
        assert!(
            Arc::ptr_eq(&labels(&before), &labels(&after)),
            "labels are not copied for a correction"
        );
        directory
            .apply("label", &a, Some(&label(0.6, false)))
            .unwrap();
        let changed = directory.snapshot();
        assert!(!Arc::ptr_eq(&labels(&after), &labels(&changed)));
        directory
            .apply("label", &a, Some(&label(0.5, true)))
            .unwrap();
        directory.apply("label", &b, None).unwrap();
        directory.apply("label", &b, None).unwrap();
        assert!(directory.snapshot().labels.is_empty());
        assert_eq!(before.labels[&ProjectId::DEFAULT].len(), 2);
        assert!(directory.apply("correction", &c, Some("{}")).is_err());
        assert_eq!(
            directory.snapshot().corrections[&ProjectId::DEFAULT].len(),
            1
        );
    }

    #[test]
    fn the_model_in_force_is_the_one_that_came_with_the_program_unless_told_otherwise() {
        let directory = Directory::default();
        let choice = r#"{"current":"2026-11","shadow":"builtin"}"#;
        directory.apply("model", "active", Some(choice)).unwrap();
        let model = directory.snapshot().model.clone();
        assert_eq!(model.current.as_deref(), Some("2026-11"));
        assert_eq!(model.shadow.as_deref(), Some("builtin"));
        directory.apply("model", "active", None).unwrap();
        assert_eq!(directory.snapshot().model, ModelConfig::default());
    }
}
