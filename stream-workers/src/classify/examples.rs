//! Examples that users gave, as vectors: the nearest decides, if it is near enough.
//!
//! A correction is about one kind of event of one source: what it decides is nearly the same, and where both name
//! their event, the names agree. A label of a project's own is as wide as its examples: how near is near enough is
//! chosen from them.

use std::collections::{BTreeMap, HashMap};

use router_schemas::{
    KnowledgeId, SourceId,
    config::{CorrectionConfig, Example, LabelConfig},
    processed::DecidedBy,
};

use super::{
    features::Row,
    model::{Answer, Model, ModelError},
    reading::SCHEME,
};

/// A label is never wider than this, however unlike its examples are.
const WIDEST: f32 = 0.6;
/// What is a little less like the examples than they are like each other still belongs to them.
const SLACK: f32 = 0.05;
/// Share of the words of two events' names that they must have in common to be of one kind.
const SAME_NAME: f32 = 0.5;
/// Lanes of a vector register: sums in that many parts can be done at once.
const LANES: usize = 8;

/// Examples of one project, embedded by one model.
#[derive(Debug, Default)]
pub(super) struct Examples {
    near: Vec<Near>,
    /// One embedding after the other, in the order of `near`.
    embeddings: Vec<f32>,
    width: usize,
}

/// One example.
#[derive(Debug)]
pub(super) struct Near {
    pub(super) id: KnowledgeId,
    pub(super) category: String,
    pub(super) decided_by: DecidedBy,
    /// Corrections: the source, and the words of the event's name.
    only: Option<(SourceId, Vec<i32>)>,
    /// The least likeness that decides.
    least: f32,
}

/// Both have length 1, so this is their cosine.
fn likeness(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

impl Near {
    /// Whether an event of this source with these words in its name may be of the kind of this example.
    fn fits(&self, source: SourceId, event: &[i32]) -> bool {
        let Some((own_source, own)) = &self.only else {
            return true;
        };
        if *own_source != source {
            return false;
        }
        if own.is_empty() || event.is_empty() {
            return own.is_empty() == event.is_empty();
        }
        let shared = own.iter().filter(|word| event.contains(word)).count();
        let all = own.len() + event.len() - shared;
        shared as f32 >= SAME_NAME * all as f32
    }
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
        let same_event = model.same_event();
        let mut found = Self::default();
        let corrections: Vec<_> = corrections.collect();
        let embedded = embed(model, corrections.iter().map(|(_, config)| &config.example))?;
        for ((id, config), embedded) in corrections.iter().zip(embedded) {
            if let Some((row, answer)) = embedded {
                let near = Near {
                    id: *id,
                    category: config.category.clone(),
                    decided_by: DecidedBy::Correction,
                    only: Some((config.source_id, row.event)),
                    least: same_event,
                };
                found.push(near, &answer.embedding);
            }
        }
        let first_label = found.near.len();
        let mut told = HashMap::new();
        for (id, config) in labels {
            told.insert(id, config.threshold);
            let embedded = embed(model, config.examples.iter())?;
            for (_, answer) in embedded.into_iter().flatten() {
                let near = Near {
                    id,
                    category: config.name.clone(),
                    decided_by: DecidedBy::Label,
                    only: None,
                    least: same_event,
                };
                found.push(near, &answer.embedding);
            }
        }
        found.choose(first_label, same_event, &told);
        Ok(found)
    }

    fn push(&mut self, near: Near, embedding: &[f32]) {
        self.width = embedding.len();
        self.near.push(near);
        self.embeddings.extend_from_slice(embedding);
    }

    fn embedding(&self, at: usize) -> &[f32] {
        &self.embeddings[at * self.width..(at + 1) * self.width]
    }

    /// How near is near enough for each example of a label.
    fn choose(
        &mut self,
        first_label: usize,
        same_event: f32,
        told: &HashMap<KnowledgeId, Option<f32>>,
    ) {
        let mut places: BTreeMap<KnowledgeId, Vec<usize>> = BTreeMap::new();
        for at in first_label..self.near.len() {
            places.entry(self.near[at].id).or_default().push(at);
        }
        for (id, own) in &places {
            let told = told.get(id).copied().flatten();
            let nearest = |at: usize, others: &mut dyn Iterator<Item = usize>| {
                others
                    .map(|other| likeness(self.embedding(at), self.embedding(other)))
                    .fold(0.0_f32, f32::max)
            };
            let spread = own.iter().map(|at| {
                let mut others = own.iter().copied().filter(|other| other != at);
                nearest(*at, &mut others)
            });
            let spread = (own.len() > 1).then(|| spread.fold(1.0_f32, f32::min));
            let chosen: Vec<f32> = own
                .iter()
                .map(|at| {
                    let mut foreign =
                        (first_label..self.near.len()).filter(|other| self.near[*other].id != *id);
                    told.unwrap_or_else(|| least(spread, nearest(*at, &mut foreign), same_event))
                })
                .collect();
            for (at, least) in own.iter().zip(chosen) {
                self.near[*at].least = least;
            }
        }
    }

    /// The example that this belongs to, and how like it is: the nearest of those that are near enough.
    pub(super) fn find(
        &self,
        source: SourceId,
        row: &Row,
        answer: &Answer,
    ) -> Option<(&Near, f32)> {
        if self.width != answer.embedding.len() {
            return None;
        }
        let mut best: Option<(&Near, f32)> = None;
        for (near, embedding) in self
            .near
            .iter()
            .zip(self.embeddings.chunks_exact(self.width))
        {
            let likeness = likeness(embedding, &answer.embedding);
            let nearer = likeness >= near.least && best.is_none_or(|(_, other)| likeness > other);
            if nearer && near.fits(source, &row.event) {
                best = Some((near, likeness));
            }
        }
        best
    }
}

/// How near is near enough for an example of a label: as near as its label's examples are to each other (`spread`,
/// none where there is but one), and nearer than half of the way to the nearest example of another label.
fn least(spread: Option<f32>, foreign: f32, same_event: f32) -> f32 {
    let wanted = spread.map_or(same_event, |spread| {
        (spread - SLACK).min(same_event).max(WIDEST.min(same_event))
    });
    if foreign < wanted {
        wanted
    } else {
        f32::midpoint(foreign, 1.0).min(0.99)
    }
}

/// None for an example of another reading.
fn embed<'a>(
    model: &Model,
    examples: impl Iterator<Item = &'a Example>,
) -> Result<Vec<Option<(Row, Answer)>>, ModelError> {
    let mut features = model.features();
    let read = |example: &Example| {
        let row = features.read_tokens(example.tokens.iter().map(String::as_str));
        (row, example.scheme == SCHEME)
    };
    let (rows, usable): (Vec<Row>, Vec<bool>) = examples.map(read).unzip();
    let answers = model.answers(&rows)?;
    let all = rows.into_iter().zip(answers).zip(usable);
    Ok(all.map(|(both, usable)| usable.then_some(both)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeness_is_the_cosine_whatever_the_width() {
        for width in [1, 7, 8, 9, 128, 131] {
            let a: Vec<f32> = (0..width).map(|i| i as f32 * 0.1).collect();
            let b: Vec<f32> = (0..width).map(|i| 1.0 - i as f32 * 0.01).collect();
            let plain: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            assert!(
                (likeness(&a, &b) - plain).abs() < 1e-2 * plain.abs().max(1.0),
                "{width}"
            );
        }
    }

    #[test]
    fn thresholds_lie_where_they_can_be_met_whatever_the_model_says() {
        for same_event in [0.0, 0.3, 0.6, 0.9, 1.0] {
            for spread in [None, Some(0.0), Some(0.7), Some(1.0)] {
                for foreign in [0.0, 0.5, 0.95, 1.0] {
                    let least = least(spread, foreign, same_event);
                    assert!(
                        (0.0..=1.0).contains(&least),
                        "{same_event} {spread:?} {foreign}: {least}"
                    );
                }
            }
        }
        assert!((least(Some(0.8), 0.2, 0.9) - 0.75).abs() < 1e-6);
        assert!((least(Some(0.8), 0.9, 0.9) - 0.95).abs() < 1e-6);
        assert!((least(None, 0.0, 0.7) - 0.7).abs() < 1e-6);
    }

    #[test]
    fn a_correction_is_for_its_source_and_its_event() {
        let (mine, other) = (SourceId::generate(), SourceId::generate());
        let near = Near {
            id: KnowledgeId::generate(),
            category: "x".into(),
            decided_by: DecidedBy::Correction,
            only: Some((mine, vec![1, 2])),
            least: 0.7,
        };
        assert!(near.fits(mine, &[1, 2]));
        assert!(near.fits(mine, &[2, 1, 3]));
        assert!(
            !near.fits(mine, &[1, 3]),
            "invoice.paid is not invoice.voided"
        );
        assert!(!near.fits(mine, &[]));
        assert!(!near.fits(other, &[1, 2]));
    }
}
