//! What each step took away, as STATS.json.

use std::collections::BTreeMap;

use serde::Serialize;

use super::config::ClickConfig;
use crate::zero::fault::FaultKind;

/// One step of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its name.
    pub step: &'static str,
    /// What it was given.
    #[serde(rename = "in")]
    pub given: u64,
    /// What it left.
    #[serde(rename = "out")]
    pub left: u64,
    /// What it took away, by reason.
    pub removed: BTreeMap<&'static str, u64>,
}

/// A class of query frequency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stratum {
    /// Least impressions of its queries; the next class begins at twice as many.
    pub query_impressions: u64,
    /// Records there were.
    pub of: u64,
    /// Records drawn.
    pub drawn: u64,
}

/// The whole pipeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// Its steps in order.
    pub steps: Vec<Step>,
    /// Faulty rows by kind.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Pictures by how they were identified: `decoded` (by file and look), `undecodable` (by file), `elsewhere` (by the log's hash or
    /// URL), `missing` (their file is not there: as `elsewhere`).
    pub pictures: BTreeMap<&'static str, u64>,
    /// Comparisons of near-duplicates that `compare_max` cut.
    pub comparisons_cut: u64,
    /// Query frequencies.
    pub strata: Vec<Stratum>,
    /// Records written.
    pub records: u64,
    /// Their shards.
    pub shards: Vec<String>,
    /// Largest memory of the process, MiB.
    pub peak_rss_mib: u64,
    /// The settings.
    pub settings: ClickConfig,
}

impl Stats {
    pub(super) fn new(settings: &ClickConfig) -> Self {
        Self {
            steps: Vec::new(),
            faults: BTreeMap::new(),
            pictures: BTreeMap::new(),
            comparisons_cut: 0,
            strata: Vec::new(),
            records: 0,
            shards: Vec::new(),
            peak_rss_mib: 0,
            settings: settings.clone(),
        }
    }

    pub(super) fn step(&mut self, step: &'static str, given: u64, left: u64, removed: &[(&'static str, u64)]) {
        let removed = removed.iter().copied().collect();
        tracing::info!(given, left, ?removed, "{step}");
        self.steps.push(Step { step, given, left, removed });
    }
}

/// A line of /proc/self/status in MiB: `VmRSS`, `VmHWM`; 0 where the system has none.
pub fn process_mib(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|own| own.strip_prefix(line)?.strip_prefix(':'));
    found.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}
