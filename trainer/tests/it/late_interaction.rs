//! A model trained with `loss.token_wise`, released for late interaction.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use astromech_schemas::manifest::{BundleFile, MANIFEST_FILE, Precision, hex};
use astromech_schemas::{Manifest, Similarity};
use astromech_towers::{Bundle, Towers, TowersConfig, TowersError, init_runtime, similarity};
use astromech_trainer::checkpoint::{MODEL_FILE, load_model};
use astromech_trainer::evaluate::{EvaluateOptions, TaskItems, evaluate};
use astromech_trainer::inputs::normalise;
use astromech_trainer::loss::token_wise;
use astromech_trainer::nn::{Context, Precision as Compute};
use astromech_trainer::release::{GOLDEN_FILE, ReleaseOptions};
use astromech_trainer::stop::StopFlag;
use astromech_trainer::train::{Recall, train};
use safetensors::tensor::{SafeTensors, TensorView};
use sha2::{Digest as _, Sha256};
use tch::{Kind, Tensor};

use crate::{one_run_at_a_time, release_support, synthetic};

const TEXTS: [&str; 4] = ["红色在左上", "绿色在右下", "蓝", "黄色在右上红色在左下绿色在左上"];
const PICTURES: [&str; 3] = ["0-0-0", "1-3-0", "3-1-1"];
const DIFFERENCE_MAX: f64 = 1e-4;

struct Trained {
    folder: tempfile::TempDir,
    checkpoint: PathBuf,
    bundle: PathBuf,
    recall: Vec<Recall>,
}

/// One model for all tests: trained token by token on the drawn corpus, released in f32 and int8.
fn trained() -> &'static Trained {
    static TRAINED: LazyLock<Trained> = LazyLock::new(|| {
        init_runtime(None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        synthetic::write_corpus(folder.path());
        let run = folder.path().join("run");
        let overrides = ["loss.token_wise=true", "optim.steps=200", "loss.dropout=0.0", "optim.ema=0.5"];
        let outcome = train(&synthetic::config(folder.path(), &run, &overrides), false, &StopFlag::new()).unwrap();
        let (checkpoint, bundle) = (run.join(MODEL_FILE), folder.path().join("bundle"));
        release_support::release_with(folder.path(), &checkpoint, &bundle, |options| ReleaseOptions {
            late_interaction: true,
            precisions: vec![Precision::F32, Precision::Int8],
            ..options
        });
        Trained { checkpoint, bundle, recall: outcome.recall, folder }
    });
    &TRAINED
}

fn start(bundle: &Path) -> Result<Towers, TowersError> {
    let config = TowersConfig { precision: Some(Precision::F32), ..TowersConfig::default() };
    Towers::start(&Bundle::open(bundle).unwrap(), &config)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// Similarities of all pictures with all texts by the loss itself, by the picture's and by the text's view, each [picture][text]. The
/// texts are one padded batch, as in training.
fn by_the_loss(trained: &Trained, towers: &Towers) -> [Vec<Vec<f64>>; 2] {
    let loaded = load_model(&trained.checkpoint).unwrap();
    let _no_grad = tch::no_grad_guard();
    let w = loaded.params.weights(Compute::F32);
    let side = i64::from(towers.manifest().image.size);
    let pixels = PICTURES.map(|id| towers.prepare_image(&picture(trained, id)).unwrap().pixels().to_vec()).concat();
    let pixels = Tensor::from_slice(&pixels).view([-1, side, side, 3]).permute([0, 3, 1, 2]).contiguous();
    let texts = TEXTS.map(|text| towers.prepare_text(text).ids().to_vec());
    let longest = texts.iter().map(Vec::len).max().unwrap();
    let padded = |of: fn(i64) -> i64| {
        let row = |ids: &Vec<i64>| ids.iter().map(|id| of(*id)).chain(std::iter::repeat(0)).take(longest).collect::<Vec<_>>();
        Tensor::from_slice(&texts.iter().flat_map(row).collect::<Vec<_>>()).view([-1, longest as i64])
    };
    let (ids, mask) = (padded(|id| id), padded(|_| 1));
    let images = loaded.model.encode_image(&w, &normalise(&pixels), None, Context::EVAL);
    let texts = loaded.model.encode_text(&w, &ids, &mask, Context::EVAL);
    let image_tokens = loaded.model.image_tokens(&w, &images.states);
    let text_tokens = loaded.model.text_tokens(&w, &texts.states, &mask);
    token_wise(&image_tokens, &text_tokens).map(|view| {
        let view = view.to_kind(Kind::Double);
        (0..PICTURES.len() as i64).map(|row| Vec::try_from(view.select(0, row)).unwrap()).collect()
    })
}

fn picture(trained: &Trained, id: &str) -> Vec<u8> {
    std::fs::read(trained.folder.path().join(format!("images/{id}.png"))).unwrap()
}

#[test]
fn a_bundle_of_late_interaction_compares_as_the_loss_did_by_either_view() {
    let _guard = one_run_at_a_time();
    let trained = trained();
    let towers = start(&trained.bundle).unwrap();
    let manifest = towers.manifest();
    // 32 pixels in patches of 8: 16 patches and the class token.
    assert_eq!(manifest.similarity, Similarity::LateInteraction { image_tokens: 17, text_tokens: 16 });
    assert_eq!(manifest.schema, 2);
    let dim = manifest.embedding_dim as usize;
    let [by_picture, by_text] = by_the_loss(trained, &towers);
    runtime().block_on(async {
        for (row, id) in PICTURES.iter().enumerate() {
            let image = towers.embed_image(towers.prepare_image(&picture(trained, id)).unwrap()).await.unwrap();
            assert_eq!(image.vectors().len(), 17 * dim);
            assert_eq!(&image.vectors()[..dim], image.embedding.as_slice(), "the class token is the embedding");
            for (column, text) in TEXTS.iter().enumerate() {
                let prepared = towers.prepare_text(text);
                let length = prepared.ids().len();
                let text = towers.embed_text(prepared).await.unwrap();
                assert_eq!(text.vectors().len(), length * dim, "padding is no token");
                let found = [
                    (similarity(image.vectors(), text.vectors(), dim), by_picture[row][column]),
                    (similarity(text.vectors(), image.vectors(), dim), by_text[row][column]),
                ];
                for (found, expected) in found {
                    assert!((f64::from(found) - expected).abs() < DIFFERENCE_MAX, "{row} {column}: {found}, the loss {expected}");
                }
            }
        }
    });
}

#[test]
fn what_is_evaluated_is_late_interaction_as_it_was_validated_in_training() {
    let _guard = one_run_at_a_time();
    let trained = trained();
    let towers = start(&trained.bundle).unwrap();
    let items = TaskItems::load(trained.folder.path(), "train.shape.long").unwrap();
    let options = EvaluateOptions { top_k: 4, text_to_image_only: false };
    let report = runtime().block_on(evaluate(&towers, &items, options)).unwrap();
    let validated = &trained.recall[0].text_to_image;
    assert!(report.text_to_image.r1 > 0.8, "{report:?}");
    for (found, validated) in report.text_to_image.at().iter().zip(validated) {
        assert!((found - validated).abs() < 1e-9, "{report:?}, validated {validated:?}");
    }
    assert!(report.text_to_image_reranked.is_some(), "the cross tower re-ranks such a bundle too");
}

#[test]
fn golden_vectors_cover_the_tokens() {
    let _guard = one_run_at_a_time();
    let trained = trained();
    for name in ["image_tokens", "text_tokens"] {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(&trained.bundle).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        spoil(folder.path(), name);
        let error = start(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("cosine of the {}", name.replace('_', " "))), "{error}");
    }
}

/// Turns every token of the golden vectors round, and lists the file as it is then.
fn spoil(bundle: &Path, name: &str) {
    let path = bundle.join(GOLDEN_FILE);
    let bytes = std::fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let turned: Vec<u8> = tensors
        .tensor(name)
        .unwrap()
        .data()
        .iter()
        .enumerate()
        .map(|(i, byte)| if i % 4 == 3 { byte ^ 0x80 } else { *byte })
        .collect();
    let views = tensors.tensors().into_iter().map(|(own, view)| {
        let data = if own == name { &turned } else { view.data() };
        (own, TensorView::new(view.dtype(), view.shape().to_vec(), data).unwrap())
    });
    let written = safetensors::serialize(views.collect::<Vec<_>>(), None::<HashMap<String, String>>).unwrap();
    std::fs::write(&path, &written).unwrap();
    let mut manifest = Manifest::from_json(&std::fs::read(bundle.join(MANIFEST_FILE)).unwrap()).unwrap();
    for file in manifest.files.iter_mut().filter(|file| file.name == GOLDEN_FILE) {
        *file = BundleFile { bytes: written.len() as u64, sha256: hex(&Sha256::digest(&written)), ..file.clone() };
    }
    manifest.fingerprint = Manifest::compute_fingerprint(&manifest.files);
    std::fs::write(bundle.join(MANIFEST_FILE), serde_json::to_vec(&manifest).unwrap()).unwrap();
}

#[test]
fn a_bundle_of_late_interaction_is_no_teacher_of_single_vectors() {
    let _guard = one_run_at_a_time();
    let trained = trained();
    let teacher = format!("distil.teacher={:?}", trained.bundle.display().to_string());
    let config = synthetic::config(trained.folder.path(), &trained.folder.path().join("student"), &[&teacher]);
    let error = train(&config, false, &StopFlag::new()).unwrap_err().to_string();
    assert!(error.contains("token vectors") && error.contains("--similarity"), "{error}");
}
