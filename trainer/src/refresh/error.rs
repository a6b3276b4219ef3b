//! How a job ends, as an exit code that a scheduler understands.

use thiserror::Error;

use super::lease::LeaseError;

/// Exit codes of `trainer refresh`. Schedulers act on them: they are part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// A new bundle is current and was announced.
    Published,
    /// Anything else: a broker or a disk that fails, a signal. Run it again: it goes on.
    Failed,
    /// The new bundle did not pass the gate; it is kept with its report.
    Refused,
    /// There is no, or too little, new data.
    NoData,
    /// A configuration, a topic or its records have to change first; trying again does not help.
    BrokenInput,
    /// Another job holds the lease.
    LeaseHeld,
}

impl Exit {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Published => 0,
            Self::Failed => 1,
            Self::Refused => 10,
            Self::NoData => 11,
            Self::BrokenInput => 12,
            Self::LeaseHeld => 13,
        }
    }

    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::NoData => "no_data",
            Self::BrokenInput => "broken_input",
            Self::LeaseHeld => "lease_held",
        }
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A job that could not go on.
#[derive(Debug, Error)]
pub enum RefreshError {
    /// Something has to change before it can go on.
    #[error("{what}: {cause}")]
    Input {
        /// The step, or what was read.
        what: String,
        /// Why.
        cause: Cause,
    },
    /// Something failed that may pass.
    #[error("{what}: {cause}")]
    Failed {
        /// The step, or what was written.
        what: String,
        /// Why.
        cause: Cause,
    },
    /// The lease.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// A stop was asked for.
    #[error("stopped; the same command goes on")]
    Stopped,
}

impl RefreshError {
    /// What has to change, in words.
    pub fn wrong(what: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Input { what: what.into(), cause: message.into().into() }
    }

    /// Something failed that may pass.
    pub fn failed<E: Into<Cause>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |cause| Self::Failed { what, cause: cause.into() }
    }

    /// Either, by whether trying again can help.
    pub fn of<E: Into<Cause>>(what: impl Into<String>, is_input: bool, cause: E) -> Self {
        let (what, cause) = (what.into(), cause.into());
        if is_input { Self::Input { what, cause } } else { Self::Failed { what, cause } }
    }

    /// The exit code.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Input { .. } => Exit::BrokenInput,
            Self::Lease(LeaseError::Held { .. } | LeaseError::Lost { .. }) => Exit::LeaseHeld,
            Self::Failed { .. } | Self::Lease(LeaseError::Io(_)) | Self::Stopped => Exit::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_schedules_that_are_shipped_know_the_exit_codes() {
        let read =
            |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)).unwrap();
        let [published, failed, refused, no_data, broken, held] =
            [Exit::Published, Exit::Failed, Exit::Refused, Exit::NoData, Exit::BrokenInput, Exit::LeaseHeld].map(Exit::code);
        assert_eq!((published, failed), (0, 1));
        for cron in [read("kubernetes/refresh.yaml"), read("helm/astromech/templates/refresh.yaml")] {
            assert!(cron.contains("concurrencyPolicy: Forbid") && cron.contains("restartPolicy: Never"));
            assert!(cron.contains(&format!("operator: In, values: [{refused}, {no_data}, {broken}, {held}]")), "{cron}");
        }
        let unit = read("systemd/astromech-refresh.service");
        assert!(unit.contains(&format!("SuccessExitStatus={no_data} {held}\n")), "{unit}");
        assert!(unit.contains(&format!("RestartPreventExitStatus={refused} {broken}\n")), "{unit}");
        assert!(read("systemd/astromech-refresh.timer").contains("OnCalendar="));
    }
}
