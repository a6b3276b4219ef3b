//! The presets of configs/models against the parameter counts of docs/R2D2.md §1.7.

use std::path::Path;

use astromech_trainer::model::{ModelConfig, R2d2};
use astromech_trainer::train::TrainConfig;

fn configs() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

fn preset(name: &str) -> ModelConfig {
    ModelConfig::read(&configs().join("models").join(format!("{name}.toml"))).unwrap()
}

#[test]
fn base_has_the_official_number_of_parameters() {
    assert_eq!(R2d2::numel(&preset("base")).unwrap(), 336_505_349);
}

#[test]
fn large_has_the_official_number_of_parameters() {
    assert_eq!(R2d2::numel(&preset("large")).unwrap(), 556_638_213);
}

#[test]
fn without_dead_weights_base_is_smaller_by_exactly_them() {
    let mut config = preset("base");
    config.dead_weights = false;
    // Two embeddings of the cross encoders, the pooler, the vision tower's last LayerNorm.
    let dead = 2 * 16_621_056 + 768 * 768 + 768 + 2 * 768;
    assert_eq!(R2d2::numel(&config).unwrap(), 336_505_349 - dead);
}

#[test]
fn tiny_is_the_parity_packs_size() {
    let config = preset("tiny");
    assert_eq!((config.vision.width, config.text.width, config.embed), (96, 64, 48));
}

#[test]
fn the_demo_training_configuration_is_valid() {
    let config = TrainConfig::read(&configs().join("train-demo.toml"), &["optim.lr=1".into(), "run.out=x".into()]).unwrap();
    assert!((config.optim.lr - 1.0).abs() < 1e-12);
    assert_eq!(config.run.out, Path::new("x"));
}

#[test]
fn a_size_that_does_not_divide_is_named() {
    let mut config = preset("tiny");
    config.text.heads = 7;
    let error = R2d2::numel(&config).unwrap_err().to_string();
    assert!(error.contains("model.text.width = 64 must be a multiple of model.text.heads = 7"), "{error}");
}

#[test]
fn an_unknown_key_in_the_training_configuration_is_named() {
    let error =
        TrainConfig::read(&configs().join("train-demo.toml"), &["optim.learning_rate=1e-3".into()]).unwrap_err().to_string();
    assert!(error.contains("learning_rate"), "{error}");
    let error = TrainConfig::read(&configs().join("train-demo.toml"), &["data.patch_keep=2".into()]).unwrap_err().to_string();
    assert!(error.contains("--set: data.patch_keep: 2 is outside 0 to 1; fix: write a number from 0 to 1"), "{error}");
}
