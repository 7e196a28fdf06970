//! One installation of the product for one test.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Command,
    sync::Mutex,
    time::{Duration, Instant},
};

use router_runtime::kafka::KafkaSettings;
use serde_json::Value;
use sqlx::{Connection, PgConnection, PgPool, postgres::PgPoolOptions};

use crate::{
    eventually,
    service::{Service, program},
};

/// What a test may want otherwise.
#[derive(Debug, Clone)]
pub struct WorldSettings {
    pub partitions: u32,
    pub ladder: &'static str,
    pub group_protocol: &'static str,
    /// Another Kafka or PostgreSQL than the stack's.
    pub brokers: Option<String>,
    pub database_url: Option<String>,
    /// Ranges that deliveries may go to.
    pub allow_cidrs: &'static str,
    /// Further variables for every process.
    pub env: Vec<(&'static str, String)>,
}

impl Default for WorldSettings {
    fn default() -> Self {
        Self {
            partitions: 4,
            ladder: "200ms,1s,5s",
            group_protocol: "classic",
            brokers: None,
            database_url: None,
            allow_cidrs: "127.0.0.0/8,::1/128",
            env: Vec::new(),
        }
    }
}

/// A destination as the command line made it.
#[derive(Debug, Clone)]
pub struct Destination {
    pub id: String,
    pub secret: String,
}

/// Topics, tables, key and processes of one test.
pub struct World {
    pub kafka: KafkaSettings,
    pub edge_url: String,
    pub key: String,
    pub source_id: String,
    pub database_url: String,
    env: Vec<(String, String)>,
    logs: PathBuf,
    services: BTreeMap<String, Service>,
    /// When settings were changed last.
    changed: Mutex<Instant>,
}

impl World {
    /// Makes everything but processes; none where there is no stack.
    ///
    /// # Panics
    /// Something cannot be made.
    pub async fn new(name: &str, settings: WorldSettings) -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if variable("ROUTER_TEST_STACK").is_none() {
            eprintln!(
                "SKIPPED {name}: ROUTER_TEST_STACK is not set; `make test` brings up what it needs"
            );
            return None;
        }
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let brokers = settings
            .brokers
            .clone()
            .or_else(|| variable("KAFKA_BROKERS"))
            .expect("KAFKA_BROKERS");
        let server = settings
            .database_url
            .clone()
            .or_else(|| variable("DATABASE_URL"))
            .expect("DATABASE_URL");
        let prefix = format!("{name}-{}.", std::process::id());
        let database_url = make_database(&server, &prefix.replace(['-', '.'], "_")).await;
        let logs = program("ingest-edge")
            .with_file_name("e2e-logs")
            .join(&prefix);
        std::fs::create_dir_all(&logs).expect("log folder");
        let mut env = vec![
            ("KAFKA_BROKERS", brokers.clone()),
            ("DATABASE_URL", database_url.clone()),
            ("TOPIC_PREFIX", prefix.clone()),
            ("RETRY_LADDER", settings.ladder.to_owned()),
            ("KAFKA_GROUP_PROTOCOL", settings.group_protocol.to_owned()),
            ("DESTINATION_ALLOW_CIDRS", settings.allow_cidrs.to_owned()),
            // Thirty-two bytes that are nobody's key.
            (
                "MASTER_KEY",
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
            ),
        ];
        env.extend(settings.env.clone());
        let env = env
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let kafka = KafkaSettings {
            brokers,
            topic_prefix: prefix,
            ..KafkaSettings::default()
        };
        let mut world = Self {
            kafka,
            edge_url: String::new(),
            key: String::new(),
            source_id: String::new(),
            database_url,
            env,
            logs,
            services: BTreeMap::new(),
            changed: Mutex::new(Instant::now()),
        };
        world.control(&["migrate"]);
        world.control(&[
            "topics",
            "create",
            "--partitions",
            &settings.partitions.to_string(),
        ]);
        let key = world.control_json(&["key", "create", "--name", "test"]);
        world.key = text(&key, "key");
        world.source_id = text(&key, "source_id");
        Some(world)
    }

    /// As [`World::new`], with every process started and ready.
    ///
    /// # Panics
    /// Something cannot be made or started.
    pub async fn start(name: &str, settings: WorldSettings) -> Option<Self> {
        let mut world = Self::new(name, settings).await?;
        world.start_all().await;
        Some(world)
    }

    /// Starts edge, control plane and one worker of each role.
    pub async fn start_all(&mut self) {
        for name in [
            "edge",
            "control-plane",
            "process",
            "deliver",
            "retry",
            "archive",
        ] {
            self.add(name);
        }
        for service in self.services.values_mut() {
            service.ready().await;
        }
    }

    /// Starts a process: `edge`, `control-plane`, a role, or a further one of a role such as `deliver-2`.
    pub fn add(&mut self, name: &str) {
        let address = format!("127.0.0.1:{}", free_port());
        let ready = format!("http://{address}/readyz");
        let role = name.split_once("-2").map_or(name, |(role, _)| role);
        let (program, args, variable) = match role {
            "edge" => ("ingest-edge", vec![], "EDGE_ADDR"),
            "control-plane" => ("control-plane", vec!["serve"], "CONTROL_ADDR"),
            role => ("stream-workers", vec![role], "WORKER_ADMIN_ADDR"),
        };
        let mut env = self.env.clone();
        if program == "stream-workers" {
            // As `make up` does: a restart moves no partition.
            env.push(("WORKER_INSTANCE_ID".to_owned(), name.to_owned()));
        }
        env.push((variable.to_owned(), address.clone()));
        if role == "edge" {
            self.edge_url = format!("http://{address}");
        }
        let service = Service::start(name, program, &args, env, ready, &self.logs);
        self.services.insert(name.to_owned(), service);
    }

    /// # Panics
    /// There is none of that name.
    pub fn service(&mut self, name: &str) -> &mut Service {
        self.services
            .get_mut(name)
            .unwrap_or_else(|| panic!("no service {name}"))
    }

    /// Every process that was started runs.
    ///
    /// # Panics
    /// One has ended.
    pub fn all_run(&mut self) {
        for (name, service) in &mut self.services {
            assert!(service.runs(), "{name} ended: {}", service.log());
        }
    }

    /// Resident memory in bytes of each process.
    #[must_use]
    pub fn memory(&self) -> BTreeMap<String, u64> {
        let each = self.services.iter();
        each.map(|(name, service)| (name.clone(), service.resident_bytes()))
            .collect()
    }

    /// Ends a process for good.
    pub fn remove(&mut self, name: &str) {
        self.services.remove(name);
    }

    /// Runs the command line of the control plane; what it prints.
    ///
    /// # Panics
    /// It fails.
    pub fn control(&self, args: &[&str]) -> String {
        let (status, out, err) = self.run("control-plane", args);
        assert!(status == 0, "control-plane {args:?}: {out}{err}");
        *self.changed.lock().expect("no panic holds it") = Instant::now();
        out
    }

    /// As [`World::control`] with `--json`.
    ///
    /// # Panics
    /// It fails, or prints no JSON.
    pub fn control_json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.push("--json");
        let out = self.control(&args);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
    }

    /// A program with the world's settings, to be run by the test.
    #[must_use]
    pub fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program(name));
        let env = self.env.iter().map(|(name, value)| (name, value));
        command.args(args).envs(env);
        command
    }

    /// Runs a program with the world's settings; exit status, output, errors.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn run(&self, name: &str, args: &[&str]) -> (i32, String, String) {
        let output = self.command(name, args).output();
        let output = output.expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (
            output.status.code().unwrap_or(-1),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// Makes a destination; `more` are further arguments of the command.
    pub fn destination(&self, name: &str, url: &str, more: &[&str]) -> Destination {
        let mut args = vec!["destination", "create", "--name", name, "--url", url];
        args.extend(more);
        let made = self.control_json(&args);
        Destination {
            id: text(&made, "id"),
            secret: text(&made, "secret"),
        }
    }

    /// Makes a route to one destination; `more` are further arguments of the command.
    pub fn route(&self, name: &str, destination: &Destination, more: &[&str]) -> String {
        let mut args = vec![
            "route",
            "create",
            "--name",
            name,
            "--destination",
            &destination.id,
        ];
        args.extend(more);
        text(&self.control_json(&args), "id")
    }

    /// A request that would be accepted, to be changed by the test.
    pub async fn webhook(&self) -> reqwest::RequestBuilder {
        // A change of settings is in force everywhere within a second, no sooner.
        let changed = *self.changed.lock().expect("no panic holds it");
        tokio::time::sleep(Duration::from_secs(1).saturating_sub(changed.elapsed())).await;
        reqwest::Client::new()
            .post(format!("{}/webhooks", self.edge_url))
            .header("x-api-key", &self.key)
            .header("content-type", "application/json")
    }

    /// Sends a webhook that must be accepted; its event id.
    ///
    /// # Panics
    /// It is refused.
    pub async fn send(&self, body: impl Into<reqwest::Body>) -> String {
        let answer = self
            .webhook()
            .await
            .body(body)
            .send()
            .await
            .expect("the edge answers");
        let status = answer.status();
        let answer: Value = answer.json().await.expect("the edge answers in JSON");
        assert_eq!(status, 202, "{answer}");
        text(&answer, "id")
    }

    /// # Panics
    /// The database does not answer.
    pub async fn database(&self) -> PgPool {
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(Duration::from_secs(10));
        pool.connect(&self.database_url)
            .await
            .expect("the database answers")
    }

    /// The audit's account; balanced or not.
    ///
    /// # Panics
    /// It prints no JSON.
    #[must_use]
    pub fn audit(&self, more: &[&str]) -> (bool, Value) {
        let mut args = vec!["audit", "--json"];
        args.extend(more);
        let (status, out, err) = self.run("control-plane", &args);
        let account =
            serde_json::from_str(&out).unwrap_or_else(|error| panic!("audit: {error}: {out}{err}"));
        (status == 0, account)
    }

    /// Waits until everything is worked, both ledgers balance, and the tables hold the same as the topics.
    ///
    /// # Panics
    /// They do not within `patience`.
    pub async fn balances(&self, patience: Duration) {
        eventually("the accounts balance", patience, async || {
            let (balanced, account) = self.audit(&["--database"]);
            // Before the archive is done the tables need not be the same, and the audit says nothing of them.
            let done = account["idle"] == true && account["database"]["archived"] == true;
            if !(balanced && done) {
                eprintln!("{account}");
                return None;
            }
            Some(())
        })
        .await;
    }
}

/// A text field of a command's answer.
///
/// # Panics
/// There is none.
fn text(value: &Value, name: &str) -> String {
    let found = value[name].as_str();
    found
        .unwrap_or_else(|| panic!("no {name} in {value}"))
        .to_owned()
}

async fn make_database(server: &str, name: &str) -> String {
    let mut connection = PgConnection::connect(server)
        .await
        .expect("PostgreSQL answers");
    let create = format!("create database \"{name}\"");
    sqlx::query(sqlx::AssertSqlSafe(create))
        .execute(&mut connection)
        .await
        .expect("a database is made");
    let (base, _) = server
        .rsplit_once('/')
        .expect("an address ends with /database");
    format!("{base}/{name}")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound port").port()
}
