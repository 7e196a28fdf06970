//! The consumer engine on real Kafka: restarts, rebalances, panics, delayed heads.
#![allow(clippy::unwrap_used)]

mod support;

use std::{sync::Arc, time::Duration};

use router_runtime::{
    consumer::{
        BatchStage, ConsumerSettings, EachStage, Effects, Envelope, Incoming, Order, OutRecord,
        Outcome, Unreadable, run_batches, run_each,
    },
    kafka::{GroupProtocol, KafkaSettings},
    lifecycle::{Readiness, ReadinessPart, Shutdown},
    now_ms,
};
use support::{Seen, create_topics, fill, stack, until};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(40);

fn number(record: &Incoming) -> Result<u32, Unreadable> {
    let text = std::str::from_utf8(record.payload()).map_err(|e| Unreadable(e.to_string()))?;
    text.parse()
        .map_err(|_| Unreadable(format!("{text:?} is not a number")))
}

/// Notes each record; never ends on the one that hangs.
struct Noting {
    seen: Seen,
    hangs_on: Option<u32>,
    takes: Duration,
    copy_to: Option<Arc<str>>,
}

impl EachStage for Noting {
    type In = u32;
    fn read(&self, record: &Incoming) -> Result<u32, Unreadable> {
        number(record)
    }
    async fn process(&self, envelope: Envelope<u32>) -> Outcome {
        if self.hangs_on == Some(envelope.value) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(self.takes).await;
        self.seen.note(envelope.value);
        let Some(topic) = &self.copy_to else {
            return Outcome::done("noted");
        };
        let copy = OutRecord {
            topic: Arc::clone(topic),
            key: Vec::new(),
            order: Order::ByKey,
            payload: envelope.record.payload_bytes(),
            headers: Vec::new(),
        };
        Outcome::emit("noted", vec![copy])
    }
}

struct Member {
    shutdown: Shutdown,
    ready: ReadinessPart,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Member {
    fn start(kafka: &KafkaSettings, stage: Noting) -> Self {
        let topic = format!("{}in", kafka.topic_prefix);
        let mut settings = ConsumerSettings::new(kafka.clone(), "engine-test", vec![topic]);
        settings.max_in_flight = 200;
        settings.drain_timeout = Duration::from_millis(1_500);
        let shutdown = Shutdown::new();
        let effects = Effects::new(kafka, &shutdown).unwrap();
        let ready = Readiness::default().part("member");
        let run = run_each(
            settings,
            Arc::new(stage),
            effects,
            ready.clone(),
            shutdown.clone(),
        );
        Self {
            task: tokio::spawn(run),
            shutdown,
            ready,
        }
    }
    async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap().unwrap();
    }
}

fn noting(seen: &Seen) -> Noting {
    Noting {
        seen: seen.clone(),
        hangs_on: None,
        takes: Duration::ZERO,
        copy_to: None,
    }
}

async fn restart_repeats_only_what_hung(protocol: GroupProtocol) {
    let Some(kafka) = stack(protocol) else { return };
    create_topics(&kafka, &[("in", 2), ("webhooks.dead-letter", 1)]).await;
    fill(&kafka, "in", 2, 0..500);
    let first = Seen::default();
    let member = Member::start(
        &kafka,
        Noting {
            hangs_on: Some(7),
            ..noting(&first)
        },
    );
    until("all but one record", PATIENCE, || first.distinct() == 499).await;
    member.stop().await;
    let second = Seen::default();
    let member = Member::start(&kafka, noting(&second));
    until("the hanging record", PATIENCE, || second.distinct() >= 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    member.stop().await;
    assert_eq!(
        second.counts(),
        [(7, 1)].into(),
        "only the record that hung is worked again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_repeats_only_what_hung() {
    restart_repeats_only_what_hung(GroupProtocol::Classic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_repeats_only_what_hung_by_kip_848() {
    restart_repeats_only_what_hung(GroupProtocol::Consumer).await;
}

async fn takeover(protocol: GroupProtocol) {
    let Some(kafka) = stack(protocol) else { return };
    create_topics(
        &kafka,
        &[("in", 8), ("out", 2), ("webhooks.dead-letter", 1)],
    )
    .await;
    let seen = Seen::default();
    let out: Arc<str> = format!("{}out", kafka.topic_prefix).into();
    let stage = || Noting {
        takes: Duration::from_millis(20),
        copy_to: Some(Arc::clone(&out)),
        ..noting(&seen)
    };
    fill(&kafka, "in", 8, 0..4_000);
    let first = Member::start(&kafka, stage());
    until("a first part", PATIENCE, || seen.distinct() > 500).await;
    let second = Member::start(&kafka, stage());
    until("the second member has partitions", PATIENCE, || {
        second.ready.get()
    })
    .await;
    fill(&kafka, "in", 8, 4_000..8_000);
    until("everything", PATIENCE, || seen.distinct() == 8_000).await;
    first.stop().await;
    fill(&kafka, "in", 8, 8_000..8_800);
    let took = until("the rest by the one that stays", PATIENCE, || {
        seen.distinct() == 8_800
    })
    .await;
    assert!(took < Duration::from_secs(15), "standstill of {took:?}");
    second.stop().await;
    let repeated = seen.more_than_once();
    assert!(
        repeated.is_empty(),
        "planned moves repeat nothing, but {} records were",
        repeated.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_takes_over_without_loss_or_repetition() {
    takeover(GroupProtocol::Classic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_takes_over_by_kip_848() {
    takeover(GroupProtocol::Consumer).await;
}

/// Panics on one number, in batches.
struct Panicking(Seen);

impl BatchStage for Panicking {
    type In = u32;
    fn read(&self, record: &Incoming) -> Result<u32, Unreadable> {
        number(record)
    }
    async fn work(&self, batch: Vec<Envelope<u32>>) -> Vec<Outcome> {
        assert!(
            batch.iter().all(|envelope| envelope.value != 13),
            "thirteen"
        );
        batch
            .iter()
            .for_each(|envelope| self.0.note(envelope.value));
        batch.iter().map(|_| Outcome::done("noted")).collect()
    }
}

fn batch_settings(kafka: &KafkaSettings) -> ConsumerSettings {
    let topic = format!("{}in", kafka.topic_prefix);
    ConsumerSettings::new(kafka.clone(), "engine-test", vec![topic])
}

async fn read_all(kafka: &KafkaSettings, topic: &str, count: usize) -> Vec<Incoming> {
    #[derive(Clone, Default)]
    struct Keeping(Arc<std::sync::Mutex<Vec<Incoming>>>);
    impl BatchStage for Keeping {
        type In = ();
        fn read(&self, _: &Incoming) -> Result<(), Unreadable> {
            Ok(())
        }
        async fn work(&self, batch: Vec<Envelope<()>>) -> Vec<Outcome> {
            let mut kept = self.0.lock().unwrap();
            kept.extend(batch.iter().map(|envelope| (*envelope.record).clone()));
            batch.iter().map(|_| Outcome::done("kept")).collect()
        }
    }
    let kept = Keeping::default();
    let topics = vec![format!("{}{topic}", kafka.topic_prefix)];
    let settings = ConsumerSettings::new(kafka.clone(), "engine-test-reader", topics);
    let shutdown = Shutdown::new();
    let effects = Effects::new(kafka, &shutdown).unwrap();
    let part = Readiness::default().part("reader");
    let run = run_batches(
        settings,
        Arc::new(kept.clone()),
        effects,
        part,
        shutdown.clone(),
    );
    let task = tokio::spawn(run);
    until("records to read", PATIENCE, || {
        kept.0.lock().unwrap().len() >= count
    })
    .await;
    shutdown.trigger();
    task.await.unwrap().unwrap();
    let records = kept.0.lock().unwrap();
    records.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_and_garbage_cost_only_their_records() {
    let Some(kafka) = stack(GroupProtocol::Classic) else {
        return;
    };
    create_topics(&kafka, &[("in", 1), ("webhooks.dead-letter", 1)]).await;
    fill(&kafka, "in", 1, 0..40);
    let producer: rdkafka::producer::BaseProducer = kafka.producer_config().create().unwrap();
    let topic = format!("{}in", kafka.topic_prefix);
    let garbage = rdkafka::producer::BaseRecord::<[u8], [u8]>::to(&topic).payload(&[0xff, 0xfe]);
    producer.send(garbage).unwrap();
    rdkafka::producer::Producer::flush(&producer, Duration::from_secs(5)).unwrap();
    let seen = Seen::default();
    let shutdown = Shutdown::new();
    let effects = Effects::new(&kafka, &shutdown).unwrap();
    let part = Readiness::default().part("panicking");
    let stage = Arc::new(Panicking(seen.clone()));
    let run = run_batches(
        batch_settings(&kafka),
        stage,
        effects,
        part,
        shutdown.clone(),
    );
    let task = tokio::spawn(run);
    until("all the others", PATIENCE, || seen.distinct() == 39).await;
    let dead = read_all(&kafka, "webhooks.dead-letter", 2).await;
    shutdown.trigger();
    task.await.unwrap().unwrap();
    let mut reasons: Vec<(String, Vec<u8>)> = dead
        .iter()
        .map(|record| {
            let info = router_schemas::DeadLetterInfo::read(record.headers()).unwrap();
            (info.reason, record.payload().to_vec())
        })
        .collect();
    reasons.sort();
    assert_eq!(
        reasons,
        [
            ("panic".to_owned(), b"13".to_vec()),
            ("unreadable".to_owned(), vec![0xff, 0xfe])
        ],
        "the original bytes, each with its reason"
    );
}

/// Holds each record back until a time after it was appended.
struct Delaying {
    seen: Seen,
    early: Seen,
    delay_ms: i64,
}

impl BatchStage for Delaying {
    type In = (u32, i64);
    fn read(&self, record: &Incoming) -> Result<(u32, i64), Unreadable> {
        Ok((number(record)?, record.timestamp_ms() + self.delay_ms))
    }
    fn not_before_ms(&self, value: &(u32, i64)) -> i64 {
        value.1
    }
    async fn work(&self, batch: Vec<Envelope<(u32, i64)>>) -> Vec<Outcome> {
        let now = now_ms();
        for envelope in &batch {
            let (number, due) = envelope.value;
            self.seen.note(number);
            if now < due {
                self.early.note(number);
            }
        }
        batch.iter().map(|_| Outcome::done("due")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_head_is_never_early_and_hardly_late() {
    let Some(kafka) = stack(GroupProtocol::Classic) else {
        return;
    };
    create_topics(&kafka, &[("in", 4), ("webhooks.dead-letter", 1)]).await;
    let (seen, early) = (Seen::default(), Seen::default());
    let stage = Delaying {
        seen: seen.clone(),
        early: early.clone(),
        delay_ms: 3_000,
    };
    let shutdown = Shutdown::new();
    let effects = Effects::new(&kafka, &shutdown).unwrap();
    let part = Readiness::default().part("delaying");
    let run = run_batches(
        batch_settings(&kafka),
        Arc::new(stage),
        effects,
        part.clone(),
        shutdown.clone(),
    );
    let task = tokio::spawn(run);
    until("an assignment", PATIENCE, || part.get()).await;
    fill(&kafka, "in", 4, 0..1_000);
    tokio::time::sleep(Duration::from_millis(2_000)).await;
    assert_eq!(seen.distinct(), 0, "nothing goes early");
    until("all of them", Duration::from_secs(3), || {
        seen.distinct() == 1_000
    })
    .await;
    assert_eq!(early.distinct(), 0);
    shutdown.trigger();
    task.await.unwrap().unwrap();
}
