//! Held-out scenes as a corpus folder: records, pictures, retrieval tasks and swap tasks.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde_json::json;

use super::artist::{Artist, Part, Twins};
use super::captions::Templates;
use super::error::SceneError;
use super::fold::{Fold, hash};
use super::kind::SceneKind;
use super::stock::Stock;
use crate::corpus::CorpusError;
use crate::files::file_error;

/// How much is written.
#[derive(Debug, Clone, Copy)]
pub struct FolderPlan {
    /// Seed of the scenes; which combinations are held out does not follow from it.
    pub seed: u64,
    /// Scenes of each retrieval task, in pairs of near twins.
    pub scenes: usize,
    /// Pairs of near twins of each kind in each swap task.
    pub swaps: usize,
}

/// A split that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its name.
    pub split: &'static str,
    /// Pictures.
    pub pictures: usize,
}

/// The splits: what is held out of training in each.
const SPLITS: [(&str, Part); 4] = [
    ("val", Part { fold: Fold::Val, templates: Templates::Seen, held_out_designer: false }),
    ("test", Part { fold: Fold::Test, templates: Templates::Seen, held_out_designer: false }),
    ("test_templates", Part { fold: Fold::Test, templates: Templates::HeldOut, held_out_designer: false }),
    ("test_designer", Part { fold: Fold::Test, templates: Templates::Seen, held_out_designer: true }),
];

/// Writes `<split>.jsonl`, `images/` and `tasks/` into a new folder: `tasks/<split>.scenes.long.jsonl` asks for a scene among all of them,
/// `.swap.jsonl` has pairs of near twins by kind, `.match.jsonl` the same pairs with labels. The split of the held-out designer is left
/// out where it drew nothing.
///
/// # Errors
/// The folder is not empty or cannot be written, or the stock is too small.
pub fn write_scenes(stock: &Arc<Stock>, out: &Path, plan: FolderPlan) -> Result<Vec<Written>, SceneError> {
    std::fs::create_dir_all(out).map_err(file_error(out))?;
    if std::fs::read_dir(out).map_err(file_error(out))?.next().is_some() {
        return Err(SceneError::NotEmpty { path: out.to_path_buf() });
    }
    for folder in ["images", "tasks"] {
        let path = out.join(folder);
        std::fs::create_dir(&path).map_err(file_error(&path))?;
    }
    let drawn = |part: &Part| !part.held_out_designer || stock.concepts.iter().any(|concept| !concept.held_out.is_empty());
    SPLITS
        .iter()
        .filter(|(_, part)| drawn(part))
        .map(|&(split, part)| {
            let artist = Artist::new(Arc::clone(stock), part, &SceneKind::ALL)?;
            Split { artist, name: split, plan }.write(out)
        })
        .collect()
}

/// One split under way.
struct Split {
    artist: Artist,
    name: &'static str,
    plan: FolderPlan,
}

impl Split {
    fn rng(&self, what: &str, kind: SceneKind) -> StdRng {
        StdRng::seed_from_u64(self.plan.seed.rotate_left(32) ^ hash(&[self.name, "|", what, "|", kind.name()]))
    }

    /// Groups of near twins for retrieval: no two concepts meet in two of them, or one caption would be true of two.
    fn groups(&self) -> Result<Vec<Twins>, SceneError> {
        let kinds: Vec<SceneKind> = SceneKind::ALL.into_iter().filter(|kind| kind.names_all()).collect();
        let wanted = self.plan.scenes / 2;
        let mut met: HashSet<(usize, usize)> = HashSet::new();
        let mut groups = Vec::with_capacity(wanted);
        for (index, &kind) in kinds.iter().enumerate() {
            let share = wanted / kinds.len() + usize::from(index < wanted % kinds.len());
            let mut rng = self.rng("retrieval", kind);
            let mut pairs = self.artist.pairs(kind).to_vec();
            pairs.shuffle(&mut rng);
            let before = groups.len();
            for pair in pairs {
                if groups.len() - before == share {
                    break;
                }
                let twins = self.artist.draw_of(kind, pair, &mut rng);
                let own = pairs_of(&twins.concepts);
                if own.iter().all(|pair| !met.contains(pair)) {
                    met.extend(own);
                    groups.push(twins);
                }
            }
            let found = groups.len() - before;
            if found < share {
                return Err(SceneError::TooFewPairs { kind: kind.name(), wanted: 2 * share, found });
            }
        }
        Ok(groups)
    }

    /// Near twins of every kind.
    fn swaps(&self) -> Vec<Twins> {
        let of = |kind: SceneKind| {
            let mut rng = self.rng("swap", kind);
            let mut pairs = self.artist.pairs(kind).to_vec();
            pairs.shuffle(&mut rng);
            let chosen: Vec<(usize, usize)> = pairs.into_iter().cycle().take(self.plan.swaps).collect();
            chosen.into_iter().map(|pair| self.artist.draw_of(kind, pair, &mut rng)).collect::<Vec<_>>()
        };
        SceneKind::ALL.into_iter().flat_map(of).collect()
    }

    fn write(&self, out: &Path) -> Result<Written, SceneError> {
        let (groups, swaps) = (self.groups()?, self.swaps());
        let all: Vec<(String, &Twins)> = groups
            .iter()
            .enumerate()
            .map(|(index, twins)| (format!("{}-r{index}", self.name), twins))
            .chain(swaps.iter().enumerate().map(|(index, twins)| (format!("{}-s{index}", self.name), twins)))
            .collect();
        let rows =
            all.par_iter().map(|(id, twins)| self.write_twins(out, id, twins)).collect::<Result<Vec<String>, SceneError>>()?;
        put(&out.join(format!("{}.jsonl", self.name)), &rows.concat())?;
        let (mut retrieval, mut swap, mut matching) = (String::new(), String::new(), String::new());
        for (id, twins) in &all[..groups.len()] {
            for (index, scene) in twins.scenes.iter().enumerate() {
                line(&mut retrieval, &json!({ "text": scene.caption, "images": [format!("{id}-{index}")] }));
            }
        }
        for (id, twins) in &all[groups.len()..] {
            let [texts, images] = [0, 1].map(|what| {
                [0, 1].map(|index| if what == 0 { twins.scenes[index].caption.clone() } else { format!("{id}-{index}") })
            });
            line(&mut swap, &json!({ "kind": twins.kind.name(), "texts": texts, "images": images }));
            for (image, text) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let label = i32::from(image == text);
                line(&mut matching, &json!({ "image": images[image], "text": texts[text], "label": label }));
            }
        }
        for (task, rows) in [("long", retrieval), ("swap", swap), ("match", matching)] {
            put(&out.join("tasks").join(format!("{}.scenes.{task}.jsonl", self.name)), &rows)?;
        }
        Ok(Written { split: self.name, pictures: 2 * all.len() })
    }

    /// Writes both pictures; returns their records.
    fn write_twins(&self, out: &Path, id: &str, twins: &Twins) -> Result<String, SceneError> {
        let side = self.artist.stock.side as u32;
        let mut rows = String::new();
        for (index, scene) in twins.scenes.iter().enumerate() {
            let id = format!("{id}-{index}");
            let image = format!("images/{id}.png");
            let path = out.join(&image);
            let failed = |message: String| CorpusError::Picture { id: id.clone(), path: path.clone(), message };
            let picture = RgbImage::from_raw(side, side, self.artist.paint(scene))
                .ok_or_else(|| failed("it has another size than its scene".to_owned()))?;
            picture.save(&path).map_err(|error| failed(error.to_string()))?;
            let sources: Vec<_> = scene.things.iter().map(|thing| &self.artist.stock.sources[thing.cutout]).collect();
            let mut licences: Vec<&str> = sources.iter().map(|source| source.licence.as_str()).collect();
            licences.sort_unstable();
            licences.dedup();
            let text = &scene.caption;
            line(
                &mut rows,
                &json!({
                    "id": id, "image": image, "title": text, "query": text, "content": text, "alt_queries": [], "concept": id,
                    "domain": "scenes", "vendor": "composed", "licence": licences.join(" AND "), "split": self.name,
                    "scene": twins.kind.name(), "sources": sources,
                }),
            );
        }
        Ok(rows)
    }
}

/// Every two of some concepts, which are sorted.
fn pairs_of(concepts: &[usize]) -> Vec<(usize, usize)> {
    concepts.iter().enumerate().flat_map(|(at, &a)| concepts[at + 1..].iter().map(move |&b| (a, b))).collect()
}

fn line(text: &mut String, row: &serde_json::Value) {
    // Writing to a String can't fail.
    let _ = writeln!(text, "{row}");
}

fn put(path: &Path, text: &str) -> Result<(), SceneError> {
    Ok(std::fs::write(path, text).map_err(file_error(path))?)
}
