//! What rides with a delivery through `webhooks.deliveries`, the delay topics and `webhooks.redeliveries`.
//!
//! The value is the body to send. The metadata is one JSON header, replaced on each hop, and the body's
//! content type is another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DeliveryId, DestinationId, EventId, ProjectId, ReadError, ReplayId, RouteId, SourceId,
    topics::{DAY_MS, Rung},
};

/// Header that carries [`DeliveryMeta`] as JSON.
pub const META: &str = "router-delivery";
/// Header with the content type of the value.
pub const CONTENT_TYPE: &str = "content-type";

/// No delivery waits longer for its next attempt: a year and a month, well beyond what a destination may ask for.
const LONGEST_WAIT_MS: i64 = 400 * DAY_MS;

/// One piece of delivery work and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryMeta {
    pub delivery_id: DeliveryId,
    pub event_id: EventId,
    #[serde(default)]
    pub item: u32,
    pub project_id: ProjectId,
    pub source_id: SourceId,
    pub destination_id: DestinationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_id: Option<RouteId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_id: Option<ReplayId>,
    /// Counts redrives from the dead letters; 0 at first.
    #[serde(default)]
    pub round: u32,
    /// Attempts already made in this round.
    #[serde(default)]
    pub attempts: u32,
    /// When this round was queued, milliseconds since 1970: what the maximum age is counted from.
    pub queued_at_ms: i64,
    /// How far the stage that wrote this had read `control.config`.
    #[serde(default)]
    pub config_offset: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_parent: Option<String>,
    /// While parked: when the next attempt is due, and the delay topics still to go after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<Parked>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parked {
    /// Milliseconds since 1970. No attempt starts before it.
    pub due_ms: i64,
    /// Rungs after the one the record stands in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub rungs: Vec<Rung>,
}

impl DeliveryMeta {
    /// Reads the headers of a record; returns the metadata and the value's content type.
    ///
    /// # Errors
    /// The metadata header is missing or is not readable.
    pub fn read<'a>(
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Result<(Self, Option<String>), ReadError> {
        let mut meta = None;
        let mut content_type = None;
        for (name, value) in headers {
            match (name, value) {
                (META, Some(json)) => {
                    let read =
                        serde_json::from_slice(json).map_err(|error| ReadError::BadHeader {
                            name: META,
                            why: error.to_string(),
                        })?;
                    meta = Some(read);
                }
                (CONTENT_TYPE, Some(text)) => {
                    content_type = Some(crate::raw::read_text(CONTENT_TYPE, text)?);
                }
                _ => {}
            }
        }
        Ok((meta.ok_or(ReadError::MissingHeader(META))?, content_type))
    }

    /// Checks that the delivery can be one of ours, seen in a record that the broker stamped `record_ms`: its event
    /// id as in [`EventId::check_given`], queued no more than a day ahead, and due within 400 days.
    /// A time of another century would be parked again and again, and never be too old.
    ///
    /// # Errors
    /// One of these does not hold.
    pub fn check_times(&self, record_ms: i64) -> Result<(), ReadError> {
        self.event_id.check_given(record_ms)?;
        let refuse = |why: &str| {
            Err(ReadError::BadHeader {
                name: META,
                why: why.to_owned(),
            })
        };
        if self.queued_at_ms > record_ms.saturating_add(DAY_MS) {
            return refuse("queued in the future");
        }
        let latest_ms = record_ms.saturating_add(LONGEST_WAIT_MS);
        if self.parked.as_ref().is_some_and(|p| p.due_ms > latest_ms) {
            return refuse("due later than any delivery waits");
        }
        Ok(())
    }

    /// Hands every header to `put` as name and value.
    pub fn write(&self, content_type: Option<&str>, mut put: impl FnMut(&'static str, &[u8])) {
        let json = serde_json::to_vec(self).expect("a struct of plain fields is always written");
        put(META, &json);
        if let Some(content_type) = content_type {
            put(CONTENT_TYPE, content_type.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> DeliveryMeta {
        let (event_id, destination_id) = (EventId::generate(), DestinationId::generate());
        DeliveryMeta {
            delivery_id: DeliveryId::derive(event_id, 0, destination_id, None),
            event_id,
            item: 0,
            project_id: ProjectId::DEFAULT,
            source_id: SourceId::generate(),
            destination_id,
            route_id: Some(RouteId::generate()),
            replay_id: None,
            round: 0,
            attempts: 0,
            queued_at_ms: 1,
            config_offset: 2,
            trace_parent: None,
            parked: None,
        }
    }

    #[test]
    fn times_of_another_century_are_none_of_ours() {
        let fresh = fresh();
        let now_ms = fresh.event_id.received_at_ms().unwrap();
        let century_ms = 100 * 366 * DAY_MS;
        let refused = |queued_at_ms, due_ms, record_ms| {
            let rungs = Vec::new();
            let meta = DeliveryMeta {
                queued_at_ms,
                parked: Some(Parked { due_ms, rungs }),
                ..fresh.clone()
            };
            meta.check_times(record_ms).is_err()
        };
        assert!(!refused(now_ms, now_ms + DAY_MS, now_ms));
        assert!(refused(now_ms + century_ms, now_ms, now_ms));
        assert!(refused(now_ms, now_ms + century_ms, now_ms));
        assert!(refused(now_ms, now_ms, now_ms - century_ms));
    }

    #[test]
    fn what_is_written_is_read_back_through_every_state() {
        let fresh = fresh();
        let parked = DeliveryMeta {
            attempts: 3,
            parked: Some(Parked {
                due_ms: 9,
                rungs: vec![Rung::from_ms(5_000)],
            }),
            ..fresh.clone()
        };
        for meta in [fresh, parked] {
            let mut headers = Vec::new();
            meta.write(Some("application/json"), |n, v| {
                headers.push((n, v.to_vec()))
            });
            let read = DeliveryMeta::read(headers.iter().map(|(n, v)| (*n, Some(v.as_slice()))));
            assert_eq!(read, Ok((meta, Some("application/json".to_owned()))));
        }
    }
}
