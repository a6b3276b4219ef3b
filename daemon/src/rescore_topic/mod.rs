//! Re-scoring requests out of one topic, replies into another, with the bodies of `POST /v1/rescore`.
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

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use astromech_schemas::encoding::unframed;
use astromech_schemas::error::{DecodeError, from_json};
use astromech_schemas::rescore::{RescoreRequest, RescoreResponse};
use tokio::task::JoinHandle;
use tracing::{Instrument as _, debug};

use crate::clock::unix_ms;
use crate::config::RescoreTopics;
use crate::generation::Live;
use crate::pipeline::{KafkaOutlet, Left, Publisher};
use crate::problem::Problem;
use crate::rescore::RescoreError;
use crate::source::{Delivery, Intake, Record, one_task_each};
use crate::vitals::trace::stage_span;
use crate::vitals::{Awaited, Unanswered, Vitals};
pub use reply::Reply;
use reply::To;

/// What answers the requests, and where the replies go.
pub struct RescoreTopicParts {
    /// The generation whose single tower scores.
    pub live: Arc<Live>,
    /// Where replies go.
    pub outlet: Arc<KafkaOutlet>,
    /// Says that a reply waits, and stops the daemon.
    pub vitals: Vitals,
}

struct RescoreTopic {
    live: Arc<Live>,
    outlet: Arc<KafkaOutlet>,
    publisher: Publisher,
    topics: RescoreTopics,
}

/// Starts answering. It ends when its [`Intake`] is dropped and every request under way has ended.
pub fn start(topics: &RescoreTopics, bytes_in_flight_max: usize, parts: RescoreTopicParts) -> (Intake, JoinHandle<()>) {
    let RescoreTopicParts { live, outlet, vitals } = parts;
    let publisher = Publisher { vitals };
    let answering = Arc::new(RescoreTopic { live, outlet, publisher, topics: topics.clone() });
    let (intake, deliveries) = Intake::new(topics.requests_in_flight_max, bytes_in_flight_max);
    (intake, tokio::spawn(one_task_each(deliveries, move |delivery| Arc::clone(&answering).run(delivery))))
}

impl RescoreTopic {
    /// Answers one request. Left unfinished where its partition is taken away or the daemon stops: it is read again.
    async fn run(self: Arc<Self>, delivery: Delivery) {
        let running = async {
            let answered = tokio::select! {
                biased;
                () = self.publisher.vitals.halt.token().cancelled() => Err(Left::Halted),
                answered = self.process(&delivery) => answered,
            };
            debug!(answer = ?answered.map(|reply| reply.status), "request");
        };
        running.instrument(delivery.span.span().clone()).await;
    }

    async fn process(&self, delivery: &Delivery) -> Result<Reply, Left> {
        let (record, fence, context) = (&delivery.record, delivery.partition.fence(), delivery.span.context());
        let reply = tokio::select! {
            biased;
            () = fence.closed() => return Err(Left::Fenced),
            reply = self.answer(To { record, context }).instrument(stage_span!("rescore")) => reply,
        };
        let guard = fence.enter().ok_or(Left::Fenced)?;
        let send = || self.outlet.publish(&reply.topic, record.key.as_deref(), &reply.body, &reply.headers);
        self.publisher.publish(fence, &guard, send).instrument(stage_span!("publish")).await?;
        stage_span!("acknowledge").in_scope(|| delivery.partition.acknowledge(record.offset));
        Ok(reply)
    }

    async fn answer(&self, to: To<'_>) -> Reply {
        let record = to.record;
        let (topic, answered) = match reply::topic(record, &self.topics) {
            Ok(topic) => (topic, self.score(record).await),
            // To the configured topic: the requester's own is none that may be written to.
            Err(problem) => (self.topics.reply.clone(), Err(problem)),
        };
        match answered {
            Ok(response) => Reply::answer(topic, to, &response),
            Err(problem) => Reply::problem(topic, to, problem),
        }
    }

    async fn score(&self, record: &Record) -> Result<RescoreResponse, Problem> {
        let read = Instant::now();
        let age = age(record);
        let value = record.value.as_deref().unwrap_or_default();
        let request: RescoreRequest = from_json(unframed(value).map_err(DecodeError::from)?)?;
        let serving = self.live.serving();
        // A daemon whose re-scoring is off reads no topic.
        let rescorer = serving.rescorer()?;
        let time = rescorer.deadline_of(&request)?;
        let Some(left) = time.checked_sub(age).filter(|left| !left.is_zero()) else {
            return Err(RescoreError::Stale { age_ms: age.as_millis() as u64, deadline_ms: time.as_millis() as u64 }.into());
        };
        let deadline = read + left;
        // A topic holds what HTTP must refuse: what may pass is tried again while there is time.
        let scores = Awaited::new(RescoreError::is_transient, &|_, _| ()).latest(deadline);
        let score = || rescorer.rescore_until(request.clone(), deadline);
        match self.publisher.vitals.until_it_answers(scores, pending::<Infallible>(), score).await {
            Ok(response) => Ok(response),
            Err(Unanswered::Failed(error)) => Err(error.into()),
        }
    }
}

/// Time since the record was made, by this machine's clock; nothing where it has no time or is from the future.
fn age(record: &Record) -> Duration {
    let made_ms = record.timestamp_ms.and_then(|ms| u64::try_from(ms).ok());
    made_ms.map_or(Duration::ZERO, |made_ms| Duration::from_millis(unix_ms().saturating_sub(made_ms)))
}
