//! A generation's vectors, from the database into memory.

use astromech_schemas::Kind;
use rusqlite::Connection;
use uuid::Uuid;

use super::error::Failure;
use super::memory::{Arena, Fields, GenerationId, Key, PointId};
use super::rows::over;
use super::vector::{Short, from_blob};
use crate::{IndexError, VECTORS};

/// Reads them all in one snapshot, unless they take more than `room` of the limit of `most` bytes.
pub(super) fn arena(connection: &Connection, generation: GenerationId, room: usize, most: usize) -> Result<Arena, Failure> {
    let snapshot = connection.unchecked_transaction()?;
    let sql = "SELECT embedding_dim FROM generations WHERE generation = ?";
    let dim: i64 = snapshot.query_row(sql, [generation], |row| row.get(0))?;
    let dim = dim as usize;
    let mut arena = Arena::new(dim);
    let mut counts = snapshot.prepare(
        "SELECT kind, count(*) FROM points WHERE generation = ? AND deleted_at_ms IS NULL AND video IS NULL GROUP BY kind",
    )?;
    let counted = counts.query_map([generation], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    for kind in counted {
        let (kind, live) = kind?;
        *arena.live.get_mut(kind as usize).ok_or_else(damaged)? = live;
    }
    // In the order of the rows, so that each page is read once.
    let mut select = snapshot.prepare(
        "SELECT p.point, p.kind, v.vector - 2 * p.point, v.data, p.video, p.language, p.time_ms, p.tags \
         FROM vectors v CROSS JOIN points p ON p.point = v.vector / 2 WHERE p.generation = ? ORDER BY v.vector",
    )?;
    let mut rows = select.query([generation])?;
    while let Some(row) = rows.next()? {
        let (point, kind, name): (PointId, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let numbers = from_blob(row.get_ref(3)?.as_blob().unwrap_or_default());
        let known = (0..Kind::ALL.len() as i64).contains(&kind) && (0..VECTORS.len() as i64).contains(&name);
        if !known || numbers.is_empty() || !numbers.len().is_multiple_of(dim.max(1)) {
            return Err(damaged().into());
        }
        let video = row.get_ref(4)?.as_blob().ok().and_then(|id| Uuid::from_slice(id).ok());
        let tags = row.get_ref(7)?.as_str().ok().and_then(|tags| serde_json::from_str(tags).ok()).unwrap_or_default();
        let fields = Fields { language: row.get(5)?, time_ms: row.get(6)?, tags };
        let key = Key { kind: kind as usize, name: name as usize, point };
        arena.put(key, &Short::of(&numbers, dim), fields.label(video));
        if arena.bytes() > room {
            return Err(over(most).into());
        }
    }
    drop(rows);
    Ok(arena)
}

fn damaged() -> IndexError {
    let problem = "a stored vector is damaged: restore the index's file from a backup, or move it away and index anew";
    IndexError::Mismatch(problem.to_owned().into())
}
