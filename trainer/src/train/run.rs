//! The loop: batches in, updates, metrics, validations and checkpoints out.

use std::time::Instant;

use indicatif::ProgressBar;
use serde_json::json;
use tch::Tensor;

use super::config::TrainConfig;
use super::error::TrainError;
use super::learner::{Learner, Outcome, SKIPPED_STEPS_MAX, progress_bar};
use super::matching::train_matching;
use super::objective::{Guide, Objective, StepLosses};
use super::optimiser::Rates;
use super::schedule::Schedule;
use super::source::batch_source;
use super::validate::{Recall, ValidateOptions, Validator};
use crate::checkpoint::keep_checkpoint;
use crate::corpus::{Batch, CorpusError, Loader, open_tokenizer};
use crate::distil::{Student, Teacher};
use crate::files::file_error;
use crate::inputs::Inputs;
use crate::loss::FeatureQueue;
use crate::model::{R2d2, TEMPERATURE_BOUNDS, TEMPERATURE_KEY};
use crate::nn::{Context, Device, Precision, Weights};
use crate::stop::StopFlag;
use crate::zero::Positions;

/// Weight of the newest step in the displayed rate.
const RATE_SMOOTHING: f64 = 0.1;

struct Session<'a> {
    learner: Learner<'a>,
    queue: FeatureQueue,
    teacher: Option<Teacher>,
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
    std::fs::create_dir_all(out).map_err(file_error(out))?;
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
    source.begin(session.learner.step)?;
    let loader = Loader::start(source, session.learner.step, config.run.data_threads).map_err(file_error(out))?;
    session.run(&loader, &schedule, stop)
}

/// States of a batch's pictures, [B, L, Dv], without gradient and with nothing dropped but patches; of `part` pictures at a time, 0 for all.
fn image_states(model: &R2d2, w: &Weights, inputs: &Inputs, part: i64) -> Tensor {
    let size = inputs.size();
    let part = if part > 0 { part.min(size) } else { size };
    let states = (0..size).step_by(part as usize).map(|from| {
        let own = inputs.narrow(from, part.min(size - from));
        tch::no_grad(|| model.encode_image(w, &own.pixels, own.keep.as_ref(), Context::EVAL).states)
    });
    Tensor::cat(&states.collect::<Vec<_>>(), 0)
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

impl<'a> Session<'a> {
    fn open(config: &'a TrainConfig, resume: bool) -> Result<Self, TrainError> {
        let (learner, stored) = Learner::open(config, resume)?;
        let device = learner.params.device();
        let mut queue = FeatureQueue::new(config.loss.queue_slots, config.model.embed, config.loss.queue_decay, device);
        if let Some(parts) = stored {
            queue.restore(parts);
        }
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
        Ok(Self { learner, queue, teacher, validator, recall: Vec::new(), positions: Positions::default() })
    }

    fn run(&mut self, loader: &Loader, schedule: &Schedule, stop: &StopFlag) -> Result<Outcome, TrainError> {
        let config = self.learner.config;
        let bar = progress_bar(schedule.steps, self.learner.step);
        let (mut losses, mut skipped, mut rate) = (Vec::new(), 0u32, 0.0f64);
        let mut unlogged = None;
        let mut saved = Instant::now();
        let mut finished = false;
        let part_end = self.learner.part_end();
        while !stop.is_set() && self.learner.step < part_end {
            let progress = schedule.progress(self.learner.step, self.learner.elapsed());
            if progress >= 1.0 {
                finished = true;
                break;
            }
            let waited = Instant::now();
            let batch = loader.next_batch().ok_or(TrainError::LoaderGone)??;
            self.positions.note(batch.position.clone());
            let wait_ms = waited.elapsed().as_secs_f64() * 1000.0;
            let lr = schedule.lr_at(self.learner.step, progress);
            let mut done = self.train_step(&batch, schedule, lr, progress)?;
            losses.push(done.losses.total);
            done.losses = done.losses.with_terms_of(unlogged);
            unlogged = Some(done.losses);
            skipped = if done.norm.is_finite() { 0 } else { skipped + 1 };
            if skipped >= SKIPPED_STEPS_MAX {
                return Err(TrainError::Diverged { steps: skipped, step: self.learner.step });
            }
            self.learner.step += 1;
            let now = batch.size as f64 / waited.elapsed().as_secs_f64();
            rate = if rate == 0.0 { now } else { rate + RATE_SMOOTHING * (now - rate) };
            show(&bar, &done, rate, progress, self.learner.elapsed());
            bar.set_position(self.learner.step);
            if self.learner.step.is_multiple_of(config.run.log_every_steps.max(1)) {
                self.log_step(&done, lr, progress, rate, wait_ms)?;
                unlogged = None;
            }
            if config.eval.every_steps > 0 && self.learner.step.is_multiple_of(config.eval.every_steps) {
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
        let (steps, elapsed_seconds) = (self.learner.step, self.learner.elapsed());
        Ok(Outcome { steps, elapsed_seconds, finished, losses, recall: std::mem::take(&mut self.recall) })
    }

    fn train_step(&mut self, batch: &Batch, schedule: &Schedule, lr: f64, progress: f64) -> Result<StepDone, TrainError> {
        let loss = &self.learner.config.loss;
        // Dropout and negatives.
        let seed = self.learner.seed_step();
        let mut lap = Instant::now();
        let mut lap_ms = || {
            let ms = lap.elapsed().as_secs_f64() * 1000.0;
            lap = Instant::now();
            ms
        };
        let inputs = Inputs::new(batch, self.learner.config.model.vision.image, self.learner.params.device());
        let with_itm = loss.itm_every > 0
            && self.learner.step >= loss.itm_start_step
            && progress >= loss.itm_start_progress
            && self.learner.step.is_multiple_of(loss.itm_every);
        let w = self.learner.params.weights(self.learner.config.run.precision);
        if with_itm {
            let part = self.learner.config.data.micro_batch;
            self.learner.enter_cross(progress, |model| image_states(model, &w, &inputs, part as i64));
        }
        let teacher =
            loss.momentum.then(|| self.learner.params.weights_of(&self.learner.ema.flat, self.learner.config.run.precision));
        let queued = loss.queue_slots > 0 && progress >= loss.queue_start_progress;
        let lesson = match (&self.teacher, &self.learner.config.distil) {
            (Some(teacher), Some(distil)) => Some(teacher.teach(distil, &inputs)?),
            _ => None,
        };
        let mut guide = Guide {
            teacher: teacher.as_ref(),
            queue: queued.then_some(&mut self.queue),
            alpha: loss.tgd_alpha_at(progress),
            lesson: lesson.as_ref(),
        };
        let objective = Objective { model: &self.learner.model, loss };
        self.learner.params.zero_grad();
        let part = self.learner.config.data.micro_batch as i64;
        let (losses, forward_ms) = if part > 0 && part < inputs.size() {
            (objective.backward_cached(&w, &inputs, part, with_itm, &mut guide, seed)?, 0.0)
        } else {
            let (total, losses) = objective.forward(&w, &inputs, with_itm, &mut guide)?;
            let forward_ms = lap_ms();
            total.backward();
            (losses, forward_ms)
        };
        let backward_ms = lap_ms();
        let rates = self.learner.rates(schedule, lr, progress);
        let norm = self.learner.adam.step(&self.learner.params, rates);
        self.clamp_temperature();
        if norm.is_finite() {
            self.learner.ema.update(&self.learner.params, self.learner.adam.updates);
        }
        Ok(StepDone { losses, norm, rates, ms: [forward_ms, backward_ms, lap_ms()] })
    }

    fn clamp_temperature(&mut self) {
        if let Some(mut temperature) = self.learner.params.value(TEMPERATURE_KEY) {
            let [low, high] = TEMPERATURE_BOUNDS;
            let _ = temperature.clamp_(low, high);
        }
    }

    fn log_step(&mut self, done: &StepDone, lr: f64, progress: f64, rate: f64, wait_ms: f64) -> Result<(), TrainError> {
        let temperature = self.learner.params.value(TEMPERATURE_KEY).map_or(f64::NAN, |value| value.double_value(&[]));
        let l = done.losses;
        let rates = done.rates;
        let mut row = json!({
            "step": self.learner.step, "progress": progress, "elapsed_seconds": self.learner.elapsed(), "loss": l.total, "gcpr": l.gcpr,
            "fgr": l.fgr, "mlm": l.mlm, "fgd": l.fgd, "distil": l.distil, "batch_accuracy": l.batch_accuracy, "lr": lr,
            "cross_lr": rates.cross, "temperature": temperature, "grad_norm": done.norm, "pairs_per_second": rate,
            "wait_ms": wait_ms, "forward_ms": done.ms[0], "backward_ms": done.ms[1], "update_ms": done.ms[2],
        });
        if let (Some(heads), Some(row)) = (l.heads, row.as_object_mut()) {
            for (name, head) in ["itm_text", "itm_image"].into_iter().zip(heads) {
                let [of_images, of_texts] = head.auc;
                row.insert(format!("fgr_{}", &name[4..]), head.loss.into());
                row.insert(format!("{name}_accuracy"), head.accuracy.into());
                row.insert(format!("{name}_auc_text_to_image"), of_images.into());
                row.insert(format!("{name}_auc_image_to_text"), of_texts.into());
            }
        }
        self.learner.write_metrics(&row)
    }

    fn validate(&mut self, bar: &ProgressBar) -> Result<(), TrainError> {
        if self.learner.config.eval.tasks.is_empty() {
            return Ok(());
        }
        let w = self.learner.params.weights_of(&self.learner.ema.flat, self.learner.config.run.precision);
        let options = ValidateOptions { token_wise: self.learner.config.loss.token_wise, top_k: 0 };
        self.recall = self.validator.run(&self.learner.model, &w, options);
        for recall in &self.recall {
            let ([t1, t5, t10], [i1, i5, i10]) = (recall.text_to_image, recall.image_to_text);
            let line = format!(
                "step {} {} R@1/5/10 text-image {t1:.3} {t5:.3} {t10:.3}, image-text {i1:.3} {i5:.3} {i10:.3}",
                self.learner.step, recall.task
            );
            if bar.is_hidden() { tracing::info!("{line}") } else { bar.println(&line) }
        }
        let row = json!({ "step": self.learner.step, "elapsed_seconds": self.learner.elapsed(), "recall": self.recall });
        self.learner.write_metrics(&row)
    }

    fn save(&self) -> Result<(), TrainError> {
        let (run, step) = (&self.learner.config.run, self.learner.step);
        // Before the state: whichever state is found, its position is in the file.
        self.positions.save(&run.out, step).map_err(CorpusError::from)?;
        self.learner.save((self.queue.filled() > 0).then(|| self.queue.parts()))?;
        if run.keep_last > 0 {
            keep_checkpoint(&run.out, step, run.keep_last).map_err(file_error(&run.out))?;
        }
        self.learner.draw();
        Ok(())
    }
}

struct StepDone {
    losses: StepLosses,
    norm: f64,
    rates: Rates,
    /// Forward, backward, update.
    ms: [f64; 3],
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
