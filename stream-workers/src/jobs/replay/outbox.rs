//! Records on their way to Kafka, and how many it has acknowledged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use router_runtime::{
    kafka::KafkaSettings,
    lifecycle::Shutdown,
    producer::{AckSink, Failure, HeaderList, Producer},
};

use super::pace::Pace;

const PAUSE: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Acks {
    acked: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

impl AckSink for Acks {
    type Token = ();

    fn acked(&self, (): (), result: Result<(), Failure>) {
        let counter = match result {
            Ok(()) => &self.acked,
            Err(Failure::Refused(_)) => &self.refused,
            Err(_) => &self.failed,
        };
        counter.fetch_add(1, Ordering::AcqRel);
    }
}

/// Produces, unless this is a dry run.
pub(super) struct Outbox {
    producer: Option<Producer<Acks>>,
    pace: Pace,
    acks: Arc<Acks>,
    sent: AtomicU64,
}

impl Outbox {
    pub(super) fn new(
        kafka: &KafkaSettings,
        shutdown: &Shutdown,
        dry_run: bool,
    ) -> anyhow::Result<Self> {
        let acks = Arc::new(Acks::default());
        let make = || {
            Producer::new(
                &kafka.producer_config(),
                Arc::clone(&acks),
                shutdown.clone(),
            )
        };
        let producer = if dry_run { None } else { Some(make()?) };
        Ok(Self {
            producer,
            pace: Pace::new(kafka, shutdown)?,
            acks,
            sent: AtomicU64::new(0),
        })
    }

    /// Queues a record; waits while Kafka, or what works the replay, is slower than the reading.
    pub(super) fn send(
        &self,
        topic: &str,
        key: &[u8],
        payload: &[u8],
        headers: &[(&str, Vec<u8>)],
    ) -> anyhow::Result<()> {
        let Some(producer) = &self.producer else {
            return Ok(());
        };
        self.pace.wait();
        loop {
            let mut list = HeaderList::with_capacity(headers.len());
            for (name, value) in headers {
                list.put(name, value);
            }
            match producer.send(topic, key, payload, list.finish(), ()) {
                Ok(()) => {
                    self.sent.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Err((Failure::QueueFull, ())) => std::thread::sleep(PAUSE),
                Err((failure, ())) => bail!("{topic}: {failure}"),
            }
        }
    }

    /// Waits until every record's fate is known.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let told = || {
            let acks = &self.acks;
            (
                count(&acks.acked),
                count(&acks.refused),
                count(&acks.failed),
            )
        };
        let sent = self.sent.load(Ordering::Relaxed);
        let (acked, refused, failed) = loop {
            let (acked, refused, failed) = told();
            if acked + refused + failed >= sent {
                break (acked, refused, failed);
            }
            std::thread::sleep(PAUSE);
        };
        if refused + failed > 0 {
            bail!("kafka took {acked} records, refused {refused} and did not answer for {failed}");
        }
        Ok(())
    }
}
