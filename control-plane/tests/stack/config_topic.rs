//! `topics create` and `config republish`: topics as planned, and a config topic that holds what the
//! tables say whatever was done to it.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use serde_json::{Value, json};

use crate::support::{World, tamper, until};

fn republished(world: &World) -> BTreeMap<String, String> {
    let differences = world.json(&["config", "republish"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = differences.as_array().unwrap().iter();
    rows.map(|row| (text(&row["key"]), text(&row["what"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn republish_mends_what_was_altered_and_then_finds_nothing() {
    let Some(world) = World::installed().await else {
        return;
    };
    let mut keys = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        let made = world.json(&["source", "create", "--name", name]);
        keys.push(format!("source/{}", made["id"].as_str().unwrap()));
    }
    world.ok(&["source", "disable", "d"]);
    let before: Vec<_> = keys.iter().map(|key| world.record(key).unwrap()).collect();
    assert!(republished(&world).is_empty(), "nothing is wrong yet");

    tamper(&world, &keys[0], None);
    tamper(&world, &keys[1], Some("garbage"));
    tamper(
        &world,
        &keys[2],
        Some(r#"{"version":40,"reader":1,"value":{}}"#),
    );
    tamper(
        &world,
        &keys[3],
        Some(r#"{"version":1,"reader":1,"value":{}}"#),
    );
    let last = i64::MAX;
    tamper(
        &world,
        &keys[4],
        Some(&format!(r#"{{"version":{last},"reader":1,"value":{{}}}}"#)),
    );
    tamper(
        &world,
        "source/nobody",
        Some(r#"{"version":1,"reader":1,"value":{}}"#),
    );
    tamper(
        &world,
        "filter/later",
        Some(r#"{"version":1,"reader":99,"value":{}}"#),
    );
    let told = republished(&world);
    let wanted = [
        (keys[0].as_str(), "missing"),
        (&keys[1], "unreadable"),
        (&keys[2], "newer"),
        (&keys[3], "older"),
        (&keys[4], "newer"),
        ("source/nobody", "stray"),
        ("filter/later", "from_the_future"),
    ];
    let wanted = wanted.map(|(key, what)| (key.to_owned(), what.to_owned()));
    assert_eq!(told, BTreeMap::from(wanted));

    for (key, before) in keys.iter().zip(&before) {
        let record = world.record(key).unwrap();
        assert_eq!(record["value"], before["value"], "{key}");
    }
    assert_eq!(
        world.record(&keys[2]).unwrap()["version"],
        41,
        "above what readers have seen"
    );
    assert_eq!(world.record("source/nobody"), None);
    let left = BTreeMap::from([("filter/later".to_owned(), "from_the_future".to_owned())]);
    assert_eq!(
        republished(&world),
        left,
        "the second run finds nothing to mend"
    );
    // Rows that were mended can still be changed.
    for name in ["c", "e"] {
        world.ok(&["source", "disable", name]);
    }
    assert_eq!(world.record(&keys[4]).unwrap()["value"]["disabled"], true);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_config_topic_is_filled_again() {
    let Some(world) = World::installed().await else {
        return;
    };
    let made = world.json(&["source", "create", "--name", "a"]);
    let key = format!("source/{}", made["id"].as_str().unwrap());
    let admin = world.admin();
    let topics = [world.names.config.as_str()];
    admin
        .delete_topics(&topics, &AdminOptions::new())
        .await
        .unwrap();
    until("the topic is gone", async || {
        world.run(&["config", "republish"]).code == 1
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.ok(&["topics", "create", "--partitions", "2"]);
    assert_eq!(world.record(&key).unwrap()["value"]["name"], "a");
    assert!(
        world.record("marker/installation").is_some(),
        "readers wait for the marker"
    );
    world.end().await;
}

fn done(reports: &Value, topic: &str) -> Value {
    let found = reports.as_array().unwrap().iter();
    let mut found = found.filter(|report| report["name"] == topic);
    found.next().unwrap()["done"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_once_and_kept_as_planned() {
    let Some(world) = World::begin().await else {
        return;
    };
    world.ok(&["migrate"]);
    for arguments in [
        &["--raw-retention-days", "8"][..],
        &["--dead-letter-retention-days", "6"],
        &["--retry-slack-days", "0"],
        &["--retry-ladder", "5s,1s"],
        &["--partitions", "0"],
        &["--replication-factor", "9"],
    ] {
        let ran = world.run(&[&["topics", "create"], arguments].concat());
        assert_ne!(ran.code, 0, "{arguments:?}");
        assert!(!ran.errors.is_empty());
    }
    let refused = world.run(&["topics", "create", "--raw-retention-days", "8"]);
    assert!(
        refused.errors.contains("as long as raw"),
        "{}",
        refused.errors
    );

    let made = world.json(&["topics", "create", "--partitions", "2"]);
    assert_eq!(done(&made, &world.names.raw), json!(["created"]));
    assert!(
        world.record("marker/installation").is_some(),
        "filled at once"
    );
    let again = world.json(&["topics", "create", "--partitions", "2"]);
    let quiet = again
        .as_array()
        .unwrap()
        .iter()
        .all(|report| report["done"] == json!([]));
    assert!(quiet, "{again}");

    // An operator's own setting stays; ours are mended.
    let altered = AlterConfig::new(ResourceSpecifier::Topic(&world.names.raw))
        .set("retention.ms", "60000")
        .set("flush.messages", "7");
    let results = world
        .admin()
        .alter_configs(&[altered], &AdminOptions::new())
        .await
        .unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let mended = world.json(&["topics", "create", "--partitions", "2"]);
    let settings = done(&mended, &world.names.raw)[0]["configured"]["settings"].to_string();
    assert!(settings.contains("retention.ms=604800000"), "{settings}");
    let described = world
        .admin()
        .describe_configs(
            &[ResourceSpecifier::Topic(&world.names.raw)],
            &AdminOptions::new(),
        )
        .await
        .unwrap();
    let config = described[0].as_ref().unwrap().entry_map();
    assert_eq!(config["flush.messages"].value.as_deref(), Some("7"));
    assert_eq!(config["retention.ms"].value.as_deref(), Some("604800000"));

    let raised = world.run(&["topics", "create", "--partitions", "3", "--json"]);
    assert!(
        raised.errors.contains("order is not kept"),
        "{}",
        raised.errors
    );
    let fewer = world.json(&["topics", "create", "--partitions", "2"]);
    assert_eq!(
        done(&fewer, &world.names.raw)[0]["partitions_kept"]["asked"],
        2
    );
    world.end().await;
}
