//! Dynamic batching: one owner of each tower's queue, workers with a session each.
//!
//! ```text
//! callers --(room: semaphore of queue_max)--> inbox --> owner (pending, idle workers) --(a batch)--> worker (session) --> callers
//!                                               ^------------------ idle ------------------------------'
//! ```
//! Nothing is locked: the owner alone holds what is pending, a worker alone holds its session. A worker takes what has gathered while
//! it was busy, so batches grow with load by themselves; only an idle worker waits for company, at most `wait_us_max`.

mod choose;
mod owner;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{BatchLimits, BatchObserver, Tower, TowerCounters, TowersError};

/// What a worker does with a batch.
pub(crate) trait Runner: Send + 'static {
    /// One entry.
    type Input: Send + 'static;
    /// Its result.
    type Output: Send + 'static;

    /// Length of an entry: entries of like length share a batch, since all are padded to the longest.
    fn length(_input: &Self::Input) -> usize {
        1
    }

    /// Runs a batch; one result for each entry, in order.
    fn run(&mut self, inputs: &[Self::Input]) -> Result<Vec<Self::Output>, TowersError>;
}

type Reply<R> = oneshot::Sender<Result<<R as Runner>::Output, TowersError>>;
type Answer<R> = oneshot::Receiver<Result<<R as Runner>::Output, TowersError>>;

/// An entry in the queue. Its permit is its place there.
struct Entry<R: Runner> {
    input: R::Input,
    reply: Reply<R>,
    arrived: Instant,
    _place: OwnedSemaphorePermit,
}

enum Message<R: Runner> {
    Entry(Entry<R>),
    Idle(usize),
    Close,
}

/// Entries that a worker runs together.
struct Batch<R: Runner> {
    inputs: Vec<R::Input>,
    replies: Vec<Reply<R>>,
}

/// Where counts and reports go.
#[derive(Clone)]
pub(crate) struct Reports {
    pub(crate) tower: Tower,
    pub(crate) counters: Arc<TowerCounters>,
    pub(crate) observer: Arc<OnceLock<Arc<dyn BatchObserver>>>,
}

impl Reports {
    fn batch(&self, items: usize, busy: Duration) {
        self.counters.of(self.tower).add_batch(items, busy);
        if let Some(observer) = self.observer.get() {
            observer.batch(self.tower, items, busy);
        }
    }

    fn stopped(&self) -> TowersError {
        TowersError::Stopped { tower: self.tower.as_str() }
    }
}

/// The callers' end of a tower's queue. Dropping it ends the workers after the batch they are in.
pub(crate) struct Queue<R: Runner> {
    inbox: mpsc::Sender<Message<R>>,
    room: Arc<Semaphore>,
    places: usize,
    owner: Option<JoinHandle<()>>,
    reports: Reports,
}

impl<R: Runner> Queue<R> {
    /// Starts the owner and one worker for each of `runners`.
    pub(crate) fn start(runners: Vec<R>, limits: BatchLimits, reports: Reports) -> Result<Self, TowersError> {
        check_limits(&limits)?;
        let (inbox, messages) = mpsc::channel();
        let owner = {
            let (inbox, reports) = (inbox.clone(), reports.clone());
            let tower = reports.tower.as_str();
            let run = move || owner::Owner::start(runners, limits, &inbox, &reports).run(&messages);
            let thread = thread::Builder::new().name(format!("{tower}-queue")).spawn(run);
            thread.map_err(|error| TowersError::graph(tower, format!("no thread for its queue: {error}")))?
        };
        let room = Arc::new(Semaphore::new(limits.queue_max));
        Ok(Self { inbox, room, places: limits.queue_max, owner: Some(owner), reports })
    }

    /// Waits for room, then for the result.
    pub(crate) async fn call(&self, input: R::Input) -> Result<R::Output, TowersError> {
        let answer = self.submit(input).await?;
        self.result(answer).await
    }

    /// Waits for room and leaves the entry in the queue. Dropping the answer takes it out again if it has not begun.
    pub(crate) async fn submit(&self, input: R::Input) -> Result<Answer<R>, TowersError> {
        let place = Arc::clone(&self.room).acquire_owned().await.map_err(|_| self.reports.stopped())?;
        let (reply, answer) = oneshot::channel();
        let entry = Entry { input, reply, arrived: Instant::now(), _place: place };
        self.inbox.send(Message::Entry(entry)).map_err(|_| self.reports.stopped())?;
        Ok(answer)
    }

    /// Waits for a submitted entry's result.
    pub(crate) async fn result(&self, answer: Answer<R>) -> Result<R::Output, TowersError> {
        answer.await.unwrap_or_else(|_| Err(self.reports.stopped()))
    }

    /// Entries waiting.
    pub(crate) fn depth(&self) -> usize {
        self.places - self.room.available_permits()
    }
}

impl<R: Runner> Drop for Queue<R> {
    fn drop(&mut self) {
        // A send to an owner that has ended fails, and there is nothing left to end.
        let _ = self.inbox.send(Message::Close);
        if let Some(owner) = self.owner.take() {
            // Sessions must be gone before ONNX Runtime's own statics are, at the end of the process.
            let _ = owner.join();
        }
    }
}

fn check_limits(limits: &BatchLimits) -> Result<(), TowersError> {
    let zero = [("batch_max", limits.batch_max), ("queue_max", limits.queue_max)].into_iter().find(|(_, value)| *value == 0);
    match zero {
        Some((field, _)) => Err(TowersError::Invalid { field, problem: "0; set at least 1".to_owned() }),
        None => Ok(()),
    }
}
