//! What the audit needs of a record of `webhooks.raw`, `webhooks.processed` and `webhooks.attempts`, read
//! leniently: an audit must be able to say what stands there, whoever wrote it.
//!
//! The shapes are those of `router_schemas::{ProcessedRecord, AttemptRecord}`, without the parts that are
//! no matter of accounts, so that a large result costs no allocation.

use router_schemas::{DeliveryId, EventId, RawMeta, ReplayId};
use serde::Deserialize;

use super::ledger::{DeliveryState, RawOutcome};

/// Where a record stands, by the record that tells of it.
#[derive(Debug, Deserialize)]
pub(super) struct Place {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// A record of `webhooks.processed`.
#[derive(Debug, Deserialize)]
pub(super) struct Processed {
    pub(super) event_id: EventId,
    #[serde(default)]
    pub(super) replay_id: Option<ReplayId>,
    #[serde(default)]
    pub(super) round: u32,
    pub(super) raw: Place,
    pub(super) outcome: Outcome,
    #[serde(default)]
    pub(super) deliveries: Vec<Queued>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Queued {
    pub(super) delivery_id: DeliveryId,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Routed,
    Unrouted,
    Duplicate,
    SetAside,
    Dead,
}

impl From<Outcome> for RawOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Routed => Self::Routed,
            Outcome::Unrouted => Self::Unrouted,
            Outcome::Duplicate => Self::Duplicate,
            Outcome::SetAside => Self::SetAside,
            Outcome::Dead => Self::Dead,
        }
    }
}

/// A record of `webhooks.attempts`.
#[derive(Debug, Deserialize)]
pub(super) struct Attempt {
    pub(super) delivery_id: DeliveryId,
    pub(super) event_id: EventId,
    #[serde(default)]
    pub(super) round: u32,
    pub(super) next: Next,
}

#[derive(Debug, Deserialize)]
pub(super) struct Next {
    pub(super) state: State,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Parked,
    Held,
    Dead,
    Cancelled,
    Delivered,
}

impl From<State> for DeliveryState {
    fn from(state: State) -> Self {
        match state {
            State::Parked => Self::Parked,
            State::Held => Self::Held,
            State::Dead => Self::Dead,
            State::Cancelled => Self::Cancelled,
            State::Delivered => Self::Delivered,
        }
    }
}

/// The id under which a raw record is accounted for: its own where an edge can have given it, else the one
/// made of its place, under which `process` sets it aside.
pub(super) fn raw_id<'a>(
    headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    at_ms: i64,
    (topic, partition, offset): (&str, i32, i64),
) -> EventId {
    let own = RawMeta::read(headers).and_then(|meta| {
        meta.event_id.check_given(at_ms)?;
        Ok(meta.event_id)
    });
    own.unwrap_or_else(|_| EventId::synthetic(at_ms, topic, partition, offset))
}

#[cfg(test)]
mod tests {
    use router_schemas::{
        AttemptRecord, DestinationId, ProcessedRecord, ProjectId, RecordPosition, RouteId,
        SourceId,
        processed::{ProcessOutcome, QueuedDelivery},
        raw::header,
    };

    use super::*;

    /// What the stages write is what is read here: should the schemas move, this must move with them.
    #[test]
    fn what_process_writes_is_read() {
        let delivery_id = DeliveryId::generate();
        let queued = QueuedDelivery {
            delivery_id,
            destination_id: DestinationId::generate(),
            route_id: RouteId::generate(),
        };
        let mut record = ProcessedRecord {
            event_id: EventId::generate(),
            item: 0,
            replay_id: None,
            round: 3,
            project_id: ProjectId::DEFAULT,
            source_id: SourceId::generate(),
            raw: RecordPosition {
                topic: "webhooks.raw".into(),
                partition: 2,
                offset: 9,
            },
            processed_at_ms: 1,
            outcome: ProcessOutcome::Routed {
                deliveries: vec![queued],
            },
            classification: None,
            result: None,
        };
        let read: Processed =
            serde_json::from_slice(&serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(read.event_id, record.event_id);
        assert_eq!((read.round, read.raw.offset), (3, 9));
        assert_eq!(read.deliveries[0].delivery_id, delivery_id);
        assert_eq!(RawOutcome::from(read.outcome), RawOutcome::Routed);
        for (outcome, wanted) in [
            (ProcessOutcome::Unrouted, RawOutcome::Unrouted),
            (
                ProcessOutcome::Dead { reason: "x".into() },
                RawOutcome::Dead,
            ),
        ] {
            record.outcome = outcome;
            let read: Processed =
                serde_json::from_slice(&serde_json::to_vec(&record).unwrap()).unwrap();
            assert_eq!(RawOutcome::from(read.outcome), wanted);
        }
    }

    #[test]
    fn what_deliver_writes_is_read() {
        let states = [
            (router_schemas::Next::Delivered, DeliveryState::Delivered),
            (
                router_schemas::Next::Parked {
                    until_ms: 1,
                    reason: "x".into(),
                },
                DeliveryState::Parked,
            ),
            (
                router_schemas::Next::Dead { reason: "x".into() },
                DeliveryState::Dead,
            ),
            (
                router_schemas::Next::Cancelled { reason: "x".into() },
                DeliveryState::Cancelled,
            ),
        ];
        for (next, wanted) in states {
            let record = AttemptRecord {
                delivery_id: DeliveryId::generate(),
                event_id: EventId::generate(),
                item: 0,
                project_id: ProjectId::DEFAULT,
                source_id: SourceId::generate(),
                destination_id: DestinationId::generate(),
                route_id: None,
                replay_id: None,
                round: 1,
                attempt: 2,
                attempted: true,
                at_ms: 1,
                duration_ms: 1,
                answer: None,
                error: None,
                next,
            };
            let read: Attempt =
                serde_json::from_slice(&serde_json::to_vec(&record).unwrap()).unwrap();
            assert_eq!((read.delivery_id, read.round), (record.delivery_id, 1));
            assert_eq!(DeliveryState::from(read.next.state), wanted);
        }
    }

    #[test]
    fn a_raw_record_without_a_usable_id_goes_by_its_place() {
        let now_ms = 1_795_482_123_004;
        let place = ("webhooks.raw", 1, 7);
        let synthetic = EventId::synthetic(now_ms, place.0, place.1, place.2);
        let id_of = |id: &str| {
            let other = ProjectId::DEFAULT.to_string();
            let headers = [
                (header::ID, id),
                (header::PROJECT, &other),
                (header::SOURCE, &other),
                (header::TIME, "2026-11-24T01:02:03.004Z"),
            ];
            let headers = headers
                .iter()
                .map(|(name, value)| (*name, Some(value.as_bytes())));
            raw_id(headers, now_ms, place)
        };
        let good = EventId::synthetic(now_ms - 5, "x", 0, 0);
        assert_eq!(id_of(&good.to_string()), good);
        let century = EventId::synthetic(1_000, "x", 0, 0).to_string();
        for bad in [
            "garbage",
            century.as_str(),
            "6d0f1c52-9a3e-4b57-8f21-c4d807b6ea93",
        ] {
            assert_eq!(id_of(bad), synthetic, "{bad}");
        }
        assert_eq!(raw_id(std::iter::empty(), now_ms, place), synthetic);
    }
}
