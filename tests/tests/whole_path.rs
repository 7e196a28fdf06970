//! One webhook, all the way: posted, classified, extracted, routed, delivered, retried, recorded, replayed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::time::Duration;

use router_e2e::{Behaviour, Receiver, World, WorldSettings, eventually};
use serde_json::{Value, json};
use sqlx::Row;

const SOON: Duration = Duration::from_secs(30);

fn invoice() -> Value {
    json!({
        "id": "evt_1", "object": "event", "api_version": "2024-06-20", "type": "invoice.payment_failed",
        "created": 1_780_000_000, "livemode": false,
        "data": {"object": {"id": "in_1", "object": "invoice", "amount_due": 1250, "currency": "eur",
            "customer_email": "c@example.com", "number": "INV-7", "status": "open", "paid": false,
            "billing_reason": "subscription_cycle", "subscription": "sub_1", "lines": {"data": []}}}
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_classified_delivered_signed_and_recorded() {
    let Some(world) = World::start("whole-path", WorldSettings::default()).await else {
        return;
    };
    let receiver = Receiver::start().await;
    let raw_receiver = Receiver::start().await;
    let destination = world.destination("app", &receiver.url(), &[]);
    let raw = world.destination("raw", &raw_receiver.url(), &["--body", "raw"]);
    world.route("all", &destination, &[]);
    world.route("raw", &raw, &["--source", &world.source_id]);

    let body = invoice().to_string();
    let answer = world
        .webhook()
        .await
        .header("stripe-signature", "t=1,v1=00")
        .body(body.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
    let id = answer.json::<Value>().await.unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();

    let got = eventually("the delivery", SOON, async || {
        receiver.received().first().cloned()
    })
    .await;
    assert!(got.signed_with(&destination.secret));
    assert!(!got.signed_with(&raw.secret));
    let result = got.json();
    assert_eq!(result["id"], id.as_str());
    assert_eq!(result["type"], "stripe.invoice.payment_failed");
    assert_eq!(result["category"], "billing", "{result}");
    assert_eq!(result["payload"], invoice());
    assert_eq!(
        result["result"]["amount"],
        json!({"minor_units": 1250, "currency": "EUR", "exponent": 2})
    );

    // Byte for byte where a destination asks for it.
    let got = eventually("the raw delivery", SOON, async || {
        raw_receiver.received().first().cloned()
    })
    .await;
    assert_eq!(got.body, body);
    assert_eq!(got.header("content-type"), Some("application/json"));

    let pool = world.database().await;
    let event = id.clone();
    let row = eventually("the rows", SOON, async || {
        let query = "select p.category, p.result->>'summary' as summary, convert_from(l.body, 'UTF8') as body,
            (select count(*) from delivery_logs d where d.event_id = p.event_id and d.state = 'delivered') as delivered
            from processed_results p join ingestion.logs l on l.event_id = p.event_id where p.event_id = $1::uuid";
        let row = sqlx::query(query).bind(&event).fetch_optional(&pool).await.unwrap()?;
        (row.get::<i64, _>("delivered") == 2).then_some(row)
    })
    .await;
    assert_eq!(row.get::<String, _>("category"), "billing");
    assert_eq!(row.get::<String, _>("body"), body);
    assert!(row.get::<String, _>("summary").contains("12.50 EUR"));

    // Nothing that opens a door lies in the topics.
    let stored = router_e2e::read_topic(&world.kafka, &world.kafka.names().raw);
    assert_eq!(stored.len(), 1);
    assert!(!format!("{:?}", stored[0].headers).contains(&world.key));
    let (balanced, account) = world.audit(&["--database"]);
    assert!(balanced, "{account}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_retried_later_under_the_same_id_and_never_early() {
    let Some(world) = World::start("retry-path", WorldSettings::default()).await else {
        return;
    };
    let receiver = Receiver::start().await;
    let retry_after = Receiver::start().await;
    receiver.first([Behaviour::Status(500), Behaviour::Reset]);
    retry_after.first([Behaviour::RetryAfter(2)]);
    let policy = ["--base-ms", "200", "--factor", "1", "--jitter", "0"];
    let destination = world.destination("flaky", &receiver.url(), &policy);
    let patient = world.destination("patient", &retry_after.url(), &policy);
    world.route("flaky", &destination, &[]);
    world.route("patient", &patient, &[]);
    world.send(invoice().to_string()).await;

    eventually("three attempts", SOON, async || {
        (receiver.count() == 3).then_some(())
    })
    .await;
    let got = receiver.received();
    assert!(got.iter().all(|attempt| attempt.id() == got[0].id()));
    for pair in got.windows(2) {
        assert!(
            pair[1].at - pair[0].at >= Duration::from_millis(200),
            "early: {:?}",
            pair[1].at - pair[0].at
        );
    }
    eventually("the second answer", SOON, async || {
        (retry_after.count() == 2).then_some(())
    })
    .await;
    let got = retry_after.received();
    assert!(
        got[1].at - got[0].at >= Duration::from_secs(2),
        "Retry-After is not honoured"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_replayed_and_dead_letters_are_redriven() {
    let Some(world) = World::start("replay-path", WorldSettings::default()).await else {
        return;
    };
    let receiver = Receiver::start().await;
    let broken = Receiver::with(Behaviour::Status(500)).await;
    let doomed = Receiver::with(Behaviour::Status(500)).await;
    let two = ["--max-attempts", "2", "--base-ms", "200", "--jitter", "0"];
    let good = world.destination("good", &receiver.url(), &[]);
    let bad = world.destination("bad", &broken.url(), &two);
    let gone = world.destination("gone", &doomed.url(), &two);
    world.route("good", &good, &[]);
    world.route("bad", &bad, &[]);
    world.route("gone", &gone, &["--category", "billing"]);
    world.send(invoice().to_string()).await;
    world.send(r#"{"ref":"refs/heads/main","commits":[],"pusher":{"name":"a"},"repository":{"full_name":"o/r"}}"#).await;
    eventually("deliveries", SOON, async || {
        (receiver.count() == 2).then_some(())
    })
    .await;
    eventually("attempts", SOON, async || {
        (broken.count() == 4 && doomed.count() == 2).then_some(())
    })
    .await;
    let names = world.kafka.names();
    eventually("dead letters", SOON, async || {
        (router_e2e::read_topic(&world.kafka, &names.dead_letter).len() == 3).then_some(())
    })
    .await;

    // A dry run says what would be done and does nothing.
    let replay = |args: &[&str]| {
        let (status, out, err) = world.run(
            "stream-workers",
            &[&["replay", "--from", "10m"], args].concat(),
        );
        assert_eq!(status, 0, "{out}{err}");
        out
    };
    let dry = replay(&["--dry-run", "--category", "billing"]);
    assert!(
        dry.contains("1  would be sent") && dry.contains("1  of another category"),
        "{dry}"
    );
    assert!(router_e2e::read_topic(&world.kafka, &names.replay).is_empty());

    // One webhook of two, to one destination of three, under another delivery id.
    let said = replay(&["--category", "billing", "--destination", "good"]);
    assert!(said.contains("1  sent"), "{said}");
    eventually("the replay", SOON, async || {
        (receiver.count() == 3).then_some(())
    })
    .await;
    let got = receiver.received();
    let original = got
        .iter()
        .find(|r| r.json()["category"] == "billing")
        .unwrap();
    assert_ne!(got[2].id(), original.id());
    assert_eq!(got[2].json()["id"], original.json()["id"]);

    // The same id to the same destination; what aims at a deleted one is counted.
    broken.then(Behaviour::Status(200));
    world.control(&["destination", "delete", &gone.id, "--force"]);
    let ids: Vec<String> = broken
        .received()
        .iter()
        .map(|received| received.id())
        .collect();
    let said = replay(&["--dead-letter"]);
    assert!(
        said.contains("2  sent") && said.contains("1  for a destination that was deleted"),
        "{said}"
    );
    eventually("the redrive", SOON, async || {
        (broken.count() == 6).then_some(())
    })
    .await;
    assert!(
        broken.received()[4..]
            .iter()
            .all(|received| ids.contains(&received.id()))
    );
    eventually("the account", SOON, async || {
        world.audit(&[]).0.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_gone_is_disabled() {
    let Some(world) = World::start("gone-path", WorldSettings::default()).await else {
        return;
    };
    let receiver = Receiver::with(Behaviour::Status(410)).await;
    let destination = world.destination("gone", &receiver.url(), &[]);
    world.route("gone", &destination, &[]);
    world.send("{}").await;
    eventually("it is disabled", SOON, async || {
        let list = world.control_json(&["destination", "list"]);
        list.to_string().contains("\"disabled\":true").then_some(())
    })
    .await;
    for _ in 0..5 {
        world.send("{}").await;
    }
    let names = world.kafka.names();
    eventually("all are dead", SOON, async || {
        (router_e2e::read_topic(&world.kafka, &names.dead_letter).len() == 6).then_some(())
    })
    .await;
    assert_eq!(receiver.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_within_a_second() {
    let Some(world) = World::start("revoke-path", WorldSettings::default()).await else {
        return;
    };
    let second = world.control_json(&["key", "create", "--name", "second"]);
    let (id, key) = (
        second["id"].as_str().unwrap().to_owned(),
        second["key"].as_str().unwrap().to_owned(),
    );
    let client = reqwest::Client::new();
    let url = format!("{}/webhooks", world.edge_url);
    let status = async || {
        client
            .post(&url)
            .header("authorization", format!("Bearer {key}"))
            .body("{}")
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    eventually("the new key is known", Duration::from_secs(1), async || {
        (status().await == 202).then_some(())
    })
    .await;
    let began = std::time::Instant::now();
    world.control(&["key", "revoke", &id]);
    eventually("the key is refused", Duration::from_secs(1), async || {
        (status().await == 401).then_some(())
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(3));
    // The other key goes on.
    world.send("{}").await;
}
