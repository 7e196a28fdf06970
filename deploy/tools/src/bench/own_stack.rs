//! Kafka and PostgreSQL of the benchmarks' own, by the scripts of `deploy/local`: ports and data apart from
//! what `make up` has started. Stopped, and their data forgotten, when this is dropped.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context;

pub(super) struct OwnStack {
    script: PathBuf,
    pub(super) brokers: String,
    pub(super) database_url: String,
}

impl OwnStack {
    /// # Errors
    /// They cannot be started; what was in the way stands on standard error.
    pub(super) fn start(root: &Path) -> anyhow::Result<Self> {
        let script = root.join("deploy/local/router");
        let mut command = Command::new(&script);
        command.args(["bench-stack", "up"]).stderr(Stdio::inherit());
        let output = command
            .output()
            .with_context(|| format!("running {}", script.display()))?;
        anyhow::ensure!(
            output.status.success(),
            "the benchmarks' Kafka and PostgreSQL did not start"
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told: HashMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .collect();
        let value = |name: &str| {
            let value = told.get(name).map(|value| (*value).to_owned());
            value.with_context(|| format!("{} did not say {name}", script.display()))
        };
        Ok(Self {
            brokers: value("KAFKA_BROKERS")?,
            database_url: value("DATABASE_URL")?,
            script,
        })
    }
}

impl Drop for OwnStack {
    fn drop(&mut self) {
        let ended = Command::new(&self.script)
            .args(["bench-stack", "down"])
            .stderr(Stdio::null())
            .status();
        if !ended.is_ok_and(|status| status.success()) {
            eprintln!(
                "the benchmarks' Kafka and PostgreSQL may still run: deploy/local/router bench-stack down"
            );
        }
    }
}
