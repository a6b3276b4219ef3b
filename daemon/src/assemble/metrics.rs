//! What the towers do, into metrics.

use std::time::Duration;

use astromech_towers::{BatchObserver, Priority, Tower};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::vitals::{Histograms, Meter, MetricSet, Registrar, items, labels, seconds};

labels! {
    TowerLabel { tower: &'static str }
    BatchLabels { tower: &'static str, priority: &'static str }
    ProviderLabels { provider: String, precision: &'static str, fingerprint: String }
}

/// Of the towers' batches, and what they run on.
pub struct TowerMetrics {
    batch_size: Histograms<TowerLabel>,
    seconds: Histograms<TowerLabel>,
    batches: Family<BatchLabels, Counter>,
    expired: Family<TowerLabel, Counter>,
    dropped: Family<TowerLabel, Counter>,
    provider: Family<ProviderLabels, Gauge>,
}

impl MetricSet for TowerMetrics {
    fn register(r: &mut Registrar<'_>) -> Self {
        let (sizes, times) = (Histograms::new_with_constructor(items as _), Histograms::new_with_constructor(seconds as _));
        let metrics = Self {
            batch_size: r.add_made("batch_size", "Items of one batch of a tower", sizes),
            seconds: r.add_seconds("tower", "Time of one batch of a tower", times),
            batches: r.add("tower_batches", "Batches of a tower by whose turn they were: live requests or indexing"),
            expired: r.add("tower_expired", "Entries dropped unrun because their deadline had passed"),
            dropped: r.add("tower_dropped", "Entries dropped unrun because their caller had gone away"),
            provider: r.add("provider_info", "Execution provider, precision and vector space in use"),
        };
        for tower in [Tower::Image, Tower::Text, Tower::Cross] {
            let _ = (metrics.expired.get_or_create(&label(tower)).get(), metrics.dropped.get_or_create(&label(tower)).get());
            for priority in [Priority::Live, Priority::Indexing] {
                let _ = metrics.batches.get_or_create(&batch_labels(tower, priority));
            }
        }
        metrics
    }
}

impl TowerMetrics {
    /// What the towers run on: provider, precision and vector space. A later call replaces an earlier one.
    pub fn set_provider(&self, provider: &str, precision: &'static str, fingerprint: &str) {
        self.provider.clear();
        let labels = ProviderLabels { provider: provider.to_owned(), precision, fingerprint: fingerprint.to_owned() };
        self.provider.get_or_create(&labels).set(1);
    }
}

/// Counts what the towers do.
pub struct Batches(pub Meter<TowerMetrics>);

impl BatchObserver for Batches {
    fn batch(&self, tower: Tower, items: usize, busy: Duration) {
        self.0.batch_size.get_or_create(&label(tower)).observe(items as f64);
        self.0.seconds.get_or_create(&label(tower)).observe(busy.as_secs_f64());
    }

    fn led(&self, tower: Tower, priority: Priority) {
        self.0.batches.get_or_create(&batch_labels(tower, priority)).inc();
    }

    fn expired(&self, tower: Tower) {
        self.0.expired.get_or_create(&label(tower)).inc();
    }

    fn dropped(&self, tower: Tower) {
        self.0.dropped.get_or_create(&label(tower)).inc();
    }
}

const fn label(tower: Tower) -> TowerLabel {
    TowerLabel { tower: tower.as_str() }
}

const fn batch_labels(tower: Tower, priority: Priority) -> BatchLabels {
    let priority = match priority {
        Priority::Live => "live",
        Priority::Indexing => "indexing",
    };
    BatchLabels { tower: tower.as_str(), priority }
}
