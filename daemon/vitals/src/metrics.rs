//! Metrics, in the text form of OpenMetrics. Every name starts with `astromech_`.
//!
//! A room defines its own, beside what counts them: a [`MetricSet`]. [`Metrics`] knows none of them: it registers a set when it is first
//! asked for one, and exports all.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

/// Content type of [`Metrics::encode`].
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds, from a vector lookup to a slow image host.
const SECONDS_BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Items of one batch.
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// A histogram for each set of labels `L`.
pub type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Of seconds, from a vector lookup to a slow image host.
pub fn seconds() -> Histogram {
    Histogram::new(SECONDS_BUCKETS)
}

/// Of the items of a batch.
pub fn items() -> Histogram {
    Histogram::new(BATCH_BUCKETS)
}

/// A gauge of the seconds since something happened last, by the time that somebody asks: it grows while nothing happens, which a gauge
/// that is set does not. Without a value until [`Age::begin`].
#[derive(Debug, Clone, Default)]
pub struct Age(Arc<Since>);

#[derive(Debug, Default)]
struct Since {
    begun: OnceLock<Instant>,
    /// Milliseconds from `begun` until it happened last.
    last_ms: AtomicU64,
}

impl Age {
    /// Counted from now on, where it has not begun yet.
    pub fn begin(&self) {
        self.0.begun.get_or_init(Instant::now);
    }

    /// It happened now.
    pub fn happened(&self) {
        let begun = self.0.begun.get_or_init(Instant::now);
        self.0.last_ms.store(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn seconds(&self) -> Option<f64> {
        let begun = self.0.begun.get()?;
        let last = Duration::from_millis(self.0.last_ms.load(Ordering::Relaxed));
        Some(begun.elapsed().saturating_sub(last).as_secs_f64())
    }
}

impl EncodeMetric for Age {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.seconds().map_or(Ok(()), |seconds| encoder.encode_gauge(&seconds))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.0.begun.get().is_none()
    }
}

/// Declares label sets of metrics: a struct each. The caller's crate needs `prometheus-client`.
#[macro_export]
macro_rules! labels {
    ($($name:ident { $($field:ident: $type:ty),+ })+) => {
        $(#[derive(Debug, Clone, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelSet)]
        struct $name { $($field: $type),+ })+
    };
}
/// The metrics that one room counts.
pub trait MetricSet: Send + Sync + 'static {
    /// All at zero. What has a fixed set of labels is visible from the start, so that a rate has a first point.
    fn register(registrar: &mut Registrar<'_>) -> Self;
}

/// Where a set registers its metrics; nowhere for a generation, whose own counts nobody reads.
pub struct Registrar<'a>(Option<&'a mut Registry>);

impl Registrar<'_> {
    /// A metric at zero.
    pub fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.add_made(name, help, M::default())
    }

    /// A metric that is more than its type.
    pub fn add_made<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        if let Some(registry) = &mut self.0 {
            registry.register(name, help, metric.clone());
        }
        metric
    }

    /// As [`Registrar::add_made`], of seconds: `_seconds` is put after `name`.
    pub fn add_seconds<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        if let Some(registry) = &mut self.0 {
            registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
        }
        metric
    }
}

/// Every metric of a process, or what one generation counts: shared, and asked for a room's set once.
#[derive(Debug)]
pub struct Metrics(Sink);

#[derive(Debug)]
enum Sink {
    Exported(Mutex<Exported>),
    /// Counted by the daemon while the generation is live.
    Generation {
        main: Arc<Metrics>,
        live: Arc<AtomicBool>,
    },
}

#[derive(Debug)]
struct Exported {
    registry: Registry,
    sets: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Without any set.
    pub fn new() -> Self {
        let exported = Exported { registry: Registry::with_prefix("astromech"), sets: HashMap::new() };
        Self(Sink::Exported(Mutex::new(exported)))
    }

    /// Counts of one generation: into `main` while it is `live`, else nowhere.
    pub fn of_generation(main: &Arc<Self>, live: &Arc<AtomicBool>) -> Self {
        Self(Sink::Generation { main: Arc::clone(main), live: Arc::clone(live) })
    }

    /// The set of one room; registered the first time.
    pub fn of<S: MetricSet>(&self) -> Meter<S> {
        match &self.0 {
            Sink::Exported(exported) => {
                let Exported { registry, sets } = &mut *lock(exported);
                let set = sets.entry(TypeId::of::<S>()).or_insert_with(|| Arc::new(S::register(&mut Registrar(Some(registry)))));
                Meter { set: Arc::clone(set).downcast().expect("a set is kept by its type"), unread: None }
            }
            Sink::Generation { main, live } => {
                let unread = Some((Arc::new(S::register(&mut Registrar(None))), Arc::clone(live)));
                Meter { unread, ..main.of() }
            }
        }
    }

    /// All metrics of the process, in the form of [`METRICS_CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        match &self.0 {
            Sink::Exported(exported) => {
                let mut text = String::new();
                encode(&mut text, &lock(exported).registry).expect("writing to a String can't fail");
                text
            }
            Sink::Generation { main, .. } => main.encode(),
        }
    }
}

fn lock(exported: &Mutex<Exported>) -> MutexGuard<'_, Exported> {
    exported.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A room's metrics, as one part counts them: those that are exported, but of a generation only while it is live.
#[derive(Debug)]
pub struct Meter<S> {
    set: Arc<S>,
    /// What is counted by a generation while it is not live, and whether it is.
    unread: Option<(Arc<S>, Arc<AtomicBool>)>,
}

impl<S> Clone for Meter<S> {
    fn clone(&self) -> Self {
        Self { set: Arc::clone(&self.set), unread: self.unread.clone() }
    }
}

impl<S> Deref for Meter<S> {
    type Target = S;

    fn deref(&self) -> &S {
        match &self.unread {
            Some((unread, live)) if !live.load(Ordering::Acquire) => unread,
            _ => &self.set,
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    struct Told(Counter);

    impl MetricSet for Told {
        fn register(registrar: &mut Registrar<'_>) -> Self {
            Self(registrar.add("told", "Times that somebody was told"))
        }
    }

    #[test]
    fn a_set_is_registered_once_and_shared() {
        let metrics = Metrics::new();
        metrics.of::<Told>().0.inc();
        metrics.of::<Told>().0.inc();
        assert_eq!(metrics.encode().matches("astromech_told_total 2\n").count(), 1);
    }

    #[test]
    fn an_age_is_told_once_it_has_begun_and_grows_until_it_happens_again() {
        struct Heard(Age);
        impl MetricSet for Heard {
            fn register(registrar: &mut Registrar<'_>) -> Self {
                Self(registrar.add_seconds("heard", "Since somebody was heard", Age::default()))
            }
        }
        let metrics = Metrics::new();
        let heard = metrics.of::<Heard>();
        let told = || {
            let text = metrics.encode();
            text.lines().find_map(|line| line.strip_prefix("astromech_heard_seconds ")?.parse::<f64>().ok())
        };
        assert_eq!(told(), None);
        heard.0.begin();
        std::thread::sleep(Duration::from_millis(30));
        assert!(told().unwrap() >= 0.03);
        heard.0.happened();
        let young = told().unwrap();
        std::thread::sleep(Duration::from_millis(5));
        assert!(young < 0.03 && told().unwrap() > young, "{young}");
    }

    #[test]
    fn a_generation_counts_into_the_daemons_metrics_only_while_it_is_live() {
        let (main, live) = (Arc::new(Metrics::new()), Arc::new(AtomicBool::new(false)));
        let told = Metrics::of_generation(&main, &live).of::<Told>();
        told.0.inc();
        assert!(main.encode().contains("astromech_told_total 0\n"));
        live.store(true, Ordering::Release);
        told.0.inc();
        live.store(false, Ordering::Release);
        told.0.inc();
        assert!(main.encode().contains("astromech_told_total 1\n"));
    }
}
