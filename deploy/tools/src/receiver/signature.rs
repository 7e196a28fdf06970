//! Standard Webhooks signatures (standardwebhooks.com, specification 1.0.0, "Signature scheme"):
//! HMAC-SHA256 over `{id}.{timestamp}.{body}`, base64, prefixed `v1,`, several separated by spaces.

use axum::http::HeaderMap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;

/// How far the sender's clock may be off, as the specification's libraries have it.
const TOLERANCE_S: i64 = 5 * 60;

pub(super) struct Verifier {
    key: hmac::Key,
}

impl Verifier {
    /// # Errors
    /// The secret is not `whsec_` and base64.
    pub(super) fn new(secret: &str) -> anyhow::Result<Self> {
        let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|error| anyhow::anyhow!("the secret is not whsec_ and base64: {error}"))?;
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &bytes),
        })
    }

    /// Whether one of the signatures is ours and the timestamp is of now.
    pub(super) fn accepts(&self, headers: &HeaderMap, body: &[u8], now_s: i64) -> bool {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let (Some(id), Some(timestamp), Some(signatures)) = (
            text("webhook-id"),
            text("webhook-timestamp"),
            text("webhook-signature"),
        ) else {
            return false;
        };
        let Ok(sent_s) = timestamp.parse::<i64>() else {
            return false;
        };
        if now_s.abs_diff(sent_s) > TOLERANCE_S.unsigned_abs() {
            return false;
        }
        let mut signed = format!("{id}.{timestamp}.").into_bytes();
        signed.extend_from_slice(body);
        signatures
            .split(' ')
            .filter_map(|signature| signature.strip_prefix("v1,"))
            .filter_map(|signature| STANDARD.decode(signature).ok())
            .any(|signature| hmac::verify(&self.key, &signed, &signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Example of the specification's reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SENT_S: i64 = 1_614_265_330;

    fn headers(signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            "webhook-id",
            "msg_p5jXN8AQM9LWM0D4loKWxJek".parse().expect("valid"),
        );
        headers.insert(
            "webhook-timestamp",
            SENT_S.to_string().parse().expect("valid"),
        );
        headers.insert("webhook-signature", signature.parse().expect("valid"));
        headers
    }

    #[test]
    fn the_published_example_is_accepted_also_beside_another_signature() {
        let verifier = Verifier::new(SECRET).expect("a secret");
        let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert!(verifier.accepts(&headers(good), BODY, SENT_S));
        let rotated = format!("v1,AAAA {good}");
        assert!(verifier.accepts(&headers(&rotated), BODY, SENT_S));
        assert!(!verifier.accepts(&headers(good), b"{}", SENT_S));
        assert!(!verifier.accepts(&headers(good), BODY, SENT_S + 301));
        assert!(!verifier.accepts(&headers("v1,AAAA"), BODY, SENT_S));
        assert!(!verifier.accepts(&HeaderMap::new(), BODY, SENT_S));
    }
}
