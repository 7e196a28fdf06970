//! `migrate`.

use clap::Args;

use super::Outcome;
use crate::{output, settings::Settings, store};

/// Each migration is committed as a whole or not at all. May run while everything else runs.
#[derive(Debug, Args)]
pub(super) struct Migrate {}

impl Migrate {
    pub(super) async fn run(self, settings: &Settings) -> Outcome {
        let pool = settings.database(1)?;
        let count = store::migrate(&pool).await?;
        let text = match count {
            0 => "the tables are up to date".to_owned(),
            count => format!("{count} migration(s) applied"),
        };
        Ok(output::line(&text)?)
    }
}
