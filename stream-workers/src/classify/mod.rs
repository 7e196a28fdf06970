//! What kind of event a webhook reports: features, model, threshold.
//!
//! - `words`, `features`: what the model reads; shared with training.
//! - `model`: a model directory through ONNX Runtime.
//! - `locate`: where model and library are found.

mod features;
mod locate;
mod model;
mod rules;
mod words;

pub use features::{BUCKETS, Features, MAX_FEATURES, SCHEME};
pub use locate::{library, model_dir};
pub use model::{Model, ModelError};
pub use rules::{Asked, Explanation, Rule, Rules};

use router_schemas::{
    Classification,
    processed::{DecidedBy, RunnerUp},
};

/// The category of what the model is not sure about.
const OTHER: &str = "other";

/// Turns the model's answer into a classification. Pure.
#[must_use]
pub fn decide(model: &Model, probabilities: &[f32]) -> Classification {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    let named = |place: usize| {
        let index = *order.get(place)?;
        Some((
            model.labels().get(index)?.clone(),
            round(probabilities[index]),
        ))
    };
    let (category, confidence) = named(0).unwrap_or((OTHER.to_owned(), 0.0));
    let runner_up = named(1).map(|(category, confidence)| RunnerUp {
        category,
        confidence,
    });
    let model_version = model.version().to_owned();
    if confidence >= model.threshold() {
        let decided_by = DecidedBy::Model;
        return Classification {
            category,
            confidence,
            runner_up,
            decided_by,
            decided_id: None,
            model_version,
            shadow: None,
        };
    }
    // What was first is the runner-up of a doubt.
    let runner_up = Some(RunnerUp {
        category,
        confidence,
    });
    Classification {
        category: OTHER.to_owned(),
        confidence,
        runner_up,
        decided_by: DecidedBy::Threshold,
        decided_id: None,
        model_version,
        shadow: None,
    }
}

/// Four digits: more would say nothing and make every result longer.
fn round(confidence: f32) -> f32 {
    (confidence * 1e4).round() / 1e4
}
