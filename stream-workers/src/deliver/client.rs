//! One request to a destination: bounded in time and in what is read of the answer, never redirected.

use std::{error::Error, net::IpAddr, time::Duration};

use bytes::Bytes;
use reqwest::{
    Client, Response,
    header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect,
};
use router_runtime::now_ms;
use router_schemas::{Answer, AttemptError, DeliveryId, ErrorClass};

use super::{
    address::{AddressPolicy, AddressRefused, CheckedResolver},
    signature,
    verdict::{Ending, retry_after_ms},
};
use crate::directory::Destination;

/// What is kept of an answer's body.
const KEPT_BYTES: usize = 1_024;
/// What is read of an answer's body so that its connection can be used again. Beyond that, closing the
/// connection is cheaper than reading on.
const READ_BYTES: usize = 64 * 1024;
/// The status is the answer: an answer's body that does not end must not turn a 2xx into a failure.
const BODY_PATIENCE: Duration = Duration::from_secs(2);

/// Posts deliveries.
#[derive(Debug, Clone)]
pub struct Sender {
    client: Client,
    policy: AddressPolicy,
}

/// What is sent.
#[derive(Debug)]
pub struct Message<'a> {
    pub delivery_id: DeliveryId,
    pub body: Bytes,
    pub content_type: Option<&'a str>,
    /// W3C trace context.
    pub trace_parent: String,
}

impl Sender {
    /// # Errors
    /// The TLS roots of the system cannot be read.
    pub fn new(policy: AddressPolicy) -> anyhow::Result<Self> {
        // Another installation of the same provider in this process is as good.
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(std::sync::Arc::new(CheckedResolver(policy.clone())))
            .user_agent(concat!("webhook-router/", env!("CARGO_PKG_VERSION")))
            .pool_idle_timeout(Duration::from_secs(30))
            .tcp_keepalive(Duration::from_secs(60))
            .tcp_nodelay(true)
            .build()?;
        Ok(Self { client, policy })
    }

    /// Makes one attempt. Ends within the destination's timeout and a short patience for the rest of a body.
    pub async fn attempt(&self, destination: &Destination, message: Message<'_>) -> Ending {
        // An address in the URL never reaches the resolver, so it is checked here.
        if let Some(address) = literal_address(&destination.url)
            && !self.policy.allows(address)
        {
            return Ending::Failed(refused(format!("{address} is not allowed")));
        }
        let timeout = Duration::from_millis(u64::from(destination.config.timeout_ms));
        let request = self
            .client
            .post(destination.url.clone())
            .headers(headers(destination, &message))
            .body(message.body);
        match tokio::time::timeout(timeout, request.send()).await {
            Err(_) => Ending::Failed(timed_out(timeout)),
            Ok(Err(error)) => Ending::Failed(describe(&error)),
            Ok(Ok(response)) => answered(response).await,
        }
    }
}

fn literal_address(url: &url::Url) -> Option<IpAddr> {
    match url.host()? {
        url::Host::Ipv4(address) => Some(IpAddr::V4(address)),
        url::Host::Ipv6(address) => Some(IpAddr::V6(address)),
        url::Host::Domain(_) => None,
    }
}

fn headers(destination: &Destination, message: &Message<'_>) -> HeaderMap {
    let id = message.delivery_id.to_string();
    let timestamp_s = now_ms() / 1_000;
    let mut headers = HeaderMap::with_capacity(8);
    let mut put = |name: &'static str, value: &str| {
        // A content type that cannot be a header was none.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("webhook-id", &id);
    put("webhook-timestamp", &timestamp_s.to_string());
    put("traceparent", &message.trace_parent);
    let keys = &destination.signing_keys;
    if let Some(signature) = signature::sign(keys, &id, timestamp_s, &message.body) {
        put("webhook-signature", &signature);
    }
    put(
        "content-type",
        message.content_type.unwrap_or("application/octet-stream"),
    );
    headers
}

async fn answered(mut response: Response) -> Ending {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let retry_after_ms = retry_after.and_then(|value| retry_after_ms(value, now_ms()));
    let mut kept = Vec::new();
    let read = async {
        let mut bytes = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            bytes += chunk.len();
            let room = KEPT_BYTES - kept.len();
            kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if bytes > READ_BYTES {
                break;
            }
        }
    };
    // Whatever happens to the body: the status is what was answered.
    tokio::time::timeout(BODY_PATIENCE, read).await.ok();
    let answer = Answer {
        status,
        body_start: String::from_utf8_lossy(&kept).into_owned(),
    };
    Ending::Answered {
        answer,
        retry_after_ms,
    }
}

fn timed_out(timeout: Duration) -> AttemptError {
    AttemptError {
        class: ErrorClass::Retryable,
        code: "timeout".into(),
        message: format!("no answer within {} ms", timeout.as_millis()),
    }
}

fn refused(message: String) -> AttemptError {
    AttemptError {
        class: ErrorClass::Permanent,
        code: "address_refused".into(),
        message,
    }
}

/// A short code and a message without the URL, which may hold a token.
fn describe(error: &reqwest::Error) -> AttemptError {
    let mut deepest: &dyn Error = error;
    while let Some(source) = deepest.source() {
        if let Some(refusal) = source.downcast_ref::<AddressRefused>() {
            return refused(refusal.to_string());
        }
        deepest = source;
    }
    let text = deepest.to_string();
    let lower = text.to_ascii_lowercase();
    let code = if error.is_timeout() {
        "timeout"
    } else if lower.contains("dns") || lower.contains("lookup") || lower.contains("name or service")
    {
        "dns"
    } else if lower.contains("certificate") || lower.contains("tls") {
        "tls"
    } else if error.is_connect() {
        "connect"
    } else if error.is_builder() {
        "request"
    } else {
        "broken"
    };
    let class = if code == "request" {
        ErrorClass::Permanent
    } else {
        ErrorClass::Retryable
    };
    AttemptError {
        class,
        code: code.into(),
        message: text.chars().take(200).collect(),
    }
}
