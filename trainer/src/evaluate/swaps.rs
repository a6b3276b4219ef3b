//! Swap tasks, as Winoground scores them (Thrush et al. 2022): whether a score binds words to what they belong to. A bag of words scores
//! both captions alike and is never right.

use std::collections::BTreeMap;
use std::sync::Arc;

use astromech_towers::{MatchScore, TextStates, Towers, similarity};
use serde::{Deserialize, Serialize};

use super::EvaluateError;
use super::encode::{encode_picture, encode_texts, in_order};
use crate::corpus::{SwapPair, SwapTask};

/// Pairs that are scored at a time.
const PAIRS_IN_FLIGHT_MAX: usize = 8;
/// The row of all kinds.
pub const ALL_KINDS: &str = "all";

/// Scores of one pair: `[text][picture]`; the right ones are `[0][0]` and `[1][1]`.
pub type SwapScores = [[f32; 2]; 2];

/// Parts of the pairs that a score has right. Equal scores are wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SwapFigures {
    /// For both pictures the right caption is scored higher; by chance 1/4.
    pub text: f64,
    /// For both captions the right picture is scored higher; by chance 1/4.
    pub image: f64,
    /// Both; by chance 1/6.
    pub group: f64,
}

/// Figures of some scores; none without any.
pub fn swap_figures(scores: &[SwapScores]) -> Option<SwapFigures> {
    let text = |s: &SwapScores| s[0][0] > s[1][0] && s[1][1] > s[0][1];
    let image = |s: &SwapScores| s[0][0] > s[0][1] && s[1][1] > s[1][0];
    let part =
        |right: &dyn Fn(&SwapScores) -> bool| scores.iter().filter(|scores| right(scores)).count() as f64 / scores.len() as f64;
    (!scores.is_empty()).then(|| SwapFigures { text: part(&text), image: part(&image), group: part(&|s| text(s) && image(s)) })
}

/// Figures of one score on the pairs of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SwapRow {
    /// The kind, or [`ALL_KINDS`].
    pub kind: String,
    /// Pairs.
    pub pairs: usize,
    /// `cosine` (the dual tower), `itm_text`, `itm_image` (the heads), `match` (their mean), or `match_cosine` (match + cosine, as
    /// re-ranking has it).
    pub score: String,
    /// What it has right.
    pub figures: SwapFigures,
}

/// Results of one swap task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SwapReport {
    /// Name of the task.
    pub task: String,
    /// By kind, in order of their names, then of all kinds; each by every score.
    pub rows: Vec<SwapRow>,
}

impl SwapReport {
    /// Lines of the table for people.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.rows.iter().map(|SwapRow { kind, pairs, score, figures: SwapFigures { text, image, group } }| {
            format!("| {} | {kind} | {pairs} | {score} | {text:.3} | {image:.3} | {group:.3} |", self.task)
        })
    }

    /// Names and values, for example `test.scenes.swap.relation.cosine.group`.
    pub(super) fn metrics(&self) -> impl Iterator<Item = (String, f64)> {
        self.rows.iter().flat_map(|SwapRow { kind, score, figures: SwapFigures { text, image, group }, .. }| {
            let name = |figure: &str| format!("{}.{kind}.{score}.{figure}", self.task);
            [(name("text"), *text), (name("image"), *image), (name("group"), *group)]
        })
    }
}

/// Measures one task: by the cosine, and by both heads where `with_single`.
///
/// # Errors
/// The task is empty, a picture can't be read, or the towers fail.
pub async fn evaluate_swaps(towers: &Towers, task: &SwapTask, with_single: bool) -> Result<SwapReport, EvaluateError> {
    if task.pairs.is_empty() {
        return Err(EvaluateError::EmptyTask { task: task.name.clone() });
    }
    let work = task.pairs.iter().map(|pair| score_pair(towers.clone(), pair.clone(), with_single));
    let scored = in_order(work, PAIRS_IN_FLIGHT_MAX).await?;
    let kinds = task.pairs.iter().map(|pair| pair.kind.as_str());
    Ok(SwapReport { task: task.name.clone(), rows: rows(kinds.zip(scored.iter().map(Vec::as_slice))) })
}

/// Rows of every kind and of all.
fn rows<'a>(pairs: impl Iterator<Item = (&'a str, &'a [(&'static str, SwapScores)])>) -> Vec<SwapRow> {
    let mut by_kind: BTreeMap<&str, Vec<(&'static str, Vec<SwapScores>)>> = BTreeMap::new();
    let mut all: Vec<(&'static str, Vec<SwapScores>)> = Vec::new();
    for (kind, scores) in pairs {
        for &(name, scores) in scores {
            for table in [by_kind.entry(kind).or_default(), &mut all] {
                match table.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, known)) => known.push(scores),
                    None => table.push((name, vec![scores])),
                }
            }
        }
    }
    let tables = by_kind.into_iter().chain(std::iter::once((ALL_KINDS, all)));
    let row = |kind: &str, score: &str, scores: &[SwapScores]| {
        let figures = swap_figures(scores)?;
        Some(SwapRow { kind: kind.to_owned(), pairs: scores.len(), score: score.to_owned(), figures })
    };
    tables.flat_map(|(kind, table)| table.into_iter().filter_map(move |(score, scores)| row(kind, score, &scores))).collect()
}

/// Every score of one pair.
async fn score_pair(towers: Towers, pair: SwapPair, with_single: bool) -> Result<Vec<(&'static str, SwapScores)>, EvaluateError> {
    let [one, other] = pair.pictures;
    let images = [encode_picture(&towers, one).await?, encode_picture(&towers, other).await?];
    let texts = encode_texts(&towers, &pair.texts, with_single).await?;
    let dim = towers.manifest().embedding_dim as usize;
    let cosine = |text: usize, image: usize| similarity(&texts[text].vectors, images[image].vectors(), dim);
    let cosines = [0, 1].map(|text| [0, 1].map(|image| cosine(text, image)));
    let mut scores = vec![("cosine", cosines)];
    if with_single {
        let states: Vec<Arc<TextStates>> = texts.iter().filter_map(|text| text.states.clone()).collect();
        let asked = vec![(0, 0), (1, 0), (0, 1), (1, 1)];
        let matched = towers.match_pairs(images.map(|image| image.states).into(), states, asked).await?;
        let read = |of: fn(MatchScore) -> f32| [0, 1].map(|text| [0, 1].map(|image| of(matched[text * 2 + image])));
        let means = read(MatchScore::score);
        let sums = [0, 1].map(|text: usize| [0, 1].map(|image: usize| means[text][image] + cosines[text][image]));
        let single = [("itm_text", read(|score| score.itm_text)), ("itm_image", read(|score| score.itm_image)), ("match", means)];
        scores.extend(single);
        scores.push(("match_cosine", sums));
    }
    Ok(scores)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const RIGHT: SwapScores = [[0.9, 0.1], [0.2, 0.8]];
    /// The second picture is scored higher by both captions: text yes, image no.
    const TEXT_ONLY: SwapScores = [[0.4, 0.7], [0.3, 0.8]];
    /// The second caption is scored higher with both pictures: image yes, text no.
    const IMAGE_ONLY: SwapScores = [[0.4, 0.3], [0.7, 0.8]];
    const WRONG: SwapScores = [[0.1, 0.9], [0.8, 0.2]];
    /// What a bag of words gives.
    const TIED: SwapScores = [[0.5, 0.6], [0.5, 0.6]];
    /// Right in both directions though a wrong one is above a right one.
    const CROSSED: SwapScores = [[0.9, 0.5], [0.3, 0.6]];

    fn close(found: SwapFigures, text: f64, image: f64, group: f64) {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(found.text, text) && near(found.image, image) && near(found.group, group), "{found:?}");
    }

    #[test]
    fn hand_made_scores_are_scored_as_winoground_scores_them() {
        close(swap_figures(&[RIGHT]).unwrap(), 1.0, 1.0, 1.0);
        close(swap_figures(&[TEXT_ONLY]).unwrap(), 1.0, 0.0, 0.0);
        close(swap_figures(&[IMAGE_ONLY]).unwrap(), 0.0, 1.0, 0.0);
        close(swap_figures(&[WRONG]).unwrap(), 0.0, 0.0, 0.0);
        close(swap_figures(&[TIED]).unwrap(), 0.0, 0.0, 0.0);
        close(swap_figures(&[CROSSED]).unwrap(), 1.0, 1.0, 1.0);
        close(swap_figures(&[RIGHT, TEXT_ONLY, IMAGE_ONLY, WRONG]).unwrap(), 0.5, 0.5, 0.25);
        assert!(swap_figures(&[]).is_none());
    }

    #[test]
    fn scores_without_knowledge_are_at_the_chances_that_are_named() {
        // Every order of four different scores.
        let mut all = Vec::new();
        for code in 0..256usize {
            let ranks = [code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6];
            let distinct = (0..4).all(|value| ranks.contains(&value));
            if distinct {
                let [a, b, c, d] = ranks.map(|rank| rank as f32);
                all.push([[a, b], [c, d]]);
            }
        }
        assert_eq!(all.len(), 24);
        close(swap_figures(&all).unwrap(), 0.25, 0.25, 1.0 / 6.0);
    }

    #[test]
    fn kinds_and_scores_have_a_row_each() {
        let pairs: [(&str, &[(&str, SwapScores)]); 3] = [
            ("relation", &[("cosine", RIGHT), ("itm_text", WRONG)]),
            ("colour", &[("cosine", WRONG), ("itm_text", RIGHT)]),
            ("relation", &[("cosine", WRONG), ("itm_text", WRONG)]),
        ];
        let rows = rows(pairs.into_iter());
        let named: Vec<(&str, &str, usize)> = rows.iter().map(|row| (row.kind.as_str(), row.score.as_str(), row.pairs)).collect();
        let expected = [("colour", 1), ("relation", 2), (ALL_KINDS, 3)];
        assert_eq!(named, expected.map(|(kind, pairs)| [(kind, "cosine", pairs), (kind, "itm_text", pairs)]).concat());
        close(rows[2].figures, 0.5, 0.5, 0.5);
        close(rows[5].figures, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0);
    }
}
