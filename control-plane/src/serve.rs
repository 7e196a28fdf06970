//! `control-plane serve`: the publisher, the reader of control events, and health, readiness and metrics.

use std::{net::SocketAddr, time::Duration};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use router_runtime::{
    admin,
    kafka::KafkaSettings,
    lifecycle::{Readiness, ReadinessPart, Shutdown},
};
use sqlx::PgPool;

use crate::{control_events, error::CommandError, publisher, settings::Settings};

/// How often database and Kafka are asked whether they are there, and how long they may take to say so.
const CHECK_EVERY: Duration = Duration::from_secs(2);
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// Publisher, events, readiness, and room for what asks beside them.
const CONNECTIONS: u32 = 8;

/// Runs until `shutdown`.
///
/// # Errors
/// The address is taken, or a part ended for a reason that only a new process can mend.
pub async fn serve(
    settings: &Settings,
    addr: SocketAddr,
    shutdown: Shutdown,
) -> Result<(), CommandError> {
    let pool = settings.database(CONNECTIONS)?;
    let listener = admin::bind(addr).await?;
    let readiness = Readiness::default();
    let (database, kafka, events) = (
        readiness.part("database"),
        readiness.part("kafka"),
        readiness.part("control-events"),
    );
    tracing::info!(%addr, kafka = settings.kafka.brokers, prefix = settings.kafka.topic_prefix, "control plane starts");
    let kafka_checks = watch_kafka(settings.kafka.clone(), kafka, shutdown.clone())?;
    let publisher = publisher::follow(pool.clone(), settings.kafka.clone(), shutdown.clone());
    let parts = [
        start(
            check_database(pool.clone(), database, shutdown.clone()),
            &shutdown,
        ),
        start(publisher, &shutdown),
        start(
            admin::serve(listener, readiness, shutdown.clone()),
            &shutdown,
        ),
    ];
    let followed =
        control_events::follow(pool.clone(), &settings.kafka, events, shutdown.clone()).await;
    if let Err(error) = followed {
        shutdown.fail(&format!("{error:#}"));
    }
    // It ends before the wish to stop only by an error, which has become that wish.
    shutdown.trigger();
    for part in parts {
        part.await.map_err(anyhow::Error::from)?;
    }
    tokio::task::block_in_place(|| kafka_checks.join()).ok();
    pool.close().await;
    tracing::info!("control plane stopped");
    Ok(shutdown.outcome()?)
}

/// Starts a part that ends only when the process does: a panic in it must not go unnoticed.
fn start(
    part: impl Future<Output = ()> + Send + 'static,
    shutdown: &Shutdown,
) -> tokio::task::JoinHandle<()> {
    let (part, shutdown) = (tokio::spawn(part), shutdown.clone());
    tokio::spawn(async move {
        if let Err(panic) = part.await {
            shutdown.fail(&panic.to_string());
        }
    })
}

async fn check_database(pool: PgPool, ready: ReadinessPart, shutdown: Shutdown) {
    while !shutdown.requested() {
        // The tables must be there, not only a server.
        let asked = sqlx::query("select 1 from config.outbox limit 1").execute(&pool);
        let answered = tokio::time::timeout(CHECK_TIMEOUT, asked).await;
        ready.set(matches!(answered, Ok(Ok(_))));
        tokio::select! {
            () = shutdown.wait() => {}
            () = tokio::time::sleep(CHECK_EVERY) => {}
        }
    }
    ready.set(false);
}

/// Asks Kafka for the config topic, on a thread of its own: librdkafka's call blocks.
fn watch_kafka(
    kafka: KafkaSettings,
    ready: ReadinessPart,
    shutdown: Shutdown,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let client: BaseConsumer = kafka.client_config().create()?;
    let topic = kafka.names().config;
    let check = move || {
        while !shutdown.requested() {
            let metadata = client.fetch_metadata(Some(&topic), CHECK_TIMEOUT);
            let there = metadata.is_ok_and(|metadata| {
                metadata
                    .topics()
                    .iter()
                    .any(|topic| topic.error().is_none() && !topic.partitions().is_empty())
            });
            ready.set(there);
            let mut waited = Duration::ZERO;
            while waited < CHECK_EVERY && !shutdown.requested() {
                std::thread::sleep(Duration::from_millis(100));
                waited += Duration::from_millis(100);
            }
        }
        ready.set(false);
    };
    Ok(std::thread::Builder::new()
        .name("kafka-check".into())
        .spawn(check)?)
}
