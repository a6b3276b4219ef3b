//! No silent slow path: asked for CUDA and not on CUDA, the daemon does not start.

use std::path::Path;
use std::time::Duration;

use astromech_e2e::paths::message;
use astromech_e2e::{Daemon, world};

use crate::scenario::Scenario;

#[test]
fn promise_8_cuda_asked_for_and_absent_is_refused_with_a_clear_message() {
    if Path::new("/dev/nvidia0").exists() {
        message("skipped: this machine has an NVIDIA device");
        return;
    }
    let world = world();
    let mut scenario = Scenario::new(&world, "cuda");
    scenario.config.provider = "cuda".to_owned();
    scenario.produce(&scenario.items(10, 1));
    let mut daemon = Daemon::spawn(&scenario.config);
    let status = daemon.wait_exit(Duration::from_mins(1));
    let log = daemon.log();
    assert!(!status.success(), "the daemon ends with {status}:\n{log}");
    assert!(log.to_lowercase().contains("cuda"), "the log names the provider:\n{log}");
    assert!(log.contains("not available"), "the log says that it is not there:\n{log}");
    assert_eq!(scenario.results(), 0, "nothing was embedded on the CPU instead");
}
