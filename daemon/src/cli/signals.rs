//! SIGTERM and SIGINT: the first asks for a graceful stop, the second ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::failure::EXIT_FAILED;

const SIGINT: &str = "SIGINT";

/// Whether somebody at the terminal asked for the stop: nobody else has to notice it first.
#[derive(Debug, Clone, Default)]
pub struct Interrupted(CancellationToken);

impl Interrupted {
    /// Whether it was SIGINT that asked.
    pub fn is_so(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// Cancels `stop` at the first signal and exits at the second.
///
/// # Errors
/// The system lets no handler be installed.
pub fn stop_on_signals(stop: CancellationToken) -> std::io::Result<Interrupted> {
    let interrupted = Interrupted::default();
    let told = interrupted.clone();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        let name = next(&mut terminate, &mut interrupt).await;
        if name == SIGINT {
            told.0.cancel();
        }
        info!(signal = name, "stopping; a second signal ends at once");
        stop.cancel();
        let name = next(&mut terminate, &mut interrupt).await;
        warn!(signal = name, "ended at once; what was under way is read again");
        std::process::exit(i32::from(EXIT_FAILED));
    });
    Ok(interrupted)
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => SIGINT,
    }
}
