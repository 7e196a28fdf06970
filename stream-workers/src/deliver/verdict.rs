//! What an answer, or the lack of one, means for a delivery. Pure: the clock is an argument.

use router_schemas::{Answer, AttemptError, ErrorClass, config::RetryPolicy};

use crate::retry::backoff::{self, Verdict};

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Answered {
        answer: Answer,
        /// `Retry-After` of the answer.
        retry_after_ms: Option<i64>,
    },
    Failed(AttemptError),
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Delivered,
    /// Park for at least this long.
    Retry {
        delay_ms: i64,
    },
    /// To the dead letters, for this reason.
    Dead(&'static str),
    /// As dead, and the destination takes nothing more (`410 Gone`).
    Gone,
}

/// Decides what follows from attempt number `attempt` of a delivery queued `age_ms` ago. By default any
/// answer but 2xx, and any failure to answer, is tried again.
#[must_use]
pub fn decide(
    ending: &Ending,
    policy: &RetryPolicy,
    attempt: u32,
    age_ms: i64,
    chance: f64,
) -> Decision {
    let retry_after_ms = match ending {
        Ending::Answered { answer, .. } if (200..300).contains(&answer.status) => {
            return Decision::Delivered;
        }
        Ending::Answered { answer, .. } if answer.status == 410 => return Decision::Gone,
        Ending::Answered { retry_after_ms, .. } => *retry_after_ms,
        Ending::Failed(error) if error.class == ErrorClass::Permanent => {
            return Decision::Dead("permanent_error");
        }
        Ending::Failed(_) => None,
    };
    match backoff::after_failure(policy, attempt, age_ms, retry_after_ms, chance) {
        Verdict::RetryAfterMs(delay_ms) => Decision::Retry { delay_ms },
        Verdict::GiveUp(reason) => Decision::Dead(reason),
    }
}

/// `Retry-After` as seconds or as an HTTP date (RFC 9110, section 10.2.3).
#[must_use]
pub fn retry_after_ms(value: &str, now_ms: i64) -> Option<i64> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(i64::from(seconds) * 1_000);
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    Some((date.timestamp().as_millisecond() - now_ms).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16) -> Ending {
        let answer = Answer {
            status,
            body_start: String::new(),
        };
        Ending::Answered {
            answer,
            retry_after_ms: None,
        }
    }

    fn failed(class: ErrorClass) -> Ending {
        Ending::Failed(AttemptError {
            class,
            code: "connect".into(),
            message: String::new(),
        })
    }

    fn decide_first(ending: &Ending) -> Decision {
        decide(
            ending,
            &RetryPolicy {
                jitter: 0.0,
                ..RetryPolicy::default()
            },
            1,
            0,
            0.0,
        )
    }

    #[test]
    fn anything_but_2xx_is_tried_again() {
        for status in [200, 201, 204, 299] {
            assert_eq!(decide_first(&answered(status)), Decision::Delivered);
        }
        for status in [301, 302, 400, 401, 404, 429, 500, 503] {
            assert_eq!(
                decide_first(&answered(status)),
                Decision::Retry { delay_ms: 5_000 }
            );
        }
        assert_eq!(
            decide_first(&failed(ErrorClass::Retryable)),
            Decision::Retry { delay_ms: 5_000 }
        );
    }

    #[test]
    fn gone_stops_the_destination_and_a_permanent_error_the_delivery() {
        assert_eq!(decide_first(&answered(410)), Decision::Gone);
        assert_eq!(
            decide_first(&failed(ErrorClass::Permanent)),
            Decision::Dead("permanent_error")
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after_ms("120", 0), Some(120_000));
        let at = 1_780_000_000_000;
        assert_eq!(
            retry_after_ms("Thu, 28 May 2026 20:27:40 GMT", at),
            Some(60_000)
        );
        assert_eq!(retry_after_ms("Thu, 28 May 2020 20:27:40 GMT", at), Some(0));
        assert_eq!(retry_after_ms("soon", at), None);
    }
}
