//! Mimetic initialisation of the image tower's attention (Trockman and Kolter, "Mimetic initialization of self-attention layers", 2023).
//!
//! Trained transformers have query-key products near a positive multiple of the identity and value-output products near a negative one.
//! Starting there, tokens look at their neighbours (the position table makes neighbours alike) from the first step on, which a model
//! with little data need not learn any more. The scales are the paper's; the noise has variance 1/width in both products.

use tch::{Device, Kind, Tensor};

use super::config::ModelConfig;
use crate::nn::Params;

/// Scales of noise and identity in the query-key product.
const QUERY_KEY: [f64; 2] = [0.7, 0.7];
/// Scales of noise and (negative) identity in the value-output product.
const VALUE_OUTPUT: [f64; 2] = [0.4, 0.4];

/// Overwrites the attention weights of the image tower; the generator of random numbers is LibTorch's.
pub fn mimetic_vision(params: &mut Params, config: &ModelConfig) {
    let v = &config.vision;
    let (width, head) = (v.width, v.width / v.heads);
    let noise = |scale: f64| Tensor::randn([width, width], (Kind::Float, Device::Cpu)) * (scale / (width as f64).sqrt());
    let identity = |scale: f64| Tensor::eye(width, (Kind::Float, Device::Cpu)) * scale;
    for layer in 0..v.layers {
        let name = |part: &str| format!("visual_encoder.encoder.layers.{layer}.self_attn.{part}.weight");
        let (mut queries, mut keys) = (Vec::new(), Vec::new());
        for _ in 0..v.heads {
            // q·k = xᵀ Wqᵀ Wk x: the best factors of rank `head` of the wanted product.
            let [q, k] = factors(&(noise(QUERY_KEY[0]) + identity(QUERY_KEY[1])), head);
            queries.push(q);
            keys.push(k);
        }
        let [output, value] = factors(&(noise(VALUE_OUTPUT[0]) - identity(VALUE_OUTPUT[1])), width);
        params.copy_named(&name("q_proj"), &Tensor::cat(&queries, 0));
        params.copy_named(&name("k_proj"), &Tensor::cat(&keys, 0));
        params.copy_named(&name("v_proj"), &value);
        params.copy_named(&name("out_proj"), &output.tr());
    }
}

/// [A, B], each [rank, width], whose product Aᵀ·B is the best approximation of `product` of that rank.
fn factors(product: &Tensor, rank: i64) -> [Tensor; 2] {
    let (u, s, v) = product.svd(true, true);
    let root = s.narrow(0, 0, rank).sqrt();
    [(u.narrow(1, 0, rank) * &root).tr().contiguous(), (v.narrow(1, 0, rank) * &root).tr().contiguous()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_rank_factors_multiply_back() {
        tch::manual_seed(1);
        let product = Tensor::randn([6, 6], (Kind::Float, Device::Cpu));
        let [a, b] = factors(&product, 6);
        assert!((a.tr().matmul(&b) - product).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn attention_starts_near_the_identity() {
        let text = include_str!("../../../configs/models/tiny.toml");
        let config: ModelConfig = toml::from_str(text).unwrap();
        let (_, mut params) = crate::model::R2d2::new(&config).unwrap();
        params.initialise(3);
        mimetic_vision(&mut params, &config);
        let value = |part: &str| params.value(&format!("visual_encoder.encoder.layers.0.self_attn.{part}.weight")).unwrap();
        let width = config.vision.width as f64;
        let through = value("out_proj").matmul(&value("v_proj"));
        assert!((through.trace().double_value(&[]) / width + VALUE_OUTPUT[1]).abs() < 0.2);
        let looked = value("q_proj").tr().matmul(&value("k_proj"));
        assert!(looked.trace().double_value(&[]) > 0.0);
    }
}
