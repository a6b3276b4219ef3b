//! The flat parameter store.

use std::collections::{HashMap, HashSet};

use tch::{Device, Kind, Tensor};

/// Number of one leaf inside [`Weights`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf(usize);

/// How a named parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Every element this value.
    Constant(f64),
    /// A position table: one row for a class token (zero), then a square grid of rows holding sines and cosines of both coordinates
    /// (as MAE and others start it), with this root mean square. What a model knows of positions from the first step on it need not
    /// learn from little data.
    SinCosGrid(f64),
}

/// One parameter under its official name (docs/R2D2.md §5.3).
#[derive(Debug, Clone)]
pub struct Named {
    /// Official key.
    pub name: String,
    /// Shape; empty for a scalar.
    pub shape: Vec<i64>,
    /// First element inside the flat buffer.
    pub offset: i64,
    init: Init,
}

impl Named {
    /// Number of elements.
    pub fn numel(&self) -> i64 {
        self.shape.iter().product()
    }
}

struct LeafSpec {
    shape: Vec<i64>,
    parts: Vec<(String, Vec<i64>, Init)>,
    /// Weight decay applies, and the tensor takes part in matrix products (so bf16 casts it).
    matrix: bool,
}

/// Collects the leaves of a model; `Builder::finish` lays them out in one buffer.
#[derive(Default)]
pub struct Builder {
    leaves: Vec<LeafSpec>,
}

impl Builder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a matrix or table (weight decay, cast to the compute precision).
    pub fn matrix(&mut self, name: String, shape: &[i64], init: Init) -> Leaf {
        self.add(shape.to_vec(), vec![(name, shape.to_vec(), init)], true)
    }

    /// Adds a vector or scalar: bias, LayerNorm weight, temperature (no weight decay).
    pub fn vector(&mut self, name: String, shape: &[i64], init: Init) -> Leaf {
        self.add(shape.to_vec(), vec![(name, shape.to_vec(), init)], false)
    }

    /// Adds one leaf that stacks several named parameters of equal trailing shape along dimension 0.
    pub fn stacked(&mut self, names: &[String], rows: i64, columns: Option<i64>, init: Init) -> Leaf {
        let part: Vec<i64> = std::iter::once(rows).chain(columns).collect();
        let whole: Vec<i64> = std::iter::once(rows * names.len() as i64).chain(columns).collect();
        let parts = names.iter().map(|name| (name.clone(), part.clone(), init)).collect();
        self.add(whole, parts, columns.is_some())
    }

    fn add(&mut self, shape: Vec<i64>, parts: Vec<(String, Vec<i64>, Init)>, matrix: bool) -> Leaf {
        self.leaves.push(LeafSpec { shape, parts, matrix });
        Leaf(self.leaves.len() - 1)
    }

    /// Number of elements declared so far.
    pub fn numel(&self) -> i64 {
        self.leaves.iter().map(|leaf| leaf.shape.iter().product::<i64>()).sum()
    }

    /// Lays the leaves out: matrices first, then vectors, so that weight decay is one contiguous range.
    pub fn layout(self) -> Layout {
        let mut named = Vec::new();
        let mut leaves = vec![None; self.leaves.len()];
        let mut offset = 0;
        let mut matrix_numel = 0;
        for matrix in [true, false] {
            for (index, leaf) in self.leaves.iter().enumerate().filter(|(_, leaf)| leaf.matrix == matrix) {
                leaves[index] = Some(LeafPlace { shape: leaf.shape.clone(), offset, matrix });
                for (name, shape, init) in &leaf.parts {
                    let part = Named { name: name.clone(), shape: shape.clone(), offset, init: *init };
                    offset += part.numel();
                    named.push(part);
                }
            }
            if matrix {
                matrix_numel = offset;
            }
        }
        Layout { named, leaves: leaves.into_iter().flatten().collect(), numel: offset, matrix_numel }
    }
}

/// Where one leaf lies.
#[derive(Debug, Clone)]
struct LeafPlace {
    shape: Vec<i64>,
    offset: i64,
    matrix: bool,
}

/// The order of everything in the flat buffer.
#[derive(Debug, Clone)]
pub struct Layout {
    named: Vec<Named>,
    leaves: Vec<LeafPlace>,
    numel: i64,
    matrix_numel: i64,
}

impl Layout {
    /// The declared parameters, in buffer order.
    pub fn named(&self) -> &[Named] {
        &self.named
    }
}

/// What matrix products are computed in. Masters, LayerNorm weights, losses and optimiser stay f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision throughout.
    F32,
    /// bfloat16 activations and matrix products over f32 masters.
    Bf16,
}

/// One value per leaf, as layers read them.
pub struct Weights {
    tensors: Vec<Tensor>,
    /// Compute precision of activations.
    pub precision: Precision,
}

impl Weights {
    /// The value of a leaf.
    pub fn get(&self, leaf: Leaf) -> &Tensor {
        &self.tensors[leaf.0]
    }

    /// Where the values are.
    pub fn device(&self) -> Device {
        self.tensors.first().map_or(Device::Cpu, Tensor::device)
    }

    /// Kind of activations.
    pub fn kind(&self) -> Kind {
        match self.precision {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        }
    }
}

/// The parameters: one flat buffer, one flat gradient, and the leaves that view them.
pub struct Params {
    layout: Layout,
    flat: Tensor,
    grad: Tensor,
    leaves: Vec<Tensor>,
    by_name: HashMap<String, usize>,
}

impl Params {
    /// Allocates zeroed parameters; call [`Params::initialise`] or fill them by [`Params::copy_named`].
    pub fn new(layout: Layout) -> Self {
        let flat = Tensor::zeros([layout.numel], (Kind::Float, Device::Cpu));
        let grad = Tensor::zeros([layout.numel], (Kind::Float, Device::Cpu));
        let leaves = leaf_views(&layout, &flat).into_iter().map(|view| view.detach().set_requires_grad(true)).collect();
        let by_name = layout.named.iter().enumerate().map(|(index, named)| (named.name.clone(), index)).collect();
        let mut params = Self { layout, flat, grad, leaves, by_name };
        params.bind_gradients();
        params
    }

    /// Moves values and gradients to a device; what was taken of them before (weights, views) stays where it was.
    pub fn to_device(&mut self, device: Device) {
        if device == self.device() {
            return;
        }
        self.flat = self.flat.to_device(device);
        self.grad = self.grad.to_device(device);
        self.leaves =
            leaf_views(&self.layout, &self.flat).into_iter().map(|view| view.detach().set_requires_grad(true)).collect();
        self.bind_gradients();
    }

    /// Where the values are.
    pub fn device(&self) -> Device {
        self.flat.device()
    }

    /// Makes every leaf's gradient a view of the flat gradient buffer: autograd accumulates in place into a gradient that is
    /// already defined, so after a backward pass the flat buffer holds all gradients and no gather is needed.
    fn bind_gradients(&mut self) {
        // A leaf's gradient becomes defined only through a backward pass; a sum of zero-weighted leaves costs one pass over them.
        let sum = self.leaves.iter().map(|leaf| leaf.sum(Kind::Float)).reduce(|a, b| a + b);
        if let Some(sum) = sum {
            (sum * 0.0).backward();
        }
        let views = leaf_views(&self.layout, &self.grad);
        for (leaf, view) in self.leaves.iter().zip(views) {
            leaf.grad().set_data(&view);
        }
        let _ = self.grad.zero_();
    }

    /// Stops the gradient of every parameter whose name begins with one of `prefixes`; returns their names. A leaf that holds others too
    /// keeps its gradient, and whoever updates must leave those ranges alone.
    pub fn freeze(&mut self, prefixes: &[String]) -> HashSet<String> {
        let is_frozen = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()));
        for (leaf, place) in self.leaves.iter().zip(&self.layout.leaves) {
            let end = place.offset + place.shape.iter().product::<i64>();
            let mut parts = self.layout.named.iter().filter(|named| (place.offset..end).contains(&named.offset));
            if parts.all(|named| is_frozen(&named.name)) {
                let _ = leaf.set_requires_grad(false);
            }
        }
        self.layout.named.iter().map(|named| named.name.clone()).filter(|name| is_frozen(name)).collect()
    }

    /// Fills every parameter from its declared distribution, from one seed.
    pub fn initialise(&mut self, seed: i64) {
        tch::manual_seed(seed);
        tch::no_grad(|| {
            for named in &self.layout.named {
                let mut view = self.flat.narrow(0, named.offset, named.numel());
                match named.init {
                    Init::Normal(std) => drop(view.normal_(0.0, std)),
                    Init::Constant(value) => drop(view.fill_(value)),
                    Init::SinCosGrid(rms) => view.copy_(&sin_cos_grid(&named.shape, rms)),
                }
            }
        });
    }

    /// The flat values.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// The flat gradient, filled by `backward`, to be zeroed by [`Params::zero_grad`].
    pub fn grad(&self) -> &Tensor {
        &self.grad
    }

    /// Elements at the front of the buffer that weight decay applies to.
    pub fn matrix_numel(&self) -> i64 {
        self.layout.matrix_numel
    }

    /// Number of elements.
    pub fn numel(&self) -> i64 {
        self.layout.numel
    }

    /// Zeroes the gradient.
    pub fn zero_grad(&mut self) {
        let _ = self.grad.zero_();
    }

    /// The declared parameters, in buffer order.
    pub fn named(&self) -> &[Named] {
        &self.layout.named
    }

    /// A named parameter as a view of `flat` (the masters', or any buffer of the same layout such as the moving average).
    pub fn view(&self, flat: &Tensor, named: &Named) -> Tensor {
        flat.narrow(0, named.offset, named.numel()).view(named.shape.as_slice())
    }

    /// The value of one name, a view without gradient.
    pub fn value(&self, name: &str) -> Option<Tensor> {
        let named = &self.layout.named[*self.by_name.get(name)?];
        Some(self.view(&self.flat, named).detach())
    }

    /// Copies a tensor of the declared shape (any kind) into a named parameter; false when the name is unknown.
    pub fn copy_named(&mut self, name: &str, value: &Tensor) -> bool {
        let Some(&index) = self.by_name.get(name) else { return false };
        let named = &self.layout.named[index];
        tch::no_grad(|| self.view(&self.flat, named).copy_(value));
        true
    }

    /// Weights for training: in f32 the leaves themselves, in bf16 casts of the matrices that autograd sees through.
    pub fn weights(&self, precision: Precision) -> Weights {
        let tensors = self.leaves.iter().zip(&self.layout.leaves).map(|(leaf, place)| cast(leaf, place, precision)).collect();
        Weights { tensors, precision }
    }

    /// Weights without gradient over another buffer of this layout, such as the moving average.
    pub fn weights_of(&self, flat: &Tensor, precision: Precision) -> Weights {
        let views = leaf_views(&self.layout, flat);
        let tensors = views.iter().zip(&self.layout.leaves).map(|(view, place)| cast(&view.detach(), place, precision)).collect();
        Weights { tensors, precision }
    }
}

fn cast(value: &Tensor, place: &LeafPlace, precision: Precision) -> Tensor {
    if precision == Precision::Bf16 && place.matrix { value.to_kind(Kind::BFloat16) } else { value.shallow_clone() }
}

fn leaf_views(layout: &Layout, flat: &Tensor) -> Vec<Tensor> {
    let view = |place: &LeafPlace| flat.narrow(0, place.offset, place.shape.iter().product::<i64>()).view(place.shape.as_slice());
    layout.leaves.iter().map(view).collect()
}

/// Flat [rows, width]: see [`Init::SinCosGrid`]. A quarter of the width each for sin x, cos x, sin y, cos y.
fn sin_cos_grid(shape: &[i64], rms: f64) -> Tensor {
    const LONGEST_WAVE: f64 = 10_000.0;
    let (rows, width) = (shape[0] as usize, shape[1] as usize);
    let side = ((rows - 1) as f64).sqrt().round() as usize;
    let quarter = (width / 4).max(1);
    let mut values = vec![0.0f32; rows * width];
    for row in 1..rows {
        let place = [(row - 1) % side.max(1), (row - 1) / side.max(1)];
        for column in 0..(quarter * 4).min(width) {
            let part = column / quarter;
            let angle = place[part / 2] as f64 / LONGEST_WAVE.powf((column % quarter) as f64 / quarter as f64);
            let wave = if part % 2 == 0 { angle.sin() } else { angle.cos() };
            values[row * width + column] = (wave * rms * std::f64::consts::SQRT_2) as f32;
        }
    }
    Tensor::from_slice(&values)
}
