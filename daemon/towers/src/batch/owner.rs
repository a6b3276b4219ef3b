//! The one owner of a tower's queue.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::choose::{Turns, Waiting, choose};
use super::worker::work;
use super::{Batch, Entry, Message, Reports, Runner};
use crate::{BatchLimits, Priority};

struct Worker<R: Runner> {
    batches: SyncSender<Batch<R>>,
    thread: JoinHandle<()>,
}

pub(super) struct Owner<R: Runner> {
    limits: BatchLimits,
    reports: Reports,
    workers: Vec<Worker<R>>,
    /// Workers that wait for a batch.
    idle: Vec<usize>,
    /// Oldest first.
    pending: Vec<Entry<R>>,
    turns: Turns,
}

impl<R: Runner> Owner<R> {
    pub(super) fn start(
        runners: Vec<R>,
        limits: BatchLimits,
        indexing_wait_max: Duration,
        inbox: &mpsc::Sender<Message<R>>,
        reports: &Reports,
    ) -> Self {
        let start_worker = |(id, runner)| {
            // Room for one: a batch is only handed to a worker that is idle.
            let (batches, received) = mpsc::sync_channel(1);
            let (inbox, reports) = (inbox.clone(), reports.clone());
            let name = format!("{}-{id}", reports.tower.as_str());
            let thread = thread::Builder::new().name(name).spawn(move || work(id, runner, &received, &inbox, &reports));
            match thread {
                Ok(thread) => Some(Worker { batches, thread }),
                Err(error) => {
                    tracing::error!(%error, "no thread for a worker of a tower");
                    None
                }
            }
        };
        let workers: Vec<_> = runners.into_iter().enumerate().filter_map(start_worker).collect();
        let idle = (0..workers.len()).rev().collect();
        let turns = Turns::new(indexing_wait_max);
        Self { limits, reports: reports.clone(), workers, idle, pending: Vec::new(), turns }
    }

    pub(super) fn run(mut self, messages: &Receiver<Message<R>>) {
        loop {
            let first = match self.patience() {
                None => messages.recv().ok(),
                Some(patience) => match messages.recv_timeout(patience) {
                    Ok(message) => Some(message),
                    Err(RecvTimeoutError::Timeout) => {
                        self.dispatch();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => None,
                },
            };
            let Some(first) = first else { break };
            if !std::iter::once(first).chain(messages.try_iter()).all(|message| self.take(message)) {
                break;
            }
            self.dispatch();
        }
        self.end();
    }

    /// Takes a message in; false when the queue has been closed.
    fn take(&mut self, message: Message<R>) -> bool {
        match message {
            Message::Entry(entry) => self.pending.push(entry),
            Message::Idle(worker) => self.idle.push(worker),
            Message::Close => return false,
        }
        true
    }

    /// How long the owner may sleep: until a deadline passes, or, when a worker is free, until the oldest entry has waited long
    /// enough for company; for ever when there is neither.
    fn patience(&self) -> Option<Duration> {
        let now = Instant::now();
        let deadline = self.pending.iter().filter_map(|entry| entry.urgency.deadline).min();
        let deadline = deadline.map(|deadline| deadline.saturating_duration_since(now));
        let oldest = self.pending.first().filter(|_| !self.idle.is_empty());
        let company = oldest.map(|oldest| self.company_wait_max().saturating_sub(now.saturating_duration_since(oldest.arrived)));
        deadline.into_iter().chain(company).min()
    }

    fn company_wait_max(&self) -> Duration {
        Duration::from_micros(self.limits.wait_us_max)
    }

    /// Whether a batch is full, no entry more can come, or the oldest has waited long enough for company.
    fn is_ready(&self, now: Instant) -> bool {
        let Some(oldest) = self.pending.first() else { return false };
        let size: usize = self.pending.iter().map(|entry| R::size(&entry.input)).sum();
        let live = self.pending.iter().filter(|entry| entry.urgency.priority == Priority::Live).count();
        size >= self.limits.batch_max
            || live.max(self.pending.len() - live) >= self.limits.queue_max
            || now.saturating_duration_since(oldest.arrived) >= self.company_wait_max()
    }

    fn dispatch(&mut self) {
        self.drop_stale();
        loop {
            let now = Instant::now();
            if !self.is_ready(now) {
                return;
            }
            let Some(worker) = self.idle.pop() else { return };
            let batch = self.next_batch(now);
            if let Err(mpsc::SendError(batch)) = self.workers[worker].batches.send(batch) {
                self.fail(batch);
            }
        }
    }

    /// Whose caller has gone away, or whose deadline has passed, costs nothing more.
    fn drop_stale(&mut self) {
        let now = Instant::now();
        let is_past = |entry: &Entry<R>| entry.urgency.deadline.is_some_and(|deadline| deadline <= now);
        for entry in self.pending.extract_if(.., |entry| is_past(entry) || entry.reply.is_closed()) {
            if !is_past(&entry) {
                self.reports.dropped();
                continue;
            }
            self.reports.expired();
            let Entry { reply, place, .. } = entry;
            // Free before the caller hears of it.
            drop(place);
            let _ = reply.send(Err(self.reports.deadline()));
        }
    }

    /// Takes the next batch out of what is pending.
    fn next_batch(&mut self, now: Instant) -> Batch<R> {
        let of = |priority: Priority| self.pending.iter().find(move |entry| entry.urgency.priority == priority);
        let indexing_waited = of(Priority::Indexing).map(|entry| now.saturating_duration_since(entry.arrived));
        let lead = self.turns.next(of(Priority::Live).is_some(), indexing_waited);
        self.reports.led(lead);
        let waiting = |entry: &Entry<R>| Waiting {
            length: R::length(&entry.input),
            size: R::size(&entry.input),
            priority: entry.urgency.priority,
        };
        let waiting: Vec<_> = self.pending.iter().map(waiting).collect();
        let mut chosen = choose(&waiting, lead, self.limits.batch_max).into_iter().peekable();
        let mut index = 0;
        let taken = self.pending.extract_if(.., |_| {
            index += 1;
            chosen.next_if_eq(&(index - 1)).is_some()
        });
        // The entry's place in the queue is free again here.
        let (inputs, replies) = taken.map(|entry| (entry.input, entry.reply)).unzip();
        Batch { inputs, replies }
    }

    /// A worker that has ended answers nothing; its callers must not hang.
    fn fail(&self, batch: Batch<R>) {
        self.reports.counters.of(self.reports.tower).add_failed(batch.replies.len());
        for reply in batch.replies {
            let _ = reply.send(Err(self.reports.stopped()));
        }
    }

    /// Dropping what is pending answers its callers that the tower has stopped.
    fn end(self) {
        drop(self.pending);
        for Worker { batches, thread } in self.workers {
            drop(batches);
            let _ = thread.join();
        }
    }
}
