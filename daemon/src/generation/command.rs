//! Asking for generations and changing them, from HTTP and the command line.

use std::sync::Arc;

use astromech_schemas::Fingerprint;
use tokio::sync::{mpsc, oneshot, watch};

use super::status::Rollout;

/// Commands that wait to be carried out; more are refused.
const COMMANDS_MAX: usize = 4;

/// Why a change of generations was not made.
#[derive(Debug, thiserror::Error)]
pub enum RollError {
    /// No generation has such a fingerprint.
    #[error("no generation's fingerprint begins with `{0}`; fix: see `astromech generations list`")]
    Unknown(String),
    /// It can't be done in the state that the generation is in.
    #[error("{0}")]
    Conflict(String),
    /// Something did not answer; trying again may help.
    #[error("{0}")]
    Unanswered(String),
}

/// A change of generations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Make live the generation whose fingerprint begins so.
    Promote(String),
    /// Go back to the generation that was live before.
    Rollback,
    /// Delete the generation whose fingerprint begins so.
    Drop(String),
}

pub(super) type CommandRequest = (Command, oneshot::Sender<Result<Fingerprint, RollError>>);

/// The handle of whoever asks.
#[derive(Clone)]
pub struct Generations {
    commands: mpsc::Sender<CommandRequest>,
    status: Arc<watch::Sender<Rollout>>,
}

impl Generations {
    /// A handle, and the roller's end of its queue.
    pub(super) fn new() -> (Self, mpsc::Receiver<CommandRequest>) {
        let (commands, asked) = mpsc::channel(COMMANDS_MAX);
        (Self { commands, status: Arc::new(watch::Sender::new(Rollout::default())) }, asked)
    }

    pub(super) fn report(&self, status: Rollout) {
        self.status.send_replace(status);
    }

    /// What is known now.
    pub fn status(&self) -> Rollout {
        self.status.borrow().clone()
    }

    /// Makes live the generation whose fingerprint begins with `prefix`; the live one is held and never made live by itself again.
    ///
    /// # Errors
    /// As [`RollError`].
    pub async fn promote(&self, prefix: &str) -> Result<Fingerprint, RollError> {
        self.ask(Command::Promote(prefix.to_owned())).await
    }

    /// Goes back to the generation that was live before.
    ///
    /// # Errors
    /// As [`RollError`].
    pub async fn rollback(&self) -> Result<Fingerprint, RollError> {
        self.ask(Command::Rollback).await
    }

    /// Stops and deletes the generation whose fingerprint begins with `prefix`.
    ///
    /// # Errors
    /// As [`RollError`].
    pub async fn drop_generation(&self, prefix: &str) -> Result<Fingerprint, RollError> {
        self.ask(Command::Drop(prefix.to_owned())).await
    }

    async fn ask(&self, command: Command) -> Result<Fingerprint, RollError> {
        let stopping = || RollError::Unanswered("the daemon is stopping; fix: ask another one".to_owned());
        let (reply, answer) = oneshot::channel();
        match self.commands.try_send((command, reply)) {
            Ok(()) => answer.await.map_err(|_| stopping())?,
            Err(mpsc::error::TrySendError::Closed(_)) => Err(stopping()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(RollError::Unanswered(format!("{COMMANDS_MAX} commands wait already; fix: try again after a second")))
            }
        }
    }
}
