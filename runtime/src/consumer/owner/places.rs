//! Where a partition goes on: at its committed offset, or loudly somewhere else where that no longer exists.

use std::time::Duration;

use anyhow::Context as _;
use rdkafka::{Offset, TopicPartitionList, consumer::Consumer as _, error::KafkaResult};
use tokio::task::block_in_place;

use super::Owner;
use crate::consumer::{
    ledger::{Ledger, decode_completed},
    runner::Runner,
};

/// How long committed offsets may take to read when partitions are assigned.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a partition's beginning may take to find before it is tried again at the next tick.
const PLACE_TIMEOUT: Duration = Duration::from_secs(2);

impl<R: Runner> Owner<R> {
    /// Partitions whose next record is gone: retention was shorter than our lag, or the topic was made anew. What
    /// is lost cannot be had back; it is said loudly and counted, and the rest goes on. Tried on every tick until
    /// Kafka answers; where it does not for one, the others are not asked for, since nothing is polled meanwhile.
    pub(super) fn find_places(&mut self) {
        for index in 0..self.slots.len() {
            let lost = self.slots[index]
                .as_ref()
                .is_some_and(|slot| slot.lost_place);
            if lost && let Err(error) = self.find_place(index) {
                tracing::warn!(stage = self.settings.stage, %error, "cannot find where the partition begins; trying again");
                return;
            }
        }
    }

    fn find_place(&mut self, index: usize) -> KafkaResult<()> {
        let Some(slot) = &mut self.slots[index] else {
            return Ok(());
        };
        let consumer = &self.consumer;
        let (topic, partition) = (&*slot.topic, slot.partition);
        let (low, _) =
            block_in_place(|| consumer.fetch_watermarks(topic, partition, PLACE_TIMEOUT))?;
        block_in_place(|| consumer.seek(topic, partition, Offset::Offset(low), PLACE_TIMEOUT))?;
        let frontier = slot.ledger.frontier();
        let gone = (low - frontier).max(0);
        tracing::error!(
            stage = self.settings.stage,
            topic,
            partition,
            committed = frontier,
            begins = low,
            records_expired = gone,
            "the committed offset no longer exists: records expired before they were read; going on where the partition begins"
        );
        self.meters.lost.increment(u64::try_from(gone).unwrap_or(0));
        slot.ledger = Ledger::new(low, decode_completed("", low));
        slot.lost_place = false;
        // Completions of what was in work belong to the old ledger.
        self.epochs += 1;
        slot.epoch = self.epochs;
        slot.in_work = 0;
        Ok(())
    }

    /// Committed offsets with their metadata. The coordinator may be moving: tried until it answers.
    pub(super) fn committed(
        &self,
        wanted: TopicPartitionList,
    ) -> anyhow::Result<TopicPartitionList> {
        let mut last = None;
        for _ in 0..8 {
            let asked = wanted.clone();
            match block_in_place(|| self.consumer.committed_offsets(asked, COMMITTED_TIMEOUT)) {
                Ok(committed) => return Ok(committed),
                Err(error) => {
                    tracing::warn!(stage = self.settings.stage, %error, "cannot read committed offsets; trying again");
                    last = Some(error);
                    block_in_place(|| std::thread::sleep(Duration::from_millis(250)));
                }
            }
        }
        Err(last.map_or_else(|| anyhow::anyhow!("no answer"), Into::into))
            .context("cannot read committed offsets")
    }

    /// Where a partition without a committed offset begins. Beyond zero that is worth a word: a new group finds a
    /// topic whose oldest records have expired, or a group was idle for so long that its offsets expired.
    pub(super) fn beginning(&self, topic: &str, partition: i32) -> i64 {
        let asked = block_in_place(|| {
            self.consumer
                .fetch_watermarks(topic, partition, PLACE_TIMEOUT)
        });
        let begins = asked.map_or(0, |(low, _)| low);
        if begins > 0 {
            tracing::error!(
                stage = self.settings.stage,
                topic,
                partition,
                begins,
                "nothing is committed for a partition whose oldest records have expired; beginning with those that are left"
            );
        }
        begins
    }
}
