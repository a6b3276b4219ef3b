//! The bundle that the tests serve, others, and registries to publish them in.

use std::path::{Path, PathBuf};
use std::process::Command;

use astromech_registry::{Registry, RegistryOptions};
use astromech_schemas::Manifest;
use serde_json::json;

use crate::corpus::{Entry, corpus};
use crate::paths;
use crate::wait::block_on;
use crate::world::scratch;

/// Folder of the bundle: `$ASTROMECH_E2E_BUNDLE`, else the demo bundle of the repository.
pub fn path() -> PathBuf {
    let path =
        std::env::var_os("ASTROMECH_E2E_BUNDLE").map_or_else(|| paths::repository().join("configs/demo/bundle"), PathBuf::from);
    assert!(path.join("manifest.json").is_file(), "no bundle in {}; set ASTROMECH_E2E_BUNDLE to a released one", path.display());
    path
}

/// Its manifest.
pub fn manifest() -> Manifest {
    let bytes = std::fs::read(path().join("manifest.json")).expect("path() has seen it");
    Manifest::from_json(&bytes).unwrap_or_else(|e| panic!("manifest.json: {e}"))
}

/// A copy in `folder` without the cross tower, as a release without it makes: another vector space by its fingerprint.
pub fn without_cross(folder: &Path) -> PathBuf {
    let (from, manifest) = (path(), manifest());
    let files: Vec<_> = manifest.files.into_iter().filter(|file| !file.name.starts_with("cross.")).collect();
    std::fs::create_dir_all(folder).expect("the folder is made");
    for file in &files {
        std::fs::copy(from.join(&file.name), folder.join(&file.name)).unwrap_or_else(|e| panic!("{}: {e}", file.name));
    }
    let fingerprint = Manifest::compute_fingerprint(&files);
    let text = serde_json::to_string_pretty(&Manifest { fingerprint, files, ..manifest }).expect("JSON is written");
    std::fs::write(folder.join("manifest.json"), text).expect("the manifest is written");
    folder.to_owned()
}

/// A bundle of random weights: another vector space than the demo's, small and quick.
pub fn other(seed: u64) -> (PathBuf, Manifest) {
    exported(seed, &[])
}

/// As [`other`], compared token by token.
pub fn late_interaction(seed: u64) -> (PathBuf, Manifest) {
    exported(seed, &["--similarity", "late-interaction"])
}

fn exported(seed: u64, more: &[&str]) -> (PathBuf, Manifest) {
    let folder = scratch("bundle");
    let at = |name: &str| folder.join(name).display().to_string();
    let vocabulary = path().join("vocab.txt").display().to_string();
    write_samples(&folder.join("corpus"));
    let preset = paths::repository().join("configs/models/tiny.toml").display().to_string();
    trainer(&["init", "--config", &preset, "--seed", &seed.to_string(), "--out", &at("weights.safetensors")]);
    let export = [
        "export",
        "--checkpoint",
        &at("weights.safetensors"),
        "--out",
        &at("bundle"),
        "--name",
        "refreshed",
        "--precisions",
        "f32",
    ];
    trainer(&[&export[..], &["--vocabulary", &vocabulary, "--samples", &at("corpus")], more].concat());
    let manifest = std::fs::read(folder.join("bundle/manifest.json")).expect("the trainer wrote it");
    (folder.join("bundle"), Manifest::from_json(&manifest).expect("the trainer wrote it"))
}

/// Sixteen pictures with their texts as a corpus folder: for golden vectors, and for a gate.
pub fn write_samples(folder: &Path) {
    std::fs::create_dir_all(folder.join("images")).expect("a new folder");
    let row = |entry: &Entry| {
        let image = format!("images/{}", entry.picture.file_name().expect("a file").to_string_lossy());
        std::fs::copy(&entry.picture, folder.join(&image)).expect("a file in a new folder");
        let row = json!({"id": entry.id, "image": image, "title": entry.title, "query": entry.title, "content": entry.body,
            "concept": entry.id, "domain": "demo", "licence": "MIT", "split": "val"});
        format!("{row}\n")
    };
    let rows: String = corpus().entries.iter().take(16).map(row).collect();
    std::fs::write(folder.join("val.jsonl"), rows).expect("a file in a new folder");
}

fn trainer(arguments: &[&str]) {
    let done = Command::new(paths::trainer_binary()).args(arguments).output().expect("the trainer starts");
    assert!(done.status.success(), "trainer {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A registry in a folder of its own.
#[derive(Debug)]
pub struct Published {
    /// The folder.
    pub folder: PathBuf,
    /// The registry in it.
    pub registry: Registry,
}

impl Default for Published {
    fn default() -> Self {
        Self::new()
    }
}

impl Published {
    /// A registry without a bundle.
    pub fn new() -> Self {
        let folder = scratch("registry");
        let registry = Registry::open(&RegistryOptions::new(folder.display().to_string())).expect("a folder that is there");
        Self { folder, registry }
    }

    /// Publishes the bundle in a folder, unsigned.
    pub fn publish(&self, bundle: &Path) {
        block_on(self.registry.publish(bundle, None)).expect("a whole bundle");
    }

    /// Publishes a bundle whose published files `spoil` changes; the pointer comes last, as from a publisher.
    pub fn publish_spoilt(&self, bundle: &Path, manifest: &Manifest, spoil: impl FnOnce(&Path)) {
        let staging = Self::new();
        staging.publish(bundle);
        spoil(&staging.folder.join("bundles").join(manifest.fingerprint.as_str()));
        for part in ["bundles", "releases", "current.json"] {
            let copied = Command::new("cp").arg("-r").arg(staging.folder.join(part)).arg(&self.folder).status();
            assert!(copied.expect("cp starts").success(), "copying {part}");
        }
    }

    /// `[rollout]` of a daemon that watches it.
    pub fn rollout(&self, more: &str) -> String {
        let quote = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
        let bundles = scratch("bundles");
        format!("[rollout]\nregistry = {}\nbundles = {}\npoll_ms = 200\n{more}\n", quote(&self.folder), quote(&bundles))
    }
}
