//! Bad days: every process killed under load, one after another, then Kafka, then PostgreSQL. Afterwards
//! everything that was promised has been delivered, and both ledgers of account balance.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{collections::HashSet, time::Duration};

use router_e2e::{
    OwnKafka, OwnPostgres, Receiver, Sent, SteadySender, World, WorldSettings, eventually,
};

/// Webhooks a second.
const RATE: u32 = 500;
const PATIENCE: Duration = Duration::from_secs(90);

/// Each of these wants the machine for itself.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Waits until every promised event has arrived; how many arrived more than once.
async fn all_arrive(receiver: &Receiver, sent: &Sent) -> usize {
    let promised: HashSet<&str> = sent.accepted.iter().map(String::as_str).collect();
    eventually(
        "every promised webhook is delivered",
        PATIENCE,
        async || {
            let arrived = receiver.event_ids();
            let missing = promised
                .iter()
                .filter(|id| !arrived.contains_key(**id))
                .count();
            (missing == 0).then_some(())
        },
    )
    .await;
    let mut more_than_once = 0;
    for (event, deliveries) in receiver.event_ids() {
        let distinct: HashSet<&String> = deliveries.iter().collect();
        assert_eq!(
            distinct.len(),
            1,
            "event {event} came under several delivery ids"
        );
        more_than_once += usize::from(deliveries.len() > 1);
    }
    more_than_once
}

async fn balanced(world: &World) {
    eventually("the accounts balance", PATIENCE, async || {
        let (balanced, account) = world.audit(&["--database"]);
        eprintln!("{account}");
        balanced.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_any_process_loses_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Some(mut world) = World::start("kills", WorldSettings::default()).await else {
        return;
    };
    let receiver = Receiver::start().await;
    let destination = world.destination("app", &receiver.url(), &["--concurrency", "64"]);
    world.route("all", &destination, &[]);
    world.send("{}").await;
    let sender = SteadySender::start(&world, RATE);
    tokio::time::sleep(Duration::from_secs(2)).await;
    for name in [
        "process",
        "deliver",
        "retry",
        "archive",
        "control-plane",
        "edge",
    ] {
        world.service(name).kill();
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.service(name).restart();
        world.service(name).ready().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let sent = sender.stop().await;
    assert!(
        sent.accepted.len() > 5_000,
        "{} accepted, refused {:?}",
        sent.accepted.len(),
        sent.refused
    );
    let repeated = all_arrive(&receiver, &sent).await;
    // In flight or uncommitted at a kill: at the most what two commit intervals and the drains hold.
    assert!(repeated < 2_000, "{repeated} webhooks came twice");
    println!(
        "accepted {}, refused {:?}, repeated {repeated}",
        sent.accepted.len(),
        sent.refused
    );
    balanced(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_any_process_repeats_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Some(mut world) = World::start("stops", WorldSettings::default()).await else {
        return;
    };
    let receiver = Receiver::start().await;
    let destination = world.destination("app", &receiver.url(), &["--concurrency", "64"]);
    world.route("all", &destination, &[]);
    world.send("{}").await;
    let sender = SteadySender::start(&world, RATE);
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
    let repeated = all_arrive(&receiver, &sent).await;
    assert_eq!(repeated, 0, "a planned stop made webhooks come twice");
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
    balanced(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_takes_over_what_a_killed_one_held() {
    let _alone = ONE_AT_A_TIME.lock().await;
    for protocol in ["classic", "consumer"] {
        let settings = WorldSettings {
            group_protocol: protocol,
            ..WorldSettings::default()
        };
        let Some(mut world) = World::start(&format!("takeover-{protocol}"), settings).await else {
            return;
        };
        let receiver = Receiver::start().await;
        let destination = world.destination("app", &receiver.url(), &["--concurrency", "64"]);
        world.route("all", &destination, &[]);
        world.send("{}").await;
        let sender = SteadySender::start(&world, RATE);
        tokio::time::sleep(Duration::from_secs(1)).await;

        // A planned move repeats nothing that had finished, and nothing stands still for long.
        for name in ["process-2", "deliver-2"] {
            world.add(name);
            world.service(name).ready().await;
        }
        tokio::time::sleep(Duration::from_secs(8)).await;
        let moved = receiver
            .event_ids()
            .values()
            .filter(|ids| ids.len() > 1)
            .count();
        let stall = receiver.longest_gap();
        assert!(
            moved < 50,
            "{protocol}: {moved} webhooks came twice through a planned move"
        );
        assert!(
            stall < Duration::from_secs(10),
            "{protocol}: nothing arrived for {stall:?}"
        );

        // Killed for good: the other takes over within about ten seconds.
        world.service("process").kill();
        world.service("deliver").kill();
        tokio::time::sleep(Duration::from_secs(14)).await;
        let sent = sender.stop().await;
        let repeated = all_arrive(&receiver, &sent).await;
        println!(
            "{protocol}: accepted {}, moved {moved}, repeated {repeated}, longest gap {:?}",
            sent.accepted.len(),
            receiver.longest_gap()
        );
        world.remove("process");
        world.remove("deliver");
        balanced(&world).await;
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
    let mut kafka = OwnKafka::start("kills");
    let postgres = OwnPostgres::start("kills");
    let settings = WorldSettings {
        brokers: Some(kafka.brokers()),
        database_url: Some(postgres.url()),
        ..WorldSettings::default()
    };
    let Some(mut world) = World::start("outage", settings).await else {
        return;
    };
    let receiver = Receiver::start().await;
    let destination = world.destination("app", &receiver.url(), &["--concurrency", "64"]);
    world.route("all", &destination, &[]);
    world.send("{}").await;
    let sender = SteadySender::start(&world, RATE);
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
    kafka.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    kafka.restart();
    eventually("webhooks are accepted again", PATIENCE, async || {
        let accepted = sender.accepted();
        tokio::time::sleep(Duration::from_secs(1)).await;
        (sender.accepted() - accepted > 200).then_some(())
    })
    .await;
    let sent = sender.stop().await;
    let repeated = all_arrive(&receiver, &sent).await;
    println!(
        "accepted {}, refused {:?}, repeated {repeated}",
        sent.accepted.len(),
        sent.refused
    );
    for name in [
        "edge",
        "control-plane",
        "process",
        "deliver",
        "retry",
        "archive",
    ] {
        assert!(
            world.service(name).runs(),
            "{name} ended: {}",
            world.service(name).log()
        );
    }
    balanced(&world).await;
}
