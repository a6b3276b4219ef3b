//! The blend of one candidate's scores, and the order of all.

use astromech_schemas::Blend;
use astromech_schemas::rescore::{Candidate, CandidateFault, PairScores, RescoreMode, Scores, Weights, WeightsOverride};

use super::fault::invalid;
use crate::config::WeightsConfig;

/// Weights of a request: those it sets, else those configured. `prior` and `bid` enter in the mode `ads` only, unless the request sets
/// their weights.
pub(super) fn weights(config: &WeightsConfig, mode: RescoreMode, set: Option<WeightsOverride>) -> Weights {
    let set = set.unwrap_or_default();
    let of_ads = |weight: f32| if mode == RescoreMode::Ads { weight } else { 0.0 };
    Weights {
        itm: set.itm.unwrap_or(config.itm),
        itc: set.itc.unwrap_or(config.itc),
        prior: set.prior.unwrap_or_else(|| of_ads(config.prior)),
        bid: set.bid.unwrap_or_else(|| of_ads(config.bid)),
    }
}

/// `weights.prior × ln(prior) + weights.bid × ln(bid)` of one candidate; what is absent is 1 and adds nothing. The logarithm makes the
/// order that of relevance times prior to a power: a doubled prior is worth the same wherever it starts.
pub(super) fn extra(candidate: &Candidate, weights: &Weights) -> Result<f32, CandidateFault> {
    let prior = candidate.prior.unwrap_or(1.0);
    if !(prior > 0.0 && prior <= 1.0) {
        return Err(invalid("prior", &format!("{prior} is no probability above 0"), "send more than 0 and at most 1"));
    }
    let bid = candidate.bid.unwrap_or(1.0);
    if !(bid > 0.0 && bid.is_finite()) {
        return Err(invalid("bid", &format!("{bid} is not above 0"), "send a price above 0, in any one unit"));
    }
    Ok(weights.prior * prior.ln() + weights.bid * bid.ln())
}

/// Scores of a candidate: means over its pairs, and the score: `itm × match + itc × cosine + extra`, where `blend` makes the match term of
/// both probabilities. With the official blend and both weights 1 that is the official evaluation's (docs/R2D2.md §4). `pairs` is not
/// empty.
pub(super) fn scores(pairs: &[PairScores], blend: &Blend, weights: &Weights, extra: f32) -> Scores {
    let count = pairs.len().max(1) as f32;
    let mean = |of: &dyn Fn(&PairScores) -> f32| pairs.iter().map(of).sum::<f32>() / count;
    let (itm_text, itm_image, itc) = (mean(&|pair| pair.itm_text), mean(&|pair| pair.itm_image), mean(&|pair| pair.itc));
    let term = mean(&|pair| blend.term(pair.itm_text, pair.itm_image));
    let itm = f32::midpoint(itm_text, itm_image);
    Scores { itm_text, itm_image, itm, itc, score: weights.itm * term + weights.itc * itc + extra }
}

/// Puts the best first; equal ones stay in their order.
pub fn best_first<T>(items: &mut [T], score: impl Fn(&T) -> f32) {
    items.sort_by(|a, b| score(b).total_cmp(&score(a)));
}

#[cfg(test)]
mod tests {
    use astromech_schemas::BlendForm;
    use astromech_schemas::rescore::Side;

    use super::*;

    const CONFIG: WeightsConfig = WeightsConfig { itm: 1.0, itc: 1.0, prior: 0.1, bid: 0.2 };

    fn pair(itm_text: f32, itm_image: f32, itc: f32) -> PairScores {
        PairScores { candidate: Side::Image, itm_text, itm_image, itc }
    }

    #[test]
    fn the_blend_is_the_mean_match_plus_the_cosine() {
        let weights = weights(&CONFIG, RescoreMode::Plain, None);
        let official = |pairs: &[PairScores]| scores(pairs, &Blend::default(), &weights, 0.0);
        let one = official(&[pair(0.2, 0.6, 0.3)]);
        assert!((one.itm - 0.4).abs() < 1e-6 && (one.score - 0.7).abs() < 1e-6, "{one:?}");
        let two = official(&[pair(0.2, 0.6, 0.3), pair(0.4, 0.8, -0.1)]);
        assert!((two.itm - 0.5).abs() < 1e-6 && (two.itc - 0.1).abs() < 1e-6, "{two:?}");
    }

    #[test]
    fn fitted_weights_take_the_place_of_the_mean_and_zero_ones_leave_the_cosine() {
        let weights = weights(&CONFIG, RescoreMode::Plain, None);
        let fitted = Blend { form: BlendForm::Logit, text: 0.0, image: 0.1, fitted: None };
        let found = scores(&[pair(0.9, 0.5, 0.3), pair(0.1, 0.9, 0.5)], &fitted, &weights, 0.0);
        assert!((found.score - (0.4 + 0.05 * 9.0_f32.ln())).abs() < 1e-5, "the mean of the pairs' terms: {found:?}");
        let idle = Blend { image: 0.0, ..fitted };
        assert!((scores(&[pair(0.9, 0.5, 0.3)], &idle, &weights, 0.0).score - 0.3).abs() < 1e-6);
    }

    #[test]
    fn prior_and_bid_enter_for_advertisements_or_where_asked() {
        let candidate = Candidate { prior: Some(0.5), bid: Some(4.0), ..Candidate::default() };
        let of = |mode, set| extra(&candidate, &weights(&CONFIG, mode, set)).unwrap();
        let expected = 0.1 * 0.5_f32.ln() + 0.2 * 4.0_f32.ln();
        assert!((of(RescoreMode::Ads, None) - expected).abs() < 1e-6);
        assert!(of(RescoreMode::Plain, None).abs() < 1e-9);
        let set = WeightsOverride { prior: Some(1.0), ..WeightsOverride::default() };
        assert!((of(RescoreMode::Plain, Some(set)) - 0.5_f32.ln()).abs() < 1e-6);
        assert!(extra(&Candidate::default(), &weights(&CONFIG, RescoreMode::Ads, None)).unwrap().abs() < 1e-9);
    }

    #[test]
    fn a_prior_or_bid_out_of_range_is_the_candidates_problem() {
        let weights = weights(&CONFIG, RescoreMode::Ads, None);
        for prior in [0.0, -1.0, 1.5, f32::NAN] {
            assert!(extra(&Candidate { prior: Some(prior), ..Candidate::default() }, &weights).is_err(), "{prior}");
        }
        for bid in [0.0, -1.0, f32::INFINITY, f32::NAN] {
            assert!(extra(&Candidate { bid: Some(bid), ..Candidate::default() }, &weights).is_err(), "{bid}");
        }
    }

    #[test]
    fn the_order_is_stable() {
        let scores = [0.1, 0.5, 0.5, -1.0];
        let mut order = [0, 1, 2, 3];
        best_first(&mut order, |place| scores[*place]);
        assert_eq!(order, [1, 2, 0, 3]);
    }
}
