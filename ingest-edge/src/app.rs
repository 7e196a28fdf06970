//! The routes, and the way of one webhook through the three steps: prepare, enqueue, await.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header},
    response::IntoResponse,
};
use bytes::Bytes;
use router_runtime::{
    config_view::ConfigPosition,
    lifecycle::{Readiness, ReadinessPart},
};
use router_schemas::EventId;

use crate::{
    access::{Access, Sender},
    body::{self, InFlight},
    intake::Intake,
    problem::Problem,
    record,
    settings::EdgeSettings,
};

/// What all requests of one serving thread share.
pub struct App {
    pub settings: Arc<EdgeSettings>,
    pub access: Arc<Access>,
    pub config_ready: ReadinessPart,
    pub config_position: ConfigPosition,
    pub in_flight: Arc<InFlight>,
    pub intake: Intake,
    pub meters: Meters,
}

/// Handles of the edge's metrics, resolved once.
#[derive(Clone)]
pub struct Meters {
    accepted: metrics::Counter,
    accepted_bytes: metrics::Counter,
    answer_seconds: metrics::Histogram,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            accepted: metrics::counter!("router_ingest_requests_total", "outcome" => "accepted"),
            accepted_bytes: metrics::counter!("router_ingest_body_bytes_total"),
            answer_seconds: metrics::histogram!("router_ingest_answer_seconds"),
        }
    }
}

/// The public routes; with the admin routes where these have no listener of their own.
pub fn router(app: Arc<App>, admin: Option<Readiness>) -> Router {
    let router = Router::new().fallback(handle).with_state(app);
    match admin {
        Some(readiness) => router.merge(router_runtime::admin::routes(readiness)),
        None => router,
    }
}

/// One fallback instead of routes: a token in a path must never reach a router's error or a log.
async fn handle(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let started = Instant::now();
    match accept(&app, request).await {
        Ok(event_id) => {
            app.meters.accepted.increment(1);
            app.meters
                .answer_seconds
                .record(started.elapsed().as_secs_f64());
            accepted(event_id)
        }
        Err(problem) => {
            let outcome = problem.name();
            metrics::counter!("router_ingest_requests_total", "outcome" => outcome).increment(1);
            if problem.status().is_server_error() {
                tracing::error!(outcome, "webhook not accepted: {problem}");
            } else {
                tracing::debug!(outcome, "webhook refused: {problem}");
            }
            problem.into_response()
        }
    }
}

async fn accept(app: &App, request: Request) -> Result<EventId, Problem> {
    let mut share = app.in_flight.enter()?;
    let (parts, body) = request.into_parts();
    let limit_bytes = app.settings.header_limit_bytes;
    if record::header_bytes(&parts.headers) > limit_bytes {
        return Err(Problem::HeadersTooLarge { limit_bytes });
    }
    let sender = authenticate(app, &parts.method, parts.uri.path(), &parts.headers)?;
    let body = body::read(
        body,
        announced_bytes(&parts.headers),
        parts.headers.contains_key(header::EXPECT),
        app.settings.body_limit_bytes,
        app.settings.body_timeout,
        &mut share,
    )
    .await?;
    let meta = record::meta(&parts, sender, app.config_position.current());
    app.meters.accepted_bytes.increment(body.len() as u64);
    let acknowledgement = app.intake.enqueue(&meta, body)?;
    acknowledgement.wait().await?;
    Ok(meta.event_id)
}

fn authenticate(
    app: &App,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Result<Sender, Problem> {
    let token = path
        .strip_prefix("/in/")
        .filter(|token| !token.is_empty() && !token.contains('/'));
    if token.is_none() && path != "/webhooks" {
        return Err(Problem::NotFound);
    }
    if method != Method::POST {
        return Err(Problem::MethodNotAllowed);
    }
    // An unfinished view knows neither who may nor who may no longer: both answers would be guesses.
    if !app.config_ready.get() {
        return Err(Problem::NotReady);
    }
    match token {
        Some(token) => app.access.by_token(token.as_bytes()),
        None => app.access.by_key(key(headers).ok_or(Problem::KeyMissing)?),
    }
}

/// The key from `x-api-key`, else from `Authorization: Bearer`.
fn key(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = headers.get("x-api-key") {
        return Some(key.as_bytes().trim_ascii());
    }
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| key.trim_ascii())
}

fn announced_bytes(headers: &HeaderMap) -> Option<usize> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn accepted(event_id: EventId) -> Response<Body> {
    let mut json = Vec::with_capacity(45);
    let mut id = uuid::Uuid::encode_buffer();
    json.extend_from_slice(b"{\"id\":\"");
    json.extend_from_slice(event_id.0.hyphenated().encode_lower(&mut id).as_bytes());
    json.extend_from_slice(b"\"}");
    let mut response = Response::new(Body::from(Bytes::from(json)));
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
