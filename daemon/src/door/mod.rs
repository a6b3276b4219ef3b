//! The topic door of re-scoring: requests out of one topic, replies into another, with the bodies of `POST /v1/rescore`.
//!
//! ```text
//! request topic -> source, a consumer group of its own ─rescore.topics.requests_in_flight_max─> one task a request:
//!   read -> crate::rescore -> reply topic, acknowledged by the broker -> acknowledge
//! ```
//! At least once: a request is acknowledged after its reply lies with the broker, so a kill between the two repeats the reply, which the
//! header `astromech-request` tells. What HTTP answers with an error is answered here with the same problem document and its status in a
//! header: no request becomes a dead letter. The deadline counts from the record's time, so that a request that waited in the topic for
//! longer is answered without being scored.
//!
//! Absent here: nothing is written to the index.

mod reply;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use astromech_schemas::error::from_json;
use astromech_schemas::rescore::{RescoreRequest, RescoreResponse};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::api::Problem;
use crate::config::RescoreTopics;
use crate::index::IndexError;
use crate::pipeline::{Backoff, BackoffLimits, Halt, HaltCause, KafkaOutlet, PublishError};
use crate::rescore::{RescoreError, Rescorer};
use crate::source::{Delivery, Intake, Record};
pub use reply::Reply;

/// What the door is made of.
pub struct DoorParts {
    /// The service.
    pub rescorer: Arc<Rescorer>,
    /// Where replies go.
    pub outlet: Arc<KafkaOutlet>,
    /// Stops the daemon.
    pub halt: Halt,
    /// Waits between attempts at what may pass.
    pub backoff: BackoffLimits,
}

struct Door {
    parts: DoorParts,
    topics: RescoreTopics,
}

/// Starts the door. It ends when its [`Intake`] is dropped and every request under way has ended.
pub fn start(topics: &RescoreTopics, bytes_in_flight_max: usize, parts: DoorParts) -> (Intake, JoinHandle<()>) {
    let (intake, mut deliveries) = Intake::new(topics.requests_in_flight_max, bytes_in_flight_max);
    let door = Arc::new(Door { parts, topics: topics.clone() });
    let dispatch = async move {
        let tasks = TaskTracker::new();
        while let Some(delivery) = deliveries.recv().await {
            tasks.spawn(Arc::clone(&door).run(delivery));
        }
        tasks.close();
        tasks.wait().await;
    };
    (intake, tokio::spawn(dispatch))
}

impl Door {
    /// Answers one request. Left unfinished where its partition is taken away or the daemon stops: it is read again.
    async fn run(self: Arc<Self>, delivery: Delivery) {
        let record = &delivery.record;
        let fence = delivery.partition.fence();
        let reply = tokio::select! {
            biased;
            () = self.parts.halt.token().cancelled() => return,
            () = fence.closed() => return,
            reply = self.answer(record) => reply,
        };
        let Some(_guard) = fence.enter() else { return };
        let mut backoff = Backoff::new(self.parts.backoff);
        loop {
            let problem = match self.parts.outlet.publish(&reply.topic, record.key.as_deref(), &reply.body, &reply.headers).await
            {
                Ok(()) => break,
                Err(PublishError::Fatal(problem)) => return self.parts.halt.halt(HaltCause::Publish(problem)),
                Err(PublishError::Transient(problem)) => problem,
            };
            let wait = backoff.next_wait();
            warn!(problem, ?wait, "a reply was not taken; trying again");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.parts.halt.token().cancelled() => return,
                () = fence.closed() => return,
            }
        }
        delivery.partition.acknowledge(record.offset);
        debug!(topic = &*record.topic, partition = record.partition, offset = record.offset, status = reply.status, "answered");
    }

    async fn answer(&self, record: &Record) -> Reply {
        let (topic, answered) = match reply::topic(record, &self.topics) {
            Ok(topic) => (topic, self.score(record).await),
            // To the configured topic: the requester's own is none that may be written to.
            Err(problem) => (self.topics.reply.clone(), Err(problem)),
        };
        match answered {
            Ok(response) => Reply::answer(topic, record, &response),
            Err(problem) => Reply::problem(topic, record, problem),
        }
    }

    async fn score(&self, record: &Record) -> Result<RescoreResponse, Problem> {
        let read = Instant::now();
        let age = age(record);
        let value = record.value.as_deref().unwrap_or_default();
        let request: RescoreRequest = from_json(value)?;
        let time = self.parts.rescorer.deadline_of(&request)?;
        let Some(left) = time.checked_sub(age).filter(|left| !left.is_zero()) else {
            return Err(RescoreError::Stale { age_ms: age.as_millis() as u64, deadline_ms: time.as_millis() as u64 }.into());
        };
        let deadline = read + left;
        let mut backoff = Backoff::new(self.parts.backoff);
        loop {
            // A topic holds what HTTP must refuse: what may pass is tried again while there is time.
            let error = match self.parts.rescorer.rescore_until(request.clone(), deadline).await {
                Err(error @ (RescoreError::Overloaded { .. } | RescoreError::Index(IndexError::Transient(_)))) => error,
                answered => return Ok(answered?),
            };
            let wait = backoff.next_wait();
            if Instant::now() + wait >= deadline {
                return Err(error.into());
            }
            tokio::time::sleep(wait).await;
        }
    }
}

/// Time since the record was made, by this machine's clock; nothing where it has no time or is from the future.
fn age(record: &Record) -> Duration {
    let made = record.timestamp_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    made.map_or(Duration::ZERO, |made| now.saturating_sub(made))
}
