//! What an error of PostgreSQL means for a batch: the row is at fault, or it is not.
//!
//! Only errors that the same row would meet again for ever are the row's fault. Everything else (a
//! database that is down, starting, full, locked, not migrated yet) is waited out: the records stay in
//! Kafka meanwhile.

use std::time::Duration;

/// Why a write failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// Some row of the batch cannot be stored, however often it is tried.
    Row(String),
    /// The database cannot do it now.
    Wait {
        reason: &'static str,
        detail: String,
    },
}

/// How long a write may take before the connection is given up; above the statement timeout, so that
/// only a server that does not answer at all meets it.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How long to wait before try `number` (from 1).
pub(super) fn wait_before(number: u32) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << number.saturating_sub(1).min(10));
    doubled.min(LONGEST_WAIT)
}

impl Fault {
    pub(super) fn timeout() -> Self {
        Self::Wait {
            reason: "timeout",
            detail: "PostgreSQL does not answer".into(),
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(told) => {
                let code = told.code().unwrap_or_default();
                let detail = format!("{} ({code})", told.message());
                match class(&code) {
                    None => Self::Row(detail),
                    Some(reason) => Self::Wait { reason, detail },
                }
            }
            sqlx::Error::Encode(_) => Self::Row(error.to_string()),
            sqlx::Error::PoolTimedOut => Self::Wait {
                reason: "unreachable",
                detail: "no connection to be had".into(),
            },
            _ => Self::Wait {
                reason: "unreachable",
                detail: error.to_string(),
            },
        }
    }
}

/// Why to wait, by the class of a SQLSTATE (appendix A of PostgreSQL's documentation); none where the
/// row is at fault.
fn class(code: &str) -> Option<&'static str> {
    if code == "55P03" {
        return Some("contention");
    }
    match code.get(..2).unwrap_or_default() {
        // Cardinality, data exception, integrity constraint, program limit exceeded.
        "21" | "22" | "23" | "54" => None,
        "08" | "57" => Some("unreachable"),
        "28" | "3D" | "55" => Some("refused"),
        "40" => Some("contention"),
        "53" | "58" => Some("resources"),
        // Undefined tables, missing privileges: `control-plane migrate` has not run, or ran as another.
        "42" | "3F" => Some("not_migrated"),
        _ => Some("other"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rows_own_errors_blame_the_row() {
        for code in [
            "22021", "22P05", "22P02", "23514", "23502", "21000", "54000",
        ] {
            assert_eq!(class(code), None, "{code}");
        }
        for code in [
            "08006", "57P01", "57014", "53100", "40P01", "40001", "42P01", "XX000", "",
        ] {
            assert!(class(code).is_some(), "{code}");
        }
    }

    #[test]
    fn a_lock_that_is_taken_is_no_outage() {
        assert_eq!(class("55P03"), Some("contention"));
        assert_eq!(class("40P01"), Some("contention"));
        // A database that is closed to connections.
        assert_eq!(class("55000"), Some("refused"));
    }

    #[test]
    fn waits_double_up_to_five_seconds() {
        assert_eq!(wait_before(1), Duration::from_millis(200));
        assert_eq!(wait_before(2), Duration::from_millis(400));
        assert_eq!(wait_before(5), Duration::from_millis(3_200));
        assert_eq!(wait_before(6), Duration::from_secs(5));
        assert_eq!(wait_before(u32::MAX), Duration::from_secs(5));
    }
}
