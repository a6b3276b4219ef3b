//! The official class's outputs (../shared/parity), through exported graphs as the daemon serves them.

use std::path::Path;
use std::sync::Arc;

use crate::export_support::{Pack, cosine, largest_difference};
use astromech_schemas::manifest::Precision;
use astromech_towers::{Bundle, ImageLimits, Tokenizer, Towers, TowersConfig, TowersError, decode_and_squash};
use astromech_trainer::checkpoint::{LoadedModel, import_official};
use astromech_trainer::export::verify::bounds;
use astromech_trainer::export::{ExportError, GraphOptions, OPSET_COMPATIBLE, OPSET_DEFAULT, WeightMap};
use astromech_trainer::model::ModelConfig;
use astromech_trainer::onnx::proto::ModelProto;
use astromech_trainer::release::{
    CardFacts, ReleaseError, ReleaseOptions, Samples, add_metrics, export_all, release, release_weights,
};
use prost::Message as _;

const MAX_TOKENS: usize = 64;
const DIFFERENCE_MAX: f64 = 1e-4;
const ALL: [Precision; 3] = [Precision::F32, Precision::Int8, Precision::Fp16];

fn config(pack: &Pack) -> ModelConfig {
    serde_json::from_slice(&std::fs::read(pack.dir.join("config.json")).unwrap()).unwrap()
}

fn load(pack: &Pack) -> LoadedModel {
    import_official(&pack.dir.join("r2d2_tiny_random.pth"), &config(pack)).unwrap()
}

fn tokenizer(pack: &Pack) -> Tokenizer {
    Tokenizer::from_vocab_file(&pack.vocabulary, MAX_TOKENS).unwrap()
}

fn samples(pack: &Pack) -> Samples {
    let limits = ImageLimits::default();
    let pictures = (0..4).map(|index| decode_and_squash(&pack.pixels(index), 224, &limits).unwrap()).collect();
    let tokenizer = tokenizer(pack);
    Samples::new(pictures, pack.texts[..4].iter().map(|text| tokenizer.prepare(text)).collect()).unwrap()
}

fn options(pack: &Pack, opset: u32, precisions: &[Precision]) -> ReleaseOptions {
    ReleaseOptions {
        name: "parity".to_owned(),
        parent: None,
        precisions: precisions.to_vec(),
        opset,
        max_tokens: MAX_TOKENS,
        keep_f32: Vec::new(),
        late_interaction: false,
        vocabulary: std::fs::read(&pack.vocabulary).unwrap(),
        facts: CardFacts::default(),
        force: false,
    }
}

fn released(pack: &Pack, folder: &Path, opset: u32, precisions: &[Precision]) -> Bundle {
    let out = folder.join(format!("opset{opset}"));
    release(&out, &load(pack), &samples(pack), &options(pack, opset, precisions)).unwrap();
    Bundle::open(&out).unwrap()
}

fn start(bundle: &Bundle, precision: Precision) -> Towers {
    Towers::start(bundle, &TowersConfig { precision: Some(precision), ..TowersConfig::default() }).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Everything the towers say of the pack: embeddings of pictures and texts, and both match probabilities of every pair.
struct Answers {
    images: Vec<Vec<f32>>,
    texts: Vec<Vec<f32>>,
    itm_text: Vec<f32>,
    itm_image: Vec<f32>,
}

async fn answers(towers: &Towers, pack: &Pack, picture: impl Fn(usize) -> Vec<u8>) -> Answers {
    let (mut images, mut image_states) = (Vec::new(), Vec::new());
    for index in 0..pack.images.len() {
        let prepared = towers.prepare_image(&picture(index)).unwrap();
        let encoded = towers.embed_image_states(prepared).await.unwrap();
        images.push(encoded.embedding);
        image_states.push(Arc::clone(&encoded.states));
    }
    let (mut texts, mut text_states) = (Vec::new(), Vec::new());
    for text in &pack.texts {
        let encoded = towers.embed_text_states(towers.prepare_text(text)).await.unwrap();
        texts.push(encoded.embedding);
        text_states.push(Arc::clone(&encoded.states));
    }
    let pairs = (0..images.len() as u32).flat_map(|image| (0..texts.len() as u32).map(move |text| (image, text))).collect();
    let scores = towers.match_pairs(image_states, text_states, pairs).await.unwrap();
    let itm_text = scores.iter().map(|score| score.itm_text).collect();
    let itm_image = scores.iter().map(|score| score.itm_image).collect();
    Answers { images, texts, itm_text, itm_image }
}

#[test]
fn f32_graphs_of_both_opsets_answer_as_the_official_class_on_its_pixels_with_texts_at_their_own_length() {
    let Some(pack) = Pack::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    for opset in [OPSET_DEFAULT, OPSET_COMPATIBLE] {
        let bundle = released(&pack, folder.path(), opset, &[Precision::F32]);
        let towers = start(&bundle, Precision::F32);
        let found = block_on(answers(&towers, &pack, |index| pack.pixels(index)));
        // The official class saw every text padded to 64; here each has its own length.
        for (name, found) in [
            ("image_embedding", found.images.concat()),
            ("text_embedding", found.texts.concat()),
            ("itm_text", found.itm_text),
            ("itm_image", found.itm_image),
        ] {
            let difference = largest_difference(&found, &pack.expected(name).floats());
            assert!(difference <= DIFFERENCE_MAX, "opset {opset}, {name}: {difference}");
        }
    }
}

#[test]
fn token_ids_are_the_official_ones() {
    let Some(pack) = Pack::find() else { return };
    let (ids, mask) = (pack.expected("input_ids").integers(), pack.expected("attention_mask").integers());
    let tokenizer = tokenizer(&pack);
    for (index, text) in pack.texts.iter().enumerate() {
        let row = index * MAX_TOKENS..(index + 1) * MAX_TOKENS;
        let length = mask[row.clone()].iter().sum::<i64>() as usize;
        assert_eq!(tokenizer.encode(text), ids[row][..length], "{text:?}");
    }
}

#[test]
fn from_the_picture_files_embeddings_keep_their_direction() {
    let Some(pack) = Pack::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let towers = start(&released(&pack, folder.path(), OPSET_DEFAULT, &[Precision::F32]), Precision::F32);
    let found = block_on(answers(&towers, &pack, |index| pack.image(index)));
    for (index, expected) in pack.expected("image_embedding").rows().iter().enumerate() {
        let cosine = cosine(&found.images[index], expected);
        assert!(cosine >= 0.9999, "{}: {cosine}", pack.images[index]);
    }
}

#[test]
fn int8_and_fp16_stay_within_their_bounds_of_the_official_class_and_their_files_are_as_small_as_they_should_be() {
    let Some(pack) = Pack::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    for opset in [OPSET_DEFAULT, OPSET_COMPATIBLE] {
        let bundle = released(&pack, folder.path(), opset, &ALL);
        for precision in [Precision::Int8, Precision::Fp16] {
            let found = block_on(answers(&start(&bundle, precision), &pack, |index| pack.pixels(index)));
            let bounds = bounds(precision);
            for (name, found) in [("image_embedding", &found.images), ("text_embedding", &found.texts)] {
                for (found, expected) in found.iter().zip(pack.expected(name).rows()) {
                    let cosine = cosine(found, &expected);
                    assert!(cosine >= bounds.cosine_min, "opset {opset}, {precision:?}, {name}: {cosine}");
                }
            }
            for (name, found) in [("itm_text", &found.itm_text), ("itm_image", &found.itm_image)] {
                let difference = largest_difference(found, &pack.expected(name).floats());
                assert!(difference <= bounds.match_difference_max, "opset {opset}, {precision:?}, {name}: {difference}");
            }
        }
        let bytes = |precision: Precision, tower: &str| {
            let name = precision.graph_file(tower);
            bundle.manifest.files.iter().find(|file| file.name == name).unwrap().bytes as f64
        };
        // At these widths biases, scales and the float patch embedding weigh more than they do in a real model.
        for (tower, int8_max) in [("image", 0.75), ("text", 0.3), ("cross", 0.4)] {
            let f32 = bytes(Precision::F32, tower);
            assert!(bytes(Precision::Int8, tower) <= f32 * int8_max, "{tower} int8");
            assert!(bytes(Precision::Fp16, tower) <= f32 * 0.55, "{tower} fp16");
        }
    }
}

#[test]
fn layers_that_are_kept_f32_have_no_integer_product_in_an_int8_graph() {
    let Some(pack) = Pack::find() else { return };
    let weights = WeightMap::from_params(&load(&pack).params).unwrap();
    let keep_f32 = vec!["text_encoder".to_owned()];
    let options = GraphOptions { precision: Precision::Int8, max_tokens: MAX_TOKENS, keep_f32, ..GraphOptions::default() };
    let integer_products = export_all(&config(&pack), &weights, &options).unwrap().map(|bytes| {
        let nodes = ModelProto::decode(bytes.as_slice()).unwrap().graph.unwrap().node;
        let of = |operator: &str| nodes.iter().filter(|node| node.op_type.as_deref() == Some(operator)).count();
        assert!(of("MatMulInteger") > 0 || of("DynamicQuantizeLinear") == 0, "bytes that nothing reads");
        of("MatMulInteger")
    });
    let [image, text, cross] = integer_products;
    assert!(image > 0 && text == 0 && cross > 0, "{integer_products:?}");
}

#[test]
fn graphs_hold_standard_operators_and_no_dead_weight() {
    let Some(pack) = Pack::find() else { return };
    let weights = WeightMap::from_params(&load(&pack).params).unwrap();
    for opset in [OPSET_DEFAULT, OPSET_COMPATIBLE] {
        for precision in ALL {
            let options = GraphOptions { precision, opset, max_tokens: MAX_TOKENS, ..GraphOptions::default() };
            for bytes in export_all(&config(&pack), &weights, &options).unwrap() {
                let model = ModelProto::decode(bytes.as_slice()).unwrap();
                assert_eq!(model.opset_import.len(), 1);
                assert_eq!(model.opset_import[0].domain.as_deref(), Some(""));
                assert_eq!(model.opset_import[0].version, Some(i64::from(opset)));
                let graph = model.graph.unwrap();
                for tensor in &graph.initializer {
                    let name = tensor.name();
                    for dead in ["post_layernorm", "pooler", "joint_layer.embeddings", "position_ids", "temp"] {
                        assert!(!name.contains(dead), "{name}");
                    }
                    let used = graph.node.iter().any(|node| node.input.iter().any(|input| input == name));
                    assert!(used, "{name} is read by no node");
                }
                let attention = graph.node.iter().any(|node| node.op_type() == "Attention");
                assert_eq!(attention, opset == OPSET_DEFAULT);
            }
        }
    }
}

#[test]
fn a_graph_that_differs_from_the_model_is_not_released() {
    let Some(pack) = Pack::find() else { return };
    let loaded = load(&pack);
    let mut weights = WeightMap::from_params(&loaded.params).unwrap();
    let key = "img_joint_layer.encoder.layer.1.crossattention.self.value.bias";
    let width = config(&pack).text.width as usize;
    let moved = weights.get(key, &[width]).unwrap().iter().map(|value| value + 0.1).collect();
    weights.insert(key, vec![width], moved);
    let folder = tempfile::tempdir().unwrap();
    let options = options(&pack, OPSET_DEFAULT, &[Precision::Int8]);
    let released = release_weights(&folder.path().join("bundle"), &loaded, &weights, &samples(&pack), &options);
    match released {
        Err(ReleaseError::Export(ExportError::Parity { output, .. })) => assert_eq!(output, "itm_image"),
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_bundle_with_a_flipped_byte_is_refused_whichever_file_it_is_in() {
    let Some(pack) = Pack::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let bundle = released(&pack, folder.path(), OPSET_DEFAULT, &[Precision::Int8]);
    let names: Vec<String> = bundle.manifest.files.iter().map(|file| file.name.clone()).collect();
    assert_eq!(
        names,
        ["MODEL_CARD.md", "cross.int8.onnx", "golden.safetensors", "image.int8.onnx", "text.int8.onnx", "vocab.txt"]
    );
    for name in names {
        let path = bundle.dir.join(&name);
        let original = std::fs::read(&path).unwrap();
        let mut flipped = original.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        match Bundle::open(&bundle.dir) {
            Err(TowersError::Checksum { path: named, .. }) => assert_eq!(named, path),
            other => panic!("{name}: {other:?}"),
        }
        std::fs::write(&path, &original).unwrap();
    }
    Bundle::open(&bundle.dir).unwrap();
}

#[test]
fn a_bundle_in_the_way_is_kept_and_a_failed_release_leaves_nothing() {
    let Some(pack) = Pack::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bundle");
    let loaded = load(&pack);
    let options = options(&pack, OPSET_DEFAULT, &[Precision::F32]);
    release(&out, &loaded, &samples(&pack), &options).unwrap();
    let again = release(&out, &loaded, &samples(&pack), &options);
    assert!(matches!(again, Err(ReleaseError::Exists { .. })), "{again:?}");
    let other = folder.path().join("other");
    let wrong = ReleaseOptions { opset: 22, ..options };
    assert!(matches!(release(&other, &loaded, &samples(&pack), &wrong), Err(ReleaseError::Export(_))));
    // Golden vectors of int8 are no measure for f32.
    let wrong = ReleaseOptions { opset: OPSET_DEFAULT, precisions: vec![Precision::Int8, Precision::F32], ..wrong };
    let refused = release(&other, &loaded, &samples(&pack), &wrong);
    assert!(matches!(refused, Err(ReleaseError::Setting { field: "precisions", .. })), "{refused:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    Bundle::open(&out).unwrap();
}

#[test]
fn metrics_are_added_without_renaming_the_vector_space() {
    let Some(pack) = Pack::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let bundle = released(&pack, folder.path(), OPSET_DEFAULT, &[Precision::F32]);
    let metrics = std::collections::BTreeMap::from([("val.emoji.long.t2i.r1".to_owned(), 0.5)]);
    add_metrics(&bundle.dir, metrics).unwrap();
    let after = Bundle::open(&bundle.dir).unwrap();
    assert_eq!(after.manifest.fingerprint, bundle.manifest.fingerprint);
    let card = std::fs::read_to_string(bundle.dir.join("MODEL_CARD.md")).unwrap();
    assert!(card.contains("| val.emoji.long.t2i.r1 | 0.5000 |") && card.contains("## Checks at release"), "{card}");
}
