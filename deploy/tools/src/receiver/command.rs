//! `router-tools receiver`: one receiver in the foreground, its figures at `GET /stats`.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use axum::http::StatusCode;
use clap::Args;
use router_runtime::lifecycle::Shutdown;

use super::{Receiver, ReceiverSettings};

#[derive(Args, Debug)]
pub struct Arguments {
    /// Address to listen on; port 0 takes any that is free
    #[arg(long, default_value = "127.0.0.1:0")]
    addr: SocketAddr,
    /// Answer 503 to the first N requests of each webhook-id
    #[arg(long, default_value_t = 0, value_name = "N")]
    fail_first: u32,
    /// Status of the answer otherwise
    #[arg(long, default_value_t = 200)]
    status: u16,
    /// Wait before answering
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Signing secret of the destination (whsec_...): answer 401 to what is not signed with it
    #[arg(long)]
    secret: Option<String>,
    /// How many webhook-ids are remembered, to tell repeated ones
    #[arg(long, default_value_t = 1_000_000)]
    tracked_ids: usize,
    /// Print a line when figures change
    #[arg(long)]
    watch: bool,
}

impl Arguments {
    fn settings(self) -> anyhow::Result<ReceiverSettings> {
        Ok(ReceiverSettings {
            addr: self.addr,
            status: StatusCode::from_u16(self.status).context("--status")?,
            fail_first: self.fail_first,
            delay: Duration::from_millis(self.delay_ms),
            secret: self.secret,
            tracked_ids: self.tracked_ids,
        })
    }
}

/// Serves until it is stopped.
///
/// # Errors
/// The address is taken, or an argument makes no sense.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let watch = arguments.watch;
    let settings = arguments.settings()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        let receiver = Receiver::start(settings).await?;
        println!(
            "receiving on http://{0}/, figures at http://{0}/stats",
            receiver.addr()
        );
        tokio::select! {
            () = shutdown.wait() => {}
            () = report_changes(&receiver, watch) => {}
        }
        println!("{}", serde_json::to_string(&receiver.stats())?);
        Ok(())
    })
}

/// Never ends; silent unless asked to speak.
async fn report_changes(receiver: &Receiver, speak: bool) {
    let mut told = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let stats = receiver.stats();
        if speak && stats.requests != told {
            told = stats.requests;
            println!(
                "{} requests, {} accepted, {} distinct, {} again, {} failed on purpose, {} badly signed",
                stats.requests,
                stats.accepted,
                stats.distinct_ids,
                stats.duplicates,
                stats.failed_on_purpose,
                stats.bad_signatures
            );
        }
    }
}
