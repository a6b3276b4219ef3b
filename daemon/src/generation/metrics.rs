//! What the generations count.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::vitals::{MetricSet, Registrar, labels};

labels! {
    StateLabels { fingerprint: String, state: &'static str }
    FingerprintLabel { fingerprint: String }
    OutcomeLabel { outcome: &'static str }
}

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutEnd {
    /// The generation went live.
    Live,
    /// Its bundle was refused.
    Refused,
    /// The one before it went live again.
    RolledBack,
}

impl RolloutEnd {
    const ALL: [Self; 3] = [Self::Live, Self::Refused, Self::RolledBack];

    const fn label(self) -> OutcomeLabel {
        let outcome = match self {
            Self::Live => "live",
            Self::Refused => "refused",
            Self::RolledBack => "rolled_back",
        };
        OutcomeLabel { outcome }
    }
}

/// Of generations and rollouts.
pub struct GenerationMetrics {
    state: Family<StateLabels, Gauge>,
    lag: Family<FingerprintLabel, Gauge>,
    eta: Family<FingerprintLabel, Gauge>,
    rollouts: Family<OutcomeLabel, Counter>,
}

impl MetricSet for GenerationMetrics {
    fn register(r: &mut Registrar<'_>) -> Self {
        let metrics = Self {
            state: r.add("generation_state", "Generations and what each is doing"),
            lag: r.add("generation_lag_records", "Records that a generation's group has not acknowledged"),
            eta: r.add_seconds("generation_eta", "Until a generation is at the live head", Family::default()),
            rollouts: r.add("rollouts", "Rollouts that ended"),
        };
        for end in RolloutEnd::ALL {
            let _ = metrics.rollouts.get_or_create(&end.label());
        }
        metrics
    }
}

impl GenerationMetrics {
    /// The generations: their states, and how far behind the live head they are. What is not named is no longer reported.
    pub fn set_generations<'a>(&self, generations: impl Iterator<Item = (&'a str, &'static str, u64, Option<u64>)>) {
        self.state.clear();
        self.lag.clear();
        self.eta.clear();
        for (fingerprint, state, lag, eta_seconds) in generations {
            let label = || FingerprintLabel { fingerprint: fingerprint.to_owned() };
            self.state.get_or_create(&StateLabels { fingerprint: fingerprint.to_owned(), state }).set(1);
            self.lag.get_or_create(&label()).set(i64::try_from(lag).unwrap_or(i64::MAX));
            if let Some(eta) = eta_seconds {
                self.eta.get_or_create(&label()).set(i64::try_from(eta).unwrap_or(i64::MAX));
            }
        }
    }

    /// A rollout ended.
    pub fn rollout_ended(&self, end: RolloutEnd) {
        self.rollouts.get_or_create(&end.label()).inc();
    }
}
