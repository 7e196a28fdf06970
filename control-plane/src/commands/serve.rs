//! `serve`.

use std::net::SocketAddr;

use clap::Args;
use router_runtime::lifecycle::Shutdown;

use super::Outcome;
use crate::{serve, settings::Settings};

/// Runs until SIGTERM or SIGINT.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Where /healthz, /readyz and /metrics are answered
    #[arg(long, env = "CONTROL_ADDR", default_value = "127.0.0.1:4001")]
    addr: SocketAddr,
}

impl Serve {
    pub(super) async fn run(self, settings: &Settings) -> Outcome {
        settings.database_url()?;
        let shutdown = Shutdown::on_signals().map_err(anyhow::Error::from)?;
        serve::serve(settings, self.addr, shutdown).await
    }
}
