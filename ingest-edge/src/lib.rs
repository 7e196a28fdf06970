//! The edge: HTTP in, Kafka out.
//!
//! # The way of a request
//! ```text
//! server -> app (route) -> access (who) -> body (bounded read) -> record (headers) -> intake (produce, await)
//! ```
//! - `server`: sockets, threads, timeouts, drain.
//! - `app`: the routes, and the three steps prepare, enqueue, await.
//! - `access`: keys and sources as `control.config` tells them, and each key's rate limit.
//! - `body`: reading a body within its bounds.
//! - `record`: what is stored beside the body; credentials are blanked here.
//! - `intake`: the producer and its acknowledgements.
//! - `problem`: every refusal, and the only place where a status is chosen.
//!
//! The edge changes no body, decides no route and opens no database.

pub mod access;
pub mod app;
pub mod body;
pub mod intake;
pub mod problem;
pub mod record;
pub mod server;
pub mod settings;
