//! Fine-tuning for matching (r2d2.md §2.6, §3.2): labelled pairs through both towers and both cross encoders.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use astromech_settings::kinds::{flag, int, list, path};
use astromech_settings::{Value as _, settings};
use serde::Serialize;
use serde_json::json;
use tch::{Kind, Tensor};

use super::config::TrainConfig;
use super::curves::draw_curves;
use super::objective::normalise;
use super::optimiser::{AdamW, Ema};
use super::pairs::{PairBatch, PairMaker, PairSettings};
use super::run::{CURVES_FILE, METRICS_FILE, Outcome, SKIPPED_STEPS_MAX, TrainError, io, progress_bar};
use super::schedule::Schedule;
use super::stop::StopFlag;
use crate::checkpoint::{MODEL_FILE, Progress, STATE_FILE, TrainingState, load_model, read_state, save_model, write_state};
use crate::corpus::{CorpusError, Loader, MatchPairs, PairSource, Picture, augment, open_tokenizer};
use crate::evaluate::{Classification, classify};
use crate::loss::averaged_cross_entropy;
use crate::model::R2d2;
use crate::nn::{Context, Params, Weights};

/// Pairs scored at a time in validation.
const VALIDATION_BATCH: usize = 64;

settings! {
    /// Fine-tuning for matching. The other sections of the configuration keep their meaning where they apply.
    #[derive(Debug, Clone, PartialEq)]
    pub struct MatchingConfig {
        /// Files of labelled pairs to train on: JSON Lines of `image` (id of a record of `data.corpus`), `text`, `label`; of
        /// `image_path`, `text`, `label` as Zero publishes ICM and IQM; or `.tsv` lines of picture, text, label.
        train: Vec<PathBuf> = (required ["pairs.jsonl"]) => list(path());
        /// Files to validate on.
        valid: Vec<PathBuf> = [] => list(path());
        /// Folder of the pictures that rows name by file.
        images: Option<PathBuf> = optional => path().or_none();
        /// Leave out rows whose picture is not there; else such a row is an error.
        skip_missing: bool = false => flag();
        /// At most this many pairs of a file are validated on, from its start; 0 uses all.
        valid_pairs_max: usize = 0 => int(0, u64::MAX);
        /// Pairs that go through the model at a time, to bound memory; the gradient is that of the whole batch all the same. 0 takes
        /// all.
        micro_batch: usize = 0 => int(0, u64::MAX);
        /// Decoded pictures stay in memory while all of them take at most this many bytes.
        pictures_bytes_max: u64 = 1073741824 => int(0, u64::MAX);
    }
}

/// Figures of one file of pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MatchFigures {
    /// Name of the file.
    pub task: String,
    /// By the mean of both match probabilities.
    pub figures: Classification,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchingOutcome {
    /// What every run ends with.
    pub run: Outcome,
    /// Last validation.
    pub figures: Vec<MatchFigures>,
}

struct Session<'a> {
    config: &'a TrainConfig,
    matching: &'a MatchingConfig,
    model: R2d2,
    params: Params,
    adam: AdamW,
    ema: Ema,
    step: u64,
    elapsed_before: f64,
    started: Instant,
    metrics: File,
    valid: Vec<ValidSet>,
    figures: Vec<MatchFigures>,
}

/// Trains by a configuration with a `[matching]` section; see [`super::train`] for `resume` and `stop`.
///
/// # Errors
/// Pairs or checkpoints that cannot be used, an output that cannot be written, or a diverging loss.
pub fn train_matching(
    config: &TrainConfig,
    matching: &MatchingConfig,
    resume: bool,
    stop: &StopFlag,
) -> Result<MatchingOutcome, TrainError> {
    let out = &config.run.out;
    std::fs::create_dir_all(out).map_err(io(out))?;
    if config.run.threads > 0 {
        tch::set_num_threads(config.run.threads as i32);
    }
    let tokenizer = open_tokenizer(&config.data.vocabulary, config.data.max_tokens)?;
    let pairs = read_all(config, matching, &matching.train)?;
    let records = pairs.pairs.len();
    if records < config.data.batch {
        return Err(TrainError::TooFewRecords { batch: config.data.batch, records });
    }
    let settings = PairSettings {
        seed: config.run.seed,
        batch: config.data.batch,
        side: config.model.vision.image as usize,
        working_px: config.data.working_px,
        augment: config.augment.clone(),
        pictures_bytes_max: matching.pictures_bytes_max,
    };
    let maker = PairMaker::new(pairs, tokenizer, settings)?;
    let schedule = Schedule::of(&config.optim, maker.steps_per_epoch);
    tracing::info!(pairs = records, steps_per_epoch = maker.steps_per_epoch, steps = schedule.steps, "pairs read");
    let mut session = Session::open(config, matching, resume)?;
    let loader = Loader::spawn(move |step| maker.make(step), session.step, config.run.data_threads).map_err(io(out))?;
    session.run(&loader, &schedule, stop)
}

fn read_all(config: &TrainConfig, matching: &MatchingConfig, files: &[PathBuf]) -> Result<MatchPairs, CorpusError> {
    let mut all = MatchPairs::default();
    for path in files {
        let source = PairSource {
            path: path.clone(),
            corpus: Some(config.data.corpus.clone()),
            images: matching.images.clone(),
            skip_missing: matching.skip_missing,
        };
        let mut read = source.read()?;
        if let Some(first) = read.skipped.first() {
            tracing::warn!(rows = read.skipped.len(), first, "rows of {} are left out", path.display());
        }
        let offset = all.pictures.len();
        all.pictures.append(&mut read.pictures);
        all.pairs.extend(read.pairs.into_iter().map(|mut pair| {
            pair.picture += offset;
            pair
        }));
        all.name = read.name;
    }
    Ok(all)
}

impl<'a> Session<'a> {
    fn open(config: &'a TrainConfig, matching: &'a MatchingConfig, resume: bool) -> Result<Self, TrainError> {
        let (model, mut params) = R2d2::new(&config.model)?;
        params.initialise(config.run.seed as i64);
        if let Some(path) = &config.run.init {
            let loaded = load_model(path)?;
            for named in loaded.params.named() {
                params.copy_named(&named.name, &loaded.params.view(loaded.params.flat(), named));
            }
        }
        let device = config.run.device.open()?;
        params.to_device(device);
        let mut adam = AdamW::of(&mut params, &config.optim)?;
        let mut ema = Ema::new(&params, config.optim.ema);
        let (mut step, mut elapsed_before) = (0, 0.0);
        if resume {
            let state = read_state(&config.run.out.join(STATE_FILE), params.numel())?;
            let progress = state.progress;
            if progress.seed != config.run.seed {
                let path = config.run.out.clone();
                return Err(TrainError::Seed { path, found: progress.seed, expected: config.run.seed });
            }
            tch::no_grad(|| params.flat().shallow_clone().copy_(&state.params));
            ema.flat = state.ema.to_device(device);
            (adam.m, adam.v, adam.updates) = (state.m.to_device(device), state.v.to_device(device), progress.updates);
            (step, elapsed_before) = (progress.step, progress.elapsed_seconds);
        }
        let path = config.run.out.join(METRICS_FILE);
        let mut options = OpenOptions::new();
        let metrics = options.create(true).append(resume).write(true).truncate(!resume).open(&path).map_err(io(&path))?;
        let valid = matching.valid.iter().map(|path| ValidSet::read(config, matching, path)).collect::<Result<_, _>>()?;
        let started = Instant::now();
        Ok(Self {
            config,
            matching,
            model,
            params,
            adam,
            ema,
            step,
            elapsed_before,
            started,
            metrics,
            valid,
            figures: Vec::new(),
        })
    }

    fn elapsed(&self) -> f64 {
        self.elapsed_before + self.started.elapsed().as_secs_f64()
    }

    fn run(&mut self, loader: &Loader<PairBatch>, schedule: &Schedule, stop: &StopFlag) -> Result<MatchingOutcome, TrainError> {
        let config = self.config;
        let bar = progress_bar(schedule.steps, self.step);
        let (mut losses, mut skipped, mut saved, mut finished) = (Vec::new(), 0, Instant::now(), false);
        let part_end = if config.run.part_steps == 0 { u64::MAX } else { self.step + config.run.part_steps };
        while !stop.is_set() && self.step < part_end {
            let progress = schedule.progress(self.step, self.elapsed());
            if progress >= 1.0 {
                finished = true;
                break;
            }
            let begun = Instant::now();
            let batch = loader.next_batch().ok_or(TrainError::LoaderGone)??;
            let lr = schedule.lr_at(self.step, progress);
            let [loss, accuracy, norm] = self.train_step(&batch, lr);
            losses.push(loss);
            skipped = if norm.is_finite() { 0 } else { skipped + 1 };
            if skipped >= SKIPPED_STEPS_MAX {
                return Err(TrainError::Diverged { steps: skipped, step: self.step });
            }
            self.step += 1;
            bar.set_position(self.step);
            bar.set_message(format!("loss {loss:.4} accuracy {accuracy:.2}"));
            if self.step.is_multiple_of(config.run.log_every_steps.max(1)) {
                let rate = batch.size as f64 / begun.elapsed().as_secs_f64();
                self.write_metrics(&json!({
                    "step": self.step, "progress": progress, "elapsed_seconds": self.elapsed(), "loss": loss,
                    "batch_accuracy": accuracy, "lr": lr, "grad_norm": norm, "pairs_per_second": rate,
                }))?;
            }
            if config.eval.every_steps > 0 && self.step.is_multiple_of(config.eval.every_steps) {
                self.validate()?;
            }
            if saved.elapsed().as_secs() >= config.run.save_every_seconds {
                self.save()?;
                saved = Instant::now();
            }
        }
        if finished {
            self.validate()?;
        }
        self.save()?;
        bar.finish_and_clear();
        let run = Outcome { steps: self.step, elapsed_seconds: self.elapsed(), finished, losses, recall: Vec::new() };
        Ok(MatchingOutcome { run, figures: std::mem::take(&mut self.figures) })
    }

    /// Loss, accuracy at .5 and gradient norm of one update.
    fn train_step(&mut self, batch: &PairBatch, lr: f64) -> [f64; 3] {
        // Dropout is drawn from seed and step, so a resumed run draws the same.
        tch::manual_seed(self.config.run.seed.wrapping_mul(0x9E37_79B9).wrapping_add(self.step) as i64);
        let l = &self.config.loss;
        let context = Context { train: true, dropout: l.dropout, attention_dropout: l.attention_dropout, drop_path: l.drop_path };
        let (rows, side) = (batch.size as i64, self.config.model.vision.image);
        let device = self.params.device();
        let pixels = Tensor::from_data_size(&batch.pixels, &[rows, 3, side, side], Kind::Uint8).to_device(device);
        let shaped = |values: &[i64]| Tensor::from_slice(values).view([rows, batch.length as i64]).to_device(device);
        let (ids, mask, labels) = (shaped(&batch.ids), shaped(&batch.mask), Tensor::from_slice(&batch.labels).to_device(device));
        let micro = match self.matching.micro_batch {
            0 => rows,
            pairs => pairs as i64,
        };
        self.params.zero_grad();
        let (mut loss, mut right) = (0.0, 0.0);
        for start in (0..rows).step_by(micro as usize) {
            let count = micro.min(rows - start);
            let part = |tensor: &Tensor| tensor.narrow(0, start, count);
            let w = self.params.weights(self.config.run.precision);
            let image = self.model.encode_image(&w, &normalise(&part(&pixels)), None, context);
            let text = self.model.encode_text(&w, &part(&ids), &part(&mask), context);
            let logits = self.model.match_pairs(&w, &image.states, &text.states, &part(&mask), context);
            // The mean over the batch is the weighted mean of its parts' means, since pairs do not see each other.
            let own = averaged_cross_entropy(&logits.text, &logits.image, &part(&labels)) * (count as f64 / rows as f64);
            own.backward();
            loss += own.double_value(&[]);
            let (text, image) = logits.probabilities();
            let said = (text + image).ge(1.0).to_kind(Kind::Int64);
            right += said.eq_tensor(&part(&labels)).to_kind(Kind::Float).sum(Kind::Float).double_value(&[]);
        }
        let norm = self.adam.step(&self.params, lr);
        if norm.is_finite() {
            self.ema.update(&self.params, self.adam.updates);
        }
        [loss, right / rows as f64, norm]
    }

    fn write_metrics(&mut self, row: &serde_json::Value) -> Result<(), TrainError> {
        writeln!(self.metrics, "{row}").map_err(io(&self.config.run.out.join(METRICS_FILE)))
    }

    fn validate(&mut self) -> Result<(), TrainError> {
        let w = self.params.weights_of(&self.ema.flat, self.config.run.precision);
        let mut figures = Vec::new();
        for set in &self.valid {
            let scores = set.scores(&self.model, &w, self.config.model.vision.image)?;
            let Some(found) = classify(&scores, &set.labels) else {
                tracing::warn!("pairs of {} have one label only: there is nothing to measure", set.name);
                continue;
            };
            tracing::info!(step = self.step, auc = found.auc, accuracy = found.accuracy, "{}", set.name);
            figures.push(MatchFigures { task: set.name.clone(), figures: found });
        }
        if !figures.is_empty() {
            self.write_metrics(&json!({ "step": self.step, "elapsed_seconds": self.elapsed(), "matching": figures }))?;
            self.figures = figures;
        }
        Ok(())
    }

    fn save(&self) -> Result<(), TrainError> {
        let out = &self.config.run.out;
        save_model(&out.join(MODEL_FILE), &self.config.model, &self.params, &self.ema.flat)?;
        let progress =
            Progress { step: self.step, updates: self.adam.updates, seed: self.config.run.seed, elapsed_seconds: self.elapsed() };
        let state = TrainingState {
            progress,
            params: self.params.flat().shallow_clone(),
            ema: self.ema.flat.shallow_clone(),
            m: self.adam.m.shallow_clone(),
            v: self.adam.v.shallow_clone(),
            queue: None,
        };
        write_state(&out.join(STATE_FILE), &state)?;
        if let Err(message) = draw_curves(&out.join(METRICS_FILE), &out.join(CURVES_FILE)) {
            tracing::warn!(message, "curves were not drawn");
        }
        Ok(())
    }
}

/// Pairs to validate on; pictures are decoded anew each time, since a set of them need not fit the memory.
struct ValidSet {
    name: String,
    pairs: MatchPairs,
    tokens: Vec<Vec<i64>>,
    labels: Vec<bool>,
}

impl ValidSet {
    fn read(config: &TrainConfig, matching: &MatchingConfig, path: &Path) -> Result<Self, CorpusError> {
        let mut pairs = read_all(config, matching, &[path.to_path_buf()])?;
        if matching.valid_pairs_max > 0 {
            pairs.pairs.truncate(matching.valid_pairs_max);
        }
        let tokenizer = open_tokenizer(&config.data.vocabulary, config.data.max_tokens)?;
        let tokens = pairs.pairs.iter().map(|pair| tokenizer.encode(&pair.text)).collect();
        let labels = pairs.pairs.iter().map(|pair| pair.label).collect();
        Ok(Self { name: pairs.name.clone(), pairs, tokens, labels })
    }

    /// Mean of both match probabilities of every pair.
    fn scores(&self, model: &R2d2, w: &Weights, side: i64) -> Result<Vec<f32>, CorpusError> {
        let mut scores = Vec::with_capacity(self.labels.len());
        let mut unused = rand::rng();
        for (pairs, tokens) in self.pairs.pairs.chunks(VALIDATION_BATCH).zip(self.tokens.chunks(VALIDATION_BATCH)) {
            let mut pixels = Vec::new();
            for pair in pairs {
                let picture = &self.pairs.pictures[pair.picture];
                let picture = Picture::read(&picture.path, &picture.id, side as usize)?;
                augment::augment(&picture, side as usize, &augment::AugmentConfig::none(), &mut unused, &mut pixels);
            }
            let rows = pairs.len() as i64;
            let length = tokens.iter().map(Vec::len).max().unwrap_or(0);
            let (mut ids, mut mask) = (vec![0i64; pairs.len() * length], vec![0i64; pairs.len() * length]);
            for (row, own) in tokens.iter().enumerate() {
                ids[row * length..][..own.len()].copy_from_slice(own);
                mask[row * length..][..own.len()].fill(1);
            }
            let shaped = |values: &[i64]| Tensor::from_slice(values).view([rows, length as i64]).to_device(w.device());
            let mask = shaped(&mask);
            let pixels = Tensor::from_data_size(&pixels, &[rows, 3, side, side], Kind::Uint8).to_device(w.device());
            let found = tch::no_grad(|| {
                let image = model.encode_image(w, &normalise(&pixels), None, Context::EVAL);
                let text = model.encode_text(w, &shaped(&ids), &mask, Context::EVAL);
                let (text, image) = model.match_pairs(w, &image.states, &text.states, &mask, Context::EVAL).probabilities();
                (text + image) * 0.5
            });
            scores.extend((0..rows).map(|row| found.double_value(&[row]) as f32));
        }
        Ok(scores)
    }
}
