//! A local webhook receiver: answers at once, or as badly as it is told to, and counts what came.
//!
//! A library type used by `demo` and `bench`, and the command `router-tools receiver`. It checks Standard
//! Webhooks signatures where it is given the secret, and tells first receipts from repeated ones by
//! `webhook-id`, within bounded memory. It stores no bodies.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
    serve::ListenerExt,
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::load::{Histogram, Latency, bodies::read_stamp};

pub mod command;
mod seen;
mod signature;

pub use seen::Receipt;
use seen::SeenIds;
use signature::Verifier;

/// Largest body it takes: above what the router sends (5 MiB of payload as base64 inside a result).
const BODY_LIMIT_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug, Clone)]
pub struct ReceiverSettings {
    pub addr: SocketAddr,
    /// Answer to what is accepted.
    pub status: StatusCode,
    /// How often each `webhook-id` is answered 503 before it is accepted.
    pub fail_first: u32,
    /// Waited before answering.
    pub delay: Duration,
    /// `whsec_...`: a request without a valid signature is answered 401.
    pub secret: Option<String>,
    /// How many ids are told apart at least; older ones may be forgotten.
    pub tracked_ids: usize,
}

impl Default for ReceiverSettings {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            status: StatusCode::OK,
            fail_first: 0,
            delay: Duration::ZERO,
            secret: None,
            tracked_ids: 1_000_000,
        }
    }
}

/// What has come so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReceiverStats {
    pub requests: u64,
    /// Answered with the configured status after all checks.
    pub accepted: u64,
    /// Answered 503 because of `fail_first`.
    pub failed_on_purpose: u64,
    pub bad_signatures: u64,
    /// Without a `webhook-id`.
    pub without_id: u64,
    /// Different ids that were accepted.
    pub distinct_ids: u64,
    /// Accepted again after they had been accepted.
    pub duplicates: u64,
    /// Ids no longer remembered; above 0, `duplicates` may be too low.
    pub forgotten_ids: u64,
    pub body_bytes: u64,
    /// From the time of sending that the body carries, where it carries one.
    pub transit: Option<Transit>,
}

/// How long accepted webhooks had been on their way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Transit {
    pub count: u64,
    #[serde(flatten)]
    pub latency: Latency,
}

/// A running receiver; stops when it is dropped.
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<std::io::Result<()>>,
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    failed_on_purpose: AtomicU64,
    bad_signatures: AtomicU64,
    without_id: AtomicU64,
    accepted: AtomicU64,
    duplicates: AtomicU64,
    distinct_ids: AtomicU64,
    body_bytes: AtomicU64,
}

struct Shared {
    settings: ReceiverSettings,
    verifier: Option<Verifier>,
    counters: Counters,
    seen: Mutex<SeenIds>,
    transit: Mutex<Histogram>,
}

impl Receiver {
    /// Binds and serves in the background.
    ///
    /// # Errors
    /// The address is taken, or the secret is not one.
    pub async fn start(settings: ReceiverSettings) -> anyhow::Result<Self> {
        let verifier = settings.secret.as_deref().map(Verifier::new).transpose()?;
        let listener = TcpListener::bind(settings.addr)
            .await
            .with_context(|| format!("listening on {}", settings.addr))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            seen: Mutex::new(SeenIds::new(settings.tracked_ids)),
            verifier,
            settings,
            counters: Counters::default(),
            transit: Mutex::default(),
        });
        let app = Router::new()
            .route("/stats", get(show_stats))
            .route("/stats/reset", post(reset_stats))
            .fallback(receive)
            .layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES))
            .with_state(Arc::clone(&shared));
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = listener.tap_io(|stream| {
            // An answer must not wait for the next packet; without it the only loss is latency.
            stream.set_nodelay(true).ok();
        });
        let server = tokio::spawn(async move {
            let stopped = async {
                stopped.await.ok();
            };
            axum::serve(listener, app)
                .with_graceful_shutdown(stopped)
                .await
        });
        Ok(Self {
            addr,
            shared,
            stop: Some(stop),
            server,
        })
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    #[must_use]
    pub fn stats(&self) -> ReceiverStats {
        self.shared.stats()
    }

    /// Serves until it fails; ends with the process otherwise.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn run(mut self) -> anyhow::Result<()> {
        (&mut self.server).await?.context("serving")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.take();
        // Connections that a sender keeps open must not keep the listener alive.
        self.server.abort();
    }
}

impl Shared {
    fn stats(&self) -> ReceiverStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let transit = lock(&self.transit);
        ReceiverStats {
            requests: read(&self.counters.requests),
            accepted: read(&self.counters.accepted),
            failed_on_purpose: read(&self.counters.failed_on_purpose),
            bad_signatures: read(&self.counters.bad_signatures),
            without_id: read(&self.counters.without_id),
            distinct_ids: read(&self.counters.distinct_ids),
            duplicates: read(&self.counters.duplicates),
            forgotten_ids: lock(&self.seen).forgotten(),
            body_bytes: read(&self.counters.body_bytes),
            transit: (transit.count() > 0).then(|| Transit {
                count: transit.count(),
                latency: transit.summary(),
            }),
        }
    }

    fn reset(&self) {
        let counters = &self.counters;
        for counter in [
            &counters.requests,
            &counters.failed_on_purpose,
            &counters.bad_signatures,
            &counters.without_id,
            &counters.accepted,
            &counters.duplicates,
            &counters.distinct_ids,
            &counters.body_bytes,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        *lock(&self.transit) = Histogram::default();
    }

    /// The answer to one request, counted.
    fn judge(&self, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        let count = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        count(&self.counters.requests);
        self.counters
            .body_bytes
            .fetch_add(body.len() as u64, Ordering::Relaxed);
        if let Some(verifier) = &self.verifier
            && !verifier.accepts(headers, body, unix_seconds())
        {
            count(&self.counters.bad_signatures);
            return StatusCode::UNAUTHORIZED;
        }
        match headers.get("webhook-id") {
            None => count(&self.counters.without_id),
            Some(id) => match lock(&self.seen).note(id.as_bytes(), self.settings.fail_first) {
                Receipt::FailOnPurpose => {
                    count(&self.counters.failed_on_purpose);
                    return StatusCode::SERVICE_UNAVAILABLE;
                }
                Receipt::First => count(&self.counters.distinct_ids),
                Receipt::Again => count(&self.counters.duplicates),
            },
        }
        count(&self.counters.accepted);
        if let Some(sent_us) = read_stamp(body) {
            lock(&self.transit).record(unix_micros().saturating_sub(sent_us));
        }
        self.settings.status
    }
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let status = shared.judge(&headers, &body);
    if !shared.settings.delay.is_zero() {
        tokio::time::sleep(shared.settings.delay).await;
    }
    status
}

async fn show_stats(State(shared): State<Arc<Shared>>) -> Json<ReceiverStats> {
    Json(shared.stats())
}

async fn reset_stats(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.reset();
    StatusCode::NO_CONTENT
}

/// What is guarded stays usable after a panic elsewhere: counters only.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn unix_seconds() -> i64 {
    i64::try_from(since_1970().as_secs()).unwrap_or(i64::MAX)
}

fn unix_micros() -> u64 {
    u64::try_from(since_1970().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn post(receiver: &Receiver, id: &str) -> u16 {
        let url = format!("http://{}/hook", receiver.addr());
        let request = crate::http::client()
            .expect("client")
            .post(url)
            .header("webhook-id", id)
            .body("{}");
        request.send().await.expect("answers").status().as_u16()
    }

    #[tokio::test]
    async fn each_id_fails_as_often_as_asked_and_is_then_accepted() {
        let settings = ReceiverSettings {
            fail_first: 2,
            ..ReceiverSettings::default()
        };
        let receiver = Receiver::start(settings).await.expect("starts");
        for id in ["a", "b"] {
            assert_eq!(post(&receiver, id).await, 503);
            assert_eq!(post(&receiver, id).await, 503);
            assert_eq!(post(&receiver, id).await, 200);
        }
        assert_eq!(post(&receiver, "a").await, 200);
        let stats = receiver.stats();
        assert_eq!((stats.failed_on_purpose, stats.accepted), (4, 3));
        assert_eq!((stats.distinct_ids, stats.duplicates), (2, 1));
    }

    #[tokio::test]
    async fn an_unsigned_request_is_refused_where_a_secret_is_known() {
        let secret = Some("whsec_c2VjcmV0LW9mLXRoZS1kZW1v".to_owned());
        let settings = ReceiverSettings {
            secret,
            ..ReceiverSettings::default()
        };
        let receiver = Receiver::start(settings).await.expect("starts");
        assert_eq!(post(&receiver, "a").await, 401);
        assert_eq!(receiver.stats().bad_signatures, 1);
        assert_eq!(receiver.stats().accepted, 0);
    }

    #[tokio::test]
    async fn figures_are_served_as_json_and_can_be_set_back() {
        let receiver = Receiver::start(ReceiverSettings::default())
            .await
            .expect("starts");
        post(&receiver, "a").await;
        let url = format!("http://{}/stats", receiver.addr());
        let client = crate::http::client().expect("builds");
        let stats: ReceiverStats = client
            .get(&url)
            .send()
            .await
            .expect("answers")
            .json()
            .await
            .expect("is json");
        assert_eq!((stats.requests, stats.distinct_ids), (1, 1));
        let reset = client.post(format!("{url}/reset")).send().await;
        assert_eq!(reset.expect("answers").status().as_u16(), 204);
        assert_eq!(receiver.stats().requests, 0);
    }
}
