//! What follows from an outcome: records produced, acknowledgements awaited, tickets handed back.
//!
//! A slot of work is free as soon as its stage has answered; what is awaited here costs no slot. A ticket
//! comes back to the owner of its consumer exactly once, when Kafka has acknowledged everything.

use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use router_schemas::{DeadLetterInfo, dead_letter};
use tokio::sync::Notify;

use super::record::{Dead, Incoming, Order, OutRecord, Outcome};
use crate::{
    kafka::KafkaSettings,
    lifecycle::Shutdown,
    now_ms,
    producer::{AckSink, Failure, Group, HeaderList, Producer},
};

/// Names one received record of one assignment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    pub(crate) slot: usize,
    pub(crate) epoch: u32,
    pub(crate) offset: i64,
    pub(crate) bytes: usize,
}

/// Where finished tickets wait for the owner of their consumer; one wake-up for many.
#[derive(Debug, Default)]
pub(crate) struct Completions {
    finished: Mutex<Vec<Finished>>,
    pub(crate) notify: Notify,
}

#[derive(Debug)]
pub(crate) enum Finished {
    /// Everything is acknowledged.
    Done(Ticket),
    /// Kafka refuses an effect for good: the original goes to the dead letters instead.
    Refused {
        ticket: Ticket,
        record: Arc<Incoming>,
        detail: String,
        already_dead: bool,
    },
}

impl Completions {
    pub(crate) fn push(&self, finished: Finished) {
        let mut waiting = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(finished);
        if waiting.len() == 1 {
            self.notify.notify_one();
        }
    }

    /// Swaps what has finished into `into`, which must be empty.
    pub(crate) fn take(&self, into: &mut Vec<Finished>) {
        let mut waiting = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *waiting, into);
    }
}

/// The acknowledgements that one ticket still waits for.
pub(super) struct Pending {
    remaining: AtomicUsize,
    ticket: Ticket,
    completions: Arc<Completions>,
    record: Arc<Incoming>,
    refused: OnceLock<String>,
    dead: bool,
}

impl Pending {
    fn settle(&self) {
        if self.remaining.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let finished = match self.refused.get() {
            None => Finished::Done(self.ticket),
            Some(detail) => Finished::Refused {
                ticket: self.ticket,
                record: Arc::clone(&self.record),
                detail: detail.clone(),
                already_dead: self.dead,
            },
        };
        self.completions.push(finished);
    }
}

/// Settles pending tickets.
pub(super) struct EffectSink {
    shutdown: Shutdown,
}

impl AckSink for EffectSink {
    type Token = Arc<Pending>;

    fn acked(&self, pending: Arc<Pending>, result: Result<(), Failure>) {
        match result {
            Ok(()) => {}
            Err(Failure::Refused(code)) => {
                pending.refused.set(code.to_string()).ok();
            }
            // Workers wait without limit, so this is a producer that stops, or a topic that is gone: the
            // ticket never comes back and its offset never moves.
            Err(failure) => {
                if !self.shutdown.requested() {
                    self.shutdown.fail(&failure.to_string());
                }
                return;
            }
        }
        pending.settle();
    }
}

/// Produces what stages emit. One for each process; cheap to clone.
#[derive(Clone)]
pub struct Effects {
    producer: Producer<EffectSink>,
    /// For what is only recorded. Nobody waits for it but the offset behind it, so it is sent together:
    /// a request for each record of each partition is what costs brokers most.
    journal: Producer<EffectSink>,
    journals: Arc<[String; 2]>,
    /// Where records in any order gather, one for each topic.
    groups: Arc<[Arc<Group<Arc<Pending>>>]>,
    dead_letter: Arc<str>,
}

/// How long a record for the journals waits for others.
const JOURNAL_LINGER_MS: &str = "50";

impl Effects {
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(settings: &KafkaSettings, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let mut config = settings.producer_config();
        // A worker's offset waits behind its effects, so it waits as long as Kafka takes.
        config.set("message.timeout.ms", "0");
        let sink = Arc::new(EffectSink {
            shutdown: shutdown.clone(),
        });
        let producer = Producer::new(&config, Arc::clone(&sink), shutdown.clone())?;
        if !settings.properties.contains_key("linger.ms") {
            config.set("linger.ms", JOURNAL_LINGER_MS);
        }
        let names = settings.names();
        let journal = Producer::new(&config, sink, shutdown.clone())?;
        let groups = [
            (&producer, names.deliveries),
            (&producer, names.redeliveries),
            (&journal, names.processed.clone()),
        ];
        let groups = groups.map(|(of, topic)| of.group(&topic));
        Ok(Self {
            producer,
            journal,
            groups: groups.into(),
            journals: Arc::new([names.processed, names.attempts]),
            dead_letter: names.dead_letter.into(),
        })
    }

    /// Produces all records of an outcome and completes the ticket behind their acknowledgements.
    pub(crate) async fn submit(
        &self,
        stage: &'static str,
        ticket: Ticket,
        record: &Arc<Incoming>,
        outcome: Outcome,
        completions: &Arc<Completions>,
    ) {
        let Outcome {
            label: _,
            mut records,
            dead,
        } = outcome;
        if let Some(dead) = &dead {
            records.push(self.dead_letter_record(stage, record, dead, true));
        }
        let pending = Arc::new(Pending {
            // One more than the records, so that the ticket cannot come back while they are being sent.
            remaining: AtomicUsize::new(records.len() + 1),
            ticket,
            completions: Arc::clone(completions),
            record: Arc::clone(record),
            refused: OnceLock::new(),
            dead: dead.is_some(),
        });
        for record in records {
            self.send(&record, &pending).await;
        }
        pending.settle();
    }

    async fn send(&self, record: &OutRecord, pending: &Arc<Pending>) {
        let mut token = Arc::clone(pending);
        let recorded = self.journals.iter().any(|topic| **topic == *record.topic);
        let producer = if recorded {
            &self.journal
        } else {
            &self.producer
        };
        let group = match record.order {
            Order::ByKey => None,
            Order::Any => self
                .groups
                .iter()
                .find(|group| group.topic() == &*record.topic),
        };
        loop {
            let mut headers = HeaderList::with_capacity(record.headers.len());
            for (name, value) in &record.headers {
                headers.put(name, value);
            }
            let (key, headers) = (&record.key, headers.finish());
            let sent = match group {
                Some(group) => producer.gather(group, key, record.payload.clone(), headers, token),
                None => producer.send(&record.topic, key, &record.payload, headers, token),
            };
            match sent {
                Ok(()) => return,
                Err((Failure::QueueFull, back)) => {
                    token = back;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err((failure, back)) => {
                    // librdkafka refuses at once what is larger than the client's own bound.
                    back.refused.set(failure.to_string()).ok();
                    back.settle();
                    return;
                }
            }
        }
    }

    /// The last way of a record whose dead letter was refused: again, without its body (the topic it came
    /// from still has it).
    pub(crate) async fn bury(
        &self,
        stage: &'static str,
        ticket: Ticket,
        record: &Arc<Incoming>,
        detail: String,
        completions: &Arc<Completions>,
    ) {
        let dead = Dead {
            reason: "effect_refused",
            detail,
            project_id: None,
        };
        let letter = self.dead_letter_record(stage, record, &dead, false);
        let pending = Arc::new(Pending {
            remaining: AtomicUsize::new(2),
            ticket,
            completions: Arc::clone(completions),
            record: Arc::clone(record),
            refused: OnceLock::new(),
            dead: true,
        });
        self.send(&letter, &pending).await;
        pending.settle();
    }

    fn dead_letter_record(
        &self,
        stage: &'static str,
        record: &Incoming,
        dead: &Dead,
        with_body: bool,
    ) -> OutRecord {
        let times = DeadLetterInfo::read(record.headers()).map_or(1, |info| info.times + 1);
        let info = DeadLetterInfo {
            reason: dead.reason.to_owned(),
            detail: dead.detail.chars().take(500).collect(),
            stage: stage.to_owned(),
            from: record.position(),
            at_ms: now_ms(),
            project_id: dead.project_id,
            times,
        };
        let json = serde_json::to_vec(&info).expect("a struct of plain fields is always written");
        let mut headers: Vec<(Cow<'static, str>, Vec<u8>)> = vec![(dead_letter::INFO.into(), json)];
        for (name, value) in record.headers() {
            if name != dead_letter::INFO {
                headers.push((name.to_owned().into(), value.unwrap_or_default().to_vec()));
            }
        }
        OutRecord {
            topic: Arc::clone(&self.dead_letter),
            key: record.key().to_vec(),
            order: Order::ByKey,
            payload: if with_body {
                record.payload_bytes()
            } else {
                Bytes::new()
            },
            headers,
        }
    }
}
