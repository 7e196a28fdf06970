//! Who may send: API keys and ingest tokens, as `control.config` tells them, and each key's rate limit.
//!
//! Keys and tokens are known by their SHA-256 only, and looked up by it: what an attacker can vary is the
//! hash of a guess, so nothing about a stored key can be learnt from the time of a comparison.

use std::{
    collections::HashMap,
    str::FromStr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use router_runtime::{config_view::View, crypto, now_ms};
use router_schemas::{
    KeyId, ProjectId, SourceId,
    config::{KeyConfig, Kind, SCOPE_INGEST, SourceConfig},
};

use crate::problem::Problem;

/// Whom an accepted webhook belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    pub project_id: ProjectId,
    pub source_id: SourceId,
    pub key_id: Option<KeyId>,
}

type Hash = [u8; 32];

/// Keys and sources in memory.
#[derive(Debug, Default)]
pub struct Access {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    keys: HashMap<Hash, Arc<Key>>,
    key_hashes: HashMap<KeyId, Hash>,
    sources: HashMap<SourceId, SourceConfig>,
    tokens: HashMap<Hash, SourceId>,
}

#[derive(Debug)]
struct Key {
    id: KeyId,
    config: KeyConfig,
    limit: Option<Arc<RateLimit>>,
}

impl Access {
    /// The sender that an API key names.
    ///
    /// # Errors
    /// The key is unknown, revoked, expired or over its limit, may not send, or its source is disabled.
    pub fn by_key(&self, key: &[u8]) -> Result<Sender, Problem> {
        let hash = crypto::sha256(key);
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let key = tables.keys.get(&hash).ok_or(Problem::KeyInvalid)?;
        let config = &key.config;
        let expired = config.expires_at_ms.is_some_and(|at| at <= now_ms());
        if config.disabled || expired {
            return Err(Problem::KeyInvalid);
        }
        let source = tables
            .sources
            .get(&config.source_id)
            .filter(|source| !source.disabled);
        if source.is_none() || !config.scopes.iter().any(|scope| scope == SCOPE_INGEST) {
            return Err(Problem::Forbidden);
        }
        if let Some(limit) = &key.limit {
            limit.admit(Instant::now())?;
        }
        Ok(Sender {
            project_id: config.project_id,
            source_id: config.source_id,
            key_id: Some(key.id),
        })
    }

    /// The source that a token in the path names.
    ///
    /// # Errors
    /// There is no such source, or it is disabled; the two look the same from outside.
    pub fn by_token(&self, token: &[u8]) -> Result<Sender, Problem> {
        let hash = crypto::sha256(token);
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let source_id = *tables.tokens.get(&hash).ok_or(Problem::NotFound)?;
        let source = tables
            .sources
            .get(&source_id)
            .filter(|source| !source.disabled);
        let project_id = source.ok_or(Problem::NotFound)?.project_id;
        Ok(Sender {
            project_id,
            source_id,
            key_id: None,
        })
    }
}

impl View for Access {
    fn apply(&self, kind: &str, id: &str, value: Option<&str>) -> Result<(), String> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        match Kind::parse(kind) {
            Some(Kind::Key) => tables.set_key(parse_id(id)?, parse(value)?),
            Some(Kind::Source) => tables.set_source(parse_id(id)?, parse(value)?),
            _ => Ok(()),
        }
    }
}

impl Tables {
    fn set_key(&mut self, id: KeyId, config: Option<KeyConfig>) -> Result<(), String> {
        let hash = match &config {
            Some(config) => Some(
                crypto::parse_sha256_hex(&config.hash).ok_or("the key's hash is not a SHA-256")?,
            ),
            None => None,
        };
        let old = self
            .key_hashes
            .remove(&id)
            .and_then(|hash| self.keys.remove(&hash));
        let (Some(config), Some(hash)) = (config, hash) else {
            return Ok(());
        };
        // A limit that has not changed keeps its state, or every change of a key would refill its burst.
        let kept = old
            .and_then(|old| old.limit.clone())
            .filter(|limit| limit.is_of(&config));
        let limit = kept.or_else(|| RateLimit::of(&config).map(Arc::new));
        self.key_hashes.insert(id, hash);
        self.keys.insert(hash, Arc::new(Key { id, config, limit }));
        Ok(())
    }

    fn set_source(&mut self, id: SourceId, config: Option<SourceConfig>) -> Result<(), String> {
        let token = match config
            .as_ref()
            .and_then(|config| config.token_hash.as_deref())
        {
            Some(hex) => {
                Some(crypto::parse_sha256_hex(hex).ok_or("the token's hash is not a SHA-256")?)
            }
            None => None,
        };
        self.tokens.retain(|_, source| *source != id);
        match config {
            Some(config) => self.sources.insert(id, config),
            None => self.sources.remove(&id),
        };
        if let Some(token) = token {
            self.tokens.insert(token, id);
        }
        Ok(())
    }
}

fn parse_id<T: FromStr>(id: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    id.parse().map_err(|error| format!("id {id:?}: {error}"))
}

fn parse<T: serde::de::DeserializeOwned>(value: Option<&str>) -> Result<Option<T>, String> {
    value
        .map(serde_json::from_str)
        .transpose()
        .map_err(|error| error.to_string())
}

/// A rate and a burst as one number (the generic cell rate algorithm, ITU-T I.371): when the bucket
/// would be full again. One atomic, no lock, no timer.
#[derive(Debug)]
struct RateLimit {
    rate_per_s: f64,
    burst: u32,
    started: Instant,
    full_again_ns: AtomicU64,
}

impl RateLimit {
    fn of(config: &KeyConfig) -> Option<Self> {
        let rate_per_s = config
            .rate_per_s
            .filter(|rate| rate.is_finite() && *rate > 0.0)?;
        let burst = Self::burst_of(config, rate_per_s);
        let started = Instant::now();
        Some(Self {
            rate_per_s,
            burst,
            started,
            full_again_ns: AtomicU64::new(0),
        })
    }

    /// One second's worth where the key names no burst.
    fn burst_of(config: &KeyConfig, rate_per_s: f64) -> u32 {
        config.burst.unwrap_or(rate_per_s.ceil() as u32).max(1)
    }

    fn is_of(&self, config: &KeyConfig) -> bool {
        config.rate_per_s == Some(self.rate_per_s)
            && Self::burst_of(config, self.rate_per_s) == self.burst
    }

    fn admit(&self, now: Instant) -> Result<(), Problem> {
        let cost_ns = (1e9 / self.rate_per_s) as u64;
        let room_ns = cost_ns.saturating_mul(u64::from(self.burst));
        let now_ns = u64::try_from(now.duration_since(self.started).as_nanos()).unwrap_or(u64::MAX);
        let admitted = self.full_again_ns.fetch_update(
            Ordering::Relaxed,
            Ordering::Relaxed,
            |full_again_ns| {
                let next = full_again_ns.max(now_ns).saturating_add(cost_ns);
                (next - now_ns <= room_ns).then_some(next)
            },
        );
        match admitted {
            Ok(_) => Ok(()),
            Err(full_again_ns) => {
                let wait_ns = (full_again_ns + cost_ns).saturating_sub(now_ns + room_ns);
                Err(Problem::RateLimited {
                    retry_after_s: wait_ns.div_ceil(1_000_000_000).max(1),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const SECRET: &[u8] = b"whr_test";

    struct Fixture {
        access: Access,
        key: KeyId,
        source: SourceId,
    }

    impl Fixture {
        fn new() -> Self {
            let fixture = Self {
                access: Access::default(),
                key: KeyId::generate(),
                source: SourceId::generate(),
            };
            let source = json!({"project_id": ProjectId::DEFAULT, "name": "s",
                "token_hash": crypto::sha256_hex(b"token")});
            fixture.set("source", &fixture.source.to_string(), Some(source));
            fixture.set_key(json!({}));
            fixture
        }
        fn set(&self, kind: &str, id: &str, value: Option<serde_json::Value>) {
            let text = value.map(|value| value.to_string());
            self.access.apply(kind, id, text.as_deref()).unwrap();
        }
        fn set_key(&self, extra: serde_json::Value) {
            let mut value = json!({"project_id": ProjectId::DEFAULT, "source_id": self.source,
                "name": "k", "hash": crypto::sha256_hex(SECRET), "scopes": ["ingest"]});
            for (name, extra) in extra.as_object().unwrap() {
                value[name] = extra.clone();
            }
            self.set("key", &self.key.to_string(), Some(value));
        }
        fn ask(&self) -> Result<Sender, Problem> {
            self.access.by_key(SECRET)
        }
    }

    #[test]
    fn a_key_names_its_source_until_it_is_revoked() {
        let f = Fixture::new();
        assert_eq!(f.ask().map(|sender| sender.source_id), Ok(f.source));
        assert_eq!(f.access.by_key(b"whr_other"), Err(Problem::KeyInvalid));
        f.set_key(json!({"disabled": true}));
        assert_eq!(f.ask(), Err(Problem::KeyInvalid));
        f.set_key(json!({"expires_at_ms": 1}));
        assert_eq!(f.ask(), Err(Problem::KeyInvalid));
        f.set_key(json!({"scopes": ["events:read"]}));
        assert_eq!(f.ask(), Err(Problem::Forbidden));
        f.set("key", &f.key.to_string(), None);
        assert_eq!(f.ask(), Err(Problem::KeyInvalid));
    }

    #[test]
    fn a_rotated_key_leaves_nothing_of_the_old_one() {
        let f = Fixture::new();
        f.set_key(json!({"hash": crypto::sha256_hex(b"new")}));
        assert_eq!(f.ask(), Err(Problem::KeyInvalid));
        assert!(f.access.by_key(b"new").is_ok());
    }

    #[test]
    fn a_token_names_its_source_while_it_is_enabled() {
        let f = Fixture::new();
        assert_eq!(
            f.access.by_token(b"token").map(|sender| sender.source_id),
            Ok(f.source)
        );
        assert_eq!(f.access.by_token(b"other"), Err(Problem::NotFound));
        let disabled = json!({"project_id": ProjectId::DEFAULT, "name": "s", "disabled": true,
            "token_hash": crypto::sha256_hex(b"token")});
        f.set("source", &f.source.to_string(), Some(disabled));
        assert_eq!(f.access.by_token(b"token"), Err(Problem::NotFound));
        assert_eq!(f.ask(), Err(Problem::Forbidden));
    }

    #[test]
    fn a_value_that_cannot_be_read_changes_nothing() {
        let f = Fixture::new();
        let bad = f
            .access
            .apply("key", &f.key.to_string(), Some(r#"{"hash":"x"}"#));
        assert!(bad.is_err());
        assert!(f.ask().is_ok());
    }

    #[test]
    fn a_limit_admits_its_burst_and_then_its_rate() {
        let config: KeyConfig = serde_json::from_value(json!({"project_id": ProjectId::DEFAULT,
            "source_id": SourceId::generate(), "name": "k", "hash": "", "scopes": [],
            "rate_per_s": 10.0, "burst": 3}))
        .unwrap();
        let limit = RateLimit::of(&config).unwrap();
        let start = limit.started;
        for _ in 0..3 {
            assert_eq!(limit.admit(start), Ok(()));
        }
        assert_eq!(
            limit.admit(start),
            Err(Problem::RateLimited { retry_after_s: 1 })
        );
        assert!(limit.admit(start + Duration::from_millis(99)).is_err());
        assert_eq!(limit.admit(start + Duration::from_millis(100)), Ok(()));
        assert!(limit.admit(start + Duration::from_millis(101)).is_err());
    }

    #[test]
    fn a_change_of_another_setting_does_not_refill_the_burst() {
        let f = Fixture::new();
        f.set_key(json!({"rate_per_s": 0.001, "burst": 1}));
        assert!(f.ask().is_ok());
        f.set_key(json!({"rate_per_s": 0.001, "burst": 1, "name": "renamed"}));
        assert!(matches!(f.ask(), Err(Problem::RateLimited { .. })));
    }
}
