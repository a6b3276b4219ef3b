//! The official `.pth` container: a zip with a pickle and one entry a storage (docs/R2D2.md §5.2).

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};
use zip::ZipArchive;

use super::error::CheckpointError;
use super::pickle::{Arena, Ref, TensorRef, Value, interpret};
use crate::files::file_error;

/// Largest pickle; a state dict's is far below a megabyte a thousand keys.
const PICKLE_BYTES_MAX: u64 = 256 << 20;
/// Keys under which a state dict may lie; the container itself may be one.
const NESTED_KEYS: [&str; 2] = ["model", "state_dict"];
/// Prefix that DistributedDataParallel puts before every key.
const PARALLEL_PREFIX: &str = "module.";

/// An open container.
pub(super) struct Container {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    folder: String,
    /// Name → view of a storage.
    pub(super) tensors: Vec<(String, TensorRef)>,
}

impl Container {
    /// Opens a file and reads its index.
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let file = File::open(path).map_err(file_error(path))?;
        let fail = |message: String| CheckpointError::Format { path: path.to_path_buf(), message };
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| fail(error.to_string()))?;
        let index = archive
            .file_names()
            .find(|name| name.ends_with("/data.pkl"))
            .map(str::to_owned)
            .ok_or_else(|| fail("the archive has no data.pkl; save it with PyTorch 1.6 or newer".into()))?;
        let folder = index.trim_end_matches("data.pkl").to_owned();
        let order = read_entry(&mut archive, &format!("{folder}byteorder"), PICKLE_BYTES_MAX).unwrap_or_default();
        if order.starts_with(b"big") {
            return Err(fail("it was written on a big-endian machine, which is not supported".into()));
        }
        let pickle = read_entry(&mut archive, &index, PICKLE_BYTES_MAX).map_err(&fail)?;
        let arena = interpret(&pickle).map_err(&fail)?;
        let tensors = state_dict(&arena).map_err(&fail)?;
        Ok(Self { path: path.to_path_buf(), archive, folder, tensors })
    }

    /// Reads one tensor as f32, contiguous.
    pub(super) fn read(&mut self, name: &str, tensor: &TensorRef) -> Result<Tensor, CheckpointError> {
        let fail = |message: String| CheckpointError::Format { path: self.path.clone(), message: format!("{name}: {message}") };
        let kind = kind_of(&tensor.storage.class)
            .ok_or_else(|| fail(format!("storage class {} is not supported", tensor.storage.class)))?;
        let width = kind.elt_size_in_bytes() as i64;
        let needed = elements_needed(tensor).ok_or_else(|| fail("its view does not fit 64 bits".into()))?;
        if needed > tensor.storage.numel || tensor.shape.len() != tensor.stride.len() {
            return Err(fail(format!("its view needs {needed} elements of a storage of {}", tensor.storage.numel)));
        }
        let bytes_max = tensor.storage.numel.saturating_mul(width) as u64;
        let entry = format!("{}data/{}", self.folder, tensor.storage.key);
        let bytes = read_entry(&mut self.archive, &entry, bytes_max).map_err(&fail)?;
        if (bytes.len() as i64) < needed.saturating_mul(width) {
            return Err(fail(format!("entry {entry} has {} bytes, its view needs {}", bytes.len(), needed * width)));
        }
        let count = bytes.len() as i64 / width;
        Tensor::f_from_data_size(&bytes, &[count], kind)
            .and_then(|flat| flat.f_as_strided(&tensor.shape, &tensor.stride, tensor.offset))
            .and_then(|view| view.f_to_kind(Kind::Float))
            .and_then(|view| view.f_contiguous())
            .map_err(|error| fail(error.to_string()))
    }
}

fn read_entry(archive: &mut ZipArchive<BufReader<File>>, name: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
    let entry = archive.by_name(name).map_err(|error| format!("entry {name}: {error}"))?;
    let mut bytes = Vec::new();
    entry.take(bytes_max).read_to_end(&mut bytes).map_err(|error| format!("entry {name}: {error}"))?;
    Ok(bytes)
}

/// One past the last element a view reads.
fn elements_needed(tensor: &TensorRef) -> Option<i64> {
    if tensor.shape.contains(&0) {
        return Some(0);
    }
    let mut last = tensor.offset;
    for (side, stride) in tensor.shape.iter().zip(&tensor.stride) {
        last = last.checked_add((side - 1).checked_mul(*stride)?)?;
    }
    (last >= 0).then(|| last.checked_add(1)).flatten()
}

fn kind_of(class: &str) -> Option<Kind> {
    Some(match class {
        "FloatStorage" => Kind::Float,
        "DoubleStorage" => Kind::Double,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ShortStorage" => Kind::Int16,
        "CharStorage" => Kind::Int8,
        "ByteStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        _ => return None,
    })
}

fn state_dict(arena: &Arena) -> Result<Vec<(String, TensorRef)>, String> {
    let nested = NESTED_KEYS.iter().find_map(|key| arena.entry(arena.root, key));
    let dict: Ref = nested.unwrap_or(arena.root);
    let Value::Dict(entries) = arena.get(dict) else { return Err("it holds no state dict".into()) };
    let mut tensors = Vec::new();
    for (key, value) in entries {
        if let (Value::Text(name), Value::Tensor(tensor)) = (arena.get(*key), arena.get(*value)) {
            let name = name.strip_prefix(PARALLEL_PREFIX).unwrap_or(name);
            tensors.push((name.to_owned(), tensor.clone()));
        }
    }
    if tensors.is_empty() {
        return Err("its state dict holds no tensors".into());
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use half::f16;

    use super::*;

    fn text(value: &str) -> Vec<u8> {
        [&b"X"[..], &(value.len() as u32).to_le_bytes(), value.as_bytes()].concat()
    }

    /// `{"model": {name: view of a half storage of six elements, 0 to 5}}`, shape [2, 3].
    fn container(path: &Path, name: &str, stride: [u8; 2]) {
        let storage = [text("storage"), b"ctorch\nHalfStorage\n".to_vec(), text("0"), text("cpu"), b"K\x06".to_vec()].concat();
        let view = [b'K', 0, b'K', 2, b'K', 3, 0x86, b'K', stride[0], b'K', stride[1], 0x86, 0x89, b')'];
        let pickle = [
            b"\x80\x02}".to_vec(),
            text("model"),
            b"}".to_vec(),
            text(name),
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            storage,
            b"tQ".to_vec(),
            view.to_vec(),
            b"tRss.".to_vec(),
        ];
        let mut archive = zip::ZipWriter::new(File::create(path).unwrap());
        let options = zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Stored);
        archive.start_file("run/data.pkl", options).unwrap();
        archive.write_all(&pickle.concat()).unwrap();
        archive.start_file("run/data/0", options).unwrap();
        let elements: Vec<u8> = (0..6u8).flat_map(|value| f16::from_f32(f32::from(value)).to_le_bytes()).collect();
        archive.write_all(&elements).unwrap();
        archive.finish().unwrap();
    }

    #[test]
    fn a_strided_half_tensor_is_read_as_contiguous_f32() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pth");
        container(&path, "module.w", [1, 2]);
        let mut open = Container::open(&path).unwrap();
        let (name, view) = open.tensors[0].clone();
        assert_eq!(name, "w");
        let tensor = open.read(&name, &view).unwrap();
        assert_eq!((tensor.size(), tensor.kind()), (vec![2, 3], Kind::Float));
        let values: Vec<f32> = tensor.view([-1]).try_into().unwrap();
        assert_eq!(values, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
    }

    #[test]
    fn a_view_beyond_its_storage_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pth");
        container(&path, "w", [9, 9]);
        let mut open = Container::open(&path).unwrap();
        let (name, view) = open.tensors[0].clone();
        let error = open.read(&name, &view).unwrap_err().to_string();
        assert!(error.contains("w: its view needs 28 elements of a storage of 6"), "{error}");
    }
}
