//! Topic names and how each topic is created: partitions, cleanup, retention, largest record.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The names of all topics. A prefix keeps several installations apart on one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicNames {
    prefix: String,
    pub raw: String,
    pub replay: String,
    pub processed: String,
    pub deliveries: String,
    pub redeliveries: String,
    pub attempts: String,
    pub dead_letter: String,
    pub config: String,
    pub events: String,
}

impl TopicNames {
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        let name = |n: &str| format!("{prefix}{n}");
        Self {
            prefix: prefix.to_owned(),
            raw: name("webhooks.raw"),
            replay: name("webhooks.replay"),
            processed: name("webhooks.processed"),
            deliveries: name("webhooks.deliveries"),
            redeliveries: name("webhooks.redeliveries"),
            attempts: name("webhooks.attempts"),
            dead_letter: name("webhooks.dead-letter"),
            config: name("control.config"),
            events: name("control.events"),
        }
    }

    /// The delay topic of one rung.
    #[must_use]
    pub fn retry(&self, rung: Rung) -> String {
        format!("{}webhooks.retry.{rung}", self.prefix)
    }

    /// The consumer group (or transactional id) of a stage under the same prefix.
    #[must_use]
    pub fn group(&self, stage: &str) -> String {
        format!("{}{stage}", self.prefix)
    }
}

impl Default for TopicNames {
    fn default() -> Self {
        Self::new("")
    }
}

/// One fixed delay of the retry ladder, written `500ms`, `5s`, `2m`, `6h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rung {
    delay_ms: i64,
}

impl Rung {
    #[must_use]
    pub const fn from_ms(delay_ms: i64) -> Self {
        Self { delay_ms }
    }
    #[must_use]
    pub const fn delay_ms(self) -> i64 {
        self.delay_ms
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.delay_ms;
        match ms {
            _ if ms % 3_600_000 == 0 => write!(f, "{}h", ms / 3_600_000),
            _ if ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            _ if ms % 1_000 == 0 => write!(f, "{}s", ms / 1_000),
            _ => write!(f, "{ms}ms"),
        }
    }
}

impl FromStr for Rung {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("{s:?} is not a delay such as 500ms, 5s, 2m or 6h");
        let digits = s.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = s[..digits].parse().map_err(|_| bad())?;
        let unit = match &s[digits..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(bad()),
        };
        // Above a day a rung would outlive the retentions that are checked against it.
        match number.checked_mul(unit) {
            Some(delay_ms @ 1..=86_400_000) => Ok(Self { delay_ms }),
            _ => Err(bad()),
        }
    }
}

impl TryFrom<String> for Rung {
    type Error = String;
    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<Rung> for String {
    fn from(rung: Rung) -> Self {
        rung.to_string()
    }
}

/// The ladder of delay topics, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ladder(Vec<Rung>);

impl Ladder {
    #[must_use]
    pub fn rungs(&self) -> &[Rung] {
        &self.0
    }
}

impl Default for Ladder {
    fn default() -> Self {
        Self(
            [
                1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000, 21_600_000,
            ]
            .map(Rung::from_ms)
            .to_vec(),
        )
    }
}

impl FromStr for Ladder {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let rungs: Vec<Rung> = s
            .split([',', ' '])
            .filter(|part| !part.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        if rungs.is_empty() || rungs.len() > 12 {
            return Err("a retry ladder has 1 to 12 delays".into());
        }
        if !rungs.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err("the delays of a retry ladder must ascend".into());
        }
        Ok(Self(rungs))
    }
}

/// How a topic is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    Delete { retention_ms: i64 },
    Compact,
}

/// What `topics create` asks of the broker for one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: i32,
    pub cleanup: Cleanup,
    pub max_message_bytes: i64,
}

/// Retentions and sizes of an installation; `validate` holds the inequalities that keep it free of silent loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPlan {
    pub partitions: i32,
    pub body_limit_bytes: i64,
    pub raw_retention_ms: i64,
    pub processed_retention_ms: i64,
    /// Kept beyond a rung's own delay, for outages.
    pub rung_slack_ms: i64,
    pub dead_letter_retention_ms: i64,
    pub ladder: Ladder,
}

pub const HOUR_MS: i64 = 3_600_000;
pub const DAY_MS: i64 = 24 * HOUR_MS;

impl Default for TopicPlan {
    fn default() -> Self {
        Self {
            partitions: 12,
            body_limit_bytes: 5 * 1024 * 1024,
            raw_retention_ms: 7 * DAY_MS,
            processed_retention_ms: 7 * DAY_MS,
            rung_slack_ms: 7 * DAY_MS,
            dead_letter_retention_ms: 30 * DAY_MS,
            ladder: Ladder::default(),
        }
    }
}

impl TopicPlan {
    /// # Errors
    /// A sentence naming the inequality that does not hold.
    pub fn validate(&self) -> Result<(), String> {
        if self.partitions < 1 {
            return Err("topics need at least one partition".into());
        }
        if self.processed_retention_ms < self.raw_retention_ms {
            return Err("processed results must be kept as long as raw webhooks".into());
        }
        if self.rung_slack_ms < DAY_MS {
            return Err("delay topics must be kept at least a day longer than their delay, or an outage loses retries".into());
        }
        if self.dead_letter_retention_ms < self.raw_retention_ms {
            return Err("dead letters must be kept at least as long as raw webhooks".into());
        }
        Ok(())
    }

    /// Largest record of each step. They rise along the way, so that whatever follows from an accepted
    /// body fits: base64 of a body takes 4/3, results and headers some more.
    #[must_use]
    pub fn max_bytes(&self) -> (i64, i64, i64) {
        const KIB: i64 = 1024;
        let raw = self.body_limit_bytes + 256 * KIB;
        let deliveries = self.body_limit_bytes * 7 / 5 + 512 * KIB;
        (raw, deliveries, deliveries + 256 * KIB)
    }

    /// Every topic of the product.
    #[must_use]
    pub fn topics(&self, names: &TopicNames) -> Vec<TopicSpec> {
        let (raw_max, delivery_max, dead_max) = self.max_bytes();
        let delete = |name: &str, retention_ms, max_message_bytes| TopicSpec {
            name: name.to_owned(),
            partitions: self.partitions,
            cleanup: Cleanup::Delete { retention_ms },
            max_message_bytes,
        };
        let mut all = vec![
            delete(&names.raw, self.raw_retention_ms, raw_max),
            delete(&names.replay, self.raw_retention_ms, raw_max),
            delete(&names.processed, self.processed_retention_ms, raw_max),
            delete(&names.deliveries, self.raw_retention_ms, delivery_max),
            delete(&names.redeliveries, self.raw_retention_ms, delivery_max),
            delete(&names.attempts, self.processed_retention_ms, raw_max),
            delete(&names.dead_letter, self.dead_letter_retention_ms, dead_max),
            delete(&names.events, self.raw_retention_ms, raw_max),
        ];
        for rung in self.ladder.rungs() {
            let retention_ms = rung.delay_ms() + self.rung_slack_ms;
            all.push(delete(&names.retry(*rung), retention_ms, delivery_max));
        }
        all.push(TopicSpec {
            name: names.config.clone(),
            partitions: 1,
            cleanup: Cleanup::Compact,
            max_message_bytes: 1024 * 1024,
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_read_and_write_the_same_text() {
        for text in ["500ms", "1s", "30s", "2m", "6h"] {
            assert_eq!(
                text.parse::<Rung>().map(|r| r.to_string()),
                Ok(text.to_owned())
            );
        }
        for bad in ["", "5", "0s", "-1s", "5d", "25h", "99999999999999999999s"] {
            assert!(bad.parse::<Rung>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_ladder_must_ascend() {
        assert!("1s,5s,30s".parse::<Ladder>().is_ok());
        assert!("5s,1s".parse::<Ladder>().is_err());
        assert!("".parse::<Ladder>().is_err());
    }

    #[test]
    fn every_topic_keeps_what_the_next_step_may_need() {
        let plan = TopicPlan::default();
        assert_eq!(plan.validate(), Ok(()));
        let (raw, deliveries, dead) = plan.max_bytes();
        assert!(raw < deliveries && deliveries < dead);
        assert!(plan.body_limit_bytes * 4 / 3 < deliveries);
        let short = TopicPlan {
            rung_slack_ms: HOUR_MS,
            ..TopicPlan::default()
        };
        assert!(short.validate().is_err());
    }

    #[test]
    fn a_prefix_reaches_every_name() {
        let names = TopicNames::new("t1.");
        for topic in TopicPlan::default().topics(&names) {
            assert!(topic.name.starts_with("t1."), "{}", topic.name);
        }
        assert_eq!(names.group("process"), "t1.process");
    }
}
