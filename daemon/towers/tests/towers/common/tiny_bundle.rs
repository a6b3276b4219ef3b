//! A bundle with graphs of a few nodes, written here byte by byte: enough to run every path through the real ONNX Runtime without
//! a model file or the trainer. Embedding of a picture: unit vector of its channels' means. Of a text: of (sum of ids, tokens, tokens).
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::Path;

use astromech_schemas::manifest::{Architecture, BundleFile, ImageInput, Precision, StackSize, TextInput, Training, hex};
use astromech_schemas::{Manifest, Similarity};
use astromech_towers::graph::{CrossGraph, CrossRequest, GraphOptions, ImageGraph, TextGraph};
use astromech_towers::{Bundle, PreparedImage, Provider, Tokenizer};
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest as _, Sha256};

/// Edge of the pictures, pixels.
pub const SIZE: u32 = 8;
/// Length of an embedding.
pub const DIM: usize = 3;
/// Most tokens of a text.
pub const TOKENS_MAX: usize = 16;

const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n红\n色\n的\n汽\n车\n乔\n丹\n";
const SAMPLES: [&str; 4] = ["红色的汽车", "乔丹", "", "红红红红红红红红红红红红红红红红红红红红"];

/// Writes the bundle into `dir`, with golden vectors that its own graphs give.
pub fn write(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    let files = [("image", image_graph()), ("text", text_graph()), ("cross", cross_graph())];
    for (tower, bytes) in files {
        std::fs::write(dir.join(Precision::F32.graph_file(tower)), bytes).unwrap();
    }
    std::fs::write(dir.join("vocab.txt"), VOCABULARY).unwrap();
    std::fs::write(dir.join("golden.safetensors"), b"").unwrap();
    write_manifest(dir);
    write_golden(dir);
    write_manifest(dir);
}

/// A picture of one colour.
pub fn picture(rgb: [u8; 3]) -> PreparedImage {
    PreparedImage::from_rgb(SIZE, rgb.repeat((SIZE * SIZE) as usize)).unwrap()
}

/// Lists the files as they are now.
pub fn write_manifest(dir: &Path) {
    let names = ["cross.onnx", "golden.safetensors", "image.onnx", "text.onnx", "vocab.txt"];
    let files: Vec<BundleFile> = names
        .into_iter()
        .map(|name| {
            let bytes = std::fs::read(dir.join(name)).unwrap();
            BundleFile { name: name.to_owned(), bytes: bytes.len() as u64, sha256: hex(&Sha256::digest(&bytes)) }
        })
        .collect();
    let stack = |width| StackSize { width, layers: 1, heads: 1, mlp: 1 };
    let manifest = Manifest {
        schema: 1,
        name: "tiny".to_owned(),
        fingerprint: Manifest::compute_fingerprint(&files),
        parent: None,
        architecture: Architecture { vision: stack(3), patch: 4, text: stack(2), cross: stack(2), parameters: 0 },
        embedding_dim: DIM as u32,
        similarity: Similarity::Cosine,
        precisions: vec![Precision::F32],
        opset: 20,
        image: ImageInput {
            size: SIZE,
            resize: "squash".to_owned(),
            filter: "bicubic".to_owned(),
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        },
        text: TextInput { max_tokens: TOKENS_MAX as u32, vocabulary_sha256: files[4].sha256.clone() },
        training: Training::default(),
        blend: None,
        files,
    };
    std::fs::write(dir.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
}

fn write_golden(dir: &Path) {
    let bundle = Bundle::open(dir).unwrap();
    let options = GraphOptions { provider: Provider::Cpu, precision: Precision::F32, threads: 1 };
    let images: Vec<_> = (0..4_u8).map(|index| picture([index * 60, 255 - index * 60, 10])).collect();
    let tokenizer = Tokenizer::from_vocab_bytes(VOCABULARY.as_bytes(), TOKENS_MAX).unwrap();
    let texts: Vec<_> = SAMPLES.iter().map(|text| tokenizer.prepare(text)).collect();
    let image_outputs = ImageGraph::open(&bundle, options).unwrap().run(&images.iter().collect::<Vec<_>>(), true).unwrap();
    let text_outputs = TextGraph::open(&bundle, options).unwrap().run(&texts.iter().collect::<Vec<_>>(), true).unwrap();
    let request = CrossRequest {
        images: image_outputs.iter().map(|output| output.states.clone().unwrap()).collect(),
        texts: text_outputs.iter().map(|output| output.states.clone().unwrap()).collect(),
        pairs: (0..4).map(|index| (index, index)).collect(),
    };
    let scores = CrossGraph::open(&bundle, options).unwrap().run(&request).unwrap();

    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for text in &texts {
        let padded = |value: i64, fill: i64| (0..TOKENS_MAX).map(move |at| if at < text.ids().len() { value } else { fill });
        ids.extend(text.ids().iter().copied().chain(std::iter::repeat(0)).take(TOKENS_MAX));
        mask.extend(padded(1, 0));
    }
    let floats = |numbers: Vec<f32>| numbers.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    let integers = |numbers: Vec<i64>| numbers.into_iter().flat_map(i64::to_le_bytes).collect::<Vec<u8>>();
    let edge = SIZE as usize;
    let tensors: [(&str, Dtype, Vec<usize>, Vec<u8>); 7] = [
        ("pixels", Dtype::U8, vec![4, edge, edge, 3], images.iter().flat_map(|image| image.pixels().to_vec()).collect()),
        ("input_ids", Dtype::I64, vec![4, TOKENS_MAX], integers(ids)),
        ("attention_mask", Dtype::I64, vec![4, TOKENS_MAX], integers(mask)),
        ("image_embedding", Dtype::F32, vec![4, DIM], floats(image_outputs.into_iter().flat_map(|out| out.embedding).collect())),
        ("text_embedding", Dtype::F32, vec![4, DIM], floats(text_outputs.into_iter().flat_map(|out| out.embedding).collect())),
        ("itm_text", Dtype::F32, vec![4], floats(scores.iter().map(|score| score.itm_text).collect())),
        ("itm_image", Dtype::F32, vec![4], floats(scores.iter().map(|score| score.itm_image).collect())),
    ];
    let views = tensors.iter().map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    std::fs::write(dir.join("golden.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
}

const FLOAT: u64 = 1;
const INT64: u64 = 7;

fn image_graph() -> Vec<u8> {
    let nodes = [
        node("ReduceMean", &["pixels", "axes_hw"], "mean", &[("keepdims", 0)]),
        node("LpNormalization", &["mean"], "embedding", &[("axis", 1)]),
        node("Unsqueeze", &["mean", "axis_1"], "token", &[]),
        node("Concat", &["token"; 5], "states", &[("axis", 1)]),
    ];
    let inputs = [value("pixels", FLOAT, &["b", "3", "8", "8"])];
    let outputs = [value("embedding", FLOAT, &["b", "3"]), value("states", FLOAT, &["b", "5", "3"])];
    model(&nodes, &[axes("axes_hw", &[2, 3]), axes("axis_1", &[1])], &inputs, &outputs)
}

fn text_graph() -> Vec<u8> {
    let nodes = [
        node("Mul", &["input_ids", "attention_mask"], "seen", &[]),
        node("Cast", &["seen"], "ids", &[("to", 1)]),
        node("Cast", &["attention_mask"], "mask", &[("to", 1)]),
        node("Unsqueeze", &["ids", "axis_2"], "ids_column", &[]),
        node("Unsqueeze", &["mask", "axis_2"], "mask_column", &[]),
        node("Concat", &["ids_column", "mask_column"], "states", &[("axis", 2)]),
        node("Concat", &["states", "mask_column"], "wide", &[("axis", 2)]),
        node("ReduceSum", &["wide", "axis_1"], "sum", &[("keepdims", 0)]),
        node("LpNormalization", &["sum"], "embedding", &[("axis", 1)]),
    ];
    let inputs = [value("input_ids", INT64, &["b", "l"]), value("attention_mask", INT64, &["b", "l"])];
    let outputs = [value("embedding", FLOAT, &["b", "3"]), value("states", FLOAT, &["b", "l", "2"])];
    model(&nodes, &[axes("axis_1", &[1]), axes("axis_2", &[2])], &inputs, &outputs)
}

fn cross_graph() -> Vec<u8> {
    let nodes = [
        node("ReduceMean", &["image_states", "axes_12"], "image", &[("keepdims", 0)]),
        node("ReduceMean", &["text_states", "axes_12"], "padded_text", &[("keepdims", 0)]),
        node("Cast", &["attention_mask"], "mask", &[("to", 1)]),
        node("ReduceMean", &["mask", "axis_1"], "share", &[("keepdims", 0)]),
        node("Div", &["padded_text", "share"], "text", &[]),
        node("Gather", &["pairs", "zero"], "image_index", &[("axis", 1)]),
        node("Gather", &["pairs", "one"], "text_index", &[("axis", 1)]),
        node("Gather", &["image", "image_index"], "image_of_pair", &[("axis", 0)]),
        node("Gather", &["text", "text_index"], "text_of_pair", &[("axis", 0)]),
        node("Mul", &["image_of_pair", "text_of_pair"], "product", &[]),
        node("Sigmoid", &["product"], "itm_text", &[]),
        node("Sigmoid", &["image_of_pair"], "itm_image", &[]),
    ];
    let inputs = [
        value("image_states", FLOAT, &["i", "5", "3"]),
        value("text_states", FLOAT, &["t", "l", "2"]),
        value("attention_mask", INT64, &["t", "l"]),
        value("pairs", INT64, &["p", "2"]),
    ];
    let outputs = [value("itm_text", FLOAT, &["p"]), value("itm_image", FLOAT, &["p"])];
    let constants = [axes("axes_12", &[1, 2]), axes("axis_1", &[1]), scalar("zero", 0), scalar("one", 1)];
    model(&nodes, &constants, &inputs, &outputs)
}

/// Protobuf's wire format by hand; field numbers are those of onnx.proto.
fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn node(operator: &str, inputs: &[&str], output: &str, integers: &[(&str, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    for input in inputs {
        bytes(&mut out, 1, input.as_bytes());
    }
    bytes(&mut out, 2, output.as_bytes());
    bytes(&mut out, 4, operator.as_bytes());
    for (name, value) in integers {
        let mut attribute = Vec::new();
        bytes(&mut attribute, 1, name.as_bytes());
        number(&mut attribute, 3, *value);
        number(&mut attribute, 20, 2);
        bytes(&mut out, 5, &attribute);
    }
    out
}

fn tensor(name: &str, dims: &[u64], values: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    for dim in dims {
        number(&mut out, 1, *dim);
    }
    number(&mut out, 2, INT64);
    bytes(&mut out, 8, name.as_bytes());
    bytes(&mut out, 9, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
    out
}

fn axes(name: &str, values: &[i64]) -> Vec<u8> {
    tensor(name, &[values.len() as u64], values)
}

fn scalar(name: &str, value: i64) -> Vec<u8> {
    tensor(name, &[], &[value])
}

/// A size that is a number is fixed; any other is a name.
fn value(name: &str, element: u64, shape: &[&str]) -> Vec<u8> {
    let mut dims = Vec::new();
    for size in shape {
        let mut dim = Vec::new();
        match size.parse() {
            Ok(size) => number(&mut dim, 1, size),
            Err(_) => bytes(&mut dim, 2, size.as_bytes()),
        }
        bytes(&mut dims, 1, &dim);
    }
    let mut tensor = Vec::new();
    number(&mut tensor, 1, element);
    bytes(&mut tensor, 2, &dims);
    let mut kind = Vec::new();
    bytes(&mut kind, 1, &tensor);
    let mut out = Vec::new();
    bytes(&mut out, 1, name.as_bytes());
    bytes(&mut out, 2, &kind);
    out
}

fn model(nodes: &[Vec<u8>], constants: &[Vec<u8>], inputs: &[Vec<u8>], outputs: &[Vec<u8>]) -> Vec<u8> {
    let mut graph = Vec::new();
    for node in nodes {
        bytes(&mut graph, 1, node);
    }
    bytes(&mut graph, 2, b"tiny");
    for constant in constants {
        bytes(&mut graph, 5, constant);
    }
    for input in inputs {
        bytes(&mut graph, 11, input);
    }
    for output in outputs {
        bytes(&mut graph, 12, output);
    }
    let mut opset = Vec::new();
    number(&mut opset, 2, 20);
    let mut out = Vec::new();
    number(&mut out, 1, 9);
    bytes(&mut out, 7, &graph);
    bytes(&mut out, 8, &opset);
    out
}
