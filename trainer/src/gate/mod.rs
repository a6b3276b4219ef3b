//! The gate: what a candidate bundle has to show before it may go live.
//!
//! Both bundles are measured here and now, through the towers that serve them, on the same data: an old report of the live one would
//! be of another machine or another set. A verdict lists every check with what was found and what is allowed.

mod checks;
mod config;
mod error;
mod latency;
mod measure;
mod newest;
mod verdict;

pub use config::{GateConfig, Newest, Quality, SetConfig, Speed};
pub(crate) use config::{PRECISIONS, TOP_K_MAX, check_sets};
pub use error::GateError;
pub use measure::{Drift, Latency, Measured};
pub use verdict::{Check, Verdict};

use std::path::Path;

use astromech_towers::{Bundle, init_runtime};

/// Exit code: the candidate was measured and refused.
pub const EXIT_REFUSED: u8 = 10;
/// Exit code: a bundle, the data or the configuration is broken; nothing was decided.
pub const EXIT_BROKEN_INPUT: u8 = 12;

/// Measures the candidate and the live bundle, and holds the one to the other. Without a live bundle, thresholds that compare are left
/// out, and the verdict says so.
///
/// # Errors
/// A bundle is damaged or does not start, or the data can't be read. A candidate that is worse is no error: see [`Verdict::passed`].
pub fn run(config: &GateConfig, candidate: &Path, live: Option<&Path>) -> Result<Verdict, GateError> {
    init_runtime(None)?;
    let candidate = Bundle::open(candidate)?;
    let live = live.map(Bundle::open).transpose()?;
    let sets = measure::load_sets(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(GateError::Runtime)?;
    let mut measured = measure::measure(&runtime, config, &sets, &candidate)?;
    let mut beside = live.as_ref().map(|live| measure::measure(&runtime, config, &sets, live)).transpose()?;
    // Last and in turns: what else the machine does meets both alike.
    let mut bundles = vec![(&candidate, &mut measured)];
    if let (Some(live), Some(beside)) = (&live, beside.as_mut()) {
        bundles.push((live, beside));
    }
    latency::measure(&runtime, config, &sets, bundles)?;
    Ok(checks::verdict(config, &sets, measured, beside))
}
