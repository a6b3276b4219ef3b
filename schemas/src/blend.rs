//! How the single tower's two match probabilities and the dual tower's cosine make one score: the one definition that the daemon's
//! re-scoring, the trainer's evaluation and the gate share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DecodeError;

/// Nearest to 0 and to 1 that a probability is taken for its logit: beyond it f32 tells nothing apart.
const PROBABILITY_FLOOR: f32 = 1e-6;

/// What a match probability enters the score as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlendForm {
    /// The probability itself.
    Probability,
    /// Its log-odds, ln(p / (1 − p)).
    Logit,
}

/// What weights were fitted on, and what they changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlendFit {
    /// The tasks.
    pub tasks: Vec<String>,
    /// Queries of both directions that the figures are of.
    pub queries: u32,
    /// Candidates of each query.
    pub top_k: u32,
    /// Part of the queries whose first candidate is right, by cosine alone and by the blend; each query was judged by weights that were
    /// fitted without it.
    pub r1: [f64; 2],
}

/// The match term of a score: `text`·f(p of the text-image encoder) + `image`·f(p of the image-text encoder). It is added to the cosine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Blend {
    /// f.
    pub form: BlendForm,
    /// Weight of the text-image encoder, at least 0.
    #[schemars(range(min = 0))]
    pub text: f32,
    /// Weight of the image-text encoder, at least 0.
    #[schemars(range(min = 0))]
    pub image: f32,
    /// Where the weights come from; absent for the official blend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fitted: Option<BlendFit>,
}

impl Default for Blend {
    /// The official one: the mean of both probabilities (docs/R2D2.md §4.1 step 5).
    fn default() -> Self {
        Self { form: BlendForm::Probability, text: 0.5, image: 0.5, fitted: None }
    }
}

impl Blend {
    /// What two match probabilities add to the cosine.
    pub fn term(&self, itm_text: f32, itm_image: f32) -> f32 {
        let of = |weight: f32, p: f32| if weight == 0.0 { 0.0 } else { weight * self.form.of(p) };
        of(self.text, itm_text) + of(self.image, itm_image)
    }

    /// Whether it adds nothing: fitting found that the bundle ranks no better with its single tower than without.
    pub fn is_idle(&self) -> bool {
        self.text == 0.0 && self.image == 0.0
    }

    /// Refuses weights that are no weights.
    ///
    /// # Errors
    /// One is negative or not finite.
    pub fn check(&self) -> Result<(), DecodeError> {
        for (side, weight) in [("text", self.text), ("image", self.image)] {
            if !(weight >= 0.0 && weight.is_finite()) {
                let problem = format!("{weight} is not a finite number of at least 0");
                return Err(DecodeError::new(format!("blend.{side}"), problem, "fit it again: trainer calibrate"));
            }
        }
        Ok(())
    }
}

impl BlendForm {
    /// What a probability enters as.
    pub fn of(self, p: f32) -> f32 {
        match self {
            Self::Probability => p,
            Self::Logit => {
                let p = p.clamp(PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR);
                (p / (1.0 - p)).ln()
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_official_mean_of_both_probabilities() {
        assert!((Blend::default().term(0.2, 0.6) - 0.4).abs() < 1e-7);
        assert!(!Blend::default().is_idle());
    }

    #[test]
    fn a_logit_is_finite_at_both_ends_and_zero_where_nothing_is_known() {
        let blend = Blend { form: BlendForm::Logit, text: 2.0, image: 0.0, fitted: None };
        assert!(blend.term(0.5, 0.9).abs() < 1e-6, "the image head has no weight");
        assert!((blend.term(0.9, 0.1) - 2.0 * 9.0_f32.ln()).abs() < 1e-4);
        assert!(blend.term(0.0, 0.0).is_finite() && blend.term(1.0, 1.0).is_finite());
        assert!(blend.term(0.0, 0.0) < -20.0 && blend.term(1.0, 0.0) > 20.0);
    }

    #[test]
    fn weights_that_are_none_are_refused_by_name() {
        for weight in [-0.1, f32::NAN, f32::INFINITY] {
            let error = Blend { image: weight, ..Blend::default() }.check().unwrap_err();
            assert!(error.to_string().contains("blend.image"), "{error}");
        }
        assert!(Blend { text: 0.0, image: 0.0, ..Blend::default() }.is_idle());
    }
}
