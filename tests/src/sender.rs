//! A sender that keeps its pace whatever happens, and remembers what it was promised.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::World;

/// What became of the requests.
#[derive(Debug, Default, Clone)]
pub struct Sent {
    /// Event ids that were answered with 202.
    pub accepted: Vec<String>,
    /// Other answers, by status; 0 stands for none.
    pub refused: std::collections::BTreeMap<u16, u64>,
}

/// Sends webhooks at a steady rate until it is stopped.
pub struct SteadySender {
    sent: Arc<Mutex<Sent>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl SteadySender {
    /// `rate` webhooks a second, each with a number of its own in the body.
    #[must_use]
    pub fn start(world: &World, rate: u32) -> Self {
        Self::with_key(world, rate, &world.key)
    }

    /// As [`SteadySender::start`], with a key of another source.
    #[must_use]
    pub fn with_key(world: &World, rate: u32, key: &str) -> Self {
        let sent = Arc::new(Mutex::new(Sent::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let url = format!("{}/webhooks", world.edge_url);
        let (key, shared, stopping) = (key.to_owned(), Arc::clone(&sent), Arc::clone(&stop));
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(15))
            .build();
        let client = client.expect("a client is made");
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
            let mut requests = tokio::task::JoinSet::new();
            for number in 0_u64.. {
                tick.tick().await;
                if stopping.load(Ordering::Relaxed) {
                    break;
                }
                let body =
                    json!({"type": "invoice.paid", "number": number, "padding": "x".repeat(800)});
                let request = client.post(&url).header("x-api-key", &key).json(&body);
                let shared = Arc::clone(&shared);
                requests.spawn(async move {
                    let (status, id) = match request.send().await {
                        Err(_) => (0, None),
                        Ok(answer) => {
                            let status = answer.status().as_u16();
                            let body: Option<Value> = answer.json().await.ok();
                            (
                                status,
                                body.and_then(|body| body["id"].as_str().map(ToOwned::to_owned)),
                            )
                        }
                    };
                    let mut sent = shared.lock().expect("no panic holds it");
                    match id {
                        Some(id) if status == 202 => sent.accepted.push(id),
                        _ => *sent.refused.entry(status).or_default() += 1,
                    }
                });
                while requests.try_join_next().is_some() {}
            }
            requests.join_all().await;
        });
        Self { sent, stop, task }
    }

    /// How many were accepted so far.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.sent.lock().expect("no panic holds it").accepted.len()
    }

    /// Stops, and waits for the last answers.
    ///
    /// # Panics
    /// The sender itself failed.
    pub async fn stop(self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the sender ends");
        self.sent.lock().expect("no panic holds it").clone()
    }
}
