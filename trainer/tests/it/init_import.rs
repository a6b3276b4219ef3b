//! Import of weights trained elsewhere: random values are written in each format, and every one is looked up in its place.

use std::path::Path;

use crate::init_support::{Weights, put, put_linear, put_norm, write_container, write_safetensors};
use crate::one_run_at_a_time;
use astromech_trainer::checkpoint::{
    CheckpointError, Pretrained, PretrainedModel, Start, import_official, import_prd2, import_pretrained,
};
use astromech_trainer::model::{ModelConfig, R2d2, interpolate_positions};
use tch::{Kind, Tensor};

/// Small sizes in the proportions of base (both towers of one width) or large (the image tower wider and deeper).
fn sizes(vision_width: i64, vision_layers: i64) -> ModelConfig {
    let text = format!(
        "embed = 24\nvocab = 40\npositions = 12\nmlm_head = true\n\
         [vision]\nwidth = {vision_width}\nlayers = {vision_layers}\nheads = 2\nmlp = 64\npatch = 4\nimage = 16\n\
         [text]\nwidth = 24\nlayers = 3\nheads = 2\nmlp = 48\n[cross]\nlayers = 2\nheads = 2\nmlp = 48\n"
    );
    toml::from_str(&text).unwrap()
}

fn base() -> ModelConfig {
    sizes(24, 3)
}

fn large() -> ModelConfig {
    sizes(32, 4)
}

const START: Start = Start { seed: 5, cross_from_text: true, partial: false };

/// A BERT as Hugging Face names it, with the head of masked language modelling.
fn bert(prefix: &str, positions: i64, [norm_weight, norm_bias]: [&str; 2]) -> Weights {
    let (mut weights, c) = (Weights::new(), base());
    let norm = |weights: &mut Weights, name: &str| {
        put(weights, format!("{name}.LayerNorm.{norm_weight}"), &[c.text.width]);
        put(weights, format!("{name}.LayerNorm.{norm_bias}"), &[c.text.width]);
    };
    let (width, mlp) = (c.text.width, c.text.mlp);
    put(&mut weights, format!("{prefix}embeddings.word_embeddings.weight"), &[c.vocab, width]);
    put(&mut weights, format!("{prefix}embeddings.position_embeddings.weight"), &[positions, width]);
    put(&mut weights, format!("{prefix}embeddings.token_type_embeddings.weight"), &[2, width]);
    put(&mut weights, format!("{prefix}embeddings.position_ids"), &[1, positions]);
    norm(&mut weights, &format!("{prefix}embeddings"));
    for layer in 0..c.text.layers {
        let at = format!("{prefix}encoder.layer.{layer}");
        for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            put_linear(&mut weights, &format!("{at}.{part}"), width, width);
        }
        norm(&mut weights, &format!("{at}.attention.output"));
        put_linear(&mut weights, &format!("{at}.intermediate.dense"), mlp, width);
        put_linear(&mut weights, &format!("{at}.output.dense"), width, mlp);
        norm(&mut weights, &format!("{at}.output"));
    }
    put_linear(&mut weights, &format!("{prefix}pooler.dense"), width, width);
    put_linear(&mut weights, "cls.predictions.transform.dense", width, width);
    norm(&mut weights, "cls.predictions.transform");
    put(&mut weights, "cls.predictions.bias", &[c.vocab]);
    put(&mut weights, "cls.predictions.decoder.weight", &[c.vocab, width]);
    put_linear(&mut weights, "cls.seq_relationship", 2, width);
    weights
}

/// CLIP's vision tower as Hugging Face names it.
fn clip(config: &ModelConfig, prefix: &str, image: i64) -> Weights {
    let (mut weights, v) = (Weights::new(), &config.vision);
    put(&mut weights, format!("{prefix}embeddings.class_embedding"), &[v.width]);
    put(&mut weights, format!("{prefix}embeddings.patch_embedding.weight"), &[v.width, 3, v.patch, v.patch]);
    put(&mut weights, format!("{prefix}embeddings.position_embedding.weight"), &[(image / v.patch).pow(2) + 1, v.width]);
    put_norm(&mut weights, &format!("{prefix}pre_layrnorm"), v.width);
    for layer in 0..v.layers {
        let at = format!("{prefix}encoder.layers.{layer}");
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            put_linear(&mut weights, &format!("{at}.self_attn.{part}"), v.width, v.width);
        }
        put_norm(&mut weights, &format!("{at}.layer_norm1"), v.width);
        put_norm(&mut weights, &format!("{at}.layer_norm2"), v.width);
        put_linear(&mut weights, &format!("{at}.mlp.fc1"), v.mlp, v.width);
        put_linear(&mut weights, &format!("{at}.mlp.fc2"), v.width, v.mlp);
    }
    put_norm(&mut weights, &format!("{prefix}post_layernorm"), v.width);
    weights
}

fn value(imported: &PretrainedModel, name: &str) -> Tensor {
    imported.params.value(name).unwrap_or_else(|| panic!("{name} is no parameter"))
}

#[track_caller]
fn same(imported: &PretrainedModel, name: &str, expected: &Tensor) {
    let found = value(imported, name);
    assert_eq!(found.size(), expected.size(), "{name}");
    assert!((found - expected).abs().max().double_value(&[]) < 1e-6, "{name}");
}

fn import_text(path: &Path, config: &ModelConfig, start: Start) -> Result<PretrainedModel, CheckpointError> {
    import_pretrained(Pretrained { text: Some(path), vision: None }, config, start)
}

fn import_vision(path: &Path, config: &ModelConfig, start: Start) -> Result<PretrainedModel, CheckpointError> {
    import_pretrained(Pretrained { text: None, vision: Some(path) }, config, start)
}

#[test]
fn every_value_of_a_bert_is_in_its_place_whatever_its_prefix_and_its_layer_norms_names() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    for (case, (prefix, norm)) in
        [("bert.", ["weight", "bias"]), ("", ["gamma", "beta"]), ("text_encoder.", ["weight", "bias"])].into_iter().enumerate()
    {
        let weights = bert(prefix, 20, norm);
        let path = folder.path().join(format!("{case}.bin"));
        // The first as safetensors, the others as the pickles that older releases are.
        if case == 0 {
            write_safetensors(&path, &weights);
        } else {
            write_container(&path, &weights, false);
        }
        let imported = import_text(&path, &large(), START).unwrap();
        let mut taken = 0;
        for (key, tensor) in &weights {
            let rest = key.strip_prefix(prefix).unwrap_or(key).replace("LayerNorm.gamma", "LayerNorm.weight");
            let rest = rest.replace("LayerNorm.beta", "LayerNorm.bias");
            match rest.as_str() {
                "cls.predictions.decoder.weight" | "embeddings.position_ids" => {}
                key if key.starts_with("cls.seq_relationship") => {}
                key if key.starts_with("cls.") => same(&imported, key, tensor),
                "embeddings.position_embeddings.weight" => {
                    same(&imported, "text_encoder.embeddings.position_embeddings.weight", &tensor.narrow(0, 0, 12));
                }
                key => same(&imported, &format!("text_encoder.{key}"), tensor),
            }
            taken +=
                usize::from(imported.params.value(&format!("text_encoder.{rest}")).is_some() || rest.starts_with("cls.pred"));
        }
        let report = &imported.report.files[0];
        assert_eq!(report.taken, taken - 1, "all but the tied decoder: {report}");
        assert!(report.missing.is_empty() && report.mis_shaped.is_empty() && report.absent.is_empty(), "{report}");
        assert_eq!(report.extra, ["cls.seq_relationship.bias", "cls.seq_relationship.weight"]);
        assert_eq!(report.ignored.len(), 2, "{report}");
        assert!(report.to_string().contains("is cut to the first 12 of 20 rows"), "{report}");
    }
}

#[test]
fn both_cross_encoders_start_from_the_last_layers_of_the_text_tower() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bert.safetensors");
    let weights = bert("bert.", 12, ["weight", "bias"]);
    write_safetensors(&path, &weights);
    let imported = import_text(&path, &large(), START).unwrap();
    for stack in ["text_joint_layer", "img_joint_layer"] {
        for layer in 0..2 {
            for part in [
                "attention.self.value.weight",
                "attention.output.LayerNorm.bias",
                "intermediate.dense.weight",
                "output.dense.bias",
            ] {
                let from = &weights[&format!("bert.encoder.layer.{}.{part}", layer + 1)];
                same(&imported, &format!("{stack}.encoder.layer.{layer}.{part}"), from);
            }
        }
    }
    assert_eq!(imported.report.from_text.len(), 2 * 2 * 16);
    assert!(imported.report.initial.iter().any(|name| name.contains("crossattention")));
    assert!(
        !imported
            .report
            .initial
            .iter()
            .any(|name| name.starts_with("text_encoder.") || name.contains("joint_layer.encoder.layer.0.output"))
    );
    let random = import_text(&path, &large(), Start { cross_from_text: false, ..START }).unwrap();
    assert!(random.report.from_text.is_empty());
    let name = "text_joint_layer.encoder.layer.0.attention.self.value.weight";
    assert!((value(&random, name) - value(&imported, name)).abs().max().double_value(&[]) > 0.1);
    // Other heads: the matrices mean something else, so attention stays random and the feed-forward part is taken.
    let mut other = large();
    other.cross.heads = 3;
    let partly = import_text(&path, &other, START).unwrap();
    assert_eq!(partly.report.from_text.len(), 2 * 2 * 6);
}

#[test]
fn every_value_of_a_clip_is_in_its_place_and_its_grid_is_interpolated() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    for (config, image) in [(base(), 16), (large(), 16), (large(), 24)] {
        let path = folder.path().join("clip.safetensors");
        let mut weights = clip(&config, "vision_model.", image);
        put(&mut weights, "vision_model.embeddings.position_ids", &[1, 17]);
        put(&mut weights, "text_model.encoder.layers.0.mlp.fc1.weight", &[4, 4]);
        put(&mut weights, "text_model.encoder.layers.1.mlp.fc1.weight", &[4, 4]);
        put(&mut weights, "visual_projection.weight", &[4, 4]);
        put(&mut weights, "logit_scale", &[]);
        write_safetensors(&path, &weights);
        let imported = import_vision(&path, &config, START).unwrap();
        let own = weights.iter().filter(|(key, _)| key.starts_with("vision_model.") && !key.ends_with("position_ids"));
        for (key, tensor) in own.clone() {
            let target = key.replace("vision_model.", "visual_encoder.");
            if key.ends_with("position_embedding.weight") {
                same(&imported, &target, &interpolate_positions(tensor, 4).unwrap());
            } else {
                same(&imported, &target, tensor);
            }
        }
        let report = &imported.report.files[0];
        assert_eq!((report.taken, report.extra.len(), report.ignored.len()), (own.count(), 4, 1), "{report}");
        let text = report.to_string();
        assert!(text.contains("text_model.encoder.layers.*.mlp.fc1.weight (2)"), "{text}");
        assert_eq!(text.contains("is interpolated from a grid of 6 x 6 to 4 x 4"), image == 24, "{text}");
        assert!(!imported.report.initial.iter().any(|name| name.starts_with("visual_encoder.")));
        assert!(imported.report.initial.iter().any(|name| name.starts_with("text_encoder.")));
    }
}

/// (name in a ViT of Hugging Face, name in timm, official name) of the parts of a layer.
const VIT_PARTS: [(&str, &str, &str); 5] = [
    ("attention.output.dense", "attn.proj", "self_attn.out_proj"),
    ("layernorm_before", "norm1", "layer_norm1"),
    ("layernorm_after", "norm2", "layer_norm2"),
    ("intermediate.dense", "mlp.fc1", "mlp.fc1"),
    ("output.dense", "mlp.fc2", "mlp.fc2"),
];

#[test]
fn every_value_of_a_vit_of_hugging_face_or_timm_is_in_its_place() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let config = large();
    let v = &config.vision;
    for timm in [false, true] {
        let official = clip(&config, "", 16);
        let bias = Tensor::randn([v.width], (Kind::Float, tch::Device::Cpu));
        let mut weights = Weights::new();
        for (key, tensor) in &official {
            let tensor = tensor.shallow_clone();
            let (name, tensor) = match key.as_str() {
                "embeddings.class_embedding" => (["vit.embeddings.cls_token", "cls_token"], tensor.view([1, 1, -1])),
                "embeddings.position_embedding.weight" => {
                    (["vit.embeddings.position_embeddings", "pos_embed"], tensor.unsqueeze(0))
                }
                "embeddings.patch_embedding.weight" => {
                    (["vit.embeddings.patch_embeddings.projection.weight", "patch_embed.proj.weight"], tensor)
                }
                "post_layernorm.weight" => (["vit.layernorm.weight", "norm.weight"], tensor),
                "post_layernorm.bias" => (["vit.layernorm.bias", "norm.bias"], tensor),
                _ => continue,
            };
            weights.insert(name[usize::from(timm)].to_owned(), tensor);
        }
        let name = ["vit.embeddings.patch_embeddings.projection.bias", "patch_embed.proj.bias"][usize::from(timm)];
        weights.insert(name.to_owned(), bias.shallow_clone());
        for layer in 0..v.layers {
            for kind in ["weight", "bias"] {
                let own = |part: &str| official[&format!("encoder.layers.{layer}.{part}.{kind}")].shallow_clone();
                for (vit, fused, part) in VIT_PARTS {
                    let name = if timm { format!("blocks.{layer}.{fused}") } else { format!("vit.encoder.layer.{layer}.{vit}") };
                    weights.insert(format!("{name}.{kind}"), own(part));
                }
                let projections = ["q_proj", "k_proj", "v_proj"].map(|part| own(&format!("self_attn.{part}")));
                if timm {
                    weights.insert(format!("blocks.{layer}.attn.qkv.{kind}"), Tensor::cat(&projections, 0));
                } else {
                    for (part, tensor) in ["query", "key", "value"].iter().zip(projections) {
                        weights.insert(format!("vit.encoder.layer.{layer}.attention.attention.{part}.{kind}"), tensor);
                    }
                }
            }
        }
        put_linear(&mut weights, if timm { "head" } else { "classifier" }, 3, v.width);
        let path = folder.path().join("vit.safetensors");
        write_safetensors(&path, &weights);
        let imported = import_vision(&path, &config, START).unwrap();
        for (key, tensor) in official.iter().filter(|(key, _)| !key.starts_with("pre_layrnorm")) {
            let mut expected = tensor.shallow_clone();
            if key.ends_with("position_embedding.weight") {
                // The class token's row is as it was, the patches' rows carry the patch embedding's bias.
                let patches = tensor.narrow(0, 1, 16) + &bias;
                expected = Tensor::cat(&[tensor.narrow(0, 0, 1), patches], 0);
            }
            same(&imported, &format!("visual_encoder.{key}"), &expected);
        }
        let report = &imported.report.files[0];
        assert_eq!(report.absent, ["visual_encoder.pre_layrnorm.bias", "visual_encoder.pre_layrnorm.weight"], "{report}");
        assert_eq!(report.extra.len(), 2, "{report}");
        assert!(report.to_string().contains("quick GELU"), "{report}");
    }
}

#[test]
fn missing_and_mis_shaped_keys_are_named_and_only_passed_over_when_asked() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bert.safetensors");
    let mut weights = bert("bert.", 12, ["weight", "bias"]);
    weights.remove("bert.encoder.layer.1.output.dense.weight");
    put(&mut weights, "bert.embeddings.word_embeddings.weight", &[41, 24]);
    write_safetensors(&path, &weights);
    let error = import_text(&path, &large(), START).err().unwrap().to_string();
    for part in [
        "missing: text_encoder.encoder.layer.1.output.dense.weight;",
        "text_encoder.embeddings.word_embeddings.weight (model [40, 24], checkpoint [41, 24])",
        "bert.safetensors",
        "--partial",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let partly = import_text(&path, &large(), Start { partial: true, ..START }).unwrap();
    for name in ["text_encoder.encoder.layer.1.output.dense.weight", "text_encoder.embeddings.word_embeddings.weight"] {
        assert!(partly.report.initial.contains(&name.to_owned()), "{name}");
    }
    let error = import_vision(&path, &large(), START).err().unwrap().to_string();
    assert!(error.contains("it holds no vision transformer"), "{error}");
}

/// Random weights of a whole model under their official names, with what else an official file may hold.
fn official(config: &ModelConfig, accepts: impl Fn(&str) -> bool) -> Weights {
    let mut weights = Weights::new();
    for (name, shape) in R2d2::keys(config).unwrap().into_iter().filter(|(name, _)| accepts(name)) {
        put(&mut weights, name, &shape);
    }
    put(&mut weights, "text_encoder.embeddings.position_ids", &[1, 12]);
    put(&mut weights, "vision_proj_m.weight", &[4, 4]);
    weights
}

#[test]
fn every_value_of_an_official_r2d2_is_in_its_place_in_both_sizes() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    for mut config in [base(), large()] {
        config.mlm_head = false;
        let path = folder.path().join("r2d2.pth");
        let weights = official(&config, |_| true);
        write_container(&path, &weights, true);
        let loaded = import_official(&path, &config).unwrap();
        for named in loaded.params.named() {
            let found = loaded.params.value(&named.name).unwrap();
            assert!(found.equal(&weights[&named.name]), "{}", named.name);
        }
        assert_eq!(loaded.report.unexpected, ["vision_proj_m.weight"]);
        assert_eq!(loaded.report.ignored.len(), 1);
    }
}

#[test]
fn every_value_of_an_official_prd2_is_in_its_place_and_its_single_tower_starts_anew() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    for mut config in [base(), large()] {
        config.mlm_head = false;
        let path = folder.path().join("prd2.pth");
        let dual = |name: &str| !name.contains("joint") && !name.starts_with("itm_head");
        let weights = official(&config, dual);
        write_container(&path, &weights, true);
        let imported = import_prd2(&path, &config, START).unwrap();
        for named in imported.params.named().iter().filter(|named| dual(&named.name)) {
            assert!(value(&imported, &named.name).equal(&weights[&named.name]), "{}", named.name);
        }
        let report = &imported.report.files[0];
        assert_eq!(report.extra, ["vision_proj_m.weight"]);
        assert_eq!(imported.report.from_text.len(), 2 * 2 * 16);
        assert!(imported.report.initial.iter().all(|name| !dual(name)), "{:?}", imported.report.initial);
        assert!(imported.report.initial.contains(&"itm_head.weight".to_owned()));
        // Without saying that it is PRD2, what it lacks is an error that names it.
        let error = import_official(&path, &config).err().unwrap().to_string();
        assert!(error.contains("missing: ") && error.contains("itm_head_i.bias"), "{error}");
    }
}

#[test]
fn the_presets_have_as_many_tensors_as_the_official_checkpoints() {
    // docs/R2D2.md §5.3, without the 4, 4 and 2 buffers of position ids.
    let presets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/models");
    let keys = |name: &str| R2d2::keys(&ModelConfig::read(&presets.join(name)).unwrap()).unwrap();
    let (base, large) = (keys("base.toml"), keys("large.toml"));
    assert_eq!((base.len(), large.len()), (733 - 4, 925 - 4));
    let dual = large.iter().filter(|(name, _)| !name.contains("joint") && !name.starts_with("itm_head"));
    assert_eq!(dual.count(), 597 - 2);
}
