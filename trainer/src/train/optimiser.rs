//! AdamW and the moving average over flat buffers.

use std::collections::HashSet;

use tch::{Device, Kind, Tensor};

use super::config::OptimConfig;
use super::error::TrainError;
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
    /// What AdamW updates.
    segments: Vec<Segment>,
    /// The matrices that Muon updates instead, whose momentum lies in `m`, by group.
    muon: Vec<(Group, MuonSettings, Vec<Named>)>,
}

/// Parameters that have a learning rate of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Both towers and their projections, and everything that is in no other group.
    Towers,
    /// Both cross encoders with their heads, where `optim.cross` is given.
    Cross,
}

impl Group {
    fn of(named: &Named) -> Self {
        let cross = ["text_joint_layer.", "img_joint_layer.", "img_joint_proj.", "itm_head.", "itm_head_i.", "cls."];
        if cross.iter().any(|prefix| named.name.starts_with(prefix)) { Self::Cross } else { Self::Towers }
    }
}

/// The learning rate of each group in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Of [`Group::Towers`].
    pub towers: f64,
    /// Of [`Group::Cross`].
    pub cross: f64,
}

impl Rates {
    /// One rate for all.
    pub const fn even(rate: f64) -> Self {
        Self { towers: rate, cross: rate }
    }

    const fn of(self, group: Group) -> f64 {
        match group {
            Group::Towers => self.towers,
            Group::Cross => self.cross,
        }
    }
}

/// A range of the flat buffer that is updated in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    from: i64,
    to: i64,
    decays: bool,
    group: Group,
}

/// Ranges that learn, in order, neighbours of one kind joined. `frozen` are the names that do not, `no_decay` parts of names that are
/// not decayed. `muon` leaves the matrices inside the blocks out.
fn segments(
    params: &Params,
    settings: &AdamWSettings,
    frozen: &HashSet<String>,
    no_decay: &[String],
    muon: bool,
) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let own = |named: &&Named| !(frozen.contains(&named.name) || muon && muon::is_hidden_matrix(named));
    for named in params.named().iter().filter(own) {
        let (from, to) = (named.offset, named.offset + named.numel());
        let by_kind = from < params.matrix_numel() || settings.decay_vectors;
        let decays = by_kind && !no_decay.iter().any(|part| named.name.contains(part.as_str()));
        let group = Group::of(named);
        match segments.last_mut() {
            Some(last) if last.to == from && last.decays == decays && last.group == group => last.to = to,
            _ => segments.push(Segment { from, to, decays, group }),
        }
    }
    segments
}

impl AdamW {
    /// Zero moments for `numel` parameters on a device.
    fn new(numel: i64, settings: AdamWSettings, device: Device) -> Self {
        let zeros = || Tensor::zeros([numel], (Kind::Float, device));
        Self { settings, m: zeros(), v: zeros(), updates: 0, segments: Vec::new(), muon: Vec::new() }
    }

    /// The optimiser of a configuration. What `optim.freeze` names gets no gradient from now on and never changes.
    ///
    /// # Errors
    /// `optim.freeze` names nothing of the model.
    pub fn of(params: &mut Params, o: &OptimConfig) -> Result<Self, TrainError> {
        let settings = AdamWSettings {
            weight_decay: o.weight_decay,
            decay_vectors: o.decay_vectors,
            betas: o.betas,
            eps: o.eps,
            clip_norm: o.clip_norm,
        };
        if let Some(prefix) =
            o.freeze.iter().find(|prefix| !params.named().iter().any(|named| named.name.starts_with(prefix.as_str())))
        {
            return Err(TrainError::Freeze { prefix: prefix.clone() });
        }
        let frozen = params.freeze(&o.freeze);
        let mut adam = Self::new(params.numel(), settings, params.device());
        let with_muon = o.muon_lr_scale > 0.0;
        adam.segments = segments(params, &settings, &frozen, &o.no_decay, with_muon);
        if with_muon {
            // The decay is per step of the learning rate, which is larger here: the same pull to zero wants a smaller factor. The cross
            // encoders' own rate is small, and they keep the whole of it.
            let towers = MuonSettings {
                lr_scale: o.muon_lr_scale,
                momentum: o.muon_momentum,
                weight_decay: o.weight_decay / o.muon_lr_scale,
            };
            let cross = if o.cross.is_some() { MuonSettings { weight_decay: o.weight_decay, ..towers } } else { towers };
            for (group, muon) in [(Group::Towers, towers), (Group::Cross, cross)] {
                let learns =
                    |named: &&Named| muon::is_hidden_matrix(named) && !frozen.contains(&named.name) && Group::of(named) == group;
                adam.muon.push((group, muon, params.named().iter().filter(learns).cloned().collect()));
            }
        }
        Ok(adam)
    }

    /// One update from the flat gradient; returns the gradient's norm before clipping. A gradient that is not finite changes nothing.
    pub fn step(&mut self, params: &Params, rates: Rates) -> f64 {
        let s = self.settings;
        let segments = self.segments.clone();
        tch::no_grad(|| {
            let norm = self.norm(params);
            if !norm.is_finite() {
                return norm;
            }
            self.updates += 1;
            let scale = if s.clip_norm > 0.0 { (s.clip_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
            let root_correction = (1.0 - s.betas[1].powi(self.updates as i32)).sqrt();
            // A CUDA device has no cache to keep a chunk in: there a segment is one launch an operation.
            let chunk = if params.device().is_cuda() { i64::MAX } else { CHUNK_ELEMENTS };
            for segment in segments {
                let lr = rates.of(segment.group);
                let step_size = lr / (1.0 - s.betas[0].powi(self.updates as i32));
                let decay = if segment.decays { lr * s.weight_decay } else { 0.0 };
                for from in (segment.from..segment.to).step_by(chunk as usize) {
                    let length = chunk.min(segment.to - from);
                    self.update(params, from, length, [scale, decay, step_size, root_correction]);
                }
            }
            for (group, settings, matrices) in &self.muon {
                muon::update(params, matrices, &self.m, rates.of(*group), settings);
            }
            norm
        })
    }

    /// Norm of the gradient of what learns.
    fn norm(&self, params: &Params) -> f64 {
        let by_muon = self.muon.iter().flat_map(|(_, _, matrices)| matrices).map(|named| (named.offset, named.numel()));
        let ranges = self.segments.iter().map(|segment| (segment.from, segment.to - segment.from)).chain(by_muon);
        let ranges: Vec<(i64, i64)> = ranges.collect();
        let learning: i64 = ranges.iter().map(|range| range.1).sum();
        if learning == params.numel() {
            return params.grad().norm().double_value(&[]);
        }
        let square = |&(from, length): &(i64, i64)| params.grad().narrow(0, from, length).norm().double_value(&[]).powi(2);
        ranges.iter().map(square).sum::<f64>().sqrt()
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
    use super::super::config_parts::CrossOptimConfig;
    use super::*;
    use crate::nn::{Builder, Init};

    fn params() -> Params {
        let mut b = Builder::new();
        b.matrix("a.weight".into(), &[2, 2], Init::Constant(1.0));
        b.vector("a.bias".into(), &[2], Init::Constant(1.0));
        b.matrix("b.weight".into(), &[3, 2], Init::Constant(1.0));
        b.vector("b.norm".into(), &[2], Init::Constant(1.0));
        let mut params = Params::new(b.layout());
        params.initialise(1);
        params
    }

    fn optim() -> OptimConfig {
        OptimConfig { weight_decay: 0.5, lr: 0.1, clip_norm: 0.0, ..OptimConfig::default() }
    }

    fn values(params: &Params, name: &str) -> Vec<f32> {
        params.value(name).unwrap().contiguous().view([-1]).try_into().unwrap()
    }

    #[test]
    fn what_is_frozen_is_neither_updated_nor_decayed_nor_averaged() {
        let mut params = params();
        let frozen = OptimConfig { freeze: vec!["a.".into()], decay_vectors: true, ..optim() };
        let mut adam = AdamW::of(&mut params, &frozen).unwrap();
        let mut ema = Ema::new(&params, 0.5);
        for _ in 0..3 {
            let _ = params.grad().shallow_clone().fill_(2.0);
            let norm = adam.step(&params, Rates::even(0.1));
            // The frozen six of the fourteen elements do not count.
            assert!((norm - 2.0 * 8f64.sqrt()).abs() < 1e-6, "{norm}");
            ema.update(&params, adam.updates);
        }
        assert_eq!((values(&params, "a.weight"), values(&params, "a.bias")), (vec![1.0; 4], vec![1.0; 2]));
        assert!(values(&params, "b.weight").iter().chain(&values(&params, "b.norm")).all(|&value| value < 0.9));
        let averaged: Vec<f32> = ema.flat.narrow(0, 0, 4).try_into().unwrap();
        assert_eq!(averaged, [1.0; 4]);
        assert!(adam.m.narrow(0, 0, 4).abs().max().double_value(&[]) == 0.0);
    }

    #[test]
    fn decay_leaves_out_the_names_it_is_told_to() {
        // Without a gradient the update is the decay alone: 1 − 0.1·0.5.
        let of = |config: OptimConfig| {
            let mut params = params();
            let mut adam = AdamW::of(&mut params, &config).unwrap();
            adam.step(&params, Rates::even(0.1));
            ["a.weight", "a.bias", "b.weight", "b.norm"].map(|name| values(&params, name)[0] < 0.96)
        };
        assert_eq!(of(optim()), [true, false, true, false]);
        assert_eq!(of(OptimConfig { decay_vectors: true, ..optim() }), [true; 4]);
        assert_eq!(of(OptimConfig { decay_vectors: true, no_decay: vec!["bias".into()], ..optim() }), [true, false, true, true]);
    }

    #[test]
    fn muon_takes_the_matrices_inside_the_blocks_and_adamw_the_rest() {
        let mut b = Builder::new();
        b.matrix("text_encoder.embeddings.word_embeddings.weight".into(), &[5, 4], Init::Constant(1.0));
        b.matrix("text_encoder.encoder.layer.0.output.dense.weight".into(), &[4, 6], Init::Constant(1.0));
        b.matrix("text_proj.weight".into(), &[3, 4], Init::Constant(1.0));
        b.vector("text_proj.bias".into(), &[3], Init::Constant(1.0));
        let mut params = Params::new(b.layout());
        params.initialise(1);
        let adam = AdamW::of(&mut params, &OptimConfig { muon_lr_scale: 20.0, ..optim() }).unwrap();
        let ranges: Vec<(i64, i64, bool)> =
            adam.segments.iter().map(|segment| (segment.from, segment.to, segment.decays)).collect();
        assert_eq!(ranges, [(0, 20, true), (44, 56, true), (56, 59, false)]);
        assert_eq!(adam.muon.iter().map(|(_, _, matrices)| matrices.len()).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn the_cross_encoders_learn_at_their_own_rate_and_keep_the_whole_decay() {
        let mut b = Builder::new();
        for tower in ["text_encoder", "text_joint_layer"] {
            b.matrix(format!("{tower}.encoder.layer.0.output.dense.weight"), &[4, 4], Init::Constant(1.0));
            b.vector(format!("{tower}.encoder.layer.0.output.dense.bias"), &[4], Init::Constant(1.0));
        }
        let mut params = Params::new(b.layout());
        params.initialise(1);
        let cross = Some(CrossOptimConfig::default());
        let mut adam = AdamW::of(&mut params, &OptimConfig { muon_lr_scale: 20.0, cross, ..optim() }).unwrap();
        let decays: Vec<f64> = adam.muon.iter().map(|(_, settings, _)| settings.weight_decay).collect();
        assert_eq!(decays, [0.5 / 20.0, 0.5]);
        let _ = params.grad().shallow_clone().fill_(2.0);
        adam.step(&params, Rates { towers: 0.0, cross: 0.1 });
        for part in ["weight", "bias"] {
            let of = |tower: &str| values(&params, &format!("{tower}.encoder.layer.0.output.dense.{part}"))[0];
            assert!(of("text_encoder") > 0.999 && of("text_joint_layer") < 0.95, "{part}");
        }
    }

    #[test]
    fn a_frozen_name_that_is_none_is_told() {
        let error = AdamW::of(&mut params(), &OptimConfig { freeze: vec!["visual.".into()], ..optim() }).err().unwrap();
        assert!(error.to_string().contains("optim.freeze names visual."), "{error}");
    }
}
