//! From webhooks to their categories: rules of the project first, then the nearest of its corrections and its labels'
//! examples, then the model, and `other` where the model is not sure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use router_schemas::{
    Classification, KnowledgeId, ProjectId, SourceId,
    config::{CorrectionConfig, LabelConfig, ModelConfig},
    processed::{DecidedBy, RunnerUp, Shadow},
};
use serde_json::Value;

use super::{
    OTHER,
    examples::{Examples, Near},
    features::Row,
    model::{Answer, Model, ModelError},
    models::{InForce, Models},
};
use crate::{directory::Tables, headers::SenderHeaders};

/// What is known of a webhook before it is classified.
#[derive(Debug, Clone, Copy)]
pub struct Webhook<'a> {
    pub project_id: ProjectId,
    pub source_id: SourceId,
    pub headers: &'a SenderHeaders<'a>,
    pub content_type: Option<&'a str>,
    /// Unpacked.
    pub body: &'a [u8],
    /// The body as rules see it, where a rule may ask for it.
    pub document: Option<&'a Value>,
}

/// Classifies, with a model or by rules alone.
#[derive(Debug, Default)]
pub struct Classifier {
    models: Option<Models>,
    taught: Mutex<HashMap<ProjectId, Arc<Taught>>>,
    meters: Meters,
}

/// What one project has taught, as one model sees it.
#[derive(Debug)]
struct Taught {
    model: Arc<Model>,
    corrections: Option<Settings<CorrectionConfig>>,
    labels: Option<Settings<LabelConfig>>,
    examples: Examples,
}

type Settings<T> = Arc<BTreeMap<KnowledgeId, Arc<T>>>;

/// Whether both are the very same settings.
fn same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

#[derive(Debug)]
struct Meters {
    model_seconds: metrics::Histogram,
    shadow_agrees: metrics::Counter,
    shadow_disagrees: metrics::Counter,
    shadow_seconds: metrics::Histogram,
    shadow_failures: metrics::Counter,
}

impl Default for Meters {
    fn default() -> Self {
        let shadow = |agrees| metrics::counter!("router_process_shadow_total", "agrees" => agrees);
        Self {
            model_seconds: metrics::histogram!("router_process_model_seconds"),
            shadow_agrees: shadow("yes"),
            shadow_disagrees: shadow("no"),
            shadow_seconds: metrics::histogram!("router_process_shadow_seconds"),
            shadow_failures: metrics::counter!("router_process_shadow_failures_total"),
        }
    }
}

impl Classifier {
    #[must_use]
    pub fn new(models: Models) -> Self {
        Self {
            models: Some(models),
            ..Self::default()
        }
    }

    /// Without a model: what no rule decides is `other`.
    #[must_use]
    pub fn rules_alone() -> Self {
        Self::default()
    }

    /// Brings these models into force; see [`Models::follow`]. True where there is no model to be had.
    pub fn follow(&self, wanted: &ModelConfig) -> bool {
        self.models
            .as_ref()
            .is_none_or(|models| models.follow(wanted))
    }

    /// One classification for each webhook.
    ///
    /// # Errors
    /// The model does not answer.
    pub fn classify(
        &self,
        tables: &Tables,
        webhooks: &[Webhook<'_>],
    ) -> Result<Vec<Classification>, ModelError> {
        let ruled: Vec<Option<Classification>> = webhooks
            .iter()
            .map(|webhook| by_rule(tables, webhook))
            .collect();
        let open: Vec<&Webhook<'_>> = webhooks
            .iter()
            .zip(&ruled)
            .filter_map(|(webhook, ruled)| ruled.is_none().then_some(webhook))
            .collect();
        let Some(models) = &self.models else {
            return Ok(ruled
                .into_iter()
                .map(|ruled| ruled.unwrap_or_else(nothing))
                .collect());
        };
        let mut rest = self
            .by_model(&models.in_force(), tables, &open)?
            .into_iter();
        let decided = ruled.into_iter().map(|ruled| ruled.or_else(|| rest.next()));
        Ok(decided
            .map(|decided| decided.unwrap_or_else(nothing))
            .collect())
    }

    fn by_model(
        &self,
        models: &InForce,
        tables: &Tables,
        webhooks: &[&Webhook<'_>],
    ) -> Result<Vec<Classification>, ModelError> {
        let model = &models.current;
        let began = Instant::now();
        let rows_of = rows(model, webhooks);
        let answers = model.answers(&rows_of)?;
        self.meters
            .model_seconds
            .record(began.elapsed().as_secs_f64());
        let mut taught: HashMap<ProjectId, Option<Arc<Taught>>> = HashMap::new();
        let mut decided: Vec<Classification> = webhooks
            .iter()
            .zip(rows_of.iter().zip(&answers))
            .map(|(webhook, (row, answer))| {
                let project = webhook.project_id;
                let taught = taught
                    .entry(project)
                    .or_insert_with(|| self.taught(model, tables, project));
                let known = taught.as_ref().and_then(|taught| {
                    let found = taught.examples.find(webhook.source_id, row, answer)?;
                    Some(by_example(model, found, answer))
                });
                known.unwrap_or_else(|| by_probability(model, answer))
            })
            .collect();
        if let Some(shadow) = &models.shadow {
            // A model that is tried out harms nobody: where it fails, it has said nothing.
            let began = Instant::now();
            match shadow.answers(&rows(shadow, webhooks)) {
                Ok(answers) => self.compare(shadow, &answers, &mut decided),
                Err(error) => {
                    self.meters.shadow_failures.increment(1);
                    tracing::debug!(%error, "the shadow model does not answer");
                }
            }
            self.meters
                .shadow_seconds
                .record(began.elapsed().as_secs_f64());
        }
        Ok(decided)
    }

    fn compare(&self, shadow: &Model, answers: &[Answer], decided: &mut [Classification]) {
        for (answer, decided) in answers.iter().zip(decided) {
            if !matches!(decided.decided_by, DecidedBy::Model | DecidedBy::Threshold) {
                continue;
            }
            let other = by_probability(shadow, answer);
            if other.category == decided.category {
                self.meters.shadow_agrees.increment(1);
                continue;
            }
            self.meters.shadow_disagrees.increment(1);
            decided.shadow = Some(Shadow {
                model_version: other.model_version,
                category: other.category,
                confidence: other.confidence,
            });
        }
    }

    /// What a project has taught, embedded again when it or the model has changed. Where that fails, what was known
    /// stays.
    fn taught(
        &self,
        model: &Arc<Model>,
        tables: &Tables,
        project: ProjectId,
    ) -> Option<Arc<Taught>> {
        let (corrections, labels) = (
            tables.corrections.get(&project),
            tables.labels.get(&project),
        );
        let mut known = self.taught.lock().unwrap_or_else(PoisonError::into_inner);
        if corrections.is_none() && labels.is_none() {
            known.remove(&project);
            return None;
        }
        if let Some(taught) = known.get(&project)
            && Arc::ptr_eq(&taught.model, model)
            && same(taught.corrections.as_ref(), corrections)
            && same(taught.labels.as_ref(), labels)
        {
            return Some(Arc::clone(taught));
        }
        let all_corrections = corrections.into_iter().flat_map(|all| all.iter());
        let all_labels = labels.into_iter().flat_map(|all| all.iter());
        let examples = Examples::new(
            model,
            all_corrections.map(|(id, config)| (*id, &**config)),
            all_labels.map(|(id, config)| (*id, &**config)),
        );
        match examples {
            Ok(examples) => {
                let taught = Arc::new(Taught {
                    model: Arc::clone(model),
                    corrections: corrections.cloned(),
                    labels: labels.cloned(),
                    examples,
                });
                known.insert(project, Arc::clone(&taught));
                Some(taught)
            }
            Err(error) => {
                tracing::error!(%project, %error, "what the project has taught cannot be worked out");
                known.get(&project).map(Arc::clone)
            }
        }
    }
}

fn rows(model: &Model, webhooks: &[&Webhook<'_>]) -> Vec<Row> {
    let mut features = model.features();
    webhooks
        .iter()
        .map(|webhook| features.read(webhook.headers, webhook.content_type, webhook.body))
        .collect()
}

fn by_rule(tables: &Tables, webhook: &Webhook<'_>) -> Option<Classification> {
    let rules = tables.rules.get(&webhook.project_id)?;
    let rule = rules.decide(webhook.source_id, webhook.headers, webhook.document)?;
    Some(certain(
        &rule.config.category,
        DecidedBy::Rule,
        Some(rule.id),
    ))
}

fn certain(category: &str, decided_by: DecidedBy, id: Option<KnowledgeId>) -> Classification {
    Classification {
        category: category.to_owned(),
        confidence: 1.0,
        runner_up: None,
        decided_by,
        decided_id: id,
        model_version: String::new(),
        shadow: None,
    }
}

/// There is no model, and no rule has decided.
fn nothing() -> Classification {
    Classification {
        confidence: 0.0,
        ..certain(OTHER, DecidedBy::Nothing, None)
    }
}

/// What a project has taught of events like this one; the model's own answer is the runner-up.
fn by_example(model: &Model, (near, likeness): (&Near, f32), answer: &Answer) -> Classification {
    let first = by_probability(model, answer);
    Classification {
        confidence: round(likeness.clamp(0.0, 1.0)),
        runner_up: Some(RunnerUp {
            category: first.category,
            confidence: first.confidence,
        }),
        model_version: first.model_version,
        ..certain(&near.category, near.decided_by, Some(near.id))
    }
}

/// What the model says, or `other` where it is not sure.
pub(super) fn by_probability(model: &Model, answer: &Answer) -> Classification {
    let mut first = (0, 0.0_f32);
    let mut second = (0, 0.0_f32);
    for (at, probability) in answer.probabilities.iter().copied().enumerate() {
        if probability > first.1 {
            (first, second) = ((at, probability), first);
        } else if probability > second.1 {
            second = (at, probability);
        }
    }
    let label = |at: usize| model.labels().get(at).map_or(OTHER, String::as_str);
    let named = |(at, probability): (usize, f32)| RunnerUp {
        category: label(at).to_owned(),
        confidence: round(probability),
    };
    let sure = first.1 >= model.threshold();
    Classification {
        category: if sure { label(first.0) } else { OTHER }.to_owned(),
        confidence: round(first.1),
        // What was first is the runner-up of a doubt, unless it says the same.
        runner_up: Some(named(if sure || label(first.0) == OTHER {
            second
        } else {
            first
        })),
        decided_by: if sure {
            DecidedBy::Model
        } else {
            DecidedBy::Threshold
        },
        decided_id: None,
        model_version: model.version().to_owned(),
        shadow: None,
    }
}

/// Four digits: more would say nothing and make every result longer.
fn round(confidence: f32) -> f32 {
    (confidence * 1e4).round() / 1e4
}
