//! Which tokens of a webhook weighed most: how much surer or less sure the model would be without each.

use super::{
    features::example,
    model::{Model, ModelError},
};
use crate::headers::SenderHeaders;

/// A token, and what it does for the category: the change of its log odds.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Weight {
    pub token: String,
    pub weight: f32,
}

/// Tokens that speak for or against the model's answer, the weightiest first. The model is asked once for each
/// token: this is for people, not for traffic.
///
/// # Errors
/// The model does not answer.
pub fn explain(
    model: &Model,
    headers: &SenderHeaders<'_>,
    content_type: Option<&str>,
    body: &[u8],
    most: usize,
) -> Result<Vec<Weight>, ModelError> {
    let tokens = example(headers, content_type, body).tokens;
    let mut features = model.features();
    let without = |skipped: usize| {
        let tokens = tokens.iter().enumerate();
        tokens
            .filter(move |(at, _)| *at != skipped)
            .map(|(_, token)| token.as_str())
    };
    let rows: Vec<_> = (0..=tokens.len())
        .map(|skipped| features.read_tokens(without(skipped)))
        .collect();
    let answers = model.answers(&rows)?;
    // The last row is that of which nothing was left out.
    let Some((whole, parts)) = answers.split_last() else {
        return Ok(Vec::new());
    };
    let best = whole.probabilities.iter().enumerate();
    let best = best
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map_or(0, |(at, _)| at);
    let odds = |probabilities: &[f32]| {
        let p = probabilities[best].clamp(1e-6, 1.0 - 1e-6);
        (p / (1.0 - p)).ln()
    };
    let mut weights: Vec<Weight> = tokens
        .iter()
        .zip(parts)
        .map(|(token, part)| Weight {
            token: token.clone(),
            weight: odds(&whole.probabilities) - odds(&part.probabilities),
        })
        .collect();
    weights.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()));
    weights.truncate(most);
    Ok(weights)
}
