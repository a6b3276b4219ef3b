//! `astromech check-config`.

use std::path::Path;

use anyhow::Result;

use super::failure::EXIT_OK;
use super::output;
use crate::config::Config;

/// Reads and checks the file at `path`; connects to nothing.
///
/// # Errors
/// Every mistake at once.
pub(super) fn run(path: &Path) -> Result<u8> {
    let config = Config::load(path)?;
    output::data(&format!("{}: correct", path.display()));
    if config.kafka.is_none() {
        output::note("no [kafka]: `index`, `search` and `demo` work, `run` needs it");
    }
    Ok(EXIT_OK)
}
