//! The context of a request, and the items that it and its candidates name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use astromech_schemas::rescore::{Candidate, CandidateFault, ItemRef, ProblemKind, RescoreContext, RescoreMode};
use astromech_schemas::{FrameRef, Kind, frame_point_id, point_id};
use futures::future::try_join_all;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::encode::Encoder;
use super::error::RescoreError;
use super::fault::fault;
use super::job::Encoded;
use super::source::{Picture, Source, check_text};
use crate::index::payload::{FIELD_VIDEO, frame_of, is_tombstone};
use crate::index::{Index, IndexError, Query, SearchFilter, Stored, VECTOR_IMAGE, with_frame};

/// A context, ready to be paired.
pub(super) struct Context {
    pub(super) encoded: Encoded,
    /// Why its picture was left out, where its text is enough.
    pub(super) problem: Option<CandidateFault>,
}

/// Payloads of the items that a request names.
#[derive(Default)]
pub(super) struct Found(HashMap<Uuid, Map<String, Value>>);

impl Found {
    fn source(&self, item: &ItemRef) -> Option<Source> {
        self.0.get(&point_id(item.kind, &item.id)).map(Source::of_payload)
    }

    /// The frame that a video was scored by.
    pub(super) fn frame(&self, item: &ItemRef) -> Option<FrameRef> {
        self.0.get(&point_id(item.kind, &item.id)).and_then(frame_of)
    }

    /// Takes for each video among `items` its frame nearest to the context, where it had the first one. A context's
    /// text goes before its picture.
    pub(super) async fn nearest_frames<'a>(
        &mut self,
        index: &dyn Index,
        context: &Encoded,
        items: impl Iterator<Item = &'a ItemRef>,
    ) -> Result<(), IndexError> {
        let text = context.text.as_ref().map(|text| &text.embedding);
        let Some(vector) = text.or_else(|| context.image.as_ref().map(|image| &image.embedding)) else { return Ok(()) };
        let named: BTreeSet<Uuid> =
            items.filter(|item| item.kind == Kind::Video).map(|item| point_id(item.kind, &item.id)).collect();
        let videos: Vec<Uuid> = named.into_iter().filter(|id| self.0.contains_key(id)).collect();
        if videos.is_empty() {
            return Ok(());
        }
        let limit = videos.len() as u32;
        let filter = SearchFilter { videos, ..SearchFilter::default() };
        let query = Query { kind: Kind::Video, vector_name: VECTOR_IMAGE, vector: vector.clone(), limit, filter };
        self.0.extend(index.search(&query).await?.into_iter().map(|stored| (stored.point_id, stored.payload)));
        Ok(())
    }

    /// What a candidate is made of.
    pub(super) fn of_candidate(&self, candidate: Candidate) -> Result<Source, CandidateFault> {
        let Some(item) = &candidate.item else { return Source::of_candidate(candidate) };
        if candidate.image.is_some() || candidate.url.is_some() || candidate.text.is_some() {
            let detail = "item: an item and a picture or text too; fix: send the item alone, or its parts";
            return Err(fault(ProblemKind::InvalidCandidate, detail));
        }
        let missing =
            || fault(ProblemKind::NotFound, format!("item: the index holds no {} `{}`; fix: index it first", item.kind, item.id));
        self.source(item).ok_or_else(missing)
    }
}

/// Holds a context to its form, before anything is done for it.
pub(super) fn check(context: &RescoreContext, mode: RescoreMode) -> Result<(), RescoreError> {
    let invalid = |field, problem: &str, fix| Err(RescoreError::Invalid { field, problem: problem.to_owned(), fix });
    match (&context.text, &context.image, &context.item) {
        (Some(text), None, None) => {
            check_text(text).map_err(|(problem, fix)| RescoreError::Invalid { field: "context.text", problem, fix })
        }
        (None, Some(_), None) if mode == RescoreMode::Illustrations => {
            invalid("context.image", "illustrations are found for a text", "send context.text, or another mode")
        }
        (None, Some(_), None) | (None, None, Some(_)) => Ok(()),
        (None, None, None) => invalid("context", "neither text, image nor item", "send exactly one of them"),
        _ => invalid("context", "more than one of text, image and item", "send exactly one of them"),
    }
}

/// Looks `items` up, each kind's at once; a video with its first frame. Deleted and unknown ones are not among the found.
pub(super) async fn look_up<'a>(index: &dyn Index, items: impl Iterator<Item = &'a ItemRef>) -> Result<Found, IndexError> {
    let mut ids: BTreeMap<Kind, Vec<Uuid>> = BTreeMap::new();
    for item in items {
        let (id, ids) = (point_id(item.kind, &item.id), ids.entry(item.kind).or_default());
        ids.push(id);
        if item.kind == Kind::Video {
            ids.push(frame_point_id(id, 0));
        }
    }
    let stored = try_join_all(ids.iter().map(|(kind, ids)| index.retrieve(*kind, ids))).await?;
    let live = stored.into_iter().flatten().filter(|stored| !is_tombstone(&stored.payload));
    let (frames, items): (Vec<Stored>, Vec<Stored>) = live.partition(|stored| stored.payload.contains_key(FIELD_VIDEO));
    let mut found: HashMap<Uuid, Map<String, Value>> =
        items.into_iter().map(|stored| (stored.point_id, stored.payload)).collect();
    for frame in frames {
        let video = frame.payload.get(FIELD_VIDEO).and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok());
        if let Some((point_id, payload)) = video.and_then(|id| found.get(&id).map(|payload| (id, payload.clone())))
            && let Some(whole) = with_frame(Stored { point_id, score: 0.0, payload }, frame)
        {
            found.insert(point_id, whole.payload);
        }
    }
    Ok(Found(found))
}

/// Encodes a context whose form was checked. An image is its picture; another item is its text, its picture where it has none, and both
/// for advertisements.
pub(super) async fn encode(
    encoder: &Encoder,
    context: RescoreContext,
    found: &Found,
    mode: RescoreMode,
) -> Result<Context, RescoreError> {
    let Source { picture, text } = source(context, found)?;
    let picture = match mode {
        RescoreMode::Plain => picture.filter(|_| text.is_none()),
        RescoreMode::Ads => picture,
        RescoreMode::Illustrations => None,
    };
    if text.is_none() && picture.is_none() {
        let problem =
            if mode == RescoreMode::Illustrations { "the item has no text" } else { "the item has neither text nor picture" };
        return Err(RescoreError::Invalid {
            field: "context.item",
            problem: problem.to_owned(),
            fix: "name another item, or send a text",
        });
    }
    let encode_text = async {
        match text {
            Some(text) => encoder.text(text).await.map(Some),
            None => Ok(None),
        }
    };
    let encode_image = async {
        match picture {
            Some(picture) => encoder.picture(picture).await.map(Some),
            None => Ok(None),
        }
    };
    let (text, image) = futures::join!(encode_text, encode_image);
    let text = text.map_err(RescoreError::Context)?;
    let (image, problem) = match image {
        Ok(image) => (image, None),
        // For advertisements the picture only adds pairs.
        Err(fault) if text.is_some() => (None, Some(fault)),
        Err(fault) => return Err(RescoreError::Context(fault)),
    };
    Ok(Context { encoded: Encoded { text, image }, problem })
}

fn source(context: RescoreContext, found: &Found) -> Result<Source, RescoreError> {
    match context {
        RescoreContext { item: Some(item), .. } => {
            let missing = || RescoreError::NoItem(format!("the index holds no {} `{}`", item.kind, item.id));
            let source = found.source(&item).ok_or_else(missing)?;
            let text = source.text.filter(|_| item.kind != Kind::Image);
            Ok(Source { text, ..source })
        }
        RescoreContext { image: Some(image), .. } => Ok(Source { picture: Some(Picture::Bytes(image.0)), text: None }),
        RescoreContext { text, .. } => Ok(Source { picture: None, text }),
    }
}
