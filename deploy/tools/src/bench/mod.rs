//! `router-tools bench`: measures the product on this machine, load and Kafka beside it, and writes what it
//! finds to `target/bench/`. Each part makes an installation of its own and removes it afterwards.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};

mod bare_loop;
pub mod child;
mod classify;
mod deliver;
mod drain;
mod edge;
pub mod machine;
mod own_stack;
mod path;
mod preload;
mod process;
pub mod report;
mod retry;
pub mod servers;
pub mod stack;
pub mod topics;
pub mod world;

use machine::Machine;
use report::Figures;
use stack::Stack;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The edge beside a bare server and a naive edge
    Edge,
    /// Classification by itself
    Classify,
    /// Raw webhooks through classification and routing
    Process,
    /// Deliveries to a local receiver
    Deliver,
    /// The whole way, from a sender's request to a receiver's
    Path,
    /// Parked deliveries
    Retry,
    All,
}

#[derive(Args, Debug)]
pub struct Arguments {
    /// What to measure
    #[arg(value_enum, default_value = "all")]
    part: Part,
    /// Seconds instead of minutes: shows that everything runs, not what it can do
    #[arg(long)]
    quick: bool,
    /// Length of one measurement
    #[arg(long)]
    seconds: Option<u64>,
    /// Records to work through, where a part works through records
    #[arg(long)]
    records: Option<u64>,
}

/// What every part is given.
pub struct Options {
    pub stack: Stack,
    pub quick: bool,
    seconds: Option<u64>,
    records: Option<u64>,
}

impl Options {
    /// Seconds that were asked for, else those of a full or of a quick run.
    #[must_use]
    pub fn seconds(&self, full: u64, quick: u64) -> u64 {
        self.seconds
            .unwrap_or(if self.quick { quick } else { full })
    }

    /// Likewise for records.
    #[must_use]
    pub fn records(&self, full: u64, quick: u64) -> u64 {
        self.records
            .unwrap_or(if self.quick { quick } else { full })
    }
}

type RunPart = fn(&Options) -> anyhow::Result<Figures>;

const PARTS: [(Part, &str, RunPart); 6] = [
    (Part::Edge, "edge", edge::run),
    (Part::Classify, "classify", classify::run),
    (Part::Process, "process", process::run),
    (Part::Deliver, "deliver", deliver::run),
    (Part::Path, "path", path::run),
    (Part::Retry, "retry", retry::run),
];

/// Runs what was asked for, one part after another.
///
/// # Errors
/// The stack does not come up, or a part failed; the other parts have run nevertheless.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let root = project_root()?;
    let machine = Machine::describe(&root);
    println!(
        "{}, {} cores, Linux {}, commit {}",
        machine.cpu, machine.cores, machine.kernel, machine.commit
    );
    let options = Options {
        stack: Stack::find_or_start(&root)?,
        quick: arguments.quick,
        seconds: arguments.seconds,
        records: arguments.records,
    };
    let mut failed = Vec::new();
    for (part, name, run) in PARTS {
        if arguments.part != Part::All && arguments.part != part {
            continue;
        }
        eprintln!("{name}:");
        match run(&options) {
            Ok(figures) => {
                figures.print();
                println!("  written to {}", figures.write(&root, &machine)?.display());
            }
            Err(error) => {
                eprintln!("{name} failed: {error:#}");
                failed.push(name);
            }
        }
    }
    anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// The checkout: the folder with the workspace's `Cargo.toml`, from here or from the executable upwards.
fn project_root() -> anyhow::Result<PathBuf> {
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    let is_root = |dir: &&std::path::Path| dir.join("Cargo.lock").is_file();
    let mut roots = starts
        .iter()
        .flatten()
        .filter_map(|start| start.ancestors().find(is_root));
    let root = roots.next().context("run this within the checkout")?;
    Ok(root.to_owned())
}
