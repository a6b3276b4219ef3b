//! The vectors in memory: of each open generation, kind and name a shelf, kept in step with what is committed and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;

use astromech_schemas::Kind;
use serde_json::{Map, Value};
use simsimd::bf16;
use uuid::Uuid;

use super::vector::Short;
use crate::SearchFilter;

/// Row of the book that a point belongs to.
pub(super) type GenerationId = i64;
/// Row of the table of points.
pub(super) type PointId = i64;

/// Vectors of one allocation.
const CHUNK_VECTORS: usize = 4096;
/// What a vector takes beside its numbers, about: its slot, its label and its place in the map.
const SLOT_BYTES: usize = size_of::<Slot>() + size_of::<Label>() + 2 * size_of::<(PointId, u32)>();

/// Place of a kind here and in the database.
pub(super) fn code(kind: Kind) -> usize {
    match kind {
        Kind::Article => 0,
        Kind::Image => 1,
        Kind::Ad => 2,
        Kind::Video => 3,
    }
}

/// What filters and videos need of a point.
#[derive(Debug, Clone, Default)]
pub(super) struct Label {
    language: u64,
    time_ms: Option<i64>,
    tags: Box<[u64]>,
    pub(super) video: Option<Uuid>,
}

/// Words are compared by a hash of 64 bits whose key is drawn at each start: two words that meet are nothing that anybody can arrange.
static WORDS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

fn word(text: &str) -> u64 {
    WORDS.hash_one(text)
}

/// The columns that filters look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) language: Option<String>,
    pub(super) time_ms: Option<i64>,
    pub(super) tags: Vec<String>,
}

impl Fields {
    pub(super) fn of(payload: &Map<String, Value>) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let tags = match payload.get("tags") {
            Some(Value::Array(tags)) => tags.iter().filter_map(text).collect(),
            Some(Value::String(tag)) => vec![tag.clone()],
            _ => Vec::new(),
        };
        let language = payload.get("language").and_then(text);
        Self { language, time_ms: payload.get("time_ms").and_then(Value::as_i64), tags }
    }

    pub(super) fn label(&self, video: Option<Uuid>) -> Label {
        let tags = self.tags.iter().map(|tag| word(tag)).collect();
        Label { language: self.language.as_deref().map(word).unwrap_or_default(), time_ms: self.time_ms, tags, video }
    }
}

/// A filter, ready to be compared with labels.
pub(super) struct Probe {
    tags: Vec<u64>,
    languages: Vec<u64>,
    time_ms_from: Option<i64>,
    time_ms_to: Option<i64>,
    videos: Vec<Uuid>,
    is_empty: bool,
}

impl Probe {
    pub(super) fn of(filter: &SearchFilter) -> Self {
        Self {
            tags: filter.tags.iter().map(|tag| word(tag)).collect(),
            languages: filter.languages.iter().map(|language| word(language)).collect(),
            time_ms_from: filter.time_ms_from,
            time_ms_to: filter.time_ms_to,
            videos: filter.videos.clone(),
            is_empty: *filter == SearchFilter::default(),
        }
    }

    fn holds(&self, label: &Label) -> bool {
        let in_time =
            |time_ms: i64| self.time_ms_from.is_none_or(|from| time_ms >= from) && self.time_ms_to.is_none_or(|to| time_ms <= to);
        let timeless = self.time_ms_from.is_none() && self.time_ms_to.is_none();
        self.tags.iter().all(|tag| label.tags.contains(tag))
            && (self.languages.is_empty() || self.languages.contains(&label.language))
            && (timeless || label.time_ms.is_some_and(in_time))
            && (self.videos.is_empty() || label.video.is_some_and(|video| self.videos.contains(&video)))
    }
}

/// Where a point's vectors of one name lie; `vectors` is 0 where nobody's do.
#[derive(Debug, Clone, Copy)]
struct Slot {
    chunk: u32,
    first: u32,
    room: u32,
    vectors: u32,
    point: PointId,
}

/// The vectors of one name of one kind.
pub(super) struct Shelf {
    dim: usize,
    chunks: Vec<Box<[bf16]>>,
    /// Vectors that the last chunk has room for.
    left: usize,
    slots: Vec<Slot>,
    labels: Vec<Label>,
    places: HashMap<PointId, u32>,
    /// Slots of nobody, by their room.
    free: BTreeMap<u32, Vec<u32>>,
    error: f32,
}

impl Shelf {
    fn new(dim: usize) -> Self {
        Self {
            dim,
            chunks: Vec::new(),
            left: 0,
            slots: Vec::new(),
            labels: Vec::new(),
            places: HashMap::new(),
            free: BTreeMap::new(),
            error: 0.0,
        }
    }

    /// Largest distance of any vector here to its exact form.
    pub(super) fn error(&self) -> f32 {
        self.error
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    /// Bytes that a point's vectors take; 0 where it has none.
    fn bytes_of(&self, point: PointId) -> usize {
        let held =
            |&place: &u32| bytes(self.slots[place as usize].room as usize, self.dim, self.labels[place as usize].tags.len());
        self.places.get(&point).map_or(0, held)
    }

    fn put(&mut self, point: PointId, short: &Short, label: Label) {
        let vectors = short.numbers.len() / self.dim;
        let place = match self.places.get(&point) {
            // Not one that is far too large: what it has too much would be lost.
            Some(&place) if (vectors..=2 * vectors).contains(&(self.slots[place as usize].room as usize)) => place,
            Some(_) => {
                self.remove(point);
                self.allot(vectors)
            }
            None => self.allot(vectors),
        };
        let slot = &mut self.slots[place as usize];
        slot.vectors = vectors as u32;
        slot.point = point;
        let first = slot.first as usize * self.dim;
        self.chunks[slot.chunk as usize][first..first + short.numbers.len()].copy_from_slice(&short.numbers);
        self.labels[place as usize] = label;
        self.places.insert(point, place);
        self.error = self.error.max(short.error);
    }

    /// A slot with room for so many: one that is free and not more than twice as large, or a new one.
    fn allot(&mut self, vectors: usize) -> u32 {
        let fitting = self.free.range_mut(vectors as u32..=2 * vectors as u32).find(|(_, places)| !places.is_empty());
        if let Some(place) = fitting.and_then(|(_, places)| places.pop()) {
            return place;
        }
        if self.left < vectors {
            let room = CHUNK_VECTORS.max(vectors);
            self.chunks.push(vec![bf16::ZERO; room * self.dim].into_boxed_slice());
            self.left = room;
        }
        let chunk = self.chunks.len() - 1;
        let first = self.chunks[chunk].len() / self.dim - self.left;
        self.left -= vectors;
        self.slots.push(Slot { chunk: chunk as u32, first: first as u32, room: vectors as u32, vectors: 0, point: 0 });
        self.labels.push(Label::default());
        self.slots.len() as u32 - 1
    }

    fn remove(&mut self, point: PointId) {
        let Some(place) = self.places.remove(&point) else { return };
        let slot = &mut self.slots[place as usize];
        slot.vectors = 0;
        self.free.entry(slot.room).or_default().push(place);
        self.labels[place as usize] = Label::default();
    }

    /// Every point that `probe` holds for, with its vectors.
    pub(super) fn each<'a>(&'a self, probe: &'a Probe) -> impl Iterator<Item = (PointId, &'a [bf16], &'a Label)> {
        let held = self.slots.iter().zip(&self.labels).filter(|(slot, _)| slot.vectors > 0);
        held.filter(|(_, label)| probe.is_empty || probe.holds(label)).map(|(slot, label)| {
            let first = slot.first as usize * self.dim;
            let numbers = &self.chunks[slot.chunk as usize][first..first + slot.vectors as usize * self.dim];
            (slot.point, numbers, label)
        })
    }
}

fn bytes(vectors: usize, dim: usize, tags: usize) -> usize {
    vectors * dim * size_of::<bf16>() + tags * size_of::<u64>() + SLOT_BYTES
}

/// The shelves of one generation, and how many live items it has.
pub(super) struct Arena {
    shelves: [[Shelf; 2]; Kind::ALL.len()],
    pub(super) live: [i64; Kind::ALL.len()],
    bytes: usize,
    /// Indexes that are open on it.
    users: usize,
}

impl Arena {
    pub(super) fn new(dim: usize) -> Self {
        let shelves = std::array::from_fn(|_| [Shelf::new(dim), Shelf::new(dim)]);
        Self { shelves, live: [0; Kind::ALL.len()], bytes: 0, users: 0 }
    }

    /// By a kind's [`code`] and a vector's place in [`VECTORS`](crate::VECTORS).
    pub(super) fn shelf(&self, kind: usize, name: usize) -> &Shelf {
        &self.shelves[kind][name]
    }

    /// Adds what the database holds.
    pub(super) fn put(&mut self, key: Key, short: &Short, label: Label) {
        let shelf = &mut self.shelves[key.kind][key.name];
        let before = shelf.bytes_of(key.point);
        shelf.put(key.point, short, label);
        self.bytes = self.bytes + shelf.bytes_of(key.point) - before;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Which vectors of a generation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) kind: usize,
    pub(super) name: usize,
    pub(super) point: PointId,
}

/// One thing that a transaction changed.
pub(super) enum Change {
    Put(GenerationId, Key, Short, Label),
    Remove(GenerationId, Key),
    /// So many live items more.
    Live(GenerationId, usize, i64),
    /// The generation is dropped.
    Clear(GenerationId),
}

/// What a group of transactions changed, to be shown once they are committed.
#[derive(Default)]
pub(super) struct Delta {
    pub(super) changes: Vec<Change>,
    /// By how much memory grows.
    pub(super) bytes: i64,
}

/// Everything in memory, as of one commit.
pub(super) struct Memory {
    /// Of the last commit that is shown.
    pub(super) commits: i64,
    arenas: HashMap<GenerationId, Arena>,
}

impl Memory {
    pub(super) fn new(commits: i64) -> Self {
        Self { commits, arenas: HashMap::new() }
    }

    pub(super) fn arena(&self, generation: GenerationId) -> Option<&Arena> {
        self.arenas.get(&generation)
    }

    /// Bytes of all generations.
    pub(super) fn bytes(&self) -> usize {
        self.arenas.values().map(|arena| arena.bytes).sum()
    }

    /// By how much it would grow by these vectors of a point with so many tags; nothing where the generation is not open here.
    pub(super) fn growth(&self, generation: GenerationId, key: Key, short: &Short, tags: usize) -> i64 {
        let Some(arena) = self.arenas.get(&generation) else { return 0 };
        let shelf = &arena.shelves[key.kind][key.name];
        bytes(short.numbers.len() / shelf.dim, shelf.dim, tags) as i64 - shelf.bytes_of(key.point) as i64
    }

    /// By how much it will grow by `changes`, of which the last of a vector counts.
    pub(super) fn growth_of(&self, changes: &[Change]) -> i64 {
        let mut last = HashMap::new();
        for change in changes {
            let (generation, key, after) = match change {
                Change::Put(generation, key, short, label) => (generation, key, Some((short.numbers.len(), label.tags.len()))),
                Change::Remove(generation, key) => (generation, key, None),
                Change::Live(..) | Change::Clear(_) => continue,
            };
            let Some(arena) = self.arenas.get(generation) else { continue };
            let shelf = &arena.shelves[key.kind][key.name];
            let after = after.map_or(0, |(numbers, tags)| bytes(numbers / shelf.dim, shelf.dim, tags));
            last.insert((generation, key.kind, key.name, key.point), after as i64 - shelf.bytes_of(key.point) as i64);
        }
        last.into_values().sum()
    }

    /// One index more is open on the generation; whether it is in memory already.
    pub(super) fn join(&mut self, generation: GenerationId) -> bool {
        self.arenas.get_mut(&generation).map(|arena| arena.users += 1).is_some()
    }

    pub(super) fn insert(&mut self, generation: GenerationId, mut arena: Arena) {
        arena.users += 1;
        self.arenas.insert(generation, arena);
    }

    /// One index less.
    pub(super) fn leave(&mut self, generation: GenerationId) {
        if let Some(arena) = self.arenas.get_mut(&generation) {
            arena.users -= 1;
            if arena.users == 0 {
                self.arenas.remove(&generation);
            }
        }
    }

    /// Shows what was committed.
    pub(super) fn show(&mut self, delta: Delta, commits: i64) {
        self.commits = commits;
        for change in delta.changes {
            match change {
                Change::Put(generation, key, short, label) => {
                    if let Some(arena) = self.arenas.get_mut(&generation) {
                        arena.put(key, &short, label);
                    }
                }
                Change::Remove(generation, key) => {
                    if let Some(arena) = self.arenas.get_mut(&generation) {
                        let shelf = &mut arena.shelves[key.kind][key.name];
                        arena.bytes -= shelf.bytes_of(key.point);
                        shelf.remove(key.point);
                    }
                }
                Change::Live(generation, kind, more) => {
                    if let Some(arena) = self.arenas.get_mut(&generation) {
                        arena.live[kind] += more;
                    }
                }
                Change::Clear(generation) => {
                    if let Some(arena) = self.arenas.get_mut(&generation) {
                        let (dim, users) = (arena.shelves[0][0].dim, arena.users);
                        *arena = Arena { users, ..Arena::new(dim) };
                    }
                }
            }
        }
    }
}
