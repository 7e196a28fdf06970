//! Commands that end: `replay`, `classify`, and `tokens` for training, `measure`.

pub mod classify;
pub mod measure;
pub mod replay;
