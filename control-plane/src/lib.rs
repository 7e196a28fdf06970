//! The control plane: people's settings in PostgreSQL, and how they reach the data plane.
//!
//! A change is written to its table, to `config.outbox` and to the audit log in one transaction
//! ([`store`]), and carried to the topic `control.config` by one publisher at a time ([`publisher`]), from
//! where every edge and worker follows it. `serve` keeps the publisher running and listens to what the data
//! plane has to tell ([`control_events`]); everything else is a command that runs and ends ([`commands`]).
//! [`audit`] reads the data plane's own records and says whether the ledgers of account balance.
//!
//! Nothing here is on the path of a webhook: when this program or PostgreSQL is down, the data plane goes
//! on with the settings it has.

pub mod audit;
pub mod commands;
pub mod condition;
pub mod config_topic;
pub mod control_events;
pub mod error;
pub mod example;
mod kafka;
pub mod output;
pub mod publisher;
pub mod republish;
pub mod serve;
pub mod settings;
pub mod store;
pub mod topics;
pub mod validate;
