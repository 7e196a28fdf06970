//! Partitions that come and go: assigned with what was committed of them, drained with a deadline before they are let
//! go.

use std::{sync::Arc, time::Instant};

use anyhow::bail;
use rdkafka::{Offset, TopicPartitionList, consumer::Consumer as _};
use tokio::sync::watch;

use super::{Owner, Revocation, Slot};
use crate::consumer::{
    effects::Ticket,
    ledger::{Ledger, decode_completed},
    runner::Runner,
};

impl<R: Runner> Owner<R> {
    pub(super) fn assign(&mut self, partitions: &[(String, i32)]) -> anyhow::Result<()> {
        let mut wanted = TopicPartitionList::new();
        for (topic, partition) in partitions {
            wanted.add_partition(topic, *partition);
        }
        let committed = self.committed(wanted)?;
        let mut start = TopicPartitionList::new();
        for element in committed.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            // Split off before the fetcher starts, so that nothing arrives on the main queue.
            let Some(mut queue) = self.consumer.split_partition_queue(topic, partition) else {
                bail!("no queue for {topic}/{partition}");
            };
            let filled = Arc::clone(&self.queue_filled);
            queue.set_nonempty_callback(move || filled.notify_one());
            let (position, offset) = match element.offset() {
                Offset::Offset(offset) => (offset, Offset::Offset(offset)),
                _ => {
                    let begins = self.beginning(topic, partition);
                    (begins, Offset::Beginning)
                }
            };
            start.add_partition_offset(topic, partition, offset)?;
            let restored = decode_completed(element.metadata(), position);
            self.epochs += 1;
            let slot = Slot {
                topic: topic.into(),
                partition,
                epoch: self.epochs,
                queue,
                ledger: Ledger::new(position, restored),
                in_work: 0,
                held: None,
                committed: (position, element.metadata().to_owned()),
                revoked: false,
                lost_place: false,
                cancel: watch::Sender::new(()),
            };
            match self.slots.iter().position(Option::is_none) {
                Some(free) => self.slots[free] = Some(slot),
                None => self.slots.push(Some(slot)),
            }
        }
        self.consumer.incremental_assign(&start)?;
        self.maybe_filled = true;
        self.ready.set(!self.draining);
        tracing::info!(
            stage = self.settings.stage,
            added = partitions.len(),
            owned = self.owned(),
            "partitions assigned"
        );
        Ok(())
    }

    pub(super) fn begin_revocation(&mut self, partitions: Vec<(String, i32)>) {
        for (topic, partition) in &partitions {
            if let Some(slot) = self
                .find(topic, *partition)
                .and_then(|i| self.slots[i].as_mut())
            {
                slot.revoked = true;
            }
        }
        self.drop_unstarted();
        let deadline = Instant::now() + self.settings.drain_timeout;
        self.revocation = Some(Revocation {
            partitions,
            deadline,
        });
    }

    /// Forgets records that were received and not begun, of revoked partitions, or of all while draining.
    pub(super) fn drop_unstarted(&mut self) {
        let draining = self.draining;
        let mut dropped = Vec::new();
        for slot in self.slots.iter_mut().flatten() {
            if (slot.revoked || draining)
                && let Some((_, task)) = slot.held.take()
            {
                slot.in_work += 1;
                dropped.push(task.ticket);
            }
        }
        let slots = &self.slots;
        let gone = |ticket: &Ticket| {
            draining || slots[ticket.slot].as_ref().is_none_or(|slot| slot.revoked)
        };
        let (drop_now, keep) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|task| gone(&task.ticket));
        dropped.extend(drop_now.iter().map(|task| task.ticket));
        self.waiting = keep;
        self.waiting_bytes = self.waiting.iter().map(|task| task.ticket.bytes).sum();
        for ticket in dropped {
            self.in_flight -= 1;
            self.in_flight_bytes -= ticket.bytes;
            // One of an older ledger is not counted in this one.
            if let Some(slot) = self.slots[ticket.slot]
                .as_mut()
                .filter(|slot| slot.epoch == ticket.epoch)
            {
                slot.in_work -= 1;
            }
        }
    }

    /// Lets revoked partitions go once nothing is in work, or when the deadline has passed.
    pub(super) fn finish_revocation(&mut self) -> anyhow::Result<()> {
        let Some(revocation) = &self.revocation else {
            return Ok(());
        };
        let lost = self.consumer.assignment_lost();
        let in_work: usize = self
            .slots
            .iter()
            .flatten()
            .filter(|slot| slot.revoked)
            .map(|slot| slot.in_work)
            .sum();
        if in_work > 0 && !lost && Instant::now() < revocation.deadline {
            return Ok(());
        }
        if in_work > 0 {
            tracing::warn!(
                stage = self.settings.stage,
                in_work,
                lost,
                "partitions let go while records are in work; these will be repeated"
            );
        }
        if self.committing.is_some() && !lost {
            // An older commit must not land behind the last one.
            return Ok(());
        }
        if !lost {
            self.commit_now(|slot| slot.revoked);
        }
        let Some(revocation) = self.revocation.take() else {
            return Ok(());
        };
        let mut list = TopicPartitionList::new();
        for (topic, partition) in &revocation.partitions {
            list.add_partition(topic, *partition);
        }
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|slot| slot.revoked) {
                *slot = None;
            }
        }
        self.consumer.incremental_unassign(&list)?;
        tracing::info!(
            stage = self.settings.stage,
            removed = revocation.partitions.len(),
            owned = self.owned(),
            "partitions revoked"
        );
        Ok(())
    }
}
