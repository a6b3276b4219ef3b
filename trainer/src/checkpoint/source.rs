//! A file of named tensors, whichever of the two formats it is in.

use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tch::Tensor;

use super::container::Container;
use super::error::CheckpointError;
use super::native::tensor_of;
use super::pickle::TensorRef;
use crate::files::file_error;

/// First bytes of a zip, and so of a PyTorch container (`.pth`, `.bin`).
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// Bytes before the header of a safetensors file: the header's length.
const LENGTH_BYTES: usize = 8;

/// An open file.
pub(super) struct Source {
    path: PathBuf,
    /// Names and shapes, by which tensors are numbered.
    pub(super) keys: Vec<(String, Vec<i64>)>,
    content: Content,
}

enum Content {
    Container(Container, Vec<TensorRef>),
    /// The whole file, and type, start and end of each tensor in it.
    Safetensors(Vec<u8>, Vec<(Dtype, usize, usize)>),
}

impl Source {
    /// Opens a PyTorch zip container or a safetensors file.
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let mut magic = [0u8; 4];
        let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut magic)).map_err(file_error(path))?;
        if &magic[..read] == ZIP_MAGIC {
            let mut container = Container::open(path)?;
            let (names, views): (Vec<String>, Vec<TensorRef>) = std::mem::take(&mut container.tensors).into_iter().unzip();
            let keys = names.into_iter().zip(&views).map(|(name, view)| (name, view.shape.clone())).collect();
            return Ok(Self { path: path.to_path_buf(), keys, content: Content::Container(container, views) });
        }
        let bytes = std::fs::read(path).map_err(file_error(path))?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| CheckpointError::Format {
            path: path.to_path_buf(),
            message: format!("it is neither a PyTorch zip container nor safetensors ({error})"),
        })?;
        let (mut keys, mut places) = (Vec::new(), Vec::new());
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            keys.push((name, info.shape.iter().map(|&side| side as i64).collect()));
            places.push((info.dtype, LENGTH_BYTES + header + start, LENGTH_BYTES + header + end));
        }
        Ok(Self { path: path.to_path_buf(), keys, content: Content::Safetensors(bytes, places) })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// One tensor as f32.
    pub(super) fn read(&mut self, index: usize) -> Result<Tensor, CheckpointError> {
        let (name, shape) = &self.keys[index];
        match &mut self.content {
            Content::Container(container, views) => container.read(name, &views[index]),
            Content::Safetensors(bytes, places) => {
                let (dtype, start, end) = places[index];
                let shape = shape.iter().map(|&side| side as usize).collect();
                let fail = |message: String| CheckpointError::Format { path: self.path.clone(), message };
                let data = bytes.get(start..end).ok_or_else(|| fail(format!("{name}: it lies beyond the end of the file")))?;
                let view = TensorView::new(dtype, shape, data).map_err(|error| fail(format!("{name}: {error}")))?;
                tensor_of(&self.path, &view)
            }
        }
    }
}
