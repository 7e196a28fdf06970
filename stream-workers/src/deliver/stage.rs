//! A delivery from record to outcome: is it still wanted, is there room, what was answered, what follows.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use router_runtime::{
    config_view::ConfigPosition,
    consumer::{Dead, EachStage, Envelope, Incoming, Order, OutRecord, Outcome, Unreadable},
    now_ms,
};
use router_schemas::{
    AttemptError, AttemptRecord, DeliveryMeta, DestinationId, Next, config::RetryPolicy,
    events::ControlEvent, topics::TopicNames,
};

use super::{
    client::{Message, Sender},
    lanes::{Admission, Lanes, Share},
    verdict::{Decision, Ending, decide},
};
use crate::{
    directory::{Destination, Directory},
    retry::{backoff, park::Parking},
};

/// A delivery whose destination cannot be used yet is looked at again after this long.
const UNUSABLE_PARK_MS: i64 = 60_000;

/// What the two consumers of the role share.
pub struct Shared {
    pub directory: Arc<Directory>,
    pub config_position: ConfigPosition,
    pub sender: Sender,
    pub lanes: Lanes,
    pub parking: Parking,
    /// Destinations that answered `410 Gone` since this process started, until the control plane's word
    /// arrives.
    pub gone: Mutex<HashSet<DestinationId>>,
    pub attempts_topic: Arc<str>,
    pub events_topic: Arc<str>,
    pub meters: Meters,
}

/// Handles of the stage's metrics, resolved once.
pub struct Meters {
    attempt_seconds: metrics::Histogram,
    lateness_seconds: metrics::Histogram,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            attempt_seconds: metrics::histogram!("router_deliver_attempt_seconds"),
            lateness_seconds: metrics::histogram!("router_retry_lateness_seconds"),
        }
    }
}

impl Shared {
    #[must_use]
    pub fn new(
        directory: Arc<Directory>,
        config_position: ConfigPosition,
        sender: Sender,
        parking: Parking,
        names: &TopicNames,
    ) -> Self {
        Self {
            directory,
            config_position,
            sender,
            lanes: Lanes::default(),
            parking,
            gone: Mutex::default(),
            attempts_topic: names.attempts.as_str().into(),
            events_topic: names.events.as_str().into(),
            meters: Meters::default(),
        }
    }
}

/// The stage, for first attempts or for what comes late.
pub struct DeliverStage {
    pub shared: Arc<Shared>,
    pub share: Share,
}

/// What is read from a record.
pub struct Work {
    meta: DeliveryMeta,
    content_type: Option<String>,
}

impl EachStage for DeliverStage {
    type In = Work;

    fn read(&self, record: &Incoming) -> Result<Work, Unreadable> {
        let (meta, content_type) = DeliveryMeta::read(record.headers())?;
        meta.check_times(record.timestamp_ms())?;
        Ok(Work { meta, content_type })
    }

    async fn process(&self, envelope: Envelope<Work>) -> Outcome {
        let Envelope {
            value: Work { meta, content_type },
            record,
        } = envelope;
        let job = Job {
            shared: &self.shared,
            meta,
            content_type,
            record,
        };
        job.run(self.share).await
    }

    /// A delivery whose metadata can be read is accounted for as dead, whatever happened to it.
    fn refuse(&self, record: &Incoming, reason: &'static str, detail: String) -> Outcome {
        let mut outcome = Outcome::reject(reason, detail);
        if let Ok((meta, _)) = DeliveryMeta::read(record.headers()) {
            let next = Next::Dead {
                reason: reason.to_owned(),
            };
            let attempt = Attempt {
                number: meta.attempts,
                ..Attempt::none(now_ms())
            };
            outcome.records.push(attempt_record(
                &self.shared.attempts_topic,
                &meta,
                attempt,
                next,
            ));
        }
        outcome
    }

    fn origin(&self, record: &Incoming) -> u64 {
        let meta = DeliveryMeta::read(record.headers());
        meta.map_or(0, |(meta, _)| meta.source_id.0.as_u128() as u64)
    }
}

/// One delivery being worked.
struct Job<'a> {
    shared: &'a Shared,
    meta: DeliveryMeta,
    content_type: Option<String>,
    record: Arc<Incoming>,
}

/// What the settings say of a delivery's destination.
enum Known {
    Usable(Arc<Destination>),
    /// Nothing of it is in settings that are as new as the delivery.
    Deleted,
    /// Its record cannot be read here, or has not come yet.
    NotYet,
}

/// What is told of an attempt, or of its absence.
struct Attempt {
    number: u32,
    made: bool,
    at_ms: i64,
    duration_ms: u32,
    ending: Option<Ending>,
}

impl Attempt {
    fn none(at_ms: i64) -> Self {
        Self {
            number: 0,
            made: false,
            at_ms,
            duration_ms: 0,
            ending: None,
        }
    }
}

impl Job<'_> {
    async fn run(self, share: Share) -> Outcome {
        let due_ms = self.meta.parked.as_ref().map(|parked| parked.due_ms);
        if let Some(early_ms) = due_ms.map(|due| due - now_ms()).filter(|early| *early > 0) {
            // The retry role lets nothing go early; only a clock that differs brings this about.
            if early_ms > 2_000 {
                return self.parked(early_ms, "not_due");
            }
            let wait = std::time::Duration::from_millis(early_ms.unsigned_abs());
            tokio::time::sleep(wait).await;
        }
        let age_ms = now_ms() - self.meta.queued_at_ms;
        let destination = match self.destination().await {
            Known::Usable(destination) => destination,
            Known::Deleted => return self.cancelled("destination_deleted"),
            // Whoever mends the settings wants what came meanwhile; age alone ends the waiting.
            Known::NotYet if age_ms > RetryPolicy::default().max_age_ms => {
                let detail = "the destination's settings could not be read all the while";
                return self.dead("destination_unusable", detail, None);
            }
            Known::NotYet => return self.parked(UNUSABLE_PARK_MS, "destination_unusable"),
        };
        if destination.config.disabled {
            // The control plane's word has arrived: whoever enables the destination again means it.
            self.gone().remove(&destination.id);
            return self.dead("destination_disabled", "the destination is disabled", None);
        }
        if self.gone().contains(&destination.id) {
            return self.dead(
                "destination_gone",
                "the destination answered 410 Gone",
                None,
            );
        }
        if age_ms > destination.config.retry.max_age_ms {
            return self.dead(
                "too_old",
                "the delivery is older than its destination allows",
                None,
            );
        }
        let lane = self
            .shared
            .lanes
            .lane(destination.id, destination.config.concurrency);
        match lane.admit(share, now_ms()).await {
            Admission::Park { delay_ms } => self.parked(delay_ms, "destination_busy"),
            Admission::Go(mut turn) => {
                if let Some(due_ms) = due_ms {
                    let late_ms = (now_ms() - due_ms).max(0);
                    self.shared
                        .meters
                        .lateness_seconds
                        .record(late_ms as f64 / 1e3);
                }
                let attempt = self.attempt(&destination).await;
                if matches!(attempt.ending, Some(Ending::Answered { .. })) {
                    turn.answered();
                }
                drop(turn);
                self.conclude(&destination, attempt)
            }
        }
    }

    /// The destination; one that is not known is waited for until the view has come as far as the record
    /// says the settings were.
    async fn destination(&self) -> Known {
        let find = || {
            let tables = self.shared.directory.snapshot();
            let id = &self.meta.destination_id;
            match tables.destinations.get(id) {
                // Another project's destination is none.
                Some(found) if found.config.project_id != self.meta.project_id => {
                    Some(Known::Deleted)
                }
                Some(found) => Some(Known::Usable(Arc::clone(found))),
                None if tables.unusable.contains(id) => Some(Known::NotYet),
                None => None,
            }
        };
        if let Some(known) = find() {
            return known;
        }
        let position = &self.shared.config_position;
        let caught_up = position.caught_up_to(self.meta.config_offset).await;
        find().unwrap_or(if caught_up {
            Known::Deleted
        } else {
            Known::NotYet
        })
    }

    fn gone(&self) -> MutexGuard<'_, HashSet<DestinationId>> {
        self.shared
            .gone
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn attempt(&self, destination: &Destination) -> Attempt {
        let at_ms = now_ms();
        let began = std::time::Instant::now();
        let message = Message {
            delivery_id: self.meta.delivery_id,
            body: self.record.payload_bytes(),
            content_type: self.content_type.as_deref(),
            trace_parent: trace_parent(&self.meta),
        };
        let ending = self.shared.sender.attempt(destination, message).await;
        let took = began.elapsed();
        self.shared
            .meters
            .attempt_seconds
            .record(took.as_secs_f64());
        Attempt {
            number: self.meta.attempts + 1,
            made: true,
            at_ms,
            duration_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
            ending: Some(ending),
        }
    }

    fn conclude(mut self, destination: &Destination, attempt: Attempt) -> Outcome {
        let policy = &destination.config.retry;
        let age_ms = now_ms() - self.meta.queued_at_ms;
        let chance = backoff::chance(self.meta.delivery_id, attempt.number);
        let decision = match &attempt.ending {
            Some(ending) => decide(ending, policy, attempt.number, age_ms, chance),
            None => Decision::Delivered,
        };
        match decision {
            Decision::Delivered => Outcome::emit(
                "delivered",
                vec![self.attempt_record(attempt, Next::Delivered)],
            ),
            Decision::Retry { delay_ms } => {
                self.meta.attempts = attempt.number;
                let (parked, until_ms) = self.park_record(delay_ms);
                let next = Next::Parked {
                    until_ms,
                    reason: "retry".into(),
                };
                Outcome::emit("parked", vec![parked, self.attempt_record(attempt, next)])
            }
            Decision::Dead(reason) => {
                let detail = attempt.ending.as_ref().map_or(String::new(), describe);
                self.dead(reason, &detail, Some(attempt))
            }
            Decision::Gone => {
                self.eject();
                let event = self.gone_event();
                let mut outcome = self.dead(
                    "destination_gone",
                    "the destination answered 410 Gone",
                    Some(attempt),
                );
                outcome.records.push(event);
                outcome
            }
        }
    }

    // --- outcomes without an attempt ---

    fn parked(self, delay_ms: i64, reason: &str) -> Outcome {
        let (parked, until_ms) = self.park_record(delay_ms);
        let next = Next::Parked {
            until_ms,
            reason: reason.to_owned(),
        };
        let attempt = Attempt {
            number: self.meta.attempts,
            ..Attempt::none(now_ms())
        };
        Outcome::emit(
            "parked_busy",
            vec![parked, self.attempt_record(attempt, next)],
        )
    }

    fn cancelled(self, reason: &str) -> Outcome {
        let attempt = Attempt {
            number: self.meta.attempts,
            ..Attempt::none(now_ms())
        };
        let next = Next::Cancelled {
            reason: reason.to_owned(),
        };
        Outcome::emit("cancelled", vec![self.attempt_record(attempt, next)])
    }

    fn dead(&self, reason: &'static str, detail: &str, attempt: Option<Attempt>) -> Outcome {
        let none = || Attempt {
            number: self.meta.attempts,
            ..Attempt::none(now_ms())
        };
        let next = Next::Dead {
            reason: reason.to_owned(),
        };
        let record = self.attempt_record(attempt.unwrap_or_else(none), next);
        let project_id = Some(self.meta.project_id);
        let dead = Dead {
            reason,
            detail: detail.to_owned(),
            project_id,
        };
        Outcome {
            label: "dead",
            records: vec![record],
            dead: Some(dead),
        }
    }

    // --- records ---

    fn park_record(&self, delay_ms: i64) -> (OutRecord, i64) {
        let (key, payload) = (self.record.key(), self.record.payload_bytes());
        let content_type = self.content_type.as_deref();
        self.shared.parking.park(
            self.meta.clone(),
            delay_ms,
            now_ms(),
            key,
            payload,
            content_type,
        )
    }

    fn attempt_record(&self, attempt: Attempt, next: Next) -> OutRecord {
        attempt_record(&self.shared.attempts_topic, &self.meta, attempt, next)
    }

    /// The destination takes nothing more from this process on; the control plane disables it for all.
    fn eject(&self) {
        self.gone().insert(self.meta.destination_id);
        tracing::warn!(destination = %self.meta.destination_id, "destination answered 410 Gone: ejected");
    }

    fn gone_event(&self) -> OutRecord {
        let event = ControlEvent::DestinationGone {
            project_id: self.meta.project_id,
            destination_id: self.meta.destination_id,
            delivery_id: self.meta.delivery_id,
            at_ms: now_ms(),
        };
        json_record(
            &self.shared.events_topic,
            self.meta.project_id.to_string(),
            &event,
        )
    }
}

fn attempt_record(
    topic: &Arc<str>,
    meta: &DeliveryMeta,
    attempt: Attempt,
    next: Next,
) -> OutRecord {
    let (answer, error) = match attempt.ending {
        Some(Ending::Answered { answer, .. }) => (Some(answer), None),
        Some(Ending::Failed(error)) => (None, Some(error)),
        None => (None, None),
    };
    let record = AttemptRecord {
        delivery_id: meta.delivery_id,
        event_id: meta.event_id,
        item: meta.item,
        project_id: meta.project_id,
        source_id: meta.source_id,
        destination_id: meta.destination_id,
        route_id: meta.route_id,
        replay_id: meta.replay_id,
        round: meta.round,
        attempt: attempt.number,
        attempted: attempt.made,
        at_ms: attempt.at_ms,
        duration_ms: attempt.duration_ms,
        answer,
        error,
        next,
    };
    json_record(topic, meta.event_id.to_string(), &record)
}

fn json_record<T: serde::Serialize>(topic: &Arc<str>, key: String, value: &T) -> OutRecord {
    let payload = serde_json::to_vec(value).expect("a struct of plain fields is always written");
    OutRecord {
        topic: Arc::clone(topic),
        key: key.into_bytes(),
        order: Order::ByKey,
        payload: Bytes::from(payload),
        headers: Vec::new(),
    }
}

fn describe(ending: &Ending) -> String {
    match ending {
        Ending::Answered { answer, .. } => format!("last answer: status {}", answer.status),
        Ending::Failed(AttemptError { code, message, .. }) => format!("{code}: {message}"),
    }
}

/// The sender's trace goes on; without one, the event id is the trace.
fn trace_parent(meta: &DeliveryMeta) -> String {
    match &meta.trace_parent {
        Some(trace_parent) => trace_parent.clone(),
        None => {
            let trace = meta.event_id.0.simple();
            let span = meta.delivery_id.0.as_u128() as u64 | 1;
            format!("00-{trace}-{span:016x}-00")
        }
    }
}
