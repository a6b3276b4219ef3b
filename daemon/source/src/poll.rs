//! The polling thread: the only one that touches the consumer.
//!
//! `poll` is called all the time, because it also serves heartbeats' deadlines, rebalances and commits. It is never called with nowhere to
//! put a record for long: where the pipeline is full, the record that came is held, every partition is paused, and polling goes on.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::assignment::{Assignment, committable};
use super::context::Context;
use super::delivery::Intake;
use super::metrics::SourceMetrics;
use super::partition::{Partition, Standing};
use super::record::Record;
use super::span::RecordSpan;
use super::{Drained, SourceError};
use astromech_config::KafkaConfig;
use astromech_vitals::trace::stage_span;
use astromech_vitals::{Condition, Meter, Queue, QueueMetrics, Stage, Vitals, WarnLimiter};

/// Longest time inside one `poll`.
const POLL_MAX: Duration = Duration::from_millis(100);
/// Longest wait for room before the partitions are paused. Pausing throws prefetched records away, so a short jam must not pause.
const PAUSE_AFTER: Duration = Duration::from_millis(250);
/// rdkafka calls nothing back for a commit that is not waited for: what the broker holds is learnt from librdkafka's statistics.
/// A commit that the statistics, which come every second, have not confirmed after this long is sent again.
const RESEND_AFTER: Duration = Duration::from_secs(10);
/// Failed reads while brokers are down.
static UNREAD: WarnLimiter = WarnLimiter::new();
/// Failed commits, likewise.
static UNCOMMITTED: WarnLimiter = WarnLimiter::new();
/// How often the partitions' windows are compared with their limit.
const WINDOW_CHECK: Duration = Duration::from_millis(50);

pub(super) struct PollLoop {
    pub(super) consumer: BaseConsumer<Context>,
    pub(super) assignment: Arc<Assignment>,
    pub(super) intake: Intake,
    pub(super) runtime: Handle,
    pub(super) kafka: KafkaConfig,
    pub(super) metrics: Meter<SourceMetrics>,
    pub(super) queues: Meter<QueueMetrics>,
    /// Its halt: the daemon can't go on, the partitions are given up at once.
    pub(super) vitals: Vitals,
    /// What it says ready of.
    pub(super) condition: Condition,
    /// Graceful stop: read nothing more, finish what is under way.
    pub(super) stop: CancellationToken,
    pub(super) state: LoopState,
}

/// What the loop remembers from one turn to the next.
pub(super) struct LoopState {
    topics: HashMap<String, Arc<str>>,
    /// Records that came and have no place yet: one, or a few where partitions were assigned while paused.
    held: VecDeque<Held>,
    /// What is paused in librdkafka, partitions that were taken away included: it keeps the mark, so one that comes back is still paused.
    paused: BTreeSet<(Arc<str>, i32)>,
    /// Whether everything is paused because a record is held.
    all_paused: bool,
    committed: Instant,
    windows_checked: Instant,
}

/// A record that came and waits for room.
struct Held {
    record: Record,
    partition: Arc<Partition>,
    span: RecordSpan,
    /// The wait itself.
    waiting: tracing::Span,
    since: Instant,
}

impl LoopState {
    pub(super) fn new(kafka: &KafkaConfig) -> Self {
        let topics = kafka.topics.iter().map(|topic| (topic.name.clone(), Arc::from(topic.name.as_str()))).collect();
        let now = Instant::now();
        Self { topics, held: VecDeque::new(), paused: BTreeSet::new(), all_paused: false, committed: now, windows_checked: now }
    }
}

impl PollLoop {
    /// Runs until stopped, then drains, commits and leaves the group.
    pub(super) fn run(mut self) -> Result<Drained, SourceError> {
        let result = self.read();
        self.consumer.context().stopping.store(true, Ordering::Release);
        self.vitals.readiness.set_missing(self.condition, "stopping");
        let (now, drain) = (Instant::now(), self.kafka.drain_timeout);
        let deadline = now + drain;
        if result.is_ok() {
            // Room at the end, for the writes that are under way when the fences close.
            self.drain(now + drain * 3 / 4);
        }
        let partitions = self.assignment.all();
        Assignment::fence_off(&partitions, deadline.saturating_duration_since(Instant::now()));
        self.consumer.context().commit_now(&self.consumer, &partitions);
        let drained = Drained { unfinished: self.assignment.open_records() };
        result.map(|()| drained)
    }

    fn read(&mut self) -> Result<(), SourceError> {
        while !self.stop.is_cancelled() && !self.vitals.halt.token().is_cancelled() {
            self.admit_held()?;
            self.pause_and_resume();
            if self.is_commit_due() {
                self.pass();
                self.commit();
            }
            // Held records: look for events only, and come back soon.
            let timeout = if self.state.held.is_empty() { POLL_MAX } else { POLL_MAX / 5 };
            let polled = self.consumer.poll(timeout).map(|polled| polled.map(|message| Record::of(&message)));
            match polled {
                None => {}
                Some(Ok(record)) => self.take(record)?,
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Err(SourceError::Fatal(code.to_string())),
                Some(Err(e)) => Self::poll_error(&e),
            }
        }
        Ok(())
    }

    fn poll_error(error: &KafkaError) {
        let unknown = [RDKafkaErrorCode::UnknownTopicOrPartition, RDKafkaErrorCode::UnknownTopic];
        // Of a topic that is not there the watch tells the name.
        if !error.rdkafka_error_code().is_some_and(|code| unknown.contains(&code))
            && let Some(repeated) = UNREAD.due(&error.to_string())
        {
            warn!(%error, repeated, "reading failed; it goes on when the brokers answer");
        }
    }

    fn take(&mut self, mut record: Record) -> Result<(), SourceError> {
        let Some(partition) = self.assignment.get(&record.topic, record.partition) else {
            return Ok(()); // taken away meanwhile: the new owner reads it
        };
        if let Some(topic) = self.state.topics.get(&*record.topic) {
            record.topic = Arc::clone(topic);
        }
        self.metrics.record_consumed(&record.topic);
        let span = RecordSpan::of(&record);
        let waiting = span.span().in_scope(|| stage_span!("consume"));
        self.state.held.push_back(Held { record, partition, span, waiting, since: Instant::now() });
        if self.state.held.len() == 1 { self.admit_held() } else { Ok(()) }
    }

    /// Sends held records into the pipeline, as far as there is room.
    fn admit_held(&mut self) -> Result<(), SourceError> {
        while let Some(Held { record, partition, .. }) = self.state.held.front() {
            if partition.fence().is_closed() {
                self.state.held.pop_front();
                continue;
            }
            let wait = if self.state.all_paused { Duration::ZERO } else { PAUSE_AFTER };
            // A timer is made inside the runtime, or it panics.
            let admitted = self.runtime.block_on(async { tokio::time::timeout(wait, self.intake.admit(record)).await });
            let admission = match admitted {
                Ok(admission) => admission.map_err(|_| SourceError::PipelineGone)?,
                Err(_) => return Ok(()),
            };
            if let Some(Held { record, partition, span, waiting, since }) = self.state.held.pop_front() {
                drop(waiting);
                self.vitals.stages.took(Stage::Consume, since.elapsed());
                self.intake.send(record, partition, admission, span).map_err(|_| SourceError::PipelineGone)?;
            }
        }
        Ok(())
    }

    /// Pauses everything while a record is held, and a partition while its window is full; resumes the rest.
    fn pause_and_resume(&mut self) {
        let assigned = self.consumer.context().assigned.swap(false, Ordering::AcqRel);
        let holding = !self.state.held.is_empty();
        let due = self.state.windows_checked.elapsed() >= WINDOW_CHECK;
        if !(assigned || due || holding != self.state.all_paused) {
            return;
        }
        self.state.windows_checked = Instant::now();
        let partitions = self.assignment.all();
        let full = |partition: &Arc<Partition>| {
            holding || partition.standing() == Standing::Stopped || partition.window() >= self.kafka.window_records_max
        };
        let wanted: BTreeSet<_> = partitions.iter().filter(|p| full(p)).map(|p| (Arc::clone(p.topic()), p.number())).collect();
        let ours: BTreeSet<_> = partitions.iter().map(|p| (Arc::clone(p.topic()), p.number())).collect();
        let pause: Vec<_> = wanted.difference(&self.state.paused).cloned().collect();
        let resume: Vec<_> = self.state.paused.difference(&wanted).filter(|p| ours.contains(*p)).cloned().collect();
        if !pause.is_empty() {
            match self.consumer.pause(&list_of(&pause)) {
                Ok(()) => self.state.paused.extend(pause),
                Err(e) => return warn!(error = %e, "pausing failed; it is tried again"),
            }
        }
        if !resume.is_empty() {
            match self.consumer.resume(&list_of(&resume)) {
                Ok(()) => self.state.paused.retain(|partition| !resume.contains(partition)),
                Err(e) => return warn!(error = %e, "resuming failed; it is tried again"),
            }
        }
        self.state.all_paused = holding;
        if self.condition == Condition::Kafka {
            self.queues.set_depth(Queue::Records, self.intake.in_flight());
            self.metrics.set_bytes_in_flight(self.intake.bytes_in_flight());
        } else {
            self.queues.set_depth(Queue::RescoreRequests, self.intake.in_flight());
        }
    }

    fn is_commit_due(&self) -> bool {
        self.state.committed.elapsed() >= self.kafka.commit_interval
    }

    fn commit(&mut self) {
        self.state.committed = Instant::now();
        let list = committable(&self.assignment.all(), RESEND_AFTER);
        if list.count() == 0 {
            return;
        }
        if let Err(e) = self.consumer.commit(&list, CommitMode::Async)
            && let Some(repeated) = UNCOMMITTED.due(&e.to_string())
        {
            warn!(error = %e, repeated, "commit failed; it is sent again");
        }
    }

    /// Tells each partition how far it was read. A transaction's control marker moves librdkafka's position and is no record: without this
    /// the group would stay before the marker for ever, and whoever asks would see a lag that nothing can end.
    fn pass(&self) {
        let positions = match self.consumer.position() {
            Ok(positions) => positions,
            Err(error) => return debug!(%error, "the positions are not known"),
        };
        for element in positions.elements() {
            let (topic, number) = (element.topic(), element.partition());
            // The position is behind a record that is held, and that one is not received yet.
            let is_held = |held: &Held| *held.record.topic == *topic && held.record.partition == number;
            if let Offset::Offset(position) = element.offset()
                && let Some(partition) = self.assignment.get(topic, number)
                && !self.state.held.iter().any(is_held)
            {
                partition.pass(position);
            }
        }
    }

    /// Reads nothing more and waits until everything under way is finished, at most until `deadline`; not at all after a halt.
    fn drain(&mut self, deadline: Instant) {
        let ours: Vec<_> = self.assignment.all().iter().map(|p| (Arc::clone(p.topic()), p.number())).collect();
        if let Err(e) = self.consumer.pause(&list_of(&ours)) {
            warn!(error = %e, "pausing failed");
        }
        self.state.held.clear();
        info!(records = self.assignment.open_records(), timeout = ?self.kafka.drain_timeout, "draining");
        // A stop soon after an assignment waits for the look at its partitions too: else all that was done would be done again.
        let assignment = Arc::clone(&self.assignment);
        let is_due = || assignment.open_records() > 0 || assignment.waits_for_a_look();
        while is_due() && Instant::now() < deadline && !self.vitals.halt.token().is_cancelled() {
            if self.is_commit_due() {
                // Nothing is passed here: what was held is dropped, and librdkafka's position is behind it.
                self.commit();
            }
            // Paused: only events come.
            drop(self.consumer.poll(POLL_MAX / 5));
        }
    }
}

fn list_of(partitions: &[(Arc<str>, i32)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, number) in partitions {
        list.add_partition(topic, *number);
    }
    list
}
