//! An installation of its own for one benchmark: topics under a prefix, a database, the product's binaries
//! with addresses that nobody else uses. Everything started here is stopped when it is dropped.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use router_runtime::{crypto, kafka::KafkaSettings};
use router_schemas::{DestinationId, RouteId};

use super::{
    child::{Child, free_addr},
    stack::{Database, Stack},
    topics::Topics,
};
use crate::{
    control::{ControlPlane, Created, Key, NewDestination},
    local_env::sibling_binary,
    receiver::ReceiverStats,
};

pub struct World {
    pub topics: Topics,
    pub runtime: tokio::runtime::Runtime,
    control: ControlPlane,
    log_dir: PathBuf,
    http: reqwest::Client,
    database: Database,
}

/// A role of `stream-workers` or another process of the product, and where it says how it is.
pub struct Running {
    pub child: Child,
    pub admin: SocketAddr,
}

impl World {
    /// Creates a database and topics.
    ///
    /// # Errors
    /// The stack does not answer, or a binary of the product is missing.
    pub fn create(stack: &Stack, part: &str) -> anyhow::Result<Self> {
        let unique = format!("bench-{part}-{}", std::process::id());
        let settings = KafkaSettings {
            topic_prefix: format!("{unique}."),
            ..stack.kafka.clone()
        };
        let log_dir = stack.log_dir.join(&unique);
        std::fs::create_dir_all(&log_dir)
            .with_context(|| format!("making {}", log_dir.display()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut env = vec![
            ("KAFKA_BROKERS".to_owned(), settings.brokers.clone()),
            ("TOPIC_PREFIX".to_owned(), settings.topic_prefix.clone()),
            (
                "MASTER_KEY".to_owned(),
                STANDARD.encode(crypto::random_bytes::<32>()),
            ),
            (
                "DESTINATION_ALLOW_CIDRS".to_owned(),
                "127.0.0.0/8,::1/128".to_owned(),
            ),
            ("RUST_LOG".to_owned(), "warn".to_owned()),
        ];
        let database = stack.create_database(&runtime, &unique.replace('-', "_"))?;
        env.push(("DATABASE_URL".to_owned(), database.url().to_owned()));
        let world = Self {
            topics: Topics::connect(&settings)?,
            runtime,
            control: ControlPlane::new(env),
            log_dir,
            http: crate::http::client()?,
            database,
        };
        world.control.run(&["migrate"])?;
        world
            .control
            .run(&["topics", "create", "--partitions", "12"])?;
        Ok(world)
    }

    #[must_use]
    pub fn kafka(&self) -> &KafkaSettings {
        self.topics.settings()
    }

    /// The product's command line.
    #[must_use]
    pub fn control(&self) -> &ControlPlane {
        &self.control
    }

    /// # Errors
    /// As [`ControlPlane::json`].
    pub fn create_key(&self) -> anyhow::Result<Key> {
        self.control.json(&["key", "create", "--name", "bench"])
    }

    /// A destination of this name; deliveries to it only where a route names it.
    ///
    /// # Errors
    /// As [`ControlPlane::json`].
    pub fn create_destination(
        &self,
        name: &str,
        url: &str,
        more: &[&str],
    ) -> anyhow::Result<DestinationId> {
        let arguments = [
            &["destination", "create", "--name", name, "--url", url],
            more,
        ]
        .concat();
        Ok(self.control.json::<NewDestination>(&arguments)?.id)
    }

    /// A route that sends everything there.
    ///
    /// # Errors
    /// As [`ControlPlane::json`].
    pub fn route_everything(&self, to: DestinationId) -> anyhow::Result<RouteId> {
        let to = to.to_string();
        let arguments = ["route", "create", "--name", "bench", "--destination", &to];
        Ok(self.control.json::<Created<RouteId>>(&arguments)?.id)
    }

    /// Starts `stream-workers <role>` and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start_role(&self, role: &str, more: &[(&str, &str)]) -> anyhow::Result<Running> {
        let mut running = self.spawn_role(role, more)?;
        running.child.wait_ready(running.admin)?;
        Ok(running)
    }

    /// Starts `stream-workers <role>` and does not wait.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn_role(&self, role: &str, more: &[(&str, &str)]) -> anyhow::Result<Running> {
        let admin = free_addr()?;
        let mut command = Command::new(sibling_binary("stream-workers")?);
        command
            .arg(role)
            .env("WORKER_ADMIN_ADDR", admin.to_string());
        Ok(Running {
            child: self.spawn(role, command, more)?,
            admin,
        })
    }

    /// Starts the edge and waits until it is ready; `admin` is where it serves.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start_edge(&self, more: &[(&str, &str)]) -> anyhow::Result<Running> {
        let addr = free_addr()?;
        let mut command = Command::new(sibling_binary("ingest-edge")?);
        command.env("EDGE_ADDR", addr.to_string());
        let mut running = Running {
            child: self.spawn("edge", command, more)?,
            admin: addr,
        };
        running.child.wait_ready(addr)?;
        Ok(running)
    }

    /// Starts `control-plane serve` and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start_control_plane(&self) -> anyhow::Result<Running> {
        let addr = free_addr()?;
        let mut command = Command::new(sibling_binary("control-plane")?);
        command.arg("serve").env("CONTROL_ADDR", addr.to_string());
        let mut running = Running {
            child: self.spawn("control-plane", command, &[])?,
            admin: addr,
        };
        running.child.wait_ready(addr)?;
        Ok(running)
    }

    /// Starts a subcommand of this program that listens on the address it is given.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_own(&self, name: &str, arguments: &[&str]) -> anyhow::Result<Running> {
        let addr = free_addr()?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(name)
            .args(["--addr", &addr.to_string()])
            .args(arguments);
        let mut running = Running {
            child: self.spawn(name, command, &[])?,
            admin: addr,
        };
        running.child.wait_listening(addr)?;
        Ok(running)
    }

    fn spawn(
        &self,
        name: &str,
        mut command: Command,
        more: &[(&str, &str)],
    ) -> anyhow::Result<Child> {
        command
            .envs(self.control.env().iter().map(|(name, value)| (name, value)))
            .envs(more.iter().copied());
        Child::spawn(name, &mut command, &self.log_dir)
    }

    /// What a receiver started with [`World::start_own`] has counted.
    ///
    /// # Errors
    /// It does not answer.
    pub fn receiver_stats(&self, addr: SocketAddr) -> anyhow::Result<ReceiverStats> {
        let url = format!("http://{addr}/stats");
        let answer = self
            .runtime
            .block_on(async { self.http.get(url).send().await?.json().await });
        answer.context("asking the receiver")
    }

    /// # Errors
    /// It does not answer.
    pub fn reset_receiver(&self, addr: SocketAddr) -> anyhow::Result<()> {
        let url = format!("http://{addr}/stats/reset");
        self.runtime
            .block_on(self.http.post(url).send())
            .context("asking the receiver")?;
        Ok(())
    }

    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Logs of the processes.
    #[must_use]
    pub fn log_dir(&self) -> &Path {
        &self.log_dir
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = self.topics.delete_all(&self.runtime) {
            eprintln!("the topics of this benchmark were not removed: {error:#}");
        }
        if let Err(error) = self.database.remove(&self.runtime) {
            eprintln!("the database of this benchmark was not removed: {error:#}");
        }
    }
}
