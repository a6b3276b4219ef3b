//! Two-stage search: a query that is encoded once, for the dual towers' search and for the single tower's order of its hits.

use std::sync::Arc;
use std::time::Instant;

use astromech_schemas::rescore::{CandidateFault, RescoreContext, RescoreMode, Scores, Weights};
use astromech_schemas::{Blend, Kind};
use astromech_towers::EmbeddedStates;
use serde_json::{Map, Value};

use super::blend::{scores, weights};
use super::context::{Found, check, encode};
use super::error::RescoreError;
use super::job::Job;
use super::metrics::RescoreMetrics;
use super::source::Source;
use super::{Place, Rescorer};
use crate::vitals::Meter;

/// A query on its way through both stages.
pub struct RescoreQuery {
    job: Arc<Job>,
    weights: Weights,
    blend: Blend,
    started: Instant,
    deadline: Instant,
    metrics: Meter<RescoreMetrics>,
    _place: Place,
}

impl Rescorer {
    /// Encodes a query's text or picture. The configured `rescore.deadline_ms` begins here, and the query keeps its place among the
    /// requests under way until it is dropped.
    ///
    /// # Errors
    /// The context is wrong or can't be encoded in time, or too many requests are under way.
    pub async fn query(&self, context: RescoreContext) -> Result<RescoreQuery, RescoreError> {
        let mode = RescoreMode::Plain;
        check(&context, mode)?;
        let place = self.enter()?;
        let started = Instant::now();
        let deadline = started + self.config.deadline;
        let encoder = self.encoder(deadline);
        let found = Found::default();
        let context = self.in_time(started, deadline, encode(&encoder, context, &found, mode)).await?;
        let job = Arc::new(Job { encoder, context: context.encoded, mode, batch_max: self.batch_max });
        let weights = weights(&self.config.weights, mode, None);
        let blend = self.blend.clone();
        Ok(RescoreQuery { job, weights, blend, started, deadline, metrics: self.parts.metrics.clone(), _place: place })
    }
}

impl RescoreQuery {
    /// What to search by: the unit vector, or those of the tokens.
    pub fn vector(&self) -> &[f32] {
        let text = self.job.context.text.as_ref().map(EmbeddedStates::vectors);
        text.or_else(|| self.job.context.image.as_ref().map(EmbeddedStates::vectors)).unwrap_or_default()
    }

    /// What both probabilities add to the cosine.
    pub const fn blend(&self) -> &Blend {
        &self.blend
    }

    /// Whether hits of `kind` can be scored: pictures and advertisements for a text, articles for a picture.
    pub fn takes(&self, kind: Kind) -> bool {
        if self.job.context.text.is_some() { kind != Kind::Article } else { kind == Kind::Article }
    }

    /// Scores hits by their payloads, in their order; those that are not scored in time carry the problem `deadline`.
    pub async fn score<'a>(&self, payloads: impl Iterator<Item = &'a Map<String, Value>>) -> Vec<Result<Scores, CandidateFault>> {
        let sources = payloads.map(|payload| Ok(Source::of_payload(payload))).collect();
        let outcomes = self.job.run(sources, self.deadline).await;
        let scored: Vec<_> =
            outcomes.into_iter().map(|outcome| outcome.map(|pairs| scores(&pairs, &self.blend, &self.weights, 0.0))).collect();
        self.metrics.scored(scored.iter().filter(|outcome| outcome.is_ok()).count());
        scored.iter().filter_map(|outcome| outcome.as_ref().err()).for_each(|fault| self.metrics.problem(fault.kind));
        self.metrics.answered(true, self.started.elapsed());
        scored
    }
}
