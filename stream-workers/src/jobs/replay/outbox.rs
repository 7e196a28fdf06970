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
    acks: Arc<Acks>,
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
        Ok(Self { producer, acks })
    }

    /// Queues a record; waits while Kafka is slower than the reading.
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
        loop {
            let mut list = HeaderList::with_capacity(headers.len());
            for (name, value) in headers {
                list.put(name, value);
            }
            match producer.send(topic, key, payload, list.finish(), ()) {
                Ok(()) => return Ok(()),
                Err((Failure::QueueFull, ())) => std::thread::sleep(PAUSE),
                Err((failure, ())) => bail!("{topic}: {failure}"),
            }
        }
    }

    /// Waits until every record's fate is known.
    pub(super) fn finish(&self) -> anyhow::Result<()> {
        while self
            .producer
            .as_ref()
            .is_some_and(|producer| producer.in_flight() > 0)
        {
            std::thread::sleep(PAUSE);
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let (acked, refused, failed) = (
            count(&self.acks.acked),
            count(&self.acks.refused),
            count(&self.acks.failed),
        );
        if refused + failed > 0 {
            bail!("kafka took {acked} records, refused {refused} and did not answer for {failed}");
        }
        Ok(())
    }
}
