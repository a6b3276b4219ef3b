//! Layers as groups of ONNX operations, in each precision and both forms of attention.

use std::cell::OnceCell;

use astromech_schemas::manifest::Precision;

use super::quantize::{quantize_linear, quantize_rows, transpose};
use super::{ExportError, GraphOptions, WeightMap};
use crate::onnx::{Attribute, Element, GraphBuilder, Value};

/// Slope of the sigmoid in quick GELU (docs/R2D2.md §1.2).
const QUICK_GELU_SLOPE: f32 = 1.702;
/// Added to the scores of padding (docs/R2D2.md §1.4): e^-10000 is 0 in every precision.
const PADDING_BIAS: f32 = -10_000.0;
/// Smallest length an embedding is divided by.
const NORM_MIN: f32 = 1e-12;
/// First opset with the `Attention` operator.
const ATTENTION_OPSET: u32 = 23;

/// A tensor that feeds one or more linear layers: in int8 it is quantised once for all of them.
pub struct LinearInput {
    value: Value,
    /// Bytes, scale, zero point, once an int8 layer has read it.
    quantized: OnceCell<[Value; 3]>,
}

impl LinearInput {
    /// Readies a tensor for the linear layers that read it.
    pub fn of(value: &Value) -> Self {
        Self { value: value.clone(), quantized: OnceCell::new() }
    }

    /// The tensor itself.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

/// Additive attention mask [N, 1, 1, keys], before it is fitted to the number of queries.
pub struct MaskBias(pub Value);

/// How many queries an attention has.
#[derive(Clone, Copy)]
pub enum Queries<'a> {
    /// The first token only.
    One,
    /// As many as this one-element tensor says.
    Many(&'a Value),
}

/// Emits layers into one graph.
pub struct Emitter<'a> {
    /// The graph.
    pub graph: GraphBuilder,
    weights: &'a WeightMap,
    options: GraphOptions,
}

impl<'a> Emitter<'a> {
    /// An empty graph.
    pub fn new(name: &str, weights: &'a WeightMap, options: GraphOptions) -> Self {
        Self { graph: GraphBuilder::new(name, options.opset), weights, options }
    }

    /// Element type of weights and activations.
    pub fn element(&self) -> Element {
        if self.options.precision == Precision::Fp16 { Element::F16 } else { Element::F32 }
    }

    /// The weight `key` as a constant of the compute type.
    pub fn weight(&mut self, key: &str, shape: &[usize]) -> Result<Value, ExportError> {
        let values = self.weights.get(key, shape)?;
        Ok(self.graph.floats(key, self.element(), shape, values))
    }

    /// The raw weights, for those that are rearranged before they are stored.
    pub fn raw(&self) -> &'a WeightMap {
        self.weights
    }

    /// Casts an f32 value to the compute type.
    pub fn cast_compute(&mut self, value: &Value) -> Value {
        self.cast(value, self.element())
    }

    /// Casts a value of the compute type to f32.
    pub fn cast_f32(&mut self, value: &Value) -> Value {
        if self.element() == Element::F32 { value.clone() } else { self.cast(value, Element::F32) }
    }

    fn cast(&mut self, value: &Value, element: Element) -> Value {
        if element == Element::F32 && self.element() == Element::F32 {
            return value.clone();
        }
        self.graph.node_with("Cast", &[value], vec![("to", Attribute::Int(element as i64))])
    }

    /// True for a layer whose product is one of integers.
    fn is_int8(&self, key: &str) -> bool {
        self.options.precision == Precision::Int8 && !self.options.keep_f32.iter().any(|part| key.contains(part.as_str()))
    }

    /// The first token of [N, L, D] as [N, 1, D].
    pub fn first_token(&mut self, input: &LinearInput) -> LinearInput {
        let value = self.slice_first(&input.value);
        let quantized = OnceCell::new();
        if let Some([bytes, scale, zero]) = input.quantized.get() {
            let _ = quantized.set([self.slice_first(bytes), scale.clone(), zero.clone()]);
        }
        LinearInput { value, quantized }
    }

    fn slice_first(&mut self, value: &Value) -> Value {
        let (zero, one) = (self.graph.integers(&[1], &[0]), self.graph.integers(&[1], &[1]));
        self.graph.node("Slice", &[value, &zero, &one, &one])
    }

    /// The number of tokens of [N, L, …] as a tensor of one element.
    pub fn length(&mut self, value: &Value) -> Value {
        self.graph.node_with("Shape", &[value], vec![("start", Attribute::Int(1)), ("end", Attribute::Int(2))])
    }

    /// `x · Wᵀ + b` with `{key}.weight` [outputs, inputs] and `{key}.bias` [outputs].
    pub fn linear(&mut self, x: &LinearInput, key: &str, inputs: usize, outputs: usize) -> Result<Value, ExportError> {
        let weight_key = format!("{key}.weight");
        let weight = self.weights.get(&weight_key, &[outputs, inputs])?;
        let bias = self.weight(&format!("{key}.bias"), &[outputs])?;
        let product = if self.is_int8(key) {
            let [bytes, scale, zero] = x.quantized.get_or_init(|| self.graph.node_multi("DynamicQuantizeLinear", &[&x.value]));
            let quantized = quantize_linear(weight, inputs);
            let raw = quantized.values.iter().map(|value| value.cast_unsigned()).collect();
            let weight = self.graph.initializer(&weight_key, Element::I8, &[inputs, outputs], raw);
            let scales = self.graph.floats(&format!("{weight_key}_scale"), Element::F32, &[outputs], &quantized.scales);
            let product = self.graph.node("MatMulInteger", &[bytes, &weight, zero]);
            let product = self.graph.node_with("Cast", &[&product], vec![("to", Attribute::Int(Element::F32 as i64))]);
            // In this order ONNX Runtime fuses the whole to one kernel.
            let scale = self.graph.node("Mul", &[scale, &scales]);
            self.graph.node("Mul", &[&product, &scale])
        } else {
            let transposed = transpose(weight, outputs, inputs);
            let weight = self.graph.floats(&weight_key, self.element(), &[inputs, outputs], &transposed);
            self.graph.node("MatMul", &[&x.value, &weight])
        };
        Ok(self.graph.node("Add", &[&product, &bias]))
    }

    /// As [`Emitter::linear`] in f32 whatever the precision, on an f32 input: for the small heads that results are read from.
    pub fn linear_f32(&mut self, x: &Value, key: &str, inputs: usize, outputs: usize) -> Result<Value, ExportError> {
        let (weight_key, bias_key) = (format!("{key}.weight"), format!("{key}.bias"));
        let transposed = transpose(self.weights.get(&weight_key, &[outputs, inputs])?, outputs, inputs);
        let weight = self.graph.floats(&weight_key, Element::F32, &[inputs, outputs], &transposed);
        let bias = self.weights.get(&bias_key, &[outputs])?;
        let bias = self.graph.floats(&bias_key, Element::F32, &[outputs], bias);
        let product = self.graph.node("MatMul", &[x, &weight]);
        Ok(self.graph.node("Add", &[&product, &bias]))
    }

    /// LayerNorm over the last dimension; mean and variance are computed in f32 in every precision.
    pub fn layer_norm(&mut self, x: &Value, key: &str, width: usize, epsilon: f32) -> Result<Value, ExportError> {
        let weight = self.weight(&format!("{key}.weight"), &[width])?;
        let bias = self.weight(&format!("{key}.bias"), &[width])?;
        let attributes =
            vec![("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon)), ("stash_type", Attribute::Int(1))];
        Ok(self.graph.node_with("LayerNormalization", &[x, &weight, &bias], attributes))
    }

    /// `x · sigmoid(1.702 x)`.
    pub fn quick_gelu(&mut self, x: &Value) -> Value {
        let slope = self.graph.constant(self.element(), &[], &[QUICK_GELU_SLOPE]);
        let scaled = self.graph.node("Mul", &[x, &slope]);
        let gate = self.graph.node("Sigmoid", &[&scaled]);
        self.graph.node("Mul", &[x, &gate])
    }

    /// `x · Φ(x)`.
    pub fn gelu(&mut self, x: &Value) -> Value {
        self.graph.node("Gelu", &[x])
    }

    /// The table `key` [rows, width] read at `ids`; in int8 as bytes with a scale per row.
    pub fn embedding(&mut self, key: &str, ids: &Value, rows: usize, width: usize) -> Result<Value, ExportError> {
        if self.options.precision != Precision::Int8 {
            let table = self.weight(key, &[rows, width])?;
            return Ok(self.graph.node("Gather", &[&table, ids]));
        }
        let quantized = quantize_rows(self.weights.get(key, &[rows, width])?, width);
        let raw = quantized.values.iter().map(|value| value.cast_unsigned()).collect();
        let table = self.graph.initializer(key, Element::I8, &[rows, width], raw);
        let scales = self.graph.floats(&format!("{key}_scale"), Element::F32, &[rows, 1], &quantized.scales);
        let bytes = self.graph.node("Gather", &[&table, ids]);
        let floats = self.graph.node_with("Cast", &[&bytes], vec![("to", Attribute::Int(Element::F32 as i64))]);
        let scale = self.graph.node("Gather", &[&scales, ids]);
        Ok(self.graph.node("Mul", &[&floats, &scale]))
    }

    /// i64 mask [N, keys] (1 token, 0 padding) → additive [N, 1, 1, keys].
    pub fn mask_bias(&mut self, mask: &Value) -> MaskBias {
        let element = self.element();
        let ones = self.graph.node_with("Cast", &[mask], vec![("to", Attribute::Int(element as i64))]);
        let one = self.graph.constant(element, &[], &[1.0]);
        let padding = self.graph.node("Sub", &[&one, &ones]);
        let bias = self.graph.constant(element, &[], &[PADDING_BIAS]);
        let bias = self.graph.node("Mul", &[&padding, &bias]);
        let axes = self.graph.integers(&[2], &[1, 2]);
        MaskBias(self.graph.node("Unsqueeze", &[&bias, &axes]))
    }

    /// The mask in the shape that attention takes it. ONNX Runtime's `Attention` wants every query's row written out.
    pub fn fit_mask(&mut self, bias: &MaskBias, queries: Queries<'_>) -> Value {
        let Queries::Many(length) = queries else { return bias.0.clone() };
        if self.options.opset < ATTENTION_OPSET {
            return bias.0.clone();
        }
        let (two, one) = (self.graph.integers(&[2], &[1, 1]), self.graph.integers(&[1], &[1]));
        let shape = self.graph.node_with("Concat", &[&two, length, &one], vec![("axis", Attribute::Int(0))]);
        self.graph.node("Expand", &[&bias.0, &shape])
    }

    /// Multi-head attention of q [N, Lq, D] over k, v [N, Lk, D] with scale 1/√(D/heads) → [N, Lq, D].
    pub fn attention(&mut self, [q, k, v]: [&Value; 3], mask: Option<&Value>, heads: usize, width: usize) -> Value {
        if self.options.opset >= ATTENTION_OPSET {
            let heads = Attribute::Int(heads as i64);
            let mut attributes = vec![("q_num_heads", heads.clone()), ("kv_num_heads", heads)];
            if self.element() == Element::F16 {
                attributes.push(("softmax_precision", Attribute::Int(Element::F32 as i64)));
            }
            let mut inputs = vec![q, k, v];
            inputs.extend(mask);
            return self.graph.node_with("Attention", &inputs, attributes);
        }
        let q = self.split_heads(q, heads, width, [0, 2, 1, 3]);
        let k = self.split_heads(k, heads, width, [0, 2, 3, 1]);
        let v = self.split_heads(v, heads, width, [0, 2, 1, 3]);
        // Scaled before the product: fewer elements than after, and no overflow in fp16.
        let scale = self.graph.constant(self.element(), &[], &[((width / heads) as f32).sqrt().recip()]);
        let q = self.graph.node("Mul", &[&q, &scale]);
        let mut scores = self.graph.node("MatMul", &[&q, &k]);
        if let Some(mask) = mask {
            scores = self.graph.node("Add", &[&scores, mask]);
        }
        let scores = self.cast_f32(&scores);
        let shares = self.graph.node_with("Softmax", &[&scores], vec![("axis", Attribute::Int(-1))]);
        let shares = self.cast_compute(&shares);
        let mixed = self.graph.node("MatMul", &[&shares, &v]);
        let mixed = self.graph.node_with("Transpose", &[&mixed], vec![("perm", Attribute::Ints(vec![0, 2, 1, 3]))]);
        // 0 keeps a dimension as it is.
        let shape = self.graph.integers(&[3], &[0, 0, width as i64]);
        self.graph.node("Reshape", &[&mixed, &shape])
    }

    fn split_heads(&mut self, x: &Value, heads: usize, width: usize, order: [i64; 4]) -> Value {
        let shape = self.graph.integers(&[4], &[0, 0, heads as i64, (width / heads) as i64]);
        let split = self.graph.node("Reshape", &[x, &shape]);
        self.graph.node_with("Transpose", &[&split], vec![("perm", Attribute::Ints(order.to_vec()))])
    }

    /// States [N, L, inputs] of the compute type `x` → the embedding f32 [N, outputs] of token 0, and for late interaction the unit vectors
    /// f32 [N, L, outputs] of all tokens.
    pub fn project(
        &mut self,
        x: &Value,
        key: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<(Value, Option<Value>), ExportError> {
        if !self.options.late_interaction {
            let pooled = self.pool(x);
            let embedding = self.linear_f32(&pooled, key, inputs, outputs)?;
            return Ok((self.unit(&embedding, 1), None));
        }
        let x = self.cast_f32(x);
        let rows = self.linear_f32(&x, key, inputs, outputs)?;
        let rows = self.unit(&rows, 2);
        let zero = self.graph.integers(&[], &[0]);
        let embedding = self.graph.node_with("Gather", &[&rows, &zero], vec![("axis", Attribute::Int(1))]);
        Ok((embedding, Some(rows)))
    }

    /// Rows f32 [N, L, D] with those of padding zero, by the i64 mask [N, L].
    pub fn mask_rows(&mut self, rows: &Value, mask: &Value) -> Value {
        let ones = self.graph.node_with("Cast", &[mask], vec![("to", Attribute::Int(Element::F32 as i64))]);
        let axis = self.graph.integers(&[1], &[2]);
        let ones = self.graph.node("Unsqueeze", &[&ones, &axis]);
        self.graph.node("Mul", &[rows, &ones])
    }

    /// Token 0 of [N, L, D] in f32, [N, D].
    pub fn pool(&mut self, states: &Value) -> Value {
        let zero = self.graph.integers(&[], &[0]);
        let first = self.graph.node_with("Gather", &[states, &zero], vec![("axis", Attribute::Int(1))]);
        self.cast_f32(&first)
    }

    /// f32 scaled to unit length along `axis`.
    fn unit(&mut self, x: &Value, axis: i64) -> Value {
        let axes = self.graph.integers(&[1], &[axis]);
        let norm = self.graph.node("ReduceL2", &[x, &axes]);
        let least = self.graph.constant(Element::F32, &[], &[NORM_MIN]);
        let norm = self.graph.node("Max", &[&norm, &least]);
        self.graph.node("Div", &[x, &norm])
    }

    /// The rows of `x` at `index`.
    pub fn gather(&mut self, x: &Value, index: &Value) -> Value {
        self.graph.node("Gather", &[x, index])
    }
}
