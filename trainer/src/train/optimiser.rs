//! AdamW and the moving average over flat buffers.

use tch::{Device, Kind, Tensor};

use crate::nn::Params;

/// Elements updated at a time: the four buffers of one chunk stay in the cache across the update's passes.
const CHUNK_ELEMENTS: i64 = 1 << 18;

/// Constants of AdamW.
#[derive(Debug, Clone, Copy)]
pub struct AdamWSettings {
    /// Decoupled decay, applied to matrices, and to vectors where `decay_vectors`.
    pub weight_decay: f64,
    /// Decay the vectors too.
    pub decay_vectors: bool,
    /// Moment decays.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Largest gradient norm; 0 switches clipping off.
    pub clip_norm: f64,
}

/// AdamW (Loshchilov and Hutter) with bias correction, as PyTorch's.
pub struct AdamW {
    settings: AdamWSettings,
    /// First moment, flat.
    pub m: Tensor,
    /// Second moment, flat.
    pub v: Tensor,
    /// Updates done.
    pub updates: i64,
}

impl AdamW {
    /// Zero moments for `numel` parameters.
    pub fn new(numel: i64, settings: AdamWSettings) -> Self {
        let zeros = || Tensor::zeros([numel], (Kind::Float, Device::Cpu));
        Self { settings, m: zeros(), v: zeros(), updates: 0 }
    }

    /// One update from the flat gradient; returns the gradient's norm before clipping. A gradient that is not finite changes nothing.
    pub fn step(&mut self, params: &Params, lr: f64) -> f64 {
        let s = self.settings;
        tch::no_grad(|| {
            let norm = params.grad().norm().double_value(&[]);
            if !norm.is_finite() {
                return norm;
            }
            self.updates += 1;
            let scale = if s.clip_norm > 0.0 { (s.clip_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
            let step_size = lr / (1.0 - s.betas[0].powi(self.updates as i32));
            let root_correction = (1.0 - s.betas[1].powi(self.updates as i32)).sqrt();
            let decayed = if s.decay_vectors { params.numel() } else { params.matrix_numel() };
            for start in (0..params.numel()).step_by(CHUNK_ELEMENTS as usize) {
                // A chunk never straddles the border between decayed and not decayed elements.
                let mut from = start;
                let end = (start + CHUNK_ELEMENTS).min(params.numel());
                while from < end {
                    let to = if from < decayed { end.min(decayed) } else { end };
                    let decay = if from < decayed { s.weight_decay } else { 0.0 };
                    self.update(params, from, to - from, [scale, lr * decay, step_size, root_correction]);
                    from = to;
                }
            }
            norm
        })
    }

    fn update(&mut self, params: &Params, from: i64, length: i64, [scale, decay, step_size, root_correction]: [f64; 4]) {
        let [beta1, beta2] = self.settings.betas;
        let mut p = params.flat().narrow(0, from, length);
        let g = params.grad().narrow(0, from, length) * scale;
        let mut m = self.m.narrow(0, from, length);
        let mut v = self.v.narrow(0, from, length);
        let _ = m.lerp_(&g, 1.0 - beta1);
        let _ = v.lerp_(&g.square(), 1.0 - beta2);
        if decay > 0.0 {
            let _ = p.g_mul_scalar_(1.0 - decay);
        }
        let mut denominator = v.sqrt();
        let _ = denominator.g_div_scalar_(root_correction).g_add_scalar_(self.settings.eps);
        let mut update = m.g_div(&denominator);
        let _ = p.g_sub_(&update.g_mul_scalar_(step_size));
    }
}

/// Moving average of the weights.
pub struct Ema {
    /// Flat average.
    pub flat: Tensor,
    decay: f64,
}

impl Ema {
    /// Starts at the current weights.
    pub fn new(params: &Params, decay: f64) -> Self {
        Self { flat: params.flat().copy(), decay }
    }

    /// Moves towards the weights; the decay grows from 0 in the first steps, so that the start is forgotten.
    pub fn update(&mut self, params: &Params, updates: i64) {
        let decay = self.decay.min((1.0 + updates as f64) / (10.0 + updates as f64));
        tch::no_grad(|| {
            let _ = self.flat.lerp_(params.flat(), 1.0 - decay);
        });
    }
}
