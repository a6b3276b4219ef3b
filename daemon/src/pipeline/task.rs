//! The way of one record, from delivery to acknowledgement.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use astromech_schemas::dead_letter::Reason;
use astromech_schemas::results::{Operation, RESULT_SCHEMA, ResultMessage};
use astromech_schemas::{ImageSource, RecordLimits, point_id};
use astromech_towers::{PreparedImage, PreparedText, Towers, TowersError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::{debug, warn};

use super::backoff::{Backoff, BackoffLimits};
use super::decode::{Decoded, TopicRules, decode};
use super::enrich::Enricher;
use super::fault::Fault;
use super::halt::{Halt, HaltCause};
use super::outlet::Outlet;
use super::payload::{FIELD_IMAGE_SHA256, payload};
use super::poison::PoisonBreaker;
use super::prepare::Preparer;
use super::publish::{Left, Publisher};
use super::write::{WriteReply, WriteRequest};
use crate::generation::{Throttle, collection_name};
use crate::index::{Change, ChangeBody, VECTOR_IMAGE, VECTOR_TEXT};
use crate::media::{ContentHash, Media};
use crate::rescore::StateCache;
use crate::source::{Delivery, FenceGuard, Record};
use crate::telemetry::{Metrics, Stage, trace};

/// A value up to here is decoded on the spot; a longer one, with a picture in base64, on a blocking thread.
const INLINE_DECODE_BYTES_MAX: usize = 32 * 1024;

/// What every record's task shares.
pub(super) struct Shared {
    pub(super) towers: Towers,
    pub(super) preparer: Preparer,
    pub(super) media: Arc<Media>,
    /// `media.in_flight_max`: held from the fetch until the picture is prepared.
    pub(super) media_places: Arc<Semaphore>,
    pub(super) writer: mpsc::Sender<WriteRequest>,
    pub(super) outlet: Arc<dyn Outlet>,
    pub(super) publisher: Publisher,
    pub(super) enricher: Enricher,
    pub(super) metrics: Arc<Metrics>,
    pub(super) poison: Option<PoisonBreaker>,
    pub(super) warm: Option<Arc<StateCache>>,
    pub(super) throttle: Option<Arc<Throttle>>,
    pub(super) halt: Halt,
    pub(super) rules: HashMap<Arc<str>, TopicRules>,
    pub(super) limits: RecordLimits,
    pub(super) backoff: BackoffLimits,
}

/// Why a record did not become an embedded change.
enum NotEmbedded {
    Fault(Fault),
    Left(Left),
}

impl From<Fault> for NotEmbedded {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Both vectors of an item, as far as it has them; the tokens' of a bundle of late interaction.
struct Vectors {
    text: Option<Vec<f32>>,
    image: Option<(Vec<f32>, ContentHash)>,
}

impl Shared {
    /// Runs one record to its end. The delivery's share of the limits is given back when this returns.
    pub(super) async fn run(self: Arc<Self>, delivery: Delivery) {
        let ended = tokio::select! {
            biased;
            () = self.halt.token().cancelled() => Err(Left::Halted),
            ended = self.process(&delivery) => ended,
        };
        if let Err(left) = ended {
            let record = &delivery.record;
            debug!(topic = &*record.topic, partition = record.partition, offset = record.offset, ?left, "left unfinished");
        }
    }

    async fn process(&self, delivery: &Delivery) -> Result<(), Left> {
        let fence = delivery.partition.fence();
        // Until the write begins, nothing of this record is outside: when the partition goes, simply stop.
        let embedded = tokio::select! {
            biased;
            () = fence.closed() => return Err(Left::Fenced),
            embedded = self.embed(&delivery.record) => embedded,
        };
        let (change, decoded) = match embedded {
            Ok(embedded) => embedded,
            Err(NotEmbedded::Left(left)) => return Err(left),
            Err(NotEmbedded::Fault(fault)) => {
                let guard = fence.enter().ok_or(Left::Fenced)?;
                return self.bury(delivery, &guard, &fault).await;
            }
        };
        let mut result = result(&change, &delivery.record);
        let kept = self.enricher.keep(&change);
        let (reply, answer) = oneshot::channel();
        let request = WriteRequest { change, partition: Arc::clone(&delivery.partition), reply };
        self.writer.send(request).await.map_err(|_| Left::Halted)?;
        match answer.await.map_err(|_| Left::Halted)? {
            WriteReply::Fenced => Err(Left::Fenced),
            WriteReply::Refused(guard, detail) => self.bury(delivery, &guard, &Fault::new(Reason::RefusedByIndex, detail)).await,
            WriteReply::Applied(guard) => {
                tokio::select! {
                    // What need not wait is published all the same: the guard keeps the partition until it is.
                    biased;
                    () = self.enricher.enrich(&mut result, kept) => {}
                    () = fence.closed() => return Err(Left::Fenced),
                }
                let context = trace::enter_record(&delivery.record);
                self.publisher.publish(fence, &guard, || self.outlet.result(&result, context.as_ref())).await?;
                delivery.partition.acknowledge(delivery.record.offset);
                self.metrics.record_applied(decoded.kind, result.operation);
                self.poison.iter().for_each(PoisonBreaker::applied);
                Ok(())
            }
        }
    }

    /// Decode, fetch, prepare, embed.
    async fn embed(&self, record: &Arc<Record>) -> Result<(Change, Decoded), NotEmbedded> {
        if let Some(throttle) = &self.throttle {
            throttle.turn().await;
        }
        let mut decoded = self.decode(record).await?;
        let body = match decoded.item.take() {
            None => ChangeBody::Delete,
            Some(mut item) => {
                let mut payload = payload(&item, record);
                let (text, image) = (item.text(), item.take_image());
                drop(item);
                let Vectors { text, image } = self.vectors(text, image).await?;
                let image = image.map(|(vector, content)| {
                    payload.insert(FIELD_IMAGE_SHA256.to_owned(), content.to_hex().into());
                    vector
                });
                ChangeBody::Upsert { text, image, payload }
            }
        };
        let change = Change {
            kind: decoded.kind,
            id: decoded.id.clone(),
            point_id: point_id(decoded.kind, &decoded.id),
            version: decoded.version,
            fingerprint: self.towers.fingerprint().clone(),
            body,
        };
        Ok((change, decoded))
    }

    async fn decode(&self, record: &Arc<Record>) -> Result<Decoded, NotEmbedded> {
        // Only configured topics are subscribed to.
        let Some(rules) = self.rules.get(&record.topic).copied() else {
            return Err(NotEmbedded::Left(Left::Halted));
        };
        let limits = self.limits;
        if record.bytes() <= INLINE_DECODE_BYTES_MAX {
            return Ok(decode(record, rules, &limits)?);
        }
        let record = Arc::clone(record);
        let decoded = tokio::task::spawn_blocking(move || decode(&record, rules, &limits)).await;
        let failed = |_| Fault::new(Reason::InvalidRecord, ".: the decoder failed on this record");
        Ok(decoded.map_err(failed)??)
    }

    /// Both towers at once.
    async fn vectors(&self, text: Option<String>, image: Option<ImageSource>) -> Result<Vectors, NotEmbedded> {
        let text = async {
            let Some(text) = text else { return Ok(None) };
            let prepared = self.preparer.text(text).await?;
            self.text_vector(prepared).await.map(Some)
        };
        let image = async {
            let Some(source) = image else { return Ok(None) };
            let (prepared, content) = self.picture(source).await?;
            let vector = self.image_vector(prepared, content).await?;
            Ok(Some((vector, content)))
        };
        let (text, image) = tokio::try_join!(text, image)?;
        Ok(Vectors { text, image })
    }

    async fn text_vector(&self, prepared: PreparedText) -> Result<Vec<f32>, NotEmbedded> {
        let Some(cache) = &self.warm else {
            return Ok(self.embedded(self.towers.embed_text(prepared)).await?.vectors().to_vec());
        };
        let key = cache.text_key(prepared.ids());
        let encoded = self.embedded(self.towers.embed_text_states(prepared)).await?;
        cache.put(key, &encoded);
        Ok(encoded.vectors().to_vec())
    }

    async fn image_vector(&self, prepared: PreparedImage, content: ContentHash) -> Result<Vec<f32>, NotEmbedded> {
        let Some(cache) = &self.warm else {
            return Ok(self.embedded(self.towers.embed_image(prepared)).await?.vectors().to_vec());
        };
        let encoded = self.embedded(self.towers.embed_image_states(prepared)).await?;
        cache.put(cache.image_key(&content), &encoded);
        Ok(encoded.vectors().to_vec())
    }

    async fn embedded<T>(&self, tower: impl Future<Output = Result<T, TowersError>>) -> Result<T, NotEmbedded> {
        let started = Instant::now();
        let embedded = tower.await;
        self.metrics.stage_time(Stage::Embed, started.elapsed());
        embedded.map_err(|e| {
            // Bad input was refused when it was prepared: what fails here is the runtime.
            self.halt.halt(HaltCause::Towers(e.to_string()));
            NotEmbedded::Left(Left::Halted)
        })
    }

    async fn picture(&self, source: ImageSource) -> Result<(PreparedImage, ContentHash), NotEmbedded> {
        let (bytes, place) = match source {
            ImageSource { bytes: Some(bytes), .. } => (bytes.0, None),
            source => {
                let (bytes, place) = self.fetch(source).await?;
                (bytes, Some(place))
            }
        };
        let started = Instant::now();
        let prepared = self.preparer.picture(bytes).await;
        self.metrics.stage_time(Stage::Prepare, started.elapsed());
        drop(place);
        Ok(prepared?)
    }

    /// Fetches a picture, as often as it takes (promise 5). Returns its place among the fetched pictures too.
    async fn fetch(&self, source: ImageSource) -> Result<(Vec<u8>, OwnedSemaphorePermit), NotEmbedded> {
        let mut backoff = Backoff::new(self.backoff);
        loop {
            let place = Arc::clone(&self.media_places).acquire_owned().await;
            let place = place.map_err(|_| NotEmbedded::Left(Left::Halted))?;
            let started = Instant::now();
            let fetched = self.media.fetch(source.clone()).await;
            self.metrics.stage_time(Stage::Media, started.elapsed());
            let error = match fetched {
                Ok(bytes) => return Ok((bytes, place)),
                Err(error) => error,
            };
            if let Some(reason) = error.reason() {
                return Err(Fault::new(reason, format!("image.url: {error}")).into());
            }
            // Waiting without the place: a host that is down must not keep others from being fetched.
            drop(place);
            let wait = backoff.next_wait();
            self.metrics.retry(Stage::Media);
            warn!(%error, ?wait, "the picture can't be fetched now; trying again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Into the dead letters, then acknowledged; unless most of the last records went there.
    async fn bury(&self, delivery: &Delivery, guard: &FenceGuard, fault: &Fault) -> Result<(), Left> {
        let record = &delivery.record;
        if let Some(poison) = &self.poison
            && let Some(dead) = poison.dead()
        {
            let cause =
                HaltCause::Poison { dead, window: poison.window(), reason: fault.reason.as_str(), detail: fault.detail.clone() };
            self.halt.halt(cause);
            return Err(Left::Halted);
        }
        self.publisher.publish(delivery.partition.fence(), guard, || self.outlet.dead_letter(record, fault)).await?;
        delivery.partition.acknowledge(record.offset);
        self.metrics.dead_letter(fault.reason);
        Ok(())
    }
}

/// The result of `change`, once it is applied.
fn result(change: &Change, record: &Record) -> ResultMessage {
    let (operation, vectors) = match &change.body {
        ChangeBody::Delete => (Operation::Delete, Vec::new()),
        ChangeBody::Upsert { text, image, .. } => {
            let names = [(VECTOR_TEXT, text.is_some()), (VECTOR_IMAGE, image.is_some())];
            (Operation::Upsert, names.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect())
        }
    };
    ResultMessage {
        schema: RESULT_SCHEMA,
        kind: change.kind,
        id: change.id.clone(),
        version: change.version,
        operation,
        point_id: change.point_id.to_string(),
        collection: collection_name(change.kind, &change.fingerprint),
        fingerprint: change.fingerprint.clone(),
        vectors,
        embeddings: BTreeMap::new(),
        neighbours: BTreeMap::new(),
        source: record.position(),
    }
}
