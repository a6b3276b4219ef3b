//! The steps of the way of a record, and what each counts.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::metrics::{Histograms, MetricSet, Registrar, seconds};
use crate::labels;

/// A step of the way of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Waiting for room between the topic and the pipeline.
    Consume,
    /// Reading the message.
    Decode,
    /// Fetching a picture.
    Media,
    /// Decoding, resizing, tokenising.
    Prepare,
    /// The towers.
    Embed,
    /// Writing to the index.
    Index,
    /// Publishing the result.
    Publish,
}

impl Stage {
    /// Every stage, in the order of the way.
    pub const ALL: [Self; 7] = [Self::Consume, Self::Decode, Self::Media, Self::Prepare, Self::Embed, Self::Index, Self::Publish];

    /// The word in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consume => "consume",
            Self::Decode => "decode",
            Self::Media => "media",
            Self::Prepare => "prepare",
            Self::Embed => "embed",
            Self::Index => "index",
            Self::Publish => "publish",
        }
    }
}

labels! {
    StageLabel { stage: &'static str }
}

/// What every stage counts alike.
#[derive(Debug)]
pub struct StageMetrics {
    retries: Family<StageLabel, Counter>,
    seconds: Histograms<StageLabel>,
}

impl MetricSet for StageMetrics {
    fn register(r: &mut Registrar<'_>) -> Self {
        let times = Histograms::new_with_constructor(seconds);
        let metrics = Self {
            retries: r.add("retries", "Attempts repeated after a fault that may pass"),
            seconds: r.add_seconds("stage", "Time of one record or batch in a stage", times),
        };
        for stage in Stage::ALL {
            let _ = metrics.retries.get_or_create(&StageLabel { stage: stage.as_str() });
            let _ = metrics.seconds.get_or_create(&StageLabel { stage: stage.as_str() });
        }
        metrics
    }
}

impl StageMetrics {
    /// One attempt of `stage` is repeated.
    pub fn retry(&self, stage: Stage) {
        self.retries.get_or_create(&StageLabel { stage: stage.as_str() }).inc();
    }

    /// `stage` took `time` for one record or batch.
    pub fn took(&self, stage: Stage, time: Duration) {
        self.seconds.get_or_create(&StageLabel { stage: stage.as_str() }).observe(time.as_secs_f64());
    }
}
