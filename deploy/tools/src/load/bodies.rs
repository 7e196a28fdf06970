//! Bodies and headers of the benchmarks: JSON of 1 to 4 KB in the shape that forges, shops, payment
//! services and monitors send, with a dozen request headers. Made from a fixed seed, so that every run and
//! every server gets the same bytes. No model is trained on them and no claim of accuracy rests on them.

use serde_json::{Value, json};

/// Field at the very end of a body that carries the time of sending; see [`stamp`].
pub const SENT_FIELD: &str = "\"bench_sent_us\":";
/// Digits of a time in microseconds since 1970, until the year 2286.
pub const STAMP_DIGITS: usize = 16;

/// One webhook as it is sent.
#[derive(Debug, Clone)]
pub struct Sample {
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// A small deterministic generator (xorshift64*), enough to vary bodies.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number from 0 to `bound` - 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }

    fn hex(&mut self, digits: usize) -> String {
        let mut text = String::with_capacity(digits + 16);
        while text.len() < digits {
            text.push_str(&format!("{:016x}", self.roll()));
        }
        text.truncate(digits);
        text
    }

    fn sentence(&mut self, words: usize) -> String {
        const WORDS: [&str; 24] = [
            "the", "payment", "service", "returns", "an", "empty", "page", "after", "login",
            "when", "cache", "is", "cold", "retry", "with", "larger", "timeout", "fixes", "orders",
            "in", "europe", "since", "last", "release",
        ];
        let words: Vec<&str> = (0..words).map(|_| self.pick(&WORDS)).collect();
        words.join(" ")
    }
}

/// `count` samples; the same for the same arguments.
#[must_use]
pub fn samples(count: usize, seed: u64) -> Vec<Sample> {
    let mut dice = Dice::new(seed);
    (0..count).map(|index| sample(index, &mut dice)).collect()
}

fn sample(index: usize, dice: &mut Dice) -> Sample {
    let (agent, event_header, event, body) = match index % 5 {
        0 => push(dice),
        1 => charge(dice),
        2 => order(dice),
        3 => alert(dice),
        _ => ticket(dice),
    };
    let headers = vec![
        ("user-agent", agent.to_owned()),
        ("accept", "*/*".to_owned()),
        ("accept-encoding", "gzip".to_owned()),
        (event_header, event.to_owned()),
        ("x-request-id", dice.hex(32)),
        ("x-hook-id", dice.below(1 << 32).to_string()),
        ("x-hook-delivery", uuid_like(dice)),
        ("x-hook-signature", format!("sha256={}", dice.hex(64))),
        (
            "x-forwarded-for",
            format!("192.0.2.{}", dice.below(250) + 1),
        ),
        ("x-forwarded-proto", "https".to_owned()),
        ("content-type", "application/json".to_owned()),
    ];
    Sample {
        headers,
        body: sized(body, dice),
    }
}

/// Brings a body to between 1 and 4 KB and puts the time field at its end.
fn sized(mut body: Value, dice: &mut Dice) -> Vec<u8> {
    const AROUND_FIELD: usize = 1 + SENT_FIELD.len() + STAMP_DIGITS;
    let target = 1_024 + dice.below(3_072 - 64) as usize;
    let object = body.as_object_mut().expect("every shape is an object");
    let mut entries = Vec::new();
    let mut size = serde_json::to_string(object).map_or(0, |text| text.len()) + AROUND_FIELD;
    while size < target {
        let entry = json!({
            "id": dice.below(1 << 40), "label": dice.sentence(3), "state": dice.pick(&["open", "done", "late"]),
            "note": dice.sentence(8), "ratio": dice.below(1_000) as f64 / 8.0, "seen": dice.below(2) == 0,
        });
        size += entry.to_string().len() + 1;
        entries.push(entry);
    }
    object.insert("related".to_owned(), Value::Array(entries));
    let mut bytes = serde_json::to_vec(object).expect("a JSON value is always written");
    bytes.pop();
    bytes.push(b',');
    bytes.extend_from_slice(SENT_FIELD.as_bytes());
    bytes.extend_from_slice(&[b'1'; STAMP_DIGITS]);
    bytes.push(b'}');
    bytes
}

/// Writes the time of sending into a body (or a request that ends with one) made by [`samples`].
pub fn stamp(message: &mut [u8], sent_us: u64) {
    let end = message.len() - 1;
    let mut rest = sent_us;
    for digit in message[end - STAMP_DIGITS..end].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// The time of sending, where a body carries one: raw, or as the payload at the end of a result.
#[must_use]
pub fn read_stamp(body: &[u8]) -> Option<u64> {
    let tail = &body[body.len().saturating_sub(96)..];
    let field = SENT_FIELD.as_bytes();
    let at = tail
        .windows(field.len())
        .rposition(|window| window == field)?;
    let digits = tail.get(at + field.len()..at + field.len() + STAMP_DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

type Shape = (&'static str, &'static str, &'static str, Value);

fn push(dice: &mut Dice) -> Shape {
    let repository = format!(
        "{}-{}",
        dice.pick(&["shop", "ledger", "mobile"]),
        dice.below(90)
    );
    let commits: Vec<Value> = (0..=dice.below(2)).map(|_| json!({
        "id": dice.hex(40), "message": dice.sentence(6), "timestamp": "2026-11-20T09:12:44Z",
        "author": {"name": "Robin Vale", "email": "robin@example.org"}, "modified": ["src/cart.rs"],
    })).collect();
    let body = json!({
        "ref": "refs/heads/main", "before": dice.hex(40), "after": dice.hex(40), "forced": false,
        "repository": {"id": dice.below(1 << 30), "full_name": format!("example/{repository}"),
            "html_url": format!("https://forge.example.org/example/{repository}"), "default_branch": "main"},
        "pusher": {"name": "robin"}, "sender": {"login": "robin", "type": "User"}, "commits": commits,
    });
    ("GitHub-Hookshot/044aadd", "x-github-event", "push", body)
}

fn charge(dice: &mut Dice) -> Shape {
    let kind = dice.pick(&["charge.succeeded", "charge.refunded", "invoice.paid"]);
    let body = json!({
        "id": format!("evt_{}", dice.hex(24)), "object": "event", "api_version": "2026-06-30",
        "created": 1_795_000_000 + dice.below(1_000_000), "type": kind, "livemode": false,
        "data": {"object": {"id": format!("ch_{}", dice.hex(24)), "object": "charge",
            "amount": dice.below(90_000) + 100, "currency": dice.pick(&["eur", "usd", "gbp"]),
            "customer": format!("cus_{}", dice.hex(14)), "description": dice.sentence(5), "paid": true,
            "billing_details": {"email": "sam@example.com", "name": "Sam Ode"}, "status": "succeeded"}},
    });
    (
        "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        "x-hook-event",
        "charge",
        body,
    )
}

fn order(dice: &mut Dice) -> Shape {
    let items: Vec<Value> = (0..=dice.below(3))
        .map(|_| {
            json!({
                "id": dice.below(1 << 40), "title": dice.sentence(3), "quantity": dice.below(4) + 1,
                "price": format!("{}.{:02}", dice.below(200), dice.below(100)), "sku": dice.hex(8),
            })
        })
        .collect();
    let body = json!({
        "id": dice.below(1 << 42), "email": "kim@example.com", "financial_status": "paid",
        "created_at": "2026-11-20T10:11:12+01:00", "currency": "EUR", "name": format!("#{}", dice.below(9_000)),
        "total_price": format!("{}.{:02}", dice.below(900), dice.below(100)), "line_items": items,
        "shipping_address": {"city": "Ghent", "country_code": "BE", "zip": "9000"},
    });
    (
        "Shopify-Captain-Hook",
        "x-shopify-topic",
        "orders/paid",
        body,
    )
}

fn alert(dice: &mut Dice) -> Shape {
    let host = format!("web-{}", dice.below(64));
    let body = json!({
        "alert_id": dice.below(1 << 40), "title": format!("High error rate on {host}"), "priority": "P2",
        "severity": dice.pick(&["critical", "warning"]), "status": dice.pick(&["triggered", "recovered"]),
        "metric": "http.errors", "value": dice.below(10_000) as f64 / 100.0, "threshold": 5.0, "host": host,
        "tags": ["env:prod", "service:checkout"], "message": dice.sentence(12), "date": 1_795_000_000,
    });
    ("Monitor-Agent/7.1", "x-hook-event", "alert", body)
}

fn ticket(dice: &mut Dice) -> Shape {
    let body = json!({
        "ticket": {"id": dice.below(1 << 24), "subject": dice.sentence(5), "priority": "normal",
            "status": dice.pick(&["new", "open", "solved"]), "description": dice.sentence(20),
            "requester": {"name": "Ana Lund", "email": "ana@example.net"}, "assignee": "support"},
        "event": "ticket.updated", "account": "example", "occurred_at": "2026-11-20T10:11:12Z",
    });
    ("Desk-Webhook/2.0", "x-hook-event", "ticket.updated", body)
}

fn uuid_like(dice: &mut Dice) -> String {
    let hex = dice.hex(32);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_json_of_one_to_four_kb_and_the_same_every_time() {
        let first = samples(200, 7);
        for sample in &first {
            assert!(
                (1_000..=4_300).contains(&sample.body.len()),
                "{}",
                sample.body.len()
            );
            assert!(serde_json::from_slice::<Value>(&sample.body).is_ok());
            assert!(sample.headers.len() >= 10);
        }
        let again = samples(200, 7);
        assert!(first.iter().zip(&again).all(|(a, b)| a.body == b.body));
        assert_ne!(first[0].body, samples(1, 8)[0].body);
    }

    #[test]
    fn a_stamp_is_read_back_from_the_body_and_from_a_result_around_it() {
        let mut body = samples(1, 1)[0].body.clone();
        stamp(&mut body, 1_795_123_456_789_012);
        assert_eq!(read_stamp(&body), Some(1_795_123_456_789_012));
        let mut around = br#"{"id":"x","payload":"#.to_vec();
        around.extend_from_slice(&body);
        around.push(b'}');
        assert_eq!(read_stamp(&around), Some(1_795_123_456_789_012));
        assert_eq!(read_stamp(b"{}"), None);
    }
}
