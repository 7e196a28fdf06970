//! The work behind the edge, as a library of pure parts and the roles that wire them to Kafka.
//!
//! Pure: `body`, `headers`, `classify`, `extract`, `process::matching`, `retry::backoff`,
//! `deliver::verdict`. The control plane's testers call the same code as the workers.

pub mod archive;
pub mod body;
pub mod classify;
pub mod deliver;
pub mod directory;
pub mod extract;
pub mod headers;
pub mod jobs;
pub mod lines;
pub mod process;
pub mod retry;
pub mod roles;
