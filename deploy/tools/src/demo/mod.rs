//! `demo`: a few dozen webhooks of many senders, and a live table of what becomes of each.
//!
//! - `stage_set`: a source, two destinations and their routes, taken away again afterwards.
//! - `story`: what is known of each webhook so far. Pure.
//! - `watch`: reads results and attempts from their topics.
//! - `table`: draws the stories.
//!
//! It needs what `make up` has started and nothing else. One destination answers 503 to the first two
//! attempts of each delivery, so that retries can be watched.

mod stage_set;
mod story;
mod table;
mod watch;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use router_schemas::EventId;
use serde::Deserialize;

use self::{stage_set::StageSet, story::Story, table::Table, watch::Watch};
use crate::{
    control::ControlPlane,
    http,
    local_env::LocalEnv,
    receiver::{Receiver, ReceiverSettings},
    send::Webhook,
};

/// Written for this demo, in the shapes of what these senders send.
const WEBHOOKS: &str = include_str!("../../demo/webhooks.jsonl");
const REFUSALS: u32 = 2;
const FRAME: Duration = Duration::from_millis(150);

#[derive(Args, Debug)]
pub struct Arguments {
    /// Give up on what has not ended after this many seconds
    #[arg(long, default_value_t = 60)]
    patience_s: u64,
}

/// # Errors
/// The router is not up, or something did not end in time.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(play(&arguments))
}

#[derive(Deserialize)]
struct Sender<'a> {
    sender: std::borrow::Cow<'a, str>,
}

async fn play(arguments: &Arguments) -> anyhow::Result<()> {
    let local = LocalEnv::find()?;
    let edge = local.require("EDGE_URL")?;
    let env = local
        .for_children()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let control = ControlPlane::new(env.collect());
    let kafka = watch::kafka(&local)?;

    let steady = Receiver::start(ReceiverSettings::default()).await?;
    let refusing = Receiver::start(ReceiverSettings {
        fail_first: REFUSALS,
        ..ReceiverSettings::default()
    })
    .await?;
    eprintln!(
        "setting the stage: one source, two destinations, one of which refuses everything {REFUSALS} times"
    );
    let stage = StageSet::build(control, steady.addr(), refusing.addr())?;
    let ended = tokio::select! {
        ended = perform(arguments, &edge, &stage, kafka) => ended,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    stage.strike()?;
    ended
}

async fn perform(
    arguments: &Arguments,
    edge: &str,
    stage: &StageSet,
    kafka: router_runtime::kafka::KafkaSettings,
) -> anyhow::Result<()> {
    // From here on, so that nothing that is sent can be missed.
    let watch = tokio::task::spawn_blocking(move || Watch::open(&kafka)).await??;
    let mut news = watch.start();
    let client = http::client()?;
    let url = format!("{}/in/{}", edge.trim_end_matches('/'), stage.token);
    let mut stories: Vec<Story> = Vec::new();
    let mut by_event: HashMap<EventId, usize> = HashMap::new();
    for line in WEBHOOKS.lines() {
        let Sender { sender } = serde_json::from_str(line).context("the demo's own webhooks")?;
        let webhook = Webhook::parse(line).map_err(anyhow::Error::msg)?;
        let answer = client
            .post(&url)
            .headers(webhook.headers)
            .body(webhook.body)
            .send()
            .await;
        let answer = answer.with_context(|| {
            format!("the edge at {edge} does not answer; is it up? make status")
        })?;
        let status = answer.status();
        if status != 202 {
            bail!(
                "the edge answers {status}: {}",
                answer.text().await.unwrap_or_default()
            );
        }
        #[derive(Deserialize)]
        struct Accepted {
            id: EventId,
        }
        let Accepted { id } = serde_json::from_str(&answer.text().await?)?;
        by_event.insert(id, stories.len());
        stories.push(Story::new(&sender));
    }

    let mut table = Table::begin(stories.len());
    let began = Instant::now();
    let mut early: Vec<watch::News> = Vec::new();
    loop {
        early.extend(news.drain());
        for item in early.drain(..) {
            if let Some(place) = by_event.get(&item.event_id()) {
                stories[*place].hear(item, |id| stage.name(id));
            }
        }
        table.draw(&stories);
        if stories.iter().all(Story::ended) {
            break;
        }
        if began.elapsed().as_secs() > arguments.patience_s {
            table.end(&stories);
            let open = stories.iter().filter(|story| !story.ended()).count();
            bail!(
                "{open} webhooks had not ended after {} s; `make status` and .local/log say more",
                arguments.patience_s
            );
        }
        tokio::time::sleep(FRAME).await;
    }
    table.end(&stories);
    Ok(())
}
