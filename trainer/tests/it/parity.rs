//! The official class's outputs (../shared/parity) through LibTorch.

use crate::export_support::{Pack, largest_difference};
use astromech_towers::{ImageLimits, decode_rgb};
use astromech_trainer::checkpoint::{LoadedModel, import_official, load_model, save_model};
use astromech_trainer::corpus::open_tokenizer;
use astromech_trainer::inputs::normalise;
use astromech_trainer::model::{Encoded, ModelConfig};
use astromech_trainer::nn::{Context, Precision, Weights};
use tch::{Kind, Tensor};

const TOKENS_MAX: usize = 64;
const DIFFERENCE_MAX: f64 = 1e-4;

struct Setup {
    pack: Pack,
    loaded: LoadedModel,
    weights: Weights,
    ids: Tensor,
    mask: Tensor,
}

fn setup() -> Option<Setup> {
    let pack = Pack::find()?;
    let config = ModelConfig::read(&pack.dir.join("config.json")).unwrap();
    let loaded = import_official(&pack.dir.join("r2d2_tiny_random.pth"), &config).unwrap();
    let weights = loaded.params.weights_of(loaded.params.flat(), Precision::F32);
    let tensor = |name: &str| {
        let expected = pack.expected(name);
        let shape: Vec<i64> = expected.shape.iter().map(|&side| side as i64).collect();
        Tensor::from_slice(&expected.integers()).view(shape.as_slice())
    };
    let (ids, mask) = (tensor("input_ids"), tensor("attention_mask"));
    Some(Setup { pack, loaded, weights, ids, mask })
}

impl Setup {
    fn images(&self) -> Encoded {
        let pictures: Vec<Tensor> = (0..self.pack.images.len())
            .map(|index| {
                let rgb = decode_rgb(&self.pack.pixels(index), &ImageLimits::default()).unwrap();
                let shape = [i64::from(rgb.height), i64::from(rgb.width), 3];
                Tensor::from_data_size(&rgb.pixels, &shape, Kind::Uint8).permute([2, 0, 1])
            })
            .collect();
        let pixels = normalise(&Tensor::stack(&pictures, 0));
        tch::no_grad(|| self.loaded.model.encode_image(&self.weights, &pixels, None, Context::EVAL))
    }

    fn texts(&self) -> Encoded {
        tch::no_grad(|| self.loaded.model.encode_text(&self.weights, &self.ids, &self.mask, Context::EVAL))
    }

    fn assert_equal(&self, name: &str, found: &Tensor) {
        let expected = self.pack.expected(name);
        let shape: Vec<i64> = expected.shape.iter().map(|&side| side as i64).collect();
        assert_eq!(found.size(), shape, "{name}");
        let difference = largest_difference(&expected.floats(), &floats(found));
        assert!(difference <= DIFFERENCE_MAX, "{name} differs by {difference}");
        eprintln!("{name}: largest difference {difference:.2e}");
    }
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_kind(Kind::Float).contiguous().view([-1]).try_into().unwrap()
}

#[test]
fn the_official_container_is_read_whole() {
    let Some(setup) = setup() else { return };
    let report = &setup.loaded.report;
    assert!(report.missing.is_empty() && report.mis_shaped.is_empty() && report.unexpected.is_empty(), "{report}");
    assert_eq!(report.loaded, setup.loaded.params.named().len());
    let temperature = setup.loaded.model.temperature(&setup.weights).double_value(&[]);
    assert!((temperature - 0.0613).abs() < 1e-6, "{temperature}");
}

#[test]
fn token_ids_equal_the_official_tokenizers() {
    let Some(setup) = setup() else { return };
    let tokenizer = open_tokenizer(setup.pack.vocabulary.as_ref(), TOKENS_MAX).unwrap();
    let expected = setup.pack.expected("input_ids").integers();
    let masks = setup.pack.expected("attention_mask").integers();
    for (index, text) in setup.pack.texts.iter().enumerate() {
        let row = index * TOKENS_MAX..(index + 1) * TOKENS_MAX;
        let found = tokenizer.encode(text);
        let length = masks[row.clone()].iter().sum::<i64>() as usize;
        assert_eq!(found.len(), length, "{text:?}");
        assert_eq!(found, expected[row][..length], "{text:?}");
    }
}

#[test]
fn embeddings_and_states_equal_the_official_ones() {
    let Some(setup) = setup() else { return };
    let (images, texts) = (setup.images(), setup.texts());
    setup.assert_equal("image_embedding", &images.embedding);
    setup.assert_equal("text_embedding", &texts.embedding);
    setup.assert_equal("image_states", &images.states.narrow(1, 0, 3));
    setup.assert_equal("text_states", &texts.states);
    setup.assert_equal("cosine", &images.embedding.matmul(&texts.embedding.tr()));
}

#[test]
fn both_cross_encoders_equal_the_official_ones() {
    let Some(setup) = setup() else { return };
    let (images, texts) = (setup.images(), setup.texts());
    let (image_count, text_count) = (images.states.size()[0], texts.states.size()[0]);
    let of_pairs = |w: &Weights, states: &Tensor, mask: &Tensor| {
        let pair = Tensor::arange(image_count * text_count, (Kind::Int64, tch::Device::Cpu));
        let image = pair.divide_scalar_mode(text_count, "floor").to_kind(Kind::Int64);
        let text = pair.remainder(text_count);
        tch::no_grad(|| {
            let logits = setup.loaded.model.match_pairs(
                w,
                &images.states.index_select(0, &image),
                &states.index_select(0, &text),
                &mask.index_select(0, &text),
                Context::EVAL,
            );
            let (text, image) = logits.probabilities();
            (text.view([image_count, text_count]), image.view([image_count, text_count]))
        })
    };
    let (text, image) = of_pairs(&setup.weights, &texts.states, &setup.mask);
    setup.assert_equal("itm_text", &text);
    setup.assert_equal("itm_image", &image);
    setup.assert_equal("match", &((text + image) / 2.0));
}

#[test]
fn a_text_at_its_own_length_gives_what_it_gives_padded_to_64() {
    let Some(setup) = setup() else { return };
    let (images, padded) = (setup.images(), setup.texts());
    let model = &setup.loaded.model;
    let w = &setup.weights;
    for index in 0..setup.ids.size()[0] {
        let row = |tensor: &Tensor| tensor.narrow(0, index, 1);
        let length = row(&setup.mask).sum(Kind::Int64).int64_value(&[]);
        let cut = |tensor: &Tensor| row(tensor).narrow(1, 0, length);
        let image = images.states.narrow(0, 0, 1);
        let (own, whole) = tch::no_grad(|| {
            let own = model.encode_text(w, &cut(&setup.ids), &cut(&setup.mask), Context::EVAL);
            let own_match = model.match_pairs(w, &image, &own.states, &cut(&setup.mask), Context::EVAL);
            let whole_match = model.match_pairs(w, &image, &row(&padded.states), &row(&setup.mask), Context::EVAL);
            ((own.embedding, own_match), whole_match)
        });
        let close = |a: &Tensor, b: &Tensor| {
            let difference = largest_difference(&floats(a), &floats(b));
            assert!(difference <= DIFFERENCE_MAX, "text {index} differs by {difference}");
        };
        close(&own.0, &row(&padded.embedding));
        close(&own.1.text, &whole.text);
        close(&own.1.image, &whole.image);
    }
}

#[test]
fn a_native_checkpoint_holds_the_same_weights_and_reads_as_official_safetensors() {
    let Some(setup) = setup() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (config, params) = (&setup.loaded.model.config, &setup.loaded.params);
    save_model(&path, config, params, params.flat()).unwrap();
    for again in [load_model(&path).unwrap(), import_official(&path, config).unwrap()] {
        assert!(again.params.flat().equal(params.flat()));
        assert_eq!(again.model.config, *config);
    }
}

#[test]
fn bf16_stays_near_f32() {
    let Some(setup) = setup() else { return };
    let exact = setup.texts().embedding;
    let weights = setup.loaded.params.weights_of(setup.loaded.params.flat(), Precision::Bf16);
    let near = tch::no_grad(|| setup.loaded.model.encode_text(&weights, &setup.ids, &setup.mask, Context::EVAL)).embedding;
    let lowest = (exact * near).sum_dim_intlist([1i64].as_slice(), false, Kind::Float).min().double_value(&[]);
    assert!(lowest > 0.999, "cosine {lowest}");
}

#[test]
fn a_checkpoint_of_other_sizes_is_refused_with_every_key() {
    let Some(pack) = Pack::find() else { return };
    let mut config = ModelConfig::read(&pack.dir.join("config.json")).unwrap();
    config.embed = 32;
    config.vision.layers = 4;
    let Err(error) = import_official(&pack.dir.join("r2d2_tiny_random.pth"), &config) else { panic!("it was read") };
    let text = error.to_string();
    assert!(text.contains("vision_proj.weight (model [32, 96], checkpoint [48, 96])"), "{text}");
    assert!(text.contains("visual_encoder.encoder.layers.3.mlp.fc1.bias"), "{text}");
}
