//! Items out of another generation's points instead of a topic: embedded, written and published as records are, and never buried.

use std::sync::Arc;

use astromech_schemas::dead_letter::Reason;
use astromech_schemas::record::TieBreaker;
use astromech_schemas::results::RecordPosition;
use astromech_schemas::{ImageSource, Kind, point_id};
use serde_json::{Map, Value};

use super::publish::Left;
use super::task::{Applied, NotEmbedded, TaskContext, Vectors};
use crate::index::{Change, ChangeBody};
use crate::prepare::{FIELD_IMAGE_SHA256, Fault};
use crate::source::Partition;

/// One stored item or tombstone.
#[derive(Debug, Clone, PartialEq)]
pub struct Refill {
    /// Kind of the item.
    pub kind: Kind,
    /// Id of the item.
    pub id: String,
    /// Source version.
    pub version: u64,
    /// Decides between changes of one version, as stored.
    pub tie_breaker: Option<TieBreaker>,
    /// Where the record lay that it came from; without it no result is published, as for a tombstone.
    pub source: Option<RecordPosition>,
    /// What to write.
    pub body: RefillBody,
}

/// What to write of a stored point.
#[derive(Debug, Clone, PartialEq)]
pub enum RefillBody {
    /// A tombstone.
    Delete,
    /// An item.
    Upsert {
        /// The text that it is embedded by.
        text: Option<String>,
        /// Address of its picture.
        image: Option<String>,
        /// As stored.
        payload: Map<String, Value>,
    },
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refilled {
    /// The index holds it, or a newer version.
    Whole,
    /// The index holds it without its picture.
    WithoutPicture(Fault),
    /// It has nothing left to embed.
    LeftOut(Fault),
}

/// The way into a pipeline for what is not a record. The pipeline ends only once this is dropped.
#[derive(Clone)]
pub struct Refiller(pub(super) Arc<TaskContext>);

impl Refiller {
    /// Embeds, writes and publishes one item, under the fence of `partition`, at the pace of the pipeline's throttle.
    ///
    /// # Errors
    /// The fence was closed, or the pipeline is stopping.
    pub async fn write(&self, item: Refill, partition: &Arc<Partition>) -> Result<Refilled, Left> {
        tokio::select! {
            biased;
            () = self.0.vitals.halt.token().cancelled() => Err(Left::Halted),
            written = self.process(item, partition) => written,
        }
    }

    async fn process(&self, item: Refill, partition: &Arc<Partition>) -> Result<Refilled, Left> {
        let Refill { kind, id, version, tie_breaker, source, body } = item;
        let embedded = tokio::select! {
            biased;
            () = partition.fence().closed() => return Err(Left::Fenced),
            embedded = self.embed(body) => embedded?,
        };
        let (body, lost) = match embedded {
            Ok(embedded) => embedded,
            Err(fault) => return Ok(Refilled::LeftOut(fault)),
        };
        let point_id = point_id(kind, &id);
        let fingerprint = self.0.towers.fingerprint().clone();
        let change = Change { kind, id, point_id, version, tie_breaker, fingerprint, body };
        match self.0.apply(change, partition, source, None).await? {
            Applied::Refused(_, detail) => Ok(Refilled::LeftOut(Fault::new(Reason::RefusedByIndex, detail))),
            Applied::Done(_, operation, outcome) => {
                self.0.metrics.record_taken(kind, operation, outcome);
                Ok(lost.map_or(Refilled::Whole, Refilled::WithoutPicture))
            }
        }
    }

    /// The body with its vectors, and why it has no picture where it lost it; or why nothing is left.
    async fn embed(&self, body: RefillBody) -> Result<Result<(ChangeBody, Option<Fault>), Fault>, Left> {
        if let Some(throttle) = &self.0.throttle {
            throttle.turn().await;
        }
        let (text, image, mut payload) = match body {
            RefillBody::Delete => return Ok(Ok((ChangeBody::Delete, None))),
            RefillBody::Upsert { text, image, payload } => (text, image, payload),
        };
        payload.remove(FIELD_IMAGE_SHA256);
        let has_text = text.is_some();
        let pictured = async {
            match self.0.vectors(None, image.map(ImageSource::from_url)).await {
                // Its text is still something.
                Err(NotEmbedded::Fault(fault)) if has_text => Ok((Vectors { text: None, image: None }, Some(fault))),
                other => other.map(|vectors| (vectors, None)),
            }
        };
        match tokio::try_join!(self.0.vectors(text, None), pictured) {
            Ok((texts, (pictures, lost))) => {
                let image = pictures.image.map(|(vector, content)| {
                    payload.insert(FIELD_IMAGE_SHA256.to_owned(), content.to_hex().into());
                    vector
                });
                Ok(Ok((ChangeBody::Upsert { text: texts.text, image, payload }, lost)))
            }
            Err(NotEmbedded::Fault(fault)) => Ok(Err(fault)),
            Err(NotEmbedded::Left(left)) => Err(left),
        }
    }
}
