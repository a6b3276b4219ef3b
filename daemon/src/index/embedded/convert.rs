//! Changes and conditions as the engine's types, and its records as ours.

use std::collections::{BTreeMap, HashMap};

use astromech_schemas::Kind;
use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::{
    Condition as EdgeCondition, ConditionalInsertOperation, FieldCondition, Filter, HasIdCondition, HasVectorCondition, JsonPath,
    Match, OperationError, Payload, PointId, PointInsertOperations, PointOperations, PointStructPersisted, Range,
    UpdateOperation, ValueVariants, VectorOperations, VectorPersisted, VectorStructPersisted,
};
use uuid::Uuid;

use crate::index::guard::{self, Condition, VECTORS};
use crate::index::{Change, IndexError, Space, Stored, payload};

/// Most points of one operation: the guard is evaluated for each point against each condition.
const OPERATION_POINTS_MAX: usize = 256;

/// One kind's part of an `apply`, ready for the engine.
pub(super) struct Batch {
    pub(super) kind: Kind,
    pub(super) operations: Vec<UpdateOperation>,
    pub(super) points: u64,
}

impl Batch {
    /// The changes by kind; at most one change of each point.
    pub(super) fn of(changes: Vec<&Change>, space: &Space) -> Vec<Self> {
        let mut by_kind: BTreeMap<Kind, Vec<&Change>> = BTreeMap::new();
        for change in changes {
            by_kind.entry(change.kind).or_default().push(change);
        }
        let batch = |(kind, changes): (Kind, Vec<&Change>)| Self {
            kind,
            operations: changes.chunks(OPERATION_POINTS_MAX).flat_map(|changes| operations(changes, space)).collect(),
            points: changes.len() as u64,
        };
        by_kind.into_iter().map(batch).collect()
    }

    /// Removes the points that `which` holds for.
    pub(super) fn removal(kind: Kind, which: &Condition) -> Self {
        let remove = PointOperations::DeletePointsByFilter(to_filter(which));
        Self { kind, operations: vec![UpdateOperation::PointOperation(remove)], points: 0 }
    }
}

/// The guarded upsert, then the removal of vectors that the stored versions don't have.
fn operations(changes: &[&Change], space: &Space) -> Vec<UpdateOperation> {
    let guard = guard::guard(changes.iter().map(|change| (change.point_id, change.version)));
    let upsert = UpdateOperation::PointOperation(PointOperations::UpsertPointsConditional(ConditionalInsertOperation {
        points_op: PointInsertOperations::PointsList(changes.iter().map(|change| to_point(change, space)).collect()),
        condition: to_filter(&guard),
        update_mode: None,
    }));
    let removals = guard::leftovers(changes).into_iter().map(|(name, condition)| {
        UpdateOperation::VectorOperation(VectorOperations::DeleteVectorsByFilter(to_filter(&condition), vec![name.to_owned()]))
    });
    std::iter::once(upsert).chain(removals).collect()
}

fn to_point(change: &Change, space: &Space) -> PointStructPersisted {
    let to_vector = |values: &[f32]| {
        if space.similarity.is_cosine() {
            return VectorPersisted::Dense(values.to_vec());
        }
        VectorPersisted::MultiDense(values.chunks_exact(space.embedding_dim as usize).map(<[f32]>::to_vec).collect())
    };
    let vectors: HashMap<String, VectorPersisted> =
        VECTORS.into_iter().filter_map(|name| change.vector(name).map(|values| (name.to_owned(), to_vector(values)))).collect();
    PointStructPersisted {
        id: PointId::Uuid(change.point_id),
        vector: VectorStructPersisted::Named(vectors),
        payload: Some(Payload(payload::build(change))),
    }
}

/// A condition as a filter of its own.
pub(super) fn to_filter(condition: &Condition) -> Filter {
    let filter = Filter::new();
    let list = |conditions: &[Condition]| (!conditions.is_empty()).then(|| conditions.iter().map(to_condition).collect());
    match condition {
        Condition::All(holds, fails) => Filter { must: list(holds), must_not: list(fails), ..filter },
        Condition::Any(any) => Filter { should: Some(any.iter().map(to_condition).collect()), ..filter },
        single => Filter::new_must(to_condition(single)),
    }
}

fn to_condition(condition: &Condition) -> EdgeCondition {
    let key = |field: &str| JsonPath { first_key: field.to_owned(), rest: Vec::new() };
    let equals = |field: &str, value| EdgeCondition::Field(FieldCondition::new_match(key(field), Match::new_value(value)));
    match condition {
        Condition::HasId(ids) => EdgeCondition::HasId(ids.iter().map(|id| PointId::Uuid(*id)).collect::<HasIdCondition>()),
        Condition::Less(field, value) => {
            let range = Range { lt: Some(OrderedFloat(*value as f64)), gt: None, gte: None, lte: None };
            EdgeCondition::Field(FieldCondition::new_range(key(field), range))
        }
        Condition::EqualsInteger(field, value) => equals(field, ValueVariants::Integer(*value)),
        Condition::EqualsKeyword(field, word) => equals(field, ValueVariants::String(word.to_string())),
        Condition::Between(field, from, to) => {
            let bound = |time: &Option<i64>| time.map(|time| OrderedFloat(time as f64));
            let range = Range { lt: None, gt: None, gte: bound(from), lte: bound(to) };
            EdgeCondition::Field(FieldCondition::new_range(key(field), range))
        }
        Condition::IsTrue(field) => equals(field, ValueVariants::Bool(true)),
        Condition::HasVector(name) => EdgeCondition::HasVector(HasVectorCondition::from((*name).to_owned())),
        Condition::All(..) | Condition::Any(_) => EdgeCondition::Filter(to_filter(condition)),
    }
}

pub(super) fn to_stored(id: PointId, score: f32, payload: Option<Payload>) -> Result<Stored, IndexError> {
    let point_id: Uuid = match id {
        PointId::Uuid(id) => id,
        PointId::NumId(id) => {
            return Err(IndexError::Mismatch(format!("the index holds point {id}, which Astromech did not write")));
        }
    };
    Ok(Stored { point_id, score, payload: payload.map(|payload| payload.0).unwrap_or_default() })
}

/// Which of the three an error of the engine is.
pub(super) fn to_error(doing: &str, error: &OperationError) -> IndexError {
    let text = format!("{doing}: {error}");
    match error {
        OperationError::WrongVectorDimension { .. }
        | OperationError::VectorNameNotExists { .. }
        | OperationError::TypeError { .. }
        | OperationError::TypeInferenceError { .. }
        | OperationError::ValidationError { .. }
        | OperationError::WrongSparse
        | OperationError::WrongMulti
        | OperationError::VariableTypeError { .. }
        | OperationError::NonFiniteNumber { .. } => IndexError::Refused(text),
        OperationError::InconsistentStorage { .. } => IndexError::Mismatch(format!("{text}; restore the folder or index anew")),
        _ => IndexError::Transient(text),
    }
}
