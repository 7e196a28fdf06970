//! What can go wrong in a command, and the exit code that says so.

use std::process::ExitCode;

use crate::{publisher::PublishError, store::StoreError};

/// Exit code of a wrong command line or configuration (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command line or the environment is wrong; nothing was tried.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The ledgers of account do not balance; the report has been printed.
    #[error("the ledgers do not balance")]
    Unbalanced,
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl CommandError {
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::Store(StoreError::Invalid(_)) => ExitCode::from(EXIT_USAGE),
            Self::Unbalanced | Self::Store(_) | Self::Publish(_) | Self::Failed(_) => {
                ExitCode::FAILURE
            }
        }
    }
}

impl From<crate::validate::Invalid> for CommandError {
    fn from(invalid: crate::validate::Invalid) -> Self {
        Self::Usage(invalid.to_string())
    }
}

impl From<sqlx::Error> for CommandError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
