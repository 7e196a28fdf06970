//! Settings from environment variables, with errors that name the variable.

use std::{fmt::Display, str::FromStr};

use anyhow::{Context, anyhow};

/// The variable's text; absent and empty are the same.
#[must_use]
pub fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The variable read as `T`, or `default` where it is not set.
///
/// # Errors
/// The variable is set and cannot be read as `T`.
pub fn or<T>(name: &str, default: T) -> anyhow::Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    match text(name) {
        None => Ok(default),
        Some(value) => value
            .parse()
            .map_err(|error| anyhow!("{name}={value:?}: {error}")),
    }
}

/// The variable's text.
///
/// # Errors
/// The variable is not set; `what` says what it is for.
pub fn required(name: &str, what: &str) -> anyhow::Result<String> {
    text(name).with_context(|| format!("{name} is not set: {what}"))
}
