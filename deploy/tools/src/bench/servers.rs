//! What the edge is measured against, each a process of its own so that the system accounts for its CPU:
//! `bare` reads a body and drops it; `naive` is the edge that anyone would write first, axum and a
//! FutureProducer, with neither authentication nor limits nor metrics.

use std::{future::Future, net::SocketAddr, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::post,
};
use clap::Args;
use rdkafka::{
    ClientConfig,
    client::DefaultClientContext,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
    util::AsyncRuntime,
};
use tokio::net::TcpListener;

/// Threads of both servers: what `#[tokio::main]` gives on the machine that the aims are stated for.
const WORKER_THREADS: usize = 2;

#[derive(Args, Debug)]
pub struct Arguments {
    #[arg(long)]
    addr: SocketAddr,
}

#[derive(Args, Debug)]
pub struct NaiveArguments {
    #[arg(long)]
    addr: SocketAddr,
    #[arg(long)]
    brokers: String,
    #[arg(long)]
    topic: String,
}

/// Serves until it is killed.
///
/// # Errors
/// The address is taken.
pub fn run_bare(arguments: &Arguments) -> anyhow::Result<()> {
    let app = Router::new().route("/webhooks", post(drop_body));
    serve(arguments.addr, || Ok(app))
}

async fn drop_body(body: Bytes) -> StatusCode {
    drop(body);
    StatusCode::ACCEPTED
}

/// Serves until it is killed.
///
/// # Errors
/// The address is taken, or librdkafka refuses the settings.
pub fn run_naive(arguments: &NaiveArguments) -> anyhow::Result<()> {
    serve(arguments.addr, || {
        let producer: Producer = ClientConfig::new()
            .set("bootstrap.servers", &arguments.brokers)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            .create()?;
        let state = Naive {
            producer,
            topic: arguments.topic.clone().into(),
        };
        Ok(Router::new()
            .route("/webhooks", post(produce))
            .with_state(state))
    })
}

type Producer = FutureProducer<DefaultClientContext, Tokio>;

/// rdkafka's own tokio runtime sits behind a feature that nothing else here needs.
struct Tokio;

impl AsyncRuntime for Tokio {
    type Delay = tokio::time::Sleep;

    fn spawn<T>(task: T)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(task);
    }

    fn delay_for(duration: Duration) -> Self::Delay {
        tokio::time::sleep(duration)
    }
}

#[derive(Clone)]
struct Naive {
    producer: Producer,
    topic: std::sync::Arc<str>,
}

async fn produce(State(naive): State<Naive>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let id = uuid::Uuid::now_v7().to_string();
    let mut record_headers = OwnedHeaders::new_with_capacity(headers.len() + 1);
    for (name, value) in &headers {
        record_headers = record_headers.insert(Header {
            key: name.as_str(),
            value: Some(value.as_bytes()),
        });
    }
    let record = FutureRecord::to(&naive.topic)
        .key(&id)
        .payload(body.as_ref())
        .headers(record_headers);
    match naive.producer.send(record, Duration::from_secs(5)).await {
        Ok(_) => (StatusCode::ACCEPTED, format!("{{\"id\":\"{id}\"}}")),
        Err((error, _)) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

fn serve(addr: SocketAddr, app: impl FnOnce() -> anyhow::Result<Router>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let app = app()?;
        let listener = TcpListener::bind(addr)
            .await
            .with_context(|| format!("listening on {addr}"))?;
        axum::serve(listener, app).await.context("serving")
    })
}
