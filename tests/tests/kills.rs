//! Bad days: every process killed under load, one after another, then Kafka, then PostgreSQL. Afterwards
//! everything that was promised has been delivered, and both ledgers of account balance.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::time::{Duration, Instant};

use router_e2e::{OwnKafka, OwnPostgres, WorldSettings, all_arrive, eventually, under_load};

/// Webhooks a second.
const RATE: u32 = 500;
const PATIENCE: Duration = Duration::from_secs(90);
/// Offsets are committed five times a second: what a kill makes come again is no older than a busy machine needs
/// for that.
const UNCOMMITTED: Duration = Duration::from_secs(3);

/// Each of these wants the machine for itself.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// From when somebody was away until when all was well again.
type Outage = (Instant, Instant);

/// What came more than once was in flight or uncommitted at an outage.
fn all_stem_from(outages: &[Outage], repeated: &[Instant]) {
    for first in repeated {
        let explained = outages.iter().any(|(from, until)| {
            *first + UNCOMMITTED >= *from && *first <= *until + Duration::from_secs(1)
        });
        let after = outages
            .iter()
            .map(|(from, _)| first.saturating_duration_since(*from));
        assert!(
            explained,
            "a webhook came twice that was delivered first this long after each outage began: {:?}",
            after.collect::<Vec<_>>()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_any_process_loses_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Some((mut world, receiver, sender)) =
        under_load("kills", WorldSettings::default(), RATE).await
    else {
        return;
    };
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut outages: Vec<Outage> = Vec::new();
    for name in [
        "process",
        "deliver",
        "retry",
        "archive",
        "control-plane",
        "edge",
    ] {
        let from = Instant::now();
        world.service(name).kill();
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.service(name).restart();
        world.service(name).ready().await;
        // The others are on nobody's way to a destination twice: their deaths make nothing come again.
        if ["process", "deliver", "retry"].contains(&name) {
            outages.push((from, Instant::now()));
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    let sent = sender.stop().await;
    assert!(
        sent.accepted.len() > 5_000,
        "{} accepted, refused {:?}",
        sent.accepted.len(),
        sent.refused
    );
    all_arrive(&receiver, &sent, PATIENCE).await;
    world.balances(PATIENCE).await;
    let repeated = receiver.repeated();
    println!(
        "accepted {}, refused {:?}, repeated {}",
        sent.accepted.len(),
        sent.refused,
        repeated.len()
    );
    // In flight or uncommitted at a kill: at the most what two commit intervals and the drains hold.
    assert!(
        repeated.len() < 2_000,
        "{} webhooks came twice",
        repeated.len()
    );
    all_stem_from(&outages, &repeated);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_any_process_repeats_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Some((mut world, receiver, sender)) =
        under_load("stops", WorldSettings::default(), RATE).await
    else {
        return;
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    for name in ["process", "deliver", "retry", "archive", "edge"] {
        assert_eq!(
            world.service(name).stop(),
            Some(0),
            "{}",
            world.service(name).log()
        );
        world.service(name).restart();
        world.service(name).ready().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let sent = sender.stop().await;
    all_arrive(&receiver, &sent, PATIENCE).await;
    world.balances(PATIENCE).await;
    assert_eq!(
        receiver.repeated().len(),
        0,
        "a planned stop made webhooks come twice"
    );
    // What the stopping edge had taken in it answered; others found no one listening.
    let others: Vec<&u16> = sent
        .refused
        .keys()
        .filter(|status| ![0, 503].contains(*status))
        .collect();
    assert!(others.is_empty(), "{:?}", sent.refused);
    println!(
        "accepted {}, refused {:?}",
        sent.accepted.len(),
        sent.refused
    );
}

/// After a crash a webhook waits at most so long, with both protocols: the session of the dead member ends after
/// 6 s (`KAFKA_SESSION_TIMEOUT_MS`; the broker's `group.consumer.session.timeout.ms` in server.properties.in), the
/// next heartbeat that tells the others is up to 2 s away, and what piled up meanwhile is worked off.
const TAKEN_OVER: Duration = Duration::from_secs(12);
/// A partition that moves as planned stands still for a heartbeat or two at each of two stages.
const MOVED: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_takes_over_what_a_killed_one_held() {
    let _alone = ONE_AT_A_TIME.lock().await;
    for protocol in ["classic", "consumer"] {
        let settings = WorldSettings {
            group_protocol: protocol,
            ..WorldSettings::default()
        };
        let Some((mut world, receiver, sender)) =
            under_load(&format!("takeover-{protocol}"), settings, RATE).await
        else {
            return;
        };
        tokio::time::sleep(Duration::from_secs(1)).await;

        // A planned move repeats nothing, and nothing stands still for long.
        let joined = Instant::now();
        for name in ["process-2", "deliver-2"] {
            world.add(name);
            world.service(name).ready().await;
        }
        tokio::time::sleep(Duration::from_secs(8)).await;
        let moved = receiver.repeated().len();
        let moving = receiver.longest_wait(joined);
        assert_eq!(
            moved, 0,
            "{protocol}: webhooks came twice through a planned move"
        );
        assert!(
            moving < MOVED,
            "{protocol}: a webhook waited {moving:?} for a planned move"
        );

        // Killed for good. What the others hold goes on, so that only the waiting of single webhooks tells how
        // long the partitions of the dead stood still.
        let killed = Instant::now();
        world.service("process").kill();
        world.service("deliver").kill();
        tokio::time::sleep(TAKEN_OVER + Duration::from_secs(2)).await;
        let sent = sender.stop().await;
        all_arrive(&receiver, &sent, PATIENCE).await;
        world.remove("process");
        world.remove("deliver");
        world.balances(PATIENCE).await;
        let waited = receiver.longest_wait(killed);
        let repeated = receiver.repeated();
        println!(
            "{protocol}: accepted {}, repeated {}, longest wait while moving {moving:?}, after the kill {waited:?}",
            sent.accepted.len(),
            repeated.len()
        );
        assert!(
            waited < TAKEN_OVER,
            "{protocol}: a webhook waited {waited:?} for another worker"
        );
        all_stem_from(&[(killed, killed + TAKEN_OVER)], &repeated);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_kafka_and_stopping_postgresql_loses_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    if std::env::var("ROUTER_TEST_STACK").is_err() {
        eprintln!(
            "SKIPPED killing_kafka_and_stopping_postgresql_loses_nothing: ROUTER_TEST_STACK is not set"
        );
        return;
    }
    let (Some(mut kafka), Some(postgres)) = (OwnKafka::start("kills"), OwnPostgres::start("kills"))
    else {
        return;
    };
    let settings = WorldSettings {
        brokers: Some(kafka.brokers()),
        database_url: Some(postgres.url()),
        ..WorldSettings::default()
    };
    let Some((mut world, receiver, sender)) = under_load("outage", settings, RATE).await else {
        return;
    };
    tokio::time::sleep(Duration::from_secs(2)).await;

    // Without PostgreSQL the data plane does not notice.
    postgres.stop();
    let (accepted, arrived) = (sender.accepted(), receiver.count());
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(
        sender.accepted() - accepted > 2_000,
        "webhooks were refused while PostgreSQL was down"
    );
    assert!(
        receiver.count() - arrived > 2_000,
        "deliveries stood still while PostgreSQL was down"
    );
    postgres.restart();

    // Without Kafka the edge refuses what it cannot keep, and promises nothing.
    let from = Instant::now();
    kafka.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    kafka.restart();
    eventually("webhooks are accepted again", PATIENCE, async || {
        let accepted = sender.accepted();
        tokio::time::sleep(Duration::from_secs(1)).await;
        (sender.accepted() - accepted > 200).then_some(())
    })
    .await;
    // Members whose sessions ended meanwhile join anew, and work again what they could not commit until then.
    let until = Instant::now() + Duration::from_secs(10);
    let sent = sender.stop().await;
    all_arrive(&receiver, &sent, PATIENCE).await;
    world.all_run();
    world.balances(PATIENCE).await;
    let repeated = receiver.repeated();
    println!(
        "accepted {}, refused {:?}, repeated {}",
        sent.accepted.len(),
        sent.refused,
        repeated.len()
    );
    // The outage of PostgreSQL makes nothing come again, and neither does what was before it.
    all_stem_from(&[(from, until)], &repeated);
}
