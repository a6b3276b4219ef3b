//! Multi-head attention by `scaled_dot_product_attention`.

use tch::{Device, Kind, Tensor};

use super::layers::Linear;
use super::params::{Builder, Weights};

/// What a forward pass needs beside weights and inputs.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Dropout and drop path are active.
    pub train: bool,
    /// Probability of dropping an element of a text-side hidden state.
    pub dropout: f64,
    /// Probability of dropping an attention weight; above 0 the fused kernel is not used.
    pub attention_dropout: f64,
    /// Probability of dropping the last vision block; earlier ones in proportion.
    pub drop_path: f64,
}

impl Context {
    /// Inference: nothing dropped.
    pub const EVAL: Self = Self { train: false, dropout: 0.0, attention_dropout: 0.0, drop_path: 0.0 };

    /// Applies hidden dropout.
    pub fn drop(&self, x: Tensor) -> Tensor {
        if self.train && self.dropout > 0.0 { x.dropout(self.dropout, true) } else { x }
    }
}

fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, context: Context) -> Tensor {
    let p = if context.train { context.attention_dropout } else { 0.0 };
    // The fused kernel's backward in bf16 on CPU takes about eight times as long as three plain products (LibTorch 2.11, 37 tokens).
    let out = if q.kind() == Kind::BFloat16 && q.device() == Device::Cpu {
        let scale = (q.size()[3] as f64).powf(-0.5);
        let scores = (q * scale).matmul(&k.transpose(-2, -1));
        let scores = if let Some(mask) = mask { scores + mask } else { scores };
        scores.softmax(-1, None).dropout(p, p > 0.0).matmul(v)
    } else {
        Tensor::scaled_dot_product_attention(q, k, v, mask, p, false, None, false)
    };
    // [B, H, L, d] → [B, L, H·d]
    let size = out.size();
    out.transpose(1, 2).reshape([size[0], size[2], size[1] * size[3]])
}

/// Self-attention with queries, keys and values as one product.
#[derive(Debug, Clone, Copy)]
pub struct SelfAttention {
    qkv: Linear,
    out: Linear,
    heads: i64,
}

impl SelfAttention {
    /// Declares the four linears under their official names; `names` are query, key, value and output.
    pub fn new(builder: &mut Builder, names: [String; 4], width: i64, heads: i64, std: [f64; 2]) -> Self {
        let [q, k, v, out] = names;
        Self {
            qkv: Linear::stacked(builder, &[q, k, v], width, width, std[0]),
            out: Linear::new(builder, &out, width, width, std[1]),
            heads,
        }
    }

    /// x [B, L, D], additive mask broadcastable to [B, H, L, L] → [B, L, D].
    pub fn forward(&self, w: &Weights, x: &Tensor, mask: Option<&Tensor>, context: Context) -> Tensor {
        let [batch, length, width] = size3(x);
        let qkv = self.qkv.forward(w, x).view([batch, length, 3, self.heads, width / self.heads]).permute([2, 0, 3, 1, 4]);
        let out = attend(&qkv.select(0, 0), &qkv.select(0, 1), &qkv.select(0, 2), mask, context);
        self.out.forward(w, &out)
    }
}

/// Attention of one sequence over the states of another; keys and values as one product.
#[derive(Debug, Clone, Copy)]
pub struct CrossAttention {
    query: Linear,
    kv: Linear,
    out: Linear,
    heads: i64,
}

impl CrossAttention {
    /// Declares query [width, width], key and value [width, memory], output [width, width].
    pub fn new(builder: &mut Builder, names: [String; 4], width: i64, memory: i64, heads: i64, std: [f64; 2]) -> Self {
        let [q, k, v, out] = names;
        Self {
            query: Linear::new(builder, &q, width, width, std[0]),
            kv: Linear::stacked(builder, &[k, v], memory, width, std[0]),
            out: Linear::new(builder, &out, width, width, std[1]),
            heads,
        }
    }

    /// x [B, L, D] attends to memory [B, M, Dm] with an additive mask broadcastable to [B, H, L, M] → [B, L, D].
    pub fn forward(&self, w: &Weights, x: &Tensor, memory: &Tensor, mask: Option<&Tensor>, context: Context) -> Tensor {
        let [batch, length, width] = size3(x);
        let head = width / self.heads;
        let query = self.query.forward(w, x).view([batch, length, self.heads, head]).transpose(1, 2);
        let memory_length = memory.size()[1];
        let kv = self.kv.forward(w, memory).view([batch, memory_length, 2, self.heads, head]).permute([2, 0, 3, 1, 4]);
        self.out.forward(w, &attend(&query, &kv.select(0, 0), &kv.select(0, 1), mask, context))
    }
}

fn size3(x: &Tensor) -> [i64; 3] {
    let size = x.size();
    [size[0], size[1], size[2]]
}
