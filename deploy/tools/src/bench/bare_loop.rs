//! What sending costs at the least: reqwest alone, a fixed number of requests in flight, nothing recorded.
//! `bench deliver` compares the role with it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::Serialize;

use super::machine::process_cpu;
use crate::load::bodies::samples;

const IN_FLIGHT: usize = 64;

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct BareLoop {
    pub(super) requests: u64,
    pub(super) in_flight: usize,
    pub(super) per_second: f64,
    pub(super) cpu_us_per_request: f64,
}

/// Posts `requests` bodies to the receiver from this process, which does nothing else meanwhile.
///
/// # Errors
/// A request fails.
pub(super) fn run(receiver: SocketAddr, requests: u64) -> anyhow::Result<BareLoop> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let cpu_before = process_cpu(std::process::id())?;
    let started = Instant::now();
    runtime.block_on(post_all(receiver, requests))?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu: Duration = process_cpu(std::process::id())?.saturating_sub(cpu_before);
    Ok(BareLoop {
        requests,
        in_flight: IN_FLIGHT,
        per_second: requests as f64 / seconds,
        cpu_us_per_request: cpu.as_secs_f64() * 1e6 / requests as f64,
    })
}

async fn post_all(receiver: SocketAddr, requests: u64) -> anyhow::Result<()> {
    let client = crate::http::client_builder()
        .pool_max_idle_per_host(IN_FLIGHT)
        .build()?;
    let url: reqwest::Url = format!("http://{receiver}/bare").parse()?;
    let bodies: Arc<Vec<_>> = Arc::new(
        samples(256, 37)
            .into_iter()
            .map(|sample| bytes_of(sample.body))
            .collect(),
    );
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (client, url) = (client.clone(), url.clone());
        let (bodies, next) = (Arc::clone(&bodies), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if turn >= requests {
                    return anyhow::Ok(());
                }
                let body = bodies[turn as usize % bodies.len()].clone();
                let response = client
                    .post(url.clone())
                    .header("content-type", "application/json")
                    .body(body)
                    .send()
                    .await?
                    .error_for_status()?;
                response.bytes().await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.context("a sender's task failed")??;
    }
    Ok(())
}

fn bytes_of(body: Vec<u8>) -> axum::body::Bytes {
    body.into()
}
