//! A replay beside live traffic: it goes through topics of its own, and what is live does not wait for it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use router_e2e::{Behaviour, Receiver, SteadySender, World, WorldSettings, all_arrive, eventually};

const HISTORY: usize = 3_000;
const PATIENCE: Duration = Duration::from_secs(90);
/// Of a failed delivery, until it is due again.
const DELAY: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn live_webhooks_and_retries_do_not_wait_for_a_replay() {
    let Some(world) = World::start("replay-live", WorldSettings::default()).await else {
        return;
    };
    let receiver = Receiver::start().await;
    let flaky = Receiver::with(Behaviour::FirstFails).await;
    let app = world.destination("app", &receiver.url(), &["--concurrency", "64"]);
    let policy = ["--base-ms", "1000", "--factor", "1", "--jitter", "0"];
    let failing = world.destination("flaky", &flaky.url(), &policy);
    world.control(&["source", "create", "--name", "other"]);
    let other = world.control_json(&["key", "create", "--name", "other", "--source", "other"]);
    world.route("all", &app, &["--source", &world.source_id]);
    let source = other["source_id"].as_str().unwrap();
    world.route("flaky", &failing, &["--source", source]);
    world.send("{}").await;

    let sender = SteadySender::start(&world, 600);
    eventually("a history", PATIENCE, async || {
        (sender.accepted() >= HISTORY).then_some(())
    })
    .await;
    let history = sender.stop().await;
    all_arrive(&receiver, &history, PATIENCE).await;

    let live = SteadySender::start(&world, 100);
    let retried = SteadySender::with_key(&world, 10, other["key"].as_str().unwrap());
    // Some of what fails is due by the time the replay has begun.
    tokio::time::sleep(DELAY).await;
    let began = Instant::now();
    let mut replay = world.command("stream-workers", &["replay", "--from", "1h"]);
    let replay = std::thread::spawn(move || replay.output());
    let ended = eventually("the replay", PATIENCE, async || {
        if receiver.count() < 2 * history.accepted.len() {
            return None;
        }
        end_of_replay(&receiver, &history.accepted)
    })
    .await;
    let (live, retried) = (live.stop().await, retried.stop().await);
    let output = replay.join().unwrap().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let p99 = slowest_of_hundred(&receiver, &live.accepted).await;
    let late = lateness(&flaky, began, ended);
    println!(
        "replay of {} took {:?}; {} live webhooks, p99 {p99:?}; {} retries fell due, the latest by {:?}",
        history.accepted.len(),
        ended - began,
        live.accepted.len(),
        late.len(),
        late.iter().max()
    );
    for sent in [&live, &retried] {
        assert!(sent.refused.is_empty(), "{:?}", sent.refused);
    }
    assert!(
        p99 < Duration::from_secs(1),
        "live webhooks waited: p99 {p99:?}"
    );
    assert!(!late.is_empty(), "no retry fell due during the replay");
    assert!(
        late.iter().all(|late| *late < Duration::from_secs(2)),
        "retries waited for the replay: {late:?}"
    );
    world.balances(PATIENCE).await;
}

/// When the last event of the history came a second time, once all have: under another id than the first.
fn end_of_replay(receiver: &Receiver, history: &[String]) -> Option<Instant> {
    let arrivals = receiver.arrivals();
    let mut last: Option<Instant> = None;
    for event in history {
        let all = &arrivals[event];
        let replayed = all.iter().find(|one| one.delivery != all[0].delivery)?;
        last = last.max(Some(replayed.at));
    }
    last
}

/// The 99th percentile of the time from the edge to the first arrival.
async fn slowest_of_hundred(receiver: &Receiver, sent: &[String]) -> Duration {
    let mut waited = eventually("the live webhooks", PATIENCE, async || {
        let arrivals = receiver.arrivals();
        let waited = sent.iter().map(|id| Some(arrivals.get(id)?[0].waited));
        waited.collect::<Option<Vec<Duration>>>()
    })
    .await;
    waited.sort_unstable();
    waited[waited.len() * 99 / 100]
}

/// How late each retry was, of those that fell due between two times.
fn lateness(flaky: &Receiver, from: Instant, until: Instant) -> Vec<Duration> {
    let mut first: HashMap<String, Instant> = HashMap::new();
    let mut retried = HashSet::new();
    let mut late = Vec::new();
    for received in flaky.received() {
        let id = received.id();
        let Some(failed) = first.get(&id).copied() else {
            first.insert(id, received.at);
            continue;
        };
        let due = failed + DELAY;
        if retried.insert(id) && (from..until).contains(&due) {
            late.push(received.at.saturating_duration_since(due));
        }
    }
    late
}
