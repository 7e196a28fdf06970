//! Command line of the workers: the long-running roles, and the jobs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use router_runtime::telemetry;
use stream_workers::{jobs, roles};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Classifies, delivers, retries and records webhooks.
///
/// Settings come from the environment; see the README for the list.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Classify raw webhooks, extract results, match routes, queue deliveries.
    Process,
    /// Deliver what is queued.
    Deliver,
    /// Wait out the delays of retries.
    Retry,
    /// Write what happened to PostgreSQL.
    Archive,
    /// Work a stretch of history again, or redrive dead letters.
    Replay(jobs::replay::ReplayArgs),
    /// Classify webhooks of a file, without Kafka.
    Classify(jobs::classify::ClassifyArgs),
    /// Write what the classifier reads of webhooks, for training.
    #[command(hide = true)]
    Tokens(jobs::classify::LinesArgs),
    /// Measure what classification costs here.
    #[command(hide = true)]
    Measure(jobs::measure::MeasureArgs),
}

/// `sysexits.h`: the command was used wrongly.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let role = match Arguments::parse().command {
        Command::Process => roles::Role::Process,
        Command::Deliver => roles::Role::Deliver,
        Command::Retry => roles::Role::Retry,
        Command::Archive => roles::Role::Archive,
        Command::Replay(args) => return done(roles::block_on(jobs::replay::run(args))),
        Command::Classify(args) => return done(jobs::classify::run(args)),
        Command::Measure(args) => return done(jobs::measure::run(args)),
        Command::Tokens(args) => return done(jobs::classify::tokens(args)),
    };
    telemetry::init(role.name());
    let settings = match roles::Settings::from_env(role) {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!("configuration: {error:#}");
            return ExitCode::from(EX_USAGE);
        }
    };
    done(roles::block_on(roles::run(settings)))
}

fn done(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
