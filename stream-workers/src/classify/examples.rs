//! Examples that users gave, as vectors: the nearest decides, if it is near enough.
//!
//! A correction is about one kind of event, so only what is nearly the same is decided by it. A label of a
//! project's own is as wide as its examples: how near is near enough is chosen from them.

use router_schemas::{
    KnowledgeId,
    config::{CorrectionConfig, Example, LabelConfig},
};

use super::{
    model::{Model, ModelError},
    reading::SCHEME,
};

/// A label is never wider than this, however unlike its examples are.
const WIDEST: f32 = 0.6;
/// What is a little less like the examples than they are like each other still belongs to them.
const SLACK: f32 = 0.05;

/// Examples of one project, embedded by one model.
#[derive(Debug, Default)]
pub(super) struct Examples {
    corrections: Vec<Near>,
    labels: Vec<Near>,
}

/// One example.
#[derive(Debug)]
pub(super) struct Near {
    pub(super) id: KnowledgeId,
    pub(super) category: String,
    embedding: Vec<f32>,
    /// The least likeness that decides.
    least: f32,
}

/// Both have length 1, so this is their cosine.
fn likeness(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Examples {
    /// Embeds what a project has taught.
    ///
    /// # Errors
    /// The model does not answer.
    pub(super) fn new<'a>(
        model: &Model,
        corrections: impl Iterator<Item = (KnowledgeId, &'a CorrectionConfig)>,
        labels: impl Iterator<Item = (KnowledgeId, &'a LabelConfig)>,
    ) -> Result<Self, ModelError> {
        let corrections: Vec<_> = corrections.collect();
        let examples: Vec<&Example> = corrections
            .iter()
            .map(|(_, config)| &config.example)
            .collect();
        let embedded = embed(model, &examples)?;
        let corrections = corrections.iter().zip(embedded);
        let corrections = corrections.filter_map(|((id, config), embedding)| {
            Some(Near {
                id: *id,
                category: config.category.clone(),
                embedding: embedding?,
                least: model.same_event(),
            })
        });
        let corrections = corrections.collect();
        let mut all = Vec::new();
        let mut told = Vec::new();
        for (id, config) in labels {
            let examples: Vec<&Example> = config.examples.iter().collect();
            for embedding in embed(model, &examples)?.into_iter().flatten() {
                told.push(config.threshold);
                all.push(Near {
                    id,
                    category: config.name.clone(),
                    embedding,
                    least: model.same_event(),
                });
            }
        }
        let least: Vec<f32> = (0..all.len())
            .map(|at| told[at].unwrap_or_else(|| least(&all, at, model.same_event())))
            .collect();
        for (near, least) in all.iter_mut().zip(least) {
            near.least = least;
        }
        Ok(Self {
            corrections,
            labels: all,
        })
    }

    /// The correction that this is about, and how like it is.
    pub(super) fn correction(&self, embedding: &[f32]) -> Option<(&Near, f32)> {
        nearest(&self.corrections, embedding)
    }

    /// The label that this belongs to, and how like its nearest example it is.
    pub(super) fn label(&self, embedding: &[f32]) -> Option<(&Near, f32)> {
        nearest(&self.labels, embedding)
    }
}

/// The nearest of those that are near enough.
fn nearest<'a>(examples: &'a [Near], embedding: &[f32]) -> Option<(&'a Near, f32)> {
    examples
        .iter()
        .map(|near| (near, likeness(&near.embedding, embedding)))
        .filter(|(near, likeness)| *likeness >= near.least)
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// How near is near enough for an example of a label: as near as its label's examples are to each other, and
/// nearer than any example of another label is.
fn least(all: &[Near], at: usize, same_event: f32) -> f32 {
    let label = all[at].id;
    let own: Vec<&Near> = all.iter().filter(|near| near.id == label).collect();
    if own.len() < 2 {
        return same_event;
    }
    let spread = own.iter().map(|near| {
        let others = own.iter().filter(|other| !std::ptr::eq(**other, *near));
        let likenesses = others.map(|other| likeness(&near.embedding, &other.embedding));
        likenesses.fold(0.0_f32, f32::max)
    });
    let spread = spread.fold(1.0_f32, f32::min);
    let foreign = all.iter().filter(|near| near.id != label);
    let foreign = foreign
        .map(|near| likeness(&near.embedding, &all[at].embedding))
        .fold(0.0_f32, f32::max);
    let wanted = (spread - SLACK).clamp(WIDEST, same_event);
    if foreign < wanted {
        wanted
    } else {
        // As far from the stranger as from perfect likeness.
        (f32::midpoint(foreign, 1.0)).min(0.99)
    }
}

/// None for an example of another reading.
fn embed(model: &Model, examples: &[&Example]) -> Result<Vec<Option<Vec<f32>>>, ModelError> {
    let mut features = model.features();
    let rows: Vec<_> = examples
        .iter()
        .map(|example| features.read_tokens(example.tokens.iter().map(String::as_str)))
        .collect();
    let answers = model.answers(&rows)?;
    Ok(examples
        .iter()
        .zip(answers)
        .map(|(example, answer)| (example.scheme == SCHEME).then_some(answer.embedding))
        .collect())
}
