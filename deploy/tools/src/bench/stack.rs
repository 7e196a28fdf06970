//! Kafka and PostgreSQL for the benchmarks: those that the environment names, else ones of their own,
//! started by the scripts of `deploy/local` beside whatever else runs and stopped at the end.

use std::path::{Path, PathBuf};

use anyhow::Context;
use router_runtime::kafka::KafkaSettings;
use sqlx::{Connection, PgConnection};

use super::own_stack::OwnStack;

pub struct Stack {
    pub kafka: KafkaSettings,
    /// Folder for the logs of what benchmarks start.
    pub log_dir: PathBuf,
    database_url: String,
    /// Kept for its end.
    _own: Option<OwnStack>,
}

impl Stack {
    /// # Errors
    /// Only one of both is named, or they cannot be started.
    pub fn find_or_start(root: &Path) -> anyhow::Result<Self> {
        let log_dir = root.join("target/bench/logs");
        std::fs::create_dir_all(&log_dir)
            .with_context(|| format!("making {}", log_dir.display()))?;
        let named = (
            router_runtime::env::text("KAFKA_BROKERS"),
            router_runtime::env::text("DATABASE_URL"),
        );
        let (own, brokers, database_url) = match named {
            (Some(brokers), Some(database_url)) => (None, brokers, database_url),
            (None, None) => {
                eprintln!("starting Kafka and PostgreSQL for the benchmarks");
                let own = OwnStack::start(root)?;
                let (brokers, database_url) = (own.brokers.clone(), own.database_url.clone());
                (Some(own), brokers, database_url)
            }
            _ => anyhow::bail!("KAFKA_BROKERS and DATABASE_URL: name both or none"),
        };
        let kafka = KafkaSettings {
            brokers,
            ..KafkaSettings::from_env()?
        };
        Ok(Self {
            kafka,
            log_dir,
            database_url,
            _own: own,
        })
    }

    /// # Errors
    /// PostgreSQL does not answer or refuses.
    pub fn create_database(
        &self,
        runtime: &tokio::runtime::Runtime,
        name: &str,
    ) -> anyhow::Result<Database> {
        runtime
            .block_on(execute(
                &self.database_url,
                format!("CREATE DATABASE \"{name}\""),
            ))
            .context("creating a database for the benchmark")?;
        Ok(Database {
            server_url: self.database_url.clone(),
            url: with_database(&self.database_url, name)?,
            name: name.to_owned(),
        })
    }
}

/// A database of one benchmark.
pub struct Database {
    server_url: String,
    url: String,
    name: String,
}

impl Database {
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// # Errors
    /// PostgreSQL does not answer.
    pub fn remove(&self, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
        let drop = format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", self.name);
        runtime.block_on(execute(&self.server_url, drop))
    }

    /// The single number that a query of ours answers.
    ///
    /// # Errors
    /// PostgreSQL does not answer or refuses.
    pub fn number(
        &self,
        runtime: &tokio::runtime::Runtime,
        query: &'static str,
    ) -> anyhow::Result<i64> {
        runtime.block_on(async {
            let mut connection = PgConnection::connect(&self.url).await?;
            let number = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
            connection.close().await?;
            Ok(number)
        })
    }
}

async fn execute(url: &str, statement: String) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    // The only part that varies is a name made of our own letters, digits and underscores.
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    Ok(())
}

/// The same server, another database.
fn with_database(url: &str, name: &str) -> anyhow::Result<String> {
    let mut url = url::Url::parse(url).context("DATABASE_URL is not a URL")?;
    url.set_path(name);
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_keeps_server_user_and_options() {
        let url = with_database("postgres://u:p@127.0.0.1:5433/router?sslmode=disable", "b");
        assert_eq!(
            url.expect("a URL"),
            "postgres://u:p@127.0.0.1:5433/b?sslmode=disable"
        );
    }
}
