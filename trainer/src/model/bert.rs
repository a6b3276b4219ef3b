//! BERT's text tower (docs/R2D2.md §1.3) and the two cross encoders (§1.4): post-LayerNorm blocks with erf GELU.

use tch::{Kind, Tensor};

use super::config::ModelConfig;
use crate::nn::{Builder, Context, CrossAttention, Embedding, Gelu, Init, LayerNorm, Leaf, Linear, Mlp, SelfAttention, Weights};

const LAYER_NORM_EPS: f64 = 1e-12;
/// BERT's 0.02 at width 768, scaled so that a narrower matrix keeps the same gain.
const STD_AT_768: f64 = 0.02;
const EMBEDDING_STD: f64 = 0.02;
const TOKEN_TYPES: i64 = 2;

fn std_of(input: i64) -> f64 {
    STD_AT_768 * (768.0 / input as f64).sqrt()
}

struct Block {
    attention: SelfAttention,
    attention_norm: LayerNorm,
    cross: Option<(CrossAttention, LayerNorm)>,
    mlp: Mlp,
    mlp_norm: LayerNorm,
}

struct BlockSizes {
    width: i64,
    heads: i64,
    mlp: i64,
    /// Width of the other modality's states; none for the text tower.
    memory: Option<i64>,
}

impl Block {
    fn new(b: &mut Builder, prefix: &str, sizes: &BlockSizes) -> Self {
        let at = |part: &str| format!("{prefix}.{part}");
        let attention_names = |kind: &str| {
            [
                at(&format!("{kind}.self.query")),
                at(&format!("{kind}.self.key")),
                at(&format!("{kind}.self.value")),
                at(&format!("{kind}.output.dense")),
            ]
        };
        let width = sizes.width;
        let std = [std_of(width); 2];
        let attention = SelfAttention::new(b, attention_names("attention"), width, sizes.heads, std);
        let attention_norm = LayerNorm::new(b, &at("attention.output.LayerNorm"), width, LAYER_NORM_EPS);
        let cross = sizes.memory.map(|memory| {
            let cross = CrossAttention::new(b, attention_names("crossattention"), width, memory, sizes.heads, std);
            (cross, LayerNorm::new(b, &at("crossattention.output.LayerNorm"), width, LAYER_NORM_EPS))
        });
        let mlp_names = [at("intermediate.dense"), at("output.dense")];
        let mlp_std = [std_of(width), std_of(sizes.mlp)];
        let mlp = Mlp::new(b, [&mlp_names[0], &mlp_names[1]], width, sizes.mlp, mlp_std, Gelu::Erf);
        let mlp_norm = LayerNorm::new(b, &at("output.LayerNorm"), width, LAYER_NORM_EPS);
        Self { attention, attention_norm, cross, mlp, mlp_norm }
    }

    fn forward(
        &self,
        w: &Weights,
        x: &Tensor,
        mask: Option<&Tensor>,
        memory: Option<(&Tensor, Option<&Tensor>)>,
        context: Context,
    ) -> Tensor {
        let branch = context.drop(self.attention.forward(w, x, mask, context));
        let mut x = self.attention_norm.forward(w, &(branch + x));
        if let (Some((cross, norm)), Some((memory, memory_mask))) = (&self.cross, memory) {
            let branch = context.drop(cross.forward(w, &x, memory, memory_mask, context));
            x = norm.forward(w, &(branch + &x));
        }
        let branch = context.drop(self.mlp.forward(w, &x));
        self.mlp_norm.forward(w, &(branch + x))
    }
}

/// The text tower.
pub struct TextTower {
    word: Embedding,
    position: Embedding,
    token_type: Embedding,
    norm: LayerNorm,
    blocks: Vec<Block>,
}

impl TextTower {
    /// Declares the tower; the pooler only with dead weights.
    pub fn new(b: &mut Builder, config: &ModelConfig) -> Self {
        let t = &config.text;
        let at = |part: &str| format!("text_encoder.embeddings.{part}");
        let word = Embedding::new(b, &at("word_embeddings"), config.vocab, t.width, EMBEDDING_STD);
        let position = Embedding::new(b, &at("position_embeddings"), config.positions, t.width, EMBEDDING_STD);
        let token_type = Embedding::new(b, &at("token_type_embeddings"), TOKEN_TYPES, t.width, EMBEDDING_STD);
        let norm = LayerNorm::new(b, &at("LayerNorm"), t.width, LAYER_NORM_EPS);
        let sizes = BlockSizes { width: t.width, heads: t.heads, mlp: t.mlp, memory: None };
        let blocks = (0..t.layers).map(|layer| Block::new(b, &format!("text_encoder.encoder.layer.{layer}"), &sizes)).collect();
        if config.dead_weights {
            Linear::new(b, "text_encoder.pooler.dense", t.width, t.width, std_of(t.width));
        }
        Self { word, position, token_type, norm, blocks }
    }

    /// The word table, which the head of masked language modelling shares.
    pub fn word_table(&self) -> Leaf {
        self.word.table
    }

    /// Ids [B, L], additive mask [B, 1, 1, L] → states [B, L, width].
    pub fn forward(&self, w: &Weights, ids: &Tensor, mask: &Tensor, context: Context) -> Tensor {
        let length = ids.size()[1];
        // Positions count from 0 and the token type is always 0, so both are the first rows of their tables.
        let positions = w.get(self.position.table).narrow(0, 0, length);
        let token_type = w.get(self.token_type.table).select(0, 0);
        let embedded = self.word.forward(w, ids) + (positions + token_type).unsqueeze(0);
        let mut x = context.drop(self.norm.forward(w, &embedded));
        for block in &self.blocks {
            x = block.forward(w, &x, Some(mask), None, context);
        }
        x
    }
}

/// One cross encoder: `text_joint_layer` or `img_joint_layer`.
pub struct CrossTower {
    blocks: Vec<Block>,
}

impl CrossTower {
    /// Declares the stack under `prefix`; its unused embeddings only with dead weights. `memory` is the width of the other modality.
    pub fn new(b: &mut Builder, prefix: &str, config: &ModelConfig, memory: i64) -> Self {
        let (width, c) = (config.text.width, &config.cross);
        if config.dead_weights {
            let at = |part: &str| format!("{prefix}.embeddings.{part}");
            Embedding::new(b, &at("word_embeddings"), config.vocab, width, EMBEDDING_STD);
            Embedding::new(b, &at("position_embeddings"), config.positions, width, EMBEDDING_STD);
            LayerNorm::new(b, &at("LayerNorm"), width, LAYER_NORM_EPS);
        }
        let sizes = BlockSizes { width, heads: c.heads, mlp: c.mlp, memory: Some(memory) };
        let blocks = (0..c.layers).map(|layer| Block::new(b, &format!("{prefix}.encoder.layer.{layer}"), &sizes)).collect();
        Self { blocks }
    }

    /// Queries [P, L, width] with their padding mask attend to memory [P, M, memory] with its own → [P, L, width].
    pub fn forward(
        &self,
        w: &Weights,
        queries: &Tensor,
        mask: Option<&Tensor>,
        memory: &Tensor,
        memory_mask: Option<&Tensor>,
        context: Context,
    ) -> Tensor {
        let mut x = queries.shallow_clone();
        for block in &self.blocks {
            x = block.forward(w, &x, mask, Some((memory, memory_mask)), context);
        }
        x
    }
}

/// BERT's head of masked language modelling: dense, GELU, LayerNorm, then the word table as decoder and a bias.
pub struct MlmHead {
    dense: Linear,
    norm: LayerNorm,
    bias: Leaf,
}

impl MlmHead {
    /// Declares the head under BERT's names.
    pub fn new(b: &mut Builder, config: &ModelConfig) -> Self {
        let width = config.text.width;
        Self {
            dense: Linear::new(b, "cls.predictions.transform.dense", width, width, std_of(width)),
            norm: LayerNorm::new(b, "cls.predictions.transform.LayerNorm", width, LAYER_NORM_EPS),
            bias: b.vector("cls.predictions.bias".to_owned(), &[config.vocab], Init::Constant(0.0)),
        }
    }

    /// States [M, width] → logits [M, vocabulary] f32; `words` is the word table.
    pub fn forward(&self, w: &Weights, states: &Tensor, words: &Tensor) -> Tensor {
        let hidden = self.norm.forward(w, &self.dense.forward(w, states).gelu("none"));
        hidden.to_kind(words.kind()).linear(words, None::<Tensor>).to_kind(Kind::Float) + w.get(self.bias)
    }
}
