//! One installation for each test: a database and a topic prefix of its own on the test stack, and the
//! real program to run against them.

use std::{
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use control_plane::{config_topic, settings::Settings};
use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    message::OwnedHeaders,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use router_runtime::kafka::KafkaSettings;
use router_schemas::topics::TopicNames;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

/// Nobody listens there.
pub const NO_KAFKA: &str = "127.0.0.1:9";
const MASTER_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

pub struct World {
    pub kafka: KafkaSettings,
    pub names: TopicNames,
    pub pool: PgPool,
    pub database_url: String,
    database: String,
    server_url: String,
}

impl World {
    /// None, with a message, where there is no test stack.
    pub async fn begin() -> Option<Self> {
        if std::env::var("ROUTER_TEST_STACK").is_err() {
            eprintln!("SKIPPED: needs the test stack; run it by `make test`");
            return None;
        }
        let id = uuid::Uuid::now_v7().simple().to_string();
        let mut kafka = KafkaSettings::from_env().unwrap();
        kafka.topic_prefix = format!("c{}.", &id[20..]);
        let database = format!("control_{id}");
        let server_url = std::env::var("DATABASE_URL").unwrap();
        let mut server = PgConnection::connect(&server_url).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("create database {database}")))
            .execute(&mut server)
            .await
            .unwrap();
        let mut url = url::Url::parse(&server_url).unwrap();
        url.set_path(&database);
        let database_url = url.to_string();
        let settings = Settings::of(kafka.clone(), &database_url);
        Some(Self {
            names: kafka.names(),
            pool: settings.database(4).unwrap(),
            kafka,
            database_url,
            database,
            server_url,
        })
    }

    /// With tables and topics.
    pub async fn installed() -> Option<Self> {
        let world = Self::begin().await?;
        world.ok(&["migrate"]);
        world.ok(&["topics", "create", "--partitions", "2"]);
        Some(world)
    }

    /// Takes away what the test has made.
    pub async fn end(self) {
        self.pool.close().await;
        let admin = self.admin();
        let names = self.topics();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if !names.is_empty() {
            admin
                .delete_topics(&names, &AdminOptions::new())
                .await
                .unwrap();
        }
        let mut server = PgConnection::connect(&self.server_url).await.unwrap();
        sqlx::query(AssertSqlSafe(format!(
            "drop database {} with (force)",
            self.database
        )))
        .execute(&mut server)
        .await
        .unwrap();
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.kafka.client_config().create().unwrap()
    }

    fn topics(&self) -> Vec<String> {
        let client: BaseConsumer = self.kafka.client_config().create().unwrap();
        let metadata = client
            .fetch_metadata(None, Duration::from_secs(10))
            .unwrap();
        let names = metadata
            .topics()
            .iter()
            .map(|topic| topic.name().to_owned());
        names
            .filter(|name| name.starts_with(&self.kafka.topic_prefix))
            .collect()
    }

    /// The program, with this installation's environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
        command
            .args(arguments)
            .env("DATABASE_URL", &self.database_url)
            .env("KAFKA_BROKERS", &self.kafka.brokers)
            .env("TOPIC_PREFIX", &self.kafka.topic_prefix)
            .env("MASTER_KEY", MASTER_KEY)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// Runs a command that must succeed; returns what it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.errors);
        ran.text
    }

    /// Runs a command with `--json` that must succeed; returns its answer.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        serde_json::from_str(&self.ok(&arguments)).unwrap()
    }

    /// The value of a config record as a reader sees it, or none.
    pub fn record(&self, key: &str) -> Option<Value> {
        let contents = tokio::task::block_in_place(|| config_topic::read(&self.kafka)).unwrap();
        let bytes = contents.get(key.as_bytes())?;
        Some(serde_json::from_slice(bytes).unwrap_or(Value::Null))
    }

    /// Writes a record as anyone could.
    pub fn produce(&self, record: Produced<'_>) {
        let producer: BaseProducer = self.kafka.producer_config().create().unwrap();
        let mut headers = OwnedHeaders::new();
        for (key, value) in record.headers {
            headers = headers.insert(rdkafka::message::Header {
                key,
                value: Some(&value),
            });
        }
        let mut built: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(record.topic)
            .key(record.key)
            .partition(record.partition)
            .headers(headers);
        if let Some(value) = record.value {
            built = built.payload(value);
        }
        producer.send(built).map_err(|(error, _)| error).unwrap();
        producer.flush(Duration::from_secs(10)).unwrap();
    }
}

/// A record to write.
pub struct Produced<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

/// Writes a record of the config topic as nobody should.
pub fn tamper(world: &World, key: &str, value: Option<&str>) {
    world.produce(Produced {
        topic: &world.names.config,
        partition: 0,
        key: key.as_bytes(),
        value: value.map(str::as_bytes),
        headers: Vec::new(),
    });
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub text: String,
    pub errors: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            text: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Waits until something holds; fails after a while.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
