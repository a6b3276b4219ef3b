//! The book of generations beside the embedded index: a folder for each generation, and a file that names the live one.
//!
//! ```text
//! ROOT/live.json       fingerprint of the live generation
//! ROOT/0a1b2c3d4e5f/   an index of its own (see `folder`), `note.json` where it is kept without being live, and `backfill.json` where
//!                      it is filled from another generation's points
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use astromech_schemas::Fingerprint;
use futures::future::{BoxFuture, FutureExt as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::blocking;
use super::folder::{self, BACKFILL_FILE, io};
use crate::generation::{Backfill, Catalog, Noted, Stored, generation_folder};
use crate::index::{IndexError, Space};

const LIVE_FILE: &str = "live.json";
const NOTE_FILE: &str = "note.json";

#[derive(Serialize, Deserialize)]
struct LiveFile {
    fingerprint: Fingerprint,
}

/// The book of generations in one folder. One process at a time changes it: the one that holds the live generation's lock.
#[derive(Debug, Clone)]
pub struct EmbeddedCatalog {
    root: PathBuf,
}

impl EmbeddedCatalog {
    /// The book of the folder `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn read_live(&self) -> Result<Option<Fingerprint>, IndexError> {
        Ok(read::<LiveFile>(&self.root.join(LIVE_FILE))?.map(|file| file.fingerprint))
    }

    fn read_generations(&self) -> Result<Vec<Stored>, IndexError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io(&self.root, "listing it", &error)),
        };
        let mut generations = Vec::new();
        for entry in entries {
            let folder = entry.map_err(|error| io(&self.root, "listing it", &error))?.path();
            if let Some((fingerprint, bundle)) = folder::holds(&folder) {
                generations.push(Stored { fingerprint, bundle, noted: read(&folder.join(NOTE_FILE))? });
            }
        }
        Ok(generations)
    }

    fn begin_generation(&self, fingerprint: &Fingerprint, plan: &Backfill) -> Result<Option<Backfill>, IndexError> {
        let folder = generation_folder(&self.root, fingerprint);
        if folder::holds(&folder).is_none() && !folder.join(BACKFILL_FILE).exists() {
            fs::create_dir_all(&folder).map_err(|error| io(&folder, "creating it", &error))?;
            folder::write_whole(&folder, BACKFILL_FILE, plan)?;
        }
        read(&folder.join(BACKFILL_FILE))
    }

    fn remove(&self, fingerprint: &Fingerprint) -> Result<(), IndexError> {
        if self.read_live()?.as_ref() == Some(fingerprint) {
            return Err(IndexError::Mismatch(format!("generation {} is live: promote another first", fingerprint.short())));
        }
        let folder = generation_folder(&self.root, fingerprint);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(io(&folder, "removing it", &error)),
            _ => Ok(()),
        }
    }
}

/// What a file holds; `None` where there is none.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, IndexError> {
    match fs::read(path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                Err(IndexError::Mismatch(format!("{} is not readable ({error}): restore or delete it", path.display())))
            }
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(path, "reading it", &error)),
    }
}

impl Catalog for EmbeddedCatalog {
    fn live(&self) -> BoxFuture<'_, Result<Option<Fingerprint>, IndexError>> {
        let catalog = self.clone();
        async move { blocking(move || catalog.read_live()).await? }.boxed()
    }

    fn generations(&self) -> BoxFuture<'_, Result<Vec<Stored>, IndexError>> {
        let catalog = self.clone();
        async move { blocking(move || catalog.read_generations()).await? }.boxed()
    }

    fn promote<'a>(&'a self, fingerprint: &'a Fingerprint) -> BoxFuture<'a, Result<(), IndexError>> {
        let (root, file) = (self.root.clone(), LiveFile { fingerprint: fingerprint.clone() });
        async move { blocking(move || folder::write_whole(&root, LIVE_FILE, &file)).await? }.boxed()
    }

    fn note<'a>(&'a self, fingerprint: &'a Fingerprint, noted: Option<Noted>) -> BoxFuture<'a, Result<(), IndexError>> {
        let folder = generation_folder(&self.root, fingerprint);
        let write = move || match noted {
            Some(noted) => folder::write_whole(&folder, NOTE_FILE, &noted),
            None => match fs::remove_file(folder.join(NOTE_FILE)) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(io(&folder, "removing its note", &error)),
                _ => Ok(()),
            },
        };
        async move { blocking(write).await? }.boxed()
    }

    fn begin<'a>(&'a self, space: &'a Space, plan: &'a Backfill) -> BoxFuture<'a, Result<Option<Backfill>, IndexError>> {
        let (catalog, fingerprint, plan) = (self.clone(), space.fingerprint.clone(), plan.clone());
        async move { blocking(move || catalog.begin_generation(&fingerprint, &plan)).await? }.boxed()
    }

    fn backfill<'a>(&'a self, fingerprint: &'a Fingerprint) -> BoxFuture<'a, Result<Option<Backfill>, IndexError>> {
        let file = generation_folder(&self.root, fingerprint).join(BACKFILL_FILE);
        async move { blocking(move || read(&file)).await? }.boxed()
    }

    fn note_backfill<'a>(&'a self, fingerprint: &'a Fingerprint, state: &'a Backfill) -> BoxFuture<'a, Result<(), IndexError>> {
        let (folder, state) = (generation_folder(&self.root, fingerprint), state.clone());
        async move { blocking(move || folder::write_whole(&folder, BACKFILL_FILE, &state)).await? }.boxed()
    }

    fn drop_generation<'a>(&'a self, fingerprint: &'a Fingerprint) -> BoxFuture<'a, Result<(), IndexError>> {
        let (catalog, fingerprint) = (self.clone(), fingerprint.clone());
        async move { blocking(move || catalog.remove(&fingerprint)).await? }.boxed()
    }
}
