//! Results as JSON, as Markdown tables, and as the metrics of a manifest.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use astromech_towers::{Bundle, Towers};
use serde::{Deserialize, Serialize};

use super::{Classification, EvaluateError, HeadAuc, Recalls, SwapReport, mean_recall};

/// Results of one retrieval task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Name of the task.
    pub task: String,
    /// Texts.
    pub queries: usize,
    /// Pictures.
    pub gallery: usize,
    /// Texts asked, pictures ranked, by cosine: the dual tower alone.
    pub text_to_image: Recalls,
    /// Pictures asked, texts ranked, by cosine; none for a task asked by text alone.
    pub image_to_text: Option<Recalls>,
    /// Candidates that the second stage re-ranked; 0 when it was left out.
    pub top_k: usize,
    /// By match + cosine: the dual and the single tower.
    pub text_to_image_reranked: Option<Recalls>,
    /// By match + cosine.
    pub image_to_text_reranked: Option<Recalls>,
    /// Without learning: nearest training picture of the text's concept, in pixels.
    pub floor_text_to_image: Option<Recalls>,
    /// How well each head of the single tower tells the right pictures among a text's re-ranked ones.
    #[serde(default)]
    pub text_to_image_heads: Option<HeadAuc>,
    /// How well each head tells the right texts among a picture's re-ranked ones.
    #[serde(default)]
    pub image_to_text_heads: Option<HeadAuc>,
    /// What a reader of the figures has to know: a gallery smaller than `top_k`, rows left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl TaskReport {
    /// R@M of the dual tower alone.
    pub fn mean_recall(&self) -> f64 {
        mean_recall(&self.text_to_image, self.image_to_text.as_ref())
    }

    /// R@M after re-ranking.
    pub fn mean_recall_reranked(&self) -> Option<f64> {
        Some(mean_recall(&self.text_to_image_reranked?, self.image_to_text_reranked.as_ref()))
    }

    /// (direction for people, in metrics, figures) of the heads.
    pub fn heads(&self) -> impl Iterator<Item = (&'static str, &'static str, HeadAuc)> {
        let both = [("text → image", "t2i", self.text_to_image_heads), ("image → text", "i2t", self.image_to_text_heads)];
        both.into_iter().filter_map(|(name, metric, heads)| Some((name, metric, heads?)))
    }

    fn row(&self, score: &str, recalls: [Option<&Recalls>; 2], mean: Option<f64>) -> String {
        let mut row = format!("| {} | {} / {} | {score} |", self.task, self.queries, self.gallery);
        for recalls in recalls {
            let values = recalls.map(|r| [r.r1, r.r5, r.r10, r.mrr]);
            for index in 0..4 {
                row += &cell(values.map(|values| values[index]));
            }
        }
        row + &cell(mean)
    }

    fn rows(&self) -> Vec<String> {
        let dual = [Some(&self.text_to_image), self.image_to_text.as_ref()];
        let mut rows = vec![self.row("dual tower", dual, Some(self.mean_recall()))];
        if let Some(reranked) = &self.text_to_image_reranked {
            let name = format!("dual + single tower, {} re-ranked", self.top_k);
            let both = [Some(reranked), self.image_to_text_reranked.as_ref()];
            rows.push(self.row(&name, both, self.mean_recall_reranked()));
        }
        if let Some(floor) = &self.floor_text_to_image {
            rows.push(self.row("pixel floor", [Some(floor), None], None));
        }
        rows
    }
}

/// Results of one matching task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatchReport {
    /// Name of the task.
    pub task: String,
    /// Pairs.
    pub pairs: usize,
    /// Of them, those that match.
    pub matching: usize,
    /// Pictures.
    pub pictures: usize,
    /// By the cosine of the dual tower alone.
    pub cosine: Classification,
    /// By the match probability of the single tower, the mean of both heads, without the cosine (docs/R2D2.md §4.2); none when it was left
    /// out.
    pub matched: Option<Classification>,
    /// By the probability of the text-image cross encoder's head alone.
    #[serde(default)]
    pub itm_text: Option<Classification>,
    /// By the probability of the image-text cross encoder's head alone.
    #[serde(default)]
    pub itm_image: Option<Classification>,
    /// Rows left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl MatchReport {
    /// (name for people, name in metrics, figures) of each score.
    fn scores(&self) -> impl Iterator<Item = (&'static str, &'static str, &Classification)> {
        let single = [
            ("single tower, probability", "match", &self.matched),
            ("its head itm_text", "itm_text", &self.itm_text),
            ("its head itm_image", "itm_image", &self.itm_image),
        ];
        let single = single.into_iter().filter_map(|(name, metric, figures)| Some((name, metric, figures.as_ref()?)));
        std::iter::once(("dual tower, cosine", "cosine", &self.cosine)).chain(single)
    }
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
    /// Retrieval tasks, in the order asked.
    pub tasks: Vec<TaskReport>,
    /// Matching tasks, in the order asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matching: Vec<MatchReport>,
    /// Swap tasks, in the order asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub swaps: Vec<SwapReport>,
}

fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| " |".to_owned(), |value| format!(" {value:.3} |"))
}

const RETRIEVAL_HEAD: &str = "| task | texts / pictures | score | text → image R@1 | R@5 | R@10 | MRR | image → text R@1 | R@5 | R@10 \
     | MRR | R@M |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n";
const HEADS_HEAD: &str =
    "| task | among the re-ranked, queries | AUC of the cosine | itm_text | itm_image |\n|---|---|---|---|---|\n";
const MATCHING_HEAD: &str = "| task | pairs, matching / all | score | AUC | average precision | accuracy at .5 | recall at .5 \
     | best accuracy | at |\n|---|---|---|---|---|---|---|---|---|\n";
const SWAPS_HEAD: &str = "| task | kind | pairs | score | text (chance .250) | image (.250) | group (.167) |\n\
     |---|---|---|---|---|---|---|\n";

impl Report {
    /// A report without results: of which bundle, and how its towers run.
    pub fn of(bundle: &Bundle, towers: &Towers) -> Self {
        Self {
            bundle: bundle.manifest.name.clone(),
            fingerprint: bundle.manifest.fingerprint.to_string(),
            precision: towers.precision().as_str().to_owned(),
            provider: towers.provider_in_use().to_owned(),
            tasks: Vec::new(),
            matching: Vec::new(),
            swaps: Vec::new(),
        }
    }

    /// Reads the JSON that `trainer evaluate --out` wrote.
    ///
    /// # Errors
    /// The file can't be read or is no report.
    pub fn read(path: &Path) -> Result<Self, EvaluateError> {
        let fail = |message: String| EvaluateError::File { path: path.to_path_buf(), message };
        let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| fail(format!("{error}; give a result of `trainer evaluate --out`")))
    }

    /// Tables for people.
    pub fn to_markdown(&self) -> String {
        let fingerprint = self.fingerprint.get(..12).unwrap_or(&self.fingerprint);
        let mut text = format!("{} `{fingerprint}`, {} on {}\n", self.bundle, self.precision, self.provider);
        // Writing to a String can't fail.
        if !self.tasks.is_empty() {
            let _ = write!(text, "\n{RETRIEVAL_HEAD}");
            for row in self.tasks.iter().flat_map(TaskReport::rows) {
                let _ = writeln!(text, "{row}");
            }
        }
        if self.tasks.iter().any(|task| task.heads().next().is_some()) {
            let _ = write!(text, "\n{HEADS_HEAD}");
        }
        for task in &self.tasks {
            for (direction, _, heads) in task.heads() {
                let HeadAuc { cosine, itm_text, itm_image, queries } = heads;
                let _ =
                    writeln!(text, "| {} | {direction}, {queries} | {cosine:.3} | {itm_text:.3} | {itm_image:.3} |", task.task);
            }
        }
        if !self.matching.is_empty() {
            let _ = write!(text, "\n{MATCHING_HEAD}");
        }
        for task in &self.matching {
            for (name, _, f) in task.scores() {
                let _ = writeln!(
                    text,
                    "| {} | {} / {} | {name} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} |",
                    task.task,
                    task.matching,
                    task.pairs,
                    f.auc,
                    f.average_precision,
                    f.accuracy,
                    f.recall,
                    f.best_accuracy,
                    f.best_threshold
                );
            }
        }
        if !self.swaps.is_empty() {
            let _ = write!(text, "\n{SWAPS_HEAD}");
        }
        for row in self.swaps.iter().flat_map(SwapReport::lines) {
            let _ = writeln!(text, "{row}");
        }
        let retrieval = self.tasks.iter().map(|task| (&task.task, &task.notes));
        for (task, notes) in retrieval.chain(self.matching.iter().map(|task| (&task.task, &task.notes))) {
            for note in notes {
                let _ = write!(text, "\n{task}: {note}.\n");
            }
        }
        text
    }

    /// Names and values for the manifest, for example `test_unseen_render.emoji.long.t2i.r1`, `….r_mean_reranked`, `….match.auc`.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::new();
        for task in &self.tasks {
            let scores = [
                ("t2i", Some(task.text_to_image)),
                ("i2t", task.image_to_text),
                ("t2i_reranked", task.text_to_image_reranked),
                ("i2t_reranked", task.image_to_text_reranked),
                ("t2i_pixel_floor", task.floor_text_to_image),
            ];
            for (score, recalls) in scores {
                let Some(r) = recalls else { continue };
                for (at, value) in [("r1", r.r1), ("r5", r.r5), ("r10", r.r10), ("mrr", r.mrr)] {
                    metrics.insert(format!("{}.{score}.{at}", task.task), value);
                }
            }
            for (_, direction, heads) in task.heads() {
                for (head, auc) in [("itm_text", heads.itm_text), ("itm_image", heads.itm_image)] {
                    metrics.insert(format!("{}.{direction}.{head}_auc", task.task), auc);
                }
            }
            metrics.insert(format!("{}.r_mean", task.task), task.mean_recall());
            if let Some(mean) = task.mean_recall_reranked() {
                metrics.insert(format!("{}.r_mean_reranked", task.task), mean);
            }
        }
        for task in &self.matching {
            for (_, score, f) in task.scores() {
                let figures = [
                    ("auc", f.auc),
                    ("average_precision", f.average_precision),
                    ("accuracy", f.accuracy),
                    ("recall", f.recall),
                    ("best_accuracy", f.best_accuracy),
                ];
                for (figure, value) in figures {
                    metrics.insert(format!("{}.{score}.{figure}", task.task), value);
                }
            }
        }
        metrics.extend(self.swaps.iter().flat_map(SwapReport::metrics));
        metrics
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
pub(super) mod tests {
    use super::*;
    use crate::evaluate::{SwapFigures, SwapRow};

    pub(in crate::evaluate) fn report() -> Report {
        let recalls = Recalls { r1: 0.25, r5: 0.5, r10: 0.75, mrr: 0.4 };
        let figures = Classification {
            auc: 0.9,
            average_precision: 0.8,
            accuracy: 0.7,
            recall: 0.6,
            best_accuracy: 0.75,
            best_threshold: 0.3,
        };
        Report {
            bundle: "demo".into(),
            fingerprint: "0123456789abcdef".into(),
            precision: "int8".into(),
            provider: "cpu".into(),
            tasks: vec![TaskReport {
                task: "test.emoji.long".into(),
                queries: 4,
                gallery: 5,
                text_to_image: recalls,
                image_to_text: Some(Recalls { r1: 0.0, r5: 0.25, r10: 1.0, mrr: 0.1 }),
                top_k: 16,
                text_to_image_reranked: Some(recalls),
                image_to_text_reranked: None,
                floor_text_to_image: None,
                text_to_image_heads: Some(HeadAuc { cosine: 0.9, itm_text: 0.5, itm_image: 0.8, queries: 3 }),
                image_to_text_heads: None,
                notes: vec!["it is small".into()],
            }],
            matching: vec![MatchReport {
                task: "test.emoji.match".into(),
                pairs: 10,
                matching: 5,
                pictures: 5,
                cosine: figures,
                matched: Some(Classification { auc: 0.95, ..figures }),
                itm_text: Some(Classification { auc: 0.55, ..figures }),
                itm_image: None,
                notes: Vec::new(),
            }],
            swaps: vec![SwapReport {
                task: "test.scenes.swap".into(),
                rows: vec![SwapRow {
                    kind: "relation".into(),
                    pairs: 7,
                    score: "itm_text".into(),
                    figures: SwapFigures { text: 0.5, image: 0.25, group: 0.125 },
                }],
            }],
        }
    }

    #[test]
    fn every_score_has_its_row_and_its_metric() {
        let report = report();
        let text = report.to_markdown();
        let row =
            "| test.emoji.long | 4 / 5 | dual tower | 0.250 | 0.500 | 0.750 | 0.400 | 0.000 | 0.250 | 1.000 | 0.100 | 0.458 |";
        assert!(text.contains(row), "{text}");
        let row = "| dual + single tower, 16 re-ranked | 0.250 | 0.500 | 0.750 | 0.400 | | | | | 0.500 |";
        assert!(text.contains(row), "{text}");
        let row = "| test.emoji.match | 5 / 10 | single tower, probability | 0.950 | 0.800 | 0.700 | 0.600 | 0.750 | 0.300 |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("test.emoji.long: it is small."), "{text}");
        let metrics = report.metrics();
        assert_eq!(metrics.len(), 3 * 4 + 2 + 2 + 3 * 5 + 3);
        assert!((metrics["test.scenes.swap.relation.itm_text.group"] - 0.125).abs() < 1e-9);
        assert!(text.contains("| test.scenes.swap | relation | 7 | itm_text | 0.500 | 0.250 | 0.125 |"), "{text}");
        assert!((metrics["test.emoji.long.t2i.itm_text_auc"] - 0.5).abs() < 1e-9);
        assert!(text.contains("| test.emoji.long | text → image, 3 | 0.900 | 0.500 | 0.800 |"), "{text}");
        assert!((metrics["test.emoji.long.t2i_reranked.r10"] - 0.75).abs() < 1e-9);
        assert!((metrics["test.emoji.long.r_mean"] - 2.75 / 6.0).abs() < 1e-9);
        assert!((metrics["test.emoji.match.match.auc"] - 0.95).abs() < 1e-9);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }

    #[test]
    fn every_row_of_a_table_has_the_cells_of_its_head() {
        let text = report().to_markdown();
        let cells: Vec<usize> = text.lines().filter(|line| line.starts_with('|')).map(|line| line.matches('|').count()).collect();
        assert_eq!(cells, [13, 13, 13, 13, 6, 6, 6, 10, 10, 10, 10, 10, 8, 8, 8]);
    }

    #[test]
    fn results_of_earlier_versions_are_read() {
        let old = r#"{"bundle":"a","fingerprint":"b","precision":"f32","provider":"cpu","tasks":[{"task":"t","queries":1,"gallery":1,
            "text_to_image":{"r1":1.0,"r5":1.0,"r10":1.0},"image_to_text":{"r1":1.0,"r5":1.0,"r10":1.0},"top_k":0,
            "text_to_image_reranked":null,"image_to_text_reranked":null,"floor_text_to_image":null}]}"#;
        let report: Report = serde_json::from_str(old).unwrap();
        assert!((report.tasks[0].mean_recall() - 1.0).abs() < 1e-12);
    }
}
