//! The parity pack: what the official class answered (../shared/parity).

use std::io::Read as _;
use std::path::{Path, PathBuf};

/// An array of `expected.npz`.
pub struct Expected {
    pub shape: Vec<usize>,
    bytes: Vec<u8>,
    kind: String,
}

impl Expected {
    pub fn floats(&self) -> Vec<f32> {
        assert_eq!(self.kind, "<f4");
        self.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    pub fn integers(&self) -> Vec<i64> {
        match self.kind.as_str() {
            "<i8" => self.bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect(),
            "<i4" => self.bytes.as_chunks().0.iter().map(|bytes| i64::from(i32::from_le_bytes(*bytes))).collect(),
            other => panic!("{other} is no integer type"),
        }
    }

    /// Rows of the last dimension.
    pub fn rows(&self) -> Vec<Vec<f32>> {
        self.floats().chunks_exact(self.shape[self.shape.len() - 1]).map(<[f32]>::to_vec).collect()
    }
}

pub struct Pack {
    pub dir: PathBuf,
    pub vocabulary: PathBuf,
    pub texts: Vec<String>,
    pub images: Vec<String>,
}

impl Pack {
    /// The pack beside the repository; `None`, with a printed reason, when it is not there.
    pub fn find() -> Option<Self> {
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
        let dir = shared.join("parity");
        let inputs = dir.join("inputs.json");
        let Ok(text) = std::fs::read_to_string(&inputs) else {
            eprintln!("skipped: {} is not there", inputs.display());
            return None;
        };
        let inputs: serde_json::Value = serde_json::from_str(&text).unwrap();
        let strings = |key: &str| inputs[key].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect();
        Some(Self { vocabulary: shared.join("vocab.txt"), texts: strings("texts"), images: strings("images"), dir })
    }

    /// File bytes of picture `index`.
    pub fn image(&self, index: usize) -> Vec<u8> {
        std::fs::read(self.dir.join("images").join(&self.images[index])).unwrap()
    }

    /// PNG of picture `index` after the official resize.
    pub fn pixels(&self, index: usize) -> Vec<u8> {
        std::fs::read(self.dir.join("pixels").join(format!("{}.png", self.images[index]))).unwrap()
    }

    pub fn expected(&self, name: &str) -> Expected {
        let file = std::fs::File::open(self.dir.join("expected.npz")).unwrap();
        let mut archive = zip::ZipArchive::new(file).unwrap();
        let mut npy = Vec::new();
        archive.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut npy).unwrap();
        parse_npy(&npy)
    }
}

/// NumPy's file format, version 1: magic, header length, a Python dict, data.
fn parse_npy(npy: &[u8]) -> Expected {
    assert_eq!(&npy[..8], b"\x93NUMPY\x01\x00");
    let end = 10 + usize::from(u16::from_le_bytes([npy[8], npy[9]]));
    let header = std::str::from_utf8(&npy[10..end]).unwrap();
    assert!(header.contains("'fortran_order': False"), "{header}");
    let after = |key: &str| &header[header.find(key).unwrap() + key.len()..];
    let kind = after("'descr': '").split('\'').next().unwrap().to_owned();
    let shape = after("'shape': (").split(')').next().unwrap();
    let shape = shape.split(',').filter_map(|size| size.trim().parse().ok()).collect();
    Expected { shape, bytes: npy[end..].to_vec(), kind }
}

pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

pub fn largest_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}
