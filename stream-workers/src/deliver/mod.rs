//! Deliveries: from a record to a request, and from its answer to an outcome.
//!
//! - `address`: which addresses a destination may have.
//! - `client`: one request, bounded in time and in what is read of the answer.
//! - `signature`: Standard Webhooks.
//! - `lanes`: each destination's share of what is in flight, and its pace.
//! - `verdict`: what an answer means. Pure.
//! - `stage`: a delivery from record to outcome.
//! - `role`: the consumers of first attempts and of redeliveries.

pub mod address;
pub mod client;
pub mod lanes;
pub mod role;
pub mod signature;
pub mod stage;
pub mod verdict;
