//! A worker: a thread with a session of its own.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use super::{Batch, Message, Reply, Reports, Runner};
use crate::TowersError;

pub(super) fn work<R: Runner>(
    id: usize,
    mut runner: R,
    batches: &Receiver<Batch<R>>,
    inbox: &Sender<Message<R>>,
    reports: &Reports,
) {
    while let Ok(batch) = batches.recv() {
        run_batch(&mut runner, batch, reports);
        if inbox.send(Message::Idle(id)).is_err() {
            break;
        }
    }
}

/// Runs a batch. When it fails, each entry runs alone, so that an entry takes no other with it.
fn run_batch<R: Runner>(runner: &mut R, batch: Batch<R>, reports: &Reports) {
    let Batch { inputs, replies } = batch;
    match run(runner, &inputs, reports) {
        Ok(outputs) => outputs.into_iter().zip(replies).for_each(|(output, reply)| answer::<R>(reply, Ok(output))),
        Err(error) if inputs.len() == 1 => replies.into_iter().for_each(|reply| fail::<R>(reply, error.clone(), reports)),
        Err(error) => {
            tracing::warn!(tower = reports.tower.as_str(), entries = inputs.len(), %error, "a batch failed; its entries run alone");
            for (input, reply) in inputs.into_iter().zip(replies) {
                // Its caller may have gone away, or its deadline passed, in the run that failed.
                if reply.is_closed() {
                    reports.dropped();
                    continue;
                }
                match run(runner, &[input], reports) {
                    Ok(outputs) => outputs.into_iter().zip([reply]).for_each(|(output, reply)| answer::<R>(reply, Ok(output))),
                    Err(error) => fail::<R>(reply, error, reports),
                }
            }
        }
    }
}

fn run<R: Runner>(runner: &mut R, inputs: &[R::Input], reports: &Reports) -> Result<Vec<R::Output>, TowersError> {
    let begun = Instant::now();
    let tower = reports.tower.as_str();
    // The runners keep only buffers, which they overwrite: nothing is left half-changed that a later batch reads.
    let outputs = catch_unwind(AssertUnwindSafe(|| runner.run(inputs)))
        .unwrap_or_else(|payload| Err(TowersError::graph(tower, format!("the worker panicked: {}", panic_text(&*payload)))))?;
    if outputs.len() != inputs.len() {
        return Err(TowersError::graph(tower, format!("{} results for {} entries", outputs.len(), inputs.len())));
    }
    reports.batch(inputs.len(), begun.elapsed());
    Ok(outputs)
}

fn answer<R: Runner>(reply: Reply<R>, result: Result<R::Output, TowersError>) {
    // The caller may have gone away in the meantime.
    let _ = reply.send(result);
}

fn fail<R: Runner>(reply: Reply<R>, error: TowersError, reports: &Reports) {
    reports.counters.of(reports.tower).add_failed(1);
    answer::<R>(reply, Err(error));
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
