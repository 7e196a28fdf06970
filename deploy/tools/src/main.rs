//! `router-tools`: what a person at a terminal runs beside the product: a receiver to look at deliveries
//! with, `send`, `demo` and `bench`. This file only reads the command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use router_tools::{bench, demo, receiver, send};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "router-tools",
    about = "Try, show and measure the webhook router",
    version
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Receive webhooks locally and count them
    Receiver(receiver::command::Arguments),
    /// Post the webhooks of a JSON Lines file to the edge
    Send(send::Arguments),
    /// Send webhooks of many providers and watch what becomes of each
    Demo(demo::Arguments),
    /// Measure this machine with the router on it
    Bench(bench::Arguments),
    /// For `bench edge`: an HTTP server that reads and drops bodies
    BareServer(bench::servers::Arguments),
    /// For `bench edge`: the simplest edge that puts webhooks into Kafka
    NaiveServer(bench::servers::NaiveArguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        // One line of causes; a backtrace would bury what the user has to do.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Receiver(arguments) => receiver::command::run(arguments),
        Command::Send(arguments) => send::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::BareServer(arguments) => bench::servers::run_bare(&arguments),
        Command::NaiveServer(arguments) => bench::servers::run_naive(&arguments),
    }
}
