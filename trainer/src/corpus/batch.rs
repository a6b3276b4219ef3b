//! Batches, prepared on another thread while the step runs.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, sync_channel};

use astromech_towers::Tokenizer;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index;
use rayon::prelude::*;

use super::augment::{AugmentConfig, augment};
use super::error::CorpusError;
use super::masking::{MaskSettings, NOT_MASKED, mask_tokens};
use super::pictures::{Picture, Pictures};
use super::plan::{PlanRecord, PlanSettings, epoch_plan};
use super::record::Record;
use super::texts::{TextKindWeights, choose_text};
use crate::zero::Position;

/// Batches that may wait for the trainer.
const QUEUE_BATCHES_MAX: usize = 2;
/// Separates the streams of random numbers of neighbouring samples.
pub(crate) const SAMPLE_STRIDE: u64 = 0xD129_0D3A_6B5F_4E97;

/// One batch as plain memory: it crosses a thread border.
pub struct Batch {
    /// The step it belongs to, from 0.
    pub step: u64,
    /// Records.
    pub size: usize,
    /// [size, 3, side, side].
    pub pixels: Vec<u8>,
    /// [size, length] token ids, padded with 0.
    pub ids: Vec<i64>,
    /// [size, length], 1 where a token is.
    pub mask: Vec<i64>,
    /// Tokens of the longest text.
    pub length: usize,
    /// Concept number of each record.
    pub concepts: Vec<i64>,
    /// [size, kept] patches that stay, when patches are dropped.
    pub keep: Option<Vec<i64>>,
    /// `ids` with some hidden, and the true ids of those ([`NOT_MASKED`] elsewhere), both [size, length].
    pub masked: Option<[Vec<i64>; 2]>,
    /// Where the stream stands behind this batch; none for the corpus, whose batches follow from seed and step.
    pub position: Option<Position>,
}

/// What makes the batches of a run, one after the other.
pub trait BatchSource: Send {
    /// Goes to the step that is asked for first; 0 needs no call.
    ///
    /// # Errors
    /// Where the source stood at that step is not known.
    fn begin(&mut self, _step: u64) -> Result<(), CorpusError> {
        Ok(())
    }

    /// Batches of an epoch; 0 where an epoch's length is not known.
    fn steps_per_epoch(&self) -> u64 {
        0
    }

    /// The batch of a step. Steps are asked for in order.
    ///
    /// # Errors
    /// What is read cannot be used, or too much of it.
    fn next(&mut self, step: u64) -> Result<Batch, CorpusError>;
}

impl BatchSource for BatchMaker {
    fn steps_per_epoch(&self) -> u64 {
        self.steps_per_epoch
    }

    fn next(&mut self, step: u64) -> Result<Batch, CorpusError> {
        Ok(self.make(step))
    }
}

impl<T: BatchSource + ?Sized> BatchSource for Box<T> {
    fn begin(&mut self, step: u64) -> Result<(), CorpusError> {
        (**self).begin(step)
    }

    fn steps_per_epoch(&self) -> u64 {
        (**self).steps_per_epoch()
    }

    fn next(&mut self, step: u64) -> Result<Batch, CorpusError> {
        (**self).next(step)
    }
}

/// How samples are made.
#[derive(Debug, Clone)]
pub struct SampleSettings {
    /// Seed of everything random.
    pub seed: u64,
    /// Picture side in pixels.
    pub side: usize,
    /// Patches of one picture.
    pub patches: usize,
    /// Patches kept of them; equal to `patches` keeps all.
    pub patches_kept: usize,
    /// Batch plan.
    pub plan: PlanSettings,
    /// Text choice.
    pub texts: TextKindWeights,
    /// Hiding of tokens, for masked language modelling.
    pub masking: Option<MaskSettings>,
    /// Augmentation.
    pub augment: AugmentConfig,
}

/// Makes the batch of any step: a pure function of seed and step.
pub struct BatchMaker {
    records: Vec<Record>,
    pictures: Pictures,
    tokenizer: Tokenizer,
    settings: SampleSettings,
    plan_records: Vec<PlanRecord>,
    /// Batches of an epoch, the same for every epoch.
    pub steps_per_epoch: u64,
    plan: (u64, Vec<Vec<usize>>),
}

impl BatchMaker {
    /// Takes the records and their pictures.
    pub fn new(records: Vec<Record>, pictures: Pictures, tokenizer: Tokenizer, settings: SampleSettings) -> Self {
        let concepts = numbers(records.iter().map(|record| record.concept.as_str()));
        let domains = numbers(records.iter().map(|record| record.domain.as_str()));
        let plan_records: Vec<PlanRecord> =
            concepts.into_iter().zip(domains).map(|(concept, domain)| PlanRecord { concept, domain }).collect();
        let first = epoch_plan(&plan_records, settings.plan, settings.seed, 0);
        let steps_per_epoch = first.len() as u64;
        Self { records, pictures, tokenizer, settings, plan_records, steps_per_epoch, plan: (0, first) }
    }

    /// Records it draws from.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True without records.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The batch of a step.
    pub fn make(&mut self, step: u64) -> Batch {
        let epoch = step / self.steps_per_epoch.max(1);
        if self.plan.0 != epoch {
            self.plan = (epoch, epoch_plan(&self.plan_records, self.settings.plan, self.settings.seed, epoch));
        }
        // Every epoch has at least as many batches as records / batch, whatever the order; the modulo guards the rest.
        let chosen = &self.plan.1[(step % self.steps_per_epoch.max(1)) as usize % self.plan.1.len()];
        let augment = self.settings.augment.at_step(step);
        let samples: Vec<Sample> = chosen
            .par_iter()
            .enumerate()
            .map(|(slot, &record)| self.sample(record, &augment, step.wrapping_mul(SAMPLE_STRIDE).wrapping_add(slot as u64)))
            .collect();
        let concepts = chosen.iter().map(|&record| self.plan_records[record].concept as i64).collect();
        collate(step, concepts, samples, &self.settings)
    }

    fn sample(&self, record: usize, picture: &AugmentConfig, stream: u64) -> Sample {
        let own = &self.records[record];
        sample(&self.settings, &self.tokenizer, (own, &self.settings.texts), &self.pictures.all[record], picture, stream)
    }
}

/// Makes one sample: a text chosen, the picture augmented, patches and tokens hidden, all by the random numbers of `stream`.
pub(super) fn sample(
    s: &SampleSettings,
    tokenizer: &Tokenizer,
    (record, texts): (&Record, &TextKindWeights),
    picture: &Picture,
    changes: &AugmentConfig,
    stream: u64,
) -> Sample {
    let mut rng = StdRng::seed_from_u64(s.seed.rotate_left(32) ^ stream);
    let text = choose_text(record, texts, &mut rng);
    let mut pixels = Vec::with_capacity(3 * s.side * s.side);
    augment(picture, s.side, changes, &mut rng, &mut pixels);
    Sample::of(s, tokenizer, &text, pixels, &mut rng)
}

/// Puts samples together, texts padded to the longest.
pub(crate) fn collate(step: u64, concepts: Vec<i64>, samples: Vec<Sample>, settings: &SampleSettings) -> Batch {
    let size = samples.len();
    let length = samples.iter().map(|sample| sample.ids.len()).max().unwrap_or(0);
    let mut batch = Batch {
        step,
        size,
        pixels: Vec::with_capacity(samples.iter().map(|sample| sample.pixels.len()).sum()),
        ids: vec![0; size * length],
        mask: vec![0; size * length],
        length,
        concepts,
        keep: (settings.patches_kept < settings.patches).then(Vec::new),
        masked: settings.masking.map(|_| [vec![0; size * length], vec![NOT_MASKED; size * length]]),
        position: None,
    };
    for (row, sample) in samples.into_iter().enumerate() {
        batch.pixels.extend_from_slice(&sample.pixels);
        let at = row * length..row * length + sample.ids.len();
        batch.ids[at.clone()].copy_from_slice(&sample.ids);
        batch.mask[at.clone()].fill(1);
        if let (Some([hidden, labels]), Some((own_hidden, own_labels))) = (&mut batch.masked, &sample.masked) {
            hidden[at.clone()].copy_from_slice(own_hidden);
            labels[at].copy_from_slice(own_labels);
        }
        if let Some(keep) = &mut batch.keep {
            keep.extend(sample.keep);
        }
    }
    batch
}

/// What one record gives to a batch.
pub(crate) struct Sample {
    pixels: Vec<u8>,
    ids: Vec<i64>,
    keep: Vec<i64>,
    masked: Option<(Vec<i64>, Vec<i64>)>,
}

impl Sample {
    /// A text and a picture of [3, side, side] bytes, patches and tokens hidden by `rng`.
    pub(crate) fn of(s: &SampleSettings, tokenizer: &Tokenizer, text: &str, pixels: Vec<u8>, rng: &mut StdRng) -> Self {
        let keep = if s.patches_kept < s.patches {
            let mut kept: Vec<i64> =
                index::sample(rng, s.patches, s.patches_kept).into_iter().map(|patch| patch as i64).collect();
            kept.sort_unstable();
            kept
        } else {
            Vec::new()
        };
        let ids = tokenizer.encode(text);
        let masked = s.masking.map(|settings| mask_tokens(&ids, &settings, rng));
        Self { pixels, ids, keep, masked }
    }
}

/// Numbers names in order of first sight.
fn numbers<'a>(names: impl Iterator<Item = &'a str>) -> Vec<usize> {
    let mut known = HashMap::new();
    names
        .map(|name| {
            let next = known.len();
            *known.entry(name).or_insert(next)
        })
        .collect()
}

/// A thread that keeps up to two batches ready.
pub struct Loader<B = Batch> {
    batches: Option<Receiver<Result<B, CorpusError>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Loader {
    /// Starts at `first_step`; samples are made on `threads` threads.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(mut source: impl BatchSource + 'static, first_step: u64, threads: usize) -> std::io::Result<Self> {
        Self::spawn(move |step| source.next(step), first_step, threads)
    }
}

impl<B: Send + 'static> Loader<B> {
    /// As [`Loader::start`], for batches of any kind: `make` gives that of a step, and is asked in order.
    pub(crate) fn spawn(
        mut make: impl FnMut(u64) -> Result<B, CorpusError> + Send + 'static,
        first_step: u64,
        threads: usize,
    ) -> std::io::Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|index| format!("augment-{index}"))
            .build()
            .map_err(std::io::Error::other)?;
        let (sender, receiver) = sync_channel(QUEUE_BATCHES_MAX);
        let thread = std::thread::Builder::new().name("loader".into()).spawn(move || {
            for step in first_step.. {
                let batch = pool.install(|| make(step));
                let failed = batch.is_err();
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        })?;
        Ok(Self { batches: Some(receiver), thread: Some(thread) })
    }

    /// The next batch, or why there is none; `None` when the thread is gone.
    pub fn next_batch(&self) -> Option<Result<B, CorpusError>> {
        self.batches.as_ref()?.recv().ok()
    }
}

impl<B> Drop for Loader<B> {
    fn drop(&mut self) {
        // Closing the queue ends the thread at its next send.
        self.batches.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
