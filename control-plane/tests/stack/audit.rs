//! The audit over topics that were written by hand: what balances, what is missed, what retention took.

use std::collections::BTreeMap;

use rdkafka::{
    Offset, TopicPartitionList,
    admin::AdminOptions,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};
use router_schemas::{
    AttemptRecord, DeliveryId, DestinationId, EventId, Next, ProcessedRecord, ProjectId, RawMeta,
    RecordPosition, RouteId, SourceId,
    processed::{ProcessOutcome, QueuedDelivery},
};
use serde_json::{Value, json};

use crate::support::{Produced, World};

/// Everything goes to one partition, so that offsets are known.
const PARTITION: i32 = 1;

struct Story<'a> {
    world: &'a World,
    raw: i64,
}

impl<'a> Story<'a> {
    fn new(world: &'a World) -> Self {
        Self { world, raw: 0 }
    }

    fn write(&self, topic: &str, headers: Vec<(&'static str, Vec<u8>)>, value: &[u8]) {
        self.world.produce(Produced {
            topic,
            partition: PARTITION,
            key: b"",
            value: Some(value),
            headers,
        });
    }

    /// A webhook as the edge writes it; returns its id and place.
    fn received(&mut self) -> (EventId, i64) {
        let meta = RawMeta {
            event_id: EventId::generate(),
            project_id: ProjectId::DEFAULT,
            source_id: SourceId::generate(),
            key_id: None,
            received_at: "2026-11-24T01:02:03.004Z".into(),
            content_type: None,
            content_encoding: None,
            query: None,
            sender_headers: "[]".into(),
            config_offset: 0,
            trace_parent: None,
            replay: None,
        };
        let mut headers = Vec::new();
        meta.write(|name, value| headers.push((name, value.to_vec())));
        self.write(&self.world.names.raw, headers, b"{}");
        self.raw += 1;
        (meta.event_id, self.raw - 1)
    }

    /// Its outcome, as `process` writes it; returns the deliveries.
    fn processed(&self, (event_id, offset): (EventId, i64), deliveries: usize) -> Vec<DeliveryId> {
        let queued = |_| {
            let destination_id = DestinationId::generate();
            QueuedDelivery {
                delivery_id: DeliveryId::derive(event_id, 0, destination_id, None),
                destination_id,
                route_id: RouteId::generate(),
            }
        };
        let deliveries: Vec<_> = (0..deliveries).map(queued).collect();
        let ids = deliveries.iter().map(|queued| queued.delivery_id).collect();
        let outcome = match deliveries.is_empty() {
            true => ProcessOutcome::Unrouted,
            false => ProcessOutcome::Routed { deliveries },
        };
        self.outcome(event_id, offset, outcome);
        ids
    }

    fn outcome(&self, event_id: EventId, offset: i64, outcome: ProcessOutcome) {
        let record = ProcessedRecord {
            event_id,
            item: 0,
            replay_id: None,
            round: 0,
            project_id: ProjectId::DEFAULT,
            source_id: SourceId::generate(),
            raw: RecordPosition {
                topic: self.world.names.raw.clone(),
                partition: PARTITION,
                offset,
            },
            processed_at_ms: 1,
            outcome,
            classification: None,
            result: None,
        };
        self.write(
            &self.world.names.processed,
            Vec::new(),
            &serde_json::to_vec(&record).unwrap(),
        );
    }

    fn attempted(&self, event_id: EventId, delivery_id: DeliveryId, next: Next) {
        let record = AttemptRecord {
            delivery_id,
            event_id,
            item: 0,
            project_id: ProjectId::DEFAULT,
            source_id: SourceId::generate(),
            destination_id: DestinationId::generate(),
            route_id: None,
            replay_id: None,
            round: 0,
            attempt: 1,
            attempted: true,
            at_ms: 1,
            duration_ms: 1,
            answer: None,
            error: None,
            next,
        };
        self.write(
            &self.world.names.attempts,
            Vec::new(),
            &serde_json::to_vec(&record).unwrap(),
        );
    }

    /// Commits as a stage does.
    fn committed(&self, stage: &str, topic: &str, frontier: i64, metadata: &str) {
        let group = self.world.names.group(stage);
        let consumer: BaseConsumer = self
            .world
            .kafka
            .with(&[("group.id", &group)])
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, PARTITION, Offset::Offset(frontier))
            .unwrap();
        list.set_partition_metadata(topic, PARTITION, metadata);
        consumer.commit(&list, CommitMode::Sync).unwrap();
    }

    fn audit(&self, arguments: &[&str]) -> (i32, Value) {
        let ran = self.world.run(&[&["audit", "--json"], arguments].concat());
        let answer = serde_json::from_str(&ran.text);
        (
            ran.code,
            answer.unwrap_or_else(|_| panic!("{}", ran.errors)),
        )
    }
}

trait Metadata {
    fn set_partition_metadata(&mut self, topic: &str, partition: i32, metadata: &str);
}

impl Metadata for TopicPartitionList {
    fn set_partition_metadata(&mut self, topic: &str, partition: i32, metadata: &str) {
        self.find_partition(topic, partition)
            .unwrap()
            .set_metadata(metadata);
    }
}

/// The counts of a ledger that are not zero.
fn counts(ledger: &Value) -> BTreeMap<&str, u64> {
    let all = ledger.as_object().unwrap().iter();
    let count = |value: &Value| value.as_u64().or(value["count"].as_u64()).unwrap();
    all.map(|(name, value)| (name.as_str(), count(value)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn parked() -> Next {
    Next::Parked {
        until_ms: 1,
        reason: "status".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_id_stands_in_one_place_while_traffic_flows() {
    let Some(world) = World::installed().await else {
        return;
    };
    let mut story = Story::new(&world);
    assert_eq!(
        story.audit(&[]),
        (0, story.audit(&[]).1),
        "nothing at all balances"
    );
    let names = &world.names;
    let routed = story.received();
    let ids = story.processed(routed, 4);
    story.attempted(routed.0, ids[0], parked());
    story.attempted(routed.0, ids[0], Next::Delivered);
    story.attempted(routed.0, ids[0], Next::Delivered);
    story.attempted(routed.0, ids[1], parked());
    story.attempted(
        routed.0,
        ids[2],
        Next::Dead {
            reason: "attempts".into(),
        },
    );
    let unrouted = story.received();
    story.processed(unrouted, 0);
    story.processed(unrouted, 0);
    // Poison, as `process` accounts for it: under an id made of its place.
    story.write(&names.raw, Vec::new(), b"garbage");
    let synthetic = synthetic_id(&world, story.raw);
    story.outcome(
        synthetic,
        story.raw,
        ProcessOutcome::Dead {
            reason: "unreadable".into(),
        },
    );
    story.raw += 1;
    // Finished out of order: 0 and 2 are done, 1 and 3 not yet.
    story.received();
    story.committed("process", &names.raw, 1, "1:1,1");
    story.write(&names.processed, Vec::new(), b"garbage");
    story.write(&names.attempts, Vec::new(), b"garbage");
    let century = EventId::synthetic(1_000, "t", 0, 0);
    story.outcome(century, 0, ProcessOutcome::Unrouted);
    story.attempted(century, DeliveryId::generate(), Next::Delivered);

    let (code, report) = story.audit(&[]);
    assert_eq!(
        (code, &report["balanced"], &report["idle"]),
        (0, &json!(true), &json!(false))
    );
    assert_eq!(
        counts(&report["raw"]),
        BTreeMap::from([
            ("records", 4),
            ("routed", 1),
            ("unrouted", 1),
            ("dead", 1),
            ("waiting", 1)
        ])
    );
    assert_eq!(
        counts(&report["deliveries"]),
        BTreeMap::from([
            ("deliveries", 4),
            ("delivered", 1),
            ("parked", 1),
            ("dead", 1),
            ("queued", 1)
        ])
    );
    assert_eq!(
        report["unreadable"],
        json!({ "processed": 2, "attempts": 2 })
    );
    let text = world.ok(&["audit"]);
    assert!(text.contains("balanced: everything"), "{text}");

    // `process` goes past the last one and says nothing: lost.
    story.committed("process", &names.raw, 4, "");
    let (code, report) = story.audit(&[]);
    assert_eq!((code, &report["balanced"]), (1, &json!(false)));
    assert_eq!(counts(&report["raw"])["lost"], 1);
    // Now every stage is done, and what is not at its end never will be.
    assert_eq!(report["idle"], true);
    assert_eq!(counts(&report["deliveries"])["lost"], 2);
    world.end().await;
}

/// The id that `process` gives to a record without one.
fn synthetic_id(world: &World, offset: i64) -> EventId {
    use rdkafka::message::Message as _;
    let consumer: BaseConsumer = world.kafka.with(&[("group.id", "none")]).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&world.names.raw, PARTITION, Offset::Offset(offset))
        .unwrap();
    consumer.assign(&list).unwrap();
    let message = consumer
        .poll(std::time::Duration::from_secs(20))
        .unwrap()
        .unwrap();
    assert_eq!(message.offset(), offset);
    let at_ms = message.timestamp().to_millis().unwrap();
    EventId::synthetic(at_ms, &world.names.raw, PARTITION, offset)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_queued_is_named_and_what_retention_took_is_not_missed() {
    let Some(world) = World::installed().await else {
        return;
    };
    let mut story = Story::new(&world);
    let (first, second) = (story.received(), story.received());
    let old = story.processed(first, 1);
    story.processed(second, 0);
    story.attempted(first.0, old[0], Next::Delivered);
    // A result of a record that never was, and an attempt that nobody asked for.
    let nobody = (EventId::generate(), 77);
    story.processed(nobody, 0);
    let unasked = DeliveryId::generate();
    story.attempted(second.0, unasked, Next::Delivered);
    let (code, report) = story.audit(&[]);
    assert_eq!(code, 1);
    assert_eq!(
        report["raw"]["unknown"],
        json!({ "count": 1, "first": [nobody.0] })
    );
    assert_eq!(
        report["deliveries"]["unknown"],
        json!({ "count": 1, "first": [unasked] })
    );
    let ran = world.run(&["audit"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.text.contains(&unasked.to_string()) && ran.text.contains("NOT BALANCED"),
        "{}",
        ran.text
    );

    // Retention takes the first raw record: it was worked, so nothing is missed.
    let delete = |topic: &str, below| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, PARTITION, Offset::Offset(below))
            .unwrap();
        list
    };
    let admin = world.admin();
    admin
        .delete_records(&delete(&world.names.raw, 1), &AdminOptions::new())
        .await
        .unwrap();
    let (_, report) = story.audit(&[]);
    assert_eq!(report["raw"]["expired"], 1);
    assert_eq!(report["raw"]["unrouted"], 1);
    assert_eq!(report["raw"]["unknown"]["count"], 1, "that one never was");

    // It takes the results as well: deliveries of events from before then are expired.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let third = story.received();
    story.processed(third, 0);
    admin
        .delete_records(&delete(&world.names.processed, 3), &AdminOptions::new())
        .await
        .unwrap();
    let (code, report) = story.audit(&[]);
    assert_eq!(
        counts(&report["deliveries"]),
        BTreeMap::from([("deliveries", 2), ("expired", 2)])
    );
    assert_eq!(
        (code, counts(&report["raw"])["waiting"]),
        (0, 1),
        "{report}"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_are_compared_once_the_archive_is_done() {
    let Some(world) = World::installed().await else {
        return;
    };
    let mut story = Story::new(&world);
    let event = story.received();
    let ids = story.processed(event, 1);
    story.attempted(event.0, ids[0], Next::Delivered);
    let names = &world.names;
    story.committed("process", &names.raw, 1, "");
    let (code, report) = story.audit(&["--database"]);
    assert_eq!(
        (code, &report["database"]["archived"]),
        (0, &json!(false)),
        "the archive is behind: no verdict"
    );

    for topic in [&names.raw, &names.processed, &names.attempts] {
        story.committed("archive", topic, 1, "");
    }
    let (code, report) = story.audit(&["--database"]);
    assert_eq!(
        (code, &report["database"]["archived"]),
        (1, &json!(true)),
        "the archive says it is done, and is not"
    );
    assert!(world.run(&["audit", "--database"]).text.contains("DIFFERS"));

    archive(&world, event.0, ids[0]).await;
    let (code, report) = story.audit(&["--database"]);
    assert_eq!((code, &report["balanced"]), (0, &json!(true)), "{report}");
    world.end().await;
}

/// Writes the rows that `archive` would.
async fn archive(world: &World, event: EventId, delivery: DeliveryId) {
    sqlx::query("select ingestion.maintain_partitions(30, 7)")
        .execute(&world.pool)
        .await
        .unwrap();
    for sql in [
        "insert into ingestion.logs (event_id, received_at, project_id, source_id, headers, body, body_bytes, raw_topic,
             raw_partition, raw_offset) values ($1, now(), $3, $3, to_jsonb(array[$2]), '', 0, '', 0, 0)",
        "insert into processed_results (event_id, item, project_id, source_id, round, outcome, deliveries, processed_at,
             raw_topic, raw_partition, raw_offset) values ($1, 0, $3, $3, 0, 'routed', 1, now(), $2::text, 0, 0)",
        "insert into delivery_logs (event_id, delivery_id, round, attempt, state, at, rank, item, replay_id, project_id,
             source_id, destination_id, attempted, duration_ms)
         values ($1, $2, 0, 1, 'delivered', now(), 3, 0, $3, $3, $3, $3, true, 1)",
    ] {
        sqlx::query(sql)
            .bind(event.0)
            .bind(delivery.0)
            .bind(uuid::Uuid::nil())
            .execute(&world.pool)
            .await
            .unwrap();
    }
}
