//! What takes minutes: workers that come and go without end, outages of minutes. Run by `make soak`.

use std::{collections::BTreeMap, time::Duration};

use router_e2e::{OwnKafka, OwnPostgres, WorldSettings, all_arrive, eventually, under_load};

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; run by `make soak`"]
async fn a_storm_of_rebalances_loses_nothing() {
    let Some((mut world, receiver, sender)) =
        under_load("storm", WorldSettings::default(), 300).await
    else {
        return;
    };
    // Second workers of every role join; then they leave, by turns as operators and as crashes do.
    let seconds = ["process-2", "deliver-2", "retry-2", "archive-2"];
    let rounds = 12;
    for round in 0..rounds {
        for name in seconds {
            world.add(name);
            world.service(name).ready().await;
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
        for name in seconds {
            if round % 2 == 0 {
                world.service(name).stop();
            } else {
                world.service(name).kill();
            }
            world.remove(name);
        }
        // They are static members: their partitions move on when their sessions have ended.
        tokio::time::sleep(Duration::from_secs(8)).await;
    }
    let sent = sender.stop().await;
    all_arrive(&receiver, &sent, PATIENCE).await;
    world.balances(PATIENCE).await;
    println!(
        "{rounds} rounds: accepted {}, refused {:?}, repeated {}, longest gap {:?}",
        sent.accepted.len(),
        sent.refused,
        receiver.repeated().len(),
        receiver.longest_gap()
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; run by `make soak`"]
async fn outages_of_minutes_lose_nothing_and_leave_no_memory_behind() {
    let (Some(mut kafka), Some(postgres)) = (OwnKafka::start("soak"), OwnPostgres::start("soak"))
    else {
        return;
    };
    let settings = WorldSettings {
        brokers: Some(kafka.brokers()),
        database_url: Some(postgres.url()),
        ..WorldSettings::default()
    };
    let Some((mut world, receiver, sender)) = under_load("long-outage", settings, 200).await else {
        return;
    };
    tokio::time::sleep(Duration::from_secs(30)).await;
    let before = world.memory();

    kafka.kill();
    tokio::time::sleep(Duration::from_secs(120)).await;
    kafka.restart();
    eventually("webhooks are accepted again", PATIENCE, async || {
        let accepted = sender.accepted();
        tokio::time::sleep(Duration::from_secs(1)).await;
        (sender.accepted() - accepted > 100).then_some(())
    })
    .await;

    postgres.stop();
    let (accepted, arrived) = (sender.accepted(), receiver.count());
    tokio::time::sleep(Duration::from_secs(180)).await;
    assert!(
        sender.accepted() - accepted > 30_000 && receiver.count() - arrived > 30_000,
        "the data plane stood still while PostgreSQL was down"
    );
    postgres.restart();

    let sent = sender.stop().await;
    all_arrive(&receiver, &sent, PATIENCE).await;
    world.all_run();
    world.balances(PATIENCE).await;
    let after = world.memory();
    println!(
        "accepted {}, refused {:?}, repeated {}; MiB before and after: {}",
        sent.accepted.len(),
        sent.refused,
        receiver.repeated().len(),
        mebibytes(&before, &after)
    );
    for (name, bytes) in &after {
        assert!(
            *bytes < 2 * before[name] + (64 << 20),
            "{name} has grown: {}",
            mebibytes(&before, &after)
        );
    }
}

fn mebibytes(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> String {
    let each = after
        .iter()
        .map(|(name, bytes)| format!("{name} {} {}", before[name] >> 20, bytes >> 20));
    each.collect::<Vec<_>>().join(", ")
}
