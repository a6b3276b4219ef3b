//! The official protocol of retrieval (docs/R2D2.md §4.1): cosine over everything, then the single tower over the best of each query.

use std::collections::HashMap;
use std::sync::Arc;

use astromech_towers::{MatchScore, TextStates, Towers, similarity};
use rayon::prelude::*;

use super::encode::{Text, encode_images, encode_picture, encode_texts, in_order};
use super::heads::{Candidate, head_auc};
use super::recall::{Recalls, best_rank, best_rank_among, recalls, top_k};
use super::{EvaluateError, TaskItems, TaskReport};
use crate::corpus::TaskPicture;

/// Pictures whose pairs are scored at a time.
const PICTURES_IN_FLIGHT_MAX: usize = 8;

/// How a task is measured.
#[derive(Debug, Clone, Copy)]
pub struct EvaluateOptions {
    /// Candidates of the first stage that the cross tower re-ranks (docs/R2D2.md §4.1); 0 leaves the second stage out. A smaller gallery is
    /// re-ranked whole, and the report says so: the official evaluation refuses it.
    pub top_k: usize,
    /// Ask by text alone: R@M is then the mean of three recalls.
    pub text_to_image_only: bool,
}

/// Cosines of the best candidates of one query, best first, and the rank of its best right answer.
struct First {
    candidates: Vec<(usize, f32)>,
    rank: Option<usize>,
}

/// Measures one task.
///
/// # Errors
/// A picture can't be read, or the towers fail.
pub async fn evaluate(towers: &Towers, items: &TaskItems, options: EvaluateOptions) -> Result<TaskReport, EvaluateError> {
    let Stages { by_text, by_image, right_texts, matched } = stages(towers, items, options).await?;
    let dual = |first: &[First]| recalls(&first.iter().map(|query| query.rank).collect::<Vec<_>>());
    let both_ways = !options.text_to_image_only;
    let mut report = TaskReport {
        task: items.name.clone(),
        queries: items.texts.len(),
        gallery: items.pictures.len(),
        text_to_image: dual(&by_text),
        image_to_text: both_ways.then(|| dual(&by_image)),
        top_k: options.top_k,
        text_to_image_reranked: None,
        image_to_text_reranked: None,
        floor_text_to_image: None,
        text_to_image_heads: None,
        image_to_text_heads: None,
        notes: notes(items, options),
    };
    if options.top_k > 0 {
        // What is measured is what is served.
        let blend = towers.manifest().blend.clone().unwrap_or_default();
        let both = |image: usize, text: usize| matched.get(&(image, text)).copied();
        let term = |image: usize, text: usize| both(image, text).map(|score| blend.term(score.itm_text, score.itm_image));
        report.text_to_image_heads = head_auc(candidates(&by_text, &items.right, |text, image| both(image, text)));
        report.image_to_text_heads = head_auc(candidates(&by_image, &right_texts, both));
        report.text_to_image_reranked = Some(second_stage(&by_text, items.pictures.len(), &items.right, |t, i| term(i, t)));
        report.image_to_text_reranked = both_ways.then(|| second_stage(&by_image, items.texts.len(), &right_texts, term));
    }
    Ok(report)
}

/// The candidates of every query of a task in both directions, best first by cosine, with both heads' probabilities.
///
/// # Errors
/// A picture can't be read, or the towers fail.
pub(super) async fn scored_candidates(
    towers: &Towers,
    items: &TaskItems,
    top_k: usize,
) -> Result<Vec<Vec<Candidate>>, EvaluateError> {
    let options = EvaluateOptions { top_k, text_to_image_only: false };
    let Stages { by_text, by_image, right_texts, matched } = stages(towers, items, options).await?;
    let both = |image: usize, text: usize| matched.get(&(image, text)).copied();
    let of_texts = candidates(&by_text, &items.right, |text, image| both(image, text));
    Ok(of_texts.chain(candidates(&by_image, &right_texts, both)).collect())
}

/// Both stages of a task.
struct Stages {
    by_text: Vec<First>,
    /// Empty where only texts ask.
    by_image: Vec<First>,
    right_texts: Vec<Vec<usize>>,
    /// Match probabilities of every (picture, text) that is a candidate of the other; empty without a second stage.
    matched: HashMap<(usize, usize), MatchScore>,
}

async fn stages(towers: &Towers, items: &TaskItems, options: EvaluateOptions) -> Result<Stages, EvaluateError> {
    if items.texts.is_empty() || items.pictures.is_empty() {
        return Err(EvaluateError::EmptyTask { task: items.name.clone() });
    }
    let images = encode_images(towers, &items.pictures).await?;
    let texts = encode_texts(towers, &items.texts, options.top_k > 0).await?;
    let right_texts = items.right_texts();
    let dim = towers.manifest().embedding_dim as usize;
    let of_texts: Vec<&[f32]> = texts.iter().map(|text| text.vectors.as_slice()).collect();
    let of_images: Vec<&[f32]> = images.iter().map(Vec::as_slice).collect();
    let by_text = first_stage([&of_texts, &of_images], dim, &items.right, options.top_k);
    let by_image = if options.text_to_image_only {
        Vec::new()
    } else {
        first_stage([&of_images, &of_texts], dim, &right_texts, options.top_k)
    };
    let matched = if options.top_k > 0 {
        let pairs = pairs_by_picture(&by_text, &by_image, items.pictures.len());
        match_all(towers, &items.pictures, &texts, pairs).await?
    } else {
        HashMap::new()
    };
    Ok(Stages { by_text, by_image, right_texts, matched })
}

/// What a reader of the figures has to know.
fn notes(items: &TaskItems, options: EvaluateOptions) -> Vec<String> {
    let mut notes = Vec::new();
    let smaller = |count: usize, what: &str| {
        format!(
            "it has {count} {what}, fewer than top_k = {}, which the official evaluation requires (docs/R2D2.md §4.1): all of them are \
             re-ranked",
            options.top_k
        )
    };
    if options.top_k > items.pictures.len() {
        notes.push(smaller(items.pictures.len(), "pictures"));
    }
    if options.top_k > items.texts.len() && !options.text_to_image_only {
        notes.push(smaller(items.texts.len(), "texts"));
    }
    if let Some(first) = items.skipped.first() {
        notes.push(format!("{} rows were left out, the first: {first}", items.skipped.len()));
    }
    notes
}

/// Queries against a gallery, each item's vectors of `dim` numbers: cosines, or late interaction of a bundle that has it.
fn first_stage([queries, gallery]: [&[&[f32]]; 2], dim: usize, right: &[Vec<usize>], k: usize) -> Vec<First> {
    let one = |(query, right): (&&[f32], &Vec<usize>)| {
        let scores: Vec<f32> = gallery.iter().map(|item| similarity(query, item, dim)).collect();
        let candidates = top_k(&scores, k).into_iter().map(|index| (index, scores[index])).collect();
        First { candidates, rank: best_rank(&scores, right) }
    };
    queries.par_iter().zip(right).map(one).collect()
}

/// Match term + cosine for the candidates of each query, −100 for the rest (docs/R2D2.md §4.1 step 5).
fn second_stage(first: &[First], gallery: usize, right: &[Vec<usize>], matched: impl Fn(usize, usize) -> Option<f32>) -> Recalls {
    let rank = |(query, (first, right)): (usize, (&First, &Vec<usize>))| {
        let scored: Vec<(usize, f32)> =
            first.candidates.iter().filter_map(|&(answer, cosine)| Some((answer, matched(query, answer)? + cosine))).collect();
        best_rank_among(&scored, gallery, right)
    };
    let ranks: Vec<_> = first.iter().zip(right).enumerate().map(rank).collect();
    recalls(&ranks)
}

/// The candidates of every query with both heads' probabilities.
fn candidates(
    first: &[First],
    right: &[Vec<usize>],
    matched: impl Fn(usize, usize) -> Option<MatchScore>,
) -> impl Iterator<Item = Vec<Candidate>> {
    first.iter().zip(right).enumerate().map(move |(query, (first, right))| {
        let candidate = |&(answer, cosine): &(usize, f32)| {
            let MatchScore { itm_text, itm_image } = matched(query, answer)?;
            Some(Candidate { right: right.contains(&answer), cosine, itm_text, itm_image })
        };
        first.candidates.iter().filter_map(candidate).collect()
    })
}

/// For each picture, the texts that it must be scored with in either direction, each once: a pair's probability is the same in both.
fn pairs_by_picture(by_text: &[First], by_image: &[First], pictures: usize) -> Vec<Vec<usize>> {
    let mut texts: Vec<Vec<usize>> = vec![Vec::new(); pictures];
    for (text, first) in by_text.iter().enumerate() {
        for &(image, _) in &first.candidates {
            texts[image].push(text);
        }
    }
    for (own, first) in texts.iter_mut().zip(by_image) {
        own.extend(first.candidates.iter().map(|&(text, _)| text));
    }
    for own in &mut texts {
        own.sort_unstable();
        own.dedup();
    }
    texts
}

/// Match probabilities of every pair (picture, text). Each picture's states are made again when its pairs are due, so that only those of
/// a few pictures are held: a gallery of 20,000 would take 20 GB.
async fn match_all(
    towers: &Towers,
    pictures: &[TaskPicture],
    texts: &[Text],
    pairs: Vec<Vec<usize>>,
) -> Result<HashMap<(usize, usize), MatchScore>, EvaluateError> {
    let work = pairs.into_iter().enumerate().filter(|(_, own)| !own.is_empty()).map(|(image, own)| {
        let (towers, picture) = (towers.clone(), pictures[image].clone());
        let states: Vec<Arc<TextStates>> = own.iter().filter_map(|&text| texts[text].states.clone()).collect();
        async move {
            let encoded = encode_picture(&towers, picture).await?;
            let asked = (0..states.len() as u32).map(|text| (0, text)).collect();
            let scores = towers.match_pairs(vec![encoded.states], states, asked).await?;
            Ok(own.into_iter().zip(scores).map(|(text, score)| ((image, text), score)).collect::<Vec<_>>())
        }
    });
    Ok(in_order(work, PICTURES_IN_FLIGHT_MAX).await?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_both_directions_ask_for_is_scored_once() {
        let first = |candidates: &[usize]| First { candidates: candidates.iter().map(|&c| (c, 0.0)).collect(), rank: None };
        let by_text = [first(&[0, 2]), first(&[2, 1]), first(&[0, 1])];
        let by_image = [first(&[2, 0]), first(&[2, 1]), first(&[0, 1])];
        assert_eq!(pairs_by_picture(&by_text, &by_image, 3), [vec![0, 2], vec![1, 2], vec![0, 1]]);
    }

    #[test]
    fn the_second_stage_ranks_by_match_plus_cosine_and_leaves_the_rest_last() {
        // Two queries, four answers, top 2. The first's right answer rises, the second's is not among its candidates.
        let first = [
            First { candidates: vec![(1, 0.8), (0, 0.7)], rank: Some(1) },
            First { candidates: vec![(2, 0.9), (3, 0.1)], rank: Some(3) },
        ];
        let matched = |query: usize, answer: usize| Some(if (query, answer) == (0, 0) { 0.9 } else { 0.5 });
        let found = second_stage(&first, 4, &[vec![0], vec![1]], matched);
        assert!((found.r1 - 0.5).abs() < 1e-12 && (found.r5 - 1.0).abs() < 1e-12);
        assert!((found.mrr - f64::midpoint(1.0, 0.25)).abs() < 1e-12);
    }
}
