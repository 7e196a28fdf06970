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
const ASK_AGAIN: Duration = Duration::from_secs(1);
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
    pub(super) fn wait(&self) {
        let sent = self.since_look.get() + 1;
        self.since_look.set(sent);
        if sent < LOOK_EVERY {
            return;
        }
        self.since_look.set(0);
        for place in &self.places {
            self.wait_for(place);
        }
    }

    fn wait_for(&self, place: &Place) {
        let mut said = false;
        let began = Instant::now();
        while !self.shutdown.requested() {
            let behind = match place.behind() {
                Ok(behind) if behind <= AHEAD => return,
                Ok(behind) => behind,
                // A job that gives up half way cannot be taken up again: what it has sent would be sent twice.
                Err(error) => {
                    tracing::warn!(%error, stage = place.stage, "kafka does not say how far the replay is; asking again");
                    std::thread::sleep(ASK_AGAIN);
                    continue;
                }
            };
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
