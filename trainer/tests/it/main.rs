//! The trainer's own tests: one binary, since linking LibTorch takes longer than most of them. Those that bound the memory of their process
//! are beside it, in `zero_clicks.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed unwrap is a failed test; what was measured or skipped is printed"
)]

mod compare;
mod distil;
mod export_parity;
mod export_support;
mod gate;
mod init_import;
mod init_support;
mod late_interaction;
mod parity;
mod presets;
mod readme;
mod release_support;
mod scenes;
mod synthetic;
mod tasks_evaluate;
mod tasks_finetune;
mod training;
mod zero_folder;
mod zero_foreign;
mod zero_stream;
mod zero_training;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by everything that trains or draws weights: LibTorch has one generator of random numbers a process, and runs are compared to the
/// last bit.
fn one_run_at_a_time() -> MutexGuard<'static, ()> {
    static ONE_RUN: Mutex<()> = Mutex::new(());
    ONE_RUN.lock().unwrap_or_else(PoisonError::into_inner)
}
