//! Draws scenes and their near twins.

use std::sync::Arc;

use rand::Rng;

use super::captions::{Phrase, Roles, Templates, caption};
use super::cutout::TINTS;
use super::error::SceneError;
use super::fold::Fold;
use super::kind::{KINDS, SceneKind};
use super::layout::Layout;
use super::paint::{Ground, Thing, paint};
use super::stock::Stock;

/// Tints that two concepts must have in common to be told apart by colour.
const TINTS_MIN: usize = 2;

/// Which part of all scenes is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Combinations of concepts.
    pub fold: Fold,
    /// Templates of captions.
    pub templates: Templates,
    /// Objects of the held-out designer in place of the others'.
    pub held_out_designer: bool,
}

impl Part {
    /// What training sees.
    pub const TRAIN: Self = Self { fold: Fold::Train, templates: Templates::Seen, held_out_designer: false };
}

/// A scene: what is said of it, and what is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// The caption.
    pub caption: String,
    pub(super) ground: Ground,
    pub(super) things: Vec<Thing>,
}

/// Two scenes of the same things and words, bound otherwise.
#[derive(Debug, Clone)]
pub struct Twins {
    /// Their kind.
    pub kind: SceneKind,
    /// Concepts that are there, as indices.
    pub(super) concepts: Vec<usize>,
    /// The scenes; each caption is true of its own scene and false of the other.
    pub scenes: [Scene; 2],
}

/// Draws scenes of one part.
#[derive(Debug)]
pub struct Artist {
    pub(super) stock: Arc<Stock>,
    part: Part,
    /// Pairs that each kind may show, the first below the second; a concept with itself where it stands alone.
    pairs: [Vec<(usize, usize)>; KINDS],
    folds: Vec<Fold>,
}

impl Artist {
    /// Looks up which concepts go together.
    ///
    /// # Errors
    /// None do, for one of `kinds`.
    pub fn new(stock: Arc<Stock>, part: Part, kinds: &[SceneKind]) -> Result<Self, SceneError> {
        let count = stock.concepts();
        let concepts = &stock.concepts;
        let folds: Vec<Fold> =
            concepts.iter().flat_map(|one| concepts.iter().map(|other| Fold::of(&one.name, &other.name))).collect();
        let mut artist = Self { stock, part, pairs: Default::default(), folds };
        for kind in kinds {
            let own: Vec<(usize, usize)> =
                (0..count).flat_map(|a| (a..count).map(move |b| (a, b))).filter(|&(a, b)| artist.suits(*kind, a, b)).collect();
            if own.is_empty() {
                let corpus = artist.stock.corpus.clone();
                return Err(SceneError::TooFewConcepts { corpus, kind: kind.name(), fold: part.fold, concepts: count });
            }
            artist.pairs[*kind as usize] = own;
        }
        Ok(artist)
    }

    fn fold(&self, a: usize, b: usize) -> Fold {
        self.folds[a * self.stock.concepts() + b]
    }

    fn objects(&self, concept: usize) -> &[usize] {
        let concept = &self.stock.concepts[concept];
        if self.part.held_out_designer { &concept.held_out } else { &concept.seen }
    }

    /// Whether a kind may show two concepts: drawn, of the fold, and neither's name inside the other's (熊 and 熊猫).
    fn suits(&self, kind: SceneKind, a: usize, b: usize) -> bool {
        let drawn = !self.objects(a).is_empty() && !self.objects(b).is_empty();
        let alone = kind == SceneKind::Place;
        let coloured = !kind.is_coloured() || self.stock.tints(a, b).count() >= TINTS_MIN;
        let right = drawn && alone == (a == b) && self.fold(a, b) == self.part.fold && coloured && (alone || self.differ(a, b));
        right && (kind != SceneKind::Row || (0..self.stock.concepts()).any(|c| self.joins(c, a, b)))
    }

    fn differ(&self, a: usize, b: usize) -> bool {
        let (one, other) = (&self.stock.concepts[a].name, &self.stock.concepts[b].name);
        a != b && !one.contains(other.as_str()) && !other.contains(one.as_str())
    }

    /// Whether a third concept may stand beside two.
    fn joins(&self, c: usize, a: usize, b: usize) -> bool {
        let with = |other: usize| self.differ(c, other) && self.part.fold.allows(self.fold(c, other));
        !self.objects(c).is_empty() && with(a) && with(b)
    }

    /// Pairs of concepts that a kind may show.
    pub(super) fn pairs(&self, kind: SceneKind) -> &[(usize, usize)] {
        &self.pairs[kind as usize]
    }

    /// Draws a scene and its twin, of a kind that [`Artist::new`] was given.
    pub fn draw(&self, kind: SceneKind, rng: &mut impl Rng) -> Twins {
        let pairs = self.pairs(kind);
        let pair = pairs[rng.random_range(0..pairs.len())];
        self.draw_of(kind, pair, rng)
    }

    /// As [`Artist::draw`], of two given concepts.
    pub(super) fn draw_of(&self, kind: SceneKind, (a, b): (usize, usize), rng: &mut impl Rng) -> Twins {
        let (a, b) = if rng.random_bool(0.5) { (a, b) } else { (b, a) };
        let third = if kind == SceneKind::Row { self.third(a, b, rng) } else { a };
        let concepts = [a, b, third];
        let cutouts = concepts.map(|concept| {
            let objects = self.objects(concept);
            objects[rng.random_range(0..objects.len())]
        });
        let plan = Plan {
            kind,
            concepts,
            cutouts,
            tints: if kind.is_coloured() { self.two_tints(a, b, rng) } else { [0, 0] },
            layout: Layout::draw(kind, rng),
            ground: Ground::draw(rng),
            phrase: Phrase::draw(kind, self.part.templates, rng),
        };
        let mut concepts = concepts.to_vec();
        concepts.sort_unstable();
        concepts.dedup();
        Twins { kind, concepts, scenes: [plan.scene(&self.stock, false), plan.scene(&self.stock, true)] }
    }

    /// A concept that joins two: the next one from a random place on.
    fn third(&self, a: usize, b: usize, rng: &mut impl Rng) -> usize {
        let count = self.stock.concepts();
        let from = rng.random_range(0..count);
        // Pairs that nothing joins are not among those of rows.
        (0..count).map(|step| (from + step) % count).find(|&c| self.joins(c, a, b)).unwrap_or(from)
    }

    fn two_tints(&self, a: usize, b: usize, rng: &mut impl Rng) -> [usize; 2] {
        let free: Vec<usize> = self.stock.tints(a, b).collect();
        let first = rng.random_range(0..free.len());
        let second = (first + rng.random_range(1..free.len())) % free.len();
        [free[first], free[second]]
    }

    /// Pixels of a scene: `side * side * 3` bytes, row by row.
    pub fn paint(&self, scene: &Scene) -> Vec<u8> {
        paint(&self.stock, scene.ground, &scene.things)
    }
}

/// What twins share.
struct Plan {
    kind: SceneKind,
    concepts: [usize; 3],
    cutouts: [usize; 3],
    tints: [usize; 2],
    layout: Layout,
    ground: Ground,
    phrase: Phrase,
}

impl Plan {
    /// The scene, or its twin: the same words with a and b exchanged, or the other direction where only a is named; and of the
    /// things, what the kind is about exchanged, all else in its place.
    fn scene(&self, stock: &Stock, twin: bool) -> Scene {
        let Layout { mut spots, mut sizes, axis, mut side } = self.layout;
        let mut tints = self.tints;
        let mut cutouts = self.cutouts.to_vec();
        let mut names = self.concepts.map(|concept| stock.concepts[concept].name.as_str());
        let one_named = !self.kind.names_all();
        match self.kind {
            SceneKind::Place => cutouts.truncate(1),
            SceneKind::Row | SceneKind::Count => {}
            _ => cutouts.truncate(2),
        }
        if twin {
            match self.kind {
                SceneKind::Place | SceneKind::Unnamed | SceneKind::Relation | SceneKind::Row | SceneKind::PlaceSwapped => {
                    spots.swap(0, 1);
                }
                SceneKind::Colour | SceneKind::ColourSwapped => tints.swap(0, 1),
                SceneKind::Size => sizes.swap(0, 1),
                SceneKind::Count => {}
            }
            if one_named {
                side = 1 - side;
            } else if self.kind != SceneKind::ColourSwapped && self.kind != SceneKind::Colour {
                names.swap(0, 1);
            }
        }
        if self.kind == SceneKind::Count {
            // The third is another of a; in the twin, of b.
            cutouts[2] = self.cutouts[usize::from(twin)];
        }
        let mut colours = tints.map(|tint| TINTS[tint].name);
        if self.kind == SceneKind::PlaceSwapped && twin {
            // Each keeps its colour: that of the object which is now named first comes first.
            colours.swap(0, 1);
        }
        let roles = Roles { names, colours, axis, side, small: 0 };
        let things = cutouts.iter().enumerate().map(|(index, &cutout)| Thing {
            cutout,
            tint: self.kind.is_coloured().then(|| tints[index.min(1)]),
            spot: spots[index],
            size: sizes[index],
        });
        Scene { caption: caption(self.kind, self.phrase, roles), ground: self.ground, things: things.collect() }
    }
}
