//! Every refusal of the edge, as an RFC 9457 problem document. The only place where a status is chosen.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use serde_json::json;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the API key is missing: send it as x-api-key or as Authorization: Bearer")]
    KeyMissing,
    #[error("the API key is not valid: it is unknown, revoked or expired")]
    KeyInvalid,
    #[error("the API key may not send webhooks, or its source is disabled")]
    Forbidden,
    #[error(
        "there is nothing at this address: webhooks go to POST /webhooks or POST /in/{{token}}"
    )]
    NotFound,
    #[error("only POST is understood here")]
    MethodNotAllowed,
    #[error("the body did not arrive in time")]
    BodyTimeout,
    #[error("the connection broke before the body was complete")]
    BodyBroken,
    #[error("the body is larger than {limit_bytes} bytes")]
    BodyTooLarge { limit_bytes: usize },
    #[error("the headers are larger than {limit_bytes} bytes")]
    HeadersTooLarge { limit_bytes: usize },
    #[error("this key's rate limit is reached")]
    RateLimited { retry_after_s: u64 },
    #[error("the edge has as much in flight as it may; come again shortly")]
    Busy,
    #[error("the edge is starting or stopping; come again shortly")]
    NotReady,
    #[error("the webhook could not be stored; come again shortly")]
    KafkaUnavailable,
    #[error("the webhook can never be stored: kafka refuses a record of this size")]
    KafkaRefused,
}

impl Problem {
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::KeyMissing | Self::KeyInvalid => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge { .. } | Self::KafkaRefused => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadersTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy | Self::NotReady | Self::KafkaUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Short name: the last part of the problem's `type`, and the metric's label.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::KeyMissing => "key-missing",
            Self::KeyInvalid => "key-invalid",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::BodyTimeout => "body-timeout",
            Self::BodyBroken => "body-broken",
            Self::BodyTooLarge { .. } => "body-too-large",
            Self::HeadersTooLarge { .. } => "headers-too-large",
            Self::RateLimited { .. } => "rate-limited",
            Self::Busy => "busy",
            Self::NotReady => "not-ready",
            Self::KafkaUnavailable => "kafka-unavailable",
            Self::KafkaRefused => "kafka-refused",
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_s } => Some(*retry_after_s),
            Self::Busy => Some(1),
            Self::NotReady | Self::KafkaUnavailable => Some(5),
            _ => None,
        }
    }

    /// Whether bytes of the request may still be on their way, so that the connection cannot be used on.
    fn leaves_body_unread(&self) -> bool {
        matches!(
            self,
            Self::BodyTimeout | Self::BodyTooLarge { .. } | Self::BodyBroken
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let status = self.status();
        let document = json!({
            "type": format!("urn:webhook-router:problem:{}", self.name()),
            "title": status.canonical_reason().unwrap_or("error"),
            "status": status.as_u16(),
            "detail": self.to_string(),
        });
        let mut response = Response::new(Body::from(document.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        match self {
            Self::KeyMissing | Self::KeyInvalid => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::MethodNotAllowed => {
                headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            _ => {}
        }
        if self.leaves_body_unread() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
