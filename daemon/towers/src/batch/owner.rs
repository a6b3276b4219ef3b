//! The one owner of a tower's queue.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::choose::choose;
use super::worker::work;
use super::{Batch, Entry, Message, Reports, Runner};
use crate::BatchLimits;

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
}

impl<R: Runner> Owner<R> {
    pub(super) fn start(runners: Vec<R>, limits: BatchLimits, inbox: &mpsc::Sender<Message<R>>, reports: &Reports) -> Self {
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
        Self { limits, reports: reports.clone(), workers, idle, pending: Vec::new() }
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

    /// How long the owner may sleep: for ever when there is nothing to hand out or nobody to take it, else until the oldest entry
    /// has waited long enough.
    fn patience(&self) -> Option<Duration> {
        let oldest = self.pending.first().filter(|_| !self.idle.is_empty())?;
        Some(Duration::from_micros(self.limits.wait_us_max).saturating_sub(oldest.arrived.elapsed()))
    }

    fn is_ready(&self, now: Instant) -> bool {
        let full = self.limits.batch_max.min(self.limits.queue_max);
        let Some(oldest) = self.pending.first() else { return false };
        self.pending.len() >= full
            || now.saturating_duration_since(oldest.arrived) >= Duration::from_micros(self.limits.wait_us_max)
    }

    fn dispatch(&mut self) {
        if self.idle.is_empty() {
            return;
        }
        // Whose caller has gone away costs nothing more.
        let before = self.pending.len();
        self.pending.retain(|entry| !entry.reply.is_closed());
        self.reports.counters.of(self.reports.tower).add_dropped(before - self.pending.len());
        while self.is_ready(Instant::now()) {
            let Some(worker) = self.idle.pop() else { return };
            let lengths: Vec<usize> = self.pending.iter().map(|entry| R::length(&entry.input)).collect();
            let mut chosen = choose(&lengths, self.limits.batch_max).into_iter().peekable();
            let mut index = 0;
            let taken = self.pending.extract_if(.., |_| {
                index += 1;
                chosen.next_if_eq(&(index - 1)).is_some()
            });
            // The entry's place in the queue is free again here.
            let (inputs, replies) = taken.map(|entry| (entry.input, entry.reply)).unzip();
            if let Err(mpsc::SendError(batch)) = self.workers[worker].batches.send(Batch { inputs, replies }) {
                self.fail(batch);
            }
        }
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
