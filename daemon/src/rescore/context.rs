//! The context of a request, and the items that it and its candidates name.

use std::collections::{BTreeMap, HashMap};

use astromech_schemas::rescore::{Candidate, ItemRef, ProblemKind, RescoreContext, RescoreMode};
use astromech_schemas::{Kind, point_id};
use futures::future::try_join_all;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::encode::Encoder;
use super::error::RescoreError;
use super::fault::{Fault, fault};
use super::job::Encoded;
use super::source::{Picture, Source, check_text};
use crate::index::payload::is_tombstone;
use crate::index::{Index, IndexError};

/// A context, ready to be paired.
pub(super) struct Context {
    pub(super) encoded: Encoded,
    /// Why its picture was left out, where its text is enough.
    pub(super) problem: Option<Fault>,
}

/// Payloads of the items that a request names.
#[derive(Default)]
pub(super) struct Found(HashMap<Uuid, Map<String, Value>>);

impl Found {
    fn source(&self, item: &ItemRef) -> Option<Source> {
        self.0.get(&point_id(item.kind, &item.id)).map(Source::of_payload)
    }

    /// What a candidate is made of.
    pub(super) fn of_candidate(&self, candidate: Candidate) -> Result<Source, Fault> {
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

/// Looks `items` up, each kind's at once. Deleted and unknown ones are not among the found.
pub(super) async fn look_up<'a>(index: &dyn Index, items: impl Iterator<Item = &'a ItemRef>) -> Result<Found, IndexError> {
    let mut ids: BTreeMap<Kind, Vec<Uuid>> = BTreeMap::new();
    for item in items {
        ids.entry(item.kind).or_default().push(point_id(item.kind, &item.id));
    }
    let stored = try_join_all(ids.iter().map(|(kind, ids)| index.retrieve(*kind, ids))).await?;
    let live = stored.into_iter().flatten().filter(|stored| !is_tombstone(&stored.payload));
    Ok(Found(live.map(|stored| (stored.point_id, stored.payload)).collect()))
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
