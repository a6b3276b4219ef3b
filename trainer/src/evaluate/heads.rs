//! How well each head of the single tower tells the right answer from the dual tower's other best ones: what re-ranking rests on, and
//! what a mean over both heads hides.

use serde::{Deserialize, Serialize};

use super::classify::classify;

/// Areas under the ROC curve among the candidates that the second stage re-ranked, the mean over queries that have right and wrong ones
/// among them; 0.5 is chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HeadAuc {
    /// Of the dual tower's cosine, which chose the candidates.
    pub cosine: f64,
    /// Of the text-image cross encoder's head.
    pub itm_text: f64,
    /// Of the image-text cross encoder's head.
    pub itm_image: f64,
    /// Queries that it is the mean of.
    pub queries: usize,
}

/// One candidate of a query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) right: bool,
    pub(super) cosine: f32,
    pub(super) itm_text: f32,
    pub(super) itm_image: f32,
}

/// Measures the candidates of every query; none where no query has both right and wrong ones.
pub(super) fn head_auc(queries: impl Iterator<Item = Vec<Candidate>>) -> Option<HeadAuc> {
    let mut sum = HeadAuc { cosine: 0.0, itm_text: 0.0, itm_image: 0.0, queries: 0 };
    for candidates in queries {
        let labels: Vec<bool> = candidates.iter().map(|candidate| candidate.right).collect();
        let auc = |read: fn(&Candidate) -> f32| {
            let scores: Vec<f32> = candidates.iter().map(read).collect();
            classify(&scores, &labels).map(|figures| figures.auc)
        };
        let (Some(cosine), Some(text), Some(image)) = (auc(|c| c.cosine), auc(|c| c.itm_text), auc(|c| c.itm_image)) else {
            continue;
        };
        sum.cosine += cosine;
        sum.itm_text += text;
        sum.itm_image += image;
        sum.queries += 1;
    }
    let mean = |sum: f64, queries: usize| sum / queries as f64;
    (sum.queries > 0).then(|| HeadAuc {
        cosine: mean(sum.cosine, sum.queries),
        itm_text: mean(sum.itm_text, sum.queries),
        itm_image: mean(sum.itm_image, sum.queries),
        queries: sum.queries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_head_is_measured_apart_and_queries_without_a_choice_do_not_count() {
        let of = |right: bool, itm_text: f32, itm_image: f32| Candidate { right, cosine: 0.5, itm_text, itm_image };
        let queries = [
            vec![of(true, 0.9, 0.1), of(false, 0.2, 0.3), of(false, 0.3, 0.0)],
            vec![of(true, 0.9, 0.2), of(false, 0.1, 0.9)],
            vec![of(false, 0.9, 0.1)],
        ];
        let found = head_auc(queries.into_iter()).unwrap();
        assert_eq!(found.queries, 2);
        assert!((found.itm_text - 1.0).abs() < 1e-12 && (found.itm_image - 0.25).abs() < 1e-12, "{found:?}");
        assert!((found.cosine - 0.5).abs() < 1e-12, "ties count half");
        assert!(head_auc(std::iter::empty()).is_none());
    }
}
