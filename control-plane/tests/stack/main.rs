//! The real program on real Kafka and PostgreSQL (`ROUTER_TEST_STACK=1`, `KAFKA_BROKERS`, `DATABASE_URL`).
#![allow(clippy::unwrap_used, unreachable_pub)]

mod audit;
mod classifier;
mod commands;
mod config_topic;
mod publisher;
mod support;
