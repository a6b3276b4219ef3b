//! Points as they are shown.

use astromech_schemas::Kind;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use super::error::Failure;
use super::memory::{GenerationId, PointId, code};
use crate::{IndexError, Page, Scope, Stored};

/// The id, and the payload as it is written.
type Raw = (Uuid, String);

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    let id = row.get_ref(0)?.as_blob()?;
    Ok((Uuid::from_slice(id).unwrap_or_default(), row.get(1)?))
}

fn shown((point_id, payload): Raw, score: f32) -> Result<Stored, Failure> {
    let payload = serde_json::from_str(&payload).map_err(|error| {
        let problem = format!("the payload of point {point_id} is not readable: restore the file from a backup, or index anew");
        IndexError::mismatch(problem, error)
    })?;
    Ok(Stored { point_id, score, payload })
}

/// A point by its row.
pub(super) fn by_point(connection: &Connection, point: PointId, score: f32) -> Result<Option<Stored>, Failure> {
    let mut select = connection.prepare_cached("SELECT id, payload FROM points WHERE point = ?")?;
    select.query_row([point], raw).optional()?.map(|found| shown(found, score)).transpose()
}

/// A point by its id.
pub(super) fn by_id(connection: &Connection, generation: GenerationId, kind: Kind, id: Uuid) -> Result<Option<Stored>, Failure> {
    let sql = "SELECT id, payload FROM points WHERE generation = ? AND kind = ? AND id = ?";
    let mut select = connection.prepare_cached(sql)?;
    let values = params![generation, code(kind) as i64, id.as_bytes()];
    select.query_row(values, raw).optional()?.map(|found| shown(found, 0.0)).transpose()
}

/// Points by id, of one commit, in the order asked; unknown ids are left out.
pub(super) fn retrieve(
    connection: &Connection,
    generation: GenerationId,
    kind: Kind,
    ids: &[Uuid],
) -> Result<Vec<Stored>, Failure> {
    let snapshot = connection.unchecked_transaction()?;
    let found = ids.iter().map(|id| by_id(&snapshot, generation, kind, *id));
    found.filter_map(Result::transpose).collect()
}

/// A page of points in the order of their ids.
pub(super) fn scroll(
    connection: &Connection,
    generation: GenerationId,
    kind: Kind,
    scope: Scope,
    from: Option<Uuid>,
    limit: usize,
) -> Result<Page, Failure> {
    let sql = match (scope, kind) {
        (Scope::All, _) => "SELECT id, payload FROM points WHERE generation = ? AND kind = ? AND id >= ? ORDER BY id LIMIT ?",
        // Of a collection that is mostly frames: by the index of videos.
        (Scope::Live, Kind::Video) => {
            "SELECT id, payload FROM points INDEXED BY videos WHERE generation = ? AND kind = ? AND kind = 3 AND deleted_at_ms IS NULL AND video IS NULL \
             AND id >= ? ORDER BY id LIMIT ?"
        }
        (Scope::Live, _) => {
            "SELECT id, payload FROM points WHERE generation = ? AND kind = ? AND deleted_at_ms IS NULL AND id >= ? ORDER BY id LIMIT ?"
        }
    };
    let mut select = connection.prepare_cached(sql)?;
    // One more says where the next page begins.
    let from = from.unwrap_or_default();
    let values = params![generation, code(kind) as i64, from.as_bytes(), limit as i64 + 1];
    let mut found = select.query_map(values, raw)?.collect::<Result<Vec<_>, _>>()?;
    let next = (found.len() > limit).then(|| found.pop()).flatten().map(|(id, _)| id);
    let points = found.into_iter().map(|raw| shown(raw, 0.0)).collect::<Result<_, _>>()?;
    Ok(Page { points, next })
}
