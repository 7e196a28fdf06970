//! Group commit for records whose key orders nothing: while a few batches are in flight the next one gathers.
//!
//! librdkafka sends a request for each partition, and each as soon as it can: spread by their keys, records that
//! could travel together travel one by one, and requests are what costs client and broker most. Worse, it lets no
//! more than five records of a partition be in flight, and its thread spins while others wait behind them. So
//! records wait here instead: a batch leaves for the next partition when the one before has been acknowledged,
//! and nothing ever waits inside librdkafka. A partition that does not answer costs what it was given; the
//! others go on. Pure state, fed with the clock; whoever drives the producer sends what departs.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rdkafka::message::OwnedHeaders;

/// Batches in flight, each on a partition of its own, so that client and broker need not wait for each other. Of
/// 1, 2, 3, 4, 5, 6 and 12 tried with 1 to 512 connections, three cost the least CPU and answered soonest.
const FRESH_FLIGHTS: usize = 3;
/// Beyond the producer's own waiting, a batch in sync is acknowledged sooner.
const PATIENCE: Duration = Duration::from_millis(25);
/// One batch at the most.
const BATCH_RECORDS: usize = 512;
const BATCH_BYTES: usize = 1 << 20;
/// Records that may wait.
const MAX_WAITING: usize = 100_000;

/// A record on its way, in any order.
pub(super) struct Record<T> {
    pub(super) key: Vec<u8>,
    pub(super) payload: Bytes,
    pub(super) headers: OwnedHeaders,
    pub(super) token: T,
    pub(super) queued: Instant,
}

/// What leaves now: for one partition, or wherever the keys say.
pub(super) struct Batch<T> {
    pub(super) partition: Option<i32>,
    pub(super) records: Vec<Record<T>>,
}

/// The records of one topic that gather.
pub struct Group<T> {
    topic: Box<str>,
    max_bytes: usize,
    /// A batch that has not been acknowledged after this long no longer holds up the next one.
    patience: Duration,
    state: Mutex<State<T>>,
}

struct State<T> {
    waiting: VecDeque<Record<T>>,
    bytes: usize,
    /// One for each partition; none while it is not known how many there are.
    flights: Vec<Flight>,
    next: usize,
}

#[derive(Clone, Copy)]
struct Flight {
    remaining: usize,
    since: Instant,
}

impl<T> Group<T> {
    /// `linger` is how long the producer itself waits before it sends; `start` keeps producers that begin together
    /// from walking in step.
    pub(super) fn new(topic: &str, max_bytes: usize, linger: Duration, start: usize) -> Self {
        Self {
            topic: topic.into(),
            max_bytes,
            patience: PATIENCE + linger,
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                bytes: 0,
                flights: Vec::new(),
                next: start % 1_024,
            }),
        }
    }

    /// Whose records gather here.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_partitions(&self, count: usize, now: Instant) {
        let none = Flight {
            remaining: 0,
            since: now,
        };
        self.state().flights.resize(count, none);
    }

    pub(super) fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// Lets a record wait for the next batch. True where it is the first, and somebody should look.
    ///
    /// # Errors
    /// As much waits already as may.
    pub(super) fn push(&self, record: Record<T>) -> Result<bool, Record<T>> {
        let mut state = self.state();
        let bytes = state.bytes + record.payload.len();
        if state.waiting.len() >= MAX_WAITING || bytes > self.max_bytes {
            return Err(record);
        }
        state.bytes = bytes;
        state.waiting.push_back(record);
        Ok(state.waiting.len() == 1)
    }

    /// Puts back, in front, what the producer had no room for.
    pub(super) fn put_back(&self, batch: Batch<T>) {
        let mut state = self.state();
        if let Some(flight) = batch.partition.and_then(|at| state.flight(at)) {
            flight.remaining = flight.remaining.saturating_sub(batch.records.len());
        }
        for record in batch.records.into_iter().rev() {
            state.bytes += record.payload.len();
            state.waiting.push_front(record);
        }
    }

    /// Notes that a record of a partition has been acknowledged, or has failed. One that did not come from here
    /// only ends a flight early.
    pub(super) fn settled(&self, partition: i32) {
        if let Some(flight) = self.state().flight(partition) {
            flight.remaining = flight.remaining.saturating_sub(1);
        }
    }

    /// What may leave now, or when to look again.
    pub(super) fn depart(&self, now: Instant) -> Result<Batch<T>, Option<Instant>> {
        let mut state = self.state();
        if state.waiting.is_empty() {
            return Err(None);
        }
        if state.flights.is_empty() {
            return Ok(Batch {
                partition: None,
                records: state.take(),
            });
        }
        let under_way = state.flights.iter().filter(|flight| flight.remaining > 0);
        let patience_ends = under_way.map(|flight| flight.since + self.patience);
        let fresh: Vec<Instant> = patience_ends.filter(|until| *until > now).collect();
        if fresh.len() >= FRESH_FLIGHTS {
            return Err(fresh.into_iter().min());
        }
        let count = state.flights.len();
        let turn = state.next;
        let free = (0..count)
            .map(|step| (turn + step) % count)
            .find(|at| state.flights[*at].remaining == 0);
        // Every partition is stuck: an acknowledgement or a failure wakes whoever looks.
        let free = free.ok_or(None)?;
        state.next = free + 1;
        let records = state.take();
        state.flights[free] = Flight {
            remaining: records.len(),
            since: now,
        };
        Ok(Batch {
            partition: i32::try_from(free).ok(),
            records,
        })
    }

    /// Takes out what has waited for `timeout`, and says when the next one will have.
    pub(super) fn expire(
        &self,
        now: Instant,
        timeout: Duration,
    ) -> (Vec<Record<T>>, Option<Instant>) {
        let mut state = self.state();
        let mut expired = Vec::new();
        while let Some(front) = state.waiting.front() {
            let until = front.queued + timeout;
            if until > now {
                return (expired, Some(until));
            }
            expired.extend(state.pop());
        }
        (expired, None)
    }
}

impl<T> State<T> {
    fn flight(&mut self, partition: i32) -> Option<&mut Flight> {
        self.flights.get_mut(usize::try_from(partition).ok()?)
    }

    fn pop(&mut self) -> Option<Record<T>> {
        let record = self.waiting.pop_front()?;
        self.bytes -= record.payload.len();
        Some(record)
    }

    fn take(&mut self) -> Vec<Record<T>> {
        let mut records = Vec::with_capacity(self.waiting.len().min(BATCH_RECORDS));
        let mut bytes = 0;
        while records.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            let Some(record) = self.pop() else { break };
            bytes += record.payload.len();
            records.push(record);
        }
        records
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

    use super::*;

    fn group(partitions: usize) -> (Group<usize>, Instant) {
        let now = Instant::now();
        let group = Group::new("t", 1 << 20, Duration::ZERO, 0);
        group.set_partitions(partitions, now);
        (group, now)
    }

    fn push(group: &Group<usize>, token: usize, bytes: usize) -> Result<bool, usize> {
        let record = Record {
            key: Vec::new(),
            payload: Bytes::from(vec![0; bytes]),
            headers: OwnedHeaders::new(),
            token,
            queued: Instant::now(),
        };
        group.push(record).map_err(|record| record.token)
    }

    fn tokens(batch: &Batch<usize>) -> Vec<usize> {
        batch.records.iter().map(|record| record.token).collect()
    }

    #[test]
    fn a_batch_gathers_while_the_one_before_is_in_flight() {
        let (group, now) = group(12);
        for token in 0..FRESH_FLIGHTS {
            assert_eq!(push(&group, token, 1), Ok(true));
            let batch = group.depart(now).ok().unwrap();
            assert_eq!(
                (batch.partition, tokens(&batch)),
                (i32::try_from(token).ok(), vec![token])
            );
        }
        for token in 10..20 {
            push(&group, token, 1).unwrap();
        }
        assert!(matches!(group.depart(now), Err(Some(until)) if until == now + PATIENCE));
        group.settled(1);
        let next = group.depart(now).ok().unwrap();
        assert_eq!(
            usize::try_from(next.partition.unwrap()).unwrap(),
            FRESH_FLIGHTS
        );
        assert_eq!(tokens(&next), (10..20).collect::<Vec<_>>());
        assert!(matches!(group.depart(now), Err(None)));
    }

    #[test]
    fn a_partition_that_does_not_answer_is_passed_over() {
        let (group, mut now) = group(3);
        for token in 0..9 {
            push(&group, token, 1).unwrap();
            let batch = group.depart(now).ok().unwrap();
            // Partition 1 never answers.
            if batch.partition != Some(1) {
                group.settled(batch.partition.unwrap());
            }
            assert!(token < 2 || batch.partition != Some(1), "{token}");
            now += PATIENCE;
        }
    }

    #[test]
    fn before_partitions_are_known_keys_decide_and_bounds_hold() {
        let group = Group::new("t", 10, Duration::ZERO, 0);
        push(&group, 0, 6).unwrap();
        assert_eq!(push(&group, 1, 6), Err(1));
        let batch = group.depart(Instant::now()).ok().unwrap();
        assert_eq!((batch.partition, batch.records.len()), (None, 1));
        group.put_back(batch);
        assert_eq!(push(&group, 1, 6), Err(1));
        assert_eq!(group.waiting(), 1);
    }

    #[test]
    fn what_waits_too_long_is_told_so() {
        let (group, _) = group(1);
        push(&group, 0, 1).unwrap();
        let timeout = Duration::from_secs(10);
        let (expired, next) = group.expire(Instant::now(), timeout);
        assert!(expired.is_empty() && next.is_some());
        let (expired, next) = group.expire(Instant::now() + timeout, timeout);
        assert_eq!((expired.len(), next), (1, None));
        assert_eq!(group.waiting(), 0);
    }

    #[test]
    fn every_record_leaves_exactly_once_and_in_turn() {
        proptest::proptest!(|(sizes in proptest::collection::vec(0usize..300_000, 1..200), partitions in 1usize..5)| {
            let now = Instant::now();
            let group = Group::new("t", usize::MAX, Duration::ZERO, 0);
            group.set_partitions(partitions, now);
            for (token, bytes) in sizes.iter().enumerate() {
                push(&group, token, *bytes).unwrap();
            }
            let mut seen = Vec::new();
            while let Ok(batch) = group.depart(now) {
                let bytes: usize = batch.records.iter().map(|record| record.payload.len()).sum();
                assert!(bytes < BATCH_BYTES + 300_000);
                seen.extend(tokens(&batch));
                for _ in &batch.records {
                    group.settled(batch.partition.unwrap());
                }
            }
            assert_eq!(seen, (0..sizes.len()).collect::<Vec<_>>());
        });
    }
}
