//! What users teach the classifier: rules, labels, corrections, models; in the topic when the command returns.

use router_schemas::{EventId, ProjectId};
use serde_json::{Value, json};
use sqlx::types::Json;

use crate::support::{World, tamper};

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// The default source.
const SOURCE: &str = "00000000-0000-7000-8000-000000000002";

/// An event as the archive has it, classified as `category` where a shadow model says otherwise.
async fn archived(world: &World, body: &str, category: &str, shadow: Option<&str>) -> EventId {
    let id = EventId::generate();
    sqlx::query("select ingestion.maintain_partitions(3, 2)")
        .execute(&world.pool)
        .await
        .unwrap();
    sqlx::query(
        "insert into ingestion.logs (event_id, received_at, project_id, source_id, content_type, headers, body,
             body_bytes, raw_topic, raw_partition, raw_offset)
         values ($1, now(), $2, $3::uuid, 'application/json', $4, $5, 0, 't', 0, 0)",
    )
    .bind(id.0)
    .bind(ProjectId::DEFAULT.0)
    .bind(SOURCE)
    .bind(Json(json!([["x-shop-event", "refund"], ["content-type", "application/json"]])))
    .bind(body.as_bytes())
    .execute(&world.pool)
    .await
    .unwrap();
    sqlx::query(
        "insert into processed_results (event_id, item, project_id, source_id, round, outcome, category, confidence,
             decided_by, deliveries, processed_at, raw_topic, raw_partition, raw_offset, shadow_version,
             shadow_category, shadow_confidence)
         values ($1, 0, $2, $3::uuid, 0, 'unrouted', $4, 0.5, 'model', 0, now(), 't', 0, 0, 'v2', $5, 0.75)",
    )
    .bind(id.0)
    .bind(ProjectId::DEFAULT.0)
    .bind(SOURCE)
    .bind(category)
    .bind(shadow)
    .execute(&world.pool)
    .await
    .unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_made_tested_changed_and_deleted() {
    let Some(world) = World::installed().await else {
        return;
    };
    world.ok(&["source", "create", "--name", "shop"]);
    let made = world.json(&[
        "rule",
        "create",
        "--name",
        "refunds",
        "--category",
        "refund",
        "--when",
        "header:X-Shop-Event=refund",
        "--when",
        "json:/amount in 12, 13",
    ]);
    let key = format!("rule/{}", text(&made["id"]));
    let value = world.record(&key).unwrap()["value"].clone();
    assert_eq!(
        value["conditions"],
        json!([{"header": "x-shop-event", "equals": "refund"},
            {"json": "/amount", "one_of": ["12", "13"]}])
    );
    assert_eq!(
        (&value["position"], &value["category"]),
        (&json!(10), &json!("refund"))
    );
    let listed = world.ok(&["rule", "list"]);
    let when = "header:x-shop-event=refund and json:/amount in 12,13";
    assert!(listed.contains(when), "{listed}");

    let event = archived(&world, r#"{"amount": 12}"#, "other", None).await;
    let event = event.to_string();
    let told = world.json(&["rule", "test", "--event", &event]);
    assert_eq!(told["decided_by"], made["id"]);
    world.ok(&[
        "rule",
        "update",
        "refunds",
        "--source",
        "shop",
        "--position",
        "3",
    ]);
    let told = world.json(&["rule", "test", "refunds", "--event", &event]);
    assert_eq!(told["decided_by"], Value::Null);
    assert_eq!(told["rules"][0]["source_fits"], false);
    assert_eq!(told["rules"][0]["conditions"][1]["found"], "12");
    let told = world.ok(&["rule", "test", "--event", &event]);
    assert!(told.contains("another source"), "{told}");
    assert_eq!(world.record(&key).unwrap()["value"]["position"], 3);

    let refused = world.run(&["source", "delete", "shop"]);
    assert!(refused.errors.contains("refunds"), "{}", refused.errors);
    world.ok(&[
        "rule",
        "update",
        "refunds",
        "--any-source",
        "--when",
        "json: exists",
    ]);
    world.ok(&["source", "delete", "shop"]);
    assert!(
        world
            .ok(&["rule", "show", "refunds"])
            .contains("when      json: exists")
    );
    world.ok(&["rule", "disable", "refunds"]);
    assert_eq!(world.record(&key).unwrap()["value"]["disabled"], true);
    world.ok(&["rule", "enable", "refunds"]);
    world.ok(&["rule", "delete", "refunds"]);
    assert_eq!(world.record(&key), None);

    for (arguments, code, told) in [
        (&["--when", "header:a"][..], 64, "         ^"),
        (&["--when", "json:/a=1", "--category", "No"], 64, "category"),
        (&[], 64, "--when"),
        (&["--when", "json:/a=1", "--source", "x"], 1, "source list"),
    ] {
        let mut all = vec!["rule", "create", "--name", "r"];
        if !arguments.contains(&"--category") {
            all.extend(["--category", "c"]);
        }
        all.extend(arguments);
        let ran = world.run(&all);
        assert_eq!(ran.code, code, "{all:?}: {}", ran.errors);
        assert!(ran.errors.contains(told), "{all:?}: {}", ran.errors);
    }
    assert_eq!(world.json(&["rule", "list"]), json!([]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_learn_from_events_and_files() {
    let Some(world) = World::installed().await else {
        return;
    };
    let event = archived(&world, r#"{"refund": {"state": "done"}}"#, "billing", None).await;
    let event = event.to_string();
    let made = world.json(&["label", "create", "--name", "refund", "--example", &event]);
    let key = format!("label/{}", text(&made["id"]));
    let value = world.record(&key).unwrap()["value"].clone();
    let words = value["examples"][0]["tokens"].to_string();
    assert!(words.contains("refund"), "{words}");
    assert_eq!(value["threshold"], Value::Null);

    let file = std::env::temp_dir().join(format!("labels-{event}.jsonl"));
    let line = json!({"headers": {"X-Shop-Event": "chargeback"}, "body": "{\"chargeback\":true}"});
    std::fs::write(&file, format!("{line}\n{line}\n")).unwrap();
    let path = file.to_str().unwrap();
    let added = world.json(&[
        "label",
        "add-example",
        "refund",
        "--example",
        &event,
        "--file",
        path,
    ]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(added["examples"], 2, "the same again is passed over");
    world.ok(&["label", "update", "refund", "--threshold", "0.9"]);
    let record = world.record(&key).unwrap();
    assert_eq!(record["value"]["threshold"], json!(0.9));
    assert_eq!(record["version"], 3);
    let shown = world.ok(&["label", "show", "refund"]);
    assert!(
        shown.contains(&event) && shown.contains("a file"),
        "{shown}"
    );

    world.ok(&["label", "drop-example", "refund", "1"]);
    let left = world.record(&key).unwrap()["value"]["examples"].clone();
    assert_eq!(left.as_array().unwrap().len(), 1);
    let refused = world.run(&["label", "drop-example", "refund", "1"]);
    assert!(
        refused.errors.contains("at least one"),
        "{}",
        refused.errors
    );
    world.ok(&["label", "disable", "refund"]);
    assert_eq!(world.json(&["label", "list"])[0]["disabled"], true);
    world.ok(&["label", "delete", "refund"]);
    assert_eq!(world.record(&key), None);

    let nowhere = EventId::generate().to_string();
    for (arguments, code, told) in [
        (&["--example", &nowhere][..], 1, "there is no event"),
        (&["--example", "nonsense"], 64, "is no event id"),
        (&["--file", "/nowhere.jsonl"], 64, "/nowhere.jsonl"),
        (&["--example", &event, "--threshold", "2"], 64, "threshold"),
        (&[], 64, "--example"),
    ] {
        let ran = world.run(&[&["label", "create", "--name", "l"], arguments].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.errors);
        assert!(ran.errors.contains(told), "{arguments:?}: {}", ran.errors);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn corrections_note_what_was_and_are_exported() {
    let Some(world) = World::installed().await else {
        return;
    };
    let event = archived(&world, r#"{"refund": "done"}"#, "alerts", None).await;
    let event = event.to_string();
    let add = |category| {
        world.json(&[
            "correction",
            "add",
            "--event",
            &event,
            "--category",
            category,
        ])
    };
    let made = add("commerce");
    assert_eq!(made["instead_of"], "alerts");
    let key = format!("correction/{}", text(&made["id"]));
    assert_eq!(add("billing")["id"], made["id"], "the last word counts");
    let record = world.record(&key).unwrap();
    assert_eq!(record["value"]["category"], "billing");
    assert_eq!(record["value"]["source_id"], SOURCE);
    assert!(world.ok(&["correction", "list"]).contains("alerts"));

    let exported = world.ok(&["correction", "export", "--out", "-"]);
    let line: Value = serde_json::from_str(&exported).unwrap();
    assert_eq!(
        (&line["label"], &line["event_id"]),
        (&json!("billing"), &json!(event))
    );
    assert_eq!(line["tokens"], record["value"]["example"]["tokens"]);
    assert!(line["scheme"].is_u64() && line["source_id"] == SOURCE);
    assert_eq!(
        world
            .run(&["correction", "export", "--out", "/no/where"])
            .code,
        1
    );

    world.ok(&["correction", "delete", &event]);
    assert_eq!(world.record(&key), None);
    let refused = world.run(&["correction", "delete", &event]);
    assert!(
        refused.errors.contains("correction list"),
        "{}",
        refused.errors
    );
    let audited: i64 = sqlx::query_scalar(
        "select count(*) from audit_log where action in ('correction.create', 'correction.update', 'correction.delete')",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert_eq!(audited, 3);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_tried_out_compared_promoted_and_gone_back_from() {
    let Some(world) = World::installed().await else {
        return;
    };
    let key = "model/active";
    assert_eq!(world.record(key), None, "nothing was chosen yet");
    assert_eq!(world.json(&["model", "show"])["current"], "builtin");
    world.ok(&["model", "shadow", "2026-11"]);
    let value = || world.record(key).unwrap()["value"].clone();
    assert_eq!(value(), json!({"current": null, "shadow": "2026-11"}));

    for (category, shadow) in [
        ("other", Some("billing")),
        ("other", Some("billing")),
        ("code", Some("ci_cd")),
        ("code", None),
    ] {
        archived(&world, "{}", category, shadow).await;
    }
    let told = world.json(&["model", "disagreements", "--limit", "2", "--since", "1h"]);
    assert_eq!(told["counts"][0]["events"], 2);
    assert_eq!(told["counts"].as_array().unwrap().len(), 2);
    assert_eq!(told["latest"].as_array().unwrap().len(), 2);
    assert_eq!(told["latest"][0]["shadow_category"], "ci_cd");
    assert_eq!(told["latest"][0]["shadow_confidence"], json!(0.75));
    let told = world.ok(&["model", "disagreements"]);
    assert!(
        told.contains("other 0.50") && told.contains("default"),
        "{told}"
    );

    world.ok(&["model", "promote"]);
    assert_eq!(value(), json!({"current": "2026-11", "shadow": null}));
    world.ok(&["model", "shadow", "builtin"]);
    assert_eq!(value(), json!({"current": "2026-11", "shadow": "builtin"}));
    // A topic that was written by another installation is mended like every other setting.
    tamper(&world, key, Some(r#"{"version":90,"reader":1,"value":{}}"#));
    let mended = world.json(&["config", "republish"]);
    assert_eq!(mended, json!([{"key": key, "what": "newer"}]));
    assert_eq!(value(), json!({"current": "2026-11", "shadow": "builtin"}));
    world.ok(&["model", "shadow", "--off"]);
    world.ok(&["model", "rollback"]);
    assert_eq!(value(), json!({"current": null, "shadow": null}));
    for (arguments, code) in [
        (&["rollback"][..], 1),
        (&["promote"], 1),
        (&["promote", "../etc"], 64),
        (&["shadow", "builtin"], 1),
        (&["shadow"], 64),
        (&["disagreements", "--since", "soon"], 64),
    ] {
        let ran = world.run(&[&["model"], arguments].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.errors);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn republish_knows_what_is_taught() {
    let Some(world) = World::installed().await else {
        return;
    };
    let event = archived(&world, r#"{"refund": "done"}"#, "alerts", None).await;
    let event = event.to_string();
    world.ok(&[
        "rule",
        "create",
        "--name",
        "r",
        "--category",
        "c",
        "--when",
        "json:/a exists",
    ]);
    world.ok(&[
        "label",
        "create",
        "--name",
        "l",
        "--example",
        &event,
        "--threshold",
        "0.6",
    ]);
    world.ok(&["correction", "add", "--event", &event, "--category", "c"]);
    world.ok(&["model", "shadow", "m"]);
    assert_eq!(world.json(&["config", "republish"]), json!([]));
    let rule = format!("rule/{}", text(&world.json(&["rule", "list"])[0]["id"]));
    let label = format!("label/{}", text(&world.json(&["label", "list"])[0]["id"]));
    tamper(&world, &rule, None);
    tamper(&world, &label, Some("garbage"));
    let mended = world.json(&["config", "republish"]);
    assert_eq!(
        mended,
        json!([{"key": label, "what": "unreadable"}, {"key": rule, "what": "missing"}])
    );
    assert_eq!(world.record(&rule).unwrap()["value"]["name"], "r");
    assert_eq!(world.json(&["config", "republish"]), json!([]));
    world.end().await;
}
