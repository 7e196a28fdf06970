//! Load: bodies like those of real senders, an HTTP/1.1 client that costs little beside what it measures,
//! and the histogram both fill. Used by `bench`; what to measure and what it means is decided there.

pub mod bodies;
pub mod client;
pub mod histogram;
pub mod response;

pub use client::{LoadPlan, LoadResult, Pace};
pub use histogram::{Histogram, Latency};
