//! The producer of the edge and its acknowledgements: three steps, of which only the last waits.
//!
//! Acknowledgements come many at once, on the first serving thread. They are collected under one lock for each
//! serving thread, which is woken once for all of them and answers its requests without waking anyone else.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use router_runtime::{
    kafka::KafkaSettings,
    lifecycle::Shutdown,
    producer::{AckSink, Failure, Group, HeaderList, Producer},
};
use router_schemas::RawMeta;
use tokio::sync::{Notify, oneshot};

use crate::{problem::Problem, settings::EdgeSettings};

/// Acknowledgements on their way to one serving thread.
#[derive(Debug, Default)]
pub struct AckQueue {
    arrived: Mutex<Vec<(Waiter, Result<(), Failure>)>>,
    notify: Notify,
}

type Waiter = oneshot::Sender<Result<(), Failure>>;

/// What the producer carries along for a record.
pub struct Token {
    waiter: Waiter,
    queue: Arc<AckQueue>,
}

impl AckQueue {
    /// Hands acknowledgements to their requests; runs on the serving thread for as long as it lives.
    pub async fn dispatch(self: Arc<Self>) {
        let mut batch = Vec::new();
        loop {
            self.notify.notified().await;
            {
                let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::swap(&mut *arrived, &mut batch);
            }
            for (waiter, result) in batch.drain(..) {
                // A sender that has gone away waits for nothing; its webhook is stored all the same.
                waiter.send(result).ok();
            }
        }
    }
}

/// Receives every acknowledgement.
#[derive(Debug, Default)]
pub struct AckRouter;

impl AckSink for AckRouter {
    type Token = Box<Token>;

    fn acked(&self, token: Box<Token>, result: Result<(), Failure>) {
        let Token { waiter, queue } = *token;
        let mut arrived = queue.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        arrived.push((waiter, result));
        if arrived.len() == 1 {
            queue.notify.notify_one();
        }
    }
}

/// Writes raw webhooks. One producer for all serving threads; a clone for each with its own queue.
#[derive(Clone)]
pub struct Intake {
    producer: Producer<AckRouter>,
    raw: Arc<Group<Box<Token>>>,
    queue: Arc<AckQueue>,
}

impl Intake {
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(settings: &EdgeSettings, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let producer = producer(&settings.kafka, settings, shutdown)?;
        Ok(Self {
            raw: producer.group(&settings.kafka.names().raw),
            producer,
            queue: Arc::new(AckQueue::default()),
        })
    }

    /// The same producer with an acknowledgement queue of its own.
    #[must_use]
    pub fn for_thread(&self) -> (Self, Arc<AckQueue>) {
        let queue = Arc::new(AckQueue::default());
        (
            Self {
                queue: Arc::clone(&queue),
                ..self.clone()
            },
            queue,
        )
    }

    /// Puts a webhook into the producer's queue.
    ///
    /// # Errors
    /// The queue is full, or the record can never be produced.
    pub fn enqueue(&self, meta: &RawMeta, body: Bytes) -> Result<Acknowledgement, Problem> {
        let (waiter, acknowledged) = oneshot::channel();
        let token = Box::new(Token {
            waiter,
            queue: Arc::clone(&self.queue),
        });
        let mut headers = HeaderList::with_capacity(16);
        meta.write(|name, value| headers.put(name, value));
        let mut key = uuid::Uuid::encode_buffer();
        let key = meta
            .event_id
            .0
            .hyphenated()
            .encode_lower(&mut key)
            .as_bytes();
        self.producer
            .gather(&self.raw, key, body, headers.finish(), token)
            .map_err(|(failure, _)| problem_of(&failure))?;
        Ok(Acknowledgement(acknowledged))
    }

    /// Records queued or in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.producer.in_flight()
    }
}

/// A webhook that is on its way.
pub struct Acknowledgement(oneshot::Receiver<Result<(), Failure>>);

impl Acknowledgement {
    /// Waits until the webhook is on all in-sync replicas.
    ///
    /// # Errors
    /// Kafka did not take it, so the sender must come again.
    pub async fn wait(self) -> Result<(), Problem> {
        match self.0.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(problem_of(&failure)),
            Err(_) => Err(Problem::KafkaUnavailable),
        }
    }
}

fn problem_of(failure: &Failure) -> Problem {
    match failure {
        Failure::QueueFull => Problem::Busy,
        Failure::Refused(_) => Problem::KafkaRefused,
        Failure::Unavailable(_) => Problem::KafkaUnavailable,
    }
}

fn producer(
    kafka: &KafkaSettings,
    settings: &EdgeSettings,
    shutdown: &Shutdown,
) -> anyhow::Result<Producer<AckRouter>> {
    let mut config = kafka.producer_config();
    // A webhook may wait this long to leave its group, and as long again inside librdkafka.
    let timeout_ms = (settings.produce_timeout.as_millis() / 2).to_string();
    let queue_kbytes = (settings.max_bytes_in_flight / 1024).max(1).to_string();
    let ours = [
        // The sender waits for this, so it must end while the sender still does.
        ("message.timeout.ms", timeout_ms.as_str()),
        ("queue.buffering.max.kbytes", &queue_kbytes),
    ];
    for (name, value) in ours {
        if !kafka.properties.contains_key(name) {
            config.set(name, value);
        }
    }
    Producer::new(&config, Arc::new(AckRouter), shutdown.clone())
}
