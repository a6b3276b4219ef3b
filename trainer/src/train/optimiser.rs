//! AdamW and the moving average over flat buffers.

use tch::{Device, Kind, Tensor};

use super::muon::{self, MuonSettings};
use crate::nn::{Named, Params};

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
    /// The matrices that Muon updates instead, whose momentum lies in `m`.
    muon: Option<(MuonSettings, Vec<Named>)>,
}

impl AdamW {
    /// Zero moments for `numel` parameters.
    pub fn new(numel: i64, settings: AdamWSettings) -> Self {
        let zeros = || Tensor::zeros([numel], (Kind::Float, Device::Cpu));
        Self { settings, m: zeros(), v: zeros(), updates: 0, muon: None }
    }

    /// Hands the matrices inside the blocks to Muon.
    #[must_use]
    pub fn with_muon(mut self, params: &Params, settings: MuonSettings) -> Self {
        self.muon = Some((settings, params.named().iter().filter(|named| muon::is_hidden_matrix(named)).cloned().collect()));
        self
    }

    /// Ranges of the flat buffer that AdamW updates, and whether they decay.
    fn ranges(&self, numel: i64, decayed: i64) -> Vec<(i64, i64, bool)> {
        let mut taken: Vec<(i64, i64)> =
            self.muon.iter().flat_map(|(_, named)| named).map(|named| (named.offset, named.offset + named.numel())).collect();
        taken.sort_unstable();
        taken.push((numel, numel));
        let (mut ranges, mut from) = (Vec::new(), 0);
        for (start, end) in taken {
            // A range never straddles the border between decayed and not decayed elements.
            for (low, high, decay) in [(from, start.min(decayed), true), (from.max(decayed), start, false)] {
                if low < high {
                    ranges.push((low, high, decay));
                }
            }
            from = from.max(end);
        }
        ranges
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
            for (from, to, decays) in self.ranges(params.numel(), decayed) {
                let decay = if decays { s.weight_decay } else { 0.0 };
                for start in (from..to).step_by(CHUNK_ELEMENTS as usize) {
                    let length = CHUNK_ELEMENTS.min(to - start);
                    self.update(params, start, length, [scale, lr * decay, step_size, root_correction]);
                }
            }
            if let Some((settings, matrices)) = &self.muon {
                muon::update(params, matrices, &self.m, lr, settings);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Builder, Init};

    fn params() -> Params {
        let mut builder = Builder::new();
        builder.matrix("text_encoder.embeddings.word_embeddings.weight".into(), &[5, 4], Init::Constant(1.0));
        builder.matrix("text_encoder.encoder.layer.0.output.dense.weight".into(), &[4, 6], Init::Constant(1.0));
        builder.matrix("text_proj.weight".into(), &[3, 4], Init::Constant(1.0));
        builder.vector("text_proj.bias".into(), &[3], Init::Constant(1.0));
        let mut params = Params::new(builder.layout());
        params.initialise(1);
        params
    }

    const SETTINGS: AdamWSettings =
        AdamWSettings { weight_decay: 0.1, decay_vectors: false, betas: [0.9, 0.99], eps: 1e-8, clip_norm: 0.0 };

    #[test]
    fn ranges_cover_what_muon_leaves_and_never_straddle_the_decay_border() {
        let params = params();
        let plain = AdamW::new(params.numel(), SETTINGS);
        assert_eq!(plain.ranges(params.numel(), params.matrix_numel()), [(0, 56, true), (56, 59, false)]);
        let muon = MuonSettings { lr_scale: 20.0, momentum: 0.95, weight_decay: 0.0 };
        let mixed = AdamW::new(params.numel(), SETTINGS).with_muon(&params, muon);
        assert_eq!(mixed.ranges(params.numel(), params.matrix_numel()), [(0, 20, true), (44, 56, true), (56, 59, false)]);
    }

    #[test]
    fn the_first_adamw_step_moves_by_the_rate_after_decay() {
        let params = params();
        tch::no_grad(|| drop(params.grad().shallow_clone().fill_(2.0)));
        AdamW::new(params.numel(), SETTINGS).step(&params, 0.01);
        let value = |name: &str| params.value(name).map_or(f64::NAN, |value| value.min().double_value(&[]));
        assert!((value("text_proj.weight") - (1.0 - 0.01 * 0.1 - 0.01)).abs() < 1e-6);
        assert!((value("text_proj.bias") - (1.0 - 0.01)).abs() < 1e-6);
    }
}
