//! Metrics, in the text form of OpenMetrics. Every name starts with `astromech_`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use astromech_schemas::Kind;
use astromech_schemas::dead_letter::Reason;
use astromech_schemas::results::Operation;
use astromech_towers::{Priority, Tower};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::readiness::Condition;
use super::rescore::RescoreMetrics;
use super::stage::{SpanOutcome, Stage};

/// Content type of [`Metrics::encode`].
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds, from a vector lookup to a slow image host.
pub(super) const SECONDS_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Seconds, from a deletion to a record that waited for an outage to end.
const RECORD_BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];
/// Items of one batch.
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Declares a label set with constructor-free public use inside this file.
macro_rules! labels {
    ($name:ident { $($field:ident: $type:ty),+ }) => {
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($field: $type),+ }
    };
}

labels!(TopicLabel { topic: String });
labels!(AppliedLabels { kind: &'static str, operation: &'static str });
labels!(ReasonLabel { reason: &'static str });
labels!(StageLabel { stage: &'static str });
labels!(TowerLabel { tower: &'static str });
labels!(TowerBatchLabels { tower: &'static str, priority: &'static str });
labels!(QueueLabel { queue: &'static str });
labels!(PartitionLabels { topic: String, partition: i32 });
labels!(KindLabel { kind: &'static str });
labels!(RequestLabels { route: &'static str, status: u16 });
labels!(RouteLabel { route: &'static str });
labels!(GenerationLabels { fingerprint: String, state: &'static str });
labels!(FingerprintLabel { fingerprint: String });
labels!(ConditionLabel { condition: &'static str });
labels!(VersionLabel { version: &'static str });
labels!(OutcomeLabel { outcome: &'static str });
labels!(ProviderLabels { provider: String, precision: &'static str, fingerprint: String });

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Every metric of the daemon: built once, shared, written from anywhere.
#[derive(Debug)]
pub struct Metrics {
    /// Of a generation: the daemon's own, counted on while that generation is live.
    main: Option<(Arc<Metrics>, Arc<AtomicBool>)>,
    registry: Registry,
    /// Of re-scoring.
    pub rescore: RescoreMetrics,
    records_consumed: Family<TopicLabel, Counter>,
    /// Over all topics.
    consumed: AtomicU64,
    records_applied: Family<AppliedLabels, Counter>,
    dead_letters: Family<ReasonLabel, Counter>,
    retries: Family<StageLabel, Counter>,
    media_host_pauses: Counter,
    tombstones_purged: Counter,
    stage_seconds: Histograms<StageLabel>,
    record_seconds: Histogram,
    batch_size: Histograms<TowerLabel>,
    tower_seconds: Histograms<TowerLabel>,
    index_batch_size: Histogram,
    bytes_in_flight: Gauge,
    partitions_assigned: Gauge,
    ready: Family<ConditionLabel, Gauge>,
    build: Family<VersionLabel, Gauge>,
    resident_bytes: Gauge,
    trace_spans: Family<OutcomeLabel, Counter>,
    tower_batches: Family<TowerBatchLabels, Counter>,
    tower_expired: Family<TowerLabel, Counter>,
    tower_dropped: Family<TowerLabel, Counter>,
    queue_depth: Family<QueueLabel, Gauge>,
    partition_lag: Family<PartitionLabels, Gauge>,
    oldest_unacked: Gauge<f64, AtomicU64>,
    offsets_committed: Counter,
    index_points: Family<KindLabel, Gauge>,
    http_requests: Family<RequestLabels, Counter>,
    http_seconds: Histograms<RouteLabel>,
    http_in_flight: Gauge,
    provider: Family<ProviderLabels, Gauge>,
    generation_state: Family<GenerationLabels, Gauge>,
    generation_lag: Family<FingerprintLabel, Gauge>,
    generation_eta: Family<FingerprintLabel, Gauge>,
    rollouts: Family<OutcomeLabel, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero. What has a fixed set of labels is visible from the start, so that a rate has a first point.
    pub fn new() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS_BUCKETS);
        let items: fn() -> Histogram = || Histogram::new(BATCH_BUCKETS);
        let mut metrics = Self {
            main: None,
            registry: Registry::with_prefix("astromech"),
            rescore: RescoreMetrics::new(),
            records_consumed: Family::default(),
            consumed: AtomicU64::new(0),
            records_applied: Family::default(),
            dead_letters: Family::default(),
            retries: Family::default(),
            media_host_pauses: Counter::default(),
            tombstones_purged: Counter::default(),
            stage_seconds: Family::new_with_constructor(seconds),
            record_seconds: Histogram::new(RECORD_BUCKETS),
            batch_size: Family::new_with_constructor(items),
            tower_seconds: Family::new_with_constructor(seconds),
            index_batch_size: items(),
            bytes_in_flight: Gauge::default(),
            partitions_assigned: Gauge::default(),
            ready: Family::default(),
            build: Family::default(),
            resident_bytes: Gauge::default(),
            trace_spans: Family::default(),
            tower_batches: Family::default(),
            tower_expired: Family::default(),
            tower_dropped: Family::default(),
            queue_depth: Family::default(),
            partition_lag: Family::default(),
            oldest_unacked: Gauge::default(),
            offsets_committed: Counter::default(),
            index_points: Family::default(),
            http_requests: Family::default(),
            http_seconds: Family::new_with_constructor(seconds),
            http_in_flight: Gauge::default(),
            provider: Family::default(),
            generation_state: Family::default(),
            generation_lag: Family::default(),
            generation_eta: Family::default(),
            rollouts: Family::default(),
        };
        metrics.register();
        metrics.start_at_zero();
        metrics
    }

    /// Counts of one generation: into `main` while it is `live`, else into these, which nobody reads.
    pub fn of_generation(main: &Arc<Self>, live: &Arc<AtomicBool>) -> Self {
        Self { main: Some((Arc::clone(main), Arc::clone(live))), ..Self::new() }
    }

    /// Where is counted.
    fn at(&self) -> &Self {
        match &self.main {
            Some((main, live)) if live.load(Ordering::Acquire) => main,
            _ => self,
        }
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("records_consumed", "Records read from Kafka", self.records_consumed.clone());
        r.register(
            "records_applied",
            "Changes that the index holds and whose result is acknowledged",
            self.records_applied.clone(),
        );
        r.register("dead_letters", "Records sent to the dead-letter topic", self.dead_letters.clone());
        r.register("retries", "Attempts repeated after a fault that may pass", self.retries.clone());
        r.register(
            "media_host_pauses",
            "Times that a picture host was left alone after failures in a row",
            self.media_host_pauses.clone(),
        );
        r.register("tombstones_purged", "Tombstones removed after their retention", self.tombstones_purged.clone());
        r.register_with_unit("stage", "Time of one record or batch in a stage", Unit::Seconds, self.stage_seconds.clone());
        r.register_with_unit(
            "record",
            "Time of one record from being read to its acknowledgement",
            Unit::Seconds,
            self.record_seconds.clone(),
        );
        r.register_with_unit("tower", "Time of one batch of a tower", Unit::Seconds, self.tower_seconds.clone());
        r.register("index_batch_size", "Changes of one write to the index", self.index_batch_size.clone());
        r.register("bytes_in_flight", "Bytes of the records under way", self.bytes_in_flight.clone());
        r.register("partitions_assigned", "Partitions that this daemon reads", self.partitions_assigned.clone());
        r.register("ready", "Whether each condition of readiness holds", self.ready.clone());
        r.register("build_info", "Version of the daemon", self.build.clone());
        r.register("resident_memory_bytes", "Memory of the process", self.resident_bytes.clone());
        r.register(
            "trace_spans",
            "Spans that ended, that the collector took, and that it did not take",
            self.trace_spans.clone(),
        );
        r.register("batch_size", "Items of one batch of a tower", self.batch_size.clone());
        r.register(
            "tower_batches",
            "Batches of a tower by whose turn they were: live requests or indexing",
            self.tower_batches.clone(),
        );
        r.register("tower_expired", "Entries dropped unrun because their deadline had passed", self.tower_expired.clone());
        r.register("tower_dropped", "Entries dropped unrun because their caller had gone away", self.tower_dropped.clone());
        r.register("queue_depth", "Items waiting in a queue", self.queue_depth.clone());
        r.register(
            "partition_lag",
            "Records between the committed offset and the end of a partition",
            self.partition_lag.clone(),
        );
        r.register_with_unit("oldest_unacked", "Age of the oldest record in flight", Unit::Seconds, self.oldest_unacked.clone());
        r.register("offsets_committed", "Offset commits accepted by the broker", self.offsets_committed.clone());
        r.register("index_points", "Live points in the index", self.index_points.clone());
        r.register("http_requests", "HTTP requests answered", self.http_requests.clone());
        r.register_with_unit("http", "Time to answer an HTTP request", Unit::Seconds, self.http_seconds.clone());
        r.register("http_in_flight", "HTTP requests being answered", self.http_in_flight.clone());
        r.register("provider_info", "Execution provider, precision and vector space in use", self.provider.clone());
        r.register("generation_state", "Generations and what each is doing", self.generation_state.clone());
        r.register(
            "generation_lag_records",
            "Records that a generation's group has not acknowledged",
            self.generation_lag.clone(),
        );
        r.register_with_unit(
            "generation_eta",
            "Until a generation is at the live head",
            Unit::Seconds,
            self.generation_eta.clone(),
        );
        r.register("rollouts", "Rollouts that ended", self.rollouts.clone());
        self.rescore.register(r);
    }

    fn start_at_zero(&self) {
        for kind in Kind::ALL {
            for operation in [Operation::Upsert, Operation::Delete] {
                let _ = self
                    .records_applied
                    .get_or_create(&AppliedLabels { kind: kind.as_str(), operation: operation_word(operation) });
            }
        }
        for reason in Reason::ALL {
            let _ = self.dead_letters.get_or_create(&ReasonLabel { reason: reason.as_str() });
        }
        for tower in [Tower::Image, Tower::Text, Tower::Cross] {
            let label = TowerLabel { tower: tower.as_str() };
            let _ = (self.tower_expired.get_or_create(&label).get(), self.tower_dropped.get_or_create(&label).get());
            for priority in [Priority::Live, Priority::Indexing] {
                let _ = self.tower_batches.get_or_create(&batch_labels(tower, priority)).get();
            }
        }
        for outcome in ["live", "refused", "rolled_back"] {
            let _ = self.rollouts.get_or_create(&OutcomeLabel { outcome }).get();
        }
        for outcome in [SpanOutcome::Ended, SpanOutcome::Exported, SpanOutcome::Failed].map(SpanOutcome::as_str) {
            let _ = self.trace_spans.get_or_create(&OutcomeLabel { outcome }).get();
        }
        self.build.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        for stage in Stage::ALL {
            let _ = self.retries.get_or_create(&StageLabel { stage: stage.as_str() });
            let _ = self.stage_seconds.get_or_create(&StageLabel { stage: stage.as_str() });
        }
    }

    /// One record was read from `topic`.
    pub fn record_consumed(&self, topic: &str) {
        self.at().consumed.fetch_add(1, Ordering::Relaxed);
        self.at().records_consumed.get_or_create(&TopicLabel { topic: topic.to_owned() }).inc();
    }

    /// One change is in the index and its result is acknowledged.
    pub fn record_applied(&self, kind: Kind, operation: Operation) {
        self.at()
            .records_applied
            .get_or_create(&AppliedLabels { kind: kind.as_str(), operation: operation_word(operation) })
            .inc();
    }

    /// One record went to the dead-letter topic.
    pub fn dead_letter(&self, reason: Reason) {
        self.at().dead_letters.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
    }

    /// So many tombstones were removed.
    pub fn tombstones_purged(&self, tombstones: u64) {
        self.at().tombstones_purged.inc_by(tombstones);
    }

    /// A picture host is left alone for a while.
    pub fn media_host_paused(&self) {
        self.at().media_host_pauses.inc();
    }

    /// One attempt of `stage` is repeated.
    pub fn retry(&self, stage: Stage) {
        self.at().retries.get_or_create(&StageLabel { stage: stage.as_str() }).inc();
    }

    /// `stage` took `time` for one record or batch.
    pub fn stage_time(&self, stage: Stage, time: Duration) {
        self.at().stage_seconds.get_or_create(&StageLabel { stage: stage.as_str() }).observe(time.as_secs_f64());
    }

    /// A record was acknowledged `time` after it was read.
    pub fn record_time(&self, time: Duration) {
        self.at().record_seconds.observe(time.as_secs_f64());
    }

    /// A batch of `items` went through `tower` (`image`, `text` or `cross`) in `time`.
    pub fn batch(&self, tower: &'static str, items: usize, time: Duration) {
        self.at().batch_size.get_or_create(&TowerLabel { tower }).observe(items as f64);
        self.at().tower_seconds.get_or_create(&TowerLabel { tower }).observe(time.as_secs_f64());
    }

    /// A write to the index has `changes`.
    pub fn index_batch(&self, changes: usize) {
        self.at().index_batch_size.observe(changes as f64);
    }

    /// The records under way have `bytes`.
    pub fn set_bytes_in_flight(&self, bytes: usize) {
        self.at().bytes_in_flight.set(bytes as i64);
    }

    /// This daemon reads `partitions`.
    pub fn set_partitions_assigned(&self, partitions: usize) {
        self.at().partitions_assigned.set(partitions as i64);
    }

    /// What became of `spans`.
    pub fn spans(&self, outcome: SpanOutcome, spans: usize) {
        self.trace_spans.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc_by(spans as u64);
    }

    /// What holds of readiness, and the memory of the process: looked at when somebody asks for the metrics.
    pub fn set_state(&self, conditions: impl Iterator<Item = (Condition, bool)>, resident_bytes: u64) {
        for (condition, holds) in conditions {
            self.ready.get_or_create(&ConditionLabel { condition: condition.as_str() }).set(i64::from(holds));
        }
        self.resident_bytes.set(i64::try_from(resident_bytes).unwrap_or(i64::MAX));
    }

    /// A batch of `tower` was the turn of `priority`.
    pub fn tower_led(&self, tower: Tower, priority: Priority) {
        self.at().tower_batches.get_or_create(&batch_labels(tower, priority)).inc();
    }

    /// An entry's deadline passed before `tower` ran it.
    pub fn tower_expired(&self, tower: Tower) {
        self.at().tower_expired.get_or_create(&TowerLabel { tower: tower.as_str() }).inc();
    }

    /// An entry's caller went away before `tower` ran it.
    pub fn tower_dropped(&self, tower: Tower) {
        self.at().tower_dropped.get_or_create(&TowerLabel { tower: tower.as_str() }).inc();
    }

    /// `queue` holds `items`.
    pub fn set_queue_depth(&self, queue: &'static str, items: usize) {
        self.at().queue_depth.get_or_create(&QueueLabel { queue }).set(items as i64);
    }

    /// `records` lie between the committed offset and the end of the partition.
    pub fn set_partition_lag(&self, topic: &str, partition: i32, records: i64) {
        self.at().partition_lag.get_or_create(&PartitionLabels { topic: topic.to_owned(), partition }).set(records);
    }

    /// The partition was taken away: its lag is another's to report.
    pub fn forget_partition(&self, topic: &str, partition: i32) {
        self.at().partition_lag.remove(&PartitionLabels { topic: topic.to_owned(), partition });
    }

    /// Age of the oldest record in flight; zero when none is.
    pub fn set_oldest_unacked(&self, age: Duration) {
        self.at().oldest_unacked.set(age.as_secs_f64());
    }

    /// The broker accepted one commit.
    pub fn offsets_committed(&self) {
        self.at().offsets_committed.inc();
    }

    /// The index holds `points` live points of `kind`.
    pub fn set_index_points(&self, kind: Kind, points: u64) {
        self.at().index_points.get_or_create(&KindLabel { kind: kind.as_str() }).set(i64::try_from(points).unwrap_or(i64::MAX));
    }

    /// Another generation is live: the lags of the old one's partitions are no longer reported.
    pub fn forget_partitions(&self) {
        self.at().partition_lag.clear();
    }

    /// Records read by the live generations so far.
    pub fn records_consumed_total(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    /// Records under way in the live pipeline, as last looked at.
    pub fn records_in_flight(&self) -> usize {
        self.queue_depth.get_or_create(&QueueLabel { queue: "records" }).get().max(0) as usize
    }

    /// Requests being answered.
    pub fn http_in_flight(&self) -> usize {
        self.http_in_flight.get().max(0) as usize
    }

    /// The generations: their states, and how far behind the live head they are. What is not named is no longer reported.
    pub fn set_generations<'a>(&self, generations: impl Iterator<Item = (&'a str, &'static str, u64, Option<u64>)>) {
        self.generation_state.clear();
        self.generation_lag.clear();
        self.generation_eta.clear();
        for (fingerprint, state, lag, eta_seconds) in generations {
            let label = || FingerprintLabel { fingerprint: fingerprint.to_owned() };
            self.generation_state.get_or_create(&GenerationLabels { fingerprint: fingerprint.to_owned(), state }).set(1);
            self.generation_lag.get_or_create(&label()).set(i64::try_from(lag).unwrap_or(i64::MAX));
            if let Some(eta) = eta_seconds {
                self.generation_eta.get_or_create(&label()).set(i64::try_from(eta).unwrap_or(i64::MAX));
            }
        }
    }

    /// A rollout ended: `live`, `refused` or `rolled_back`.
    pub fn rollout_ended(&self, outcome: &'static str) {
        self.rollouts.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A request of `route` was answered with `status` after `time`.
    pub fn http_answered(&self, route: &'static str, status: u16, time: Duration) {
        self.http_requests.get_or_create(&RequestLabels { route, status }).inc();
        self.http_seconds.get_or_create(&RouteLabel { route }).observe(time.as_secs_f64());
    }

    /// `requests` are being answered.
    pub fn set_http_in_flight(&self, requests: usize) {
        self.http_in_flight.set(requests as i64);
    }

    /// What the towers run on: provider, precision and vector space. A later call replaces an earlier one.
    pub fn set_provider(&self, provider: &str, precision: &'static str, fingerprint: &str) {
        self.provider.clear();
        let labels = ProviderLabels { provider: provider.to_owned(), precision, fingerprint: fingerprint.to_owned() };
        self.provider.get_or_create(&labels).set(1);
    }

    /// All metrics, in the form of [`METRICS_CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String can't fail");
        text
    }
}

const fn batch_labels(tower: Tower, priority: Priority) -> TowerBatchLabels {
    let priority = match priority {
        Priority::Live => "live",
        Priority::Indexing => "indexing",
    };
    TowerBatchLabels { tower: tower.as_str(), priority }
}

const fn operation_word(operation: Operation) -> &'static str {
    match operation {
        Operation::Upsert => "upsert",
        Operation::Delete => "delete",
    }
}

#[cfg(test)]
mod tests;
