//! The pipeline: the way of a record between the source and its acknowledgement.
//!
//! ```text
//! Intake ─records_in_flight_max, bytes_in_flight_max─> one task a record:
//!   decode -> fetch ─media.in_flight_max─> prepare ─cores─> towers ─towers.*.queue_max─> writer ─2 x index.batch_points_max─> index
//!          -> results topic -> acknowledge            (a permanent fault anywhere -> dead-letter topic -> acknowledge)
//! ```
//!
//! Every wait in a task is one of three: for room, for something that may pass (tried for ever, with backoff), or for an answer that the
//! fence or the halt ends. The writer alone writes to the index.

mod avro;
mod decode;
mod enrich;
mod frames;
mod kafka_outlet;
mod metrics;
mod outlet;
mod payload;
mod poison;
mod publish;
mod refill;
mod result;
mod task;
mod throttle;
mod write;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;

use astromech_towers::Towers;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

pub use avro::{AvroCodec, results_writer, schema_registry};
use enrich::Enricher;

pub use decode::{Decoded, TopicRules, VersionRule, decode};
pub use kafka_outlet::KafkaOutlet;
pub use metrics::PipelineMetrics;
pub use outlet::{Outlet, PublishError};
pub use payload::{BODY_CHARS_MAX, payload};
pub use poison::PoisonBreaker;
pub use publish::{Left, Publisher};
pub use refill::{Refill, RefillBody, Refilled, Refiller};
pub use throttle::{LiveTraffic, Pace, Throttle};
pub use write::{WriteReply, WriteRequest};
pub use writer::{Writer, WriterLimits};

use crate::config::{Config, ResultsConfig};
use crate::index::{Index, IndexWriter};
use crate::media::Media;
use crate::prepare::Preparer;
use crate::rescore::StateCache;
use crate::source::{Intake, one_task_each};
use crate::vitals::Vitals;

/// What the pipeline is made of.
pub struct PipelineParts {
    /// The towers.
    pub towers: Towers,
    /// Where points are written.
    pub index: Arc<dyn IndexWriter>,
    /// Where pictures come from.
    pub media: Arc<Media>,
    /// Where results and dead letters go.
    pub outlet: Arc<dyn Outlet>,
    /// What is counted, what is waited for, and what stops the daemon.
    pub vitals: Vitals,
    /// How each topic's records are read.
    pub rules: HashMap<Arc<str>, TopicRules>,
    /// What is in Avro; `None` where nothing is.
    pub avro: Option<Arc<AvroCodec>>,
    /// Whether to stop when most records are poison.
    pub poison: Option<PoisonBreaker>,
    /// What results carry.
    pub results: ResultsConfig,
    /// Live traffic first: what a generation that is not live waits for before each record.
    pub throttle: Option<Arc<Throttle>>,
    /// Where the states of what is indexed go too, for re-scoring.
    pub warm: Option<Arc<StateCache>>,
}

/// Starts the pipeline. It ends when every [`Intake`] is dropped and every record under way has ended.
pub fn start(config: &Config, parts: PipelineParts) -> (Intake, JoinHandle<()>) {
    let (intake, _, ended) = start_refillable(config, parts);
    (intake, ended)
}

/// As [`start`], with a way in for what is not a record; it ends once that is dropped too.
pub fn start_refillable(config: &Config, parts: PipelineParts) -> (Intake, Refiller, JoinHandle<()>) {
    let (limits, vitals) = (&config.pipeline, parts.vitals);
    let enricher = Enricher { index: Arc::clone(&parts.index) as Arc<dyn Index>, config: parts.results, vitals: vitals.clone() };
    let writer = Writer {
        index: parts.index,
        limits: WriterLimits {
            batch_points_max: config.index.batch_points_max,
            batch_wait_max: config.index.batch_wait_max,
            in_flight_max: config.index.in_flight_max,
        },
        metrics: vitals.metrics.of(),
        queues: vitals.metrics.of(),
        vitals: vitals.clone(),
    };
    let (writer, written) = writer.start();
    let shared = Arc::new(task::TaskContext {
        preparer: Preparer::new(parts.towers.clone()),
        towers: parts.towers,
        media: parts.media,
        media_places: Arc::new(Semaphore::new(config.media.in_flight_max)),
        writer,
        outlet: parts.outlet,
        publisher: Publisher { vitals: vitals.clone() },
        enricher,
        metrics: vitals.metrics.of(),
        vitals,
        poison: parts.poison,
        warm: parts.warm,
        throttle: parts.throttle,
        rules: parts.rules,
        avro: parts.avro,
        limits: config.record,
    });
    let (intake, deliveries) = Intake::new(limits.records_in_flight_max, limits.bytes_in_flight_max);
    let refiller = Refiller(Arc::clone(&shared));
    let dispatch = async move {
        // With the closure the last sender to the writer goes: it ends after its last write.
        one_task_each(deliveries, move |delivery| Arc::clone(&shared).run(delivery)).await;
        // The writer's task neither panics nor is it aborted.
        let _ = written.await;
    };
    (intake, refiller, tokio::spawn(dispatch))
}
