//! What users teach the classifier, from the command line to what a destination receives: rules, corrections, labels,
//! and models that are shadowed, promoted and rolled back without a restart.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{fs, path::PathBuf, time::Duration};

use router_e2e::{Receiver, World, WorldSettings, eventually};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

/// The result of one webhook, as its destination received it, and who decided, as the database has it.
async fn result(world: &World, receiver: &Receiver, body: &Value) -> (String, Value) {
    let id = world.send(body.to_string()).await;
    eventually("the delivery", PATIENCE, async || {
        let received = receiver.received();
        received
            .iter()
            .map(router_e2e::Received::json)
            .find(|result| result["id"] == *id)
    })
    .await;
    let row = eventually("the row", PATIENCE, async || {
        let mut connection = world.database().await.acquire().await.unwrap();
        let query = "select json_build_object('category', category, 'decided_by', decided_by, 'decided_id', decided_id,
                'model', model_version, 'shadow', shadow_category) as row
             from processed_results where event_id = $1::uuid";
        sqlx::query_scalar::<_, Value>(query)
            .bind(&id)
            .fetch_optional(&mut *connection)
            .await
            .unwrap()
    })
    .await;
    (id, row)
}

fn door(n: u32) -> Value {
    json!({"kind": "door.forced", "door": {"id": format!("d-{n}"), "floor": n % 7, "zone": "north"},
        "at": format!("2026-01-{:02}T10:00:00Z", n % 28 + 1), "badge": null, "sensor_battery": n})
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_corrections_and_labels_are_in_force_once_their_command_returns() {
    let Some(world) = World::start("teaching", WorldSettings::default()).await else {
        return;
    };
    let receiver = Receiver::start().await;
    let app = world.destination("app", &receiver.url(), &[]);
    world.route("all", &app, &[]);

    let (wrong, before) = result(&world, &receiver, &door(1)).await;
    assert!(
        before["decided_by"] == "model" || before["decided_by"] == "threshold",
        "{before}"
    );
    let correction = world.control_json(&[
        "correction",
        "add",
        "--event",
        &wrong,
        "--category",
        "facility",
    ]);
    let (_, after) = result(&world, &receiver, &door(2)).await;
    assert_eq!(
        (&after["category"], &after["decided_by"]),
        (&json!("facility"), &json!("correction"))
    );
    assert_eq!(after["decided_id"], correction["id"]);
    let export = world.control(&["correction", "export", "--out", "-"]);
    let line: Value = serde_json::from_str(export.lines().next().unwrap()).unwrap();
    assert_eq!(line["label"], "facility");
    assert!(
        line["tokens"]
            .as_array()
            .unwrap()
            .contains(&json!("e:forced")),
        "{line}"
    );

    world.control(&[
        "rule",
        "create",
        "--name",
        "doors",
        "--category",
        "security",
        "--when",
        "json:/kind ^= door.",
    ]);
    let (_, ruled) = result(&world, &receiver, &door(3)).await;
    assert_eq!(
        (&ruled["category"], &ruled["decided_by"]),
        (&json!("security"), &json!("rule"))
    );
    world.control(&["rule", "disable", "doors"]);
    world.control(&["correction", "delete", correction["id"].as_str().unwrap()]);
    let (_, again) = result(&world, &receiver, &door(4)).await;
    assert_eq!(again["decided_by"], before["decided_by"]);

    let mut events = Vec::new();
    for n in 5..8 {
        events.push(result(&world, &receiver, &door(n)).await.0);
    }
    let mut command = vec!["label", "create", "--name", "access"];
    for event in &events {
        command.extend(["--example", event]);
    }
    world.control(&command);
    let (_, labelled) = result(&world, &receiver, &door(20)).await;
    assert_eq!(
        (&labelled["category"], &labelled["decided_by"]),
        (&json!("access"), &json!("label"))
    );
    let invoice = json!({"type": "invoice.paid", "amount_due": 4200, "currency": "eur"});
    let (_, other) = result(&world, &receiver, &invoice).await;
    assert_eq!(
        (&other["category"], &other["decided_by"]),
        (&json!("billing"), &json!("model"))
    );
    world.balances(PATIENCE).await;
}

/// A model directory with a second model below it that calls billing code and code billing.
fn models() -> PathBuf {
    let home = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../stream-workers/classifier/model"
    ));
    let dir = std::env::temp_dir().join(format!("router-e2e-models-{}", std::process::id()));
    let next = dir.join("next");
    fs::create_dir_all(&next).unwrap();
    for name in ["model.onnx", "model.json", "vocabulary.txt", "cases.jsonl"] {
        fs::copy(home.join(name), dir.join(name)).unwrap();
        fs::copy(home.join(name), next.join(name)).unwrap();
    }
    let mut facts: Value =
        serde_json::from_slice(&fs::read(next.join("model.json")).unwrap()).unwrap();
    facts["version"] = json!("next");
    facts["labels"].as_array_mut().unwrap().swap(0, 2);
    fs::write(next.join("model.json"), facts.to_string()).unwrap();
    let cases = fs::read_to_string(next.join("cases.jsonl")).unwrap();
    let cases = cases
        .replace("\"category\": \"billing\"", "\"category\": \"-\"")
        .replace("\"category\": \"code\"", "\"category\": \"billing\"")
        .replace("\"category\": \"-\"", "\"category\": \"code\"");
    fs::write(next.join("cases.jsonl"), cases).unwrap();
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_shadowed_promoted_and_rolled_back_without_a_restart() {
    let dir = models();
    let settings = WorldSettings {
        env: vec![("MODEL_DIR", dir.display().to_string())],
        ..WorldSettings::default()
    };
    let Some(mut world) = World::start("models", settings).await else {
        return;
    };
    let receiver = Receiver::start().await;
    let app = world.destination("app", &receiver.url(), &[]);
    world.route("all", &app, &[]);
    let invoice = json!({"type": "invoice.paid", "amount_due": 4200, "currency": "eur"});
    let (_, builtin) = result(&world, &receiver, &invoice).await;
    world.control(&["model", "shadow", "next"]);
    let is_disagreement = |row: &Value| row["shadow"] == "code";
    let row = until(&world, &receiver, &invoice, &is_disagreement).await;
    assert_eq!(
        (&row["category"], &row["model"]),
        (&json!("billing"), &builtin["model"])
    );
    let listed = world.control_json(&["model", "disagreements"]);
    assert!(listed.to_string().contains("\"code\""), "{listed}");
    world.control(&["model", "promote"]);
    let row = until(&world, &receiver, &invoice, &|row| row["model"] == "next").await;
    assert_eq!(
        (&row["category"], &row["shadow"]),
        (&json!("code"), &Value::Null)
    );
    // A process that starts again has it from its first webhook on.
    world.service("process").kill();
    world.service("process").restart();
    world.service("process").ready().await;
    let (_, row) = result(&world, &receiver, &invoice).await;
    assert_eq!(row["model"], "next");
    world.control(&["model", "rollback"]);
    let row = until(&world, &receiver, &invoice, &|row| {
        row["model"] == builtin["model"]
    })
    .await;
    assert_eq!(row["category"], "billing");
    world.balances(PATIENCE).await;
    fs::remove_dir_all(dir).unwrap();
}

/// Sends until the result is as wanted: a model that was asked for is loaded beside the one that answers.
async fn until(
    world: &World,
    receiver: &Receiver,
    body: &Value,
    done: &dyn Fn(&Value) -> bool,
) -> Value {
    eventually("another model", PATIENCE, async || {
        let (_, row) = result(world, receiver, body).await;
        done(&row).then_some(row)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_rules_alone_decide_and_the_rest_is_other() {
    let settings = WorldSettings {
        env: vec![
            ("CLASSIFIER", "rules".to_owned()),
            (
                "ORT_DYLIB_PATH",
                "/nonexistent/libonnxruntime.so".to_owned(),
            ),
        ],
        ..WorldSettings::default()
    };
    let Some(mut world) = World::start("rules-alone", settings).await else {
        return;
    };
    let receiver = Receiver::start().await;
    let app = world.destination("app", &receiver.url(), &[]);
    world.route("all", &app, &[]);
    world.control(&[
        "rule",
        "create",
        "--name",
        "doors",
        "--category",
        "security",
        "--when",
        "json:/kind ^= door.",
    ]);
    let (_, ruled) = result(&world, &receiver, &door(1)).await;
    assert_eq!(ruled["category"], "security");
    let (_, other) = result(&world, &receiver, &json!({"type": "invoice.paid"})).await;
    assert_eq!(
        (&other["category"], &other["decided_by"]),
        (&json!("other"), &json!("nothing"))
    );
    let log = world.service("process").log();
    assert!(log.contains("no model is asked"), "{log}");
}
