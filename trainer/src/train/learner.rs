//! What every kind of training has: a model that learns, the state that a run is resumed from, and its metrics.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use tch::Tensor;

use super::config::TrainConfig;
use super::curves::draw_curves;
use super::error::TrainError;
use super::optimiser::{AdamW, Ema, Rates};
use super::schedule::Schedule;
use super::validate::Recall;
use crate::checkpoint::{
    CrossStart, METRICS_FILE, MODEL_FILE, Progress, STATE_FILE, TrainingState, load_model, read_state, save_model, write_state,
};
use crate::files::file_error;
use crate::model::{R2d2, StateScale, mimetic_vision};
use crate::nn::Params;

/// File name of the curves inside a run's folder.
const CURVES_FILE: &str = "curves.svg";
/// Updates in a row that may be skipped for a gradient that is not finite, before the run gives up.
pub(super) const SKIPPED_STEPS_MAX: u32 = 20;

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

/// Images, texts, concepts and weights of the feature queue, as a state holds them.
pub(super) type QueueParts = [Tensor; 4];

/// A model that learns, with its optimiser and its place in the run.
pub(super) struct Learner<'a> {
    pub(super) config: &'a TrainConfig,
    pub(super) model: R2d2,
    pub(super) params: Params,
    pub(super) adam: AdamW,
    pub(super) ema: Ema,
    /// Steps done over all parts of the run.
    pub(super) step: u64,
    /// Where the cross encoders started.
    cross_start: Option<CrossStart>,
    elapsed_before: f64,
    started: Instant,
    metrics: File,
}

impl<'a> Learner<'a> {
    /// A new model of the configuration, or the one that `run.out` goes on with, and the feature queue that was stored with it.
    ///
    /// # Errors
    /// Sizes that are no model, a device that is not there, or a checkpoint or metrics that cannot be used.
    pub(super) fn open(config: &'a TrainConfig, resume: bool) -> Result<(Self, Option<QueueParts>), TrainError> {
        let (mut model, mut params) = initial(config)?;
        let mut adam = AdamW::of(&mut params, &config.optim)?;
        let mut ema = Ema::new(&params, config.optim.ema);
        let (mut step, mut elapsed_before, mut queue, mut cross_start) = (0, 0.0, None, None);
        if resume {
            let state = read_state(&config.run.out.join(STATE_FILE), params.numel())?;
            let (progress, device) = (state.progress, params.device());
            if progress.seed != config.run.seed {
                let path = config.run.out.clone();
                return Err(TrainError::Seed { path, found: progress.seed, expected: config.run.seed });
            }
            tch::no_grad(|| params.flat().shallow_clone().copy_(&state.params));
            ema.flat = state.ema.to_device(device);
            (adam.m, adam.v, adam.updates) = (state.m.to_device(device), state.v.to_device(device), progress.updates);
            (step, elapsed_before, queue) = (progress.step, progress.elapsed_seconds, state.queue);
            cross_start = progress.cross_start;
            let scale = state.image_scale.map(|parts| StateScale::from_parts(parts.map(|part| part.to_device(device))));
            model.set_image_scale(scale);
        }
        let path = config.run.out.join(METRICS_FILE);
        let mut options = OpenOptions::new();
        let metrics = options.create(true).append(resume).write(true).truncate(!resume).open(&path).map_err(file_error(&path))?;
        let started = Instant::now();
        Ok((Self { config, model, params, adam, ema, step, cross_start, elapsed_before, started, metrics }, queue))
    }

    /// Seconds trained over all parts of the run.
    pub(super) fn elapsed(&self) -> f64 {
        self.elapsed_before + self.started.elapsed().as_secs_f64()
    }

    /// Notes a step with the cross encoders, at a progress (0..1). The first one of a model that starts from random weights fixes how image
    /// states are standardised, by those of its batch, which `states` gives.
    pub(super) fn enter_cross(&mut self, progress: f64, states: impl FnOnce(&R2d2) -> Tensor) {
        if self.cross_start.is_some() {
            return;
        }
        self.cross_start = Some(CrossStart { step: self.step, progress });
        if self.config.loss.itm_standardise && self.config.run.init.is_none() {
            let scale = StateScale::of(&states(&self.model));
            self.model.set_image_scale(Some(scale));
        }
    }

    /// The rates of a step whose towers learn at `lr`.
    pub(super) fn rates(&self, schedule: &Schedule, lr: f64, progress: f64) -> Rates {
        match (&self.config.optim.cross, self.cross_start) {
            (Some(cross), Some(began)) => Rates { towers: lr, cross: schedule.cross_lr_at(cross, began, self.step, progress) },
            (Some(_), None) => Rates { towers: lr, cross: 0.0 },
            (None, _) => Rates::even(lr),
        }
    }

    /// The step before which this part of the run ends, whatever the schedule says.
    pub(super) fn part_end(&self) -> u64 {
        match self.config.run.part_steps {
            0 => u64::MAX,
            steps => self.step + steps,
        }
    }

    /// Seeds LibTorch for this step: what is drawn follows from the run's seed and the step, so a resumed run draws the same.
    pub(super) fn seed_step(&self) -> i64 {
        let seed = self.config.run.seed.wrapping_mul(0x9E37_79B9).wrapping_add(self.step) as i64;
        tch::manual_seed(seed);
        seed
    }

    /// Appends a row to the metrics.
    pub(super) fn write_metrics(&mut self, row: &serde_json::Value) -> Result<(), TrainError> {
        Ok(writeln!(self.metrics, "{row}").map_err(file_error(self.config.run.out.join(METRICS_FILE)))?)
    }

    /// Draws the curves of the metrics so far; where that fails, the run goes on without.
    pub(super) fn draw(&self) {
        let out = &self.config.run.out;
        if let Err(message) = draw_curves(&out.join(METRICS_FILE), &out.join(CURVES_FILE)) {
            tracing::warn!(message, "curves were not drawn");
        }
    }

    /// Writes the model and the state that this step is resumed from.
    pub(super) fn save(&self, queue: Option<QueueParts>) -> Result<(), TrainError> {
        let out = &self.config.run.out;
        let scale = self.model.image_scale();
        let folded = scale.map(|scale| scale.fold(&self.params, &self.ema.flat));
        save_model(&out.join(MODEL_FILE), &self.config.model, &self.params, folded.as_ref().unwrap_or(&self.ema.flat))?;
        let progress = Progress {
            step: self.step,
            updates: self.adam.updates,
            seed: self.config.run.seed,
            elapsed_seconds: self.elapsed(),
            cross_start: self.cross_start,
        };
        let state = TrainingState {
            progress,
            params: self.params.flat().shallow_clone(),
            ema: self.ema.flat.shallow_clone(),
            m: self.adam.m.shallow_clone(),
            v: self.adam.v.shallow_clone(),
            queue,
            image_scale: scale.map(StateScale::parts),
        };
        Ok(write_state(&out.join(STATE_FILE), &state)?)
    }
}

/// The model as a run begins it, on its device. Values are drawn on the processor, so that a seed starts the same model on every device.
fn initial(config: &TrainConfig) -> Result<(R2d2, Params), TrainError> {
    let (model, mut params) = R2d2::new(&config.model)?;
    params.initialise(config.run.seed as i64);
    if config.run.mimetic && config.matching.is_none() {
        mimetic_vision(&mut params, &config.model);
    }
    if let Some(path) = &config.run.init {
        let loaded = load_model(path)?;
        for named in loaded.params.named() {
            params.copy_named(&named.name, &loaded.params.view(loaded.params.flat(), named));
        }
    }
    params.to_device(config.run.device.open()?);
    Ok((model, params))
}

/// A bar over the steps of a run.
pub(super) fn progress_bar(steps: u64, at: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps).with_position(at);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar
}
