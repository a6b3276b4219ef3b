//! The message from source to pipeline, and the limits it passes on the way: `records_in_flight_max` and `bytes_in_flight_max`.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use super::partition::Partition;
use super::record::Record;
use super::span::RecordSpan;

/// Bytes are counted in these units, because a semaphore hands out at most `u32::MAX` permits at once.
const BYTES_UNIT: usize = 1024;

/// A record on its way, with its share of the limits. Dropping it makes room for another.
#[derive(Debug)]
pub struct Delivery {
    /// The record.
    pub record: Arc<Record>,
    /// Where it is acknowledged, and whose fence its writes pass.
    pub partition: Arc<Partition>,
    /// Its share of the limits, held until it is finished.
    pub admission: Admission,
    /// Its span, until it is finished.
    pub span: RecordSpan,
}

/// A record's share of the limits.
#[derive(Debug)]
pub struct Admission {
    _record: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// The way into the pipeline. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    records: Arc<Semaphore>,
    records_max: usize,
    bytes: Arc<Semaphore>,
    bytes_units_max: usize,
    queue: mpsc::Sender<Delivery>,
}

/// The pipeline is gone: nothing can be admitted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl Intake {
    /// The way in, and the pipeline's end of it.
    pub fn new(records_max: usize, bytes_max: usize) -> (Self, mpsc::Receiver<Delivery>) {
        // Whoever holds a share of `records_max` has a place in the queue, so sending never waits.
        let (queue, deliveries) = mpsc::channel(records_max);
        let bytes_units_max = bytes_max.div_ceil(BYTES_UNIT).clamp(1, u32::MAX as usize);
        let (records, bytes) = (Arc::new(Semaphore::new(records_max)), Arc::new(Semaphore::new(bytes_units_max)));
        (Self { records, records_max, bytes, bytes_units_max, queue }, deliveries)
    }

    /// Waits for the record's share of the limits.
    ///
    /// # Errors
    /// [`Closed`] once the pipeline is gone.
    pub async fn admit(&self, record: &Record) -> Result<Admission, Closed> {
        // A record over the whole limit takes all of it and goes alone.
        let units = record.bytes().div_ceil(BYTES_UNIT).clamp(1, self.bytes_units_max) as u32;
        let closed = |_| Closed;
        let one = Arc::clone(&self.records).acquire_owned().await.map_err(closed)?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(units).await.map_err(closed)?;
        Ok(Admission { _record: one, _bytes: bytes })
    }

    /// Sends an admitted record into the pipeline; from here on it is in the partition's window.
    ///
    /// # Errors
    /// [`Closed`] once the pipeline is gone.
    pub fn send(&self, record: Record, partition: Arc<Partition>, admission: Admission, span: RecordSpan) -> Result<(), Closed> {
        partition.receive(record.offset);
        partition.note(&record);
        self.queue.try_send(Delivery { record: Arc::new(record), partition, admission, span }).map_err(|_| Closed)
    }

    /// Bytes of the records under way now, in whole units.
    pub fn bytes_in_flight(&self) -> usize {
        (self.bytes_units_max - self.bytes.available_permits().min(self.bytes_units_max)) * BYTES_UNIT
    }

    /// Records under way now.
    pub fn in_flight(&self) -> usize {
        self.records_max - self.records.available_permits().min(self.records_max)
    }
}

/// Runs a task for each delivery; returns when every [`Intake`] is dropped and every task has ended.
pub async fn one_task_each<F>(mut deliveries: mpsc::Receiver<Delivery>, run: impl Fn(Delivery) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let tasks = TaskTracker::new();
    while let Some(delivery) = deliveries.recv().await {
        tasks.spawn(run(delivery));
    }
    tasks.close();
    tasks.wait().await;
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn record(bytes: usize) -> Record {
        Record {
            topic: "t".into(),
            partition: 0,
            offset: 0,
            timestamp_ms: None,
            key: None,
            value: Some(vec![0; bytes]),
            headers: Vec::new(),
        }
    }

    #[tokio::test]
    async fn records_and_bytes_each_have_a_limit_and_finished_records_make_room() {
        let (intake, _deliveries) = Intake::new(2, 10 * BYTES_UNIT);
        let first = intake.admit(&record(1)).await.unwrap();
        let second = intake.admit(&record(1)).await.unwrap();
        assert_eq!(intake.in_flight(), 2);
        assert!(intake.admit(&record(1)).now_or_never().is_none(), "a third record");
        drop((first, second));
        let large = intake.admit(&record(9 * BYTES_UNIT)).await.unwrap();
        assert!(intake.admit(&record(2 * BYTES_UNIT)).now_or_never().is_none(), "11 units of bytes");
        drop(large);
        assert!(intake.admit(&record(2 * BYTES_UNIT)).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_record_over_the_whole_limit_goes_alone() {
        let (intake, _deliveries) = Intake::new(4, 10 * BYTES_UNIT);
        let huge = intake.admit(&record(1000 * BYTES_UNIT)).await.unwrap();
        assert!(intake.admit(&record(1)).now_or_never().is_none());
        drop(huge);
        assert!(intake.admit(&record(1)).now_or_never().is_some());
    }
}
