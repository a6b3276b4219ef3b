//! Results as JSON, as a Markdown table, and as the metrics of a manifest.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::Recalls;

/// Results of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Name of the task.
    pub task: String,
    /// Texts.
    pub queries: usize,
    /// Pictures.
    pub gallery: usize,
    /// Texts asked, pictures ranked, by cosine.
    pub text_to_image: Recalls,
    /// Pictures asked, texts ranked, by cosine.
    pub image_to_text: Recalls,
    /// Candidates that the second stage re-ranked; 0 when it was left out.
    pub top_k: usize,
    /// By match + cosine.
    pub text_to_image_reranked: Option<Recalls>,
    /// By match + cosine.
    pub image_to_text_reranked: Option<Recalls>,
    /// Without learning: nearest training picture of the text's concept, in pixels.
    pub floor_text_to_image: Option<Recalls>,
}

/// Results of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the bundle.
    pub bundle: String,
    /// Its fingerprint.
    pub fingerprint: String,
    /// Precision of the graphs that were measured.
    pub precision: String,
    /// Where they ran.
    pub provider: String,
    /// Tasks, in the order asked.
    pub tasks: Vec<TaskReport>,
}

impl Report {
    /// A table for people.
    pub fn to_markdown(&self) -> String {
        let mut text = format!(
            "{} `{}`, {} on {}\n\n| task | texts / pictures | score | R@1 | R@5 | R@10 |\n|---|---|---|---|---|---|\n",
            self.bundle,
            self.fingerprint.get(..12).unwrap_or(&self.fingerprint),
            self.precision,
            self.provider
        );
        for task in &self.tasks {
            let rows = [
                ("text → image, cosine".to_owned(), Some(task.text_to_image)),
                (format!("text → image, re-ranked {}", task.top_k), task.text_to_image_reranked),
                ("text → image, pixel floor".to_owned(), task.floor_text_to_image),
                ("image → text, cosine".to_owned(), Some(task.image_to_text)),
                (format!("image → text, re-ranked {}", task.top_k), task.image_to_text_reranked),
            ];
            for (score, recalls) in rows {
                let Some(r) = recalls else { continue };
                // Writing to a String can't fail.
                let _ = writeln!(
                    text,
                    "| {} | {} / {} | {score} | {:.3} | {:.3} | {:.3} |",
                    task.task, task.queries, task.gallery, r.r1, r.r5, r.r10
                );
            }
        }
        text
    }

    /// Names and values for the manifest, for example `test_unseen_render.emoji.long.t2i.r1`.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::new();
        for task in &self.tasks {
            let scores = [
                ("t2i", Some(task.text_to_image)),
                ("i2t", Some(task.image_to_text)),
                ("t2i_reranked", task.text_to_image_reranked),
                ("i2t_reranked", task.image_to_text_reranked),
                ("t2i_pixel_floor", task.floor_text_to_image),
            ];
            for (score, recalls) in scores {
                let Some(r) = recalls else { continue };
                for (at, value) in [("r1", r.r1), ("r5", r.r5), ("r10", r.r10)] {
                    metrics.insert(format!("{}.{score}.{at}", task.task), value);
                }
            }
        }
        metrics
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn every_score_has_its_row_and_its_metric() {
        let recalls = Recalls { r1: 0.25, r5: 0.5, r10: 0.75 };
        let report = Report {
            bundle: "demo".into(),
            fingerprint: "0123456789abcdef".into(),
            precision: "int8".into(),
            provider: "cpu".into(),
            tasks: vec![TaskReport {
                task: "test.emoji.long".into(),
                queries: 4,
                gallery: 5,
                text_to_image: recalls,
                image_to_text: recalls,
                top_k: 16,
                text_to_image_reranked: Some(recalls),
                image_to_text_reranked: None,
                floor_text_to_image: None,
            }],
        };
        let text = report.to_markdown();
        assert!(text.contains("| test.emoji.long | 4 / 5 | text → image, re-ranked 16 | 0.250 | 0.500 | 0.750 |"), "{text}");
        assert_eq!(text.lines().count(), 7);
        let metrics = report.metrics();
        assert_eq!(metrics.len(), 9);
        assert!((metrics["test.emoji.long.t2i_reranked.r10"] - 0.75).abs() < 1e-9);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
