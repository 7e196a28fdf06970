//! The arithmetic of the two ledgers of account: what was read about each id, and what follows from it.
//!
//! Pure, and blind to order: records may come in any order and any number of times and give the same
//! account. For each distinct id it keeps 16 bytes and a state of a few more, whatever the number of its
//! records. Which records there are is the business of `audit::read`, what is printed that of
//! `audit::report`.

use std::collections::{BTreeSet, HashMap};

use router_schemas::{DeliveryId, EventId};
use serde::Serialize;
use uuid::Uuid;

/// Ids that do not fit, of each kind, named in an account at the most.
const NAMED: usize = 5;

/// What became of a raw record. In ascending order of how far it came: of several outcomes in one round
/// the furthest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RawOutcome {
    Dead,
    SetAside,
    Duplicate,
    Unrouted,
    Routed,
}

/// Where a delivery stands. In ascending order of how final it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeliveryState {
    Parked,
    Held,
    Dead,
    Cancelled,
    Delivered,
}

/// A state and the round (the count of redrives) it was reached in: a later round counts for more.
type Furthest<S> = Option<(u32, S)>;

#[derive(Debug, Default)]
struct Raw {
    outcome: Furthest<RawOutcome>,
    /// The raw record was read.
    kept: bool,
    /// `process` says that it has finished the raw record.
    passed: bool,
    /// A result names a raw record that retention has taken.
    gone: bool,
}

#[derive(Debug, Default)]
struct Delivery {
    state: Furthest<DeliveryState>,
    /// A result that queued it was read.
    queued: bool,
    /// Its event is so old that the result which queued it may be gone.
    old: bool,
    /// When its event was received, in seconds since 1970.
    event_s: u32,
}

/// Everything that was read, by id.
#[derive(Debug, Default)]
pub struct Books {
    raw: HashMap<Uuid, Raw>,
    deliveries: HashMap<Uuid, Delivery>,
}

impl Books {
    /// A raw record, and whether the group `process` has finished it.
    pub fn raw(&mut self, id: EventId, passed: bool) {
        let raw = self.raw.entry(id.0).or_default();
        raw.kept = true;
        raw.passed |= passed;
    }

    /// What became of a raw record; `gone` when retention has taken it since. Not for replays, which are
    /// new work on a record that has its outcome.
    pub fn outcome(&mut self, id: EventId, round: u32, outcome: RawOutcome, gone: bool) {
        let raw = self.raw.entry(id.0).or_default();
        raw.outcome = raw.outcome.max(Some((round, outcome)));
        raw.gone |= gone;
    }

    /// A delivery that a result says it queued.
    pub fn queued(&mut self, id: DeliveryId, event: EventId) {
        let delivery = self.delivery(id, event);
        delivery.queued = true;
    }

    /// What happened to a delivery; `old` when the result that queued it may have been taken by retention.
    pub fn attempt(
        &mut self,
        id: DeliveryId,
        event: EventId,
        round: u32,
        state: DeliveryState,
        old: bool,
    ) {
        let delivery = self.delivery(id, event);
        delivery.state = delivery.state.max(Some((round, state)));
        delivery.old |= old;
    }

    fn delivery(&mut self, id: DeliveryId, event: EventId) -> &mut Delivery {
        let delivery = self.deliveries.entry(id.0).or_default();
        // All records of a delivery name one event; the largest, so that the order does not matter where
        // they are wrong.
        delivery.event_s = delivery.event_s.max(received_s(event));
        delivery
    }

    /// The account of the events received at or after `since_ms` (0 for all).
    ///
    /// `idle` says that every consumer has finished everything there is to read: whatever is not at its
    /// end then never will be.
    #[must_use]
    pub fn account(&self, idle: bool, since_ms: i64) -> Account {
        let since_s = u32::try_from(since_ms / 1_000).unwrap_or(0);
        let mut account = Account::default();
        for (id, raw) in &self.raw {
            if received_s(EventId(*id)) >= since_s {
                account.add_raw(*id, raw);
            }
        }
        for (id, delivery) in &self.deliveries {
            if delivery.event_s >= since_s {
                account.add_delivery(*id, delivery, idle);
            }
        }
        account
    }
}

fn received_s(event: EventId) -> u32 {
    let ms = event.received_at_ms().unwrap_or(0);
    u32::try_from(ms / 1_000).unwrap_or(u32::MAX)
}

/// Ids that fit into no place of a ledger: how many, and the first of them.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Unfit {
    pub count: u64,
    pub first: BTreeSet<Uuid>,
}

impl Unfit {
    fn add(&mut self, id: Uuid) {
        self.count += 1;
        self.first.insert(id);
        if self.first.len() > NAMED {
            self.first.pop_last();
        }
    }
}

/// Raw records by what became of them.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct RawLedger {
    /// Distinct ids, in the topic or with an outcome.
    pub records: u64,
    /// Not yet worked by `process`.
    pub waiting: u64,
    pub routed: u64,
    pub unrouted: u64,
    pub duplicate: u64,
    pub set_aside: u64,
    pub dead: u64,
    /// Worked, and taken by retention since.
    pub expired: u64,
    /// `process` has finished the record and no outcome of it stands in webhooks.processed.
    pub lost: Unfit,
    /// An outcome of a raw record that should still be there and is not.
    pub unknown: Unfit,
}

/// Deliveries by where they stand.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct DeliveryLedger {
    /// Distinct ids, queued or attempted.
    pub deliveries: u64,
    /// Queued or in flight, and nothing happened to them yet.
    pub queued: u64,
    /// In a delay topic, or on the way back from one.
    pub parked: u64,
    pub held: u64,
    pub delivered: u64,
    pub cancelled: u64,
    pub dead: u64,
    /// The result that queued them was taken by retention.
    pub expired: u64,
    /// Not at their end, and no consumer has anything left to do.
    pub lost: Unfit,
    /// Something happened to a delivery that no result has queued.
    pub unknown: Unfit,
}

/// Both ledgers.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    pub raw: RawLedger,
    pub deliveries: DeliveryLedger,
}

impl Account {
    fn add_raw(&mut self, id: Uuid, raw: &Raw) {
        let ledger = &mut self.raw;
        ledger.records += 1;
        let outcome = raw.outcome.map(|(_, outcome)| outcome);
        match (raw.kept, outcome) {
            (true, Some(RawOutcome::Routed)) => ledger.routed += 1,
            (true, Some(RawOutcome::Unrouted)) => ledger.unrouted += 1,
            (true, Some(RawOutcome::Duplicate)) => ledger.duplicate += 1,
            (true, Some(RawOutcome::SetAside)) => ledger.set_aside += 1,
            (true, Some(RawOutcome::Dead)) => ledger.dead += 1,
            (true, None) if raw.passed => ledger.lost.add(id),
            (true, None) => ledger.waiting += 1,
            (false, _) if raw.gone => ledger.expired += 1,
            (false, _) => ledger.unknown.add(id),
        }
    }

    fn add_delivery(&mut self, id: Uuid, delivery: &Delivery, idle: bool) {
        let ledger = &mut self.deliveries;
        ledger.deliveries += 1;
        if !delivery.queued {
            if delivery.old {
                ledger.expired += 1;
            } else {
                ledger.unknown.add(id);
            }
            return;
        }
        match delivery.state.map(|(_, state)| state) {
            Some(DeliveryState::Delivered) => ledger.delivered += 1,
            Some(DeliveryState::Cancelled) => ledger.cancelled += 1,
            Some(DeliveryState::Dead) => ledger.dead += 1,
            // What is held waits for a person, not for a consumer.
            Some(DeliveryState::Held) => ledger.held += 1,
            Some(DeliveryState::Parked) | None if idle => ledger.lost.add(id),
            Some(DeliveryState::Parked) => ledger.parked += 1,
            None => ledger.queued += 1,
        }
    }

    /// Whether every id has its place.
    #[must_use]
    pub fn balances(&self) -> bool {
        let unfit = [
            &self.raw.lost,
            &self.raw.unknown,
            &self.deliveries.lost,
            &self.deliveries.unknown,
        ];
        unfit.iter().all(|unfit| unfit.count == 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(n: i64) -> EventId {
        EventId::synthetic(1_780_000_000_000 + n * 1_000, "t", 0, n)
    }

    fn delivery(n: u128) -> DeliveryId {
        DeliveryId(Uuid::from_u128(n))
    }

    #[test]
    fn the_furthest_state_of_the_latest_round_counts() {
        let mut books = Books::default();
        books.raw(event(1), true);
        books.outcome(event(1), 0, RawOutcome::Routed, false);
        books.outcome(event(1), 0, RawOutcome::Dead, false);
        books.queued(delivery(1), event(1));
        books.attempt(delivery(1), event(1), 0, DeliveryState::Dead, false);
        books.attempt(delivery(1), event(1), 0, DeliveryState::Parked, false);
        let account = books.account(false, 0);
        assert_eq!((account.raw.routed, account.raw.dead), (1, 0));
        assert_eq!((account.deliveries.dead, account.deliveries.parked), (1, 0));
        books.attempt(delivery(1), event(1), 1, DeliveryState::Parked, false);
        assert_eq!(books.account(false, 0).deliveries.parked, 1);
        assert!(books.account(false, 0).balances());
    }

    #[test]
    fn a_raw_record_that_process_passed_without_an_outcome_is_lost() {
        let mut books = Books::default();
        books.raw(event(1), false);
        books.raw(event(2), true);
        let account = books.account(false, 0);
        assert_eq!(account.raw.waiting, 1);
        assert_eq!(account.raw.lost.first, BTreeSet::from([event(2).0]));
        assert!(!account.balances());
    }

    #[test]
    fn an_outcome_needs_a_raw_record_unless_retention_took_it() {
        let mut books = Books::default();
        books.outcome(event(1), 0, RawOutcome::Unrouted, true);
        assert_eq!(books.account(false, 0).raw.expired, 1);
        assert!(books.account(false, 0).balances());
        books.outcome(event(2), 0, RawOutcome::Unrouted, false);
        assert_eq!(books.account(false, 0).raw.unknown.count, 1);
        assert!(!books.account(false, 0).balances());
    }

    #[test]
    fn an_attempt_needs_a_queued_delivery_unless_its_event_is_old() {
        let mut books = Books::default();
        let state = DeliveryState::Delivered;
        books.attempt(delivery(1), event(1), 0, state, true);
        assert_eq!(books.account(false, 0).deliveries.expired, 1);
        assert!(books.account(false, 0).balances());
        books.attempt(delivery(2), event(1), 0, state, false);
        let account = books.account(false, 0);
        assert_eq!(
            account.deliveries.unknown.first,
            BTreeSet::from([delivery(2).0])
        );
        assert!(!account.balances());
    }

    #[test]
    fn what_waits_while_nobody_has_anything_to_do_is_lost() {
        let mut books = Books::default();
        books.queued(delivery(1), event(1));
        books.queued(delivery(2), event(1));
        books.attempt(delivery(2), event(1), 0, DeliveryState::Parked, false);
        books.queued(delivery(3), event(1));
        books.attempt(delivery(3), event(1), 0, DeliveryState::Held, false);
        assert!(books.account(false, 0).balances());
        let idle = books.account(true, 0).deliveries;
        assert_eq!(
            (idle.lost.count, idle.held, idle.queued, idle.parked),
            (2, 1, 0, 0)
        );
    }

    #[test]
    fn only_events_of_the_time_asked_for_are_counted() {
        let mut books = Books::default();
        for n in 0..10 {
            books.raw(event(n), false);
            books.queued(delivery(n as u128), event(n));
        }
        let account = books.account(false, 1_780_000_004_000);
        assert_eq!((account.raw.records, account.deliveries.deliveries), (6, 6));
    }

    /// One thing that can be read.
    #[derive(Debug, Clone)]
    enum Read {
        Raw(i64, bool),
        Outcome(i64, u32, u8, bool),
        Queued(u128),
        Attempt(u128, u32, u8, bool),
    }

    fn read() -> impl Strategy<Value = Read> {
        let (raw, delivery, round) = (0i64..8, 0u128..8, 0u32..3);
        prop_oneof![
            (raw.clone(), any::<bool>()).prop_map(|(id, passed)| Read::Raw(id, passed)),
            (raw, round.clone(), 0u8..5, any::<bool>())
                .prop_map(|(id, round, outcome, gone)| Read::Outcome(id, round, outcome, gone)),
            delivery.clone().prop_map(Read::Queued),
            (delivery, round, 0u8..5, any::<bool>())
                .prop_map(|(id, round, state, old)| Read::Attempt(id, round, state, old)),
        ]
    }

    fn books(reads: &[Read]) -> Books {
        const OUTCOMES: [RawOutcome; 5] = [
            RawOutcome::Dead,
            RawOutcome::SetAside,
            RawOutcome::Duplicate,
            RawOutcome::Unrouted,
            RawOutcome::Routed,
        ];
        const STATES: [DeliveryState; 5] = [
            DeliveryState::Parked,
            DeliveryState::Held,
            DeliveryState::Dead,
            DeliveryState::Cancelled,
            DeliveryState::Delivered,
        ];
        let mut books = Books::default();
        for read in reads {
            match *read {
                Read::Raw(id, passed) => books.raw(event(id), passed),
                Read::Outcome(id, round, outcome, gone) => {
                    books.outcome(event(id), round, OUTCOMES[usize::from(outcome)], gone);
                }
                Read::Queued(id) => books.queued(delivery(id), event(id as i64)),
                Read::Attempt(id, round, state, old) => {
                    let state = STATES[usize::from(state)];
                    books.attempt(delivery(id), event(id as i64), round, state, old);
                }
            }
        }
        books
    }

    proptest! {
        /// Order and repetition change nothing, and every id stands in exactly one place.
        #[test]
        fn the_account_does_not_depend_on_order_or_repetition(
            reads in prop::collection::vec(read(), 0..60),
            again in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
            order in prop::collection::vec(any::<u64>(), 90),
            idle in any::<bool>(),
        ) {
            let account = books(&reads).account(idle, 0);
            let mut shuffled = reads.clone();
            if !reads.is_empty() {
                shuffled.extend(again.iter().map(|index| index.get(&reads).clone()));
            }
            let mut keyed: Vec<_> = order.into_iter().zip(shuffled).collect();
            keyed.sort_by_key(|(key, _)| *key);
            let shuffled: Vec<_> = keyed.into_iter().map(|(_, read)| read).collect();
            prop_assert_eq!(&account, &books(&shuffled).account(idle, 0));

            let raw = &account.raw;
            let placed = raw.waiting + raw.routed + raw.unrouted + raw.duplicate + raw.set_aside + raw.dead
                + raw.expired + raw.lost.count + raw.unknown.count;
            prop_assert_eq!(raw.records, placed);
            let ledger = &account.deliveries;
            let placed = ledger.queued + ledger.parked + ledger.held + ledger.delivered + ledger.cancelled
                + ledger.dead + ledger.expired + ledger.lost.count + ledger.unknown.count;
            prop_assert_eq!(ledger.deliveries, placed);
        }
    }
}
