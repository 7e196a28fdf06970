//! What takes minutes: workers that come and go without end. Run by `make soak`.

use std::{collections::HashSet, time::Duration};

use router_e2e::{Receiver, SteadySender, World, WorldSettings, eventually};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; run by `make soak`"]
async fn a_storm_of_rebalances_loses_nothing() {
    let Some(mut world) = World::start("storm", WorldSettings::default()).await else {
        return;
    };
    let receiver = Receiver::start().await;
    let destination = world.destination("app", &receiver.url(), &["--concurrency", "64"]);
    world.route("all", &destination, &[]);
    world.send("{}").await;
    let sender = SteadySender::start(&world, 300);
    // Second workers of both hot roles join; then they leave, by turns as operators and as crashes do.
    let rounds = 12;
    for round in 0..rounds {
        for name in ["process-2", "deliver-2", "archive-2"] {
            world.add(name);
            world.service(name).ready().await;
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
        for name in ["process-2", "deliver-2", "archive-2"] {
            if round % 2 == 0 {
                world.service(name).stop();
            } else {
                world.service(name).kill();
            }
            world.remove(name);
        }
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    let sent = sender.stop().await;
    let promised: HashSet<&str> = sent.accepted.iter().map(String::as_str).collect();
    eventually(
        "every promised webhook is delivered",
        Duration::from_secs(120),
        async || {
            let arrived = receiver.event_ids();
            promised
                .iter()
                .all(|id| arrived.contains_key(*id))
                .then_some(())
        },
    )
    .await;
    let repeated = receiver
        .event_ids()
        .values()
        .filter(|ids| ids.len() > 1)
        .count();
    println!(
        "{rounds} rounds: accepted {}, refused {:?}, repeated {repeated}, longest gap {:?}",
        sent.accepted.len(),
        sent.refused,
        receiver.longest_gap()
    );
    eventually(
        "the accounts balance",
        Duration::from_secs(120),
        async || world.audit(&["--database"]).0.then_some(()),
    )
    .await;
}
