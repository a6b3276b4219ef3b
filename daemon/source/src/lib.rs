//! The source: records out of Kafka, offsets back into it.
//!
//! One thread polls (`poll`); records enter the pipeline through an [`Intake`] that holds the limits; each record is acknowledged at its
//! [`Partition`], and only the contiguous prefix of acknowledged records is committed (promise 1). When a partition is taken away its
//! [`Fence`] stops its writes (promise 4). A second thread (`watch`) looks at the topics from outside: a partition of which other records were
//! read than it holds now is stopped.
//!
//! Absent here: nothing decodes, fetches or writes; nothing but the polling thread touches the consumer that is a member of the group.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod acks;
mod assignment;
mod client_config;
mod context;
mod delivery;
mod fence;
pub mod groups;
mod log;
mod mark;
mod metrics;
mod outside;
mod partition;
mod poll;
mod record;
#[cfg(any(test, feature = "refusing"))]
pub mod refusing;
mod span;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use acks::AckTracker;
pub use assignment::Assignment;
pub use client_config::{consumer as consumer_config, is_confirmed, producer as producer_config};
pub use delivery::{Admission, Closed, Delivery, Intake, one_task_each};
pub use fence::{Fence, FenceGuard};
pub use log::log as log_librdkafka;
pub use mark::Mark;
pub use metrics::SourceMetrics;
pub use partition::{Partition, Standing};
pub use record::{Header, Record};
pub use span::RecordSpan;
pub use span::trace_headers;

use astromech_config::KafkaConfig;
use astromech_vitals::{Condition, Vitals};

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// librdkafka refused the configuration.
    #[error("kafka: {0}")]
    Config(#[from] KafkaError),
    /// librdkafka gave up for good.
    #[error("kafka: fatal error: {0}")]
    Fatal(String),
    /// The thread could not be started.
    #[error("the polling thread did not start: {0}")]
    Thread(#[from] std::io::Error),
    /// The pipeline ended first.
    #[error("the pipeline ended while records were being read")]
    PipelineGone,
}

/// What a stop left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Records that were read and not finished in time; they are read again by whoever comes next.
    pub unfinished: usize,
}

/// What the source needs of the rest.
pub struct SourceDeps {
    /// The way into the pipeline.
    pub intake: Intake,
    /// What is counted; where `condition` is set, while partitions are assigned and brokers answer; its halt stops without draining.
    pub vitals: Vitals,
    /// What this source is a condition of.
    pub condition: Condition,
    /// Graceful stop.
    pub stop: CancellationToken,
}

/// Subscribes and starts the polling thread. The receiver gets what it ended with, after the consumer has left the group.
///
/// # Errors
/// A property that librdkafka refuses, or no thread.
pub fn start(kafka: &KafkaConfig, deps: SourceDeps) -> Result<oneshot::Receiver<Result<Drained, SourceError>>, SourceError> {
    let assignment = Arc::new(Assignment::default());
    let trouble = Arc::new(watch::Trouble::default());
    let ended = Arc::new(AtomicBool::new(false));
    let watch = watch::Watch::new(watch::WatchParts {
        kafka: kafka.clone(),
        assignment: Arc::clone(&assignment),
        metrics: deps.vitals.metrics.of(),
        readiness: Arc::clone(&deps.vitals.readiness),
        condition: deps.condition,
        trouble: Arc::clone(&trouble),
        ended: Arc::clone(&ended),
    });
    let context = context::Context {
        assignment: Arc::clone(&assignment),
        drain_timeout: kafka.drain_timeout,
        metrics: deps.vitals.metrics.of(),
        readiness: Arc::clone(&deps.vitals.readiness),
        condition: deps.condition,
        trouble,
        assigned: AtomicBool::new(false),
        joined: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
        answers: AtomicU64::new(0),
    };
    let consumer: BaseConsumer<context::Context> = client_config::consumer(kafka).create_with_context(context)?;
    let topics: Vec<_> = kafka.topics.iter().map(|topic| topic.name.as_str()).collect();
    consumer.subscribe(&topics)?;
    deps.vitals.metrics.of::<SourceMetrics>().reading(topics.iter().copied());
    let poll = poll::PollLoop {
        consumer,
        assignment,
        intake: deps.intake,
        runtime: tokio::runtime::Handle::current(),
        kafka: kafka.clone(),
        metrics: deps.vitals.metrics.of(),
        queues: deps.vitals.metrics.of(),
        vitals: deps.vitals,
        condition: deps.condition,
        stop: deps.stop,
        state: poll::LoopState::new(kafka),
    };
    // It ends by itself after the other; nothing waits for it, since it may be waiting for brokers that are gone.
    std::thread::Builder::new().name("kafka-watch".to_owned()).spawn(move || watch.run())?;
    let (answer, end) = oneshot::channel();
    std::thread::Builder::new().name("kafka-poll".to_owned()).spawn(move || {
        // The loop owns the consumer, so it has left the group when this returns.
        let result = poll.run();
        ended.store(true, Ordering::Release);
        // Nobody listens only where the daemon is exiting already.
        let _ = answer.send(result);
    })?;
    Ok(end)
}
