//! The delay before the next attempt, or that there is none. Pure: clock and chance are arguments.

use router_schemas::{DeliveryId, config::RetryPolicy, topics::DAY_MS};

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again after at least this long.
    RetryAfterMs(i64),
    /// No more attempts, for this reason.
    GiveUp(&'static str),
}

/// A destination may ask for more time than we would give it, up to this.
const RETRY_AFTER_CAP_MS: i64 = DAY_MS;

/// Decides after attempt number `attempt` (from 1) of a delivery that was queued `age_ms` ago.
/// `chance` is 0 to 1 and spreads the delay by the policy's jitter.
#[must_use]
pub fn after_failure(
    policy: &RetryPolicy,
    attempt: u32,
    age_ms: i64,
    retry_after_ms: Option<i64>,
    chance: f64,
) -> Verdict {
    if attempt >= policy.max_attempts {
        return Verdict::GiveUp("attempts_exhausted");
    }
    let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
    let raw = policy.base_ms as f64 * policy.factor.max(1.0).powi(exponent);
    let capped = raw.min(policy.cap_ms as f64);
    // Jitter only adds: nothing is ever earlier than the policy says.
    let jittered = capped * (1.0 + policy.jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0));
    let asked = retry_after_ms.unwrap_or(0).clamp(0, RETRY_AFTER_CAP_MS);
    let delay_ms = (jittered as i64).max(asked).max(1);
    if age_ms.saturating_add(delay_ms) > policy.max_age_ms {
        return Verdict::GiveUp("too_old");
    }
    Verdict::RetryAfterMs(delay_ms)
}

/// A number from 0 to 1 that differs for each delivery and attempt, and is the same when the attempt is
/// worked again.
#[must_use]
pub fn chance(delivery: DeliveryId, attempt: u32) -> f64 {
    let bits = delivery.0.as_u128() as u64 ^ u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (bits ^ (bits >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use router_schemas::topics::HOUR_MS;

    use super::*;

    #[test]
    fn the_default_policy_makes_ten_attempts_over_about_a_day() {
        let policy = RetryPolicy::default();
        let mut age = 0;
        for attempt in 1..10 {
            match after_failure(&policy, attempt, age, None, 0.5) {
                Verdict::RetryAfterMs(delay) => age += delay,
                Verdict::GiveUp(why) => panic!("gave up at {attempt}: {why}"),
            }
        }
        assert!((15 * HOUR_MS..30 * HOUR_MS).contains(&age), "{age}");
        let last = after_failure(&policy, 10, age, None, 0.5);
        assert_eq!(last, Verdict::GiveUp("attempts_exhausted"));
    }

    #[test]
    fn a_destination_may_ask_for_more_time_but_not_for_less() {
        let policy = RetryPolicy {
            base_ms: 5_000,
            jitter: 0.0,
            ..RetryPolicy::default()
        };
        let delay = |asked| after_failure(&policy, 1, 0, asked, 0.0);
        assert_eq!(delay(None), Verdict::RetryAfterMs(5_000));
        assert_eq!(delay(Some(60_000)), Verdict::RetryAfterMs(60_000));
        assert_eq!(delay(Some(1)), Verdict::RetryAfterMs(5_000));
        assert_eq!(delay(Some(-5)), Verdict::RetryAfterMs(5_000));
        assert_eq!(
            delay(Some(i64::MAX)),
            Verdict::RetryAfterMs(RETRY_AFTER_CAP_MS)
        );
    }

    #[test]
    fn what_would_become_too_old_is_given_up() {
        let policy = RetryPolicy {
            max_age_ms: 10_000,
            jitter: 0.0,
            ..RetryPolicy::default()
        };
        assert_eq!(
            after_failure(&policy, 1, 6_000, None, 0.0),
            Verdict::GiveUp("too_old")
        );
    }

    #[test]
    fn jitter_only_adds() {
        let policy = RetryPolicy {
            jitter: 0.5,
            ..RetryPolicy::default()
        };
        for attempt in 1..9 {
            let plain = RetryPolicy {
                jitter: 0.0,
                ..policy.clone()
            };
            let (Verdict::RetryAfterMs(with), Verdict::RetryAfterMs(without)) = (
                after_failure(&policy, attempt, 0, None, 0.9),
                after_failure(&plain, attempt, 0, None, 0.9),
            ) else {
                panic!("gave up")
            };
            assert!(with > without && with <= without + without / 2 + 1);
        }
    }

    #[test]
    fn chance_is_stable_and_spread() {
        let id = DeliveryId::generate();
        assert!((chance(id, 1) - chance(id, 1)).abs() < f64::EPSILON);
        let values: Vec<f64> = (1..200).map(|attempt| chance(id, attempt)).collect();
        assert!(values.iter().all(|value| (0.0..1.0).contains(value)));
        assert!(values.iter().any(|value| *value < 0.2) && values.iter().any(|value| *value > 0.8));
    }
}
