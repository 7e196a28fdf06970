//! Records that nobody should have written, put straight into every topic: each is set aside and counted,
//! and the records around it are worked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::time::Duration;

use router_e2e::{Receiver, World, WorldSettings, eventually, produce, read_topic};

const SOON: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn poison_in_any_topic_stops_nothing() {
    let Some(world) = World::start(
        "poison",
        WorldSettings {
            partitions: 1,
            ..WorldSettings::default()
        },
    )
    .await
    else {
        return;
    };
    let receiver = Receiver::start().await;
    let destination = world.destination("app", &receiver.url(), &[]);
    world.route("all", &destination, &[]);
    world.send("{}").await;
    eventually("the first", SOON, async || {
        (receiver.count() == 1).then_some(())
    })
    .await;

    let names = world.kafka.names();
    let retry = names.retry("200ms".parse().unwrap());
    let topics = [
        &names.raw,
        &names.replay,
        &names.processed,
        &names.deliveries,
        &names.redeliveries,
        &retry,
        &names.attempts,
    ];
    for topic in topics {
        produce(&world.kafka, topic, b"k", b"\xff\x00 garbage", &[]);
        produce(
            &world.kafka,
            topic,
            b"",
            b"{\"id\":",
            &[("ce_id", b"\xff"), ("router-delivery", b"{}")],
        );
        produce(
            &world.kafka,
            topic,
            b"k",
            b"",
            &[("router-delivery", b"not json"), ("ce_id", b"no id")],
        );
    }
    // Readable in everything but its id, which is of another century.
    let meta: [(&str, &[u8]); 7] = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"00000000-0001-7000-8000-000000000001"),
        (
            "ce_source",
            b"/sources/00000000-0000-7000-8000-000000000001",
        ),
        ("ce_type", b"webhook.received"),
        ("ce_time", b"1970-01-01T00:00:00Z"),
        ("ce_project", b"00000000-0000-7000-8000-000000000001"),
        ("ce_senderheaders", b"[]"),
    ];
    produce(&world.kafka, &names.raw, b"k", b"{}", &meta);
    // Settings: no key, no JSON, a reader of the future, a tombstone of nothing.
    for (key, value) in [
        (&b""[..], &b"x"[..]),
        (b"key/not-an-id", b"{}"),
        (b"route/00000000-0000-7000-8000-000000000009", b"\xff"),
        (
            b"destination/00000000-0000-7000-8000-000000000009",
            b"{\"version\":1,\"reader\":99,\"value\":{}}",
        ),
    ] {
        produce(&world.kafka, &names.config, key, value, &[]);
    }

    // Behind the poison everything goes on, with the settings that were there before.
    world.send("{}").await;
    eventually("the second", SOON, async || {
        (receiver.count() == 2).then_some(())
    })
    .await;
    // Three of each topic that is worked, and the id of another century; `archive` sets its own aside too.
    let dead = eventually("dead letters", SOON, async || {
        let dead = read_topic(&world.kafka, &names.dead_letter);
        let of = |stage: &str| {
            dead.iter()
                .filter(|r| {
                    r.header("router-dead-letter")
                        .is_some_and(|h| h.contains(stage))
                })
                .count()
        };
        let counts = (
            of("\"process\""),
            of("\"reprocess\""),
            of("\"deliver\""),
            of("\"redeliver\""),
            of("\"retry.200ms\""),
        );
        (counts == (4, 3, 3, 3, 3)).then_some(dead)
    })
    .await;
    assert!(
        dead.iter()
            .all(|record| record.header("router-dead-letter").is_some())
    );
    let mut world = world;
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
    eventually("the account", SOON, async || {
        world.audit(&[]).0.then_some(())
    })
    .await;
}
