//! Retries: how long to wait, by which delay topics, and the role that moves what is due.
//!
//! - `backoff`: the delay before an attempt, pure.
//! - `ladder`: a delay as a sum of rungs, pure.
//! - `park`: a delivery on its way into the delay topics.
//! - `role`: one consumer for each rung; what has waited goes to the next rung or to the redeliveries.

pub mod backoff;
pub mod ladder;
pub mod park;
pub mod role;
