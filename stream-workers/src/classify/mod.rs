//! What kind of event a webhook reports, and who says so: rules and examples of the project, or the model.
//!
//! - `classifier`: the order of who decides.
//! - `rules`, `place`: conditions on headers and body. Pure.
//! - `examples`: labels of a project's own and corrections, by likeness.
//! - `models`: which models are in force, changed without a restart.
//! - `model`, `cases`: a model directory through ONNX Runtime, and the cases by which it is checked.
//! - `reading`: headers and body as tokens; shared with training.
//! - `features`, `vocabulary`: tokens as the numbers that the model takes.
//! - `explain`: which tokens weighed most.
//! - `locate`: where model and library are found.

mod cases;
mod classifier;
mod examples;
mod explain;
mod features;
mod locate;
mod model;
mod models;
mod place;
mod reading;
mod rules;
mod vocabulary;

pub use classifier::{Classifier, Webhook};
pub use explain::{Weight, explain};
pub use features::{BUCKETS, Features, MAX_TOKENS, MAX_WORDS, Row, count_tokens, example};
pub use locate::{library, model_dir};
pub use model::{Answer, Model, ModelError};
pub use models::{InForce, Models};
pub use reading::SCHEME;
pub use rules::{Asked, Explanation, Rule, Rules};
pub use vocabulary::Vocabulary;

/// The category of what nobody is sure about.
const OTHER: &str = "other";
