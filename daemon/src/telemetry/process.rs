//! The process: its version, its memory, and what holds of its readiness.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::vitals::{MetricSet, Readiness, Registrar, labels};

labels! {
    ConditionLabel { condition: &'static str }
    VersionLabel { version: &'static str }
}

/// Of the process.
pub struct ProcessMetrics {
    ready: Family<ConditionLabel, Gauge>,
    resident_bytes: Gauge,
}

impl MetricSet for ProcessMetrics {
    fn register(r: &mut Registrar<'_>) -> Self {
        let build: Family<VersionLabel, Gauge> = r.add("build_info", "Version of the daemon");
        build.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        Self {
            ready: r.add("ready", "Whether each condition of readiness holds"),
            resident_bytes: r.add("resident_memory_bytes", "Memory of the process"),
        }
    }
}

impl ProcessMetrics {
    /// Looks at what holds of `readiness` and at the memory in use: called when somebody asks for the metrics.
    pub fn look(&self, readiness: &Readiness) {
        for (condition, holds) in readiness.conditions() {
            self.ready.get_or_create(&ConditionLabel { condition: condition.as_str() }).set(i64::from(holds));
        }
        self.resident_bytes.set(i64::try_from(resident_bytes()).unwrap_or(i64::MAX));
    }
}

/// Resident bytes; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}
