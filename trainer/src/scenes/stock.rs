//! The objects that scenes are composed of: concepts, each drawn by several designers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::cutout::{Cutout, TINTS};
use super::error::SceneError;
use super::fold::hash;
use super::names::NAMES;
use crate::corpus::{CorpusError, Picture, Record, RecordFilter, read_records};

/// Edge that pictures are decoded to before they are cut out.
const DECODED_PX: usize = 128;

/// What is cut out.
#[derive(Debug, Clone)]
pub struct StockSettings {
    /// Folder of the corpus.
    pub corpus: PathBuf,
    /// Splits of the designers that training sees.
    pub splits: Vec<String>,
    /// Licences of the designers that training sees; empty allows all.
    pub licences: Vec<String>,
    /// Domains; empty allows all.
    pub domains: Vec<String>,
    /// Names (`query`) of the concepts; empty takes the built-in list.
    pub names: Vec<String>,
    /// Designers of training that must have drawn a concept.
    pub designers_min: usize,
    /// At most this many concepts; 0 takes all. Which ones follows from their names.
    pub concepts_max: usize,
    /// The designer whom training never sees.
    pub held_out: String,
    /// Further split with the held-out designer's pictures, in any licence; none leaves them out.
    pub held_out_split: Option<String>,
}

/// Where an object comes from.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Source {
    pub(super) id: String,
    pub(super) designer: String,
    pub(super) licence: String,
}

/// A concept.
#[derive(Debug)]
pub(super) struct Concept {
    pub(super) name: String,
    /// Objects of the designers that training sees.
    pub(super) seen: Vec<usize>,
    /// Objects of the held-out designer.
    pub(super) held_out: Vec<usize>,
    /// Bits of the tints that some designer gives it anyway.
    pub(super) own: u8,
}

/// All objects.
#[derive(Debug)]
pub struct Stock {
    pub(super) corpus: PathBuf,
    pub(super) concepts: Vec<Concept>,
    pub(super) cutouts: Vec<Cutout>,
    pub(super) sources: Vec<Source>,
    /// Edge of a scene in pixels.
    pub(super) side: usize,
}

impl Stock {
    /// Cuts the objects out, for scenes of `side` pixels.
    ///
    /// # Errors
    /// The corpus or a picture cannot be read, or the filter leaves no record.
    pub fn load(settings: &StockSettings, side: usize) -> Result<Self, SceneError> {
        let mut by_name: BTreeMap<String, [Vec<Record>; 2]> = BTreeMap::new();
        let names: HashSet<&str> = if settings.names.is_empty() {
            NAMES.split_whitespace().collect()
        } else {
            settings.names.iter().map(String::as_str).collect()
        };
        let records = records(settings)?;
        // The held-out designer has no say in names: with it or without, the same pairs are held out.
        let called = usual_names(records.iter().filter(|record| record.vendor != settings.held_out));
        for record in records {
            let Some(name) = called.get(record.concept.as_str()).filter(|name| names.contains(name.as_str())) else { continue };
            let held_out = usize::from(record.vendor == settings.held_out);
            by_name.entry(name.clone()).or_default()[held_out].push(record);
        }
        by_name.retain(|_, [seen, _]| {
            let designers: HashSet<&str> = seen.iter().map(|record| record.vendor.as_str()).collect();
            designers.len() >= settings.designers_min.max(1)
        });
        let mut chosen: Vec<(String, [Vec<Record>; 2])> = by_name.into_iter().collect();
        // A part of the concepts is no part of the alphabet.
        chosen.sort_by_key(|(name, _)| hash(&[name]));
        if settings.concepts_max > 0 {
            chosen.truncate(settings.concepts_max);
        }
        let cut = chosen
            .into_par_iter()
            .map(|(name, records)| {
                let [seen, held_out] = records;
                Ok((name, cut_all(&settings.corpus, seen)?, cut_all(&settings.corpus, held_out)?))
            })
            .collect::<Result<Vec<_>, CorpusError>>()?;
        let mut stock =
            Self { corpus: settings.corpus.clone(), concepts: Vec::new(), cutouts: Vec::new(), sources: Vec::new(), side };
        for (name, seen, held_out) in cut.into_iter().filter(|(_, seen, _)| !seen.is_empty()) {
            let own = seen.iter().chain(&held_out).fold(0, |bits, (cutout, _)| bits | cutout.own);
            let (seen, held_out) = (stock.put(seen), stock.put(held_out));
            stock.concepts.push(Concept { name, seen, held_out, own });
        }
        Ok(stock)
    }

    fn put(&mut self, objects: Vec<(Cutout, Source)>) -> Vec<usize> {
        let from = self.cutouts.len();
        for (cutout, source) in objects {
            self.cutouts.push(cutout);
            self.sources.push(source);
        }
        (from..self.cutouts.len()).collect()
    }

    /// Concepts.
    pub fn concepts(&self) -> usize {
        self.concepts.len()
    }

    /// Objects of all designers.
    pub fn objects(&self) -> usize {
        self.cutouts.len()
    }

    /// Tints that two concepts can both be given, as indices of [`TINTS`].
    pub(super) fn tints(&self, a: usize, b: usize) -> impl Iterator<Item = usize> + use<> {
        let own = self.concepts[a].own | self.concepts[b].own;
        (0..TINTS.len()).filter(move |index| own & 1 << index == 0)
    }
}

/// Records of the designers that training sees, and those of the held-out one.
fn records(settings: &StockSettings) -> Result<Vec<Record>, CorpusError> {
    let filter = |splits: &[String], licences: &[String]| RecordFilter {
        splits: splits.to_vec(),
        licences: licences.to_vec(),
        domains: settings.domains.clone(),
    };
    let mut all = read_records(&settings.corpus, &filter(&settings.splits, &settings.licences))?;
    if let Some(split) = &settings.held_out_split {
        let others = read_records(&settings.corpus, &filter(std::slice::from_ref(split), &[]))?;
        all.retain(|record| record.vendor != settings.held_out);
        all.extend(others.into_iter().filter(|record| record.vendor == settings.held_out));
    }
    Ok(all)
}

/// The name that most of a concept's records have.
fn usual_names<'a>(records: impl Iterator<Item = &'a Record>) -> HashMap<String, String> {
    let mut counts: HashMap<&str, BTreeMap<&str, usize>> = HashMap::new();
    for record in records {
        *counts.entry(&record.concept).or_default().entry(&record.query).or_default() += 1;
    }
    let usual =
        |counts: BTreeMap<&str, usize>| counts.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned());
    counts.into_iter().filter_map(|(concept, counts)| Some((concept.to_owned(), usual(counts)?))).collect()
}

fn cut_all(folder: &Path, records: Vec<Record>) -> Result<Vec<(Cutout, Source)>, CorpusError> {
    let mut objects = Vec::with_capacity(records.len());
    for record in records {
        let picture = Picture::read(&folder.join(&record.image), &record.id, DECODED_PX)?;
        if let Some(cutout) = Cutout::of(&picture) {
            let Record { id, vendor: designer, licence, .. } = record;
            objects.push((cutout, Source { id, designer, licence }));
        }
    }
    Ok(objects)
}
