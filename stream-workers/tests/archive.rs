//! The `archive` role on a real Kafka and a real PostgreSQL: what it stores, what it stores once, and what
//! cannot stop it. Each test has topics and a database of its own.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::{Header, Message, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};
use router_runtime::{
    consumer::Effects,
    kafka::KafkaSettings,
    lifecycle::{Readiness, Shutdown},
    now_ms,
};
use router_schemas::{
    AttemptRecord, Classification, DeadLetterInfo, DeliveryId, DestinationId, EventId, KnowledgeId,
    Next, ProcessedRecord, ProjectId, RawMeta, RecordPosition, SourceId,
    processed::{DecidedBy, ExtractedResult, ProcessOutcome, Shadow},
};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use stream_workers::archive::{self, ArchiveSettings};

/// Topics and a database for one test.
struct Bench {
    kafka: KafkaSettings,
    server: PgConnectOptions,
    database: String,
    producer: BaseProducer,
}

impl Bench {
    /// None, with a message that the test was skipped, without the test stack.
    async fn new() -> Option<Self> {
        let url = std::env::var("DATABASE_URL");
        let (Ok(_), Ok(url)) = (std::env::var("ROUTER_TEST_STACK"), url) else {
            eprintln!("SKIPPED: needs the test stack; run it by `make test`");
            return None;
        };
        router_runtime::telemetry::init("test");
        let mut kafka = KafkaSettings::from_env().unwrap();
        let id = uuid::Uuid::now_v7().simple().to_string();
        kafka.topic_prefix = format!("t{}.", &id[20..]);
        let names = kafka.names();
        let admin: AdminClient<DefaultClientContext> = kafka.client_config().create().unwrap();
        let topics = [
            &names.raw,
            &names.processed,
            &names.attempts,
            &names.dead_letter,
        ]
        .map(|name| NewTopic::new(name, 2, TopicReplication::Fixed(1)));
        for made in admin
            .create_topics(&topics, &AdminOptions::new())
            .await
            .unwrap()
        {
            made.unwrap();
        }
        let server: PgConnectOptions = url.parse().unwrap();
        let database = format!("t{}", &id[20..]);
        let bench = Self {
            producer: kafka.producer_config().create().unwrap(),
            kafka,
            server,
            database,
        };
        bench.on_server("create database NAME").await;
        let mut connection = bench.connect().await;
        sqlx::migrate!("../migrations")
            .run(&mut connection)
            .await
            .unwrap();
        Some(bench)
    }

    fn options(&self) -> PgConnectOptions {
        self.server.clone().database(&self.database)
    }

    async fn connect(&self) -> PgConnection {
        PgConnection::connect_with(&self.options()).await.unwrap()
    }

    /// A statement from outside of the test's database, whose name stands for NAME.
    async fn on_server(&self, statement: &str) {
        let mut connection = PgConnection::connect_with(&self.server).await.unwrap();
        let statement = statement.replace("NAME", &self.database);
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .unwrap();
    }

    async fn number(&self, query: &'static str) -> i64 {
        let mut connection = self.connect().await;
        sqlx::query_scalar(query)
            .fetch_one(&mut connection)
            .await
            .unwrap()
    }

    async fn until(&self, query: &'static str, wanted: i64) {
        let began = Instant::now();
        loop {
            let found = self.number(query).await;
            if found == wanted {
                return;
            }
            assert!(
                began.elapsed() < Duration::from_secs(40),
                "{query}: {found}, not {wanted}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the group has committed everything that its topics hold.
    async fn until_committed(&self) {
        let mut config: ClientConfig = self.kafka.client_config();
        config.set("group.id", self.kafka.names().group("archive"));
        let names = self.kafka.names();
        let caught_up = move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let wait = Duration::from_secs(10);
            [&names.raw, &names.processed, &names.attempts]
                .iter()
                .all(|topic| {
                    (0..2).all(|partition| {
                        let mut list = rdkafka::TopicPartitionList::new();
                        list.add_partition(topic, partition);
                        let committed = consumer.committed_offsets(list, wait).unwrap();
                        let offset = committed.elements()[0].offset().to_raw().unwrap_or(-1);
                        let (_, high) = consumer.fetch_watermarks(topic, partition, wait).unwrap();
                        offset.max(0) == high
                    })
                })
        };
        let began = Instant::now();
        while !tokio::task::block_in_place(&caught_up) {
            assert!(
                began.elapsed() < Duration::from_secs(40),
                "offsets stand still"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn send(&self, topic: &str, key: EventId, headers: OwnedHeaders, value: &[u8]) {
        let key = key.to_string();
        let record = BaseRecord::to(topic)
            .key(key.as_str())
            .headers(headers)
            .payload(value);
        self.producer.send(record).unwrap();
    }

    fn flush(&self) {
        self.producer.flush(Duration::from_secs(20)).unwrap();
    }

    fn send_raw(&self, event: EventId, sender_headers: &str, body: &[u8]) {
        let meta = RawMeta {
            event_id: event,
            project_id: ProjectId::DEFAULT,
            source_id: SourceId::generate(),
            key_id: None,
            received_at: "2026-11-24T01:02:03.004Z".into(),
            content_type: Some("application/json".into()),
            content_encoding: None,
            query: Some("a=\0".into()),
            sender_headers: sender_headers.into(),
            config_offset: 0,
            trace_parent: None,
            replay: None,
        };
        let mut headers = OwnedHeaders::new();
        meta.write(|key, value| {
            let whole = std::mem::take(&mut headers);
            headers = whole.insert(Header {
                key,
                value: Some(value),
            });
        });
        self.send(&self.kafka.names().raw, event, headers, body);
    }

    fn send_processed(&self, event: EventId, round: u32, outcome: ProcessOutcome, summary: &str) {
        let record = ProcessedRecord {
            event_id: event,
            item: 0,
            replay_id: None,
            round,
            project_id: ProjectId::DEFAULT,
            source_id: SourceId::generate(),
            raw: RecordPosition {
                topic: self.kafka.names().raw,
                partition: 0,
                offset: 1,
            },
            processed_at_ms: now_ms(),
            outcome,
            classification: Some(Classification {
                category: "payment".into(),
                confidence: 0.75,
                runner_up: None,
                decided_by: DecidedBy::Label,
                decided_id: Some(KnowledgeId(LABEL)),
                model_version: "1".into(),
                shadow: Some(Shadow {
                    model_version: "2".into(),
                    category: "refund".into(),
                    confidence: 0.5,
                }),
            }),
            result: Some(ExtractedResult {
                summary: summary.into(),
                ..ExtractedResult::default()
            }),
        };
        let json = serde_json::to_vec(&record).unwrap();
        self.send(
            &self.kafka.names().processed,
            event,
            OwnedHeaders::new(),
            &json,
        );
    }

    fn send_attempt(&self, delivery: &Delivery, round: u32, attempt: u32, next: Next) {
        let record = AttemptRecord {
            delivery_id: delivery.id,
            event_id: delivery.event,
            item: 0,
            project_id: ProjectId::DEFAULT,
            source_id: SourceId::generate(),
            destination_id: delivery.destination,
            route_id: None,
            replay_id: None,
            round,
            attempt,
            attempted: true,
            // The same whenever it is written: a repetition of the same record.
            at_ms: delivery.event.received_at_ms().unwrap() + i64::from(attempt),
            duration_ms: 3,
            answer: None,
            error: None,
            next,
        };
        let json = serde_json::to_vec(&record).unwrap();
        self.send(
            &self.kafka.names().attempts,
            delivery.event,
            OwnedHeaders::new(),
            &json,
        );
    }

    fn start(&self) -> Archive {
        let settings = ArchiveSettings {
            database: Box::new(self.options()),
            retention_days: 3,
        };
        let (kafka, shutdown, readiness) =
            (self.kafka.clone(), Shutdown::new(), Readiness::default());
        let (stop, ready) = (shutdown.clone(), readiness.clone());
        let task = tokio::spawn(async move {
            let effects = Effects::new(&kafka, &stop)?;
            archive::run(&kafka, settings, None, &effects, &ready, &stop).await
        });
        Archive {
            shutdown,
            readiness,
            task,
        }
    }

    /// Reason and event (the key) of each dead letter, once there are `count`.
    fn dead_letters(&self, count: usize) -> Vec<(String, String)> {
        let mut config = self.kafka.client_config();
        config
            .set("group.id", self.kafka.names().group("test"))
            .set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.create().unwrap();
        consumer
            .subscribe(&[&self.kafka.names().dead_letter])
            .unwrap();
        let mut letters = Vec::new();
        let began = Instant::now();
        // A little longer than needed, so that one too many is seen.
        let mut end = Duration::from_secs(20);
        while began.elapsed() < end {
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                let message = message.unwrap().detach();
                let headers = message.headers().unwrap();
                use rdkafka::message::Headers as _;
                let info = DeadLetterInfo::read(headers.iter().map(|h| (h.key, h.value))).unwrap();
                assert_eq!(info.stage, "archive");
                let key = String::from_utf8_lossy(message.key().unwrap()).into_owned();
                letters.push((info.reason, key));
                if letters.len() == count {
                    end = began.elapsed() + Duration::from_secs(1);
                }
            }
        }
        letters.sort();
        letters
    }

    async fn finish(self) {
        self.on_server("drop database NAME with (force)").await;
    }
}

struct Archive {
    shutdown: Shutdown,
    readiness: Readiness,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Archive {
    async fn ready(self) -> Self {
        let began = Instant::now();
        // Nothing is not ready before its parts are known.
        while self.readiness.parts().len() < 2 || !self.readiness.is_ready() {
            assert!(began.elapsed() < Duration::from_secs(20), "not ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self
    }

    async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap().unwrap();
        self.shutdown.outcome().unwrap();
    }
}

struct Delivery {
    id: DeliveryId,
    event: EventId,
    destination: DestinationId,
}

impl Delivery {
    fn new() -> Self {
        let (event, destination) = (EventId::generate(), DestinationId::generate());
        Self {
            id: DeliveryId::derive(event, 0, destination, None),
            event,
            destination,
        }
    }
}

fn routed() -> ProcessOutcome {
    ProcessOutcome::Routed {
        deliveries: Vec::new(),
    }
}

fn dead() -> ProcessOutcome {
    ProcessOutcome::Dead {
        reason: "too_deep".into(),
    }
}

fn parked(until_ms: i64) -> Next {
    Next::Parked {
        until_ms,
        reason: "status".into(),
    }
}

fn given_up() -> Next {
    Next::Dead {
        reason: "attempts_exhausted".into(),
    }
}

/// The label that every result was decided by.
const LABEL: uuid::Uuid = uuid::Uuid::from_u128(0x7000_8000_0000_0000_000a);
const LOGS: &str = "select count(*) from ingestion.logs";
const RESULTS: &str = "select count(*) from processed_results";
const ATTEMPTS: &str = "select count(*) from delivery_logs";
const WAITING: &str = "select count(*) from retry_queue";
const DEAD: &str = "select count(*) from dead_letters";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_twice_is_stored_once() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let archive = bench.start().ready().await;
    let deliveries: Vec<Delivery> = (0..500).map(|_| Delivery::new()).collect();
    for _ in 0..2 {
        for delivery in &deliveries {
            bench.send_raw(
                delivery.event,
                r#"[["x-github-event","push"]]"#,
                b"\x00\xff{",
            );
            bench.send_processed(delivery.event, 0, routed(), "a push");
            bench.send_attempt(delivery, 0, 1, parked(now_ms() + 1_000));
            bench.send_attempt(delivery, 0, 2, Next::Delivered);
        }
    }
    bench.flush();
    bench.until_committed().await;
    assert_eq!(bench.number(LOGS).await, 500);
    assert_eq!(bench.number(RESULTS).await, 500);
    assert_eq!(bench.number(ATTEMPTS).await, 1_000);
    assert_eq!(bench.number(WAITING).await, 0);
    let as_sent = "select count(*) from ingestion.logs where body = '\\x00ff7b' and body_bytes = 3 \
        and headers->0->>0 = 'x-github-event' and query = 'a=' || U&'\\FFFD' \
        and received_at = '2026-11-24T01:02:03.004Z'";
    assert_eq!(bench.number(as_sent).await, 500);
    let shown = "select count(*) from processed_results where category = 'payment' \
        and confidence = 0.75 and result->>'summary' = 'a push' and outcome = 'routed' \
        and decided_by = 'label' and decided_id = '00000000-0000-7000-8000-00000000000a' \
        and (shadow_version, shadow_category, shadow_confidence) = ('2', 'refund', 0.5)";
    assert_eq!(bench.number(shown).await, 500);
    archive.stop().await;
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_furthest_state_counts_in_whatever_order_it_comes() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let archive = bench.start().ready().await;
    let [waits, late, given, redriven, waits_again] = [(); 5].map(|()| Delivery::new());
    let (dead_webhook, risen) = (EventId::generate(), EventId::generate());
    let until = now_ms() + 60_000;
    // Round by round, each in a batch of its own.
    for step in 0..4 {
        match step {
            0 => {
                bench.send_attempt(&waits, 0, 1, parked(until));
                bench.send_attempt(&late, 0, 2, Next::Delivered);
                bench.send_attempt(&given, 0, 2, given_up());
                bench.send_attempt(&redriven, 0, 2, given_up());
                bench.send_attempt(&waits_again, 0, 2, given_up());
                bench.send_processed(dead_webhook, 0, dead(), "");
                bench.send_processed(risen, 1, routed(), "");
            }
            1 => {
                bench.send_attempt(&waits, 0, 2, parked(until + 1));
                bench.send_attempt(&late, 0, 1, parked(until));
                bench.send_attempt(&given, 0, 1, parked(until));
                bench.send_attempt(&redriven, 1, 1, parked(until));
                bench.send_attempt(&waits_again, 1, 1, parked(until));
                bench.send_processed(risen, 0, dead(), "");
            }
            2 => {
                bench.send_attempt(&waits, 0, 1, parked(until));
                bench.send_attempt(&late, 0, 1, given_up());
                bench.send_attempt(&redriven, 1, 2, Next::Delivered);
                bench.send_attempt(&waits_again, 0, 2, given_up());
            }
            _ => bench.send_attempt(&redriven, 0, 2, given_up()),
        }
        bench.flush();
        bench.until_committed().await;
    }
    let mut connection = bench.connect().await;
    let waiting: Vec<(uuid::Uuid, i32, i32)> =
        sqlx::query_as("select delivery_id, round, attempts from retry_queue order by round")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert_eq!(waiting, [(waits.id.0, 0, 2), (waits_again.id.0, 1, 1)]);
    let dead: Vec<(String, uuid::Uuid, String)> =
        sqlx::query_as("select kind, event_id, reason from dead_letters order by kind")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert_eq!(
        dead,
        [
            (
                "delivery".into(),
                given.event.0,
                "attempts_exhausted".into()
            ),
            ("webhook".into(), dead_webhook.0, "too_deep".into()),
        ]
    );
    let stands = "select count(*) from processed_results where round = 1 and outcome = 'routed'";
    assert_eq!(bench.number(stands).await, 1);
    drop(connection);
    archive.stop().await;
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rows_are_set_aside_and_stop_nothing() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let names = bench.kafka.names();
    let future = EventId::synthetic(now_ms() + 3 * 86_400_000, "t", 0, 0);
    let old = EventId::synthetic(now_ms() - 9 * 86_400_000, "t", 0, 0);
    let (refused, nul) = (EventId::generate(), EventId::generate());
    let old_delivery = Delivery {
        event: old,
        ..Delivery::new()
    };
    for number in 0..300 {
        bench.send_raw(EventId::generate(), "[]", b"{}");
        if number == 170 {
            // PostgreSQL takes no half of a surrogate pair in jsonb.
            bench.send_raw(refused, r#"[["a","\ud800"]]"#, b"{}");
            bench.send_raw(nul, r#"[["a","\u0000"]]"#, b"{}");
            bench.send_raw(old, "[]", b"{}");
            bench.send(&names.raw, future, OwnedHeaders::new(), b"garbage");
            bench.send(
                &names.processed,
                refused,
                OwnedHeaders::new(),
                b"{\"garbage",
            );
            bench.send(&names.attempts, refused, OwnedHeaders::new(), b"");
            bench.send_processed(nul, 0, routed(), "a\0b");
            bench.send_processed(future, 0, routed(), "");
            bench.send_attempt(&old_delivery, 0, 1, parked(now_ms()));
        }
    }
    bench.flush();
    let archive = bench.start().ready().await;
    bench.until_committed().await;
    // 300, the one with NUL, and the one without headers under an id of ours.
    assert_eq!(bench.number(LOGS).await, 302);
    assert_eq!(bench.number(RESULTS).await, 1);
    assert_eq!(bench.number(ATTEMPTS).await, 0);
    // However old its event is.
    assert_eq!(bench.number(WAITING).await, 1);
    assert_eq!(bench.number(DEAD).await, 0);
    let cleaned = "select count(*) from ingestion.logs where headers->0->>1 = U&'\\FFFD'";
    assert_eq!(bench.number(cleaned).await, 1);
    let cleaned = "select count(*) from processed_results where result->>'summary' = U&'a\\FFFDb'";
    assert_eq!(bench.number(cleaned).await, 1);
    let mut wanted = [
        ("refused_by_database".to_owned(), refused.to_string()),
        ("unreadable".to_owned(), refused.to_string()),
        ("unreadable".to_owned(), refused.to_string()),
        ("unreadable".to_owned(), future.to_string()),
    ];
    wanted.sort();
    assert_eq!(bench.dead_letters(4), wanted);
    archive.stop().await;
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_database_loses_and_doubles_nothing() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let archive = bench.start().ready().await;
    let send = |count| {
        for _ in 0..count {
            let delivery = Delivery::new();
            bench.send_raw(delivery.event, "[]", b"{}");
            bench.send_attempt(&delivery, 0, 1, Next::Delivered);
        }
        bench.flush();
    };
    send(300);
    bench.until(LOGS, 300).await;
    let cut = "alter database NAME allow_connections false; \
        select pg_terminate_backend(pid) from pg_stat_activity where datname = 'NAME'";
    bench.on_server(cut).await;
    send(3_000);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(
        archive.readiness.is_ready(),
        "waiting is no reason to be restarted"
    );
    // Stopped in the middle of it: what waits is not committed, and the next one has it.
    archive.stop().await;
    let archive = bench.start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!archive.readiness.is_ready(), "ready without tables");
    bench
        .on_server("alter database NAME allow_connections true")
        .await;
    let archive = archive.ready().await;
    send(300);
    bench.until(LOGS, 3_600).await;
    bench.until(ATTEMPTS, 3_600).await;
    // In the middle of writing, and again and again.
    for _ in 0..5 {
        send(1_000);
        tokio::time::sleep(Duration::from_millis(60)).await;
        let cut = "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'NAME'";
        bench.on_server(cut).await;
    }
    bench.until(LOGS, 8_600).await;
    bench.until(ATTEMPTS, 8_600).await;
    bench.until_committed().await;
    archive.stop().await;
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn days_that_are_no_longer_kept_are_dropped() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    let made = "select created::bigint from ingestion.maintain_partitions(30, 7)";
    // 30 days, today, and 7 ahead, of three tables.
    assert_eq!(bench.number(made).await, 3 * 38);
    assert_eq!(bench.number(made).await, 0);
    let row = "insert into processed_results (event_id, item, project_id, source_id, round, outcome, deliveries, \
        processed_at, raw_topic, raw_partition, raw_offset) \
        select ingestion.first_id(now() - days * interval '1 day'), 0, gen_random_uuid(), gen_random_uuid(), 0, \
        'unrouted', 0, now(), '', 0, 0 from unnest(array[0, 2, 5, 29]) as days";
    let mut connection = bench.connect().await;
    sqlx::raw_sql(row).execute(&mut connection).await.unwrap();
    let archive = bench.start().ready().await;
    let partitions = "select count(*) from pg_inherits i join pg_class c on c.oid = i.inhparent \
        where c.relkind = 'p'";
    assert_eq!(bench.number(partitions).await, 3 * 11);
    assert_eq!(bench.number(RESULTS).await, 2);
    archive.stop().await;
    drop(connection);
    bench.finish().await;
}
