//! The queue with runners that need no graph.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod urgency;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{Answer, Message, Queue, Reports, Runner};
use crate::urgency::Urgency;
use crate::{BatchLimits, INDEXING_WAIT_MAX, Tower, TowerCounters, TowersError};

/// A deadline for what must come; reaching it is a failure.
const DEADLINE: Duration = Duration::from_secs(20);

/// Doubles numbers. Tells of each batch it begins, and waits for leave to go on when it has a gate.
struct Doubler {
    begun: Sender<Vec<u32>>,
    gate: Option<Receiver<()>>,
}

impl Runner for Doubler {
    type Input = u32;
    type Output = u32;

    fn run(&mut self, inputs: &[u32]) -> Result<Vec<u32>, TowersError> {
        let _ = self.begun.send(inputs.to_vec());
        if let Some(gate) = &self.gate {
            let _ = gate.recv();
        }
        assert!(!inputs.contains(&13), "thirteen");
        if inputs.contains(&7) {
            return Err(TowersError::graph("image", "seven"));
        }
        Ok(inputs.iter().map(|input| input * 2).collect())
    }
}

struct Bench {
    /// Dropped first: lets a held worker go, for which dropping the queue waits.
    gate: Sender<()>,
    queue: Queue<Doubler>,
    begun: Receiver<Vec<u32>>,
    counters: Arc<TowerCounters>,
}

impl Bench {
    async fn submit(&self, number: u32) -> Answer<Doubler> {
        self.queue.submit(number, Urgency::default()).await.unwrap()
    }

    /// The next batch that a worker begins.
    fn begun(&self) -> Vec<u32> {
        self.begun.recv_timeout(DEADLINE).unwrap()
    }
}

fn bench(gated: bool, batch_max: usize, queue_max: usize, wait_us_max: u64) -> Bench {
    bench_with(gated, BatchLimits { batch_max, queue_max, wait_us_max }, INDEXING_WAIT_MAX)
}

fn bench_with(gated: bool, limits: BatchLimits, indexing_wait_max: Duration) -> Bench {
    let (begun_sender, begun) = channel();
    let (gate, gate_receiver) = channel();
    let counters = Arc::<TowerCounters>::default();
    let reports = Reports { tower: Tower::Image, counters: Arc::clone(&counters), observer: Arc::new(OnceLock::new()) };
    let runner = Doubler { begun: begun_sender, gate: gated.then_some(gate_receiver) };
    let queue = Queue::start_with(vec![runner], limits, indexing_wait_max, reports).unwrap();
    Bench { gate, queue, begun, counters }
}

#[tokio::test]
async fn what_gathers_while_a_worker_is_busy_is_one_batch() {
    let bench = bench(true, 4, 16, 0);
    let first = bench.submit(1).await;
    assert_eq!(bench.begun(), [1]);
    let mut others = Vec::new();
    for number in 2..=6 {
        others.push(bench.submit(number).await);
    }
    for _ in 0..3 {
        bench.gate.send(()).unwrap();
    }
    assert_eq!(bench.queue.result(first).await.unwrap(), 2);
    for (number, answer) in (2..=6).zip(others) {
        assert_eq!(bench.queue.result(answer).await.unwrap(), number * 2);
    }
    assert_eq!(bench.begun(), [2, 3, 4, 5]);
    assert_eq!(bench.begun(), [6]);
    assert_eq!((bench.counters.image.batches(), bench.counters.image.items()), (3, 6));
}

#[tokio::test]
async fn an_idle_worker_waits_for_company_until_the_batch_is_full() {
    // The wait is far beyond the test's deadline: only the full batch can end it.
    let bench = bench(false, 3, 16, 3_600_000_000);
    let mut answers = Vec::new();
    for number in 1..=3 {
        answers.push(bench.submit(number).await);
    }
    assert_eq!(bench.begun(), [1, 2, 3]);
    for (number, answer) in (1..=3).zip(answers) {
        assert_eq!(bench.queue.result(answer).await.unwrap(), number * 2);
    }
}

#[tokio::test]
async fn the_queue_is_bounded_and_senders_wait() {
    let bench = bench(true, 1, 2, 0);
    let running = bench.submit(1).await;
    assert_eq!(bench.begun(), [1]);
    let second = bench.submit(2).await;
    let third = bench.submit(3).await;
    assert_eq!(bench.queue.depth(), 2);
    let mut fourth = Box::pin(bench.queue.submit(4, Urgency::default()));
    // Polled, it does not get in, whatever else runs.
    tokio::select! {
        biased;
        _ = &mut fourth => panic!("a queue of 2 took a third entry"),
        () = tokio::task::yield_now() => {}
    }
    bench.gate.send(()).unwrap();
    assert_eq!(bench.queue.result(running).await.unwrap(), 2);
    let fourth = fourth.await.unwrap();
    for _ in 0..3 {
        bench.gate.send(()).unwrap();
    }
    for (number, answer) in [(2, second), (3, third), (4, fourth)] {
        assert_eq!(bench.queue.result(answer).await.unwrap(), number * 2);
    }
    assert_eq!(bench.queue.depth(), 0);
}

#[tokio::test]
async fn an_entry_whose_caller_has_gone_away_is_not_run() {
    let bench = bench(true, 8, 8, 0);
    let running = bench.submit(1).await;
    assert_eq!(bench.begun(), [1]);
    drop(bench.submit(2).await);
    let kept = bench.submit(3).await;
    for _ in 0..2 {
        bench.gate.send(()).unwrap();
    }
    assert_eq!(bench.queue.result(running).await.unwrap(), 2);
    assert_eq!(bench.queue.result(kept).await.unwrap(), 6);
    assert_eq!(bench.begun(), [3]);
    assert_eq!(bench.counters.image.dropped(), 1);
}

#[tokio::test]
async fn a_failing_entry_fails_alone_and_a_panic_hangs_nobody() {
    for (bad, reason) in [(7, "image tower: seven"), (13, "image tower: the worker panicked: thirteen")] {
        let bench = bench(false, 3, 16, 3_600_000_000);
        let mut answers = Vec::new();
        for number in [1, bad, 3] {
            answers.push(bench.submit(number).await);
        }
        let mut results = Vec::new();
        for answer in answers {
            results.push(bench.queue.result(answer).await.map_err(|error| error.to_string()));
        }
        assert_eq!(results, [Ok(2), Err(reason.to_owned()), Ok(6)]);
        assert_eq!(bench.counters.image.failed(), 1);
        assert_eq!(bench.counters.image.items(), 2);
    }
}

#[tokio::test]
async fn closing_the_queue_answers_what_still_waits() {
    let Bench { queue, begun, gate, .. } = bench(true, 1, 8, 0);
    let running = queue.submit(1, Urgency::default()).await.unwrap();
    assert_eq!(begun.recv_timeout(DEADLINE).unwrap(), [1]);
    let waiting = queue.submit(2, Urgency::default()).await.unwrap();
    // What `drop` sends first; here it lies in the inbox before the worker can say that it is idle, so that 2 surely still waits.
    queue.inbox.send(Message::Close).unwrap();
    gate.send(()).unwrap();
    drop(gate);
    drop(queue);
    assert_eq!(running.receiver.await.unwrap().unwrap(), 2);
    assert!(waiting.receiver.await.is_err());
}

#[test]
fn a_limit_of_zero_is_refused_by_name() {
    let reports = Reports { tower: Tower::Image, counters: Arc::default(), observer: Arc::default() };
    let limits = BatchLimits { batch_max: 1, queue_max: 0, wait_us_max: 0 };
    let error = Queue::<Doubler>::start(Vec::new(), limits, reports).err().unwrap();
    assert_eq!(error.to_string(), "queue_max: 0; set at least 1");
}
