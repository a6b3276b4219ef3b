//! Live entries, indexing entries and deadlines.

use std::time::{Duration, Instant};

use super::{Bench, DEADLINE, Doubler, bench, bench_with};
use crate::batch::Answer;
use crate::urgency::Urgency;
use crate::{BatchLimits, LIVE_BATCHES_MAX, Priority, TowersError};

const LIVE: Urgency = Urgency { priority: Priority::Live, deadline: None };
/// Longer than any test.
const NEVER: Duration = Duration::from_hours(1);

/// A deadline that has passed.
fn past() -> Urgency {
    Urgency::default().until(Instant::now())
}

impl Bench {
    async fn submit_live(&self, number: u32) -> Answer<Doubler> {
        self.queue.submit(number, LIVE).await.unwrap()
    }

    /// The results, in order.
    async fn doubled(&self, answers: Vec<Answer<Doubler>>) -> Vec<u32> {
        let mut doubled = Vec::new();
        for answer in answers {
            doubled.push(self.queue.result(answer).await.unwrap());
        }
        doubled
    }
}

#[tokio::test]
async fn a_live_entry_goes_before_a_backlog_of_indexing() {
    let limits = BatchLimits { batch_max: 2, queue_max: 16, wait_us_max: 0 };
    let bench = bench_with(true, limits, NEVER);
    let mut answers = vec![bench.submit(1).await];
    assert_eq!(bench.begun(), [1]);
    for number in 20..26 {
        answers.push(bench.submit(number).await);
    }
    for number in [100, 101, 102] {
        answers.push(bench.submit_live(number).await);
    }
    for _ in 0..6 {
        bench.gate.send(()).unwrap();
    }
    let batches: Vec<_> = (0..5).map(|_| bench.begun()).collect();
    // The third live one's batch had room for the oldest of the backlog.
    assert_eq!(batches, [vec![100, 101], vec![20, 102], vec![21, 22], vec![23, 24], vec![25]]);
    assert_eq!(bench.doubled(answers).await, [2, 40, 42, 44, 46, 48, 50, 200, 202, 204]);
}

#[tokio::test]
async fn indexing_is_not_starved_by_live_entries_that_never_end() {
    let limits = BatchLimits { batch_max: 1, queue_max: 16, wait_us_max: 0 };
    // Whatever waits has waited long enough.
    let bench = bench_with(true, limits, Duration::ZERO);
    let mut answers = vec![bench.submit(1).await];
    assert_eq!(bench.begun(), [1]);
    answers.push(bench.submit(20).await);
    answers.push(bench.submit(21).await);
    for number in 100..110 {
        answers.push(bench.submit_live(number).await);
    }
    let mut order = Vec::new();
    for number in 200..208 {
        bench.gate.send(()).unwrap();
        order.extend(bench.begun());
        // As many live entries come as go.
        answers.push(bench.submit_live(number).await);
    }
    assert_eq!(order, [100, 101, 102, 20, 103, 104, 105, 21], "of {} batches one is indexing's", LIVE_BATCHES_MAX + 1);
    drop(bench.gate);
}

#[tokio::test]
async fn a_full_backlog_of_indexing_leaves_room_for_live_entries_which_are_bounded_too() {
    let bench = bench(true, 1, 2, 0);
    let mut answers = vec![bench.submit(1).await];
    assert_eq!(bench.begun(), [1]);
    for number in [2, 3] {
        answers.push(bench.submit(number).await);
    }
    let mut indexing = Box::pin(bench.queue.submit(4, Urgency::default()));
    let mut live = Box::pin(bench.queue.submit(102, LIVE));
    tokio::select! {
        biased;
        _ = &mut indexing => panic!("2 places of indexing took a third entry"),
        () = tokio::task::yield_now() => {}
    }
    for number in [100, 101] {
        answers.push(bench.submit_live(number).await);
    }
    assert_eq!(bench.queue.depth(), 4);
    tokio::select! {
        biased;
        _ = &mut live => panic!("2 live places took a third entry"),
        () = tokio::task::yield_now() => {}
    }
    for _ in 0..7 {
        bench.gate.send(()).unwrap();
    }
    answers.extend([live.await.unwrap(), indexing.await.unwrap()]);
    assert_eq!(bench.doubled(answers).await, [2, 4, 6, 200, 202, 204, 8]);
}

#[tokio::test]
async fn an_entry_whose_deadline_has_passed_never_reaches_the_runner() {
    let bench = bench(true, 8, 8, 0);
    let running = bench.submit(1).await;
    assert_eq!(bench.begun(), [1]);
    // The worker is held until the deadline has passed: only the owner and the caller can notice it.
    let soon = LIVE.until(Instant::now() + Duration::from_millis(20));
    let error = bench.queue.call(2, soon).await.unwrap_err();
    assert!(matches!(error, TowersError::Deadline { tower: "image" }), "{error}");
    let error = bench.queue.call(3, past()).await.unwrap_err();
    let expected = "image tower: the deadline passed before there was an answer; give it more time or send less at once";
    assert_eq!(error.to_string(), expected);
    let in_time = bench.queue.submit(4, LIVE.until(Instant::now() + NEVER)).await.unwrap();
    for _ in 0..2 {
        bench.gate.send(()).unwrap();
    }
    assert_eq!(bench.doubled(vec![running, in_time]).await, [2, 8]);
    assert_eq!(bench.begun(), [4]);
    let counter = &bench.counters.image;
    assert_eq!((counter.expired(), counter.dropped(), counter.items()), (2, 0, 2));
    assert_eq!((counter.batches_led(Priority::Live), counter.batches_led(Priority::Indexing)), (1, 1));
}

#[tokio::test]
async fn waiting_for_room_ends_at_the_deadline_and_a_passed_one_takes_no_place() {
    let bench = bench(true, 1, 1, 0);
    let running = bench.submit(1).await;
    assert_eq!(bench.begun(), [1]);
    let waiting = bench.submit(2).await;
    let soon = Urgency::default().until(Instant::now() + Duration::from_millis(20));
    let error = bench.queue.submit(3, soon).await.err().unwrap();
    assert!(matches!(error, TowersError::Deadline { .. }), "{error}");
    let expired = LIVE.until(Instant::now());
    assert!(bench.queue.submit(4, expired).await.is_err(), "there is room, but no time");
    assert_eq!((bench.queue.depth(), bench.counters.image.expired()), (1, 2));
    for _ in 0..2 {
        bench.gate.send(()).unwrap();
    }
    assert_eq!(bench.doubled(vec![running, waiting]).await, [2, 4]);
}

#[tokio::test]
async fn a_passed_deadline_gives_its_place_back_while_every_worker_is_busy() {
    let bench = bench(true, 1, 1, 0);
    let running = bench.submit(1).await;
    assert_eq!(bench.begun(), [1]);
    let soon = Urgency::default().until(Instant::now() + Duration::from_millis(20));
    assert!(bench.queue.call(2, soon).await.is_err());
    // The owner wakes at the deadline; nothing else could make room, for the worker is held.
    let next = tokio::time::timeout(DEADLINE, bench.queue.submit(3, Urgency::default())).await.unwrap().unwrap();
    for _ in 0..2 {
        bench.gate.send(()).unwrap();
    }
    assert_eq!(bench.doubled(vec![running, next]).await, [2, 6]);
}

#[tokio::test]
async fn a_caller_is_answered_at_its_deadline_even_while_its_entry_runs() {
    let bench = bench(true, 1, 4, 0);
    let soon = LIVE.until(Instant::now() + Duration::from_millis(50));
    // Whether it has begun by then or not: the worker is held.
    let error = bench.queue.call(1, soon).await.unwrap_err();
    assert!(matches!(error, TowersError::Deadline { .. }), "{error}");
    bench.gate.send(()).unwrap();
    let next = bench.submit(2).await;
    bench.gate.send(()).unwrap();
    assert_eq!(bench.doubled(vec![next]).await, [4]);
}

#[test]
fn of_two_deadlines_the_earlier_holds() {
    let now = Instant::now();
    let (early, late) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
    for urgency in [LIVE.until(early).until(late), LIVE.until(late).until(early)] {
        assert_eq!((urgency.deadline, urgency.priority), (Some(early), Priority::Live));
    }
}
