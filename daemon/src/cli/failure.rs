//! What the program ends with: an exit code, one chain of causes, one hint.

use super::output;
use crate::config::ConfigErrors;
use crate::failure::{Hinted, Usage};
use crate::vitals::HaltCause;

/// Everything was done.
pub const EXIT_OK: u8 = 0;
/// Something failed, or some records were bad.
pub const EXIT_FAILED: u8 = 1;
/// The command line or the configuration is wrong; nothing was begun.
pub const EXIT_USAGE: u8 = 2;

/// Prints `error` with its causes and hint, and returns the exit code.
pub fn report(error: &anyhow::Error) -> u8 {
    let mut said = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Many errors repeat their cause in their own text.
        if said.contains(&text) {
            continue;
        }
        if said.is_empty() {
            output::note(&format!("error: {text}"));
        } else {
            output::note(&format!("  caused by: {text}"));
        }
        said.push_str(&text);
    }
    if let Some(hint) = hint(error) {
        output::note(&format!("hint: {hint}"));
    }
    let usage = error.is::<Usage>() || error.is::<ConfigErrors>();
    if usage { EXIT_USAGE } else { EXIT_FAILED }
}

fn hint(error: &anyhow::Error) -> Option<&str> {
    let usage = error.downcast_ref::<Usage>().map(|usage| usage.hint.as_str());
    let hinted = error.downcast_ref::<Hinted>().map(|hinted| hinted.hint.as_str());
    let config = error.is::<ConfigErrors>().then_some("configs/reference.toml explains every key");
    let halt = error.downcast_ref::<HaltCause>().map(HaltCause::hint);
    usage.or(hinted).or(config).or(halt)
}
