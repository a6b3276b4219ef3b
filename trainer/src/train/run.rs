//! The loop: batches in, updates, metrics, validations and checkpoints out.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use thiserror::Error;

use super::config::TrainConfig;
use super::curves::draw_curves;
use super::matching::train_matching;
use super::objective::{Guide, Inputs, Objective, StepLosses};
use super::optimiser::{AdamW, Ema};
use super::schedule::Schedule;
use super::source::batch_source;
use super::stop::StopFlag;
use super::validate::{Recall, ValidateOptions, Validator};
use crate::checkpoint::{
    CheckpointError, MODEL_FILE, Progress, STATE_FILE, TrainingState, keep_checkpoint, load_model, read_state, save_model,
    write_state,
};
use crate::corpus::{Batch, CorpusError, Loader, open_tokenizer};
use crate::distil::{DistilError, Student, Teacher};
use crate::loss::FeatureQueue;
use crate::model::{R2d2, TEMPERATURE_BOUNDS, TEMPERATURE_KEY, mimetic_vision};
use crate::nn::{Device, DeviceError, Params, Precision};
use crate::zero::Positions;

/// File name of the metrics inside a run's folder.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// File name of the curves inside a run's folder.
pub const CURVES_FILE: &str = "curves.svg";
/// Updates in a row that may be skipped for a gradient that is not finite, before the run gives up.
pub(super) const SKIPPED_STEPS_MAX: u32 = 20;
/// Weight of the newest step in the displayed rate.
const RATE_SMOOTHING: f64 = 0.1;

/// A run that could not go on.
#[derive(Debug, Error)]
pub enum TrainError {
    /// Records, pictures or vocabulary.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// Checkpoints.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The teacher.
    #[error(transparent)]
    Distil(#[from] DistilError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Model sizes.
    #[error(transparent)]
    Config(#[from] crate::model::ConfigError),
    /// Output files.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Fewer records than one batch.
    #[error("data.batch is {batch} but only {records} records pass the filter; lower data.batch or widen the filter")]
    TooFewRecords {
        /// Batch size.
        batch: usize,
        /// Records.
        records: usize,
    },
    /// The loss left the finite numbers and did not come back.
    #[error(
        "the gradient was not finite for {steps} steps in a row at step {step}; lower optim.lr and go on by --resume from the last checkpoint"
    )]
    Diverged {
        /// Steps in a row.
        steps: u32,
        /// Step at which the run gave up.
        step: u64,
    },
    /// A checkpoint of another run.
    #[error("the run in {path} has seed {found}, the configuration {expected}; set run.seed = {found} or another run.out")]
    Seed {
        /// The folder.
        path: PathBuf,
        /// Stored.
        found: u64,
        /// Configured.
        expected: u64,
    },
    /// A frozen name that is none.
    #[error("optim.freeze names {prefix}, with which no parameter begins; give a beginning such as visual_encoder.")]
    Freeze {
        /// What was given.
        prefix: String,
    },
    /// The batch thread ended.
    #[error("the thread that makes batches ended early")]
    LoaderGone,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Steps done over all parts of the run.
    pub steps: u64,
    /// Seconds trained over all parts of the run.
    pub elapsed_seconds: f64,
    /// True when the schedule ended, false when a signal ended it.
    pub finished: bool,
    /// Loss of every step of this part.
    pub losses: Vec<f64>,
    /// Last validation.
    pub recall: Vec<Recall>,
}

struct Session<'a> {
    config: &'a TrainConfig,
    model: R2d2,
    params: Params,
    adam: AdamW,
    ema: Ema,
    queue: FeatureQueue,
    teacher: Option<Teacher>,
    step: u64,
    elapsed_before: f64,
    started: Instant,
    metrics: std::fs::File,
    validator: Validator,
    recall: Vec<Recall>,
    positions: Positions,
}

/// Trains by a configuration; `resume` goes on from the state in `run.out`. Saves and returns when `stop` is set.
///
/// # Errors
/// A corpus or checkpoint that cannot be used, an output that cannot be written, or a diverging loss.
pub fn train(config: &TrainConfig, resume: bool, stop: &StopFlag) -> Result<Outcome, TrainError> {
    if let Some(matching) = &config.matching {
        return Ok(train_matching(config, matching, resume, stop)?.run);
    }
    let out = &config.run.out;
    std::fs::create_dir_all(out).map_err(io(out))?;
    if config.run.threads > 0 {
        tch::set_num_threads(config.run.threads as i32);
    }
    if config.run.precision == Precision::Bf16 && config.run.device == Device::Cpu && !has_fast_bf16() {
        tracing::warn!(
            "run.precision = bf16 on a processor without AVX-512: LibTorch emulates it (17 s a step where f32 takes 0.7 s was measured); set run.precision = \"f32\""
        );
    }
    let mut source = batch_source(config)?;
    let schedule = Schedule::of(&config.optim, source.steps_per_epoch());
    let mut session = Session::open(config, resume)?;
    source.begin(session.step)?;
    let loader = Loader::start(source, session.step, config.run.data_threads).map_err(io(out))?;
    let outcome = session.run(&loader, &schedule, stop)?;
    if let Err(message) = draw_curves(&out.join(METRICS_FILE), &out.join(CURVES_FILE)) {
        tracing::warn!(message, "curves were not drawn");
    }
    Ok(outcome)
}

/// Whether oneDNN has bf16 products for this processor.
fn has_fast_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512f")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        true
    }
}

pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> TrainError {
    let path = path.to_path_buf();
    move |source| TrainError::Io { path, source }
}

impl<'a> Session<'a> {
    fn open(config: &'a TrainConfig, resume: bool) -> Result<Self, TrainError> {
        let (model, mut params) = R2d2::new(&config.model)?;
        params.initialise(config.run.seed as i64);
        if config.run.mimetic {
            mimetic_vision(&mut params, &config.model);
        }
        if let Some(path) = &config.run.init {
            let loaded = load_model(path)?;
            for named in loaded.params.named() {
                params.copy_named(&named.name, &loaded.params.view(loaded.params.flat(), named));
            }
        }
        let device = config.run.device.open()?;
        // Drawn on the processor, so that a seed starts the same model on every device.
        params.to_device(device);
        let o = &config.optim;
        let mut adam = AdamW::of(&mut params, o)?;
        let mut ema = Ema::new(&params, o.ema);
        let mut queue = FeatureQueue::new(config.loss.queue_slots, config.model.embed, config.loss.queue_decay, device);
        let (mut step, mut elapsed_before) = (0, 0.0);
        let state_path = config.run.out.join(STATE_FILE);
        if resume {
            let state = read_state(&state_path, params.numel())?;
            let progress = state.progress;
            if progress.seed != config.run.seed {
                let path = config.run.out.clone();
                return Err(TrainError::Seed { path, found: progress.seed, expected: config.run.seed });
            }
            tch::no_grad(|| params.flat().shallow_clone().copy_(&state.params));
            ema.flat = state.ema.to_device(device);
            (adam.m, adam.v, adam.updates) = (state.m.to_device(device), state.v.to_device(device), progress.updates);
            (step, elapsed_before) = (progress.step, progress.elapsed_seconds);
            if let Some(parts) = state.queue {
                queue.restore(parts);
            }
        }
        let metrics_path = config.run.out.join(METRICS_FILE);
        let metrics = OpenOptions::new()
            .create(true)
            .append(resume)
            .write(true)
            .truncate(!resume)
            .open(&metrics_path)
            .map_err(io(&metrics_path))?;
        let tokenizer = open_tokenizer(&config.data.vocabulary, config.data.max_tokens)?;
        let (corpus, side) = (&config.data.corpus, config.model.vision.image);
        let validator = Validator::new(corpus, &config.eval.tasks, side, &tokenizer, config.eval.queries_max)?;
        let student = Student {
            model: &config.model,
            max_tokens: config.data.max_tokens,
            vocabulary: &config.data.vocabulary,
            threads: config.run.threads,
        };
        let teacher = config.distil.as_ref().map(|distil| Teacher::open(distil, &student, device)).transpose()?;
        let started = Instant::now();
        Ok(Self {
            config,
            model,
            params,
            adam,
            ema,
            queue,
            teacher,
            step,
            elapsed_before,
            started,
            metrics,
            validator,
            recall: Vec::new(),
            positions: Positions::default(),
        })
    }

    fn elapsed(&self) -> f64 {
        self.elapsed_before + self.started.elapsed().as_secs_f64()
    }

    fn run(&mut self, loader: &Loader, schedule: &Schedule, stop: &StopFlag) -> Result<Outcome, TrainError> {
        let config = self.config;
        let bar = progress_bar(schedule.steps, self.step);
        let (mut losses, mut skipped, mut rate) = (Vec::new(), 0u32, 0.0f64);
        let mut unlogged = None;
        let mut saved = Instant::now();
        let mut finished = false;
        let part_end = match config.run.part_steps {
            0 => u64::MAX,
            steps => self.step + steps,
        };
        while !stop.is_set() && self.step < part_end {
            let progress = schedule.progress(self.step, self.elapsed());
            if progress >= 1.0 {
                finished = true;
                break;
            }
            let waited = Instant::now();
            let batch = loader.next_batch().ok_or(TrainError::LoaderGone)??;
            self.positions.note(batch.position.clone());
            let wait_ms = waited.elapsed().as_secs_f64() * 1000.0;
            let lr = schedule.lr_at(self.step, progress);
            let mut done = self.train_step(&batch, lr, progress)?;
            losses.push(done.losses.total);
            done.losses = done.losses.with_terms_of(unlogged);
            unlogged = Some(done.losses);
            skipped = if done.norm.is_finite() { 0 } else { skipped + 1 };
            if skipped >= SKIPPED_STEPS_MAX {
                return Err(TrainError::Diverged { steps: skipped, step: self.step });
            }
            self.step += 1;
            let now = batch.size as f64 / waited.elapsed().as_secs_f64();
            rate = if rate == 0.0 { now } else { rate + RATE_SMOOTHING * (now - rate) };
            show(&bar, &done, rate, progress, self.elapsed());
            bar.set_position(self.step);
            if self.step.is_multiple_of(config.run.log_every_steps.max(1)) {
                self.log_step(&done, lr, progress, rate, wait_ms)?;
                unlogged = None;
            }
            if config.eval.every_steps > 0 && self.step.is_multiple_of(config.eval.every_steps) {
                self.validate(&bar)?;
            }
            if saved.elapsed().as_secs() >= config.run.save_every_seconds {
                self.save()?;
                saved = Instant::now();
            }
        }
        if finished {
            self.validate(&bar)?;
        }
        self.save()?;
        bar.finish_and_clear();
        let (steps, elapsed_seconds) = (self.step, self.elapsed());
        Ok(Outcome { steps, elapsed_seconds, finished, losses, recall: std::mem::take(&mut self.recall) })
    }

    fn train_step(&mut self, batch: &Batch, lr: f64, progress: f64) -> Result<StepDone, TrainError> {
        let loss = &self.config.loss;
        // Dropout and negatives are drawn from seed and step, so a resumed run draws the same.
        let seed = self.config.run.seed.wrapping_mul(0x9E37_79B9).wrapping_add(self.step) as i64;
        tch::manual_seed(seed);
        let mut lap = Instant::now();
        let mut lap_ms = || {
            let ms = lap.elapsed().as_secs_f64() * 1000.0;
            lap = Instant::now();
            ms
        };
        let inputs = Inputs::new(batch, self.config.model.vision.image, self.params.device());
        let with_itm = loss.itm_every > 0
            && self.step >= loss.itm_start_step
            && progress >= loss.itm_start_progress
            && self.step.is_multiple_of(loss.itm_every);
        let w = self.params.weights(self.config.run.precision);
        let teacher = loss.momentum.then(|| self.params.weights_of(&self.ema.flat, self.config.run.precision));
        let queued = loss.queue_slots > 0 && progress >= loss.queue_start_progress;
        let lesson = match (&self.teacher, &self.config.distil) {
            (Some(teacher), Some(distil)) => Some(teacher.teach(distil, &inputs)?),
            _ => None,
        };
        let mut guide = Guide {
            teacher: teacher.as_ref(),
            queue: queued.then_some(&mut self.queue),
            alpha: loss.tgd_alpha_at(progress),
            lesson: lesson.as_ref(),
        };
        let objective = Objective { model: &self.model, loss };
        self.params.zero_grad();
        let part = self.config.data.micro_batch as i64;
        let (losses, forward_ms) = if part > 0 && part < inputs.size() {
            (objective.backward_cached(&w, &inputs, part, with_itm, &mut guide, seed)?, 0.0)
        } else {
            let (total, losses) = objective.forward(&w, &inputs, with_itm, &mut guide)?;
            let forward_ms = lap_ms();
            total.backward();
            (losses, forward_ms)
        };
        let backward_ms = lap_ms();
        let norm = self.adam.step(&self.params, lr);
        self.clamp_temperature();
        if norm.is_finite() {
            self.ema.update(&self.params, self.adam.updates);
        }
        Ok(StepDone { losses, norm, ms: [forward_ms, backward_ms, lap_ms()] })
    }

    fn clamp_temperature(&mut self) {
        if let Some(mut temperature) = self.params.value(TEMPERATURE_KEY) {
            let [low, high] = TEMPERATURE_BOUNDS;
            let _ = temperature.clamp_(low, high);
        }
    }

    fn log_step(&mut self, done: &StepDone, lr: f64, progress: f64, rate: f64, wait_ms: f64) -> Result<(), TrainError> {
        let temperature = self.params.value(TEMPERATURE_KEY).map_or(f64::NAN, |value| value.double_value(&[]));
        let l = done.losses;
        let row = json!({
            "step": self.step, "progress": progress, "elapsed_seconds": self.elapsed(), "loss": l.total, "gcpr": l.gcpr, "fgr": l.fgr, "mlm": l.mlm, "fgd": l.fgd, "distil": l.distil,
            "batch_accuracy": l.batch_accuracy, "lr": lr, "temperature": temperature, "grad_norm": done.norm, "pairs_per_second": rate,
            "wait_ms": wait_ms, "forward_ms": done.ms[0], "backward_ms": done.ms[1], "update_ms": done.ms[2],
        });
        self.write_metrics(&row)
    }

    fn write_metrics(&mut self, row: &serde_json::Value) -> Result<(), TrainError> {
        writeln!(self.metrics, "{row}").map_err(io(&self.config.run.out.join(METRICS_FILE)))
    }

    fn validate(&mut self, bar: &ProgressBar) -> Result<(), TrainError> {
        if self.config.eval.tasks.is_empty() {
            return Ok(());
        }
        let w = self.params.weights_of(&self.ema.flat, self.config.run.precision);
        let options = ValidateOptions { token_wise: self.config.loss.token_wise, top_k: 0 };
        self.recall = self.validator.run(&self.model, &w, options);
        for recall in &self.recall {
            let ([t1, t5, t10], [i1, i5, i10]) = (recall.text_to_image, recall.image_to_text);
            let line = format!(
                "step {} {} R@1/5/10 text-image {t1:.3} {t5:.3} {t10:.3}, image-text {i1:.3} {i5:.3} {i10:.3}",
                self.step, recall.task
            );
            if bar.is_hidden() { tracing::info!("{line}") } else { bar.println(&line) }
        }
        let row = json!({ "step": self.step, "elapsed_seconds": self.elapsed(), "recall": self.recall });
        self.write_metrics(&row)
    }

    fn save(&mut self) -> Result<(), TrainError> {
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
            queue: (self.queue.filled() > 0).then(|| self.queue.parts()),
        };
        // Before the state: whichever state is found, its position is in the file.
        self.positions.save(out, self.step).map_err(CorpusError::from)?;
        write_state(&out.join(STATE_FILE), &state)?;
        if self.config.run.keep_last > 0 {
            keep_checkpoint(out, self.step, self.config.run.keep_last).map_err(io(out))?;
        }
        if let Err(message) = draw_curves(&out.join(METRICS_FILE), &out.join(CURVES_FILE)) {
            tracing::warn!(message, "curves were not drawn");
        }
        Ok(())
    }
}

struct StepDone {
    losses: StepLosses,
    norm: f64,
    /// Forward, backward, update.
    ms: [f64; 3],
}

pub(super) fn progress_bar(steps: u64, at: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps).with_position(at);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, done: &StepDone, rate: f64, progress: f64, elapsed: f64) {
    let eta_s = if progress > 0.0 { elapsed * (1.0 - progress) / progress } else { 0.0 };
    let fgr = done.losses.fgr.map_or(String::new(), |fgr| format!(" fgr {fgr:.3}"));
    bar.set_message(format!(
        "loss {:.3} gcpr {:.3}{fgr} acc {:.2} | {rate:.0} pairs/s, ETA {}",
        done.losses.total,
        done.losses.gcpr,
        done.losses.batch_accuracy,
        indicatif::HumanDuration(std::time::Duration::from_secs_f64(eta_s.max(0.0)))
    ));
}
