//! Writes random weights in the formats that are imported.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use tch::{Device, Kind, Tensor};

/// Named random tensors.
pub type Weights = BTreeMap<String, Tensor>;

/// Adds a tensor of normal numbers.
pub fn put(weights: &mut Weights, name: impl Into<String>, shape: &[i64]) {
    weights.insert(name.into(), Tensor::randn(shape, (Kind::Float, Device::Cpu)));
}

/// `<name>.weight` and `<name>.bias` of a linear layer.
pub fn put_linear(weights: &mut Weights, name: &str, output: i64, input: i64) {
    put(weights, format!("{name}.weight"), &[output, input]);
    put(weights, format!("{name}.bias"), &[output]);
}

/// `<name>.weight` and `<name>.bias` of a LayerNorm.
pub fn put_norm(weights: &mut Weights, name: &str, width: i64) {
    put(weights, format!("{name}.weight"), &[width]);
    put(weights, format!("{name}.bias"), &[width]);
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let values: Vec<f32> = tensor.contiguous().view([-1]).try_into().unwrap();
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Writes safetensors.
pub fn write_safetensors(path: &Path, weights: &Weights) {
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = weights
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.size().iter().map(|&side| side as usize).collect(), bytes(tensor)))
        .collect();
    let views = data.iter().map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Writes a PyTorch zip container as `torch.save` does: the state dict at the top, or under `model` beside an `epoch`.
pub fn write_container(path: &Path, weights: &Weights, nested: bool) {
    let text = |value: &str| [&b"X"[..], &(value.len() as u32).to_le_bytes(), value.as_bytes()].concat();
    let integer = |value: i64| [&b"J"[..], &(value as i32).to_le_bytes()].concat();
    let tuple = |items: &[i64]| {
        [b"(".to_vec(), items.iter().flat_map(|&item| integer(item)).collect::<Vec<u8>>(), b"t".to_vec()].concat()
    };
    let mut dict = b"ccollections\nOrderedDict\n)R(".to_vec();
    for (index, (name, tensor)) in weights.iter().enumerate() {
        let shape = tensor.size();
        let stride: Vec<i64> = (0..shape.len()).map(|at| shape[at + 1..].iter().product()).collect();
        dict.extend(text(name));
        dict.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        dict.extend([text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text(&index.to_string()), text("cpu")].concat());
        dict.extend(integer(tensor.numel() as i64));
        dict.extend(b"tQ");
        dict.extend([integer(0), tuple(&shape), tuple(&stride)].concat());
        dict.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    dict.push(b'u');
    let pickle = if nested {
        let start = [b"\x80\x02}(".to_vec(), text("model")].concat();
        [start, dict, text("epoch"), b"K\x03u.".to_vec()].concat()
    } else {
        [b"\x80\x02".to_vec(), dict, b".".to_vec()].concat()
    };
    let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let options = zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive.start_file("archive/data.pkl", options).unwrap();
    archive.write_all(&pickle).unwrap();
    for (index, tensor) in weights.values().enumerate() {
        archive.start_file(format!("archive/data/{index}"), options).unwrap();
        archive.write_all(&bytes(tensor)).unwrap();
    }
    archive.finish().unwrap();
}
