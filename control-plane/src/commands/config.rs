//! `config republish`.

use clap::Subcommand;

use super::{Format, Outcome, Session};
use crate::{
    output::{self, Table},
    republish,
    settings::Settings,
};

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Compares the topic control.config with the tables and mends the topic
    ///
    /// For when the topic was emptied, tampered with, or belongs to a database that was restored from a
    /// backup. Running it when nothing is wrong changes nothing.
    Republish(Format),
}

impl Config {
    pub(super) async fn run(self, settings: &Settings) -> Outcome {
        let Self::Republish(format) = self;
        let session = Session::open(settings)?;
        let differences = republish::republish(&session.pool, &settings.kafka).await?;
        if format.json {
            return Ok(output::json(&differences)?);
        }
        if differences.is_empty() {
            return Ok(output::line("the topic holds what the tables say")?);
        }
        let mut table = Table::new(&["record", "was"]);
        for difference in &differences {
            table.row([difference.key.clone(), difference.what.text().into()]);
        }
        table.print()?;
        Ok(output::line(&format!(
            "{} record(s) differed",
            differences.len()
        ))?)
    }
}
