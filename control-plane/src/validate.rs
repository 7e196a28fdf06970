//! Rules for what people type: names, addresses, secrets, limits. Pure functions; the tables hold the
//! same limits once more, so that no other writer can break them.

use base64::{Engine, engine::general_purpose::STANDARD};
use router_runtime::crypto;
use url::Url;

/// A value that cannot be taken, and the field it was meant for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Invalid {
    pub field: &'static str,
    pub why: String,
}

impl Invalid {
    pub(crate) fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self {
            field,
            why: why.into(),
        }
    }
}

type Checked<T> = Result<T, Invalid>;

/// Characters in a name at the most.
const NAME_CHARS: usize = 100;
/// Characters in a URL at the most; longer ones are refused by many servers.
const URL_CHARS: usize = 2_048;
/// Characters in a category at the most.
const CATEGORY_CHARS: usize = 64;
/// Length of signing secrets in bytes, from the Standard Webhooks specification ("Signature scheme").
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
pub const SECRET_PREFIX: &str = "whsec_";

/// A name that people give: 1 to 100 visible characters, no spaces at its ends, and not the form of an id,
/// since commands take either.
///
/// # Errors
/// Another form.
pub fn name(text: &str) -> Checked<&str> {
    let why = match text.chars().count() {
        0 => "must not be empty",
        n if n > NAME_CHARS => "is longer than 100 characters",
        _ if text.trim() != text => "must not begin or end with a space",
        _ if text.chars().any(char::is_control) => "holds a control character",
        _ if uuid::Uuid::parse_str(text).is_ok() => {
            "has the form of an id; give it a name that people can tell"
        }
        _ => return Ok(text),
    };
    Err(Invalid::new("name", why))
}

/// Where webhooks may be sent: `http` or `https`, a host, no user information, no fragment.
///
/// Whether the address it resolves to is allowed is decided when it is resolved, by the worker.
///
/// # Errors
/// Another form.
pub fn destination_url(text: &str) -> Checked<String> {
    let refuse = |why: &str| Err(Invalid::new("url", why));
    if text.chars().count() > URL_CHARS {
        return refuse("is longer than 2048 characters");
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            return refuse(&format!(
                "{text:?} is not a URL ({error}); write it like https://example.com/hooks"
            ));
        }
    };
    if !matches!(url.scheme(), "http" | "https") {
        return refuse("must begin with http:// or https://");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return refuse("names no host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("must not hold a user name or password: they would be shown and logged");
    }
    if url.fragment().is_some() {
        return refuse("must not hold a fragment (#...): it is never sent");
    }
    // Escaping may have made it longer than what was typed.
    if url.as_str().len() > URL_CHARS {
        return refuse("is longer than 2048 characters once escaped");
    }
    Ok(url.into())
}

/// A signing secret as Standard Webhooks writes it: `whsec_` and base64 of 24 to 64 bytes.
///
/// # Errors
/// Another form. The secret itself is not repeated in the error.
pub fn secret(text: &str) -> Checked<&str> {
    let refuse = |why: String| Err(Invalid::new("secret", why));
    let Some(encoded) = text.strip_prefix(SECRET_PREFIX) else {
        return refuse("must begin with whsec_".into());
    };
    match STANDARD.decode(encoded) {
        Err(_) => refuse("is not base64 behind whsec_".into()),
        Ok(bytes) if !SECRET_BYTES.contains(&bytes.len()) => refuse(format!(
            "holds {} bytes; 24 to 64 are asked for",
            bytes.len()
        )),
        Ok(_) => Ok(text),
    }
}

/// A new signing secret of 32 bytes.
#[must_use]
pub fn generate_secret() -> String {
    format!(
        "{SECRET_PREFIX}{}",
        STANDARD.encode(crypto::random_bytes::<32>())
    )
}

/// An integer within bounds.
///
/// # Errors
/// It lies outside.
pub fn within<T: PartialOrd + std::fmt::Display + Copy>(
    field: &'static str,
    value: T,
    bounds: std::ops::RangeInclusive<T>,
) -> Checked<T> {
    // A NaN is in no range.
    if bounds.contains(&value) {
        return Ok(value);
    }
    Err(Invalid::new(
        field,
        format!(
            "{value} is not within {} to {}",
            bounds.start(),
            bounds.end()
        ),
    ))
}

/// A category: lower-case letters, digits, `_`, `-`, `.`; open, since models and rules may name others.
///
/// # Errors
/// Another form.
pub fn category(text: &str) -> Checked<&str> {
    let plain =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
    if (1..=CATEGORY_CHARS).contains(&text.len()) && text.chars().all(plain) {
        return Ok(text);
    }
    let known = router_schemas::CATEGORIES.join(", ");
    Err(Invalid::new(
        "category",
        format!("{text:?} is not a category such as {known}"),
    ))
}

/// Name of a model: the directory in which it lies, so nothing that leads out of the model directory.
///
/// # Errors
/// Another form.
pub fn model(text: &str) -> Checked<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=NAME_CHARS).contains(&text.len()) && text.chars().all(plain) && !text.starts_with('.') {
        return Ok(text);
    }
    Err(Invalid::new(
        "model",
        format!(
            "{text:?} is not the name of a model: up to 100 letters, digits, '.', '_' and '-', no '.' at its start"
        ),
    ))
}

/// An e-mail address, as far as it can be told without sending to it.
///
/// # Errors
/// Another form.
pub fn email(text: &str) -> Checked<&str> {
    let whole = match text.rsplit_once('@') {
        Some((local, domain)) => {
            !local.is_empty()
                && domain.contains('.')
                && !domain.starts_with('.')
                && !domain.ends_with('.')
                || domain == "localhost"
        }
        None => false,
    };
    if whole
        && (3..=254).contains(&text.len())
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
    {
        return Ok(text);
    }
    Err(Invalid::new(
        "email",
        format!("{text:?} is not an e-mail address"),
    ))
}

/// A password: 12 characters at least (NIST SP 800-63B asks for 8, and for 15 where nothing else guards),
/// 1024 bytes at most, so that hashing it costs what hashing any other does.
///
/// # Errors
/// Another length. The password is not repeated in the error.
pub fn password(text: &str) -> Checked<&str> {
    if text.chars().count() < 12 {
        return Err(Invalid::new("password", "must have 12 characters or more"));
    }
    if text.len() > 1_024 {
        return Err(Invalid::new("password", "is longer than 1024 bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_visible_and_never_look_like_ids() {
        for good in ["github", "Stripe (live)", "zahlung-é", &"x".repeat(100)] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            " x",
            "x ",
            "a\nb",
            "a\0b",
            &"x".repeat(101),
            "00000000-0000-7000-8000-000000000001",
        ] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_that_could_leak_or_not_be_sent_to_are_refused() {
        assert_eq!(
            destination_url("https://example.com/hooks?a=1").as_deref(),
            Ok("https://example.com/hooks?a=1")
        );
        assert!(
            destination_url("http://127.0.0.1:9000").is_ok(),
            "addresses are checked when resolved"
        );
        let bad = [
            "example.com/hooks",
            "ftp://example.com",
            "file:///etc/passwd",
            "https://user:pass@example.com",
            "https://user@example.com",
            "https://",
            "https://example.com/#x",
            "javascript:alert(1)",
            "",
        ];
        for text in bad {
            assert!(destination_url(text).is_err(), "{text}");
        }
        assert!(destination_url(&format!("https://example.com/{}", "x".repeat(2_048))).is_err());
        assert!(
            destination_url(&format!("https://example.com/{}", "é".repeat(1_000))).is_err(),
            "escaped it is longer"
        );
    }

    #[test]
    fn secrets_have_the_form_of_standard_webhooks() {
        assert!(secret(&generate_secret()).is_ok());
        assert_ne!(generate_secret(), generate_secret());
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        assert!(secret(&of(24)).is_ok() && secret(&of(64)).is_ok());
        for bad in [
            of(23),
            of(65),
            "whsec_".into(),
            "whsec_*".into(),
            STANDARD.encode([7; 32]),
        ] {
            let refused = secret(&bad).expect_err(&bad).to_string();
            assert!(!refused.contains(&bad), "an error never repeats the secret");
        }
    }

    #[test]
    fn limits_hold_at_their_ends_and_a_nan_lies_outside() {
        assert!(
            within("concurrency", 1, 1..=1024).is_ok()
                && within("concurrency", 1024, 1..=1024).is_ok()
        );
        assert!(
            within("concurrency", 0, 1..=1024).is_err()
                && within("concurrency", 1025, 1..=1024).is_err()
        );
        assert!(within("min_confidence", f32::NAN, 0.0..=1.0).is_err());
    }

    #[test]
    fn a_models_name_leads_nowhere_but_into_its_directory() {
        for good in ["builtin", "2026-11-25", "a.b_c", &"x".repeat(100)] {
            assert!(model(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".x",
            "a/b",
            "a\\b",
            "é",
            "a b",
            &"x".repeat(101),
        ] {
            assert!(model(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn categories_and_addresses_of_people_are_checked() {
        assert!(
            router_schemas::CATEGORIES
                .iter()
                .all(|c| category(c).is_ok())
        );
        for bad in ["", "Billing", "a b", "a'b"] {
            assert!(category(bad).is_err(), "{bad}");
        }
        assert!(email("a@example.com").is_ok() && email("root@localhost").is_ok());
        for bad in [
            "",
            "a",
            "@example.com",
            "a@b",
            "a b@example.com",
            "a@.com",
            "a@com.",
        ] {
            assert!(email(bad).is_err(), "{bad}");
        }
        assert!(password("short").is_err() && password("long enough to be one").is_ok());
    }
}
