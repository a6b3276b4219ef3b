//! The scoring of one request: candidates are encoded side by side, and whichever are ready go to the cross tower together, so that
//! cached ones never wait for those that are fetched, and what is scored before the deadline is kept.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use astromech_schemas::rescore::{CandidateFault, PairScores, RescoreMode, Side};
use astromech_towers::{EmbeddedStates, ImageStates, TextStates, similarity};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use super::encode::Encoder;
use super::fault::{deadline as past_deadline, of_towers};
use super::source::Source;

/// Calls of the cross tower under way at once for one request.
const CROSS_CALLS_MAX: usize = 4;

/// Scores of one candidate's pairs, at least one, or why there are none.
pub(super) type Outcome = Result<Vec<PairScores>, CandidateFault>;

/// What is encoded of a context or a candidate.
#[derive(Default)]
pub(super) struct Encoded {
    pub(super) text: Option<EmbeddedStates<TextStates>>,
    pub(super) image: Option<EmbeddedStates<ImageStates>>,
}

pub(super) struct Job {
    pub(super) encoder: Encoder,
    pub(super) context: Encoded,
    pub(super) mode: RescoreMode,
    /// Most candidates of one call of the cross tower.
    pub(super) batch_max: usize,
}

/// A pair on its way through the cross tower.
struct Planned {
    index: usize,
    candidate: Side,
    itc: f32,
}

impl Job {
    /// Outcomes of `sources`, in their order; those that are not there by `deadline` are its problem.
    pub(super) async fn run(self: &Arc<Self>, sources: Vec<Result<Source, CandidateFault>>, deadline: Instant) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = Vec::new();
        outcomes.resize_with(sources.len(), || None);
        let encoding: FuturesUnordered<_> = sources
            .into_iter()
            .enumerate()
            .map(|(index, source)| {
                let job = Arc::clone(self);
                async move { (index, job.encode(source).await) }
            })
            .collect();
        let matching = encoding.ready_chunks(self.batch_max.max(1)).map(|batch| {
            let job = Arc::clone(self);
            async move { job.match_batch(batch).await }
        });
        let mut matched = pin!(matching.buffer_unordered(CROSS_CALLS_MAX));
        while let Ok(Some(batch)) = tokio::time::timeout_at(deadline.into(), matched.next()).await {
            for (index, outcome) in batch {
                outcomes[index] = Some(outcome);
            }
        }
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(past_deadline()))).collect()
    }

    /// The sides of a candidate that pair with the context.
    async fn encode(&self, source: Result<Source, CandidateFault>) -> Result<Encoded, CandidateFault> {
        let source = source?;
        let wanted = source.wanted(self.context.text.is_some(), self.context.image.is_some(), self.mode)?;
        let Source { picture, text } = source;
        let image = async {
            match picture.filter(|_| wanted.picture) {
                Some(picture) => self.encoder.picture(picture).await.map(Some),
                None => Ok(None),
            }
        };
        let text = async {
            match text.filter(|_| wanted.text) {
                Some(text) => self.encoder.text(text).await.map(Some),
                None => Ok(None),
            }
        };
        let (image, text) = futures::try_join!(image, text)?;
        Ok(Encoded { text, image })
    }

    async fn match_batch(&self, batch: Vec<(usize, Result<Encoded, CandidateFault>)>) -> Vec<(usize, Outcome)> {
        // The context's states come first, where it has them.
        let mut images: Vec<Arc<ImageStates>> = self.context.image.iter().map(|image| Arc::clone(&image.states)).collect();
        let mut texts: Vec<Arc<TextStates>> = self.context.text.iter().map(|text| Arc::clone(&text.states)).collect();
        let dim = self.encoder.towers.manifest().embedding_dim as usize;
        let (mut pairs, mut planned, mut outcomes) = (Vec::new(), Vec::new(), Vec::with_capacity(batch.len()));
        for (index, encoded) in batch {
            let encoded = match encoded {
                Ok(encoded) => encoded,
                Err(fault) => {
                    outcomes.push((index, Err(fault)));
                    continue;
                }
            };
            if let (Some(image), Some(text)) = (encoded.image, &self.context.text) {
                pairs.push((images.len() as u32, 0));
                planned.push(Planned { index, candidate: Side::Image, itc: similarity(text.vectors(), image.vectors(), dim) });
                images.push(image.states);
            }
            if let (Some(text), Some(image)) = (encoded.text, &self.context.image) {
                pairs.push((0, texts.len() as u32));
                planned.push(Planned { index, candidate: Side::Text, itc: similarity(image.vectors(), text.vectors(), dim) });
                texts.push(text.states);
            }
        }
        if pairs.is_empty() {
            return outcomes;
        }
        match self.encoder.towers.match_pairs(images, texts, pairs).await {
            Ok(scores) => {
                for (Planned { index, candidate, itc }, score) in planned.into_iter().zip(scores) {
                    let pair = PairScores { candidate, itm_text: score.itm_text, itm_image: score.itm_image, itc };
                    // Both pairs of a candidate stand next to each other.
                    match outcomes.last_mut() {
                        Some((last, Ok(pairs))) if *last == index => pairs.push(pair),
                        _ => outcomes.push((index, Ok(vec![pair]))),
                    }
                }
            }
            Err(error) => {
                let fault = of_towers(&error);
                outcomes.extend(planned.into_iter().map(|planned| (planned.index, Err(fault.clone()))));
            }
        }
        outcomes
    }
}
