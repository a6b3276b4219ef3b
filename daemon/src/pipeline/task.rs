//! The way of one record, from delivery to acknowledgement.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use astromech_schemas::dead_letter::Reason;
use astromech_schemas::record::TieBreaker;
use astromech_schemas::results::{Operation, Outcome, RecordPosition};
use astromech_schemas::{ImageSource, Item, RecordLimits, TraceContext, point_id};
use astromech_towers::{PreparedImage, PreparedText, Towers, TowersError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::{Instrument as _, Span, debug, warn};

use super::avro::{AvroCodec, decode_with};
use super::decode::{Decoded, TopicRules, VersionRule};
use super::enrich::Enricher;
use super::metrics::PipelineMetrics;
use super::outlet::Outlet;
use super::payload::payload;
use super::poison::PoisonBreaker;
use super::publish::{Left, Publisher};
use super::result::{of_change, operation, superseded};
use super::throttle::Throttle;
use super::write::{WriteReply, WriteRequest};
use crate::index::{Change, ChangeBody};
use crate::media::{ContentHash, Media, MediaError};
use crate::prepare::{FIELD_IMAGE_SHA256, Fault, Preparer};
use crate::rescore::StateCache;
use crate::source::{Delivery, FenceGuard, Partition, Record};
use crate::vitals::trace::stage_span;
use crate::vitals::{Awaited, HaltCause, Meter, Stage, Unanswered, Vitals, WarnLimiter};

/// A value up to here is decoded on the spot; a longer one, with a picture in base64, on a blocking thread.
const INLINE_DECODE_BYTES_MAX: usize = 32 * 1024;
/// Pictures that can't be fetched now, by host: every record under way tries again by itself.
static UNFETCHED: WarnLimiter = WarnLimiter::new();

/// What every record's task shares.
pub(super) struct TaskContext {
    pub(super) towers: Towers,
    pub(super) preparer: Preparer,
    pub(super) media: Arc<Media>,
    /// `media.in_flight_max`: held from the fetch until the picture is prepared.
    pub(super) media_places: Arc<Semaphore>,
    pub(super) writer: mpsc::Sender<WriteRequest>,
    pub(super) outlet: Arc<dyn Outlet>,
    pub(super) publisher: Publisher,
    pub(super) enricher: Enricher,
    pub(super) metrics: Meter<PipelineMetrics>,
    pub(super) vitals: Vitals,
    pub(super) poison: Option<PoisonBreaker>,
    pub(super) warm: Option<Arc<StateCache>>,
    pub(super) throttle: Option<Arc<Throttle>>,
    pub(super) rules: HashMap<Arc<str>, TopicRules>,
    pub(super) avro: Option<Arc<AvroCodec>>,
    pub(super) limits: RecordLimits,
}

/// Why a record did not become an embedded change.
pub(super) enum NotEmbedded {
    Fault(Fault),
    Left(Left),
}

impl From<Fault> for NotEmbedded {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Both vectors of an item, as far as it has them; the tokens' of a bundle of late interaction.
pub(super) struct Vectors {
    pub(super) text: Option<Vec<f32>>,
    pub(super) image: Option<(Vec<f32>, ContentHash)>,
}

/// What became of a change that was to be written and published.
pub(super) enum Applied {
    /// The index has taken it, and its result is acknowledged by the broker.
    Done(FenceGuard, Operation, Outcome),
    /// The engine refused it for what it contains.
    Refused(FenceGuard, String),
}

impl TaskContext {
    /// Runs one record to its end. The delivery's share of the limits is given back when this returns.
    pub(super) async fn run(self: Arc<Self>, delivery: Delivery) {
        let running = async {
            let ended = tokio::select! {
                biased;
                () = self.vitals.halt.token().cancelled() => Err(Left::Halted),
                ended = self.process(&delivery) => ended,
            };
            if let Err(left) = ended {
                debug!(?left, "left unfinished");
            }
        };
        running.instrument(delivery.span.span().clone()).await;
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
        let (source, context) = (Some(delivery.record.position()), delivery.span.context());
        match self.apply(change, &delivery.partition, source, context).await? {
            Applied::Refused(guard, detail) => self.bury(delivery, &guard, &Fault::new(Reason::RefusedByIndex, detail)).await,
            Applied::Done(guard, operation, outcome) => {
                self.acknowledge(delivery);
                drop(guard);
                self.metrics.record_taken(decoded.kind, operation, outcome);
                self.poison.iter().for_each(PoisonBreaker::applied);
                Ok(())
            }
        }
    }

    /// Writes a change and publishes its result, under the fence of `partition`; one without a source has no result.
    pub(super) async fn apply(
        &self,
        change: Change,
        partition: &Arc<Partition>,
        source: Option<RecordPosition>,
        context: Option<&TraceContext>,
    ) -> Result<Applied, Left> {
        let fence = partition.fence();
        let operation = operation(&change);
        let mut result = source.map(|source| of_change(&change, source));
        let kept = self.enricher.keep(&change);
        let (reply, answer) = oneshot::channel();
        let request = WriteRequest { change, partition: Arc::clone(partition), reply };
        let writing = async {
            self.writer.send(request).await.map_err(|_| Left::Halted)?;
            answer.await.map_err(|_| Left::Halted)
        };
        match writing.instrument(stage_span!("index")).await? {
            WriteReply::Fenced => Err(Left::Fenced),
            WriteReply::Refused(guard, detail) => Ok(Applied::Refused(guard, detail)),
            WriteReply::Taken(guard, outcome) => {
                if let Some(result) = &mut result {
                    if outcome == Outcome::Superseded {
                        superseded(result);
                    } else {
                        tokio::select! {
                            // What need not wait is published all the same: the guard keeps the partition until it is.
                            biased;
                            () = self.enricher.enrich(result, kept) => {}
                            () = fence.closed() => return Err(Left::Fenced),
                        }
                    }
                    let published = self.publisher.publish(fence, &guard, || self.outlet.result(result, context));
                    published.instrument(stage_span!("publish")).await?;
                }
                Ok(Applied::Done(guard, operation, outcome))
            }
        }
    }

    /// Decode, fetch, prepare, embed.
    async fn embed(&self, record: &Arc<Record>) -> Result<(Change, Decoded), NotEmbedded> {
        if let Some(throttle) = &self.throttle {
            throttle.turn().instrument(stage_span!("throttle")).await;
        }
        let mut decoded = self.staged(Stage::Decode, stage_span!("decode"), self.decode(record)).await?;
        let body = match decoded.item.take() {
            None => ChangeBody::Delete,
            Some(mut item) => {
                let mut payload = payload(&item, record);
                let (text, image) = (item.text(), item.take_image());
                if let Item::Video(video) = item {
                    self.video(text, video.frames, payload).await?
                } else {
                    drop(item);
                    let Vectors { text, image } = self.vectors(text, image).await?;
                    let image = image.map(|(vector, content)| {
                        payload.insert(FIELD_IMAGE_SHA256.to_owned(), content.to_hex().into());
                        vector
                    });
                    ChangeBody::Upsert { text, image, payload }
                }
            }
        };
        let change = Change {
            kind: decoded.kind,
            id: decoded.id.clone(),
            point_id: point_id(decoded.kind, &decoded.id),
            version: decoded.version,
            tie_breaker: Some(self.tie_breaker(record, decoded.offset)),
            fingerprint: self.towers.fingerprint().clone(),
            body,
        };
        Ok((change, decoded))
    }

    /// What decides between changes of one version. Files have one order of lines between them: the name of a copy must not count.
    fn tie_breaker(&self, record: &Record, offset: u64) -> TieBreaker {
        let is_line = self.rules.get(&record.topic).is_some_and(|rules| rules.version == VersionRule::FieldOrOffset);
        TieBreaker::new(if is_line { "" } else { &record.topic }, record.partition, offset)
    }

    async fn decode(&self, record: &Arc<Record>) -> Result<Decoded, NotEmbedded> {
        // Only configured topics are subscribed to.
        let Some(rules) = self.rules.get(&record.topic).copied() else {
            return Err(NotEmbedded::Left(Left::Halted));
        };
        let schema = self.writer_schema(record).await?;
        let limits = self.limits;
        if record.bytes() <= INLINE_DECODE_BYTES_MAX {
            return Ok(decode_with(schema.as_deref(), record, rules, &limits)?);
        }
        let record = Arc::clone(record);
        let decoded = tokio::task::spawn_blocking(move || decode_with(schema.as_deref(), &record, rules, &limits)).await;
        let failed = |_| Fault::new(Reason::InvalidRecord, ".: the decoder failed on this record");
        Ok(decoded.map_err(failed)??)
    }

    /// Both towers at once.
    pub(super) async fn vectors(&self, text: Option<String>, image: Option<ImageSource>) -> Result<Vectors, NotEmbedded> {
        let image = async {
            let Some(source) = image else { return Ok(None) };
            let (prepared, content) = self.picture(source).await?;
            let vector = self.image_vector(prepared, content).await?;
            Ok(Some((vector, content)))
        };
        let (text, image) = tokio::try_join!(self.text(text), image)?;
        Ok(Vectors { text, image })
    }

    pub(super) async fn text(&self, text: Option<String>) -> Result<Option<Vec<f32>>, NotEmbedded> {
        let Some(text) = text else { return Ok(None) };
        let preparing = self.preparer.text(text);
        let prepared = self.staged(Stage::Prepare, stage_span!("prepare", side = "text"), preparing).await?;
        self.text_vector(prepared).await.map(Some)
    }

    async fn text_vector(&self, prepared: PreparedText) -> Result<Vec<f32>, NotEmbedded> {
        let span = stage_span!("embed", side = "text");
        let Some(cache) = &self.warm else {
            return Ok(self.embedded(span, self.towers.embed_text(prepared)).await?.vectors().to_vec());
        };
        let key = cache.text_key(prepared.ids());
        let encoded = self.embedded(span, self.towers.embed_text_states(prepared)).await?;
        cache.put(key, &encoded);
        Ok(encoded.vectors().to_vec())
    }

    pub(super) async fn image_vector(&self, prepared: PreparedImage, content: ContentHash) -> Result<Vec<f32>, NotEmbedded> {
        let span = stage_span!("embed", side = "image");
        let Some(cache) = &self.warm else {
            return Ok(self.embedded(span, self.towers.embed_image(prepared)).await?.vectors().to_vec());
        };
        let encoded = self.embedded(span, self.towers.embed_image_states(prepared)).await?;
        cache.put(cache.image_key(&content), &encoded);
        Ok(encoded.vectors().to_vec())
    }

    async fn embedded<T>(&self, span: Span, tower: impl Future<Output = Result<T, TowersError>>) -> Result<T, NotEmbedded> {
        self.staged(Stage::Embed, span, tower).await.map_err(|e| {
            // Bad input was refused when it was prepared: what fails here is the runtime.
            self.vitals.halt.halt(HaltCause::Towers(e.to_string()));
            NotEmbedded::Left(Left::Halted)
        })
    }

    pub(super) async fn picture(&self, source: ImageSource) -> Result<(PreparedImage, ContentHash), NotEmbedded> {
        let (bytes, place) = match source {
            ImageSource { bytes: Some(bytes), .. } => (bytes.0, None),
            source => {
                let (bytes, place) = self.fetch(source).await?;
                (bytes, Some(place))
            }
        };
        let preparing = self.preparer.picture(bytes);
        let prepared = self.staged(Stage::Prepare, stage_span!("prepare", side = "image"), preparing).await;
        drop(place);
        Ok(prepared?)
    }

    /// Fetches a picture, as often as it takes (promise 5). Returns its place among the fetched pictures too.
    async fn fetch(&self, source: ImageSource) -> Result<(Vec<u8>, OwnedSemaphorePermit), NotEmbedded> {
        let warn = |error: &MediaError, wait: Duration| {
            if error.pause().is_some() {
                debug!(%error, ?wait, "the picture waits for its host");
            } else if let Some(repeated) = UNFETCHED.due(&host_of(&source)) {
                warn!(%error, ?wait, repeated, "the picture can't be fetched now; trying again");
            }
        };
        let host = Awaited::new(MediaError::is_transient, &warn).paused(MediaError::pause).counted(Stage::Media);
        // It waits without a place: a host that is down must not keep others from being fetched.
        match self.vitals.until_it_answers(host, pending::<Infallible>(), || self.fetch_once(&source)).await {
            Ok(fetched) => fetched,
            Err(Unanswered::Failed(error)) => Err(match error.reason() {
                Some(reason) => Fault::new(reason, format!("image.url: {error}")).into(),
                // Not reached: what has no reason is waited for. Whatever it were, it buries no record.
                None => NotEmbedded::Left(Left::Halted),
            }),
        }
    }

    /// One attempt. The turn at its host comes first: who waits there must not hold a place that another host's picture could use.
    async fn fetch_once(&self, source: &ImageSource) -> Result<Result<(Vec<u8>, OwnedSemaphorePermit), NotEmbedded>, MediaError> {
        let turn = self.media.turn(source.clone()).await?;
        let Ok(place) = Arc::clone(&self.media_places).acquire_owned().await else {
            return Ok(Err(NotEmbedded::Left(Left::Halted)));
        };
        let bytes = self.staged(Stage::Media, stage_span!("media"), self.media.fetch_in(turn)).await?;
        Ok(Ok((bytes, place)))
    }

    /// Into the dead letters, then acknowledged; unless most of the last records went there.
    async fn bury(&self, delivery: &Delivery, guard: &FenceGuard, fault: &Fault) -> Result<(), Left> {
        let record = &delivery.record;
        if let Some(poison) = &self.poison
            && let Some(dead) = poison.dead()
        {
            let cause =
                HaltCause::Poison { dead, window: poison.window(), reason: fault.reason.as_str(), detail: fault.detail.clone() };
            self.vitals.halt.halt(cause);
            return Err(Left::Halted);
        }
        let published = self.publisher.publish(delivery.partition.fence(), guard, || self.outlet.dead_letter(record, fault));
        published.instrument(stage_span!("dead_letter")).await?;
        self.acknowledge(delivery);
        self.metrics.dead_letter(fault.reason);
        Ok(())
    }

    /// The record is finished: its offset may be committed.
    fn acknowledge(&self, delivery: &Delivery) {
        let _span = stage_span!("acknowledge").entered();
        if let Some(time) = delivery.partition.acknowledge(delivery.record.offset) {
            self.metrics.record_time(time);
        }
    }

    /// Times `work` as `stage`, in its span.
    async fn staged<T>(&self, stage: Stage, span: Span, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let done = work.instrument(span).await;
        self.vitals.stages.took(stage, started.elapsed());
        done
    }
}

/// Host of a picture's address; empty where it has none.
fn host_of(source: &ImageSource) -> String {
    let url = source.url.as_deref().and_then(|url| url::Url::parse(url).ok());
    url.and_then(|url| url.host_str().map(ToOwned::to_owned)).unwrap_or_default()
}
