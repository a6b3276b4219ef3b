//! The index writer: the only part that writes to the index. It owns its queue, gathers changes into batches and keeps a few writes under way.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use astromech_schemas::results::Outcome;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::metrics::PipelineMetrics;
use super::write::{WriteReply, WriteRequest};
use crate::index::{Change, IndexError, IndexWriter};
use crate::source::FenceGuard;
use crate::vitals::{Awaited, Condition, HaltCause, Meter, Queue, QueueMetrics, Stage, Unanswered, Vitals, WarnLimiter};

/// Writes that failed while the index is down.
static UNWRITTEN: WarnLimiter = WarnLimiter::new();

/// Limits of the writer.
#[derive(Debug, Clone, Copy)]
pub struct WriterLimits {
    /// Most points in one write.
    pub batch_points_max: usize,
    /// Longest wait for a write to fill.
    pub batch_wait_max: Duration,
    /// Most writes under way at once.
    pub in_flight_max: usize,
}

/// Gathers and writes.
#[derive(Clone)]
pub struct Writer {
    /// Where points live.
    pub index: Arc<dyn IndexWriter>,
    /// Limits.
    pub limits: WriterLimits,
    /// Counters of the pipeline.
    pub metrics: Meter<PipelineMetrics>,
    /// The writer's queue is watched.
    pub queues: Meter<QueueMetrics>,
    /// Writes are timed, and attempts counted; the index is ready or not; a mismatch stops everything.
    pub vitals: Vitals,
}

impl Writer {
    /// Starts the writer. It ends when every sender is gone and every write has ended.
    pub fn start(self) -> (mpsc::Sender<WriteRequest>, tokio::task::JoinHandle<()>) {
        // Twice a batch: the next one fills while the last is written.
        let (queue, requests) = mpsc::channel(self.limits.batch_points_max * 2);
        (queue, tokio::spawn(self.run(requests)))
    }

    async fn run(self, mut requests: mpsc::Receiver<WriteRequest>) {
        let in_flight = Arc::new(Semaphore::new(self.limits.in_flight_max));
        let writes = TaskTracker::new();
        loop {
            // The place first, then the batch: while all places are taken the queue fills, and batches with it.
            let Ok(place) = Arc::clone(&in_flight).acquire_owned().await else { break };
            let batch = self.gather(&mut requests).await;
            if batch.is_empty() {
                break;
            }
            self.queues.set_depth(Queue::Index, requests.len());
            self.metrics.index_batch(batch.len());
            let writer = self.clone();
            writes.spawn(async move {
                let started = Instant::now();
                writer.write(batch).await;
                writer.vitals.stages.took(Stage::Index, started.elapsed());
                drop(place);
            });
        }
        writes.close();
        writes.wait().await;
    }

    /// The next batch; empty when there will be none.
    async fn gather(&self, requests: &mut mpsc::Receiver<WriteRequest>) -> Vec<WriteRequest> {
        let mut batch = Vec::with_capacity(self.limits.batch_points_max);
        if requests.recv_many(&mut batch, self.limits.batch_points_max).await == 0 {
            return batch;
        }
        let deadline = tokio::time::Instant::now() + self.limits.batch_wait_max;
        while batch.len() < self.limits.batch_points_max {
            let room = self.limits.batch_points_max - batch.len();
            match tokio::time::timeout_at(deadline, requests.recv_many(&mut batch, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        batch
    }

    /// Writes a batch; where the engine refuses it, halves of it, down to the single change that is refused.
    async fn write(&self, batch: Vec<WriteRequest>) {
        // At most one half waits for each halving: the depth is the logarithm of a batch.
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            if let Some((first, second)) = self.write_part(part).await {
                parts.push(second);
                parts.push(first);
            }
        }
    }

    /// Tries until the changes are written, refused or fenced off. Returns the halves to try where several were refused.
    async fn write_part(&self, part: Vec<WriteRequest>) -> Option<Halves> {
        let pending = Mutex::new(Pending { requests: part, failed: false });
        let warn = |error: &IndexError, wait: Duration| {
            if let Some(repeated) = UNWRITTEN.due("") {
                let (problem, points) = (error.text(), lock(&pending).requests.len());
                warn!(problem, points, ?wait, repeated, "the index does not answer; trying again");
            }
        };
        let index =
            Awaited::new(IndexError::is_transient, &warn).counted(Stage::Index).missing(Condition::Index, IndexError::text);
        let halt = &self.vitals.halt;
        match self.vitals.until_it_answers(index, halt.token().cancelled(), || self.attempt(&pending)).await {
            Ok(halves) => halves,
            Err(Unanswered::Ended(())) => None,
            Err(Unanswered::Failed(error)) => {
                halt.halt(HaltCause::Mismatch(error.text().to_owned()));
                None
            }
        }
    }

    /// One attempt at what is pending, which an index that fails leaves there for the next.
    async fn attempt(&self, pending: &Mutex<Pending>) -> Result<Option<Halves>, IndexError> {
        let entered = enter(mem::take(&mut lock(pending).requests));
        if entered.waiting.is_empty() {
            return Ok(None);
        }
        match self.index.apply(&entered.changes).await {
            Ok(outcomes) => {
                if lock(pending).failed {
                    info!("the index answers again");
                    self.vitals.readiness.set_ready(Condition::Index);
                }
                entered.reply_taken(outcomes);
                Ok(None)
            }
            Err(IndexError::Refused(detail)) if entered.changes.len() == 1 => {
                entered.reply_refused(&detail);
                Ok(None)
            }
            Err(IndexError::Refused(_)) => {
                let mut first = entered.into_requests();
                let second = first.split_off(first.len() / 2);
                Ok(Some((first, second)))
            }
            Err(error @ (IndexError::Transient(_) | IndexError::Mismatch(_))) => {
                // Leaving the fence: nothing is written during the wait, so a revoke need not wait for it either.
                *lock(pending) = Pending { requests: entered.into_requests(), failed: true };
                Err(error)
            }
        }
    }
}

/// Requests that were refused together, in two halves.
type Halves = (Vec<WriteRequest>, Vec<WriteRequest>);

/// What is to be written still.
struct Pending {
    requests: Vec<WriteRequest>,
    /// Whether the index has failed an attempt.
    failed: bool,
}

fn lock(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes that passed their fences, in the same order as those who wait for them.
struct Entered {
    changes: Vec<Change>,
    waiting: Vec<(FenceGuard, Requester)>,
}

/// Who waits for the answer to a change.
struct Requester {
    partition: Arc<crate::source::Partition>,
    reply: tokio::sync::oneshot::Sender<WriteReply>,
}

/// Lets every request through its fence; answers those whose partition was taken away.
fn enter(requests: Vec<WriteRequest>) -> Entered {
    let mut entered = Entered { changes: Vec::with_capacity(requests.len()), waiting: Vec::with_capacity(requests.len()) };
    for WriteRequest { change, partition, reply } in requests {
        match partition.fence().enter() {
            Some(guard) => {
                entered.changes.push(change);
                entered.waiting.push((guard, Requester { partition, reply }));
            }
            // A reply that nobody waits for is a task that was cancelled.
            None => drop(reply.send(WriteReply::Fenced)),
        }
    }
    entered
}

impl Entered {
    fn reply_taken(self, outcomes: Vec<Outcome>) {
        for ((guard, waiting), outcome) in self.waiting.into_iter().zip(outcomes) {
            drop(waiting.reply.send(WriteReply::Taken(guard, outcome)));
        }
    }

    fn reply_refused(self, detail: &str) {
        for (guard, waiting) in self.waiting {
            drop(waiting.reply.send(WriteReply::Refused(guard, detail.to_owned())));
        }
    }

    fn into_requests(self) -> Vec<WriteRequest> {
        let back = |(change, (_, Requester { partition, reply }))| WriteRequest { change, partition, reply };
        self.changes.into_iter().zip(self.waiting).map(back).collect()
    }
}
