//! Learning rate over the run.

/// Linear warm-up, then cosine over progress.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Peak learning rate.
    pub lr: f64,
    /// End of the cosine as a fraction of the peak.
    pub lr_end: f64,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// Steps of the run.
    pub steps: u64,
    /// Seconds of the run; 0 has no limit.
    pub max_seconds: u64,
}

impl Schedule {
    /// How far the run is, 0..1: the further of steps and seconds.
    pub fn progress(&self, step: u64, elapsed_seconds: f64) -> f64 {
        let by_step = step as f64 / self.steps.max(1) as f64;
        let by_time = if self.max_seconds == 0 { 0.0 } else { elapsed_seconds / self.max_seconds as f64 };
        by_step.max(by_time).min(1.0)
    }

    /// Learning rate of a step (from 0) at a progress.
    pub fn lr_at(&self, step: u64, progress: f64) -> f64 {
        let warm = ((step + 1) as f64 / self.warmup_steps.max(1) as f64).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.lr * warm * (self.lr_end + (1.0 - self.lr_end) * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_warms_up_and_falls_to_its_end() {
        let schedule = Schedule { lr: 1.0, lr_end: 0.1, warmup_steps: 10, steps: 1000, max_seconds: 0 };
        assert!((schedule.lr_at(0, 0.0) - 0.1).abs() < 1e-9);
        assert!((schedule.lr_at(9, 0.0) - 1.0).abs() < 1e-9);
        assert!((schedule.lr_at(1000, 1.0) - 0.1).abs() < 1e-9);
    }

    #[test]
    fn progress_follows_the_further_of_steps_and_seconds() {
        let schedule = Schedule { lr: 1.0, lr_end: 0.0, warmup_steps: 1, steps: 100, max_seconds: 50 };
        assert!((schedule.progress(10, 40.0) - 0.8).abs() < 1e-9);
        assert!((schedule.progress(90, 40.0) - 0.9).abs() < 1e-9);
        assert!((schedule.progress(10, 400.0) - 1.0).abs() < 1e-9);
    }
}
