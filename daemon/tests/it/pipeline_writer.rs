//! The index writer against an index whose answers the test decides: transient faults are waited out, a refused point is found among its
//! batch, a mismatch stops the daemon, and nothing is written for a partition that was taken away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use astromech::index::{Change, ChangeBody, Index, IndexError, IndexWriter, Page, Query, Scope, Stored};
use astromech::pipeline::{WriteReply, WriteRequest, Writer, WriterLimits};
use astromech::source::Partition;
use astromech::vitals::{BackoffLimits, Condition, HaltCause, Metrics, Readiness, Vitals};
use astromech_schemas::results::Outcome;
use astromech_schemas::{Fingerprint, Kind, point_id};
use futures::future::BoxFuture;
use tokio::sync::{Notify, mpsc, oneshot};
use uuid::Uuid;

type Decide = Box<dyn Fn(&[Change]) -> Result<(), IndexError> + Send + Sync>;

/// Remembers what was applied; `decide` answers each write.
struct Scripted {
    fingerprint: Fingerprint,
    decide: Decide,
    applied: Mutex<Vec<BTreeSet<String>>>,
    attempts: Mutex<usize>,
    attempted: Notify,
}

impl Scripted {
    fn new(decide: impl Fn(&[Change]) -> Result<(), IndexError> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            fingerprint: fingerprint(),
            decide: Box::new(decide),
            applied: Mutex::default(),
            attempts: Mutex::default(),
            attempted: Notify::new(),
        })
    }

    fn applied(&self) -> Vec<BTreeSet<String>> {
        self.applied.lock().unwrap().clone()
    }

    async fn wait_attempts(&self, count: usize) {
        let enough = async {
            while *self.attempts.lock().unwrap() < count {
                self.attempted.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), enough).await.expect("the writer tries again");
    }
}

impl IndexWriter for Scripted {
    fn apply<'a>(&'a self, changes: &'a [Change]) -> BoxFuture<'a, Result<Vec<Outcome>, IndexError>> {
        Box::pin(async move {
            let answer = (self.decide)(changes);
            if answer.is_ok() {
                self.applied.lock().unwrap().push(changes.iter().map(|change| change.id.clone()).collect());
            }
            *self.attempts.lock().unwrap() += 1;
            self.attempted.notify_one();
            let outcome = |change: &Change| if change.id.starts_with("old") { Outcome::Superseded } else { Outcome::Applied };
            answer.map(|()| changes.iter().map(outcome).collect())
        })
    }
}

impl Index for Scripted {
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    fn search<'a>(&'a self, _: &'a Query) -> BoxFuture<'a, Result<Vec<Stored>, IndexError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn retrieve<'a>(&'a self, _: Kind, _: &'a [Uuid]) -> BoxFuture<'a, Result<Vec<Stored>, IndexError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn scroll(&self, _: Kind, _: Scope, _: Option<Uuid>, _: u32) -> BoxFuture<'_, Result<Page, IndexError>> {
        Box::pin(std::future::ready(Ok(Page { points: Vec::new(), next: None })))
    }

    fn counts(&self) -> BoxFuture<'_, Result<BTreeMap<Kind, u64>, IndexError>> {
        Box::pin(std::future::ready(Ok(BTreeMap::new())))
    }

    fn purge(&self, _: u64) -> BoxFuture<'_, Result<u64, IndexError>> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn health(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn close(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn fingerprint() -> Fingerprint {
    Fingerprint::try_from("a".repeat(64)).unwrap()
}

struct Rig {
    queue: mpsc::Sender<WriteRequest>,
    vitals: Vitals,
    ended: tokio::task::JoinHandle<()>,
}

fn start(index: &Arc<Scripted>, batch_points_max: usize) -> Rig {
    let backoff = BackoffLimits { min: Duration::from_millis(1), max: Duration::from_millis(4) };
    let vitals = Vitals::new(Arc::new(Metrics::new()), Readiness::new(&[Condition::Index]), backoff);
    let writer = Writer {
        index: Arc::clone(index) as Arc<dyn IndexWriter>,
        limits: WriterLimits { batch_points_max, batch_wait_max: Duration::from_millis(50), in_flight_max: 2 },
        metrics: vitals.metrics.of(),
        queues: vitals.metrics.of(),
        vitals: vitals.clone(),
    };
    let (queue, ended) = writer.start();
    Rig { queue, vitals, ended }
}

impl Rig {
    async fn send(&self, id: &str, partition: &Arc<Partition>) -> oneshot::Receiver<WriteReply> {
        let (reply, answer) = oneshot::channel();
        let change = Change {
            kind: Kind::Image,
            id: id.to_owned(),
            point_id: point_id(Kind::Image, id),
            version: 1,
            tie_breaker: None,
            fingerprint: fingerprint(),
            body: ChangeBody::Delete,
        };
        self.queue.send(WriteRequest { change, partition: Arc::clone(partition), reply }).await.unwrap();
        answer
    }
}

async fn answer(receiver: oneshot::Receiver<WriteReply>) -> Result<WriteReply, oneshot::error::RecvError> {
    tokio::time::timeout(Duration::from_secs(20), receiver).await.expect("the writer answers")
}

fn ids(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|id| (*id).to_owned()).collect()
}

#[tokio::test]
async fn changes_are_gathered_into_one_write_and_the_guard_lasts_until_the_answer_is_dropped() {
    let index = Scripted::new(|_| Ok(()));
    let (rig, partition) = (start(&index, 3), Partition::new("t".into(), 0));
    let answers = [rig.send("a", &partition).await, rig.send("old", &partition).await, rig.send("c", &partition).await];
    let mut replies = Vec::new();
    for receiver in answers {
        replies.push(answer(receiver).await.unwrap());
    }
    let outcome = |reply: &WriteReply| match reply {
        WriteReply::Taken(_, outcome) => *outcome,
        other => panic!("{other:?}"),
    };
    let outcomes: Vec<Outcome> = replies.iter().map(outcome).collect();
    assert_eq!(outcomes, [Outcome::Applied, Outcome::Superseded, Outcome::Applied], "each is told what became of it");
    assert_eq!(index.applied().into_iter().flatten().collect::<BTreeSet<_>>(), ids(&["a", "c", "old"]));
    partition.fence().close();
    assert!(!partition.fence().wait_idle(std::time::Instant::now()), "the results are not published yet");
    drop(replies);
    assert!(partition.fence().wait_idle(std::time::Instant::now()));
    drop(rig.queue);
    rig.ended.await.unwrap();
}

#[tokio::test]
async fn a_refused_point_is_found_among_its_batch_and_the_others_are_written() {
    let index = Scripted::new(|changes| {
        let bad = changes.iter().any(|change| change.id.starts_with("bad"));
        if bad { Err(IndexError::Refused("no such vector".to_owned().into())) } else { Ok(()) }
    });
    let (rig, partition) = (start(&index, 16), Partition::new("t".into(), 0));
    let names: Vec<String> = (0..14).map(|n| format!("good {n}")).chain(["bad 1".to_owned(), "bad 2".to_owned()]).collect();
    let mut answers = Vec::new();
    for name in &names {
        answers.push((name, rig.send(name, &partition).await));
    }
    for (name, receiver) in answers {
        match answer(receiver).await.unwrap() {
            WriteReply::Taken(..) => assert!(name.starts_with("good"), "{name}"),
            WriteReply::Refused(_, detail) => assert!(name.starts_with("bad") && detail == "no such vector", "{name}"),
            WriteReply::Fenced => panic!("{name}"),
        }
    }
    assert_eq!(index.applied().iter().map(BTreeSet::len).sum::<usize>(), 14);
}

#[tokio::test]
async fn an_index_that_is_down_is_waited_for_and_nothing_is_refused() {
    let down = Arc::new(Mutex::new(true));
    let index = Scripted::new({
        let down = Arc::clone(&down);
        move |_| if *down.lock().unwrap() { Err(IndexError::Transient("connection refused".to_owned().into())) } else { Ok(()) }
    });
    let (rig, partition) = (start(&index, 4), Partition::new("t".into(), 0));
    let receiver = rig.send("a", &partition).await;
    index.wait_attempts(5).await;
    assert!(!rig.vitals.readiness.is_ready());
    *down.lock().unwrap() = false;
    assert!(matches!(answer(receiver).await, Ok(WriteReply::Taken(..))));
    assert!(rig.vitals.readiness.is_ready());
}

#[tokio::test]
async fn nothing_is_written_after_the_fence_is_closed_not_even_a_retry() {
    let down = Arc::new(Mutex::new(true));
    let index = Scripted::new({
        let down = Arc::clone(&down);
        move |_| if *down.lock().unwrap() { Err(IndexError::Transient("down".to_owned().into())) } else { Ok(()) }
    });
    let (kept, taken) = (Partition::new("t".into(), 0), Partition::new("t".into(), 1));
    let rig = start(&index, 8);
    let (stays, goes) = (rig.send("stays", &kept).await, rig.send("goes", &taken).await);
    index.wait_attempts(3).await;
    taken.fence().close();
    assert!(taken.fence().wait_idle(std::time::Instant::now() + Duration::from_secs(20)));
    let late = rig.send("late", &taken).await;
    *down.lock().unwrap() = false;
    assert!(matches!(answer(stays).await, Ok(WriteReply::Taken(..))));
    assert!(matches!(answer(goes).await, Ok(WriteReply::Fenced)));
    assert!(matches!(answer(late).await, Ok(WriteReply::Fenced)));
    assert_eq!(index.applied().into_iter().flatten().collect::<BTreeSet<_>>(), ids(&["stays"]));
}

#[tokio::test]
async fn a_mismatch_stops_the_daemon_and_answers_nothing() {
    let index = Scripted::new(|_| Err(IndexError::Mismatch("fingerprint b, expected a".to_owned().into())));
    let (rig, partition) = (start(&index, 4), Partition::new("t".into(), 0));
    let receiver = rig.send("a", &partition).await;
    assert!(answer(receiver).await.is_err(), "the request is dropped");
    assert_eq!(rig.vitals.halt.cause(), Some(&HaltCause::Mismatch("fingerprint b, expected a".to_owned())));
    assert!(rig.vitals.halt.token().is_cancelled());
}
