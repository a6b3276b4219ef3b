//! Fine-tuning for matching (docs/R2D2.md §2.6, §3.2): labelled pairs through both towers and both cross encoders.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use serde_json::json;
use tch::{Kind, Tensor};

use super::config::TrainConfig;
use super::config_parts::MatchingConfig;
use super::error::TrainError;
use super::learner::{Learner, Outcome, SKIPPED_STEPS_MAX, progress_bar};
use super::optimiser::Rates;
use super::pairs::{PairBatch, PairMaker, PairSettings};
use super::schedule::Schedule;
use crate::corpus::{CorpusError, Loader, MatchPairs, PairSource, Picture, augment, open_tokenizer};
use crate::evaluate::{Classification, classify};
use crate::files::file_error;
use crate::inputs::normalise;
use crate::loss::averaged_cross_entropy;
use crate::model::R2d2;
use crate::nn::{Context, Weights};
use crate::stop::StopFlag;

/// Pairs scored at a time in validation.
const VALIDATION_BATCH: usize = 64;

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
    learner: Learner<'a>,
    matching: &'a MatchingConfig,
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
    std::fs::create_dir_all(out).map_err(file_error(out))?;
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
    let loader =
        Loader::spawn(move |step| maker.make(step), session.learner.step, config.run.data_threads).map_err(file_error(out))?;
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
        let (learner, _) = Learner::open(config, resume)?;
        let valid = matching.valid.iter().map(|path| ValidSet::read(config, matching, path)).collect::<Result<_, _>>()?;
        Ok(Self { learner, matching, valid, figures: Vec::new() })
    }

    fn run(&mut self, loader: &Loader<PairBatch>, schedule: &Schedule, stop: &StopFlag) -> Result<MatchingOutcome, TrainError> {
        let config = self.learner.config;
        let bar = progress_bar(schedule.steps, self.learner.step);
        let (mut losses, mut skipped, mut saved, mut finished) = (Vec::new(), 0, Instant::now(), false);
        let part_end = self.learner.part_end();
        while !stop.is_set() && self.learner.step < part_end {
            let progress = schedule.progress(self.learner.step, self.learner.elapsed());
            if progress >= 1.0 {
                finished = true;
                break;
            }
            let begun = Instant::now();
            let batch = loader.next_batch().ok_or(TrainError::LoaderGone)??;
            let lr = schedule.lr_at(self.learner.step, progress);
            let [loss, accuracy, norm] = self.train_step(&batch, lr);
            losses.push(loss);
            skipped = if norm.is_finite() { 0 } else { skipped + 1 };
            if skipped >= SKIPPED_STEPS_MAX {
                return Err(TrainError::Diverged { steps: skipped, step: self.learner.step });
            }
            self.learner.step += 1;
            bar.set_position(self.learner.step);
            bar.set_message(format!("loss {loss:.4} accuracy {accuracy:.2}"));
            if self.learner.step.is_multiple_of(config.run.log_every_steps.max(1)) {
                let rate = batch.size as f64 / begun.elapsed().as_secs_f64();
                self.learner.write_metrics(&json!({
                    "step": self.learner.step, "progress": progress, "elapsed_seconds": self.learner.elapsed(), "loss": loss,
                    "batch_accuracy": accuracy, "lr": lr, "grad_norm": norm, "pairs_per_second": rate,
                }))?;
            }
            if config.eval.every_steps > 0 && self.learner.step.is_multiple_of(config.eval.every_steps) {
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
        let run =
            Outcome { steps: self.learner.step, elapsed_seconds: self.learner.elapsed(), finished, losses, recall: Vec::new() };
        Ok(MatchingOutcome { run, figures: std::mem::take(&mut self.figures) })
    }

    /// Loss, accuracy at .5 and gradient norm of one update.
    fn train_step(&mut self, batch: &PairBatch, lr: f64) -> [f64; 3] {
        // Dropout.
        self.learner.seed_step();
        let l = &self.learner.config.loss;
        let context = Context { train: true, dropout: l.dropout, attention_dropout: l.attention_dropout, drop_path: l.drop_path };
        let (rows, side) = (batch.size as i64, self.learner.config.model.vision.image);
        let device = self.learner.params.device();
        let pixels = Tensor::from_data_size(&batch.pixels, &[rows, 3, side, side], Kind::Uint8).to_device(device);
        let shaped = |values: &[i64]| Tensor::from_slice(values).view([rows, batch.length as i64]).to_device(device);
        let (ids, mask, labels) = (shaped(&batch.ids), shaped(&batch.mask), Tensor::from_slice(&batch.labels).to_device(device));
        let micro = match self.matching.micro_batch {
            0 => rows,
            pairs => pairs as i64,
        };
        self.learner.params.zero_grad();
        let (mut loss, mut right) = (0.0, 0.0);
        for start in (0..rows).step_by(micro as usize) {
            let count = micro.min(rows - start);
            let part = |tensor: &Tensor| tensor.narrow(0, start, count);
            let w = self.learner.params.weights(self.learner.config.run.precision);
            let image = self.learner.model.encode_image(&w, &normalise(&part(&pixels)), None, context);
            let text = self.learner.model.encode_text(&w, &part(&ids), &part(&mask), context);
            let logits = self.learner.model.match_pairs(&w, &image.states, &text.states, &part(&mask), context);
            // The mean over the batch is the weighted mean of its parts' means, since pairs do not see each other.
            let own = averaged_cross_entropy(&logits.text, &logits.image, &part(&labels)) * (count as f64 / rows as f64);
            own.backward();
            loss += own.double_value(&[]);
            let (text, image) = logits.probabilities();
            let said = (text + image).ge(1.0).to_kind(Kind::Int64);
            right += said.eq_tensor(&part(&labels)).to_kind(Kind::Float).sum(Kind::Float).double_value(&[]);
        }
        let norm = self.learner.adam.step(&self.learner.params, Rates::even(lr));
        if norm.is_finite() {
            self.learner.ema.update(&self.learner.params, self.learner.adam.updates);
        }
        [loss, right / rows as f64, norm]
    }

    fn validate(&mut self) -> Result<(), TrainError> {
        let w = self.learner.params.weights_of(&self.learner.ema.flat, self.learner.config.run.precision);
        let mut figures = Vec::new();
        for set in &self.valid {
            let scores = set.scores(&self.learner.model, &w, self.learner.config.model.vision.image)?;
            let Some(found) = classify(&scores, &set.labels) else {
                tracing::warn!("pairs of {} have one label only: there is nothing to measure", set.name);
                continue;
            };
            tracing::info!(step = self.learner.step, auc = found.auc, accuracy = found.accuracy, "{}", set.name);
            figures.push(MatchFigures { task: set.name.clone(), figures: found });
        }
        if !figures.is_empty() {
            self.learner.write_metrics(
                &json!({ "step": self.learner.step, "elapsed_seconds": self.learner.elapsed(), "matching": figures }),
            )?;
            self.figures = figures;
        }
        Ok(())
    }

    fn save(&self) -> Result<(), TrainError> {
        self.learner.save(None)?;
        self.learner.draw();
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
