//! What can be wrong with a shard or a record, how much of it a run bears, and where it stops.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::files::FileError;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A shard that cannot be opened or read.
    Unreadable,
    /// A shard that ends too early.
    Truncated,
    /// A needed column is missing or holds another type.
    WrongColumn,
    /// A row that is no record.
    BadRow,
    /// Text that is not UTF-8.
    NotUtf8,
    /// A record without any text that is used.
    EmptyText,
    /// A record that names no picture, or one that is not there.
    NoPicture,
    /// A picture given only as a URL, which training does not fetch.
    UrlOnly,
    /// A picture that the decoder refuses.
    BadPicture,
}

impl FaultKind {
    /// The name used in logs and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Truncated => "truncated",
            Self::WrongColumn => "wrong_column",
            Self::BadRow => "bad_row",
            Self::NotUtf8 => "not_utf8",
            Self::EmptyText => "empty_text",
            Self::NoPicture => "no_picture",
            Self::UrlOnly => "url_only",
            Self::BadPicture => "bad_picture",
        }
    }
}

/// Where in a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The shard as a whole.
    Shard,
    /// Line number from 1.
    Line(u64),
    /// Row number from 1.
    Row(u64),
    /// Key of a tar record: its members' name up to the first dot.
    Member(String),
}

/// One thing that is wrong, with its shard, its place and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardFault {
    /// What kind it is.
    pub kind: FaultKind,
    /// The shard.
    pub shard: Arc<Path>,
    /// Where in it.
    pub place: Place,
    /// What is wrong, naming the column.
    pub message: String,
}

impl ShardFault {
    /// A fault of a place.
    pub fn new(kind: FaultKind, shard: &Arc<Path>, place: Place, message: impl Into<String>) -> Self {
        Self { kind, shard: Arc::clone(shard), place, message: message.into() }
    }

    /// A shard that could not be read on: cut short when the end came too early, unreadable otherwise.
    pub fn read(shard: &Arc<Path>, place: Place, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::UnexpectedEof => FaultKind::Truncated,
            _ => FaultKind::Unreadable,
        };
        Self::new(kind, shard, place, error.to_string())
    }
}

impl fmt::Display for ShardFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shard.display())?;
        match &self.place {
            Place::Shard => {}
            Place::Line(line) => write!(f, ", line {line}")?,
            Place::Row(row) => write!(f, ", row {row}")?,
            Place::Member(key) => write!(f, ", record {key}")?,
        }
        write!(f, ": {}", self.message)
    }
}

/// How many faults are skipped before the run stops. All values are our choice: no source names any.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultLimits {
    /// Faults over the whole run.
    pub faults_max: u64,
    /// Part of the last `fault_window` records that may be faulty.
    pub fault_fraction_max: f64,
    /// Records, good and bad, that the fraction is taken over; it is not looked at before so many were seen.
    pub fault_window: usize,
}

impl Default for FaultLimits {
    fn default() -> Self {
        Self { faults_max: 100_000, fault_fraction_max: 0.1, fault_window: 2_000 }
    }
}

/// A stream or a click log that cannot go on.
#[derive(Debug, Error)]
pub enum ZeroError {
    /// A file or folder that is needed as a whole.
    #[error(transparent)]
    Io(#[from] FileError),
    /// No shard is there.
    #[error("{pattern}: {message}; give files, folders or patterns of .jsonl, .tsv (also .gz), .tar or .parquet shards")]
    NoShards {
        /// What was given.
        pattern: String,
        /// What is wrong.
        message: String,
    },
    /// More workers than shards.
    #[error("{workers} workers share {shards} shards, so worker {worker} has none; write more shards or use fewer workers")]
    TooFewShards {
        /// Workers.
        workers: usize,
        /// This one.
        worker: usize,
        /// Shards.
        shards: usize,
    },
    /// A whole epoch without a record.
    #[error("none of the {shards} shards holds a usable record ({counts}); first: {first}")]
    Empty {
        /// Shards of this worker.
        shards: usize,
        /// Faults by kind.
        counts: String,
        /// The first fault.
        first: String,
    },
    /// The fault budget is spent.
    #[error(
        "{limit}: {counts}; worst shard {worst} ({worst_faults} faults); last: {last}. Mend or remove it, or raise the limit"
    )]
    TooManyFaults {
        /// Which limit, with its value.
        limit: String,
        /// Faults by kind.
        counts: String,
        /// The shard with most faults.
        worst: PathBuf,
        /// Its faults.
        worst_faults: u64,
        /// The fault that was one too many.
        last: String,
    },
    /// Shards are not those that the position was taken in.
    #[error("{path}: {message}; resume with the shards and settings of the run, or start anew")]
    Changed {
        /// The shard or the file of positions.
        path: PathBuf,
        /// What differs.
        message: String,
    },
    /// A setting outside its range.
    #[error("{field} is {value}; it must be {limit}")]
    Setting {
        /// Dotted name.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        limit: &'static str,
    },
    /// A step needs more memory than it may take.
    #[error("{step} needs {needed_mib} MiB, {max_mib} MiB are left of memory_max_mib; raise it or {fix}")]
    Memory {
        /// The step.
        step: &'static str,
        /// What it needs.
        needed_mib: u64,
        /// What there is for it.
        max_mib: u64,
        /// What else helps.
        fix: &'static str,
    },
}

/// Counts faults, names the first of each kind in the log, and stops when the budget is spent.
#[derive(Debug)]
pub struct Ledger {
    limits: FaultLimits,
    counts: BTreeMap<FaultKind, u64>,
    per_shard: HashMap<Arc<Path>, u64>,
    window: VecDeque<bool>,
    window_faults: usize,
    first: Option<String>,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(limits: FaultLimits) -> Self {
        let (counts, per_shard) = (BTreeMap::new(), HashMap::new());
        Self { limits, counts, per_shard, window: VecDeque::new(), window_faults: 0, first: None }
    }

    /// Faults so far by kind.
    pub fn counts(&self) -> &BTreeMap<FaultKind, u64> {
        &self.counts
    }

    /// Goes on from earlier counts.
    pub fn restore(&mut self, counts: BTreeMap<FaultKind, u64>) {
        self.counts = counts;
    }

    /// All faults so far.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The first fault seen.
    pub fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// The faults by kind, in words.
    pub fn summary(&self) -> String {
        if self.counts.is_empty() {
            return "no faults".to_owned();
        }
        let parts: Vec<String> = self.counts.iter().map(|(kind, count)| format!("{} {count}", kind.as_str())).collect();
        parts.join(", ")
    }

    /// A record was read well.
    pub fn good(&mut self) {
        self.shift(false);
    }

    /// Something was skipped.
    ///
    /// # Errors
    /// The budget is spent: the error names the limit, the counts and the worst shard.
    pub fn bad(&mut self, fault: &ShardFault) -> Result<(), ZeroError> {
        self.shift(true);
        self.count(fault)
    }

    /// A record that was counted as good turned out bad.
    ///
    /// # Errors
    /// As [`Ledger::bad`].
    pub fn turned_bad(&mut self, fault: &ShardFault) -> Result<(), ZeroError> {
        if let Some(good) = self.window.iter_mut().rev().find(|faulty| !**faulty) {
            *good = true;
            self.window_faults += 1;
        }
        self.count(fault)
    }

    fn count(&mut self, fault: &ShardFault) -> Result<(), ZeroError> {
        let count = self.counts.entry(fault.kind).or_default();
        *count += 1;
        if *count == 1 {
            tracing::warn!(kind = fault.kind.as_str(), "skipped, further ones of this kind are only counted: {fault}");
        }
        self.first.get_or_insert_with(|| fault.to_string());
        *self.per_shard.entry(Arc::clone(&fault.shard)).or_default() += 1;
        let limits = self.limits;
        if self.total() > limits.faults_max {
            return Err(self.stop(format!("more than faults_max = {} faults", limits.faults_max), fault));
        }
        let most = limits.fault_fraction_max * limits.fault_window as f64;
        if self.window.len() >= limits.fault_window && self.window_faults as f64 > most {
            let (fraction, window) = (limits.fault_fraction_max, limits.fault_window);
            return Err(self.stop(format!("more than fault_fraction_max = {fraction} of the last {window} records"), fault));
        }
        Ok(())
    }

    fn shift(&mut self, faulty: bool) {
        if self.limits.fault_window == 0 {
            return;
        }
        if self.window.len() >= self.limits.fault_window && self.window.pop_front() == Some(true) {
            self.window_faults -= 1;
        }
        self.window.push_back(faulty);
        self.window_faults += usize::from(faulty);
    }

    /// The shard with most faults; of several the one whose name comes first.
    pub fn worst(&self) -> Option<(PathBuf, u64)> {
        let worst = self.per_shard.iter().max_by(|a, b| a.1.cmp(b.1).then_with(|| b.0.cmp(a.0)));
        worst.map(|(path, &count)| (path.to_path_buf(), count))
    }

    fn stop(&self, limit: String, last: &ShardFault) -> ZeroError {
        let (worst, worst_faults) = self.worst().unwrap_or_default();
        ZeroError::TooManyFaults { limit, counts: self.summary(), worst, worst_faults, last: last.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(shard: &str) -> ShardFault {
        ShardFault::new(FaultKind::BadRow, &Arc::from(Path::new(shard)), Place::Line(3), "no JSON")
    }

    #[test]
    fn the_absolute_limit_stops_and_names_the_worst_shard() {
        let mut ledger = Ledger::new(FaultLimits { faults_max: 3, fault_fraction_max: 1.0, fault_window: 10 });
        for shard in ["a", "b", "b"] {
            ledger.bad(&fault(shard)).unwrap();
        }
        let error = ledger.bad(&fault("a")).unwrap_err().to_string();
        assert!(error.contains("faults_max = 3") && error.contains("worst shard a (2 faults)"), "{error}");
        assert!(error.contains("bad_row 4") && error.contains("line 3: no JSON"), "{error}");
    }

    #[test]
    fn the_fraction_is_of_the_last_records_only() {
        let limits = FaultLimits { faults_max: 1000, fault_fraction_max: 0.5, fault_window: 10 };
        let mut ledger = Ledger::new(limits);
        for _ in 0..5 {
            ledger.bad(&fault("a")).unwrap();
        }
        for _ in 0..10 {
            ledger.good();
        }
        for _ in 0..5 {
            ledger.bad(&fault("a")).unwrap();
        }
        let error = ledger.bad(&fault("a")).unwrap_err().to_string();
        assert!(error.contains("fault_fraction_max = 0.5"), "{error}");
    }
}
