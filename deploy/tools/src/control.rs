//! The product's command line, run as a person would: its answers read as JSON, its complaints passed on.
//! Used by `demo` and `bench`, which never touch PostgreSQL or `control.config` themselves.

use std::process::Command;

use anyhow::Context;
use serde::{Deserialize, de::DeserializeOwned};

use crate::local_env::sibling_binary;

/// How to run `control-plane`: with which environment on top of this process's.
#[derive(Debug, Clone, Default)]
pub struct ControlPlane {
    env: Vec<(String, String)>,
}

/// What `key create --json` prints.
#[derive(Debug, Clone, Deserialize)]
pub struct Key {
    pub id: router_schemas::KeyId,
    pub key: String,
    pub source_id: router_schemas::SourceId,
    pub project_id: router_schemas::ProjectId,
}

/// What the other `create --json` commands print, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub struct Created<Id> {
    pub id: Id,
}

/// What `destination create --json` prints.
#[derive(Debug, Clone, Deserialize)]
pub struct NewDestination {
    pub id: router_schemas::DestinationId,
    /// Signs what is sent there; printed once.
    pub secret: String,
}

impl ControlPlane {
    #[must_use]
    pub fn new(env: Vec<(String, String)>) -> Self {
        Self { env }
    }

    #[must_use]
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// Runs a command and returns what it prints.
    ///
    /// # Errors
    /// It fails; the message holds what it said.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(sibling_binary("control-plane")?);
        command
            .args(arguments)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        let output = command.output().context("running control-plane")?;
        anyhow::ensure!(
            output.status.success(),
            "control-plane {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same with `--json`, read.
    ///
    /// # Errors
    /// As [`ControlPlane::run`], or the answer is not what was expected.
    pub fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> anyhow::Result<T> {
        let with_json = [arguments, &["--json"]].concat();
        let text = self.run(&with_json)?;
        // Only the command is named: the answer may hold a key or a secret.
        serde_json::from_str(&text)
            .with_context(|| format!("reading what control-plane {} printed", arguments.join(" ")))
    }
}
