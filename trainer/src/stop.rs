//! Ctrl-C and SIGTERM: finish the step, save, exit 0.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once a stop was asked for.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// A flag nobody sets but [`StopFlag::stop`].
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that SIGINT and SIGTERM set; a second signal ends the process at once.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        let flag = Self::new();
        let set = flag.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut interrupt, mut terminate) = {
            use tokio::signal::unix::{SignalKind, signal};
            let _guard = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async move {
                loop {
                    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                    if set.is_set() {
                        std::process::exit(130);
                    }
                    set.stop();
                }
            });
        })?;
        Ok(flag)
    }

    /// Asks to stop.
    pub fn stop(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// True once a stop was asked for.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
