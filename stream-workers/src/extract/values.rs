//! Money, times and lines, as they stand in webhooks.

use jiff::Timestamp;
use router_schemas::processed::{Amount, ExtractedResult};
use serde_json::Value;

/// Longest text of a result, in characters.
pub(super) const MAX_LINE_CHARS: usize = 200;

/// Currencies without two digits after the point (ISO 4217).
const NO_DIGITS: [&str; 17] = [
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND",
    "VUV", "XAF", "XOF", "XPF",
];
const THREE_DIGITS: [&str; 7] = ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];

/// One line: white space and control characters become single spaces, and what is too long is cut.
pub(super) fn line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(4 * MAX_LINE_CHARS));
    let mut chars = 0;
    // Far more than can be kept need not be looked at.
    let end = text.floor_char_boundary(16 * MAX_LINE_CHARS);
    for word in text[..end]
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
    {
        if chars > 0 {
            line.push(' ');
            chars += 1;
        }
        line.push_str(word);
        chars += word.chars().count();
        if chars > MAX_LINE_CHARS {
            let cut = line
                .char_indices()
                .nth(MAX_LINE_CHARS - 1)
                .map_or(line.len(), |(at, _)| at);
            line.truncate(cut);
            line.push('…');
            return line;
        }
    }
    line
}

/// Seconds or milliseconds since 1970, or a date and time with an offset, as RFC 3339 in UTC.
pub(super) fn time(value: &Value) -> Option<String> {
    let timestamp = match value {
        Value::String(text) => text
            .parse()
            .ok()
            .or_else(|| number_of_time(text.parse().ok()?))?,
        Value::Number(number) => number_of_time(number.as_f64()?)?,
        _ => return None,
    };
    plausible(timestamp).then(|| timestamp.to_string())
}

fn number_of_time(number: f64) -> Option<Timestamp> {
    // Seconds reach this number in the year 5138, milliseconds reached it in 1973.
    let ms = if number > 1e11 { number } else { number * 1e3 };
    Timestamp::from_millisecond(ms as i64).ok()
}

/// Other numbers that look like a time are none.
fn plausible(timestamp: Timestamp) -> bool {
    (1..8_000_000_000).contains(&timestamp.as_second())
}

/// An amount in the currency's smallest unit.
pub(super) fn minor(value: &Value, currency: &str) -> Option<Amount> {
    let (currency, exponent) = known_currency(currency)?;
    let minor_units = match value {
        Value::Number(number) => number.as_i64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    Some(Amount {
        minor_units,
        currency,
        exponent,
    })
}

/// An amount with a decimal point. Exact: never through a float.
pub(super) fn major(value: &Value, currency: &str) -> Option<Amount> {
    let (currency, exponent) = known_currency(currency)?;
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits = usize::from(exponent);
    // More digits than the currency has are allowed where they are zeros.
    let (kept, beyond) = fraction.split_at_checked(digits).unwrap_or((fraction, ""));
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = whole.strip_prefix('-').unwrap_or(whole);
    if unsigned.is_empty()
        || !number(unsigned)
        || !number(kept)
        || beyond.bytes().any(|b| b != b'0')
    {
        return None;
    }
    let minor_units = format!("{whole}{kept:0<digits$}").parse().ok()?;
    Some(Amount {
        minor_units,
        currency,
        exponent,
    })
}

fn known_currency(code: &str) -> Option<(String, u8)> {
    if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    let code = code.to_ascii_uppercase();
    let exponent = match code.as_str() {
        code if NO_DIGITS.contains(&code) => 0,
        code if THREE_DIGITS.contains(&code) => 3,
        _ => 2,
    };
    Some((code, exponent))
}

/// `12.50 EUR`.
pub(super) fn money(amount: &Amount) -> String {
    let Amount {
        minor_units,
        currency,
        exponent,
    } = amount;
    let sign = if *minor_units < 0 { "-" } else { "" };
    let unit = 10_u64.pow(u32::from(*exponent));
    let (whole, fraction) = (
        minor_units.unsigned_abs() / unit,
        minor_units.unsigned_abs() % unit,
    );
    match exponent {
        0 => format!("{sign}{whole} {currency}"),
        digits => format!(
            "{sign}{whole}.{fraction:0>width$} {currency}",
            width = usize::from(*digits)
        ),
    }
}

/// A line to read where nothing better is known.
pub(super) fn summary(result: &ExtractedResult, text: &str) -> String {
    let what = match (&result.provider, &result.event_type) {
        (Some(provider), Some(event_type)) => format!("{provider} {event_type}"),
        (Some(known), None) | (None, Some(known)) => known.clone(),
        (None, None) => "webhook".to_owned(),
    };
    let about = result
        .subject
        .clone()
        .or_else(|| result.amount.as_ref().map(money));
    // A body that is no document is its own summary.
    let plain = || (!text.trim_start().starts_with(['{', '[', '<'])).then(|| line(text));
    match about.or_else(plain).filter(|about| !about.is_empty()) {
        Some(about) => line(&format!("{what}: {about}")),
        None => line(&what),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn money_is_exact_or_absent() {
        let units = |value: Value, currency: &str| major(&value, currency).map(|a| a.minor_units);
        assert_eq!(units(json!("0.1"), "usd"), Some(10));
        assert_eq!(units(json!(19.99), "EUR"), Some(1999));
        assert_eq!(units(json!("-5"), "EUR"), Some(-500));
        assert_eq!(units(json!("10.000"), "EUR"), Some(1000));
        assert_eq!(units(json!("1.234"), "KWD"), Some(1234));
        for bad in [
            json!("10.005"),
            json!("1,50"),
            json!("abc"),
            json!(null),
            json!(""),
        ] {
            assert_eq!(units(bad.clone(), "EUR"), None, "{bad}");
        }
        assert_eq!(units(json!("1"), "euro"), None);
        assert_eq!(money(&minor(&json!(-1205), "eur").unwrap()), "-12.05 EUR");
        assert_eq!(money(&minor(&json!(500), "jpy").unwrap()), "500 JPY");
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time(&json!(1_780_000_000)).unwrap(), "2026-05-28T20:26:40Z");
        assert_eq!(time(&json!("1780000000")).unwrap(), "2026-05-28T20:26:40Z");
        assert_eq!(
            time(&json!("2026-01-01T00:00:00+02:00")).unwrap(),
            "2025-12-31T22:00:00Z"
        );
        assert_eq!(time(&json!(0)), None);
        assert_eq!(time(&json!("tomorrow")), None);
    }

    #[test]
    fn a_line_is_one_line_and_bounded() {
        assert_eq!(line(" a\n\tb\u{0}c "), "a b c");
        assert_eq!(line(&"x".repeat(5_000)).chars().count(), MAX_LINE_CHARS);
    }
}
