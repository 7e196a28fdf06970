//! Which offsets of one partition are finished, and what may be committed.
//!
//! Records finish out of order. The *frontier* is the first offset that is not finished; it is committed
//! together with the set of what is finished above it, so that one hanging record does not make a
//! restart repeat all that finished behind it. Offsets have holes (transaction markers, compaction), so
//! the ledger counts over the records received, never by adding one.

use std::{collections::VecDeque, fmt::Write as _, ops::Range};

/// Kafka's default `offset.metadata.max.bytes`.
const METADATA_LIMIT: usize = 4_096;
const VERSION: &str = "1:";

/// What a received offset is to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// To be worked.
    New,
    /// Finished before a restart, by the committed metadata: not to be worked again.
    AlreadyDone,
    /// Received before in this assignment.
    Repeated,
}

#[derive(Debug)]
struct Entry {
    offset: i64,
    done: bool,
}

/// The ledger of one partition during one assignment.
#[derive(Debug)]
pub struct Ledger {
    /// What is committed when nothing is open.
    next: i64,
    /// Received and not yet passed by the frontier; ascending offsets.
    open: VecDeque<Entry>,
    restored: CompletedSet,
    unfinished: usize,
}

impl Ledger {
    /// Starts at `position`, the offset that is read next, with what had finished above it.
    #[must_use]
    pub fn new(position: i64, restored: CompletedSet) -> Self {
        Self {
            next: position,
            open: VecDeque::new(),
            restored,
            unfinished: 0,
        }
    }

    pub fn receive(&mut self, offset: i64) -> Received {
        if offset < self.next {
            return Received::Repeated;
        }
        self.next = offset + 1;
        let done = self.restored.contains(offset);
        self.open.push_back(Entry { offset, done });
        if done {
            self.advance();
            return Received::AlreadyDone;
        }
        self.unfinished += 1;
        Received::New
    }

    /// Marks a received offset as finished. One that is not open is ignored.
    pub fn complete(&mut self, offset: i64) {
        let Ok(index) = self
            .open
            .binary_search_by_key(&offset, |entry| entry.offset)
        else {
            return;
        };
        let entry = &mut self.open[index];
        if !entry.done {
            entry.done = true;
            self.unfinished -= 1;
        }
        if index == 0 {
            self.advance();
        }
    }

    fn advance(&mut self) {
        while self.open.front().is_some_and(|entry| entry.done) {
            self.open.pop_front();
        }
    }

    /// The offset to commit: everything below it is finished.
    #[must_use]
    pub fn frontier(&self) -> i64 {
        self.open.front().map_or(self.next, |entry| entry.offset)
    }

    /// Records received and not finished.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// The finished set above the frontier, as the text that is committed beside it: the version, then
    /// lengths of runs, unfinished and finished in turn, from the frontier on. What does not fit is cut
    /// at the far end, and may be repeated after a restart.
    #[must_use]
    pub fn metadata(&self) -> String {
        let mut text = String::new();
        let mut at = self.frontier();
        for run in self.finished_runs() {
            let separator = if text.is_empty() { VERSION } else { "," };
            let before = text.len();
            // Writing to a String cannot fail.
            write!(
                text,
                "{separator}{},{}",
                run.start - at,
                run.end - run.start
            )
            .ok();
            if text.len() > METADATA_LIMIT {
                text.truncate(before);
                break;
            }
            at = run.end;
        }
        text
    }

    fn finished_runs(&self) -> impl Iterator<Item = Range<i64>> + '_ {
        let mut entries = self.open.iter().peekable();
        let later = std::iter::from_fn(move || {
            let start = loop {
                let entry = entries.next()?;
                if entry.done {
                    break entry.offset;
                }
            };
            let mut end = start + 1;
            // A hole between two finished records is finished too: nothing will ever stand there.
            while let Some(entry) = entries.next_if(|entry| entry.done) {
                end = entry.offset + 1;
            }
            Some(start..end)
        });
        // What was restored and has not been received again is still finished.
        let next = self.next;
        let ahead = self.restored.runs.iter().filter(move |run| run.end > next);
        later.chain(ahead.map(move |run| run.start.max(next)..run.end))
    }
}

/// Offsets above a committed frontier that are finished.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompletedSet {
    runs: Vec<Range<i64>>,
}

impl CompletedSet {
    #[must_use]
    pub fn contains(&self, offset: i64) -> bool {
        let after = self.runs.partition_point(|run| run.end <= offset);
        self.runs
            .get(after)
            .is_some_and(|run| run.contains(&offset))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

/// Reads what [`Ledger::metadata`] wrote beside a commit of `frontier`. Text of another form (another
/// client committed here) is an empty set: its records may be repeated, none is lost.
#[must_use]
pub fn decode_completed(metadata: &str, frontier: i64) -> CompletedSet {
    let mut runs = Vec::new();
    let Some(text) = metadata.strip_prefix(VERSION) else {
        return CompletedSet::default();
    };
    let mut lengths = text
        .split(',')
        .map(|length| length.parse::<i64>().ok().filter(|n| *n >= 0));
    let mut at = frontier;
    while let (Some(unfinished), Some(finished)) = (lengths.next(), lengths.next()) {
        let (Some(unfinished), Some(finished)) = (unfinished, finished) else {
            return CompletedSet::default();
        };
        let start = at.saturating_add(unfinished);
        at = start.saturating_add(finished);
        if start < at {
            runs.push(start..at);
        }
    }
    CompletedSet { runs }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ledger(offsets: &[i64]) -> Ledger {
        let mut ledger = Ledger::new(offsets[0], CompletedSet::default());
        for offset in offsets {
            assert_eq!(ledger.receive(*offset), Received::New);
        }
        ledger
    }

    #[test]
    fn the_frontier_waits_for_the_first_unfinished_record() {
        let mut ledger = ledger(&[10, 11, 12]);
        ledger.complete(12);
        ledger.complete(11);
        assert_eq!(ledger.frontier(), 10);
        ledger.complete(10);
        assert_eq!(ledger.frontier(), 13);
        assert_eq!(ledger.metadata(), "");
    }

    #[test]
    fn holes_do_not_hold_the_frontier() {
        let mut ledger = ledger(&[10, 15, 16]);
        ledger.complete(10);
        assert_eq!(ledger.frontier(), 15);
        ledger.complete(15);
        ledger.complete(16);
        assert_eq!(ledger.frontier(), 17);
    }

    #[test]
    fn a_restart_repeats_only_what_was_not_finished() {
        let mut before = ledger(&[10, 11, 12, 13, 14]);
        before.complete(11);
        before.complete(13);
        let restored = decode_completed(&before.metadata(), before.frontier());
        let mut after = Ledger::new(before.frontier(), restored);
        let again: Vec<i64> = (10..=14)
            .filter(|offset| after.receive(*offset) == Received::New)
            .collect();
        assert_eq!(again, [10, 12, 14]);
    }

    #[test]
    fn a_second_restart_before_reading_on_forgets_nothing() {
        let mut first = ledger(&[10, 11, 12]);
        first.complete(12);
        let second = Ledger::new(10, decode_completed(&first.metadata(), 10));
        assert_eq!(second.metadata(), first.metadata());
    }

    #[test]
    fn text_of_another_client_is_an_empty_set() {
        for text in ["", "hello", "1:x", "1:1,-2", "2:1,2"] {
            assert!(decode_completed(text, 5).is_empty(), "{text}");
        }
    }

    #[test]
    fn metadata_never_exceeds_what_the_broker_takes() {
        let offsets: Vec<i64> = (0..20_000).collect();
        let mut ledger = ledger(&offsets);
        offsets
            .iter()
            .filter(|offset| *offset % 2 == 1)
            .for_each(|offset| ledger.complete(*offset));
        let text = ledger.metadata();
        assert!(text.len() <= METADATA_LIMIT);
        let set = decode_completed(&text, ledger.frontier());
        assert!(set.contains(1) && !set.contains(2), "the near end is kept");
        assert!(!set.contains(19_999), "the far end is cut");
    }

    proptest! {
        /// Whatever the order of completion and wherever it is cut by a restart: nothing that was not
        /// finished is ever passed over, and nothing finished is worked again.
        #[test]
        fn restarts_lose_nothing_and_repeat_nothing_finished(
            gaps in prop::collection::vec(1i64..4, 1..60),
            finish in prop::collection::vec(any::<(prop::sample::Index, bool)>(), 0..80),
        ) {
            let mut offsets = vec![];
            let mut at = 100;
            for gap in gaps {
                at += gap;
                offsets.push(at);
            }
            let mut finished = BTreeSet::new();
            let mut ledger = Ledger::new(100, CompletedSet::default());
            for offset in &offsets {
                prop_assert_eq!(ledger.receive(*offset), Received::New);
            }
            for (index, restart) in finish {
                let offset = *index.get(&offsets);
                ledger.complete(offset);
                finished.insert(offset);
                prop_assert!(offsets.iter().all(|o| *o >= ledger.frontier() || finished.contains(o)));
                if restart {
                    let set = decode_completed(&ledger.metadata(), ledger.frontier());
                    let mut next = Ledger::new(ledger.frontier(), set);
                    for offset in offsets.iter().filter(|o| **o >= ledger.frontier()) {
                        let expected = match finished.contains(offset) {
                            true => Received::AlreadyDone,
                            false => Received::New,
                        };
                        prop_assert_eq!(next.receive(*offset), expected);
                    }
                    ledger = next;
                }
            }
            prop_assert_eq!(ledger.unfinished(), offsets.len() - finished.len());
        }
    }
}
