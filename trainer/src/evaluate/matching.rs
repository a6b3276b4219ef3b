//! Matching tasks (docs/R2D2.md §4.2): how well a score tells pairs that match from those that do not.

use std::sync::Arc;

use astromech_towers::{MatchScore, TextStates, Towers, similarity};

use super::classify::{Classification, classify};
use super::encode::{encode_picture, encode_texts, in_order};
use super::{EvaluateError, MatchReport};
use crate::corpus::{MatchPairs, TaskPicture};

/// Pictures whose pairs are scored at a time.
const PICTURES_IN_FLIGHT_MAX: usize = 8;

/// Scores of one pair.
struct Scored {
    pair: usize,
    cosine: f32,
    /// Both match probabilities, where the single tower is loaded.
    matched: Option<MatchScore>,
}

/// Measures one task: the single tower's probability where `with_single`, and the dual tower's cosine alone beside it.
///
/// # Errors
/// A picture can't be read, the towers fail, or all pairs have one label.
pub async fn evaluate_matching(towers: &Towers, pairs: &MatchPairs, with_single: bool) -> Result<MatchReport, EvaluateError> {
    let labels: Vec<bool> = pairs.pairs.iter().map(|pair| pair.label).collect();
    let matching = labels.iter().filter(|label| **label).count();
    let one_label = || EvaluateError::OneLabel { task: pairs.name.clone(), matching, pairs: labels.len() };
    if matching == 0 || matching == labels.len() {
        return Err(one_label());
    }
    let mut by_picture: Vec<Vec<usize>> = vec![Vec::new(); pairs.pictures.len()];
    for (index, pair) in pairs.pairs.iter().enumerate() {
        by_picture[pair.picture].push(index);
    }
    let work = by_picture.into_iter().enumerate().map(|(picture, own)| {
        let texts = own.iter().map(|&index| pairs.pairs[index].text.clone()).collect();
        score_picture(towers.clone(), pairs.pictures[picture].clone(), texts, own, with_single)
    });
    let mut cosines = vec![0.0; labels.len()];
    let mut matches = vec![MatchScore { itm_text: 0.0, itm_image: 0.0 }; labels.len()];
    for scored in in_order(work, PICTURES_IN_FLIGHT_MAX).await?.into_iter().flatten() {
        cosines[scored.pair] = scored.cosine;
        if let Some(matched) = scored.matched {
            matches[scored.pair] = matched;
        }
    }
    let measure = |scores: &[f32]| -> Result<Classification, EvaluateError> { classify(scores, &labels).ok_or_else(one_label) };
    let single = |read: fn(MatchScore) -> f32| {
        let scores: Vec<f32> = matches.iter().copied().map(read).collect();
        if with_single { measure(&scores).map(Some) } else { Ok(None) }
    };
    let mut notes = Vec::new();
    if let Some(first) = pairs.skipped.first() {
        notes.push(format!("{} rows were left out, the first: {first}", pairs.skipped.len()));
    }
    Ok(MatchReport {
        task: pairs.name.clone(),
        pairs: labels.len(),
        matching,
        pictures: pairs.pictures.len(),
        cosine: measure(&cosines)?,
        matched: single(MatchScore::score)?,
        itm_text: single(|score| score.itm_text)?,
        itm_image: single(|score| score.itm_image)?,
        notes,
    })
}

/// All pairs of one picture.
async fn score_picture(
    towers: Towers,
    picture: TaskPicture,
    texts: Vec<String>,
    pairs: Vec<usize>,
    with_single: bool,
) -> Result<Vec<Scored>, EvaluateError> {
    let image = encode_picture(&towers, picture).await?;
    let vectors = image.vectors().to_vec();
    let texts = encode_texts(&towers, &texts, with_single).await?;
    let matched = if with_single {
        let states: Vec<Arc<TextStates>> = texts.iter().filter_map(|text| text.states.clone()).collect();
        let asked = (0..states.len() as u32).map(|text| (0, text)).collect();
        let scores = towers.match_pairs(vec![image.states], states, asked).await?;
        scores.into_iter().map(Some).collect()
    } else {
        vec![None; texts.len()]
    };
    let dim = towers.manifest().embedding_dim as usize;
    let scored = pairs.into_iter().zip(&texts).zip(matched);
    Ok(scored.map(|((pair, text), matched)| Scored { pair, cosine: similarity(&text.vectors, &vectors, dim), matched }).collect())
}
