//! The cases that a model brings along: webhooks, and what its training said of them. A model that answers
//! otherwise here is shown something else than it was there, and is not used.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::model::{Model, ModelError};
use crate::headers::SenderHeaders;

/// Sums are added up in another order there.
const TOLERANCE: f32 = 0.02;

#[derive(Debug, Deserialize)]
struct Case {
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    content_type: Option<String>,
    body: String,
    /// The label with the highest probability, and how high that is.
    category: String,
    confidence: f32,
}

pub(super) fn check(model: &Model, lines: &str) -> Result<(), ModelError> {
    let failed = |case: usize, why: String| ModelError::Case {
        case: case + 1,
        why,
    };
    let mut features = model.features();
    let mut rows = Vec::new();
    let mut cases = Vec::new();
    for (at, line) in lines.lines().enumerate() {
        let case: Case =
            serde_json::from_str(line).map_err(|error| failed(at, error.to_string()))?;
        let headers = case.headers.iter().map(|(n, v)| (n.clone(), v.clone()));
        let headers = SenderHeaders::from_pairs(headers);
        rows.push(features.read(&headers, case.content_type.as_deref(), case.body.as_bytes()));
        cases.push(case);
    }
    if cases.is_empty() {
        return Err(failed(0, "cases.jsonl is empty".to_owned()));
    }
    for (at, (case, answer)) in cases.iter().zip(model.answers(&rows)?).enumerate() {
        let length = answer.embedding.iter().map(|x| x * x).sum::<f32>().sqrt();
        if (length - 1.0).abs() > TOLERANCE {
            return Err(ModelError::Embedding(format!(
                "of length {length:.3}, not 1, for its case {}",
                at + 1
            )));
        }
        let labels = model.labels().iter().zip(&answer.probabilities);
        let Some((label, confidence)) = labels.max_by(|a, b| a.1.total_cmp(b.1)) else {
            return Err(failed(at, "no answer".to_owned()));
        };
        let near = (confidence - case.confidence).abs() <= TOLERANCE;
        if *label != case.category || !near {
            let (wanted, sure) = (&case.category, case.confidence);
            let why = format!("{label} with {confidence:.3} instead of {wanted} with {sure:.3}");
            return Err(failed(at, why));
        }
    }
    Ok(())
}
