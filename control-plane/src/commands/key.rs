//! `key create|revoke|list`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Format, Outcome, Session};
use crate::{
    error::CommandError,
    output::{self, Table},
    settings::Settings,
    store::{Wanted, api_keys, api_keys::ApiKey, sources},
};

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Makes a key and prints it once: only its hash is stored
    #[command(after_help = "\
Examples:
  control-plane key create --name local
  control-plane key create --name stripe-live --source stripe --rate 100 --burst 200 --expires 90d

Send with it:
  curl -H 'x-api-key: whr_...' -d '{\"hello\": \"world\"}' http://127.0.0.1:4000/webhooks")]
    Create(Create),
    /// Makes a key useless everywhere, for good
    Revoke(Revoke),
    /// Shows the keys, without the keys themselves
    List(Format),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[arg(long)]
    name: String,
    /// Where webhooks sent with this key belong: a source's name or id
    #[arg(long, default_value = sources::DEFAULT)]
    source: String,
    /// Requests a second, for each edge [default: no limit]
    #[arg(long, value_name = "REQUESTS")]
    rate: Option<f64>,
    /// Requests that may come at once on top of the rate
    #[arg(long, value_name = "REQUESTS", requires = "rate")]
    burst: Option<u32>,
    /// When it stops working: after a while (30m, 12h, 90d) or at a time (2027-01-31T00:00:00Z)
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The key's id or name
    key: String,
    #[command(flatten)]
    format: Format,
}

impl Key {
    pub(super) async fn run(self, settings: &Settings) -> Outcome {
        let session = Session::open(settings)?;
        match self {
            Self::Create(create) => create.run(&session).await,
            Self::Revoke(revoke) => revoke.run(&session).await,
            Self::List(format) => list(&session, format).await,
        }
    }
}

impl Create {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let now_ms = router_runtime::now_ms();
        let expires_at_ms = self
            .expires
            .as_deref()
            .map(|text| expiry(text, now_ms))
            .transpose()?;
        let new = api_keys::NewKey {
            name: self.name,
            source: Wanted::from(self.source.as_str()),
            rate_per_s: self.rate,
            burst: self.burst,
            expires_at_ms,
        };
        let mut change = session.change().await?;
        let (row, key) = api_keys::create(&mut change, new).await?;
        let published = session.publish(change).await;
        // The key exists even where publishing has to wait: it must be shown now or never.
        if self.format.json {
            output::json(
                &json!({ "id": row.id, "key": key, "source_id": row.source_id, "project_id": row.project_id }),
            )?;
        } else {
            output::line(&format!(
                "key {} ({}) sends to source {}",
                row.name, row.id, row.source_name
            ))?;
            output::line(&format!("key (shown once): {key}"))?;
        }
        published
    }
}

impl Revoke {
    async fn run(self, session: &Session<'_>) -> Outcome {
        let mut change = session.change().await?;
        let row = api_keys::revoke(&mut change, &Wanted::from(self.key.as_str())).await?;
        session.publish(change).await?;
        if self.format.json {
            return Ok(output::json(
                &json!({ "id": row.id, "revoked_at_ms": row.revoked_at_ms }),
            )?);
        }
        Ok(output::line(&format!(
            "key {} ({}) is revoked",
            row.name, row.id
        ))?)
    }
}

async fn list(session: &Session<'_>, format: Format) -> Outcome {
    let mut connection = session.pool.acquire().await?;
    let keys = api_keys::list(&mut connection, session.settings.project_id).await?;
    if format.json {
        return Ok(output::json(&keys.iter().map(shown).collect::<Vec<_>>())?);
    }
    let now_ms = router_runtime::now_ms();
    let mut table = Table::new(&["name", "key", "source", "rate/s", "state", "created", "id"]);
    for key in keys {
        let rate = key
            .rate_per_s
            .map_or_else(|| "-".into(), |rate| rate.to_string());
        let state = state(&key, now_ms);
        table.row([
            key.name,
            format!("{}...", key.prefix),
            key.source_name,
            rate,
            state,
            output::time(Some(key.created_at_ms)),
            key.id.to_string(),
        ]);
    }
    Ok(table.print()?)
}

fn state(key: &ApiKey, now_ms: i64) -> String {
    match (key.revoked_at_ms, key.expires_at_ms) {
        (Some(at), _) => format!("revoked {}", output::time(Some(at))),
        (None, Some(at)) if at <= now_ms => format!("expired {}", output::time(Some(at))),
        (None, Some(at)) => format!("until {}", output::time(Some(at))),
        (None, None) => "active".into(),
    }
}

fn shown(key: &ApiKey) -> Value {
    json!({
        "id": key.id, "name": key.name, "prefix": key.prefix, "source_id": key.source_id, "source": key.source_name,
        "scopes": key.scopes, "rate_per_s": key.rate_per_s, "burst": key.burst, "expires_at_ms": key.expires_at_ms,
        "revoked_at_ms": key.revoked_at_ms, "created_at_ms": key.created_at_ms, "last_used_at_ms": key.last_used_at_ms,
    })
}

/// A moment, written as a time or as a while from now.
fn expiry(text: &str, now_ms: i64) -> Result<i64, CommandError> {
    if let Some(while_ms) = duration_ms(text) {
        return Ok(now_ms.saturating_add(while_ms));
    }
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(jiff::Timestamp::as_millisecond).map_err(|_| {
        CommandError::Usage(format!("expires: {text:?} is neither a while such as 12h or 90d nor a time such as 2027-01-31T00:00:00Z"))
    })
}

/// A while such as `12h`.
pub(super) fn duration_ms(text: &str) -> Option<i64> {
    let (number, unit_ms) = match text.split_at_checked(text.len().checked_sub(1)?)? {
        (number, "s") => (number, 1_000),
        (number, "m") => (number, 60_000),
        (number, "h") => (number, 3_600_000),
        (number, "d") => (number, 86_400_000),
        _ => return None,
    };
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        number.parse::<i64>().ok()?.checked_mul(unit_ms)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_while_or_a_time() {
        assert_eq!(expiry("30m", 5).ok(), Some(1_800_005));
        assert_eq!(expiry("90d", 0).ok(), Some(90 * 86_400_000));
        assert_eq!(expiry("1970-01-01T00:00:01Z", 0).ok(), Some(1_000));
        for bad in ["", "d", "-1d", "soon", "90", "99999999999999999999d", "é"] {
            assert!(expiry(bad, 0).is_err(), "{bad:?}");
        }
    }
}
