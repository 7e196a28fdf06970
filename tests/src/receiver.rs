//! A destination under the test's control: it records what it gets, and misbehaves as told.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use ring::hmac;
use router_runtime::now_ms;
use router_schemas::EventId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the receiver does with a request.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// Answers with this status.
    Status(u16),
    /// Answers 503 to a delivery that comes for the first time, and 200 to its retries.
    FirstFails,
    /// Answers 503 with `Retry-After` in seconds.
    RetryAfter(u32),
    /// Answers 307 to this place.
    Redirect(String),
    /// Takes the request and never answers.
    Hang,
    /// Takes the request and resets the connection.
    Reset,
    /// Answers 200 with this many bytes of body.
    Huge(u64),
    /// Answers 200 and begins a body that never ends.
    Endless,
}

impl Behaviour {
    /// What it comes to for this request.
    fn now(self, received: &Received, before: &[Received]) -> Self {
        let again = || before.iter().any(|one| one.id() == received.id());
        match self {
            Self::FirstFails if again() => Self::Status(200),
            Self::FirstFails => Self::Status(503),
            other => other,
        }
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub at: Instant,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

/// An event's arrival, without what it brought.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub delivery: String,
    pub at: Instant,
    /// Since the edge gave the event its id.
    pub waited: Duration,
}

impl Received {
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|(n, value)| (n == name).then_some(value.as_str()))
    }

    /// The delivery id.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn id(&self) -> String {
        self.header("webhook-id")
            .expect("every delivery has an id")
            .to_owned()
    }

    /// # Panics
    /// The body is not JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a result is JSON")
    }

    /// Whether the signature is one that `secret` (`whsec_...`) makes, by the Standard Webhooks text.
    #[must_use]
    pub fn signed_with(&self, secret: &str) -> bool {
        let key = secret
            .strip_prefix("whsec_")
            .and_then(|key| STANDARD.decode(key).ok());
        let (Some(key), Some(id), Some(at), Some(signatures)) = (
            key,
            self.header("webhook-id"),
            self.header("webhook-timestamp"),
            self.header("webhook-signature"),
        ) else {
            return false;
        };
        let mut message = format!("{id}.{at}.").into_bytes();
        message.extend_from_slice(&self.body);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        signatures
            .split(' ')
            .filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok())
            .any(|signature| hmac::verify(&key, &message, &signature).is_ok())
    }

    /// The event, where the body is a result.
    fn arrival(&self) -> Option<(String, Arrival)> {
        // The id is the first field of a result; reading no further keeps many deliveries cheap.
        let event = std::str::from_utf8(self.body.get(7..43)?).ok()?;
        let accepted_ms = event.parse::<EventId>().ok()?.received_at_ms().ok()?;
        let waited_ms = u64::try_from(self.at_ms - accepted_ms).unwrap_or(0);
        let arrival = Arrival {
            delivery: self.id(),
            at: self.at,
            waited: Duration::from_millis(waited_ms),
        };
        Some((event.to_owned(), arrival))
    }
}

#[derive(Debug)]
struct State {
    connections: AtomicUsize,
    received: Mutex<Vec<Received>>,
    /// What is done with the next requests; afterwards `then`.
    first: Mutex<VecDeque<Behaviour>>,
    then: Mutex<Behaviour>,
}

/// Listens until it is dropped.
pub struct Receiver {
    pub address: SocketAddr,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// Answers 200.
    pub async fn start() -> Self {
        Self::with(Behaviour::Status(200)).await
    }

    /// Does this with every request.
    pub async fn with(behaviour: Behaviour) -> Self {
        Self::at("127.0.0.1:0", behaviour).await
    }

    /// As [`Receiver::with`], listening elsewhere.
    ///
    /// # Panics
    /// The place is not to be had.
    pub async fn at(place: &str, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(place).await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let state = Arc::new(State {
            connections: AtomicUsize::new(0),
            received: Mutex::default(),
            first: Mutex::default(),
            then: Mutex::new(behaviour),
        });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                stream.set_nodelay(true).ok();
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            state,
            task,
        }
    }

    /// Does these with the next requests, one each, before all others.
    pub fn first(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.state
            .first
            .lock()
            .expect("no panic holds it")
            .extend(behaviours);
    }

    /// Does this from now on.
    pub fn then(&self, behaviour: Behaviour) {
        *self.state.then.lock().expect("no panic holds it") = behaviour;
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.state
            .received
            .lock()
            .expect("no panic holds it")
            .clone()
    }

    /// Arrivals in their order by event id, of bodies that are results.
    #[must_use]
    pub fn arrivals(&self) -> HashMap<String, Vec<Arrival>> {
        let mut found: HashMap<String, Vec<Arrival>> = HashMap::new();
        let received = self.state.received.lock().expect("no panic holds it");
        for (event, arrival) in received.iter().filter_map(Received::arrival) {
            found.entry(event).or_default().push(arrival);
        }
        found
    }

    /// When each event that came more than once had come first.
    #[must_use]
    pub fn repeated(&self) -> Vec<Instant> {
        let arrivals = self.arrivals();
        let repeated = arrivals.values().filter(|all| all.len() > 1);
        repeated.map(|all| all[0].at).collect()
    }

    /// The longest that an event took from the edge to its first arrival, of those that arrived since then.
    #[must_use]
    pub fn longest_wait(&self, since: Instant) -> Duration {
        let arrivals = self.arrivals();
        let first = arrivals.values().map(|all| &all[0]);
        let waited = first
            .filter(|first| first.at >= since)
            .map(|first| first.waited);
        waited.max().unwrap_or_default()
    }

    /// The longest time in which nothing arrived, from the first request to the last.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        let received = self.state.received.lock().expect("no panic holds it");
        let gaps = received
            .windows(2)
            .map(|pair| pair[1].at.saturating_duration_since(pair[0].at));
        gaps.max().unwrap_or_default()
    }

    /// How often somebody has connected.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.state.received.lock().expect("no panic holds it").len()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// HTTP/1.1 by hand: a server that is made for misbehaving needs the socket itself.
async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let mut buffer = Vec::new();
    while let Some(received) = request(&mut stream, &mut buffer).await {
        let behaviour = {
            let first = state.first.lock().expect("no panic holds it").pop_front();
            first.unwrap_or_else(|| state.then.lock().expect("no panic holds it").clone())
        };
        let behaviour = {
            let mut all = state.received.lock().expect("no panic holds it");
            let behaviour = behaviour.now(&received, &all);
            all.push(received);
            behaviour
        };
        if !answer(&mut stream, behaviour).await {
            return;
        }
    }
}

/// Reads one request; none at the end of the connection.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let headers: Vec<(String, String)> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0);
    let end = head_end + 4 + length;
    while buffer.len() < end {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = Bytes::copy_from_slice(&buffer[head_end + 4..end]);
    buffer.drain(..end);
    Some(Received {
        headers,
        body,
        at: Instant::now(),
        at_ms: now_ms(),
    })
}

/// Answers; false where the connection is over.
async fn answer(stream: &mut TcpStream, behaviour: Behaviour) -> bool {
    let (status, header, body_bytes) = match behaviour {
        Behaviour::Status(status) => (status, String::new(), 0),
        Behaviour::FirstFails => (503, String::new(), 0),
        Behaviour::RetryAfter(seconds) => (503, format!("retry-after: {seconds}\r\n"), 0),
        Behaviour::Redirect(to) => (307, format!("location: {to}\r\n"), 0),
        Behaviour::Hang => {
            // Until the other side gives up.
            let mut rest = [0; 64];
            while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
            return false;
        }
        Behaviour::Reset => {
            stream.set_zero_linger().ok();
            return false;
        }
        Behaviour::Huge(bytes) => (200, String::new(), bytes),
        Behaviour::Endless => (200, String::new(), 1 << 40),
    };
    let head = format!("HTTP/1.1 {status} X\r\n{header}content-length: {body_bytes}\r\n\r\n");
    if stream.write_all(head.as_bytes()).await.is_err() {
        return false;
    }
    let mut left = body_bytes;
    let chunk = vec![b'x'; 16 * 1_024];
    while left > 0 {
        let part = usize::try_from(left)
            .unwrap_or(chunk.len())
            .min(chunk.len());
        if stream.write_all(&chunk[..part]).await.is_err() {
            return false;
        }
        left -= part as u64;
        if body_bytes == 1 << 40 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    true
}
