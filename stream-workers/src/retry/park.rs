//! A delivery on its way into the delay topics, from one to the next, and out of them.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use router_runtime::consumer::{Order, OutRecord};
use router_schemas::{
    DeliveryMeta,
    delivery::Parked,
    topics::{Rung, TopicNames},
};

use super::ladder::Plans;

/// Where parked deliveries go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Parking {
    plans: Arc<Plans>,
    topics: Arc<HashMap<Rung, Arc<str>>>,
    redeliveries: Arc<str>,
}

impl Parking {
    #[must_use]
    pub fn new(plans: Plans, names: &TopicNames) -> Self {
        let rungs = plans.ladder().rungs().iter();
        let topics = rungs
            .map(|rung| (*rung, names.retry(*rung).into()))
            .collect();
        Self {
            plans: Arc::new(plans),
            topics: Arc::new(topics),
            redeliveries: names.redeliveries.as_str().into(),
        }
    }

    /// Parks a delivery for at least `delay_ms` from `now_ms`; returns the record and when it is due.
    /// The delay is decided here, once: what follows only carries it out.
    #[must_use]
    pub fn park(
        &self,
        mut meta: DeliveryMeta,
        delay_ms: i64,
        now_ms: i64,
        key: &[u8],
        payload: Bytes,
        content_type: Option<&str>,
    ) -> (OutRecord, i64) {
        let rungs = self.plans.rungs(delay_ms);
        let total_ms: i64 = rungs.iter().map(|rung| rung.delay_ms()).sum();
        let due_ms = now_ms + total_ms;
        let (first, rest) = rungs.split_first().expect("a plan has a rung");
        meta.parked = Some(Parked {
            due_ms,
            rungs: rest.to_vec(),
        });
        (
            self.record(&self.topics[first], &meta, key, payload, content_type),
            due_ms,
        )
    }

    /// The next hop of a parked delivery whose time has come: the next rung, or the redeliveries.
    #[must_use]
    pub fn hop(
        &self,
        mut meta: DeliveryMeta,
        now_ms: i64,
        key: &[u8],
        payload: Bytes,
        content_type: Option<&str>,
    ) -> OutRecord {
        let Some(parked) = &mut meta.parked else {
            return self.record(&self.redeliveries, &meta, key, payload, content_type);
        };
        if parked.rungs.is_empty() {
            return self.record(&self.redeliveries, &meta, key, payload, content_type);
        }
        let next = parked.rungs.remove(0);
        if let Some(topic) = self.topics.get(&next) {
            return self.record(topic, &meta, key, payload, content_type);
        }
        // The ladder has changed since: what is left of the delay is planned anew.
        let left_ms = parked.due_ms - now_ms;
        self.park(meta, left_ms, now_ms, key, payload, content_type)
            .0
    }

    fn record(
        &self,
        topic: &Arc<str>,
        meta: &DeliveryMeta,
        key: &[u8],
        payload: Bytes,
        content_type: Option<&str>,
    ) -> OutRecord {
        let mut headers = Vec::with_capacity(2);
        meta.write(content_type, |name, value| {
            headers.push((name.into(), value.to_vec()))
        });
        OutRecord {
            topic: Arc::clone(topic),
            key: key.to_vec(),
            order: Order::Any,
            payload,
            headers,
        }
    }
}

/// When a record in the topic of `rung`, appended at `appended_ms`, goes on: when the rungs after it
/// still fit before the due time. A record that says it is due in another century must not hold up
/// those behind it, so no hop waits longer than its rung and [`CLOCK_SLACK_MS`].
#[must_use]
pub fn hop_at_ms(parked: &Parked, rung: Rung, appended_ms: i64) -> i64 {
    let after: i64 = parked.rungs.iter().map(|rung| rung.delay_ms()).sum();
    let longest = appended_ms
        .saturating_add(rung.delay_ms())
        .saturating_add(CLOCK_SLACK_MS);
    parked.due_ms.saturating_sub(after).min(longest)
}

/// How far the clocks of brokers and workers may be apart before a retry could be early.
pub const CLOCK_SLACK_MS: i64 = 60_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use router_schemas::{DeliveryId, DestinationId, EventId, ProjectId, SourceId, topics::Ladder};

    use super::*;

    fn meta() -> DeliveryMeta {
        let (event_id, destination_id) = (EventId::generate(), DestinationId::generate());
        DeliveryMeta {
            delivery_id: DeliveryId::derive(event_id, 0, destination_id, None),
            event_id,
            item: 0,
            project_id: ProjectId::DEFAULT,
            source_id: SourceId::generate(),
            destination_id,
            route_id: None,
            replay_id: None,
            round: 0,
            attempts: 1,
            queued_at_ms: 0,
            config_offset: 0,
            trace_parent: None,
            parked: None,
        }
    }

    fn read(record: &OutRecord) -> DeliveryMeta {
        let headers = record
            .headers
            .iter()
            .map(|(n, v)| (n.as_ref(), Some(v.as_slice())));
        DeliveryMeta::read(headers).unwrap().0
    }

    proptest! {
        /// Whatever the delay and however late each hop is taken: the delivery reaches the redeliveries
        /// within three hops, never before its due time, and a late hop shortens the next.
        #[test]
        fn a_parked_delivery_is_never_early(
            delay_ms in 1i64..50_000_000,
            lateness in prop::collection::vec(0i64..5_000, 3),
        ) {
            let names = TopicNames::default();
            let ladder = Ladder::default();
            let parking = Parking::new(Plans::new(ladder.clone()), &names);
            let start = 1_000_000;
            let (mut record, due) = parking.park(meta(), delay_ms, start, b"k", Bytes::new(), None);
            prop_assert!(due >= start + delay_ms);
            let mut now = start;
            for late in lateness {
                let rung = ladder.rungs().iter().find(|r| names.retry(**r) == *record.topic).unwrap();
                let meta = read(&record);
                let at = hop_at_ms(meta.parked.as_ref().unwrap(), *rung, now);
                now = now.max(at) + late;
                record = parking.hop(meta, now, b"k", Bytes::new(), None);
                if *record.topic == *names.redeliveries {
                    prop_assert!(now >= due);
                    return Ok(());
                }
            }
            prop_assert!(false, "more than three hops");
        }
    }

    #[test]
    fn a_due_time_in_another_century_does_not_hold_up_the_partition() {
        let parked = Parked {
            due_ms: i64::MAX,
            rungs: vec![],
        };
        let rung = Rung::from_ms(5_000);
        assert_eq!(hop_at_ms(&parked, rung, 1_000), 6_000 + CLOCK_SLACK_MS);
        let past = Parked {
            due_ms: i64::MIN,
            rungs: vec![rung],
        };
        assert!(hop_at_ms(&past, rung, 1_000) < 0);
    }

    #[test]
    fn a_rung_that_is_no_more_is_planned_anew() {
        let names = TopicNames::default();
        let parking = Parking::new(Plans::new("1s,5s".parse().unwrap()), &names);
        let mut meta = meta();
        meta.parked = Some(Parked {
            due_ms: 10_000,
            rungs: vec![Rung::from_ms(7_000)],
        });
        let record = parking.hop(meta, 4_000, b"k", Bytes::new(), None);
        assert_eq!(&*record.topic, names.retry(Rung::from_ms(5_000)));
    }
}
