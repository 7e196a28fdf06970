//! Webhooks as providers really send them, all the way. They are kept outside the repository, and nothing of them
//! is printed: a failure names lines.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use router_e2e::{Receiver, World, WorldSettings, eventually};
use serde::Deserialize;
use serde_json::Value;
use sqlx::Row;

const PATIENCE: Duration = Duration::from_secs(60);

/// One webhook of the file.
#[derive(Deserialize)]
struct Line {
    headers: BTreeMap<String, String>,
    content_type: String,
    body: String,
}

impl Line {
    /// The sender's headers; those of its connection are made anew.
    fn headers(&self) -> HeaderMap {
        const MADE_ANEW: [&str; 5] = [
            "connection",
            "content-length",
            "content-type",
            "host",
            "transfer-encoding",
        ];
        let content_type = Some(("content-type", self.content_type.as_str()));
        let content_type = content_type.filter(|(_, value)| !value.is_empty());
        let own = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        own.filter(|(name, _)| !MADE_ANEW.contains(&name.to_ascii_lowercase().as_str()))
            .chain(content_type)
            .map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
            })
            .collect()
    }
}

fn file() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/eval/webhooks.jsonl");
    std::env::var_os("ROUTER_EVAL_FILE").map_or(beside, PathBuf::from)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_real_webhook_is_classified_recorded_and_delivered_once() {
    let Ok(text) = std::fs::read_to_string(file()) else {
        eprintln!(
            "SKIPPED real-payloads: there is no {}; ROUTER_EVAL_FILE may name it",
            file().display()
        );
        return;
    };
    let Some(world) = World::start("real-payloads", WorldSettings::default()).await else {
        return;
    };
    let receiver = Receiver::start().await;
    let destination = world.destination("app", &receiver.url(), &[]);
    world.route("all", &destination, &[]);
    world.send("{}").await;

    let client = reqwest::Client::new();
    let url = format!("{}/webhooks", world.edge_url);
    // Line numbers and bodies by event id.
    let mut sent: HashMap<String, (usize, String)> = HashMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let Ok(line) = serde_json::from_str::<Line>(line) else {
            panic!("line {number} is no webhook");
        };
        let request = client.post(&url).headers(line.headers());
        let request = request.header("x-api-key", &world.key);
        let answer = request.body(line.body.clone()).send().await.unwrap();
        assert_eq!(answer.status(), 202, "line {number}");
        let answer: Value = answer.json().await.unwrap();
        let id = answer["id"].as_str().unwrap().to_owned();
        sent.insert(id, (number, line.body));
    }
    assert!(!sent.is_empty(), "the file is empty");

    eventually("every delivery", PATIENCE, async || {
        let arrivals = receiver.arrivals();
        sent.keys()
            .all(|id| arrivals.contains_key(id))
            .then_some(())
    })
    .await;
    world.balances(PATIENCE).await;
    let arrivals = receiver.arrivals();
    for (id, (number, _)) in &sent {
        assert_eq!(arrivals[id].len(), 1, "line {number} came more than once");
    }

    let pool = world.database().await;
    let query = "select l.event_id::text as id, l.body,
            exists (select from processed_results p where p.event_id = l.event_id
                and p.category is not null and p.result is not null) as processed,
            exists (select from delivery_logs d where d.event_id = l.event_id
                and d.state = 'delivered') as delivered
        from ingestion.logs l";
    let rows = sqlx::query(query).fetch_all(&pool).await.unwrap();
    let mut recorded = 0;
    for row in rows {
        // The first webhook of this test is none of the file's.
        let Some((number, body)) = sent.get(&row.get::<String, _>("id")) else {
            continue;
        };
        recorded += 1;
        assert!(
            row.get::<Vec<u8>, _>("body") == body.as_bytes(),
            "line {number} is stored otherwise than it was sent"
        );
        assert!(
            row.get::<bool, _>("processed"),
            "line {number} has no category or no result"
        );
        assert!(
            row.get::<bool, _>("delivered"),
            "line {number} has no row of its delivery"
        );
    }
    assert_eq!(recorded, sent.len(), "rows of webhooks that were accepted");
}
