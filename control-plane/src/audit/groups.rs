//! How far each consumer group of the data plane has come: what it has finished, and how much is left.
//!
//! Positions are asked for without joining the group, so nobody is disturbed.

use std::{collections::HashMap, time::Duration};

use anyhow::Context as _;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use router_runtime::{
    consumer::ledger::{CompletedSet, decode_completed},
    kafka::KafkaSettings,
};

use super::read::{Range, Topics};
use crate::kafka::with_ours;

const TIMEOUT: Duration = Duration::from_secs(15);

/// A consumer group and the topics it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Work {
    /// Name of the stage, as people know it.
    pub(super) stage: String,
    pub(super) topics: Vec<String>,
}

/// Every consumer on the way of a webhook.
pub(super) fn data_plane(kafka: &KafkaSettings, topics: &Topics) -> Vec<Work> {
    let names = kafka.names();
    let one = |stage: &str, topic: &str| Work {
        stage: stage.to_owned(),
        topics: vec![topic.to_owned()],
    };
    let mut all = vec![
        one("process", &names.raw),
        one("reprocess", &names.replay),
        one("deliver", &names.deliveries),
        one("redeliver", &names.redeliveries),
    ];
    // The rungs that there are, whatever ladder is configured now: a rung that was taken out may still
    // hold records.
    let rungs = names.group("webhooks.retry.");
    for topic in topics.names() {
        if let Some(rung) = topic.strip_prefix(&rungs) {
            all.push(one(&format!("retry.{rung}"), topic));
        }
    }
    all
}

/// The archive, which follows behind and which nothing waits for.
pub(super) fn archive(kafka: &KafkaSettings) -> Work {
    let names = kafka.names();
    Work {
        stage: "archive".into(),
        topics: vec![names.raw, names.processed, names.attempts],
    }
}

/// What a group has finished, by topic and partition. A partition without a commit has no entry.
#[derive(Debug, Default)]
pub(super) struct Finished(HashMap<String, HashMap<i32, (i64, CompletedSet)>>);

impl Finished {
    /// Asks for the positions of several groups at once: each has a client of its own. Blocks.
    pub(super) fn of_all<'a>(
        kafka: &KafkaSettings,
        works: impl Iterator<Item = &'a Work>,
        topics: &Topics,
    ) -> anyhow::Result<Vec<Self>> {
        std::thread::scope(|scope| {
            let asking: Vec<_> = works
                .map(|work| scope.spawn(|| Self::of(kafka, work, topics)))
                .collect();
            asking
                .into_iter()
                .map(|asked| asked.join().expect("asking for a position does not panic"))
                .collect()
        })
    }

    fn of(kafka: &KafkaSettings, work: &Work, topics: &Topics) -> anyhow::Result<Self> {
        let group = kafka.names().group(&work.stage);
        let consumer: BaseConsumer = with_ours(
            kafka,
            &[("group.id", &group), ("enable.auto.commit", "false")],
        )
        .create()
        .context("cannot make a consumer")?;
        let mut list = TopicPartitionList::new();
        for topic in &work.topics {
            for partition in 0..topics.partitions(topic) {
                list.add_partition(topic, partition);
            }
        }
        let mut finished = Self::default();
        if list.count() == 0 {
            return Ok(finished);
        }
        let committed = consumer
            .committed_offsets(list, TIMEOUT)
            .with_context(|| format!("cannot ask for the position of the group {group}"))?;
        for element in committed.elements() {
            let Offset::Offset(frontier) = element.offset() else {
                continue;
            };
            let completed = decode_completed(element.metadata(), frontier);
            finished
                .0
                .entry(element.topic().to_owned())
                .or_default()
                .insert(element.partition(), (frontier, completed));
        }
        Ok(finished)
    }

    /// Whether the group has finished this record.
    pub(super) fn has(&self, topic: &str, partition: i32, offset: i64) -> bool {
        let at = self.0.get(topic).and_then(|all| all.get(&partition));
        at.is_some_and(|(frontier, completed)| offset < *frontier || completed.contains(offset))
    }

    /// Records between what is committed and the ends.
    pub(super) fn lag(&self, topic: &str, ranges: &[Range]) -> i64 {
        let committed = self.0.get(topic);
        let lag = |range: &Range| {
            let at = committed.and_then(|all| all.get(&range.partition));
            let frontier = at.map_or(range.low, |(frontier, _)| *frontier);
            (range.end - frontier.max(range.low)).max(0)
        };
        ranges.iter().map(lag).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished() -> Finished {
        let partition = HashMap::from([(0, (10, decode_completed("1:2,3", 10)))]);
        Finished(HashMap::from([("t".to_owned(), partition)]))
    }

    #[test]
    fn finished_is_what_lies_below_the_frontier_or_in_the_set_above_it() {
        let finished = finished();
        let known: Vec<i64> = (8..17).filter(|at| finished.has("t", 0, *at)).collect();
        assert_eq!(known, [8, 9, 12, 13, 14]);
        assert!(!finished.has("t", 1, 0), "another partition");
        assert!(!finished.has("u", 0, 0), "another topic");
    }

    #[test]
    fn lag_counts_from_the_commit_or_from_what_is_kept() {
        let range = |partition, low, end| Range {
            partition,
            low,
            end,
        };
        assert_eq!(finished().lag("t", &[range(0, 0, 10)]), 0);
        assert_eq!(finished().lag("t", &[range(0, 0, 15), range(1, 3, 5)]), 7);
        assert_eq!(finished().lag("t", &[range(0, 12, 15)]), 3);
        assert_eq!(finished().lag("u", &[range(0, 0, 0)]), 0);
    }
}
