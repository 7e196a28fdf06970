//! `/healthz`, `/readyz` and `/metrics` of a process, on a listener of their own.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use axum::{Json, Router, http::StatusCode, response::IntoResponse, routing::get};
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    lifecycle::{Readiness, Shutdown},
    telemetry,
};

/// The three routes, to be merged into a router or served alone.
pub fn routes(readiness: Readiness) -> Router {
    let ready = move || async move {
        let parts: serde_json::Map<_, _> = readiness
            .parts()
            .into_iter()
            .map(|(name, ready)| (name, json!(ready)))
            .collect();
        let status = match readiness.is_ready() {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        (
            status,
            Json(json!({ "ready": status == StatusCode::OK, "parts": parts })),
        )
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

async fn metrics() -> impl IntoResponse {
    process_metrics();
    (
        [("content-type", "text/plain; version=0.0.4")],
        telemetry::render_metrics(),
    )
}

/// Resident memory and CPU time, from the operating system's own accounting.
fn process_metrics() {
    if let Some(resident_kb) = resident_kb() {
        metrics::gauge!("process_resident_memory_bytes").set(resident_kb as f64 * 1024.0);
    }
    if let Some(seconds) = cpu_seconds() {
        metrics::gauge!("process_cpu_seconds_total").set(seconds);
    }
}

fn resident_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command name may hold spaces: fields are counted behind its closing parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    // Linux counts in ticks of 1/100 s on every platform we support.
    Some((user + system) / 100.0)
}

/// Binds `addr`, so that a port in use is an error at start.
///
/// # Errors
/// The address is taken or not ours.
pub async fn bind(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .with_context(|| format!("cannot listen on {addr}"))
}

/// Serves the three routes until `shutdown`.
pub async fn serve(listener: TcpListener, readiness: Readiness, shutdown: Shutdown) {
    let upkeep_until = shutdown.clone();
    tokio::spawn(async move {
        while !upkeep_until.requested() {
            telemetry::upkeep();
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    });
    let stop = async move { shutdown.wait().await };
    let served = axum::serve(listener, routes(readiness))
        .with_graceful_shutdown(stop)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "admin listener ended");
    }
}
