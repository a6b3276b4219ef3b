//! Changes as rows: made ready outside the writing thread, written under the version guard inside its transaction.

use std::cmp::Ordering;

use astromech_schemas::Kind;
use astromech_schemas::record::TieBreaker;
use astromech_schemas::results::Outcome;
use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::error::Failure;
use super::memory::{Change as Shown, Fields, GenerationId, Key, Label, PointId, code};
use super::vector::{Short, to_blob};
use super::writer::Writes;
use crate::payload::{FIELD_DELETED_AT, FIELD_VIDEO};
use crate::{Change, IndexError, Order, Space, VECTORS, payload, video};

/// Rows that one transaction of a purge or of a drop removes: others wait no longer than for these.
const REMOVED_MAX: usize = 5000;

/// A vector in both forms.
struct Vector {
    blob: Vec<u8>,
    short: Short,
}

/// A point, ready to write.
pub(super) struct Row {
    kind: usize,
    id: Uuid,
    order: Order,
    deleted_at_ms: Option<i64>,
    fields: Fields,
    video: Option<Uuid>,
    payload: String,
    vectors: [Option<Vector>; 2],
}

impl Row {
    fn of(change: &Change, space: &Space) -> Self {
        let payload = payload::build(change);
        let video = payload.get(FIELD_VIDEO).and_then(|video| Uuid::parse_str(video.as_str()?).ok());
        let vector = |name: &str| {
            let numbers = change.vector(name)?;
            Some(Vector { blob: to_blob(numbers), short: Short::of(numbers, space.embedding_dim as usize) })
        };
        Self {
            kind: code(change.kind),
            id: change.point_id,
            order: change.order(),
            deleted_at_ms: payload.get(FIELD_DELETED_AT).and_then(serde_json::Value::as_i64),
            fields: Fields::of(&payload),
            video,
            vectors: VECTORS.map(vector),
            payload: serde_json::Value::Object(payload).to_string(),
        }
    }

    fn label(&self) -> Label {
        self.fields.label(self.video)
    }

    /// 1 for an item that counts: neither a tombstone nor a frame.
    fn live(&self) -> i64 {
        i64::from(self.deleted_at_ms.is_none() && self.video.is_none())
    }
}

/// One change's rows.
pub(super) struct Write {
    item: Row,
    frames: Vec<Row>,
}

impl Write {
    /// Point of the item.
    pub(super) fn id(&self) -> Uuid {
        self.item.id
    }

    /// Where the change stands among those of its item.
    pub(super) fn order(&self) -> Order {
        self.item.order
    }

    pub(super) fn of(change: &Change, space: &Space) -> Self {
        let mut rows = video::points_of(change).into_iter().map(|change| Row::of(&change, space));
        // The item's own point comes first.
        let item = rows.next().unwrap_or_else(|| Row::of(change, space));
        Self { item, frames: rows.collect() }
    }
}

/// A stored point, as the guard sees it.
struct Found {
    point: PointId,
    order: Order,
    live: i64,
}

fn find(connection: &Connection, generation: GenerationId, kind: usize, id: Uuid) -> Result<Option<Found>, Failure> {
    let sql = "SELECT point, version, deleted_at_ms IS NULL AND video IS NULL, version_offset, version_source FROM points \
               WHERE generation = ? AND kind = ? AND id = ?";
    let found = |row: &rusqlite::Row<'_>| {
        let (version, offset, source): (i64, Option<i64>, Option<i64>) = (row.get(1)?, row.get(3)?, row.get(4)?);
        let tie_breaker = offset.zip(source).map(|(offset, source)| TieBreaker { offset: offset as u64, source: source as u64 });
        Ok(Found { point: row.get(0)?, order: Order { version: version as u64, tie_breaker }, live: row.get(2)? })
    };
    let mut select = connection.prepare_cached(sql)?;
    Ok(select.query_row(params![generation, kind as i64, id.as_bytes()], found).optional()?)
}

/// Writes a change unless what is stored is as new, and says what became of it. A video is written whole: its frames are those of its own point's version
/// at every commit, so neither an overlap of writers nor a kill leaves any of another.
pub(super) fn apply(
    connection: &Connection,
    generation: GenerationId,
    write: &Write,
    writes: &mut Writes<'_>,
) -> Result<Outcome, Failure> {
    let found = find(connection, generation, write.item.kind, write.item.id)?;
    match found.as_ref().map(|found| found.order.cmp(&write.item.order)) {
        Some(Ordering::Greater) => return Ok(Outcome::Superseded),
        Some(Ordering::Equal) => return Ok(Outcome::Applied),
        Some(Ordering::Less) | None => {}
    }
    writes.touched = true;
    if write.item.kind == code(Kind::Video) {
        let mut frames = connection.prepare_cached("SELECT point FROM points WHERE generation = ? AND video = ?")?;
        let points = frames.query_map(params![generation, write.item.id.as_bytes()], |row| row.get(0))?;
        for point in points.collect::<Result<Vec<PointId>, _>>()? {
            remove(connection, generation, write.item.kind, point, writes)?;
        }
    }
    put(connection, generation, &write.item, found.as_ref(), writes)?;
    for frame in &write.frames {
        put(connection, generation, frame, None, writes)?;
    }
    Ok(Outcome::Applied)
}

/// Writes a point in the place of `found`, and its vectors.
fn put(
    connection: &Connection,
    generation: GenerationId,
    row: &Row,
    found: Option<&Found>,
    writes: &mut Writes<'_>,
) -> Result<(), Failure> {
    let tags = serde_json::to_string(&row.fields.tags).unwrap_or_default();
    let video = row.video.as_ref().map(Uuid::as_bytes);
    // Checked by the guard: no version is above i64::MAX. What breaks ties is below 2^53.
    let version = row.order.version as i64;
    let (offset, source) = row.order.tie_breaker.map(|tie| (tie.offset as i64, tie.source as i64)).unzip();
    let Fields { language, time_ms, .. } = &row.fields;
    let point = if let Some(found) = found {
        let sql = "UPDATE points SET version = ?, deleted_at_ms = ?, video = ?, language = ?, time_ms = ?, tags = ?, payload = ?, \
                   version_offset = ?, version_source = ? WHERE point = ?";
        let values =
            params![version, row.deleted_at_ms, video, language, time_ms, tags, row.payload, offset, source, found.point];
        connection.prepare_cached(sql)?.execute(values)?;
        found.point
    } else {
        let sql = "INSERT INTO points (generation, kind, id, version, deleted_at_ms, video, language, time_ms, tags, payload, \
                   version_offset, version_source) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let (kind, id) = (row.kind as i64, row.id.as_bytes());
        let values = params![
            generation,
            kind,
            id,
            version,
            row.deleted_at_ms,
            video,
            language,
            time_ms,
            tags,
            row.payload,
            offset,
            source
        ];
        connection.prepare_cached(sql)?.insert(values)?
    };
    let more = row.live() - found.map_or(0, |found| found.live);
    if more != 0 {
        writes.delta.changes.push(Shown::Live(generation, row.kind, more));
    }
    for (name, vector) in row.vectors.iter().enumerate() {
        let key = Key { kind: row.kind, name, point };
        match vector {
            Some(vector) => {
                let growth = growth(writes, generation, key, row, &vector.short);
                let sql = "INSERT INTO vectors VALUES (?, ?) ON CONFLICT DO UPDATE SET data = excluded.data";
                connection.prepare_cached(sql)?.execute(params![row_of(key), vector.blob])?;
                writes.delta.changes.push(Shown::Put(generation, key, vector.short.clone(), row.label()));
                make_room(connection, writes, generation, growth)?;
            }
            None if found.is_some() => remove_vector(connection, generation, key, writes)?,
            None => {}
        }
    }
    Ok(())
}

/// Row of a vector.
pub(super) fn row_of(key: Key) -> i64 {
    2 * key.point + key.name as i64
}

/// By how much memory grows by one vector of `row`.
fn growth(writes: &Writes<'_>, generation: GenerationId, key: Key, row: &Row, short: &Short) -> i64 {
    writes.store.memory().growth(generation, key, short, row.fields.tags.len())
}

/// Counts what memory grows by, and refuses what goes over the limit. What takes no more than what it replaces is never refused, and a
/// generation that is not live stops a sixteenth earlier than the live one: filling it must not stop what serves.
fn make_room(connection: &Connection, writes: &mut Writes<'_>, generation: GenerationId, growth: i64) -> Result<(), Failure> {
    writes.delta.bytes += growth;
    let (store, most) = (writes.store, writes.store.vector_bytes_max as i64);
    let (kept, spare) = (store.memory().bytes() as i64, most / 16);
    if growth <= 0 || kept + writes.delta.bytes <= most - spare {
        return Ok(());
    }
    // Near the limit it is worth counting what this transaction also removes.
    writes.delta.bytes = store.memory().growth_of(&writes.delta.changes);
    let sql = "SELECT live IS NOT NULL FROM generations WHERE generation = ?";
    let live: bool = connection.prepare_cached(sql)?.query_row([generation], |row| row.get(0))?;
    let most = if live { most } else { most - spare };
    if kept + writes.delta.bytes <= most { Ok(()) } else { Err(over(store.vector_bytes_max).into()) }
}

/// The vectors don't fit into memory.
pub(super) fn over(most: usize) -> IndexError {
    IndexError::Mismatch(
        format!(
            "the vectors take more than index.embedded.vector_bytes_max = {most} bytes of memory: raise it where the machine has more, or use a \
             Qdrant server (index.engine = \"qdrant\")"
        )
        .into(),
    )
}

fn remove_vector(connection: &Connection, generation: GenerationId, key: Key, writes: &mut Writes<'_>) -> Result<(), Failure> {
    let removed = connection.prepare_cached("DELETE FROM vectors WHERE vector = ?")?.execute([row_of(key)])?;
    if removed > 0 {
        writes.delta.changes.push(Shown::Remove(generation, key));
    }
    Ok(())
}

fn remove(
    connection: &Connection,
    generation: GenerationId,
    kind: usize,
    point: PointId,
    writes: &mut Writes<'_>,
) -> Result<(), Failure> {
    for name in 0..VECTORS.len() {
        remove_vector(connection, generation, Key { kind, name, point }, writes)?;
    }
    connection.prepare_cached("DELETE FROM points WHERE point = ?")?.execute([point])?;
    Ok(())
}

/// Removes tombstones that were written before `before_ms`, a part of them; returns how many. They have neither vectors nor frames.
pub(super) fn purge(
    connection: &Connection,
    generation: GenerationId,
    before_ms: u64,
    writes: &mut Writes<'_>,
) -> Result<usize, Failure> {
    let sql = "DELETE FROM points WHERE point IN (SELECT point FROM points WHERE generation = ? AND deleted_at_ms IS NOT NULL \
               AND deleted_at_ms < ? LIMIT ?)";
    let before_ms = i64::try_from(before_ms).unwrap_or(i64::MAX);
    let removed = connection.prepare_cached(sql)?.execute(params![generation, before_ms, REMOVED_MAX as i64])?;
    writes.touched |= removed > 0;
    Ok(removed)
}

/// Removes a part of a generation's points; returns whether any was left.
pub(super) fn drop_some(connection: &Connection, generation: GenerationId, writes: &mut Writes<'_>) -> Result<bool, Failure> {
    let mut select = connection.prepare_cached("SELECT point FROM points WHERE generation = ? LIMIT ?")?;
    let points =
        select.query_map(params![generation, REMOVED_MAX as i64], |row| row.get(0))?.collect::<Result<Vec<PointId>, _>>()?;
    for point in &points {
        connection.prepare_cached("DELETE FROM vectors WHERE vector BETWEEN ?1 AND ?1 + 1")?.execute([2 * point])?;
        connection.prepare_cached("DELETE FROM points WHERE point = ?")?.execute([point])?;
    }
    if !points.is_empty() {
        writes.touched = true;
        writes.delta.changes.push(Shown::Clear(generation));
    }
    Ok(!points.is_empty())
}
