//! Weights of the single tower beside the cosine, fitted on data that the model was not trained on: none unless it ranks better with them.

use astromech_schemas::blend::{Blend, BlendFit, BlendForm};
use astromech_towers::Towers;

use super::heads::Candidate;
use super::retrieval::scored_candidates;
use super::{EvaluateError, TaskItems};

/// Queries that weights are fitted on while others judge them, in turns.
const FOLDS: usize = 2;
/// Steps of the fit; each is a pass over the candidates, and the problem has three numbers.
const STEPS: usize = 400;
/// Halvings of a step that makes the fit worse, before the fit is where it can get.
const HALVINGS: usize = 40;

/// Weights of one query's terms: cosine, logit of `itm_text`, logit of `itm_image`.
type Weights = [f64; 3];

/// Fits the blend of a bundle on tasks held out of its training. Each query is judged by weights that were fitted without it; where the
/// blend does not put more right answers first than the cosine does, by more than one standard error of the queries that change, both
/// weights are 0.
///
/// # Errors
/// A picture can't be read, the towers fail, or no query has its right answer among its candidates.
pub async fn calibrate(towers: &Towers, tasks: &[TaskItems], top_k: usize) -> Result<Blend, EvaluateError> {
    let mut queries = Vec::new();
    for items in tasks {
        queries.extend(scored_candidates(towers, items, top_k).await?);
    }
    let names: Vec<String> = tasks.iter().map(|items| items.name.clone()).collect();
    fit(&queries, &names, top_k).ok_or_else(|| EvaluateError::NothingToFit { tasks: names.join(", ") })
}

fn fit(queries: &[Vec<Candidate>], tasks: &[String], top_k: usize) -> Option<Blend> {
    let rows: Vec<Row> = queries.iter().map(|candidates| Row::of(candidates)).collect();
    if !rows.iter().any(Row::has_a_choice) {
        return None;
    }
    let (mut before, mut after, mut won, mut lost) = (0usize, 0usize, 0usize, 0usize);
    for fold in 0..FOLDS {
        let part = |own: bool| rows.iter().enumerate().filter(move |(at, _)| (at % FOLDS == fold) == own).map(|(_, row)| row);
        let [_, text, image] = maximum(&part(false).collect::<Vec<_>>());
        for row in part(true) {
            let (by_cosine, by_blend) = (row.first_is_right([1.0, 0.0, 0.0]), row.first_is_right([1.0, text, image]));
            before += usize::from(by_cosine);
            after += usize::from(by_blend);
            won += usize::from(by_blend && !by_cosine);
            lost += usize::from(by_cosine && !by_blend);
        }
    }
    // Of the queries that change, as many would win as lose by chance: a fair coin's standard error is the root of their number.
    let is_better = won > lost && (won - lost) as f64 > ((won + lost) as f64).sqrt();
    let [_, text, image] = if is_better { maximum(&rows.iter().collect::<Vec<_>>()) } else { [1.0, 0.0, 0.0] };
    let share = |count: usize| count as f64 / rows.len() as f64;
    let fitted =
        BlendFit { tasks: tasks.to_vec(), queries: rows.len() as u32, top_k: top_k as u32, r1: [share(before), share(after)] };
    Some(Blend { form: BlendForm::Logit, text: text as f32, image: image as f32, fitted: Some(fitted) })
}

/// One query's candidates as the terms of their scores.
struct Row {
    terms: Vec<Weights>,
    right: Vec<bool>,
}

impl Row {
    fn of(candidates: &[Candidate]) -> Self {
        let terms = |candidate: &Candidate| {
            let logit = |p| f64::from(BlendForm::Logit.of(p));
            [f64::from(candidate.cosine), logit(candidate.itm_text), logit(candidate.itm_image)]
        };
        Self { terms: candidates.iter().map(terms).collect(), right: candidates.iter().map(|c| c.right).collect() }
    }

    /// Whether it has right and wrong candidates.
    fn has_a_choice(&self) -> bool {
        self.right.contains(&true) && self.right.contains(&false)
    }

    /// Whether the best candidate is a right one; of equal ones the first, which has the higher cosine.
    fn first_is_right(&self, weights: Weights) -> bool {
        let mut best: Option<(f64, bool)> = None;
        for (terms, right) in self.terms.iter().zip(&self.right) {
            let score = dot(weights, *terms);
            if best.is_none_or(|(highest, _)| score > highest) {
                best = Some((score, *right));
            }
        }
        best.is_some_and(|(_, right)| right)
    }

    /// ln of the part of softmax(scores) that lies on the right candidates, and its gradient.
    fn log_likelihood(&self, weights: Weights) -> (f64, Weights) {
        let scores: Vec<f64> = self.terms.iter().map(|terms| dot(weights, *terms)).collect();
        let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut all, mut right, mut mean_all, mut mean_right) = (0.0, 0.0, [0.0; 3], [0.0; 3]);
        for ((score, terms), is_right) in scores.iter().zip(&self.terms).zip(&self.right) {
            let mass = (score - highest).exp();
            all += mass;
            right += if *is_right { mass } else { 0.0 };
            for (at, term) in terms.iter().enumerate() {
                mean_all[at] += mass * term;
                mean_right[at] += if *is_right { mass * term } else { 0.0 };
            }
        }
        let right = right.max(f64::MIN_POSITIVE);
        let gradient = [0, 1, 2].map(|at| mean_right[at] / right - mean_all[at] / all);
        ((right / all).ln(), gradient)
    }
}

fn dot(a: Weights, b: Weights) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The weights, none negative, under which the right candidates are likeliest, as multiples of the cosine's. Projected gradient over terms
/// of equal spread.
fn maximum(rows: &[&Row]) -> Weights {
    let rows: Vec<&Row> = rows.iter().copied().filter(|row| row.has_a_choice()).collect();
    if rows.is_empty() {
        return [1.0, 0.0, 0.0];
    }
    let spread = spread(&rows);
    let scaled = |weights: Weights| [0, 1, 2].map(|at| weights[at] / spread[at]);
    let at = |weights: Weights| {
        let (mut sum, mut gradient) = (0.0, [0.0; 3]);
        for row in &rows {
            let (value, own) = row.log_likelihood(scaled(weights));
            sum += value;
            for side in 0..3 {
                gradient[side] += own[side] / spread[side];
            }
        }
        (sum / rows.len() as f64, gradient.map(|part| part / rows.len() as f64))
    };
    let mut weights: Weights = [1.0, 0.0, 0.0];
    let (mut value, mut gradient) = at(weights);
    let mut step = 1.0;
    'fit: for _ in 0..STEPS {
        for _ in 0..HALVINGS {
            let next = [0, 1, 2].map(|side| (weights[side] + step * gradient[side]).max(if side == 0 { 1e-3 } else { 0.0 }));
            let (found, at_next) = at(next);
            if found > value {
                (weights, value, gradient) = (next, found, at_next);
                step *= 2.0;
                continue 'fit;
            }
            step /= 2.0;
        }
        break;
    }
    let [cosine, text, image] = scaled(weights);
    [1.0, text / cosine, image / cosine]
}

/// Root mean square of each term around its query's mean.
fn spread(rows: &[&Row]) -> Weights {
    [0, 1, 2].map(|side| {
        let (mut sum, mut count) = (0.0, 0usize);
        for row in rows {
            let mean = row.terms.iter().map(|terms| terms[side]).sum::<f64>() / row.terms.len() as f64;
            sum += row.terms.iter().map(|terms| (terms[side] - mean).powi(2)).sum::<f64>();
            count += row.terms.len();
        }
        (sum / count.max(1) as f64).sqrt().max(1e-9)
    })
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    /// Queries of 8 candidates, the first by cosine first; `use_of` says how much of a head's logit tells the right one.
    fn queries(use_of: [f32; 2]) -> Vec<Vec<Candidate>> {
        let mut rng = StdRng::seed_from_u64(5);
        let mut query = |_| {
            let right = rng.random_range(0..8);
            let mut candidates: Vec<Candidate> = (0..8)
                .map(|at| {
                    let is_right = at == right;
                    let noise = |rng: &mut StdRng| rng.random_range(-1.0..1.0_f32);
                    let head = |rng: &mut StdRng, used: f32| {
                        let logit = used * f32::from(u8::from(is_right)) + noise(rng);
                        1.0 / (1.0 + (-logit).exp())
                    };
                    let cosine = 0.1 * f32::from(u8::from(is_right)) + 0.1 * noise(&mut rng);
                    let (itm_text, itm_image) = (head(&mut rng, use_of[0]), head(&mut rng, use_of[1]));
                    Candidate { right: is_right, cosine, itm_text, itm_image }
                })
                .collect();
            candidates.sort_by(|a, b| b.cosine.total_cmp(&a.cosine));
            candidates
        };
        (0..600).map(&mut query).collect()
    }

    #[test]
    fn a_head_that_tells_gets_weight_and_one_at_chance_next_to_none() {
        let blend = fit(&queries([0.0, 2.0]), &["t".to_owned()], 8).unwrap();
        let fitted = blend.fitted.clone().unwrap();
        assert!(blend.image > 0.05 && blend.text < blend.image / 4.0, "{blend:?}");
        assert!(fitted.r1[1] > fitted.r1[0] + 0.2, "{fitted:?}");
        assert_eq!((fitted.queries, fitted.top_k, fitted.tasks), (600, 8, vec!["t".to_owned()]));
        let both = fit(&queries([2.0, 2.0]), &[], 8).unwrap();
        assert!(both.text > 0.05 && (both.text / both.image - 1.0).abs() < 0.5, "{both:?}");
    }

    #[test]
    fn heads_that_tell_nothing_or_the_opposite_get_none() {
        for use_of in [[0.0, 0.0], [-2.0, -2.0]] {
            let blend = fit(&queries(use_of), &[], 8).unwrap();
            assert!(blend.is_idle(), "{use_of:?}: {blend:?}");
        }
    }

    #[test]
    fn without_a_right_candidate_there_is_nothing_to_fit() {
        let mut queries = queries([1.0, 1.0]);
        queries.iter_mut().flatten().for_each(|candidate| candidate.right = false);
        assert!(fit(&queries, &[], 8).is_none() && fit(&[], &[], 8).is_none());
    }
}
