//! Changes and predicates as the client's messages, and its answers as ours.

use qdrant_client::qdrant::points_update_operation::{DeleteVectors, Operation, PointStructList};
use qdrant_client::qdrant::{
    self, Filter, NamedVectors, PointId, PointStruct, PointsUpdateOperation, Range, Value, Vector, VectorInput, VectorsSelector,
    point_id,
};
use serde_json::Map;
use std::collections::HashMap;
use uuid::Uuid;

use crate::guard::{self, Predicate};
use crate::{Change, IndexError, Space, Stored, VECTORS, payload};

/// A point ready to send, with the data that its guard needs.
pub(super) struct Prepared<'a> {
    pub(super) change: &'a Change,
    pub(super) point: PointStruct,
    /// About how many bytes it takes in a request, its guard included.
    pub(super) bytes: usize,
}

/// Bytes of a point's id, of its condition in the guard and of its place in the leftovers' condition.
const GUARD_BYTES: usize = 256;

pub(super) fn prepare<'a>(change: &'a Change, space: &Space) -> Prepared<'a> {
    let fields = payload::build(change);
    let mut bytes = GUARD_BYTES + payload::bytes(&fields);
    let mut vectors = NamedVectors::default();
    for name in VECTORS {
        if let Some(values) = change.vector(name) {
            bytes += size_of_val(values);
            vectors = vectors.add_vector(name, to_vector(values, space));
        }
    }
    let fields: HashMap<String, Value> = fields.into_iter().map(|(key, value)| (key, Value::from(value))).collect();
    Prepared { change, point: PointStruct::new(to_point_id(change.point_id), vectors, fields), bytes }
}

/// One vector, or the tokens' in a space of late interaction.
fn to_vector(values: &[f32], space: &Space) -> Vector {
    if space.similarity.is_cosine() { Vector::new_dense(values.to_vec()) } else { Vector::new_multi(to_rows(values, space)) }
}

/// As [`to_vector`], to ask with.
pub(super) fn to_input(values: &[f32], space: &Space) -> VectorInput {
    if space.similarity.is_cosine() {
        VectorInput::new_dense(values.to_vec())
    } else {
        VectorInput::new_multi(to_rows(values, space))
    }
}

fn to_rows(values: &[f32], space: &Space) -> Vec<Vec<f32>> {
    values.chunks_exact(space.embedding_dim as usize).map(<[f32]>::to_vec).collect()
}

/// The operations of one request: the guarded upsert, then the removal of vectors that the stored versions don't have.
pub(super) fn operations(batch: Vec<Prepared<'_>>) -> Vec<PointsUpdateOperation> {
    let changes: Vec<&Change> = batch.iter().map(|prepared| prepared.change).collect();
    let guard = guard::guard(changes.iter().map(|change| (change.point_id, change.order())));
    let upsert = Operation::Upsert(PointStructList {
        points: batch.into_iter().map(|prepared| prepared.point).collect(),
        update_filter: Some(to_filter(&guard)),
        ..PointStructList::default()
    });
    let removals = guard::leftovers(&changes).into_iter().map(|(name, predicate)| {
        Operation::DeleteVectors(DeleteVectors {
            points_selector: Some(to_filter(&predicate).into()),
            vectors: Some(VectorsSelector { names: vec![name.to_owned()] }),
            shard_key_selector: None,
        })
    });
    std::iter::once(upsert).chain(removals).map(|operation| PointsUpdateOperation { operation: Some(operation) }).collect()
}

/// A predicate as a filter of its own.
pub(super) fn to_filter(predicate: &Predicate) -> Filter {
    match predicate {
        Predicate::All(holds, fails) => Filter {
            must: holds.iter().map(to_condition).collect(),
            must_not: fails.iter().map(to_condition).collect(),
            ..Filter::default()
        },
        Predicate::Any(any) => Filter::should(any.iter().map(to_condition)),
        single => Filter::must([to_condition(single)]),
    }
}

fn to_condition(predicate: &Predicate) -> qdrant::Condition {
    match predicate {
        Predicate::HasId(ids) => qdrant::Condition::has_id(ids.iter().copied().map(to_point_id)),
        Predicate::Less(field, value) => qdrant::Condition::range(*field, Range { lt: Some(*value as f64), ..Range::default() }),
        Predicate::EqualsInteger(field, value) => qdrant::Condition::matches(*field, *value),
        Predicate::EqualsKeyword(field, word) => qdrant::Condition::matches(*field, word.to_string()),
        Predicate::Between(field, from, to) => {
            let range = Range { gte: from.map(|from| from as f64), lte: to.map(|to| to as f64), ..Range::default() };
            qdrant::Condition::range(*field, range)
        }
        Predicate::IsEmpty(field) => qdrant::Condition::is_empty(*field),
        Predicate::IsTrue(field) => qdrant::Condition::matches(*field, true),
        Predicate::HasVector(name) => qdrant::Condition::has_vector(*name),
        Predicate::All(..) | Predicate::Any(_) => to_filter(predicate).into(),
    }
}

pub(super) fn to_point_id(id: Uuid) -> PointId {
    PointId::from(id.to_string())
}

/// An id of an answer. Points whose id is not a UUID are not ours.
pub(super) fn from_point_id(id: Option<PointId>) -> Result<Uuid, IndexError> {
    let options = id.and_then(|id| id.point_id_options);
    let uuid = match &options {
        Some(point_id::PointIdOptions::Uuid(text)) => Uuid::parse_str(text).ok(),
        _ => None,
    };
    uuid.ok_or_else(|| {
        IndexError::Mismatch(format!("the collection holds a point that Astromech did not write: {options:?}").into())
    })
}

/// A point of an answer.
pub(super) fn to_stored(id: Option<PointId>, score: f32, payload: HashMap<String, Value>) -> Result<Stored, IndexError> {
    let point_id = from_point_id(id)?;
    let payload: Map<String, serde_json::Value> = payload.into_iter().map(|(key, value)| (key, value.into())).collect();
    Ok(Stored { point_id, score, payload })
}
