//! The nearest points, exactly: a pass over the short vectors in memory finds all that can be among them, and their exact vectors on disk
//! say which are. Nothing that belongs to the answer is ever left out: a short score differs from its exact one by no more than a bound
//! that is known (see `vector::bound`), and everything within it of the worst short score among the best stays.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use astromech_schemas::Kind;
use rusqlite::{Connection, OptionalExtension as _};
use simsimd::bf16;
use uuid::Uuid;

use super::error::{Failure, closed};
use super::memory::{GenerationId, Key, Memory, PointId, Probe, Shelf, code};
use super::read::{by_id, by_point};
use super::rows::row_of;
use super::store::Store;
use super::vector::{Short, bound, exact, from_blob, near};
use crate::video::with_frame;
use crate::{Query, Stored, VECTOR_IMAGE, VECTORS};

/// Candidates beyond which those that have fallen behind are dropped.
const CANDIDATES_MIN: usize = 1024;

/// One question, ready to be compared.
struct Asked<'a> {
    query: &'a Query,
    short: Short,
    kind: usize,
    name: usize,
    limit: usize,
    /// Whether a video is one hit, of its nearest frame.
    by_video: bool,
}

/// A point that may belong to the answer.
struct Candidate {
    point: PointId,
    video: Option<Uuid>,
    score: f32,
}

/// The best hits of a generation, of one commit: the vectors in memory, those on disk and the payloads.
pub(super) fn search(
    store: &Store,
    connection: &Connection,
    generation: GenerationId,
    query: &Query,
    dim: usize,
) -> Result<Vec<Stored>, Failure> {
    let asked = Asked {
        query,
        short: Short::of(&query.vector, dim),
        kind: code(query.kind),
        name: VECTORS.iter().position(|name| *name == query.vector_name).unwrap_or_default(),
        limit: query.limit as usize,
        by_video: query.kind == Kind::Video && query.vector_name == VECTOR_IMAGE,
    };
    let memory = store.memory_of_snapshot(connection)?;
    let candidates = candidates(&memory, generation, &asked)?;
    drop(memory);
    let hits = answer(connection, generation, &asked, candidates, dim);
    connection.execute_batch("COMMIT")?;
    hits
}

fn candidates(memory: &Memory, generation: GenerationId, asked: &Asked<'_>) -> Result<Vec<Candidate>, Failure> {
    // Closed while this search waited for its turn.
    let Some(arena) = memory.arena(generation) else { return Err(closed().into()) };
    let (shelf, probe) = (arena.shelf(asked.kind, asked.name), Probe::of(&asked.query.filter));
    // Both the worst of the best and what is compared with it may be off.
    let slack = 2.0 * bound(asked.short.error, shelf.error(), shelf.dim());
    let query = &asked.short.numbers;
    Ok(if asked.by_video {
        gather(shelf, &probe, query, asked.limit, slack, |_, video| video)
    } else {
        gather(shelf, &probe, query, asked.limit, slack, |point, _| Some(point))
    })
}

/// All points whose score may be among the best of `limit` keys.
fn gather<K: Copy + Ord + Hash>(
    shelf: &Shelf,
    probe: &Probe,
    query: &[bf16],
    limit: usize,
    slack: f32,
    key: impl Fn(PointId, Option<Uuid>) -> Option<K>,
) -> Vec<Candidate> {
    let (mut best, mut found) = (Best::new(limit), Vec::new());
    let mut prune_at = CANDIDATES_MIN;
    for (point, numbers, label) in shelf.each(probe) {
        let score = near(query, numbers, shelf.dim());
        if score < best.floor - slack {
            continue;
        }
        let Some(key) = key(point, label.video) else { continue };
        found.push(Candidate { point, video: label.video, score });
        if score > best.floor {
            best.offer(key, score);
        }
        if found.len() >= prune_at {
            found.retain(|candidate| candidate.score >= best.floor - slack);
            prune_at = CANDIDATES_MIN.max(2 * found.len());
        }
    }
    found.retain(|candidate| candidate.score >= best.floor - slack);
    found
}

/// The best score of each of the best keys.
struct Best<K> {
    limit: usize,
    scores: HashMap<K, u32>,
    ranked: BTreeSet<(u32, K)>,
    /// Worst of them; everything counts until there are `limit`.
    floor: f32,
}

impl<K: Copy + Ord + Hash> Best<K> {
    fn new(limit: usize) -> Self {
        let floor = if limit == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
        Self { limit, scores: HashMap::new(), ranked: BTreeSet::new(), floor }
    }

    fn offer(&mut self, key: K, score: f32) {
        let rank = ordered(score);
        match self.scores.get(&key) {
            Some(&held) if held >= rank => return,
            Some(&held) => drop(self.ranked.remove(&(held, key))),
            None => {}
        }
        self.scores.insert(key, rank);
        self.ranked.insert((rank, key));
        if self.ranked.len() > self.limit
            && let Some((_, worst)) = self.ranked.pop_first()
        {
            self.scores.remove(&worst);
        }
        if self.ranked.len() == self.limit
            && let Some((_, worst)) = self.ranked.first()
        {
            self.floor = self.scores.get(worst).map_or(self.floor, |rank| unordered(*rank));
        }
    }
}

/// Numbers that compare as the scores do (IEEE 754's total order).
fn ordered(score: f32) -> u32 {
    let bits = score.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

fn unordered(rank: u32) -> f32 {
    f32::from_bits(if rank >> 31 == 1 { rank & !(1 << 31) } else { !rank })
}

/// Scores the candidates exactly and reads what is shown of the best.
fn answer(
    connection: &Connection,
    generation: GenerationId,
    asked: &Asked<'_>,
    candidates: Vec<Candidate>,
    dim: usize,
) -> Result<Vec<Stored>, Failure> {
    let mut select = connection.prepare_cached("SELECT data FROM vectors WHERE vector = ?")?;
    let mut scored = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let row = row_of(Key { kind: asked.kind, name: asked.name, point: candidate.point });
        let score = select.query_row([row], |row| {
            let data = row.get_ref(0)?.as_blob()?;
            Ok(exact(&asked.query.vector, &from_blob(data), dim))
        });
        if let Some(score) = score.optional()? {
            scored.push(Candidate { score, ..candidate });
        }
    }
    // Of equal scores the older point comes first, so that an answer does not change by itself.
    scored.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.point.cmp(&b.point)));
    let mut hits = Vec::with_capacity(asked.limit.min(scored.len()));
    let mut seen = HashSet::new();
    for Candidate { point, video, score } in scored {
        if hits.len() == asked.limit {
            break;
        }
        let hit = match video.filter(|_| asked.by_video) {
            Some(video) if !seen.insert(video) => None,
            Some(video) => whole(connection, generation, video, point, score)?,
            None => by_point(connection, point, score)?,
        };
        hits.extend(hit);
    }
    hits.sort_by_key(|hit| Reverse(ordered(hit.score)));
    Ok(hits)
}

/// A video's own point with the fields of its nearest frame. One commit writes both, so they are of one version.
fn whole(
    connection: &Connection,
    generation: GenerationId,
    video: Uuid,
    frame: PointId,
    score: f32,
) -> Result<Option<Stored>, Failure> {
    let head = by_id(connection, generation, Kind::Video, video)?;
    let frame = by_point(connection, frame, score)?;
    Ok(head.zip(frame).and_then(|(head, frame)| with_frame(head, frame)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_keep_their_order_as_numbers_and_come_back() {
        let scores = [f32::NEG_INFINITY, -1.0, -0.25, 0.0, 1e-30, 0.5, 1.0];
        assert!(scores.map(ordered).is_sorted());
        for score in scores {
            assert_eq!(unordered(ordered(score)), score);
        }
    }

    #[test]
    fn the_best_keys_are_kept_each_by_its_best_score() {
        let mut best = Best::new(2);
        for (key, score) in [("a", 0.1), ("a", 0.5), ("b", 0.2), ("c", 0.3), ("a", 0.4), ("d", 0.1)] {
            best.offer(key, score);
        }
        assert_eq!(best.ranked.iter().map(|(_, key)| *key).collect::<Vec<_>>(), ["c", "a"]);
        assert_eq!(best.floor, 0.3);
        assert_eq!(Best::<u8>::new(0).floor, f32::INFINITY, "nothing is wanted");
    }
}
