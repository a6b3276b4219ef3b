//! The bundle that the tests serve.

use std::path::{Path, PathBuf};

use astromech_schemas::Manifest;

use crate::paths;

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
