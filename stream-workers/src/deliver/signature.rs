//! The signature of Standard Webhooks (specification 1.0.0, "Signature scheme"): HMAC-SHA256 over
//! `id.timestamp.body`, one for each secret, so that a receiver can rotate.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;

/// Value of `webhook-signature`, or none where there is no secret.
#[must_use]
pub fn sign(keys: &[hmac::Key], id: &str, timestamp_s: i64, body: &[u8]) -> Option<String> {
    let mut header = String::new();
    for key in keys {
        let mut context = hmac::Context::with_key(key);
        context.update(id.as_bytes());
        context.update(b".");
        context.update(timestamp_s.to_string().as_bytes());
        context.update(b".");
        context.update(body);
        if !header.is_empty() {
            header.push(' ');
        }
        header.push_str("v1,");
        STANDARD.encode_string(context.sign(), &mut header);
    }
    (!header.is_empty()).then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed independently: `printf 'msg_1.1614265330.{"test": 2432232314}' | openssl dgst -sha256
    /// -mac HMAC -macopt hexkey:6b6579 -binary | base64`.
    #[test]
    fn signs_as_an_independent_implementation_does() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        let body = br#"{"test": 2432232314}"#;
        let header = sign(std::slice::from_ref(&key), "msg_1", 1_614_265_330, body);
        assert_eq!(
            header.as_deref(),
            Some("v1,JYEBfyq5bxCpG1AwdnAXovrjhgNdJUQo9x0/izmGveQ=")
        );
        let two = sign(&[key.clone(), key], "msg_1", 1_614_265_330, body).unwrap();
        assert_eq!(two.split(' ').count(), 2);
        assert_eq!(sign(&[], "msg_1", 1, body), None);
    }
}
