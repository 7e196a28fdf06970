//! What is committed and when: the frontier of each partition with the set finished above it, beside the owner while
//! it runs and before it goes on where a partition is let go.

use std::{sync::Arc, time::Instant};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::KafkaResult,
    types::RDKafkaErrorCode,
};
use tokio::task::block_in_place;

use super::{Owner, Slot};
use crate::consumer::runner::Runner;

/// What is committed of a partition: its frontier, and the finished set above it as metadata.
pub(super) type State = (i64, String);
/// A commit's partitions as slot, epoch and state, and how it ended.
pub(super) type CommitEnd = (Vec<(usize, u32, State)>, KafkaResult<()>);

struct Commit {
    list: TopicPartitionList,
    states: Vec<(usize, u32, State)>,
}

impl<R: Runner> Owner<R> {
    /// Collects every chosen partition whose frontier or finished set has changed since it was committed.
    fn uncommitted(&self, chosen: impl Fn(&Slot<R::In>) -> bool) -> Commit {
        let mut commit = Commit {
            list: TopicPartitionList::new(),
            states: Vec::new(),
        };
        for (index, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot.as_ref().filter(|slot| chosen(slot)) else {
                continue;
            };
            let state = (slot.ledger.frontier(), slot.ledger.metadata());
            if state == slot.committed {
                continue;
            }
            let mut element = commit.list.add_partition(&slot.topic, slot.partition);
            if element.set_offset(Offset::Offset(state.0)).is_ok() {
                element.set_metadata(&state.1);
                commit.states.push((index, slot.epoch, state));
            }
        }
        commit
    }

    /// Starts a commit beside the owner, if there is anything to commit and none is under way. librdkafka
    /// tells nobody how an asynchronous commit ended, so a synchronous one waits on a thread of its own.
    pub(super) fn start_commit(&mut self) {
        if self.committing.is_some() || self.last_commit.elapsed() < self.settings.commit_interval {
            return;
        }
        self.last_commit = Instant::now();
        let commit = self.uncommitted(|_| true);
        if commit.states.is_empty() {
            return;
        }
        let consumer = Arc::clone(&self.consumer);
        self.committing = Some(tokio::task::spawn_blocking(move || {
            let result = consumer.commit(&commit.list, CommitMode::Sync);
            (commit.states, result)
        }));
    }

    pub(super) fn commit_ended(&mut self, ended: Result<CommitEnd, tokio::task::JoinError>) {
        self.committing = None;
        let Ok((states, result)) = ended else { return };
        if self.committed_or_counted(result) {
            self.remember(states);
        }
    }

    /// Commits now, for partitions that are about to be let go.
    pub(super) fn commit_now(&mut self, chosen: impl Fn(&Slot<R::In>) -> bool) {
        let commit = self.uncommitted(chosen);
        if commit.states.is_empty() {
            return;
        }
        let result = block_in_place(|| self.consumer.commit(&commit.list, CommitMode::Sync));
        if self.committed_or_counted(result) {
            self.remember(commit.states);
        }
    }

    fn remember(&mut self, states: Vec<(usize, u32, State)>) {
        for (index, epoch, state) in states {
            if let Some(slot) = self.slots[index]
                .as_mut()
                .filter(|slot| slot.epoch == epoch)
            {
                slot.committed = state;
            }
        }
    }

    /// What was not committed differs from what is remembered, and so is tried again at the next turn.
    fn committed_or_counted(&self, result: KafkaResult<()>) -> bool {
        let Err(error) = result else { return true };
        self.meters.commit_errors.increment(1);
        let rebalancing = error.rdkafka_error_code() == Some(RDKafkaErrorCode::RebalanceInProgress);
        if rebalancing {
            tracing::debug!(
                stage = self.settings.stage,
                "commit postponed: the group is rebalancing"
            );
        } else {
            tracing::warn!(stage = self.settings.stage, %error, "offsets were not committed; trying again");
        }
        false
    }
}
