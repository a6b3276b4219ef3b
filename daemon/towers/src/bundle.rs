//! One released model: a folder with a manifest, three graphs, a vocabulary and golden vectors.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use astromech_schemas::Manifest;
use astromech_schemas::manifest::{BundleFile, MANIFEST_FILE, hex};
use sha2::{Digest as _, Sha256};

use crate::{Tokenizer, TowersError};

/// Name of the vocabulary's file.
pub(crate) const VOCABULARY_FILE: &str = "vocab.txt";
/// Name of the golden vectors' file.
pub(crate) const GOLDEN_FILE: &str = "golden.safetensors";

const READ_BYTES: usize = 1024 * 1024;
/// A manifest is a few kilobytes; nothing larger is read.
const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A bundle whose files were checked against its manifest.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The bundle's folder.
    pub dir: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Bundle {
    /// Opens the bundle in `dir`: reads the manifest, checks the size and sha-256 of every file it lists. Reads every byte: about a
    /// second a gigabyte.
    ///
    /// # Errors
    /// A file is missing or differs (the error names file, expected and found), or the manifest is wrong.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, TowersError> {
        let dir = dir.as_ref();
        let path = dir.join(MANIFEST_FILE);
        let bytes = read_bounded(&path, MANIFEST_BYTES_MAX)?;
        let manifest =
            Manifest::from_json(&bytes).map_err(|error| TowersError::Manifest { path: path.clone(), error: Arc::new(error) })?;
        for file in &manifest.files {
            check_file(&dir.join(&file.name), file)?;
        }
        let bundle = Self { dir: dir.to_owned(), manifest };
        let vocabulary = bundle.listed(VOCABULARY_FILE)?;
        if vocabulary.sha256 != bundle.manifest.text.vocabulary_sha256 {
            return Err(TowersError::Checksum {
                path: dir.join(VOCABULARY_FILE),
                expected: bundle.manifest.text.vocabulary_sha256.clone(),
                found: vocabulary.sha256.clone(),
            });
        }
        bundle.listed(GOLDEN_FILE)?;
        Ok(bundle)
    }

    /// The bundle's tokenizer.
    ///
    /// # Errors
    /// The vocabulary can't be read or lacks BERT's marks.
    pub fn tokenizer(&self) -> Result<Tokenizer, TowersError> {
        Tokenizer::from_vocab_file(self.dir.join(VOCABULARY_FILE), self.manifest.text.max_tokens as usize)
    }

    /// The manifest's entry of `name`: what is not listed was not checked and is not used.
    pub(crate) fn listed(&self, name: &str) -> Result<&BundleFile, TowersError> {
        self.manifest.files.iter().find(|file| file.name == name).ok_or_else(|| {
            TowersError::bundle(&self.dir, format!("{name} is not among the manifest's files; release the bundle again"))
        })
    }
}

fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, TowersError> {
    let file = File::open(path).map_err(|error| TowersError::read(path, error))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes).map_err(|error| TowersError::read(path, error))?;
    Ok(bytes)
}

fn check_file(path: &Path, listed: &BundleFile) -> Result<(), TowersError> {
    let read_error = |error| TowersError::read(path, error);
    let mut file = File::open(path).map_err(read_error)?;
    let found = file.metadata().map_err(read_error)?.len();
    if found != listed.bytes {
        return Err(TowersError::Size { path: path.to_owned(), expected: listed.bytes, found });
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = file.read(&mut buffer).map_err(read_error)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
    }
    let found = hex(&hash.finalize());
    if found != listed.sha256 {
        return Err(TowersError::Checksum { path: path.to_owned(), expected: listed.sha256.clone(), found });
    }
    Ok(())
}
