//! Where results and dead letters go: topics, or the terminal of `astromech index`.

use astromech_schemas::TraceContext;
use astromech_schemas::results::ResultMessage;
use futures::future::BoxFuture;

use crate::prepare::Fault;
use crate::source::Record;

/// Why something was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// May pass: wait and try again.
    #[error("{0}")]
    Transient(String),
    /// Will not pass in this process.
    #[error("{0}")]
    Fatal(String),
}

impl PublishError {
    /// Whether it may pass: wait and try again.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Transient(_))
    }

    /// What went wrong.
    pub fn text(&self) -> &str {
        match self {
            Self::Transient(problem) | Self::Fatal(problem) => problem,
        }
    }
}

/// Takes results and dead letters. When a call returns `Ok`, the receiver has it for good.
pub trait Outlet: Send + Sync {
    /// A change that the index holds; with our span in the trace that its record carries.
    fn result<'a>(
        &'a self,
        message: &'a ResultMessage,
        context: Option<&'a TraceContext>,
    ) -> BoxFuture<'a, Result<(), PublishError>>;

    /// A record that can never be applied.
    fn dead_letter<'a>(&'a self, record: &'a Record, fault: &'a Fault) -> BoxFuture<'a, Result<(), PublishError>>;
}
