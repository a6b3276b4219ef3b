//! Waiting on conditions, and the one runtime of the harness.

use std::future::Future;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(50);

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    // A process that already has a provider keeps it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("the harness's runtime starts")
});

/// Runs `future` on the harness's runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// Starts `future` on the harness's runtime.
pub fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> tokio::task::JoinHandle<()> {
    RUNTIME.spawn(future)
}

/// Looks at `condition` until it holds; panics after `deadline` with the last state it told.
pub fn wait_until<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(state) if began.elapsed() > deadline => panic!("{what}: not within {deadline:?}; last seen: {state}"),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// As [`wait_until`], of a yes or no.
pub fn wait_for(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_until(what, deadline, || if condition() { Ok(()) } else { Err("no".to_owned()) });
}
