//! Learning rate over the run, and the part of the distilled targets.

use super::config::{LossConfig, OptimConfig};
use super::config_parts::{CrossOptimConfig, ScheduleKind};
use crate::checkpoint::CrossStart;

/// The learning rate of every step of a run.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Shape.
    pub kind: ScheduleKind,
    /// Peak learning rate.
    pub lr: f64,
    /// End of the cosine as a fraction of the peak.
    pub lr_end: f64,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// Steps of the run.
    pub steps: u64,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// Seconds of the run; 0 has no limit.
    pub max_seconds: u64,
}

impl Schedule {
    /// The schedule of a configuration over data of so many steps an epoch (0: not known); `optim.epochs`, where given, sets the number of
    /// steps.
    pub fn of(o: &OptimConfig, steps_per_epoch: u64) -> Self {
        let steps_per_epoch = if o.steps_per_epoch > 0 { o.steps_per_epoch } else { steps_per_epoch };
        let steps = if o.epochs > 0 && steps_per_epoch > 0 { o.epochs * steps_per_epoch } else { o.steps };
        Self {
            kind: o.schedule,
            lr: o.lr,
            lr_end: o.lr_end,
            warmup_steps: o.warmup_steps,
            steps,
            steps_per_epoch,
            max_seconds: o.max_seconds,
        }
    }

    /// How far the run is, 0..1: the further of steps and seconds.
    pub fn progress(&self, step: u64, elapsed_seconds: f64) -> f64 {
        let by_step = step as f64 / self.steps.max(1) as f64;
        let by_time = if self.max_seconds == 0 { 0.0 } else { elapsed_seconds / self.max_seconds as f64 };
        by_step.max(by_time).min(1.0)
    }

    /// Learning rate of a step (from 0) at a progress.
    pub fn lr_at(&self, step: u64, progress: f64) -> f64 {
        match self.kind {
            ScheduleKind::Cosine => {
                let warm = ((step + 1) as f64 / self.warmup_steps.max(1) as f64).min(1.0);
                self.lr * warm * self.cosine(progress)
            }
            ScheduleKind::CosinePerEpoch { warmup_from } => {
                let epoch = step / self.steps_per_epoch.max(1);
                if epoch == 0 || step < self.warmup_steps {
                    let part = if self.warmup_steps == 0 { 1.0 } else { step as f64 / self.warmup_steps as f64 };
                    return self.lr * (warmup_from + (1.0 - warmup_from) * part).min(1.0);
                }
                let epochs = self.steps as f64 / self.steps_per_epoch.max(1) as f64;
                self.lr * self.cosine(epoch as f64 / epochs)
            }
            ScheduleKind::Triangular { up_steps, low } => {
                let up = up_steps.max(1);
                let within = step % (2 * up);
                let height = 1.0 - (within as f64 / up as f64 - 1.0).abs();
                self.lr * (low + (1.0 - low) * height)
            }
        }
    }

    /// Learning rate of the cross encoders at a step and progress, where they have one of their own; they started at `began`.
    pub fn cross_lr_at(&self, cross: &CrossOptimConfig, began: CrossStart, step: u64, progress: f64) -> f64 {
        let warm = ((step.saturating_sub(began.step) + 1) as f64 / cross.warmup_steps.max(1) as f64).min(1.0);
        let left = (1.0 - began.progress).max(f64::EPSILON);
        self.lr * cross.lr_scale * warm * self.cosine(((progress - began.progress) / left).clamp(0.0, 1.0))
    }

    fn cosine(&self, progress: f64) -> f64 {
        self.lr_end + (1.0 - self.lr_end) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
    }
}

impl LossConfig {
    /// Part of the contrastive targets that comes from the momentum towers at a progress (0..1).
    pub fn tgd_alpha_at(&self, progress: f64) -> f64 {
        let since = progress - self.tgd_start_progress;
        let ramp = if self.tgd_ramp_progress > 0.0 { since / self.tgd_ramp_progress } else { f64::from(since >= 0.0) };
        self.tgd_alpha * ramp.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distilled_targets_begin_at_their_progress_and_grow_from_there() {
        let at = |start: f64, ramp: f64, progress: f64| {
            LossConfig { tgd_alpha: 0.4, tgd_start_progress: start, tgd_ramp_progress: ramp, ..LossConfig::default() }
                .tgd_alpha_at(progress)
        };
        for (start, ramp, progress, alpha) in [
            (0.0, 0.2, 0.1, 0.2),
            (0.0, 0.2, 0.9, 0.4),
            (0.5, 0.2, 0.4, 0.0),
            (0.5, 0.2, 0.55, 0.1),
            (0.5, 0.0, 0.49, 0.0),
            (0.5, 0.0, 0.5, 0.4),
        ] {
            let found = at(start, ramp, progress);
            assert!((found - alpha).abs() < 1e-9, "{start} {ramp} {progress}: {found} is not {alpha}");
        }
    }

    fn schedule(kind: ScheduleKind, steps: u64, steps_per_epoch: u64) -> Schedule {
        Schedule { kind, lr: 1.0, lr_end: 0.1, warmup_steps: 10, steps, steps_per_epoch, max_seconds: 0 }
    }

    #[test]
    fn the_rate_warms_up_and_falls_to_its_end() {
        let schedule = schedule(ScheduleKind::Cosine, 1000, 100);
        assert!((schedule.lr_at(0, 0.0) - 0.1).abs() < 1e-9);
        assert!((schedule.lr_at(9, 0.0) - 1.0).abs() < 1e-9);
        assert!((schedule.lr_at(1000, 1.0) - 0.1).abs() < 1e-9);
    }

    #[test]
    fn progress_follows_the_further_of_steps_and_seconds() {
        let schedule = Schedule { max_seconds: 50, ..schedule(ScheduleKind::Cosine, 100, 10) };
        assert!((schedule.progress(10, 40.0) - 0.8).abs() < 1e-9);
        assert!((schedule.progress(90, 40.0) - 0.9).abs() < 1e-9);
        assert!((schedule.progress(10, 400.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn retrieval_fine_tuning_has_the_rates_of_its_recipe() {
        // 1e-6 → 1e-5 over 500 steps, then ½·1e-5·(1 + cos(π e/10)) (docs/R2D2.md §3.1); 600 steps an epoch.
        let kind = ScheduleKind::CosinePerEpoch { warmup_from: 0.1 };
        let schedule =
            Schedule { kind, lr: 1e-5, lr_end: 0.0, warmup_steps: 500, steps: 6000, steps_per_epoch: 600, max_seconds: 0 };
        let expected = [
            (0, 1e-6),
            (250, 5.5e-6),
            (500, 1e-5),
            (599, 1e-5),              // the first epoch stays with the warm-up, capped
            (600, 9.755_282_581e-6),  // ½·1e-5·(1 + cos 18°)
            (1199, 9.755_282_581e-6), // constant inside an epoch
            (3000, 5e-6),
            (5999, 2.447_174_185e-7), // ½·1e-5·(1 + cos 162°)
        ];
        for (step, lr) in expected {
            let found = schedule.lr_at(step, 0.0);
            assert!((found - lr).abs() < 1e-14, "step {step}: {found:e} is not {lr:e}");
        }
        // A warm-up longer than an epoch overrides the cosine of the second.
        let short = Schedule { steps_per_epoch: 100, ..schedule };
        assert!((short.lr_at(250, 0.0) - 5.5e-6).abs() < 1e-14);
    }

    #[test]
    fn matching_fine_tuning_has_the_rates_of_its_recipe() {
        // 1.5e-7 → 3e-6 in 3,125 steps, back in as many, repeating (docs/R2D2.md §3.2).
        let kind = ScheduleKind::Triangular { up_steps: 3125, low: 0.05 };
        let schedule = Schedule { kind, lr: 3e-6, ..schedule(kind, 20_000, 625) };
        let expected = [
            (0, 1.5e-7),
            (625, 7.2e-7), // a fifth of the way: 1.5e-7 + 2.85e-6 / 5
            (3125, 3e-6),
            (5625, 7.2e-7),
            (6250, 1.5e-7),
            (9375, 3e-6),
        ];
        for (step, lr) in expected {
            let found = schedule.lr_at(step, 0.0);
            assert!((found - lr).abs() < 1e-15, "step {step}: {found:e} is not {lr:e}");
        }
    }

    #[test]
    fn the_cross_encoders_warm_up_where_they_start_and_fall_over_what_is_left() {
        let schedule = Schedule { lr: 0.8, ..schedule(ScheduleKind::Cosine, 100, 10) };
        let cross = CrossOptimConfig { lr_scale: 0.25, warmup_steps: 10 };
        let at = |step: u64| schedule.cross_lr_at(&cross, CrossStart { step: 50, progress: 0.5 }, step, step as f64 / 100.0);
        assert!((at(50) - 0.02).abs() < 1e-9, "a tenth of a quarter of .8: {}", at(50));
        // Half of what is left: the cosine's middle.
        let end = schedule.lr_end;
        assert!((at(75) - 0.2 * (end + (1.0 - end) / 2.0)).abs() < 1e-9 && (at(100) - 0.2 * end).abs() < 1e-9);
    }

    #[test]
    fn epochs_set_the_steps() {
        let optim = OptimConfig { epochs: 3, steps: 7, ..OptimConfig::default() };
        assert_eq!(Schedule::of(&optim, 50).steps, 150);
        assert_eq!(Schedule::of(&OptimConfig { epochs: 0, ..optim }, 50).steps, 7);
    }
}
