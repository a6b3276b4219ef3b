//! What a change's result says, once it is applied.

use std::collections::BTreeMap;

use astromech_schemas::frame_point_id;
use astromech_schemas::results::{FrameResult, Operation, Outcome, RESULT_SCHEMA, RecordPosition, ResultMessage};

use crate::index::book::collection_name;
use crate::index::{Change, ChangeBody, VECTOR_IMAGE, VECTOR_TEXT};

/// What a change does, as results name it.
pub(super) const fn operation(change: &Change) -> Operation {
    match change.body {
        ChangeBody::Delete => Operation::Delete,
        ChangeBody::Upsert { .. } | ChangeBody::Video { .. } => Operation::Upsert,
    }
}

/// The result of `change`, whose record lay at `source`, without what the configuration adds.
pub(super) fn of_change(change: &Change, source: RecordPosition) -> ResultMessage {
    let (has_text, has_image) = match &change.body {
        ChangeBody::Delete => (false, false),
        ChangeBody::Upsert { text, image, .. } => (text.is_some(), image.is_some()),
        ChangeBody::Video { text, .. } => (text.is_some(), true),
    };
    let vectors = [(VECTOR_TEXT, has_text), (VECTOR_IMAGE, has_image)];
    let frames = match &change.body {
        ChangeBody::Video { frames, .. } => frames.as_slice(),
        _ => &[],
    };
    let frame = |(number, time_ms)| FrameResult {
        time_ms,
        point_id: frame_point_id(change.point_id, number).to_string(),
        embedding: Vec::new(),
    };
    ResultMessage {
        schema: RESULT_SCHEMA,
        kind: change.kind,
        id: change.id.clone(),
        version: change.version,
        operation: operation(change),
        outcome: Outcome::Applied,
        point_id: change.point_id.to_string(),
        collection: collection_name(change.kind, &change.fingerprint),
        fingerprint: change.fingerprint.clone(),
        vectors: vectors.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect(),
        embeddings: BTreeMap::new(),
        neighbours: BTreeMap::new(),
        frames: (0..).zip(frames.iter().map(|frame| frame.time_ms)).map(frame).collect(),
        source,
    }
}

/// The same result where the index holds a newer change: what it names of the item's vectors would not be the item's.
pub(super) fn superseded(result: &mut ResultMessage) {
    result.outcome = Outcome::Superseded;
    result.vectors.clear();
    result.frames.clear();
}
