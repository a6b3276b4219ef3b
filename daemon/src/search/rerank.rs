//! The second stage of a search: the best hits of a kind in the single tower's order.

use std::collections::BTreeMap;

use astromech_schemas::Kind;
use astromech_schemas::http::Hit;
use astromech_schemas::rescore::{CandidateFault, HitRescore, Scores};

use crate::index::Stored;
use crate::rescore::{RescoreQuery, best_first};

/// What re-scoring says of the first hits of each kind that it takes, in the order of cosine.
pub(super) type Verdicts = BTreeMap<Kind, Vec<Result<Scores, CandidateFault>>>;

/// Scores the first `most` hits of each kind that pairs with the query, all kinds together.
pub(super) async fn verdicts(query: &RescoreQuery, found: &[(Kind, Vec<Stored>)], most: usize) -> Verdicts {
    let taken: Vec<(Kind, &[Stored])> =
        found.iter().filter(|(kind, _)| query.takes(*kind)).map(|(kind, hits)| (*kind, &hits[..hits.len().min(most)])).collect();
    let payloads: Vec<_> = taken.iter().flat_map(|(_, hits)| hits.iter()).map(|hit| &hit.payload).collect();
    let mut scored = query.score(payloads.into_iter()).await.into_iter();
    taken.into_iter().map(|(kind, hits)| (kind, scored.by_ref().take(hits.len()).collect())).collect()
}

/// Puts a kind's hits, in the order of cosine, into their final order: those that were scored by their blend, then the others as they
/// were; at most `limit`.
pub(super) fn rerank(mut hits: Vec<Hit>, verdicts: Vec<Result<Scores, CandidateFault>>, limit: usize) -> Vec<Hit> {
    for ((hit, dual_rank), verdict) in hits.iter_mut().zip(1..).zip(verdicts) {
        let (scores, problem) = match verdict {
            Ok(scores) => (Some(scores), None),
            Err(fault) => (None, Some(fault)),
        };
        hit.rescore = Some(HitRescore { dual_rank, scores, problem });
    }
    let score =
        |hit: &Hit| hit.rescore.as_ref().and_then(|rescore| rescore.scores).map_or(f32::NEG_INFINITY, |scores| scores.score);
    // What was not scored keeps its order.
    best_first(&mut hits, score);
    hits.truncate(limit);
    hits
}

#[cfg(test)]
mod tests {
    use astromech_schemas::rescore::ProblemKind;

    use super::*;

    fn hit(id: &str) -> Hit {
        Hit {
            kind: Kind::Image,
            id: id.to_owned(),
            version: 1,
            score: 0.5,
            title: None,
            body: None,
            image_url: None,
            link: None,
            tags: Vec::new(),
            attributes: BTreeMap::new(),
            rescore: None,
            frame: None,
        }
    }

    #[test]
    fn scored_hits_stand_by_their_blend_before_the_others_and_keep_their_first_rank() {
        let scored = |score| Ok(Scores { itm_text: 0.0, itm_image: 0.0, itm: 0.0, itc: 0.0, score });
        let broken = Err(CandidateFault { kind: ProblemKind::InvalidImage, detail: "damaged".to_owned() });
        let hits = ["a", "b", "c", "d", "e"].map(hit).into();
        let hits = rerank(hits, vec![scored(-0.2), broken, scored(1.5)], 4);
        let found: Vec<_> = hits.iter().map(|hit| (hit.id.as_str(), hit.rescore.as_ref().map(|r| r.dual_rank))).collect();
        assert_eq!(found, [("c", Some(3)), ("a", Some(1)), ("b", Some(2)), ("d", None)]);
        assert_eq!(hits[2].rescore.as_ref().unwrap().problem.as_ref().unwrap().kind, ProblemKind::InvalidImage);
    }
}
