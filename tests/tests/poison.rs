//! Records that nobody should have written, put straight into every topic: each is set aside and counted,
//! and the records around it are worked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{collections::BTreeMap, time::Duration};

use router_e2e::{
    Behaviour, Receiver, Record, World, WorldSettings, eventually, produce, read_topic,
};
use router_runtime::now_ms;
use router_schemas::{DeliveryMeta, delivery::Parked};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
/// An event id of 1970.
const LONG_AGO: &str = "00000000-0001-7000-8000-000000000001";
const CENTURY_MS: i64 = 100 * 366 * 24 * 3_600_000;

/// Three that no stage can read.
fn poison(world: &World, topic: &str) {
    let kafka = &world.kafka;
    produce(kafka, topic, b"k", Some(b"\xff\x00 garbage"), &[]);
    let headers: [(&str, &[u8]); 2] = [("ce_id", b"\xff"), ("router-delivery", b"{}")];
    produce(kafka, topic, b"", Some(b"{\"id\":"), &headers);
    let headers: [(&str, &[u8]); 2] = [("router-delivery", b"not json"), ("ce_id", b"no id")];
    produce(kafka, topic, b"k", Some(b""), &headers);
}

/// A copy of a delivery that was made, with other times: readable, and none of ours.
fn forge(world: &World, topic: &str, genuine: &Record, change: impl FnOnce(&mut DeliveryMeta)) {
    let headers = genuine.headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str(), Some(value.as_slice())));
    let (mut meta, content_type) = DeliveryMeta::read(headers).unwrap();
    change(&mut meta);
    let mut written = Vec::new();
    meta.write(content_type.as_deref(), |name, value| {
        written.push((name, value.to_vec()));
    });
    let headers: Vec<(&str, &[u8])> = written
        .iter()
        .map(|(name, value)| (*name, value.as_slice()))
        .collect();
    let (key, payload) = (&genuine.key, &genuine.payload);
    produce(&world.kafka, topic, key, Some(payload), &headers);
}

/// How many dead letters there are of each stage; those that tell of none stand under the empty name.
fn dead_letters(world: &World) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in read_topic(&world.kafka, &world.kafka.names().dead_letter) {
        let info = record.header("router-dead-letter").unwrap_or_default();
        let info: Value = serde_json::from_str(&info).unwrap_or_default();
        let stage = info["stage"].as_str().unwrap_or_default().to_owned();
        *counts.entry(stage).or_default() += 1;
    }
    counts
}

async fn come_to_be(world: &World, wanted: &[(&str, usize)]) {
    let wanted: BTreeMap<String, usize> = wanted
        .iter()
        .map(|(stage, count)| ((*stage).to_owned(), *count))
        .collect();
    eventually("the dead letters of each stage", SOON, async || {
        let found = dead_letters(world);
        if found != wanted {
            eprintln!("{found:?}");
            return None;
        }
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_in_any_topic_stops_nothing() {
    let settings = WorldSettings {
        partitions: 1,
        ..WorldSettings::default()
    };
    let Some(mut world) = World::start("poison", settings).await else {
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
    let rungs = ["200ms", "1s", "5s"].map(|rung| names.retry(rung.parse().unwrap()));
    for topic in [
        &names.raw,
        &names.replay,
        &names.processed,
        &names.deliveries,
        &names.redeliveries,
        &names.attempts,
        &names.dead_letter,
        &names.events,
    ]
    .into_iter()
    .chain(&rungs)
    {
        poison(&world, topic);
    }
    // Readable in everything but its id.
    let meta: [(&str, &[u8]); 7] = [
        ("ce_specversion", b"1.0"),
        ("ce_id", LONG_AGO.as_bytes()),
        (
            "ce_source",
            b"/sources/00000000-0000-7000-8000-000000000001",
        ),
        ("ce_type", b"webhook.received"),
        ("ce_time", b"1970-01-01T00:00:00Z"),
        ("ce_project", b"00000000-0000-7000-8000-000000000001"),
        ("ce_senderheaders", b"[]"),
    ];
    produce(&world.kafka, &names.raw, b"k", Some(b"{}"), &meta);
    // The same of deliveries, and one that would be parked for a century.
    let genuine = read_topic(&world.kafka, &names.deliveries).remove(0);
    for topic in [&names.deliveries, &names.redeliveries]
        .into_iter()
        .chain(&rungs)
    {
        let parked = |due_ms| {
            let rungs = Vec::new();
            Some(Parked { due_ms, rungs })
        };
        forge(&world, topic, &genuine, |meta| {
            meta.event_id = LONG_AGO.parse().unwrap();
            meta.parked = parked(now_ms());
        });
        forge(&world, topic, &genuine, |meta| {
            meta.parked = parked(now_ms() + CENTURY_MS);
        });
    }
    // Dead letters whose own header, or whose headers beside it, cannot be read.
    let info = br#"{"reason":"panic","detail":"","stage":"process","from":{"topic":"t","partition":0,"offset":0},"at_ms":1,"times":1}"#;
    let letters: [[(&str, &[u8]); 2]; 2] = [
        [("router-dead-letter", b"not json"), ("ce_id", b"x")],
        [("router-dead-letter", info), ("ce_id", b"x")],
    ];
    for headers in letters {
        produce(
            &world.kafka,
            &names.dead_letter,
            b"k",
            Some(b"{}"),
            &headers,
        );
    }
    // Settings: no key, no JSON, a reader of the future, a tombstone of nothing.
    let settings: [(&[u8], Option<&[u8]>); 5] = [
        (b"", Some(b"x")),
        (b"key/not-an-id", Some(b"{}")),
        (b"route/00000000-0000-7000-8000-000000000009", Some(b"\xff")),
        (
            b"destination/00000000-0000-7000-8000-000000000009",
            Some(b"{\"version\":1,\"reader\":99,\"value\":{}}"),
        ),
        (b"source/00000000-0000-7000-8000-000000000009", None),
    ];
    for (key, value) in settings {
        produce(&world.kafka, &names.config, key, value, &[]);
    }

    // Behind the poison everything goes on, with the settings that were there before and with new ones. The control
    // plane hears that the second destination is gone.
    let gone = Receiver::with(Behaviour::Status(410)).await;
    let second = world.destination("gone", &gone.url(), &[]);
    world.route("gone", &second, &[]);
    world.send("{}").await;
    eventually("the second", SOON, async || {
        (receiver.count() == 2).then_some(())
    })
    .await;
    eventually("the control plane disables it", SOON, async || {
        let list = world.control_json(&["destination", "list"]);
        list.to_string().contains("\"disabled\":true").then_some(())
    })
    .await;
    // Three of each stage, of `archive` three of each topic that it alone works. Beyond these: the raw record of 1970
    // and a stranger's letter; two forged deliveries; the one that is gone.
    let dead = [
        ("", 4),
        ("process", 3 + 1 + 1),
        ("reprocess", 3),
        ("deliver", 3 + 2 + 1),
        ("redeliver", 3 + 2),
        ("retry.200ms", 3 + 2),
        ("retry.1s", 3 + 2),
        ("retry.5s", 3 + 2),
        ("archive", 3 + 3),
        ("control-events", 3),
    ];
    come_to_be(&world, &dead).await;
    world.all_run();
    world.balances(SOON).await;

    // A redrive passes over what it cannot read. What can be read it sends, as it was told: the raw record of 1970,
    // all forged deliveries, and the one that is gone.
    let redrive = ["replay", "--from", "1h", "--dead-letter"];
    let (status, said, errors) = world.run("stream-workers", &redrive);
    assert_eq!(status, 0, "{said}{errors}");
    for told in [
        "11  not readable, passed over",
        "24  of a stage that takes nothing again",
        "12  sent",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    // Those of 1970 come to rest again, and so does the one that is gone. The other forged ones are copies of a
    // delivery that is allowed: under its own id it is made again for each.
    let again = dead.map(|(stage, count)| match stage {
        "reprocess" => (stage, count + 1),
        "redeliver" => (stage, count + 5 + 1),
        _ => (stage, count),
    });
    come_to_be(&world, &again).await;
    eventually("the copies", SOON, async || {
        (receiver.count() == 2 + 5).then_some(())
    })
    .await;
    world.all_run();
    world.balances(SOON).await;
}
