//! Image states standardised before the cross encoders. A vision tower that begins at CLIP's weights hands over states that the official
//! cross encoders can read; one that is trained from scratch ends on a residual stream of any size (rms 38.7 was seen, four fifths of it
//! one constant vector), which as keys and values drowns every query. So training standardises each channel by a frozen mean and
//! deviation, and a saved model has them folded into the official weights: W/σ and b − Wμ/σ.

use std::collections::HashMap;

use tch::{Kind, Tensor};

use crate::nn::{Named, Params};

/// Smallest deviation that is divided by: a channel that never changes stays at 0.
const DEVIATION_FLOOR: f64 = 1e-6;

/// Frozen mean and deviation of every channel of the image states.
#[derive(Debug)]
pub struct StateScale {
    /// [Dv], f32.
    mean: Tensor,
    /// [Dv], f32, above 0.
    deviation: Tensor,
}

impl StateScale {
    /// Mean and deviation over all tokens of `states` [B, L, Dv].
    pub fn of(states: &Tensor) -> Self {
        tch::no_grad(|| {
            let rows = states.detach().to_kind(Kind::Double).reshape([-1, *states.size().last().unwrap_or(&1)]);
            let mean = rows.mean_dim([0i64].as_slice(), false, Kind::Double);
            let square = (&rows - &mean).square().mean_dim([0i64].as_slice(), false, Kind::Double);
            let deviation = square.sqrt().clamp_min(DEVIATION_FLOOR);
            Self { mean: mean.to_kind(Kind::Float), deviation: deviation.to_kind(Kind::Float) }
        })
    }

    /// Of stored [`StateScale::parts`].
    pub fn from_parts([mean, deviation]: [Tensor; 2]) -> Self {
        Self { mean, deviation }
    }

    /// Mean and deviation, `[Dv]` each.
    pub fn parts(&self) -> [Tensor; 2] {
        [self.mean.shallow_clone(), self.deviation.shallow_clone()]
    }

    /// States [.., Dv] standardised, in their own kind.
    pub fn apply(&self, states: &Tensor) -> Tensor {
        ((states.to_kind(Kind::Float) - &self.mean) / &self.deviation).to_kind(states.kind())
    }

    /// `flat` (of the layout of `params`), copied, with the scale folded into every layer that reads image states: over raw states it
    /// gives what `flat` gives over standardised ones.
    pub fn fold(&self, params: &Params, flat: &Tensor) -> Tensor {
        tch::no_grad(|| {
            let folded = flat.copy();
            let by_name: HashMap<&str, &Named> = params.named().iter().map(|named| (named.name.as_str(), named)).collect();
            for (weight, layer) in by_name.iter().filter_map(|(name, named)| Some((named, reader_of_image_states(name)?))) {
                let mut weight = params.view(&folded, weight);
                let scaled = weight.to_kind(Kind::Double) / self.deviation.to_kind(Kind::Double);
                if let Some(bias) = by_name.get(format!("{layer}.bias").as_str()) {
                    let mut bias = params.view(&folded, bias);
                    let shift = scaled.mv(&self.mean.to_kind(Kind::Double));
                    let shifted = (bias.to_kind(Kind::Double) - shift).to_kind(Kind::Float);
                    bias.copy_(&shifted);
                }
                weight.copy_(&scaled.to_kind(Kind::Float));
            }
            folded
        })
    }
}

/// The layer whose weight has this official key, where it takes image states as they leave the vision tower.
fn reader_of_image_states(key: &str) -> Option<&str> {
    let layer = key.strip_suffix(".weight")?;
    let reads = layer == "img_joint_proj"
        || layer.starts_with("text_joint_layer.")
            && (layer.ends_with(".crossattention.self.key") || layer.ends_with(".crossattention.self.value"));
    reads.then_some(layer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelConfig, R2d2};
    use crate::nn::{Context, Precision};

    #[test]
    fn a_folded_model_gives_over_raw_states_what_training_gave_over_standardised_ones() {
        let config: ModelConfig = toml::from_str(include_str!("../../../configs/models/tiny.toml")).unwrap();
        let (mut model, mut params) = R2d2::new(&config).unwrap();
        params.initialise(3);
        tch::manual_seed(3);
        // As they were seen: large, and most of it the same in every token.
        let states = |width: i64, size: f64| Tensor::randn([4, 5, width], (Kind::Float, tch::Device::Cpu)) * size;
        let image =
            states(config.vision.width, 9.0) + Tensor::randn([config.vision.width], (Kind::Float, tch::Device::Cpu)) * 35.0;
        let (text, mask) = (states(config.text.width, 1.0), Tensor::ones([4, 5], (Kind::Int64, tch::Device::Cpu)));
        let scale = StateScale::of(&image);
        let standard = scale.apply(&image);
        assert!(standard.mean(Kind::Float).double_value(&[]).abs() < 1e-4);
        assert!((standard.square().mean(Kind::Float).double_value(&[]) - 1.0).abs() < 1e-3);
        let folded = scale.fold(&params, params.flat());
        model.set_image_scale(Some(scale));
        let trained = model.match_pairs(&params.weights(Precision::F32), &image, &text, &mask, Context::EVAL);
        model.set_image_scale(None);
        let served = model.match_pairs(&params.weights_of(&folded, Precision::F32), &image, &text, &mask, Context::EVAL);
        for (trained, served) in [(&trained.text, &served.text), (&trained.image, &served.image)] {
            let difference = (trained - served).abs().max().double_value(&[]);
            assert!(difference < 2e-5, "{difference}");
        }
    }
}
