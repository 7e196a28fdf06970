//! How fast a replay goes: no faster than it is worked off. What it sends stands in the same topics as retries that
//! fall due, so that a replay which ran ahead would make these late by as long as it takes.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use router_runtime::{kafka::KafkaSettings, lifecycle::Shutdown};

/// Replayed records that may stand in a topic without having been worked.
const AHEAD: i64 = 500;
/// Records sent between two looks.
const LOOK_EVERY: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_secs(10);
/// After so long without progress people are told what is waited for.
const SAY_AFTER: Duration = Duration::from_secs(10);

/// The places where a replay may pile up.
pub(super) struct Pace {
    places: Vec<Place>,
    since_look: Cell<u32>,
    shutdown: Shutdown,
}

/// A topic and the group that works it.
struct Place {
    topic: String,
    stage: &'static str,
    consumer: BaseConsumer,
}

impl Pace {
    pub(super) fn new(kafka: &KafkaSettings, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let names = kafka.names();
        let place = |topic: String, stage: &'static str| {
            let group = names.group(stage);
            // Asks for positions only, so it joins nothing.
            let config = kafka.with(&[
                ("group.id", group.as_str()),
                ("enable.auto.commit", "false"),
            ]);
            let consumer = config.create().context("cannot make a consumer")?;
            anyhow::Ok(Place {
                topic,
                stage,
                consumer,
            })
        };
        Ok(Self {
            places: vec![
                place(names.replay.clone(), "reprocess")?,
                place(names.redeliveries.clone(), "redeliver")?,
            ],
            since_look: Cell::new(LOOK_EVERY),
            shutdown: shutdown.clone(),
        })
    }

    /// To be called before each record: waits while too much of what was sent has not been worked. Blocks.
    pub(super) fn wait(&self) -> anyhow::Result<()> {
        let sent = self.since_look.get() + 1;
        self.since_look.set(sent);
        if sent < LOOK_EVERY {
            return Ok(());
        }
        self.since_look.set(0);
        for place in &self.places {
            self.wait_for(place)?;
        }
        Ok(())
    }

    fn wait_for(&self, place: &Place) -> anyhow::Result<()> {
        let mut said = false;
        let began = Instant::now();
        while !self.shutdown.requested() {
            let behind = place.behind()?;
            if behind <= AHEAD {
                break;
            }
            if !said && began.elapsed() > SAY_AFTER {
                said = true;
                tracing::info!(
                    stage = place.stage,
                    behind,
                    "waiting until what was replayed so far is worked"
                );
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Place {
    /// Records that the group has not finished.
    fn behind(&self) -> anyhow::Result<i64> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), TIMEOUT)?;
        let partitions = metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions());
        let mut asked = TopicPartitionList::new();
        for partition in partitions {
            asked.add_partition(&self.topic, partition.id());
        }
        let committed = self.consumer.committed_offsets(asked, TIMEOUT)?;
        let mut behind = 0;
        for element in committed.elements() {
            let partition = element.partition();
            let (low, high) = self
                .consumer
                .fetch_watermarks(&self.topic, partition, TIMEOUT)?;
            let next = match element.offset() {
                Offset::Offset(offset) => offset.max(low),
                _ => low,
            };
            behind += (high - next).max(0);
        }
        Ok(behind)
    }
}
