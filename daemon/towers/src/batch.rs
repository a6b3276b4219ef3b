//! Dynamic batching: one owner of each tower's queue, workers with a session each.
//!
//! ```text
//! callers --(room: semaphores)--> inbox --> owner (pending, idle workers) --(a batch)--> worker (session) --> callers
//!                                  ^------------------ idle -------------------------------'
//! ```
//! Nothing is locked: the owner alone holds what is pending, a worker alone holds its session. A worker takes what has gathered while
//! it was busy, so batches grow with load by themselves; only an idle worker waits for company, at most `wait_us_max`.
//!
//! Live entries go before indexing entries: a live one waits for the batch that runs, for live ones before it, and for one batch of
//! indexing in [`LIVE_BATCHES_MAX`](crate::LIVE_BATCHES_MAX) + 1 at most. An entry whose deadline has passed is answered by the owner
//! and reaches no worker.

mod choose;
mod owner;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout_at;

pub(crate) use self::choose::SMALL_BATCH_LENGTH;
use crate::urgency::Urgency;
use crate::{BatchLimits, BatchObserver, INDEXING_WAIT_MAX, Priority, Tower, TowerCounters, TowersError};

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

    /// How much of `batch_max` an entry takes, at least 1.
    fn size(_input: &Self::Input) -> usize {
        1
    }

    /// Runs a batch; one result for each entry, in order.
    fn run(&mut self, inputs: &[Self::Input]) -> Result<Vec<Self::Output>, TowersError>;
}

type Reply<R> = oneshot::Sender<Result<<R as Runner>::Output, TowersError>>;

/// What comes back for an entry. Dropping it takes the entry out of the queue if it has not begun.
pub(crate) struct Answer<R: Runner> {
    receiver: oneshot::Receiver<Result<R::Output, TowersError>>,
    deadline: Option<Instant>,
}

/// An entry in the queue. Its permit is its place there.
struct Entry<R: Runner> {
    input: R::Input,
    reply: Reply<R>,
    arrived: Instant,
    urgency: Urgency,
    place: OwnedSemaphorePermit,
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
        self.tell(|observer| observer.batch(self.tower, items, busy));
    }

    fn led(&self, priority: Priority) {
        self.counters.of(self.tower).add_led(priority);
        self.tell(|observer| observer.led(self.tower, priority));
    }

    fn expired(&self) {
        self.counters.of(self.tower).add_expired();
        self.tell(|observer| observer.expired(self.tower));
    }

    fn dropped(&self) {
        self.counters.of(self.tower).add_dropped();
        self.tell(|observer| observer.dropped(self.tower));
    }

    fn tell(&self, what: impl FnOnce(&dyn BatchObserver)) {
        if let Some(observer) = self.observer.get() {
            what(&**observer);
        }
    }

    fn stopped(&self) -> TowersError {
        TowersError::Stopped { tower: self.tower.as_str() }
    }

    fn deadline(&self) -> TowersError {
        TowersError::Deadline { tower: self.tower.as_str() }
    }
}

/// The places of a queue. A backlog of indexing takes none of the live ones.
struct Rooms {
    live: Arc<Semaphore>,
    indexing: Arc<Semaphore>,
    /// Of each.
    places: usize,
}

impl Rooms {
    fn new(places: usize) -> Self {
        let [live, indexing] = [(); 2].map(|()| Arc::new(Semaphore::new(places)));
        Self { live, indexing, places }
    }

    fn of(&self, priority: Priority) -> Arc<Semaphore> {
        Arc::clone(match priority {
            Priority::Live => &self.live,
            Priority::Indexing => &self.indexing,
        })
    }

    fn taken(&self) -> usize {
        2 * self.places - self.live.available_permits() - self.indexing.available_permits()
    }
}

/// The callers' end of a tower's queue. Dropping it ends the workers after the batch they are in.
pub(crate) struct Queue<R: Runner> {
    inbox: mpsc::Sender<Message<R>>,
    rooms: Rooms,
    owner: Option<JoinHandle<()>>,
    reports: Reports,
}

impl<R: Runner> Queue<R> {
    /// Starts the owner and one worker for each of `runners`.
    pub(crate) fn start(runners: Vec<R>, limits: BatchLimits, reports: Reports) -> Result<Self, TowersError> {
        Self::start_with(runners, limits, INDEXING_WAIT_MAX, reports)
    }

    fn start_with(
        runners: Vec<R>,
        limits: BatchLimits,
        indexing_wait_max: Duration,
        reports: Reports,
    ) -> Result<Self, TowersError> {
        check_limits(&limits)?;
        let (inbox, messages) = mpsc::channel();
        let owner = {
            let (inbox, reports) = (inbox.clone(), reports.clone());
            let tower = reports.tower.as_str();
            let run = move || owner::Owner::start(runners, limits, indexing_wait_max, &inbox, &reports).run(&messages);
            let thread = thread::Builder::new().name(format!("{tower}-queue")).spawn(run);
            thread.map_err(|error| TowersError::graph(tower, format!("no thread for its queue: {error}")))?
        };
        Ok(Self { inbox, rooms: Rooms::new(limits.queue_max), owner: Some(owner), reports })
    }

    /// Waits for room, then for the result; not longer than the deadline.
    pub(crate) async fn call(&self, input: R::Input, urgency: Urgency) -> Result<R::Output, TowersError> {
        let answer = self.submit(input, urgency).await?;
        self.result(answer).await
    }

    /// Waits for room, not longer than the deadline, and leaves the entry in the queue.
    pub(crate) async fn submit(&self, input: R::Input, urgency: Urgency) -> Result<Answer<R>, TowersError> {
        let place = self.place(urgency).await?;
        let (reply, receiver) = oneshot::channel();
        let entry = Entry { input, reply, arrived: Instant::now(), urgency, place };
        self.inbox.send(Message::Entry(entry)).map_err(|_| self.reports.stopped())?;
        Ok(Answer { receiver, deadline: urgency.deadline })
    }

    async fn place(&self, urgency: Urgency) -> Result<OwnedSemaphorePermit, TowersError> {
        let expired = || {
            self.reports.expired();
            self.reports.deadline()
        };
        let room = self.rooms.of(urgency.priority).acquire_owned();
        let place = match urgency.deadline {
            None => room.await,
            // A timeout would look for room first.
            Some(deadline) if deadline <= Instant::now() => return Err(expired()),
            Some(deadline) => timeout_at(deadline.into(), room).await.map_err(|_| expired())?,
        };
        place.map_err(|_| self.reports.stopped())
    }

    /// Waits for a submitted entry's result, not longer than its deadline. What still waits then is dropped and counted by the owner.
    pub(crate) async fn result(&self, answer: Answer<R>) -> Result<R::Output, TowersError> {
        let Answer { receiver, deadline } = answer;
        let received = match deadline {
            None => receiver.await,
            Some(deadline) => timeout_at(deadline.into(), receiver).await.map_err(|_| self.reports.deadline())?,
        };
        received.unwrap_or_else(|_| Err(self.reports.stopped()))
    }

    /// Entries waiting.
    pub(crate) fn depth(&self) -> usize {
        self.rooms.taken()
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
