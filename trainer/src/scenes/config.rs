//! Scenes as training has them, `data.scenes`.

use std::path::{Path, PathBuf};

use astromech_settings::kinds::{float, int, list, path, text};
use astromech_settings::{Value as _, defaults, settings};

use super::kind::{KINDS, SceneKind};
use super::stock::StockSettings;

settings! {
    /// Composed scenes in training batches. They hold no combination of concepts that `trainer scenes` writes tasks of, whatever the seed.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ScenesConfig {
        /// Part of each batch.
        share: f64 = 0.5 => float(0.0, 1.0);
        /// Part of the scenes that come with their near twin: the same things and words, bound otherwise.
        twins: f64 = 0.6 => float(0.0, 1.0);
        /// How often each kind is drawn.
        kinds: KindWeights;
        /// Corpus that objects are cut out of, where it is not `data.corpus`.
        corpus: Option<PathBuf> = optional => path().or_none();
        /// Its splits.
        splits: Vec<String> = ["train"] => list(text());
        /// Licences of the pictures, exact; empty allows all.
        licences: Vec<String> = ["Apache-2.0", "MIT", "CC-BY-4.0"] => list(text());
        /// Domains of the pictures; empty allows all.
        domains: Vec<String> = ["emoji"] => list(text());
        /// Names (`query`) of the concepts that are composed; empty takes the built-in list of emoji.
        names: Vec<String> = [] => list(text());
        /// Designers that must have drawn a concept.
        designers_min: usize = 3 => int(1, u64::MAX);
        /// At most this many concepts, which of them follows from their names; 0 takes all. For a curriculum.
        concepts_max: usize = 0 => int(0, u64::MAX);
        /// The designer whose pictures are kept for test.
        held_out_designer: String = "openmoji" => text();
    }

    /// How often each kind of scene is drawn; weights need not sum to 1.
    #[derive(Debug, Clone, PartialEq)]
    pub struct KindWeights {
        /// One object, and where it is.
        place: f64 = 1.0 => float(0.0, f64::INFINITY);
        /// Two objects, and where the one is that is named.
        unnamed: f64 = 1.0 => float(0.0, f64::INFINITY);
        /// One left of, right of, above or below the other.
        relation: f64 = 1.0 => float(0.0, f64::INFINITY);
        /// Three in a row.
        row: f64 = 1.0 => float(0.0, f64::INFINITY);
        /// Two colours; the twin exchanges them.
        colour: f64 = 1.0 => float(0.0, f64::INFINITY);
        /// Two colours and a relation; the twin exchanges the colours.
        colour_swapped: f64 = 1.0 => float(0.0, f64::INFINITY);
        /// Two colours and a relation; the twin exchanges the places.
        place_swapped: f64 = 1.0 => float(0.0, f64::INFINITY);
        /// A large and a small object.
        size: f64 = 1.0 => float(0.0, f64::INFINITY);
        /// Two of one and one of the other.
        count: f64 = 1.0 => float(0.0, f64::INFINITY);
    }
}

impl Default for ScenesConfig {
    fn default() -> Self {
        defaults()
    }
}

impl Default for KindWeights {
    fn default() -> Self {
        defaults()
    }
}

impl ScenesConfig {
    /// Scenes of a batch.
    pub fn count(&self, batch: usize) -> usize {
        ((batch as f64 * self.share).round() as usize).min(batch)
    }

    /// What is cut out, of `corpus` where no other is given.
    pub fn stock(&self, corpus: &Path) -> StockSettings {
        StockSettings {
            corpus: self.corpus.clone().unwrap_or_else(|| corpus.to_path_buf()),
            splits: self.splits.clone(),
            licences: self.licences.clone(),
            domains: self.domains.clone(),
            names: self.names.clone(),
            designers_min: self.designers_min,
            concepts_max: self.concepts_max,
            held_out: self.held_out_designer.clone(),
            held_out_split: None,
        }
    }
}

impl KindWeights {
    /// The weights in the order of [`SceneKind::ALL`].
    pub fn all(&self) -> [(SceneKind, f64); KINDS] {
        let weight = |kind: SceneKind| match kind {
            SceneKind::Place => self.place,
            SceneKind::Unnamed => self.unnamed,
            SceneKind::Relation => self.relation,
            SceneKind::Row => self.row,
            SceneKind::Colour => self.colour,
            SceneKind::ColourSwapped => self.colour_swapped,
            SceneKind::PlaceSwapped => self.place_swapped,
            SceneKind::Size => self.size,
            SceneKind::Count => self.count,
        };
        SceneKind::ALL.map(|kind| (kind, weight(kind)))
    }
}
