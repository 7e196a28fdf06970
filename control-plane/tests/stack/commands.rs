//! Each command: what it answers, what stands in the topic when it has returned, what it refuses.

use serde_json::{Value, json};

use crate::support::World;

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter();
    found
        .into_iter()
        .find(|row| row["name"] == name)
        .unwrap_or(&Value::Null)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_sources_are_in_the_topic_when_the_command_returns() {
    let Some(world) = World::installed().await else {
        return;
    };
    assert!(world.ok(&["migrate"]).contains("up to date"));

    let source = world.json(&["source", "create", "--name", "github"]);
    let (source_id, token) = (text(&source["id"]), text(&source["token"]));
    let source_key = format!("source/{source_id}");
    assert!(token.starts_with("whs_"));
    let record = world.record(&source_key).unwrap();
    assert_eq!(record["value"]["name"], "github");
    assert!(
        !record.to_string().contains(token),
        "tokens travel as hashes"
    );

    let key = world.json(&[
        "key",
        "create",
        "--name",
        "k",
        "--source",
        "github",
        "--rate",
        "5",
        "--burst",
        "9",
        "--expires",
        "1d",
    ]);
    let key_record = format!("key/{}", text(&key["id"]));
    assert_eq!(key["source_id"], source["id"]);
    let record = world.record(&key_record).unwrap();
    assert_eq!(record["value"]["source_id"], source["id"]);
    assert!(
        !record.to_string().contains(text(&key["key"])),
        "keys travel as hashes"
    );
    assert_eq!(named(&world.json(&["key", "list"]), "k")["burst"], 9);
    assert!(
        world.ok(&["key", "list"]).contains("until "),
        "the table says when it ends"
    );

    world.ok(&["source", "update", "github", "--name", "hub"]);
    let renamed = world.record(&source_key).unwrap();
    assert_eq!(
        (&renamed["value"]["name"], &renamed["version"]),
        (&json!("hub"), &json!(2))
    );
    let rotated = world.json(&["source", "update", "hub", "--rotate-token"]);
    assert_ne!(text(&rotated["token"]), token);
    world.ok(&["source", "disable", "hub"]);
    assert_eq!(
        world.record(&source_key).unwrap()["value"]["disabled"],
        true
    );
    assert_eq!(
        named(&world.json(&["source", "list"]), "hub")["disabled"],
        true
    );
    world.ok(&["source", "enable", "hub"]);
    assert_eq!(
        world.record(&source_key).unwrap()["value"]["disabled"],
        false
    );

    let refused = world.run(&["source", "delete", "hub"]);
    assert_eq!(refused.code, 1, "a key still names it: {}", refused.errors);
    world.ok(&["key", "revoke", text(&key["id"])]);
    assert_eq!(world.record(&key_record), None);
    assert!(world.ok(&["key", "list"]).contains("revoked"));
    world.ok(&["source", "delete", "hub"]);
    assert_eq!(world.record(&source_key), None);
    assert_eq!(world.run(&["source", "delete", "default"]).code, 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn destinations_and_routes_are_in_the_topic_when_the_command_returns() {
    let Some(world) = World::installed().await else {
        return;
    };
    let made = world.json(&[
        "destination",
        "create",
        "--name",
        "app",
        "--url",
        "https://example.com/hooks",
        "--body",
        "raw",
        "--timeout-ms",
        "2000",
        "--concurrency",
        "3",
        "--max-attempts",
        "4",
        "--max-age-s",
        "60",
        "--base-ms",
        "100",
        "--factor",
        "2",
        "--cap-ms",
        "1000",
        "--jitter",
        "0.5",
    ]);
    let (id, secret) = (text(&made["id"]), text(&made["secret"]));
    let key = format!("destination/{id}");
    let value = world.record(&key).unwrap()["value"].clone();
    assert_eq!(
        (&value["body"], &value["timeout_ms"], &value["concurrency"]),
        (&json!("raw"), &json!(2000), &json!(3))
    );
    assert_eq!(value["retry"]["max_attempts"], 4);
    assert!(
        !value.to_string().contains(&secret[6..]),
        "secrets travel sealed"
    );
    assert!(
        !world
            .ok(&["destination", "list", "--json"])
            .contains(&secret[6..])
    );

    world.ok(&["destination", "update", "app", "--timeout-ms", "900"]);
    assert_eq!(world.record(&key).unwrap()["value"]["timeout_ms"], 900);
    let rotated = world.json(&["destination", "update", "app", "--rotate-secret"]);
    assert_ne!(text(&rotated["secret"]), secret);
    assert_eq!(
        world.record(&key).unwrap()["value"]["secrets"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    world.ok(&["destination", "update", "app", "--drop-old-secret"]);
    assert_eq!(
        world.record(&key).unwrap()["value"]["secrets"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    world.ok(&["destination", "disable", "app", "--reason", "on holiday"]);
    assert_eq!(world.record(&key).unwrap()["value"]["disabled"], true);
    assert!(world.ok(&["destination", "list"]).contains("on holiday"));
    world.ok(&["destination", "enable", "app"]);

    world.ok(&[
        "destination",
        "create",
        "--name",
        "other",
        "--url",
        "http://127.0.0.1:1/",
    ]);
    let route = world.json(&[
        "route",
        "create",
        "--name",
        "code",
        "--destination",
        "app",
        "--destination",
        "other",
        "--source",
        "default",
        "--category",
        "code",
        "--min-confidence",
        "0.6",
        "--position",
        "5",
    ]);
    let route_key = format!("route/{}", text(&route["id"]));
    let value = world.record(&route_key).unwrap()["value"].clone();
    assert_eq!(value["destinations"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&value["categories"], &value["position"]),
        (&json!(["code"]), &json!(5))
    );
    assert_eq!(value["min_confidence"], json!(0.6));
    world.ok(&["route", "update", "code", "--min-confidence", "0.9"]);
    world.ok(&["route", "disable", "code"]);
    let listed = world.json(&["route", "list"]);
    assert_eq!(
        (
            &named(&listed, "code")["disabled"],
            &named(&listed, "code")["min_confidence"]
        ),
        (&json!(true), &json!(0.9))
    );
    world.ok(&["route", "enable", "code"]);

    let refused = world.run(&["destination", "delete", "app"]);
    assert_eq!(refused.code, 1, "a route names it");
    assert!(world.record(&key).is_some());
    world.ok(&["destination", "delete", "app", "--force"]);
    assert_eq!(world.record(&key), None);
    assert_eq!(
        world.record(&route_key).unwrap()["value"]["destinations"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    world.ok(&["route", "delete", "code"]);
    assert_eq!(world.record(&route_key), None);
    world.ok(&["destination", "delete", "other"]);

    let audited: i64 = sqlx::query_scalar(
        "select count(*) from audit_log where before::text || after::text like '%whsec_%'",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert_eq!(audited, 0, "the audit log holds no secret");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_with_a_reason_and_changes_nothing() {
    let Some(world) = World::installed().await else {
        return;
    };
    world.ok(&["source", "create", "--name", "taken"]);
    for (arguments, code, told) in [
        (
            &["source", "create", "--name", "taken"][..],
            1,
            "exists already",
        ),
        (&["source", "create", "--name", " x"], 64, "space"),
        (
            &["key", "create", "--name", "k", "--source", "nowhere"],
            1,
            "source list",
        ),
        (&["key", "create", "--name", "k", "--rate", "-1"], 64, ""),
        (
            &["key", "create", "--name", "k", "--expires", "soon"],
            64,
            "expires",
        ),
        (
            &["destination", "create", "--name", "d", "--url", "ftp://x"],
            64,
            "http",
        ),
        (
            &["route", "create", "--name", "r", "--destination", "nowhere"],
            1,
            "destination list",
        ),
        (&["user", "create", "--email", "nobody"], 64, "e-mail"),
        (&["key", "revoke", "nothing"], 1, "key list"),
        (&["key", "invent"], 64, "unrecognized"),
    ] {
        let ran = world.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.errors);
        assert!(ran.errors.contains(told), "{arguments:?}: {}", ran.errors);
        assert_eq!(ran.text, "", "{arguments:?}");
    }
    assert_eq!(world.json(&["destination", "list"]), json!([]));
    let missing = world
        .command(&["destination", "create", "--name", "d", "--url", "http://x/"])
        .env_remove("MASTER_KEY")
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(64));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_can_be_made_with_a_password_or_gets_one() {
    let Some(world) = World::begin().await else {
        return;
    };
    let early = world.run(&["user", "list"]);
    assert!(
        early.errors.contains("control-plane migrate"),
        "{}",
        early.errors
    );
    world.ok(&["migrate"]);
    let made = world.json(&["user", "create", "--email", "ada@example.com"]);
    assert!(text(&made["password"]).len() >= 12);
    let again = world.run(&["user", "create", "--email", "ADA@example.com"]);
    assert_eq!(again.code, 1, "addresses are the same whatever their case");
    let listed = world.ok(&["user", "list"]);
    assert!(listed.contains("ada@example.com") && !listed.contains(text(&made["password"])));
    world.end().await;
}
