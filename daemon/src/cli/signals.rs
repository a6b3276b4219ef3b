//! SIGTERM and SIGINT: the first asks for a graceful stop, the second ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::failure::EXIT_FAILED;

/// Cancels `stop` at the first signal and exits at the second.
///
/// # Errors
/// The system lets no handler be installed.
pub fn stop_on_signals(stop: CancellationToken) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        let name = next(&mut terminate, &mut interrupt).await;
        info!(signal = name, "stopping; a second signal ends at once");
        stop.cancel();
        let name = next(&mut terminate, &mut interrupt).await;
        warn!(signal = name, "ended at once; what was under way is read again");
        std::process::exit(i32::from(EXIT_FAILED));
    });
    Ok(())
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
