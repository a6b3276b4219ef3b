//! The bundle that the tests serve.

use std::path::PathBuf;

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
