//! Each destination's share of what is in flight, and its pace.
//!
//! A destination has as many requests in flight as it allows, and as its answers have earned: it begins with a
//! few, each answer allows one more, each failure to answer one less. What exceeds that waits in memory while the
//! destination is quick, and is parked with a due time from its own pace once it is not: a slow or hanging
//! destination then costs the others no more than its own share, and a thousand dead ones little.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use router_schemas::DestinationId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A delivery waits this long in memory for its turn, and is parked beyond that.
const PATIENCE: Duration = Duration::from_secs(2);
/// Before anything is known of a destination.
const FIRST_GUESS_US: i64 = 50_000;
/// Requests in flight that every destination may have, however it answers.
const FEWEST_SLOTS: usize = 4;
/// The soonest a parked delivery comes back.
const SHORTEST_PARK_MS: i64 = 1_000;

/// Whether a delivery is a first attempt or comes late (a retry, a replay, a redrive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    First,
    /// May hold at most half of the slots that there are, so that what is late never delays what is new.
    Late,
}

/// All lanes of a process.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: Mutex<HashMap<DestinationId, Arc<Lane>>>,
}

/// One destination's lane.
#[derive(Debug)]
pub struct Lane {
    concurrency: usize,
    slots: Arc<Semaphore>,
    /// [`late_share`] of `earned`; `late_debt` are those that are still out and will not be given back.
    late_slots: Arc<Semaphore>,
    late_debt: AtomicUsize,
    /// Slots that there are: between [`FEWEST_SLOTS`] and `concurrency`.
    earned: AtomicUsize,
    /// First attempts that wait, and late ones: these stand behind each other, not before first attempts.
    waiting: [AtomicUsize; 2],
    /// Moving average of how long an attempt takes.
    attempt_us: AtomicI64,
    /// When an attempt last ended, or the lane last began to be used, since `started`.
    progress_us: AtomicI64,
    in_flight: AtomicUsize,
    /// The next free place in the destination's own time, milliseconds since 1970.
    next_free_ms: AtomicI64,
    started: Instant,
}

/// A place in a lane, given back when the attempt ends.
#[derive(Debug)]
pub struct Turn {
    lane: Arc<Lane>,
    began: Instant,
    answered: bool,
    slot: Option<OwnedSemaphorePermit>,
    late: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// The destination answered, whatever it said: it is there, and may have more in flight.
    pub fn answered(&mut self) {
        self.answered = true;
    }
}

/// What the lane says to a delivery.
#[derive(Debug)]
pub enum Admission {
    Go(Turn),
    /// No room soon enough: park for at least this long.
    Park {
        delay_ms: i64,
    },
}

impl Lanes {
    /// The lane of a destination. A change of its concurrency begins a new one; what runs in the old one
    /// ends there.
    #[must_use]
    pub fn lane(&self, id: DestinationId, concurrency: u32) -> Arc<Lane> {
        let concurrency = usize::try_from(concurrency).unwrap_or(1).max(1);
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes
            .get(&id)
            .filter(|lane| lane.concurrency == concurrency)
        {
            return Arc::clone(lane);
        }
        let lane = Arc::new(Lane::new(concurrency));
        lanes.insert(id, Arc::clone(&lane));
        lane
    }
}

impl Lane {
    fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            slots: Arc::new(Semaphore::new(concurrency.min(FEWEST_SLOTS))),
            late_slots: Arc::new(Semaphore::new(late_share(concurrency.min(FEWEST_SLOTS)))),
            late_debt: AtomicUsize::new(0),
            earned: AtomicUsize::new(concurrency.min(FEWEST_SLOTS)),
            waiting: Default::default(),
            attempt_us: AtomicI64::new(FIRST_GUESS_US),
            progress_us: AtomicI64::new(0),
            in_flight: AtomicUsize::new(0),
            next_free_ms: AtomicI64::new(0),
            started: Instant::now(),
        }
    }

    /// Waits for a turn, or says that it is not worth waiting.
    pub async fn admit(self: &Arc<Self>, share: Share, now_ms: i64) -> Admission {
        if let Some(turn) = self.try_turn(share) {
            return Admission::Go(turn);
        }
        let waiting = Waiting::enter(self, share);
        if self.expected_wait_us(waiting.place) > PATIENCE.as_micros() as i64 {
            return self.park(now_ms);
        }
        match tokio::time::timeout(PATIENCE, self.turn(share)).await {
            Ok(turn) => Admission::Go(turn),
            Err(_) => self.park(now_ms),
        }
    }

    fn try_turn(self: &Arc<Self>, share: Share) -> Option<Turn> {
        let late = match share {
            Share::First => None,
            Share::Late => Some(Arc::clone(&self.late_slots).try_acquire_owned().ok()?),
        };
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some(self.begin(slot, late))
    }

    async fn turn(self: &Arc<Self>, share: Share) -> Turn {
        let late = match share {
            Share::First => None,
            Share::Late => Some(Arc::clone(&self.late_slots).acquire_owned().await),
        };
        let late = late.map(|late| late.expect("the semaphore is never closed"));
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        self.begin(slot.expect("the semaphore is never closed"), late)
    }

    fn begin(
        self: &Arc<Self>,
        slot: OwnedSemaphorePermit,
        late: Option<OwnedSemaphorePermit>,
    ) -> Turn {
        if self.in_flight.fetch_add(1, Ordering::Relaxed) == 0 {
            self.progress_us.store(self.clock_us(), Ordering::Relaxed);
        }
        Turn {
            lane: Arc::clone(self),
            began: Instant::now(),
            answered: false,
            slot: Some(slot),
            late,
        }
    }

    /// How long the delivery at `place` of those waiting would wait.
    fn expected_wait_us(&self, place: usize) -> i64 {
        let place = i64::try_from(place).unwrap_or(i64::MAX);
        place.saturating_mul(self.pace_us()) / self.slots() as i64
    }

    fn slots(&self) -> usize {
        self.earned.load(Ordering::Relaxed)
    }

    /// One slot more after an answer, one less after a failure.
    fn earn(&self, answered: bool, slot: Option<OwnedSemaphorePermit>) {
        let fewest = self.concurrency.min(FEWEST_SLOTS);
        let change = |slots: usize| match answered {
            true => (slots < self.concurrency).then_some(slots + 1),
            false => (slots > fewest).then(|| slots - 1),
        };
        let changed = self
            .earned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        let Ok(before) = changed else { return };
        if answered {
            self.slots.add_permits(1);
            if late_share(before + 1) > late_share(before) && !self.pay_late_debt() {
                self.late_slots.add_permits(1);
            }
            return;
        }
        // The slot that is given is not given back.
        slot.into_iter().for_each(OwnedSemaphorePermit::forget);
        if late_share(before - 1) < late_share(before) && self.late_slots.forget_permits(1) == 0 {
            self.late_debt.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn pay_late_debt(&self) -> bool {
        let pay = |debt: usize| debt.checked_sub(1);
        let paid = self
            .late_debt
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay);
        paid.is_ok()
    }

    /// How long an attempt takes at present. While nothing ends, that silence is the best guess.
    fn pace_us(&self) -> i64 {
        let average = self.attempt_us.load(Ordering::Relaxed);
        let silence = self.clock_us() - self.progress_us.load(Ordering::Relaxed);
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            average.max(silence)
        } else {
            average
        }
    }

    /// Gives the next free place in the destination's own time.
    fn park(&self, now_ms: i64) -> Admission {
        let step_ms = (self.pace_us() / 1_000 / self.slots() as i64).max(1);
        let earliest = now_ms + SHORTEST_PARK_MS;
        let take = |next_free: i64| Some(next_free.max(earliest) + step_ms);
        let taken = self
            .next_free_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let due_ms = taken.map_or(earliest, |before| before.max(earliest));
        Admission::Park {
            delay_ms: due_ms - now_ms,
        }
    }

    fn clock_us(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX)
    }
}

/// Counts a delivery among those waiting for as long as it lives.
struct Waiting<'a> {
    among: &'a AtomicUsize,
    place: usize,
}

impl<'a> Waiting<'a> {
    fn enter(lane: &'a Lane, share: Share) -> Self {
        let among = &lane.waiting[usize::from(share == Share::Late)];
        Self {
            among,
            place: among.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.among.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let lane = &self.lane;
        let took = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        // An eighth of the new value: a few slow attempts show, a single one does not.
        let average = lane.attempt_us.load(Ordering::Relaxed);
        lane.attempt_us
            .store(average + (took - average) / 8, Ordering::Relaxed);
        lane.progress_us.store(lane.clock_us(), Ordering::Relaxed);
        lane.in_flight.fetch_sub(1, Ordering::Relaxed);
        lane.earn(self.answered, self.slot.take());
        if let Some(late) = self.late.take()
            && lane.pay_late_debt()
        {
            late.forget();
        }
    }
}

/// How many of the slots what comes late may hold.
fn late_share(slots: usize) -> usize {
    (slots / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(concurrency: u32) -> Arc<Lane> {
        Lanes::default().lane(DestinationId::generate(), concurrency)
    }

    #[tokio::test]
    async fn a_destination_has_no_more_in_flight_than_it_allows() {
        let lane = lane(2);
        let (first, second) = (
            lane.admit(Share::First, 0).await,
            lane.admit(Share::First, 0).await,
        );
        assert!(matches!(
            (&first, &second),
            (Admission::Go(_), Admission::Go(_))
        ));
        let waiting = tokio::spawn({
            let lane = Arc::clone(&lane);
            async move { lane.admit(Share::First, 0).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished());
        drop(first);
        assert!(matches!(waiting.await.unwrap(), Admission::Go(_)));
    }

    #[tokio::test]
    async fn answers_earn_slots_and_failures_cost_them() {
        let lane = lane(32);
        let fill = || -> Vec<Turn> { std::iter::from_fn(|| lane.try_turn(Share::First)).collect() };
        for expected in [4, 8, 16, 32, 32] {
            let mut turns = fill();
            assert_eq!(turns.len(), expected);
            turns.iter_mut().for_each(Turn::answered);
        }
        for expected in [32, 4, 4] {
            assert_eq!(fill().len(), expected);
        }
    }

    #[tokio::test]
    async fn half_of_what_is_earned_and_no_more_is_for_what_is_late() {
        let lane = lane(32);
        let late = || -> Vec<Turn> { std::iter::from_fn(|| lane.try_turn(Share::Late)).collect() };
        for expected in [2, 3, 4, 6, 9, 14, 16, 16] {
            let mut turns = late();
            assert_eq!(turns.len(), expected);
            turns.iter_mut().for_each(Turn::answered);
        }
        // Failures take slots back, also those that what is late still holds.
        for _ in 0..4 {
            drop(late());
        }
        assert_eq!((lane.slots(), late().len()), (4, 2));
        assert_eq!(lane.late_debt.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_is_late_leaves_half_for_what_is_new() {
        let lane = lane(4);
        let late: Vec<_> = (0..4).map(|_| lane.try_turn(Share::Late)).collect();
        assert_eq!(late.iter().flatten().count(), 2);
        let new: Vec<_> = (0..3).map(|_| lane.try_turn(Share::First)).collect();
        assert_eq!(new.iter().flatten().count(), 2);
    }

    #[tokio::test]
    async fn what_a_hanging_destination_cannot_take_is_parked_at_its_pace() {
        let lane = lane(1);
        lane.attempt_us.store(10_000_000, Ordering::Relaxed);
        let _hanging = lane.admit(Share::First, 0).await;
        let mut dues = Vec::new();
        for _ in 0..3 {
            match lane.admit(Share::First, 0).await {
                Admission::Park { delay_ms } => dues.push(delay_ms),
                Admission::Go(_) => panic!("admitted beyond its concurrency"),
            }
        }
        assert_eq!(dues, [1_000, 11_000, 21_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_patience() {
        let lane = lane(1);
        let _hanging = lane.admit(Share::First, 0).await;
        let began = tokio::time::Instant::now();
        assert!(matches!(
            lane.admit(Share::First, 0).await,
            Admission::Park { .. }
        ));
        assert!(began.elapsed() <= PATIENCE + Duration::from_millis(10));
    }
}
