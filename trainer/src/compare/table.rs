//! Means and spreads, as a Markdown table.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Arm, RunResult};
use crate::train::Recall;

/// A quantity over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation; 0 with one seed.
    pub deviation: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count.max(1.0);
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        Self { mean, deviation }
    }
}

/// One arm on one task, over its seeds. Recalls are 0..1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Task.
    pub task: String,
    /// Arm.
    pub arm: String,
    /// Seeds measured.
    pub seeds: usize,
    /// Steps made within the budget.
    pub steps: Spread,
    /// Text to image at 1, 5, 10.
    pub text_to_image: [Spread; 3],
    /// Image to text at 1, 5, 10.
    pub image_to_text: [Spread; 3],
    /// Mean of the six recalls.
    pub mean_recall: Spread,
    /// Text to image with the second stage, where the arm has one.
    pub reranked: Option<[Spread; 3]>,
    /// Mean of the six recalls with the second stage.
    pub mean_recall_reranked: Option<Spread>,
}

/// Summaries by task, then in the order of the arms; arms without a result are left out.
pub fn summarise(arms: &[Arm], tasks: &[String], results: &[RunResult]) -> Vec<Summary> {
    let mut rows = Vec::new();
    for task in tasks {
        for arm in arms {
            let runs: Vec<(&RunResult, &Recall)> = results
                .iter()
                .filter(|result| result.arm == arm.name)
                .filter_map(|result| Some((result, result.recall.iter().find(|recall| &recall.task == task)?)))
                .collect();
            if runs.is_empty() {
                continue;
            }
            let over = |value: &dyn Fn(&Recall) -> f64| Spread::of(&runs.iter().map(|run| value(run.1)).collect::<Vec<_>>());
            let six = |sides: [[f64; 3]; 2]| sides.iter().flatten().sum::<f64>() / 6.0;
            let second = |recall: &Recall| Some([recall.text_to_image_reranked?, recall.image_to_text_reranked?]);
            let reranked = runs.iter().all(|run| second(run.1).is_some());
            rows.push(Summary {
                task: task.clone(),
                arm: arm.name.clone(),
                seeds: runs.len(),
                steps: Spread::of(&runs.iter().map(|run| run.0.steps as f64).collect::<Vec<_>>()),
                text_to_image: [0, 1, 2].map(|at| over(&|recall| recall.text_to_image[at])),
                image_to_text: [0, 1, 2].map(|at| over(&|recall| recall.image_to_text[at])),
                mean_recall: over(&|recall| six([recall.text_to_image, recall.image_to_text])),
                reranked: reranked.then(|| {
                    [0, 1, 2].map(|at| over(&|recall| recall.text_to_image_reranked.map_or(f64::NAN, |values| values[at])))
                }),
                mean_recall_reranked: reranked.then(|| over(&|recall| second(recall).map_or(f64::NAN, six))),
            });
        }
    }
    rows
}

/// The table, one part a task; recalls in percent, mean ± sample standard deviation over seeds.
pub fn markdown(arms: &[Arm], summaries: &[Summary]) -> String {
    let percent = |spread: Spread| format!("{:.1} ± {:.1}", spread.mean * 100.0, spread.deviation * 100.0);
    let mut text = String::new();
    let mut task = "";
    // Writing to a String can't fail.
    for row in summaries {
        if row.task != task {
            task = &row.task;
            let _ = writeln!(text, "\n**{task}**\n");
            let _ = writeln!(
                text,
                "| objective | seeds | steps | t→i R@1 | R@5 | R@10 | i→t R@1 | mean recall | re-ranked t→i R@1 | re-ranked mean recall |"
            );
            let _ = writeln!(text, "|---|---|---|---|---|---|---|---|---|---|");
        }
        let [t1, t5, t10] = row.text_to_image.map(percent);
        let or_dash = |spread: Option<Spread>| spread.map_or_else(|| "–".to_owned(), percent);
        let reranked = or_dash(row.reranked.map(|values| values[0]));
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {t1} | {t5} | {t10} | {} | {} | {reranked} | {} |",
            row.arm,
            row.seeds,
            row.steps.mean,
            percent(row.image_to_text[0]),
            percent(row.mean_recall),
            or_dash(row.mean_recall_reranked)
        );
    }
    let _ = writeln!(text);
    for arm in arms {
        let _ = writeln!(text, "- **{}**: {}", arm.name, arm.about);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(arm: &str, seed: u64, r1: f64) -> RunResult {
        let recall = Recall {
            task: "t".into(),
            queries: 10,
            gallery: 10,
            text_to_image: [r1, 0.5, 0.6],
            image_to_text: [0.1, 0.2, 0.3],
            text_to_image_reranked: (arm == "R2D2").then_some([r1 + 0.1, 0.5, 0.6]),
            image_to_text_reranked: (arm == "R2D2").then_some([0.2, 0.2, 0.3]),
        };
        RunResult { arm: arm.into(), seed, steps: 100, seconds: 1.0, overrides: Vec::new(), recall: vec![recall] }
    }

    #[test]
    fn a_row_is_the_mean_and_spread_over_seeds() {
        let arm = |name: &str| Arm { name: name.into(), about: "about".into(), set: Vec::new(), rerank: false };
        let arms = [arm("CLIP"), arm("R2D2"), arm("absent")];
        let results = [result("CLIP", 1, 0.2), result("CLIP", 2, 0.4), result("R2D2", 1, 0.3)];
        let rows = summarise(&arms, &["t".to_owned()], &results);
        assert_eq!(rows.len(), 2);
        assert!((rows[0].text_to_image[0].mean - 0.3).abs() < 1e-9);
        assert!((rows[0].text_to_image[0].deviation - 0.02f64.sqrt()).abs() < 1e-9);
        assert!((rows[0].mean_recall.mean - (0.3 + 0.5 + 0.6 + 0.1 + 0.2 + 0.3) / 6.0).abs() < 1e-9);
        assert!(rows[0].reranked.is_none() && rows[1].reranked.is_some());
        let text = markdown(&arms, &rows);
        assert!(text.contains("| CLIP | 2 | 100 | 30.0 ± 14.1 |"), "{text}");
        assert!(text.contains("| R2D2 | 1 | 100 | 30.0 ± 0.0 |") && text.contains("| 40.0 ± 0.0 | 36.7 ± 0.0 |"), "{text}");
    }
}
