//! `audit`.

use clap::Args;

use super::{Format, Outcome};
use crate::{
    audit::{self, Report},
    error::CommandError,
    output,
    settings::Settings,
};

/// Two ledgers that must always balance, over distinct ids, the furthest state counting:
///
///   raw records = waiting + routed + unrouted + duplicate + set aside + dead + expired
///
///   deliveries  = waiting + delivered + cancelled + dead + expired
///
/// Reads webhooks.raw, webhooks.processed and webhooks.attempts from their beginning to their present ends,
/// and changes nothing; it may run at any time. It takes a few dozen bytes of memory for each webhook and
/// each delivery that is kept.
#[derive(Debug, Args)]
pub(super) struct Audit {
    /// Also compare with what the archive wrote to PostgreSQL
    #[arg(long)]
    database: bool,
    #[command(flatten)]
    format: Format,
}

impl Audit {
    pub(super) async fn run(self, settings: &Settings) -> Outcome {
        let pool = match self.database {
            true => Some(settings.database(1)?),
            false => None,
        };
        let kafka = settings.kafka.clone();
        let read = tokio::task::spawn_blocking(move || audit::Audit::read(&kafka));
        let audit = read.await.map_err(anyhow::Error::from)??;
        let database = match &pool {
            Some(pool) => Some(audit::compare(&audit, pool, &settings.kafka).await?),
            None => None,
        };
        let report = Report::new(&audit, database);
        if self.format.json {
            output::json(&report)?;
        } else {
            report.print()?;
        }
        match report.balanced {
            true => Ok(()),
            false => Err(CommandError::Unbalanced),
        }
    }
}
