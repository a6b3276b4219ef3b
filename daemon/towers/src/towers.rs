//! The cheap handle that everybody holds.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use astromech_schemas::manifest::Precision;
use astromech_schemas::{Fingerprint, Manifest};

use crate::batch::{Queue, Reports, Runner, SMALL_BATCH_LENGTH};
use crate::golden::{Golden, Setting};
use crate::graph::{
    CrossGraph, CrossRequest, GraphOptions, ImageGraph, ImageOutput, TextGraph, TextOutput, check_provider, provider_name,
};
use crate::pairs::{check_states, chunk_pairs, merge};
use crate::urgency::Urgency;
use crate::{
    BatchObserver, Bundle, Embedded, EmbeddedStates, ImageError, ImageLimits, ImageStates, MatchScore, PreparedImage,
    PreparedText, Priority, QueueDepths, TextStates, Tokenizer, Tower, TowerCounters, TowersConfig, TowersError,
    decode_and_squash,
};

/// Handle to the running towers. Clones share the same queues. When the last clone is dropped, the workers end after the batch they
/// are in, and the drop waits for that.
///
/// A handle carries how urgent its calls are: [`Priority::Indexing`] without a deadline, until [`Towers::live`] or [`Towers::until`]
/// give another.
#[derive(Clone)]
pub struct Towers {
    shared: Arc<Shared>,
    urgency: Urgency,
}

struct Shared {
    manifest: Manifest,
    tokenizer: Tokenizer,
    setting: Setting,
    image_limits: ImageLimits,
    pairs_max: usize,
    counters: Arc<TowerCounters>,
    observer: Arc<OnceLock<Arc<dyn BatchObserver>>>,
    image: Queue<ImageRunner>,
    text: Queue<TextRunner>,
    cross: Option<Queue<CrossRunner>>,
}

impl std::fmt::Debug for Towers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Towers")
            .field("fingerprint", self.fingerprint())
            .field("setting", &self.shared.setting)
            .field("urgency", &self.urgency)
            .finish_non_exhaustive()
    }
}

impl Towers {
    /// Loads the bundle's graphs, replays its golden vectors and starts the workers. Blocking: seconds for a large model.
    ///
    /// # Errors
    /// The runtime or a graph can't be loaded, the provider asked for is absent, or a golden vector is beyond its tolerance.
    pub fn start(bundle: &Bundle, config: &TowersConfig) -> Result<Self, TowersError> {
        check_provider(config.provider)?;
        let options = GraphOptions::new(bundle, config)?;
        let setting = Setting { provider: provider_name(config.provider), precision: options.precision };
        let tokenizer = bundle.tokenizer()?;
        let golden = Golden::read(bundle)?;
        let mut graphs = Graphs::open(bundle, options, config)?;
        graphs.replay(&golden, &setting)?;
        let counters = Arc::<TowerCounters>::default();
        let observer = Arc::default();
        let reports = |tower| Reports { tower, counters: Arc::clone(&counters), observer: Arc::clone(&observer) };
        let image = graphs.image.into_iter().map(ImageRunner).collect();
        let text = graphs.text.into_iter().map(TextRunner).collect();
        let cross: Vec<_> = graphs.cross.into_iter().map(CrossRunner).collect();
        let pairs_max = config.cross.batch_max;
        let start_cross = || Queue::start(cross, config.cross, reports(Tower::Cross));
        let shared = Shared {
            manifest: bundle.manifest.clone(),
            tokenizer,
            setting,
            image_limits: config.image_limits,
            pairs_max,
            image: Queue::start(image, config.image, reports(Tower::Image))?,
            text: Queue::start(text, config.text, reports(Tower::Text))?,
            cross: config.load_cross.then(start_cross).transpose()?,
            counters,
            observer,
        };
        tracing::info!(
            provider = shared.setting.provider,
            precision = shared.setting.precision.as_str(),
            threads = options.threads,
            workers = config.workers.max(1),
            fingerprint = %shared.manifest.fingerprint,
            "the towers are up; the golden vectors came out again"
        );
        Ok(Self { shared: Arc::new(shared), urgency: Urgency::default() })
    }

    /// A handle whose calls go before indexing and have room in the queues of their own: for callers that somebody waits for. Cheap.
    #[must_use]
    pub fn live(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), urgency: Urgency { priority: Priority::Live, ..self.urgency } }
    }

    /// A handle whose calls end at `deadline`, or at this handle's where it is earlier: with [`TowersError::Deadline`], whether they
    /// wait for room, in the queue or for a batch that runs. What has not begun then is dropped before it costs anything. Cheap. The
    /// calls need a Tokio runtime with its timer.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Self {
        Self { shared: Arc::clone(&self.shared), urgency: self.urgency.until(deadline) }
    }

    /// Whether the calls of this handle go before indexing.
    pub fn priority(&self) -> Priority {
        self.urgency.priority
    }

    /// The bundle's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.shared.manifest
    }

    /// Name of the bundle's vector space.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.manifest().fingerprint
    }

    /// Precision of the graphs in use.
    pub fn precision(&self) -> Precision {
        self.shared.setting.precision
    }

    /// Provider in use: `cpu` or `cuda:0`.
    pub fn provider_in_use(&self) -> &str {
        &self.shared.setting.provider
    }

    /// The bundle's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.shared.tokenizer
    }

    /// Decodes and squashes a picture. CPU-bound (milliseconds): call it on a blocking thread.
    ///
    /// # Errors
    /// The bytes are no picture that is read, or beyond a limit.
    pub fn prepare_image(&self, bytes: &[u8]) -> Result<PreparedImage, ImageError> {
        decode_and_squash(bytes, self.manifest().image.size, &self.shared.image_limits)
    }

    /// Tokenises a text; one that is longer than the model takes is cut. Well under a millisecond.
    pub fn prepare_text(&self, text: &str) -> PreparedText {
        self.shared.tokenizer.prepare(text)
    }

    /// Embeds a picture; waits for room in the queue. Dropping the future takes the picture out of the queue.
    ///
    /// # Errors
    /// The picture has another size than the model's, its batch failed, the deadline passed, or the tower has stopped.
    pub async fn embed_image(&self, image: PreparedImage) -> Result<Embedded, TowersError> {
        let ImageOutput { embedding, tokens, .. } = self.image(image, false).await?;
        Ok(Embedded { embedding, tokens })
    }

    /// Embeds a text; waits for room in the queue. Dropping the future takes the text out of the queue.
    ///
    /// # Errors
    /// Its batch failed, the deadline passed, or the tower has stopped.
    pub async fn embed_text(&self, text: PreparedText) -> Result<Embedded, TowersError> {
        let TextOutput { embedding, tokens, .. } = self.text(text, false).await?;
        Ok(Embedded { embedding, tokens })
    }

    /// As [`Towers::embed_image`], with the states for [`Towers::match_pairs`].
    ///
    /// # Errors
    /// As [`Towers::embed_image`].
    pub async fn embed_image_states(&self, image: PreparedImage) -> Result<EmbeddedStates<ImageStates>, TowersError> {
        let ImageOutput { embedding, tokens, states } = self.image(image, true).await?;
        let states = states.ok_or_else(|| TowersError::graph("image", "no states"))?;
        Ok(EmbeddedStates { embedding, tokens, states })
    }

    /// As [`Towers::embed_text`], with the states for [`Towers::match_pairs`].
    ///
    /// # Errors
    /// As [`Towers::embed_text`].
    pub async fn embed_text_states(&self, text: PreparedText) -> Result<EmbeddedStates<TextStates>, TowersError> {
        let TextOutput { embedding, tokens, states } = self.text(text, true).await?;
        let states = states.ok_or_else(|| TowersError::graph("text", "no states"))?;
        Ok(EmbeddedStates { embedding, tokens, states })
    }

    async fn image(&self, image: PreparedImage, with_states: bool) -> Result<ImageOutput, TowersError> {
        let size = self.manifest().image.size;
        if image.size() != size {
            let problem = format!("a picture of {} pixels a side; the model takes {size}", image.size());
            return Err(TowersError::Invalid { field: "image", problem });
        }
        self.shared.image.call(ImageJob { image, with_states }, self.urgency).await
    }

    async fn text(&self, text: PreparedText, with_states: bool) -> Result<TextOutput, TowersError> {
        self.shared.text.call(TextJob { text, with_states }, self.urgency).await
    }

    /// Match scores of `pairs` of (index into `images`, index into `texts`), in their order. Pairs are run in chunks of at most the
    /// cross tower's `batch_max`, grouped by picture, whose keys and values cost most; small chunks run together with those of other
    /// callers. States that are one allocation are handed to the graph once a batch. Dropping the future, or the deadline, takes the
    /// chunks that have not begun out of the queue.
    ///
    /// # Errors
    /// An index is out of range, states are not of this model, the cross tower is not loaded, a batch failed, the deadline passed or
    /// the tower stopped.
    pub async fn match_pairs(
        &self,
        images: Vec<Arc<ImageStates>>,
        texts: Vec<Arc<TextStates>>,
        pairs: Vec<(u32, u32)>,
    ) -> Result<Vec<MatchScore>, TowersError> {
        let cross = self.shared.cross.as_ref().ok_or(TowersError::CrossNotLoaded)?;
        check_states(self.manifest(), &images, &texts)?;
        let chunks = chunk_pairs(&images, &texts, &pairs, self.shared.pairs_max)?;
        let mut answers = Vec::with_capacity(chunks.len());
        for (places, request) in chunks {
            answers.push((places, cross.submit(request, self.urgency).await?));
        }
        let mut scores = vec![MatchScore { itm_text: 0.0, itm_image: 0.0 }; pairs.len()];
        for (places, answer) in answers {
            for (place, score) in places.into_iter().zip(cross.result(answer).await?) {
                scores[place] = score;
            }
        }
        Ok(scores)
    }

    /// Entries waiting for each tower.
    pub fn queue_depths(&self) -> QueueDepths {
        let Shared { image, text, cross, .. } = &*self.shared;
        QueueDepths { image: image.depth(), text: text.depth(), cross: cross.as_ref().map_or(0, Queue::depth) }
    }

    /// Counters since start.
    pub fn counters(&self) -> &TowerCounters {
        &self.shared.counters
    }

    /// Tells `observer` of every batch from now on; the first call wins.
    pub fn observe(&self, observer: Arc<dyn BatchObserver>) {
        if self.shared.observer.set(observer).is_err() {
            tracing::warn!("the towers have an observer already; the later one hears nothing");
        }
    }
}

/// The graphs of every worker.
struct Graphs {
    image: Vec<ImageGraph>,
    text: Vec<TextGraph>,
    cross: Vec<CrossGraph>,
}

impl Graphs {
    /// Opens all graphs, the three towers at once.
    fn open(bundle: &Bundle, options: GraphOptions, config: &TowersConfig) -> Result<Self, TowersError> {
        let workers = config.workers.max(1);
        let crosses = if config.load_cross { workers } else { 0 };
        std::thread::scope(|scope| {
            let text = scope.spawn(|| (0..workers).map(|_| TextGraph::open(bundle, options)).collect::<Result<_, TowersError>>());
            let cross =
                scope.spawn(|| (0..crosses).map(|_| CrossGraph::open(bundle, options)).collect::<Result<_, TowersError>>());
            let image = (0..workers).map(|_| ImageGraph::open(bundle, options)).collect::<Result<_, _>>()?;
            let panicked = |tower| TowersError::graph(tower, "loading it panicked");
            let text = text.join().map_err(|_| panicked("text"))??;
            let cross = cross.join().map_err(|_| panicked("cross"))??;
            Ok(Self { image, text, cross })
        })
    }

    /// Replays on the first worker's graphs: the others are the same files on the same provider.
    fn replay(&mut self, golden: &Golden, setting: &Setting) -> Result<(), TowersError> {
        match (self.image.first_mut(), self.text.first_mut()) {
            (Some(image), Some(text)) => golden.replay(setting, image, text, self.cross.first_mut()),
            _ => Ok(()),
        }
    }
}

struct ImageRunner(ImageGraph);

struct ImageJob {
    image: PreparedImage,
    with_states: bool,
}

impl Runner for ImageRunner {
    type Input = ImageJob;
    type Output = ImageOutput;

    /// A picture has about as many tokens as a small batch of texts: none is free beside another.
    fn length(_: &ImageJob) -> usize {
        SMALL_BATCH_LENGTH
    }

    fn run(&mut self, inputs: &[ImageJob]) -> Result<Vec<ImageOutput>, TowersError> {
        let images: Vec<_> = inputs.iter().map(|job| &job.image).collect();
        self.0.run(&images, inputs.iter().any(|job| job.with_states))
    }
}

struct TextRunner(TextGraph);

struct TextJob {
    text: PreparedText,
    with_states: bool,
}

impl Runner for TextRunner {
    type Input = TextJob;
    type Output = TextOutput;

    fn length(input: &TextJob) -> usize {
        input.text.ids().len()
    }

    fn run(&mut self, inputs: &[TextJob]) -> Result<Vec<TextOutput>, TowersError> {
        let texts: Vec<_> = inputs.iter().map(|job| &job.text).collect();
        self.0.run(&texts, inputs.iter().any(|job| job.with_states))
    }
}

struct CrossRunner(CrossGraph);

impl Runner for CrossRunner {
    type Input = CrossRequest;
    type Output = Vec<MatchScore>;

    /// Of each of its pairs: the picture's tokens pass through one encoder, the text's through the other.
    fn length(request: &CrossRequest) -> usize {
        let image = request.images.first().map_or(0, |image| image.tokens);
        image + request.texts.iter().map(|text| text.tokens).max().unwrap_or(0)
    }

    fn size(request: &CrossRequest) -> usize {
        request.pairs.len().max(1)
    }

    fn run(&mut self, inputs: &[CrossRequest]) -> Result<Vec<Vec<MatchScore>>, TowersError> {
        if let [request] = inputs {
            return Ok(vec![self.0.run(request)?]);
        }
        let mut scores = self.0.run(&merge(inputs))?.into_iter();
        Ok(inputs.iter().map(|request| scores.by_ref().take(request.pairs.len()).collect()).collect())
    }
}
