//! Time of one training step on made-up data.

use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tch::{Device, Kind, Tensor};

use super::config::TrainConfig;
use super::error::TrainError;
use super::objective::{Guide, Objective};
use super::optimiser::{AdamW, Rates};
use crate::corpus::Batch;
use crate::inputs::Inputs;
use crate::model::{ModelConfig, R2d2};
use crate::nn::synchronise;

/// Steps before the clock starts.
const WARM_STEPS: usize = 3;
/// Side of the square matrices whose product measures what the machine can do.
const PEAK_SIDE: i64 = 1536;
const PEAK_ROUNDS: usize = 5;
/// Words of the vocabulary that texts are drawn from.
const IDS: std::ops::Range<i64> = 1_000..8_000;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepTimes {
    /// Median of forward, backward and update together, ms.
    pub median_ms: f64,
    /// Fastest, ms.
    pub min_ms: f64,
    /// Floating-point operations of one step: 6 a weight and token in the towers and cross encoders; attention's products are left out.
    pub flops: f64,
    /// Operations a second of a large matrix product on this machine with these threads.
    pub peak_flops: f64,
}

impl StepTimes {
    /// Model FLOPs utilisation: part of the machine's matrix rate that the step's products make up, 0..1.
    pub fn utilisation(&self) -> f64 {
        self.flops / (self.median_ms / 1000.0) / self.peak_flops
    }
}

/// Times `steps` steps of GCPR and FGR with texts of `length` tokens, whole pictures and AdamW, as `config` sizes them.
///
/// # Errors
/// Sizes that are no model, or `optim.freeze` names nothing of it.
pub fn bench_steps(config: &TrainConfig, steps: usize, length: usize) -> Result<StepTimes, TrainError> {
    let (model, mut params) = R2d2::new(&config.model)?;
    params.initialise(1);
    let device = config.run.device.open()?;
    params.to_device(device);
    let mut adam = AdamW::of(&mut params, &config.optim)?;
    let mut rng = StdRng::seed_from_u64(1);
    let mut times = Vec::with_capacity(steps);
    for step in 0..steps + WARM_STEPS {
        let inputs = Inputs::new(&drawn_batch(config, step as u64, length, &mut rng), config.model.vision.image, device);
        synchronise(device);
        let began = Instant::now();
        let weights = params.weights(config.run.precision);
        let objective = Objective { model: &model, loss: &config.loss };
        let (total, _) = objective.forward(&weights, &inputs, true, &mut Guide::default())?;
        params.zero_grad();
        total.backward();
        adam.step(&params, Rates::even(1e-4));
        synchronise(device);
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    let mut times = times.split_off(WARM_STEPS);
    times.sort_by(f64::total_cmp);
    let pairs = config.loss.fgr_anchors(config.data.batch as i64) * (1 + 2 * config.loss.fgr_negatives);
    Ok(StepTimes {
        median_ms: times.get(times.len() / 2).copied().unwrap_or(f64::NAN),
        min_ms: times.first().copied().unwrap_or(f64::NAN),
        flops: step_flops(&config.model, config.data.batch as i64, length as i64, pairs),
        peak_flops: peak_flops(device),
    })
}

fn drawn_batch(config: &TrainConfig, step: u64, length: usize, rng: &mut StdRng) -> Batch {
    let (size, side) = (config.data.batch, config.model.vision.image as usize);
    Batch {
        step,
        size,
        pixels: (0..size * 3 * side * side).map(|_| rng.random()).collect(),
        ids: (0..size * length).map(|_| rng.random_range(IDS)).collect(),
        mask: vec![1; size * length],
        length,
        concepts: (0..size as i64).collect(),
        keep: None,
        masked: None,
        position: None,
    }
}

fn step_flops(m: &ModelConfig, batch: i64, length: i64, pairs: i64) -> f64 {
    let block = |width: i64, mlp: i64| 4 * width * width + 2 * width * mlp;
    let (v, t, c) = (&m.vision, &m.text, &m.cross);
    let vision = v.layers * block(v.width, v.mlp) * v.tokens() + v.patches() * 3 * v.patch * v.patch * v.width;
    let text = t.layers * block(t.width, t.mlp) * length;
    // Self-attention and MLP on the queries, keys and values of the other side once more.
    let joint = |queries: i64, memory: i64, memory_width: i64| {
        c.layers * (queries * (block(t.width, c.mlp) + 2 * t.width * t.width) + memory * 2 * memory_width * t.width)
    };
    let cross = joint(length, v.tokens(), v.width) + joint(v.tokens(), length, t.width);
    6.0 * (batch * (vision + text) + pairs * cross) as f64
}

fn peak_flops(device: Device) -> f64 {
    let a = Tensor::randn([PEAK_SIDE, PEAK_SIDE], (Kind::Float, device));
    synchronise(device);
    let mut best = f64::MAX;
    for _ in 0..PEAK_ROUNDS {
        let began = Instant::now();
        let _ = a.matmul(&a);
        synchronise(device);
        best = best.min(began.elapsed().as_secs_f64());
    }
    2.0 * (PEAK_SIDE as f64).powi(3) / best
}
