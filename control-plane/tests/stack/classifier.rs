//! What users teach the classifier: rules, models; in the topic when the command returns.

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
