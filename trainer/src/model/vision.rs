//! CLIP's vision tower (docs/R2D2.md §1.2): pre-LayerNorm blocks, quick GELU, and no LayerNorm on the states that leave it.

use tch::Tensor;

use super::config::ModelConfig;
use crate::nn::{Builder, Context, DropPath, Gelu, Init, LayerNorm, Leaf, Mlp, SelfAttention, Weights};

const LAYER_NORM_EPS: f64 = 1e-5;
/// Root mean square of the position table at the start. A white patch leaves the patch embedding with about 1 (normalised white is 2,
/// times [`PATCH_GAIN`]); a position table far below that would be invisible behind the LayerNorm that follows.
const POSITION_RMS: f64 = 0.5;
const PATCH_GAIN: f64 = 0.5;
const PREFIX: &str = "visual_encoder";

struct Block {
    norm1: LayerNorm,
    attention: SelfAttention,
    norm2: LayerNorm,
    mlp: Mlp,
}

/// The image tower.
pub struct VisionTower {
    class: Leaf,
    patch: Leaf,
    position: Leaf,
    pre_norm: LayerNorm,
    blocks: Vec<Block>,
    patch_px: i64,
    image_px: i64,
    width: i64,
}

impl VisionTower {
    /// Declares the tower; initial values follow CLIP's.
    pub fn new(b: &mut Builder, config: &ModelConfig) -> Self {
        let v = &config.vision;
        let width = v.width as f64;
        let embeddings = format!("{PREFIX}.embeddings");
        let class = b.vector(format!("{embeddings}.class_embedding"), &[v.width], Init::Normal(width.powf(-0.5)));
        let patch_shape = [v.width, 3, v.patch, v.patch];
        let patch_std = PATCH_GAIN * ((3 * v.patch * v.patch) as f64).powf(-0.5);
        let patch = b.matrix(format!("{embeddings}.patch_embedding.weight"), &patch_shape, Init::Normal(patch_std));
        let position =
            b.matrix(format!("{embeddings}.position_embedding.weight"), &[v.tokens(), v.width], Init::SinCosGrid(POSITION_RMS));
        let pre_norm = LayerNorm::new(b, &format!("{PREFIX}.pre_layrnorm"), v.width, LAYER_NORM_EPS);
        let residual_std = width.powf(-0.5) * (2.0 * v.layers as f64).powf(-0.5);
        let blocks = (0..v.layers)
            .map(|layer| {
                let at = |part: &str| format!("{PREFIX}.encoder.layers.{layer}.{part}");
                let attention = ["q_proj", "k_proj", "v_proj", "out_proj"].map(|part| at(&format!("self_attn.{part}")));
                let mlp_std = [(2.0 * width).powf(-0.5), residual_std];
                Block {
                    norm1: LayerNorm::new(b, &at("layer_norm1"), v.width, LAYER_NORM_EPS),
                    attention: SelfAttention::new(b, attention, v.width, v.heads, [width.powf(-0.5), residual_std]),
                    norm2: LayerNorm::new(b, &at("layer_norm2"), v.width, LAYER_NORM_EPS),
                    mlp: Mlp::new(b, [&at("mlp.fc1"), &at("mlp.fc2")], v.width, v.mlp, mlp_std, Gelu::Quick),
                }
            })
            .collect();
        if config.dead_weights {
            LayerNorm::new(b, &format!("{PREFIX}.post_layernorm"), v.width, LAYER_NORM_EPS);
        }
        Self { class, patch, position, pre_norm, blocks, patch_px: v.patch, image_px: v.image, width: v.width }
    }

    /// Pixels [B, 3, H, W] → states [B, 1 + K, width]; see [`super::R2d2::encode_image`] for `keep`.
    pub fn forward(&self, w: &Weights, pixels: &Tensor, keep: Option<&Tensor>, context: Context) -> Tensor {
        let batch = pixels.size()[0];
        let (side, p, d) = (self.image_px / self.patch_px, self.patch_px, self.width);
        // The convolution with stride = kernel is a matrix product over cut-out patches.
        let mut patches = pixels
            .to_kind(w.kind())
            .view([batch, 3, side, p, side, p])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch * side * side, 3 * p * p]);
        let positions = w.get(self.position);
        let patch_positions = positions.narrow(0, 1, side * side);
        let patch_positions = if let Some(keep) = keep {
            let starts = Tensor::arange(batch, (tch::Kind::Int64, pixels.device())).unsqueeze(1) * (side * side);
            patches = patches.index_select(0, &(keep + starts).view([-1]));
            patch_positions.index_select(0, &keep.view([-1])).view([batch, -1, d])
        } else {
            patch_positions.unsqueeze(0)
        };
        let weight = w.get(self.patch).view([d, 3 * p * p]);
        let patches = patches.linear(&weight, None::<Tensor>).view([batch, -1, d]) + patch_positions;
        let class = (w.get(self.class).to_kind(w.kind()) + positions.select(0, 0)).expand([batch, 1, d], false);
        let mut x = self.pre_norm.forward(w, &Tensor::cat(&[class, patches], 1));
        let depth = self.blocks.len().max(2) - 1;
        for (index, block) in self.blocks.iter().enumerate() {
            let path = DropPath { p: context.drop_path * index as f64 / depth as f64 };
            let branch = block.attention.forward(w, &block.norm1.forward(w, &x), None, context);
            x = path.add(&x, &branch, context.train);
            let branch = block.mlp.forward(w, &block.norm2.forward(w, &x));
            x = path.add(&x, &branch, context.train);
        }
        x
    }
}
