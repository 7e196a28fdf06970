//! The common result of a webhook: provider, event type, who, what, how much, when, and one line to read.
//!
//! - `mapping`: what is known of a provider, as data (`mappings/*.json`).
//! - `template`: the little language of those files.
//! - `generic`: everyone else, by the names that fields commonly have.
//! - `values`: money, times, lines.
//!
//! Pure, and never fails: absent is absent, nothing is guessed.

mod generic;
mod mapping;
mod template;
mod values;

use router_schemas::processed::ExtractedResult;
use serde_json::Value;

use self::mapping::Mapping;
use crate::{body::Body, headers::SenderHeaders};

const MAPPINGS: [&str; 6] = [
    include_str!("mappings/github.json"),
    include_str!("mappings/gitlab.json"),
    include_str!("mappings/pagerduty.json"),
    include_str!("mappings/shopify.json"),
    include_str!("mappings/slack.json"),
    include_str!("mappings/stripe.json"),
];

/// What a template may read.
#[derive(Debug, Clone, Copy)]
struct Input<'a> {
    headers: &'a SenderHeaders<'a>,
    value: &'a Value,
}

/// Extracts results. Made once; cheap to use from several threads.
#[derive(Debug)]
pub struct Extractor {
    mappings: Vec<Mapping>,
}

impl Default for Extractor {
    fn default() -> Self {
        let read = |text| serde_json::from_str(text).expect("a test reads every mapping");
        Self {
            mappings: MAPPINGS.into_iter().map(read).collect(),
        }
    }
}

impl Extractor {
    #[must_use]
    pub fn extract(&self, headers: &SenderHeaders<'_>, body: &Body) -> ExtractedResult {
        let value = body.value().unwrap_or(&Value::Null);
        let input = Input { headers, value };
        let known = self
            .mappings
            .iter()
            .find(|mapping| mapping.recognises(input));
        let mut result = match known {
            Some(mapping) => mapping.apply(input),
            None => generic::extract(input),
        };
        if result.summary.is_empty() {
            // The fields of a document are no sentence; a plain text is its own summary.
            let text = if body.value().is_none() {
                body.text()
            } else {
                None
            };
            result.summary = values::summary(&result, text.unwrap_or_default());
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn extract(headers: &[(&str, &str)], body: &Value) -> ExtractedResult {
        let pairs = headers
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let headers = SenderHeaders::from_pairs(pairs);
        let body = Body::read(Bytes::from(body.to_string()), None, None, 1 << 20);
        Extractor::default().extract(&headers, &body)
    }

    #[test]
    fn github_pull_request() {
        let result = extract(
            &[
                ("x-github-event", "pull_request"),
                ("x-github-delivery", "d-1"),
            ],
            &json!({
                "action": "closed", "number": 7,
                "pull_request": {"title": "Add retries", "merged": true, "state": "closed",
                    "html_url": "https://github.com/o/r/pull/7", "updated_at": "2026-01-02T03:04:05Z"},
                "repository": {"full_name": "o/r"}, "sender": {"login": "ana"}
            }),
        );
        insta::assert_json_snapshot!(result, @r#"
        {
          "provider": "github",
          "event_type": "pull_request.closed",
          "external_id": "d-1",
          "actor": "ana",
          "subject": "Add retries",
          "url": "https://github.com/o/r/pull/7",
          "status": "closed",
          "occurred_at": "2026-01-02T03:04:05Z",
          "summary": "ana closed pull request #7 in o/r: Add retries"
        }
        "#);
    }

    #[test]
    fn stripe_invoice() {
        let result = extract(
            &[("stripe-signature", "t=1,v1=ab")],
            &json!({
                "id": "evt_1", "object": "event", "type": "invoice.payment_failed", "created": 1_780_000_000,
                "data": {"object": {"object": "invoice", "id": "in_9", "amount_due": 1250, "currency": "eur",
                    "customer_email": "c@example.com", "status": "open", "number": "INV-7"}}
            }),
        );
        insta::assert_json_snapshot!(result, @r#"
        {
          "provider": "stripe",
          "event_type": "invoice.payment_failed",
          "external_id": "evt_1",
          "actor": "c@example.com",
          "subject": "INV-7",
          "amount": {
            "minor_units": 1250,
            "currency": "EUR",
            "exponent": 2
          },
          "status": "open",
          "occurred_at": "2026-05-28T20:26:40Z",
          "summary": "invoice payment failed: INV-7, 12.50 EUR (c@example.com)"
        }
        "#);
    }

    #[test]
    fn gitlab_push() {
        let result = extract(
            &[
                ("x-gitlab-event", "Push Hook"),
                ("x-gitlab-event-uuid", "u-1"),
            ],
            &json!({
                "object_kind": "push", "ref": "refs/heads/main", "user_username": "kim",
                "total_commits_count": 3, "after": "abcdef0123",
                "project": {"path_with_namespace": "g/p", "web_url": "https://gitlab.com/g/p"},
                "commits": [{"message": "Fix it\n\nlong", "timestamp": "2026-02-03T04:05:06+02:00"}]
            }),
        );
        insta::assert_json_snapshot!(result, @r#"
        {
          "provider": "gitlab",
          "event_type": "push",
          "external_id": "u-1",
          "actor": "kim",
          "subject": "main",
          "url": "https://gitlab.com/g/p",
          "occurred_at": "2026-02-03T02:05:06Z",
          "summary": "kim pushed 3 commits to main in g/p"
        }
        "#);
    }

    #[test]
    fn slack_message() {
        let result = extract(
            &[("x-slack-signature", "v0=ab")],
            &json!({
                "type": "event_callback", "event_id": "Ev1", "event_time": 1_780_000_000, "team_id": "T1",
                "event": {"type": "message", "user": "U1", "channel": "C1", "text": "deploy   is\ndone"}
            }),
        );
        insta::assert_json_snapshot!(result, @r#"
        {
          "provider": "slack",
          "event_type": "message",
          "external_id": "Ev1",
          "actor": "U1",
          "subject": "C1",
          "occurred_at": "2026-05-28T20:26:40Z",
          "summary": "U1 in C1: deploy is done"
        }
        "#);
    }

    #[test]
    fn shopify_order() {
        let result = extract(
            &[
                ("x-shopify-topic", "orders/create"),
                ("x-shopify-webhook-id", "w-1"),
            ],
            &json!({
                "id": 5, "name": "#1001", "email": "b@example.com", "total_price": "1409.9", "currency": "JPY",
                "financial_status": "paid", "created_at": "2026-03-01T00:00:00-05:00"
            }),
        );
        insta::assert_json_snapshot!(result, @r##"
        {
          "provider": "shopify",
          "event_type": "orders/create",
          "external_id": "w-1",
          "actor": "b@example.com",
          "subject": "#1001",
          "status": "paid",
          "occurred_at": "2026-03-01T05:00:00Z",
          "summary": "orders create: #1001 (b@example.com)"
        }
        "##);
        // There is no tenth of a yen: what cannot be money is absent. In euros it can.
        let result = extract(
            &[("x-shopify-topic", "orders/create")],
            &json!({"id": 5, "name": "#1001", "total_price": "1409.9", "currency": "EUR"}),
        );
        assert_eq!(
            result.amount.map(|amount| amount.minor_units),
            Some(140_990)
        );
    }

    #[test]
    fn pagerduty_incident() {
        let result = extract(
            &[("x-pagerduty-signature", "v1=ab")],
            &json!({"event": {
                "id": "01E", "event_type": "incident.triggered", "resource_type": "incident",
                "occurred_at": "2026-04-05T06:07:08.123Z", "agent": {"summary": "Monitor"},
                "data": {"id": "P1", "title": "Disk full", "status": "triggered", "urgency": "high",
                    "html_url": "https://acme.pagerduty.com/incidents/P1", "service": {"summary": "db"}}
            }}),
        );
        insta::assert_json_snapshot!(result, @r#"
        {
          "provider": "pagerduty",
          "event_type": "incident.triggered",
          "external_id": "01E",
          "actor": "Monitor",
          "subject": "Disk full",
          "url": "https://acme.pagerduty.com/incidents/P1",
          "severity": "high",
          "status": "triggered",
          "occurred_at": "2026-04-05T06:07:08.123Z",
          "summary": "incident triggered on db: Disk full"
        }
        "#);
    }

    #[test]
    fn strangers_are_read_by_common_names() {
        let result = extract(
            &[("x-acme-event", "ticket.opened"), ("user-agent", "Acme/1")],
            &json!({"data": {"id": 17, "title": "Printer\u{0} on fire", "priority": "high",
                "amount": "12.50", "currency": "usd", "user": {"name": "Bo"}},
                "created_at": 1_780_000_000_123_i64}),
        );
        insta::assert_json_snapshot!(result, @r#"
        {
          "provider": "acme",
          "event_type": "ticket.opened",
          "external_id": "17",
          "actor": "Bo",
          "subject": "Printer on fire",
          "amount": {
            "minor_units": 1250,
            "currency": "USD",
            "exponent": 2
          },
          "severity": "high",
          "occurred_at": "2026-05-28T20:26:40.123Z",
          "summary": "acme ticket.opened: Printer on fire"
        }
        "#);
    }

    #[test]
    fn anything_gives_a_summary_in_one_bounded_line() {
        for body in ["", "hello\nworld", "[1,2]", "{\"a\":[[]]}"] {
            let body = Body::read(Bytes::copy_from_slice(body.as_bytes()), None, None, 1 << 20);
            let result = Extractor::default().extract(&SenderHeaders::default(), &body);
            assert!(
                !result.summary.is_empty() && !result.summary.contains('\n'),
                "{result:?}"
            );
        }
        proptest::proptest!(|(text in "\\PC{0,400}")| {
            let result = extract(&[("x-github-event", "push")], &json!({"ref": text, "sender": {"login": text}}));
            assert!(result.summary.chars().count() <= values::MAX_LINE_CHARS);
        });
    }
}
