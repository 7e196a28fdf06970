//! `replay`: works a stretch of history again, or sends dead letters on their way once more.
//!
//! - `window`: reads what a topic holds between two times.
//! - `outbox`: produces, and counts what Kafka has acknowledged.
//! - `history`: raw webhooks, for `process` to work again.
//! - `letters`: dead letters, each to the stage that gave it up.
//!
//! Everything goes to topics of its own (`webhooks.replay`, `webhooks.redeliveries`), so live traffic waits
//! for nothing of it.

mod history;
mod letters;
mod outbox;
mod pace;
mod window;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use router_runtime::{
    config_view,
    kafka::KafkaSettings,
    lifecycle::{Readiness, Shutdown},
    telemetry,
};
use router_schemas::{DestinationId, ReplayId, SourceId};

use self::{outbox::Outbox, window::Window};
use crate::directory::{Directory, Tables};

/// How long the settings may take to arrive.
const CONFIG_PATIENCE: Duration = Duration::from_secs(20);

/// What is to be replayed.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Start: a time such as 2026-11-24T08:00:00Z, or how long ago (90s, 15m, 2h, 3d).
    #[arg(long, value_parser = moment)]
    from: Timestamp,
    /// End, exclusive: as --from, or `now`.
    #[arg(long, value_parser = moment, default_value = "now")]
    to: Timestamp,
    /// Only webhooks of this source (id or name).
    #[arg(long)]
    source: Option<String>,
    /// Only webhooks that were given this category when they were processed.
    #[arg(long)]
    category: Option<String>,
    /// Deliver to this destination only (id or name).
    #[arg(long)]
    destination: Option<String>,
    /// Redrive what rests in the dead letters, instead of replaying webhooks.
    #[arg(long)]
    dead_letter: bool,
    /// Count what would be replayed, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if text == "now" {
        return Ok(Timestamp::now());
    }
    let ago = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        let span = SignedDuration::from_secs(number.parse::<u32>().ok().map(i64::from)? * seconds);
        Timestamp::now().checked_sub(span).ok()
    };
    text.parse().ok().or_else(ago).ok_or_else(|| {
        format!("{text:?} is neither a time such as 2026-11-24T08:00:00Z nor a span such as 15m, 2h or 3d")
    })
}

/// The arguments with names looked up.
#[derive(Debug)]
struct Wish {
    from_ms: i64,
    to_ms: i64,
    source: Option<SourceId>,
    category: Option<String>,
    destination: Option<DestinationId>,
}

/// How many records ended how. Every record read is counted exactly once.
#[derive(Debug, Default)]
struct Tally {
    counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn count(&mut self, outcome: &'static str) {
        *self.counts.entry(outcome).or_default() += 1;
    }
    fn read(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// Runs the job to its end.
///
/// # Errors
/// Kafka or the settings cannot be reached, a name is not known, or Kafka did not take a record.
pub async fn run(args: ReplayArgs) -> anyhow::Result<()> {
    telemetry::init("replay");
    let kafka = KafkaSettings::from_env()?;
    let shutdown = Shutdown::on_signals()?;
    let (tables, config_offset) = settings(&kafka, &shutdown).await?;
    let wish = Wish::of(&args, &tables)?;
    let replay_id = ReplayId::generate();
    let job = Job {
        outbox: Outbox::new(&kafka, &shutdown, args.dry_run)?,
        kafka,
        wish,
        tables,
        config_offset,
        replay_id,
        shutdown: shutdown.clone(),
    };
    // Reading is blocking work from start to end.
    let dead_letter = args.dead_letter;
    let (tally, interrupted, job) = tokio::task::spawn_blocking(move || {
        let tally = if dead_letter {
            letters::redrive(&job)
        } else {
            history::replay(&job)
        }?;
        let interrupted = job.shutdown.requested();
        job.outbox.finish()?;
        anyhow::Ok((tally, interrupted, job))
    })
    .await??;
    summarise(&args, &tally, &job);
    shutdown.trigger();
    if interrupted {
        bail!("interrupted: what is counted above was replayed, the rest was not");
    }
    Ok(())
}

/// What both kinds of replay need.
struct Job {
    kafka: KafkaSettings,
    wish: Wish,
    tables: Arc<Tables>,
    config_offset: i64,
    replay_id: ReplayId,
    outbox: Outbox,
    shutdown: Shutdown,
}

impl Job {
    fn window(&self, topic: &str, to_ms: i64, what: &'static str) -> anyhow::Result<Window> {
        Window::open(
            &self.kafka,
            topic,
            self.wish.from_ms,
            to_ms,
            what,
            self.shutdown.clone(),
        )
    }

    /// Whether a destination still takes deliveries.
    fn lives(&self, destination: DestinationId) -> bool {
        self.tables.destinations.contains_key(&destination)
    }
}

async fn settings(
    kafka: &KafkaSettings,
    shutdown: &Shutdown,
) -> anyhow::Result<(Arc<Tables>, i64)> {
    let directory = Arc::new(Directory::default());
    let readiness = Readiness::default();
    let part = readiness.part("config");
    let position = config_view::follow(kafka, Arc::clone(&directory), part, shutdown.clone())?;
    let complete = async {
        while !readiness.is_ready() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(CONFIG_PATIENCE, complete)
        .await
        .with_context(|| format!("no settings from Kafka at {} within 20 s", kafka.brokers))?;
    Ok((directory.snapshot(), position.current()))
}

impl Wish {
    fn of(args: &ReplayArgs, tables: &Tables) -> anyhow::Result<Self> {
        if args.from >= args.to {
            bail!("--from {} is not before --to {}", args.from, args.to);
        }
        let source = args.source.as_deref().map(|wanted| {
            let named = tables
                .sources
                .iter()
                .find(|(_, source)| source.name == wanted);
            let id = wanted.parse().ok().or_else(|| named.map(|(id, _)| *id));
            id.with_context(|| {
                format!("there is no source {wanted:?}; `control-plane source list` names them")
            })
        });
        let destination = args.destination.as_deref().map(|wanted| {
            let known = tables.destinations.values();
            let mut found = known.filter(|d| d.config.name == wanted || d.id.to_string() == wanted);
            found.next().map(|destination| destination.id).with_context(|| {
                format!("there is no destination {wanted:?}; `control-plane destination list` names them")
            })
        });
        Ok(Self {
            from_ms: args.from.as_millisecond(),
            to_ms: args.to.as_millisecond(),
            source: source.transpose()?,
            category: args.category.clone(),
            destination: destination.transpose()?,
        })
    }
}

fn summarise(args: &ReplayArgs, tally: &Tally, job: &Job) {
    let verb = if args.dry_run {
        "would be sent"
    } else {
        "sent"
    };
    println!(
        "{} records read between {} and {}",
        tally.read(),
        args.from,
        args.to
    );
    for (outcome, count) in &tally.counts {
        let outcome = if *outcome == SENT { verb } else { outcome };
        println!("  {count:>10}  {outcome}");
    }
    if !args.dry_run && !args.dead_letter && tally.counts.contains_key(SENT) {
        println!("replay id {}", job.replay_id);
    }
}

/// The outcome of what goes on.
const SENT: &str = "sent";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_spans_before_now() {
        assert_eq!(
            moment("2026-01-01T00:00:00Z").unwrap().as_second(),
            1_767_225_600
        );
        let ago = Timestamp::now().as_second() - moment("2h").unwrap().as_second();
        assert!((7_199..=7_201).contains(&ago), "{ago}");
        for bad in ["", "yesterday", "5", "h", "-2h", "ü"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
