//! Where the control plane finds its database, Kafka and master key, and what it says when it cannot.

use std::time::Duration;

use router_runtime::{crypto::MasterKey, env, kafka::KafkaSettings};
use router_schemas::ProjectId;
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::error::CommandError;

/// What every command starts from. Connections are made when a command first needs them.
#[derive(Debug, Clone)]
pub struct Settings {
    pub kafka: KafkaSettings,
    /// Who acts, as it stands in the audit log.
    pub actor: String,
    /// The project that commands work on.
    pub project_id: ProjectId,
    database_url: Option<String>,
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// A variable is set and cannot be read.
    pub fn from_env() -> Result<Self, CommandError> {
        Ok(Self {
            kafka: KafkaSettings::from_env().map_err(usage)?,
            actor: format!("command line: {}", who()),
            project_id: ProjectId::DEFAULT,
            database_url: env::text("DATABASE_URL"),
        })
    }

    /// Settings made by hand, for tests.
    #[must_use]
    pub fn of(kafka: KafkaSettings, database_url: &str) -> Self {
        Self {
            kafka,
            actor: "test".into(),
            project_id: ProjectId::DEFAULT,
            database_url: Some(database_url.to_owned()),
        }
    }

    #[must_use]
    pub fn has_database(&self) -> bool {
        self.database_url.is_some()
    }

    /// # Errors
    /// `DATABASE_URL` is not set.
    pub fn database_url(&self) -> Result<&str, CommandError> {
        self.database_url.as_deref().ok_or_else(|| {
            CommandError::Usage(
                "DATABASE_URL is not set: set it to PostgreSQL's address, such as postgres://router@127.0.0.1:5432/router (after `make up` it stands in .local/env)"
                    .into(),
            )
        })
    }

    /// Connects to PostgreSQL.
    ///
    /// # Errors
    /// `DATABASE_URL` is missing or wrong, or nobody answers there.
    pub fn database(&self, connections: u32) -> Result<PgPool, CommandError> {
        let url = self.database_url()?;
        let options = url.parse().map_err(|error: sqlx::Error| {
            CommandError::Usage(format!("DATABASE_URL cannot be read: {error}"))
        })?;
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(options);
        Ok(pool)
    }

    /// # Errors
    /// `MASTER_KEY` is missing or is not base64 of 32 bytes.
    pub fn master_key(&self) -> Result<MasterKey, CommandError> {
        MasterKey::from_env().map_err(usage)?.ok_or_else(|| {
            CommandError::Usage(
                "MASTER_KEY is not set: it seals the secrets of destinations. Make one with `openssl rand -base64 32` and give the same to the control plane and every worker"
                    .into(),
            )
        })
    }
}

fn usage(error: anyhow::Error) -> CommandError {
    CommandError::Usage(format!("{error:#}"))
}

/// The person at the terminal, as far as the system tells.
fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(env::text);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host
        .as_deref()
        .map(str::trim)
        .filter(|host| !host.is_empty());
    format!(
        "{}@{}",
        user.as_deref().unwrap_or("unknown"),
        host.unwrap_or("unknown")
    )
}
