//! R2D2 exactly as docs/R2D2.md §1 describes it, under the official key names of §5.3.

mod bert;
mod config;
mod interpolate;
mod mimetic;
mod standardise;
mod vision;

use tch::{Kind, Tensor};

pub use bert::{CrossTower, MlmHead, TextTower};
pub use config::{ConfigError, CrossConfig, ModelConfig, TextConfig, VisionConfig};
pub use interpolate::{grid_side, interpolate_positions};
pub use mimetic::mimetic_vision;
pub use standardise::StateScale;
pub use vision::VisionTower;

use crate::loss::Tokens;
use crate::nn::{Builder, Context, Init, Leaf, Linear, Params, Weights};

/// CLIP's mean of each channel (docs/R2D2.md §3.4).
pub const PIXEL_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// CLIP's standard deviation of each channel (docs/R2D2.md §3.4).
pub const PIXEL_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
/// Bounds the temperature is clamped to at every training step (docs/R2D2.md §1.5).
pub const TEMPERATURE_BOUNDS: [f64; 2] = [0.001, 0.5];
const TEMPERATURE_INITIAL: f64 = 0.07;
/// Key of the temperature.
pub const TEMPERATURE_KEY: &str = "temp";

/// One modality encoded.
#[derive(Debug)]
pub struct Encoded {
    /// Unit vectors [B, embed], f32.
    pub embedding: Tensor,
    /// Token states [B, L, width] in the compute kind, as the cross encoders take them.
    pub states: Tensor,
}

/// Logits of both cross encoders for a list of pairs; class 1 means match.
#[derive(Debug)]
pub struct MatchLogits {
    /// `itm_head` over the text-image cross encoder (`text_joint_layer`), [P, 2], f32.
    pub text: Tensor,
    /// States that leave the text-image cross encoder, [P, L, width]: what masked language modelling guesses from.
    pub text_states: Tensor,
    /// `itm_head_i` over the image-text cross encoder (`img_joint_layer`), [P, 2], f32.
    pub image: Tensor,
}

impl MatchLogits {
    /// Probabilities (itm_text, itm_image), each `[P]` (docs/R2D2.md §4.1 step 4).
    pub fn probabilities(&self) -> (Tensor, Tensor) {
        let of = |logits: &Tensor| logits.softmax(-1, Kind::Float).select(-1, 1);
        (of(&self.text), of(&self.image))
    }
}

/// The architecture: leaf numbers only, values come with every call.
pub struct R2d2 {
    /// The sizes it was built with.
    pub config: ModelConfig,
    vision: VisionTower,
    text: TextTower,
    text_joint: CrossTower,
    img_joint: CrossTower,
    vision_proj: Linear,
    text_proj: Linear,
    img_joint_proj: Linear,
    itm_head: Linear,
    itm_head_i: Linear,
    temp: Leaf,
    mlm: Option<MlmHead>,
    /// While it is trained: how image states are standardised before the cross encoders. A saved model has it folded in.
    image_scale: Option<StateScale>,
}

impl R2d2 {
    /// Declares the model; the parameters come back zeroed.
    ///
    /// # Errors
    /// Sizes that are no model, or a task that cannot be read.
    pub fn new(config: &ModelConfig) -> Result<(Self, Params), ConfigError> {
        let (model, builder) = Self::declare(config)?;
        Ok((model, Params::new(builder.layout())))
    }

    /// Number of parameters of a configuration, without allocating them.
    ///
    /// # Errors
    /// Sizes that are no model.
    pub fn numel(config: &ModelConfig) -> Result<i64, ConfigError> {
        Ok(Self::declare(config)?.1.numel())
    }

    /// Official names and shapes of all parameters of a configuration, without allocating them.
    ///
    /// # Errors
    /// Sizes that are no model.
    pub fn keys(config: &ModelConfig) -> Result<Vec<(String, Vec<i64>)>, ConfigError> {
        let layout = Self::declare(config)?.1.layout();
        Ok(layout.named().iter().map(|named| (named.name.clone(), named.shape.clone())).collect())
    }

    fn declare(config: &ModelConfig) -> Result<(Self, Builder), ConfigError> {
        config.validate()?;
        let mut b = Builder::new();
        let (vw, tw, embed) = (config.vision.width, config.text.width, config.embed);
        let vision = VisionTower::new(&mut b, config);
        let text = TextTower::new(&mut b, config);
        let text_joint = CrossTower::new(&mut b, "text_joint_layer", config, vw);
        let img_joint = CrossTower::new(&mut b, "img_joint_layer", config, tw);
        let std_of = |input: i64| (input as f64).powf(-0.5);
        let model = Self {
            vision,
            text,
            text_joint,
            img_joint,
            vision_proj: Linear::new(&mut b, "vision_proj", vw, embed, std_of(vw)),
            text_proj: Linear::new(&mut b, "text_proj", tw, embed, std_of(tw)),
            img_joint_proj: Linear::new(&mut b, "img_joint_proj", vw, tw, std_of(vw)),
            itm_head: Linear::new(&mut b, "itm_head", tw, 2, 0.02),
            itm_head_i: Linear::new(&mut b, "itm_head_i", tw, 2, 0.02),
            temp: b.vector(TEMPERATURE_KEY.to_owned(), &[], Init::Constant(TEMPERATURE_INITIAL)),
            mlm: config.mlm_head.then(|| MlmHead::new(&mut b, config)),
            image_scale: None,
            config: config.clone(),
        };
        Ok((model, b))
    }

    /// Pixels [B, 3, H, W] f32, already normalised → image states and embedding. `keep` holds, for every image, the patches that stay
    /// ([B, K] i64, counted from 0 at the first patch): training may drop patches; `None` keeps all.
    pub fn encode_image(&self, w: &Weights, pixels: &Tensor, keep: Option<&Tensor>, context: Context) -> Encoded {
        let states = self.vision.forward(w, pixels, keep, context);
        let embedding = unit(&self.vision_proj.forward_f32(w, &states.select(1, 0)));
        Encoded { embedding, states }
    }

    /// Token ids [B, L] i64 and mask [B, L] (1 = token, 0 = padding) → text states and embedding.
    pub fn encode_text(&self, w: &Weights, ids: &Tensor, mask: &Tensor, context: Context) -> Encoded {
        let states = self.text.forward(w, ids, &additive(mask, w.kind()), context);
        let embedding = unit(&self.text_proj.forward_f32(w, &states.select(1, 0)));
        Encoded { embedding, states }
    }

    /// Every token of an image in the common space, as late interaction compares them: the class token and all patches.
    pub fn image_tokens(&self, w: &Weights, states: &Tensor) -> Tokens {
        let rows = unit(&self.vision_proj.forward_f32(w, states));
        let size = rows.size();
        Tokens { rows, mask: Tensor::ones([size[0], size[1]], (Kind::Float, states.device())) }
    }

    /// Every token of a text in the common space; `mask` [B, L] as in [`R2d2::encode_text`].
    pub fn text_tokens(&self, w: &Weights, states: &Tensor, mask: &Tensor) -> Tokens {
        Tokens { rows: unit(&self.text_proj.forward_f32(w, states)), mask: mask.to_kind(Kind::Float) }
    }

    /// How image states are standardised before the cross encoders from now on; `None` takes them as they are.
    pub fn set_image_scale(&mut self, scale: Option<StateScale>) {
        self.image_scale = scale;
    }

    /// How image states are standardised before the cross encoders, while they are trained so.
    pub const fn image_scale(&self) -> Option<&StateScale> {
        self.image_scale.as_ref()
    }

    /// Both cross encoders over P pairs: image states [P, Lv, Dv], text states [P, L, Dt], text mask [P, L].
    pub fn match_pairs(
        &self,
        w: &Weights,
        image_states: &Tensor,
        text_states: &Tensor,
        mask: &Tensor,
        context: Context,
    ) -> MatchLogits {
        let mask = additive(mask, w.kind());
        let standard = self.image_scale.as_ref().map(|scale| scale.apply(image_states));
        let image_states = standard.as_ref().unwrap_or(image_states);
        let text = self.text_joint.forward(w, text_states, Some(&mask), image_states, None, context);
        let queries = self.img_joint_proj.forward(w, image_states);
        let image = self.img_joint.forward(w, &queries, None, text_states, Some(&mask), context);
        MatchLogits {
            text: self.itm_head.forward_f32(w, &text.select(1, 0)),
            text_states: text,
            image: self.itm_head_i.forward_f32(w, &image.select(1, 0)),
        }
    }

    /// States [M, width] of masked places → logits [M, vocabulary] f32; `None` for a model without the head.
    pub fn guess_tokens(&self, w: &Weights, states: &Tensor) -> Option<Tensor> {
        self.mlm.as_ref().map(|head| head.forward(w, states, w.get(self.text.word_table())))
    }

    /// The temperature, a scalar tensor that gradient flows into.
    pub fn temperature<'a>(&self, w: &'a Weights) -> &'a Tensor {
        w.get(self.temp)
    }
}

/// L2 normalisation of rows.
fn unit(x: &Tensor) -> Tensor {
    let norm = x.square().sum_dim_intlist([-1i64].as_slice(), true, Kind::Float).sqrt().clamp_min(1e-12);
    x / norm
}

/// Mask [B, L] of ones and zeros → additive mask [B, 1, 1, L] for padding.
fn additive(mask: &Tensor, kind: Kind) -> Tensor {
    // -10000 as the official self-attention (docs/R2D2.md §1.4); in the cross-attention any large negative value gives the same result.
    ((mask.to_kind(Kind::Float) - 1.0) * 10_000.0).to_kind(kind).unsqueeze(1).unsqueeze(1)
}
