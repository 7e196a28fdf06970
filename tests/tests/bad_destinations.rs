//! What destinations do wrong, and that it costs the others nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::time::Duration;

use router_e2e::{Behaviour, Receiver, World, WorldSettings, eventually, read_topic};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(40);

/// Attempts of a destination, as `webhooks.attempts` tells them.
fn attempts(world: &World, destination: &str) -> Vec<Value> {
    let records = read_topic(&world.kafka, &world.kafka.names().attempts);
    let all = records.iter().map(router_e2e::Record::json);
    all.filter(|attempt| attempt["destination_id"] == destination)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn misbehaving_destinations_are_told_apart_and_hold_up_nobody() {
    // Of all private addresses this one alone.
    let settings = WorldSettings {
        allow_cidrs: "127.0.0.1/32",
        ..WorldSettings::default()
    };
    let Some(world) = World::start("bad-destinations", settings).await else {
        return;
    };
    let good = Receiver::start().await;
    let hanging = Receiver::with(Behaviour::Hang).await;
    let resetting = Receiver::with(Behaviour::Reset).await;
    let huge = Receiver::with(Behaviour::Huge(200 << 20)).await;
    let endless = Receiver::with(Behaviour::Endless).await;
    let secret = Receiver::at("127.0.0.2:0", Behaviour::Status(200)).await;
    let redirecting = Receiver::with(Behaviour::Redirect(secret.url())).await;

    let short = ["--timeout-ms", "3000", "--max-attempts", "1"];
    let make = |name: &str, url: &str| {
        let destination = world.destination(name, url, &short);
        world.route(name, &destination, &[]);
        destination.id
    };
    let hanging_id = make("hanging", &hanging.url());
    let resetting_id = make("resetting", &resetting.url());
    let huge_id = make("huge", &huge.url());
    let endless_id = make("endless", &endless.url());
    let redirecting_id = make("redirecting", &redirecting.url());
    let private_id = make("private", &secret.url());
    let named_id = make("named", "http://localhost.localdomain.invalid:9/");
    make("good", &good.url());

    let began = std::time::Instant::now();
    for _ in 0..20 {
        world.send(r#"{"type":"invoice.paid"}"#).await;
    }
    eventually("the good one has all", SOON, async || {
        (good.count() == 20).then_some(())
    })
    .await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "the others held up the good one"
    );

    let last = async |id: &str| {
        let found = eventually("20 ends", SOON, async || {
            let ended: Vec<Value> = attempts(&world, id)
                .into_iter()
                .filter(|attempt| attempt["next"]["state"] != "parked")
                .collect();
            (ended.len() == 20).then_some(ended)
        })
        .await;
        let first = found[0].clone();
        (first["next"]["state"].as_str().unwrap().to_owned(), first)
    };
    // The status is the answer, however much or little of a body follows it.
    assert_eq!(last(&huge_id).await.0, "delivered");
    assert_eq!(last(&endless_id).await.0, "delivered");
    for (id, code) in [
        (&hanging_id, "timeout"),
        (&private_id, "address_refused"),
        (&named_id, "dns"),
    ] {
        let (state, attempt) = last(id).await;
        assert_eq!(
            (state.as_str(), attempt["error"]["code"].as_str()),
            ("dead", Some(code)),
            "{attempt}"
        );
    }
    let (state, attempt) = last(&resetting_id).await;
    assert_eq!(state, "dead");
    assert_eq!(attempt["error"]["class"], "retryable", "{attempt}");
    let (state, attempt) = last(&redirecting_id).await;
    assert_eq!(
        (state.as_str(), attempt["answer"]["status"].as_u64()),
        ("dead", Some(307))
    );
    assert_eq!(
        secret.connections(),
        0,
        "an address that is not allowed was contacted, directly or behind a redirect"
    );
    eventually("the account", SOON, async || {
        world.audit(&[]).0.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_resolves_to_an_address_that_is_not_allowed_is_refused() {
    let settings = WorldSettings {
        allow_cidrs: "203.0.113.0/24",
        ..WorldSettings::default()
    };
    let Some(world) = World::start("bad-names", settings).await else {
        return;
    };
    let receiver = Receiver::start().await;
    let url = format!("http://localhost:{}/", receiver.address.port());
    let named = world.destination("named", &url, &[]);
    world.route("named", &named, &[]);
    world.send("{}").await;
    let attempt = eventually("an attempt", SOON, async || {
        attempts(&world, &named.id).into_iter().next()
    })
    .await;
    // Trying again would not help: it is dead after one attempt.
    assert_eq!(
        (
            attempt["next"]["state"].as_str(),
            attempt["error"]["code"].as_str()
        ),
        (Some("dead"), Some("address_refused")),
        "{attempt}"
    );
    assert_eq!(receiver.connections(), 0, "it was contacted all the same");
}
