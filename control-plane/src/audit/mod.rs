//! `control-plane audit`: whether everything that was accepted is accounted for.
//!
//! Reads `webhooks.raw`, `webhooks.processed` and `webhooks.attempts` from their beginning to the ends they
//! have now, joins no group, changes nothing, and may run beside everything else.
//!
//! What makes its verdict hold while traffic flows is the order of the questions: first how far each
//! consumer group has committed, then the ends of attempts, of results, of raw records, and of the topics
//! between the stages. A stage commits a record only when everything that follows from it is acknowledged,
//! so what was committed by the first question has its effects before the ends of the later ones. A raw
//! record that `process` had committed and that has no outcome is lost, whatever else goes on. Where every
//! group had committed up to ends that were asked for afterwards, nothing was under way at all, and a
//! delivery that is not at its end is lost too.
//!
//! - `ledger`: the arithmetic. `records`: what is read of each record.
//! - `read`, `groups`: topics, and positions of consumer groups.
//! - `database`: the same counts from PostgreSQL. `report`: what is printed.

mod database;
mod groups;
pub mod ledger;
mod read;
mod records;
mod report;

use std::collections::BTreeMap;

use groups::{Finished, Work};
use indicatif::{ProgressBar, ProgressStyle};
use ledger::Books;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use read::{Range, Reader, Topics};
use router_runtime::kafka::KafkaSettings;
use router_schemas::{EventId, topics::TopicNames};

pub use database::compare;
pub use report::{Comparison, Database, Lag, Report};

/// Everything that was read from Kafka.
pub struct Audit {
    books: Books,
    lags: Vec<Lag>,
    /// Every group of the data plane had finished everything.
    idle: bool,
    /// The archive had finished everything, so that the tables must hold the same.
    archived: bool,
    /// Events received before this may have been taken by retention in part.
    kept_since_ms: i64,
    unreadable: Unreadable,
    /// How far the three topics were read.
    read_to: Vec<(String, Vec<i64>)>,
}

/// Records that say nothing of any account: garbage that somebody put there. The stages that read them
/// send them to the dead letters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Unreadable {
    pub processed: u64,
    pub attempts: u64,
}

impl Audit {
    /// Reads the three topics. Blocks; to be called on a thread for blocking work.
    ///
    /// # Errors
    /// Kafka does not answer, or the topics do not exist.
    pub fn read(kafka: &KafkaSettings) -> anyhow::Result<Self> {
        let names = kafka.names();
        let reader = Reader::new(kafka)?;
        let topics = reader.topics()?;
        for topic in [&names.raw, &names.processed, &names.attempts] {
            anyhow::ensure!(
                topics.partitions(topic) > 0,
                "there is no topic {topic}; run `control-plane topics create`, and check TOPIC_PREFIX"
            );
        }
        // The order of these questions is what the verdict rests on: see above.
        let stages = groups::data_plane(kafka, &topics);
        let archive = groups::archive(kafka);
        let finished = Finished::of_all(kafka, stages.iter().chain([&archive]), &topics)?;
        let attempts = reader.ranges(&topics, &names.attempts)?;
        let processed = reader.ranges(&topics, &names.processed)?;
        let raw = reader.ranges(&topics, &names.raw)?;
        let mut lags = Vec::new();
        for (work, finished) in stages.iter().chain([&archive]).zip(&finished) {
            lags.push(lag(&reader, &topics, work, finished)?);
        }
        let archived = lags.pop().is_some_and(|lag| lag.records == 0);
        let idle = lags.iter().all(|lag| lag.records == 0);

        let read_to = [
            (&names.raw, &raw),
            (&names.processed, &processed),
            (&names.attempts, &attempts),
        ]
        .map(|(topic, ranges)| (topic.clone(), ends(ranges)))
        .into();
        let bar = progress(&[&raw, &processed, &attempts]);
        let mut walk = Walk {
            names: &names,
            books: Books::default(),
            unreadable: Unreadable::default(),
            process: &finished[0],
            raw_low: BTreeMap::new(),
            raw_since_ms: 0,
            processed_since_ms: 0,
        };
        walk.raw(&reader, &topics, &raw, &bar)?;
        walk.processed(&reader, &processed, &bar)?;
        walk.attempts(&reader, &attempts, &bar)?;
        bar.finish_and_clear();
        Ok(Self {
            lags,
            idle,
            archived,
            kept_since_ms: walk.raw_since_ms.max(walk.processed_since_ms),
            books: walk.books,
            unreadable: walk.unreadable,
            read_to,
        })
    }

    /// Whether nothing was added to the three topics since they were read. Blocks.
    fn is_unchanged(&self, kafka: &KafkaSettings) -> anyhow::Result<bool> {
        let reader = Reader::new(kafka)?;
        let topics = reader.topics()?;
        for (topic, before) in &self.read_to {
            if ends(&reader.ranges(&topics, topic)?) != *before {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn ends(ranges: &[Range]) -> Vec<i64> {
    ranges.iter().map(|range| range.end).collect()
}

fn lag(reader: &Reader, topics: &Topics, work: &Work, finished: &Finished) -> anyhow::Result<Lag> {
    let mut records = 0;
    for topic in &work.topics {
        records += finished.lag(topic, &reader.ranges(topics, topic)?);
    }
    Ok(Lag {
        stage: work.stage.clone(),
        records,
    })
}

/// A bar on standard error; nothing where that is no terminal.
fn progress(topics: &[&Vec<Range>]) -> ProgressBar {
    let records = topics.iter().flat_map(|ranges| ranges.iter());
    let total: i64 = records.map(|range| range.end - range.low).sum();
    let style = ProgressStyle::with_template(
        "{msg:<10} {wide_bar} {human_pos}/{human_len} records  {eta} left",
    )
    .expect("the template is a constant and well formed");
    ProgressBar::new(u64::try_from(total).unwrap_or(0)).with_style(style)
}

/// One walk over the three topics.
struct Walk<'a> {
    names: &'a TopicNames,
    books: Books,
    unreadable: Unreadable,
    /// What the group `process` had finished.
    process: &'a Finished,
    /// The oldest offset of each partition of the raw topic that is kept.
    raw_low: BTreeMap<i32, i64>,
    /// Raw records, and results, of events received before this may be gone.
    raw_since_ms: i64,
    processed_since_ms: i64,
}

impl Walk<'_> {
    fn raw(
        &mut self,
        reader: &Reader,
        topics: &Topics,
        ranges: &[Range],
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        bar.set_message("raw");
        let topic = &self.names.raw;
        let mut horizon = Horizon::of(ranges);
        reader.read(topic, ranges, bar, |message| {
            horizon.met(message);
            let (partition, offset) = (message.partition(), message.offset());
            let headers = message.headers().into_iter().flat_map(|all| all.iter());
            let headers = headers.map(|header| (header.key, header.value));
            let id = records::raw_id(headers, at_ms(message), (topic, partition, offset));
            self.books
                .raw(id, self.process.has(topic, partition, offset));
        })?;
        self.raw_since_ms = horizon.since_ms();
        // Asked for again: what retention took while this read is gone as well.
        let now = reader.ranges(topics, topic)?;
        self.raw_low = now
            .iter()
            .map(|range| (range.partition, range.low))
            .collect();
        Ok(())
    }

    fn processed(
        &mut self,
        reader: &Reader,
        ranges: &[Range],
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        bar.set_message("processed");
        let mut horizon = Horizon::of(ranges);
        let topic = self.names.processed.clone();
        reader.read(&topic, ranges, bar, |message| {
            horizon.met(message);
            let read = serde_json::from_slice::<records::Processed>(value(message)).ok();
            match read.filter(|record| is_given(record.event_id, message)) {
                Some(record) => self.enter(&record),
                None => self.unreadable.processed += 1,
            }
        })?;
        self.processed_since_ms = horizon.since_ms();
        Ok(())
    }

    fn enter(&mut self, record: &records::Processed) {
        for queued in &record.deliveries {
            self.books.queued(queued.delivery_id, record.event_id);
        }
        if self.is_of_a_raw_record(record) {
            let gone = self.is_gone(record);
            let outcome = record.outcome.into();
            self.books
                .outcome(record.event_id, record.round, outcome, gone);
        }
    }

    /// A replay is new work on a record that has its own outcome. What comes from the topic of replays
    /// without a replay id and is no redrive either (a later round) is garbage that somebody put there.
    fn is_of_a_raw_record(&self, record: &records::Processed) -> bool {
        record.replay_id.is_none() && (record.round > 0 || record.raw.topic != self.names.replay)
    }

    /// Whether retention has taken the raw record. Where the result tells of a copy in the topic of
    /// replays (a redrive), the place of the record itself is not known, only how old it is.
    fn is_gone(&self, record: &records::Processed) -> bool {
        let place = &record.raw;
        if place.topic == self.names.raw {
            let low = self.raw_low.get(&place.partition);
            return low.is_some_and(|low| place.offset < *low);
        }
        place.topic == self.names.replay && is_before(record.event_id, self.raw_since_ms)
    }

    fn attempts(
        &mut self,
        reader: &Reader,
        ranges: &[Range],
        bar: &ProgressBar,
    ) -> anyhow::Result<()> {
        bar.set_message("attempts");
        let topic = self.names.attempts.clone();
        reader.read(&topic, ranges, bar, |message| {
            let read = serde_json::from_slice::<records::Attempt>(value(message)).ok();
            let Some(record) = read.filter(|record| is_given(record.event_id, message)) else {
                self.unreadable.attempts += 1;
                return;
            };
            let old = is_before(record.event_id, self.processed_since_ms);
            self.books.attempt(
                record.delivery_id,
                record.event_id,
                record.round,
                record.next.state.into(),
                old,
            );
        })
    }
}

/// From when on a topic holds everything: the latest of the first records of those partitions of which
/// retention has taken something.
struct Horizon {
    /// Offsets of the first records kept, until they are met.
    first: BTreeMap<i32, i64>,
    since_ms: i64,
}

impl Horizon {
    fn of(ranges: &[Range]) -> Self {
        let cut = ranges.iter().filter(|range| range.low > 0);
        let first: BTreeMap<i32, i64> = cut.map(|range| (range.partition, range.low)).collect();
        Self { first, since_ms: 0 }
    }

    fn met(&mut self, message: &BorrowedMessage<'_>) {
        let partition = message.partition();
        if self
            .first
            .get(&partition)
            .is_some_and(|low| message.offset() >= *low)
        {
            self.first.remove(&partition);
            self.since_ms = self.since_ms.max(at_ms(message));
        }
    }

    /// A partition that was emptied holds nothing until now.
    fn since_ms(&self) -> i64 {
        if self.first.is_empty() {
            self.since_ms
        } else {
            router_runtime::now_ms()
        }
    }
}

fn is_before(event: EventId, since_ms: i64) -> bool {
    event.received_at_ms().is_ok_and(|at_ms| at_ms < since_ms)
}

/// An id that no edge can have given speaks of no webhook.
fn is_given(event: EventId, message: &BorrowedMessage<'_>) -> bool {
    event.check_given(at_ms(message)).is_ok()
}

fn value<'a>(message: &'a BorrowedMessage<'_>) -> &'a [u8] {
    message.payload().unwrap_or_default()
}

fn at_ms(message: &BorrowedMessage<'_>) -> i64 {
    message.timestamp().to_millis().unwrap_or(0)
}
