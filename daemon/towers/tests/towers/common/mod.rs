//! The parity pack: outputs of the authors' own class, made once (../shared/parity/README.md).
#![allow(dead_code, reason = "the pack is read by few")]

pub mod tiny_bundle;

use std::collections::HashMap;
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};

/// The folder of reference material beside the repository; `None`, said aloud, where a checkout has none.
pub fn shared(part: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(part);
    if path.exists() {
        return Some(path);
    }
    let mut stderr = std::io::stderr();
    let _ = std::io::Write::write_fmt(&mut stderr, format_args!("skipped: {} is absent\n", path.display()));
    None
}

/// An array of an `.npz`.
#[derive(Debug)]
pub struct Array {
    pub shape: Vec<usize>,
    pub kind: String,
    pub data: Vec<u8>,
}

impl Array {
    pub fn i64(&self) -> Vec<i64> {
        assert_eq!(self.kind, "<i8");
        self.data.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
    }

    pub fn f32(&self) -> Vec<f32> {
        assert_eq!(self.kind, "<f4");
        self.data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}

/// Reads an `.npz`: a ZIP of `.npy` files of format 1.0, in C order.
pub fn read_npz(path: &Path) -> HashMap<String, Array> {
    let mut archive = zip::ZipArchive::new(Cursor::new(std::fs::read(path).unwrap())).unwrap();
    let mut arrays = HashMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let name = file.name().trim_end_matches(".npy").to_owned();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(&bytes[..7], b"\x93NUMPY\x01");
        let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let text = std::str::from_utf8(&bytes[10..10 + header]).unwrap();
        assert!(text.contains("'fortran_order': False"));
        let between = |from: &str, to: &str| text.split_once(from).unwrap().1.split_once(to).unwrap().0.to_owned();
        let shape = between("'shape': (", ")").split(',').filter_map(|size| size.trim().parse().ok()).collect();
        arrays.insert(name, Array { shape, kind: between("'descr': '", "'"), data: bytes[10 + header..].to_vec() });
    }
    arrays
}

/// Texts and names of images, in the order of the expected arrays.
pub fn inputs(pack: &Path) -> (Vec<String>, Vec<String>) {
    let bytes = std::fs::read(pack.join("inputs.json")).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let list =
        |field: &str| value[field].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    (list("texts"), list("images"))
}
