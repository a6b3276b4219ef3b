//! Linear, LayerNorm, Embedding, MLP and stochastic depth.

use tch::{Kind, Tensor};

use super::params::{Builder, Init, Leaf, Weights};

/// `x · Wᵀ + b` on the last dimension.
#[derive(Debug, Clone, Copy)]
pub struct Linear {
    weight: Leaf,
    bias: Leaf,
}

impl Linear {
    /// Declares `{name}.weight` `[output, input]` and `{name}.bias` `[output]`.
    pub fn new(builder: &mut Builder, name: &str, input: i64, output: i64, std: f64) -> Self {
        let weight = builder.matrix(format!("{name}.weight"), &[output, input], Init::Normal(std));
        let bias = builder.vector(format!("{name}.bias"), &[output], Init::Constant(0.0));
        Self { weight, bias }
    }

    /// Declares several linears of equal size as one product whose output is their concatenation.
    pub fn stacked(builder: &mut Builder, names: &[String], input: i64, output: i64, std: f64) -> Self {
        let suffixed = |suffix: &str| names.iter().map(|name| format!("{name}.{suffix}")).collect::<Vec<_>>();
        let weight = builder.stacked(&suffixed("weight"), output, Some(input), Init::Normal(std));
        let bias = builder.stacked(&suffixed("bias"), output, None, Init::Constant(0.0));
        Self { weight, bias }
    }

    /// [..., input] → [..., output] in the kind of `x`.
    pub fn forward(&self, w: &Weights, x: &Tensor) -> Tensor {
        let weight = w.get(self.weight);
        let kind = weight.kind();
        let x = if x.kind() == kind { x.shallow_clone() } else { x.to_kind(kind) };
        x.linear(weight, Some(w.get(self.bias).to_kind(kind)))
    }

    /// As [`Linear::forward`] but with weight and bias multiplied by `weight_scale` and `bias_scale` first.
    fn forward_scaled(&self, w: &Weights, x: &Tensor, weight_scale: f64, bias_scale: f64) -> Tensor {
        let weight = w.get(self.weight) * weight_scale;
        x.linear(&weight, Some((w.get(self.bias) * bias_scale).to_kind(weight.kind())))
    }

    /// As [`Linear::forward`] in f32 whatever the weights' kind: for the small heads whose output feeds a loss.
    pub fn forward_f32(&self, w: &Weights, x: &Tensor) -> Tensor {
        self.forward(w, x).to_kind(Kind::Float)
    }
}

/// LayerNorm over the last dimension; its weights stay f32.
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm {
    weight: Leaf,
    bias: Leaf,
    width: i64,
    eps: f64,
}

impl LayerNorm {
    /// Declares `{name}.weight` and `{name}.bias` `[width]`.
    pub fn new(builder: &mut Builder, name: &str, width: i64, eps: f64) -> Self {
        let weight = builder.vector(format!("{name}.weight"), &[width], Init::Constant(1.0));
        let bias = builder.vector(format!("{name}.bias"), &[width], Init::Constant(0.0));
        Self { weight, bias, width, eps }
    }

    /// [..., width] → [..., width].
    pub fn forward(&self, w: &Weights, x: &Tensor) -> Tensor {
        let (weight, bias) = (w.get(self.weight), w.get(self.bias));
        if x.device().is_cuda() && x.kind() != weight.kind() {
            // LibTorch takes f32 weights beside bf16 activations on CPU only; either way it sums in f32.
            let like_x = |tensor: &Tensor| tensor.to_kind(x.kind());
            return x.layer_norm([self.width], Some(like_x(weight)), Some(like_x(bias)), self.eps, false);
        }
        x.layer_norm([self.width], Some(weight), Some(bias), self.eps, false)
    }
}

/// A table of rows.
#[derive(Debug, Clone, Copy)]
pub struct Embedding {
    /// The table [rows, width].
    pub table: Leaf,
}

impl Embedding {
    /// Declares `{name}.weight` [rows, width].
    pub fn new(builder: &mut Builder, name: &str, rows: i64, width: i64, std: f64) -> Self {
        Self { table: builder.matrix(format!("{name}.weight"), &[rows, width], Init::Normal(std)) }
    }

    /// i64 [...] → [..., width].
    pub fn forward(&self, w: &Weights, ids: &Tensor) -> Tensor {
        Tensor::embedding(w.get(self.table), ids, -1, false, false)
    }
}

/// The two activations of R2D2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gelu {
    /// `x · sigmoid(1.702 x)` (CLIP's vision tower, docs/R2D2.md §1.2).
    Quick,
    /// `x · Φ(x)` by erf (BERT, docs/R2D2.md §1.3).
    Erf,
}

/// Slope of the sigmoid in quick GELU.
const QUICK_GELU_SLOPE: f64 = 1.702;

/// Two linears with a GELU between.
#[derive(Debug, Clone, Copy)]
pub struct Mlp {
    first: Linear,
    second: Linear,
    gelu: Gelu,
}

impl Mlp {
    /// Declares the linears under their two names.
    pub fn new(builder: &mut Builder, names: [&str; 2], width: i64, hidden: i64, std: [f64; 2], gelu: Gelu) -> Self {
        Self {
            first: Linear::new(builder, names[0], width, hidden, std[0]),
            second: Linear::new(builder, names[1], hidden, width, std[1]),
            gelu,
        }
    }

    /// [..., width] → [..., width].
    pub fn forward(&self, w: &Weights, x: &Tensor) -> Tensor {
        match self.gelu {
            Gelu::Erf => self.second.forward(w, &self.first.forward(w, x).gelu("none")),
            // x·sigmoid(1.702x) = silu(1.702x)/1.702: scaling the small weights leaves one pass over the large activations
            // instead of three, forward and backward.
            Gelu::Quick => {
                let hidden = self.first.forward_scaled(w, x, QUICK_GELU_SLOPE, QUICK_GELU_SLOPE).silu();
                self.second.forward_scaled(w, &hidden, 1.0 / QUICK_GELU_SLOPE, 1.0)
            }
        }
    }
}

/// Stochastic depth: drops a residual branch for whole samples, and scales the kept ones so that the mean stays.
#[derive(Debug, Clone, Copy)]
pub struct DropPath {
    /// Probability of dropping, 0 switches it off.
    pub p: f64,
}

impl DropPath {
    /// `x + branch`, with `branch` dropped per sample (dimension 0) while training.
    pub fn add(&self, x: &Tensor, branch: &Tensor, train: bool) -> Tensor {
        if !train || self.p <= 0.0 {
            return x + branch;
        }
        let keep = 1.0 - self.p;
        let mut mask = Tensor::empty([x.size()[0], 1, 1], (branch.kind(), branch.device()));
        let _ = mask.bernoulli_float_(keep);
        x + branch * (mask / keep)
    }
}
