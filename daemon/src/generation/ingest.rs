//! Source and pipeline of one generation.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::serving::Serving;
use crate::assemble::warm_cache;
use crate::config::{Config, KafkaConfig};
use crate::media::Media;
use crate::pipeline::{self, KafkaOutlet, PipelineParts, PoisonBreaker, Refiller, Throttle, TopicRules};
use crate::source::{self, Drained, SourceDeps, SourceError};
use crate::vitals::{Condition, Vitals};

/// Longest wait at the end for what ends by itself once its input has ended.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// What a generation reads with.
pub struct Ingest<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Topics, and the generation's own consumer group.
    pub kafka: KafkaConfig,
    /// Towers and index.
    pub serving: Arc<Serving>,
    /// Where results and dead letters go.
    pub outlet: Arc<KafkaOutlet>,
    /// This generation's own.
    pub vitals: Vitals,
    /// Live traffic first; `None` where there is only one generation.
    pub throttle: Option<Arc<Throttle>>,
}

impl Ingest<'_> {
    /// Starts both.
    ///
    /// # Errors
    /// A folder of `media.file_roots` that is not there; a property that librdkafka refuses.
    pub fn start(self, stop: CancellationToken) -> Result<Reading> {
        Ok(self.start_refillable(stop)?.0)
    }

    /// As [`Ingest::start`], with a way in for items of another generation.
    ///
    /// # Errors
    /// As [`Ingest::start`].
    pub fn start_refillable(self, stop: CancellationToken) -> Result<(Reading, Refiller)> {
        let limits = &self.config.pipeline;
        let warm = warm_cache(self.config, self.serving.rescorer.as_ref());
        let parts = PipelineParts {
            towers: self.serving.towers.clone(),
            index: Arc::clone(&self.serving.writer),
            media: Arc::new(Media::new(&self.config.media)?.measured(&self.vitals.metrics)),
            vitals: self.vitals.clone(),
            rules: self.kafka.topics.iter().map(|topic| (Arc::from(topic.name.as_str()), TopicRules::from(topic))).collect(),
            avro: self.outlet.avro(),
            poison: Some(PoisonBreaker::new(limits.poison_window, limits.poison_share_max)),
            results: self.kafka.results,
            outlet: self.outlet,
            warm,
            throttle: self.throttle,
        };
        let (intake, refiller, pipeline) = pipeline::start_refillable(self.config, parts);
        let deps = SourceDeps { intake, vitals: self.vitals, condition: Condition::Kafka, stop };
        let source = source::start(&self.kafka, deps).context("reading from kafka did not start")?;
        Ok((Reading { source, pipeline }, refiller))
    }
}

/// A source with what its records go through.
pub struct Reading {
    /// What the polling thread ends with.
    pub source: oneshot::Receiver<Result<Drained, SourceError>>,
    /// Ends after the last record.
    pub pipeline: JoinHandle<()>,
}

impl Reading {
    /// Waits until the source has left its group and what it read has ended.
    ///
    /// # Errors
    /// The source gave up.
    pub async fn end(self) -> Result<Drained> {
        // Only a panic of the polling thread drops its answer.
        let drained = self.source.await.map_err(|_| anyhow::anyhow!("the polling thread ended without an answer"));
        if tokio::time::timeout(END_TIMEOUT, self.pipeline).await.is_err() {
            // What is left waits for something that may pass; it is not acknowledged, so it is read again.
            warn!("records were left waiting at the end");
        }
        Ok(drained??)
    }
}
