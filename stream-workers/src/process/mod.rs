//! The `process` role: from a raw webhook to a result and its deliveries.
//!
//! - `stage`: a batch from records to outcomes.
//! - `matching`: which destinations an event goes to. Pure.
//! - `compose`: the body that a destination receives.
//! - `role`: the consumers of live traffic and of replays.

pub mod compose;
pub mod matching;
pub mod role;
pub mod stage;
