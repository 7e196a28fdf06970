//! Commands that end: `replay`, `classify`, and `features` for training.

pub mod classify;
pub mod replay;
