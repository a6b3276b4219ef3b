//! How full the queues are.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::metrics::{MetricSet, Registrar};
use crate::labels;

/// A queue that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// Records under way.
    Records,
    /// Requests of the topic of re-scoring under way.
    RescoreRequests,
    /// Changes that wait for the writer.
    Index,
    /// Pictures that wait for their tower.
    Image,
    /// Texts that wait for their tower.
    Text,
    /// Chunks of pairs that wait for the cross tower.
    Cross,
}

impl Queue {
    /// Every queue.
    pub const ALL: [Self; 6] = [Self::Records, Self::RescoreRequests, Self::Index, Self::Image, Self::Text, Self::Cross];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::RescoreRequests => "rescore_requests",
            Self::Index => "index",
            Self::Image => "image",
            Self::Text => "text",
            Self::Cross => "cross",
        }
    }
}

labels! {
    QueueLabel { queue: &'static str }
}

/// Of every queue.
pub struct QueueMetrics {
    depth: Family<QueueLabel, Gauge>,
}

impl MetricSet for QueueMetrics {
    fn register(r: &mut Registrar<'_>) -> Self {
        let metrics = Self { depth: r.add("queue_depth", "Items waiting in a queue") };
        for queue in Queue::ALL {
            metrics.set_depth(queue, 0);
        }
        metrics
    }
}

impl QueueMetrics {
    /// `queue` holds `items`.
    pub fn set_depth(&self, queue: Queue, items: usize) {
        self.depth.get_or_create(&QueueLabel { queue: queue.as_str() }).set(items as i64);
    }

    /// Items of `queue` as last looked at.
    pub fn depth(&self, queue: Queue) -> usize {
        self.depth.get_or_create(&QueueLabel { queue: queue.as_str() }).get().max(0) as usize
    }
}
