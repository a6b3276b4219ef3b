//! Bars of one or several reports, as one SVG.

use std::path::Path;

use plotters::prelude::*;

use super::{Classification, EvaluateError, Recalls, Report, TaskReport};

const PANEL_PX: (u32, u32) = (1100, 340);
/// Part of a group's width that its bars fill.
const GROUP_FILL: f64 = 0.8;
const RETRIEVAL_GROUPS: [&str; 7] = ["text → image R@1", "R@5", "R@10", "image → text R@1", "R@5", "R@10", "R@M"];
const MATCHING_GROUPS: [&str; 5] = ["AUC", "average precision", "accuracy at .5", "recall at .5", "best accuracy"];

/// One task: groups of bars along the x axis, one bar a series.
struct Panel {
    task: String,
    groups: &'static [&'static str],
    /// Name and one value a group; `None` draws no bar.
    series: Vec<(String, Vec<Option<f64>>)>,
}

/// Draws every task of the reports, dual beside re-ranked and report beside report.
///
/// # Errors
/// There is nothing to draw, or the file can't be written.
pub fn draw_reports(reports: &[Report], target: &Path) -> Result<(), EvaluateError> {
    let fail = |message: String| EvaluateError::File { path: target.to_path_buf(), message };
    let panels = panels(reports);
    if panels.is_empty() {
        return Err(fail("the reports hold no task to draw".to_owned()));
    }
    draw(&panels, target).map_err(|error| fail(error.to_string()))
}

/// Tasks in the order of the reports, each once.
fn panels(reports: &[Report]) -> Vec<Panel> {
    let mut panels: Vec<Panel> = Vec::new();
    for report in reports {
        let prefix = if reports.len() > 1 {
            format!("{} {}: ", report.bundle, report.fingerprint.get(..8).unwrap_or_default())
        } else {
            String::new()
        };
        let mut add = |task: &str, groups: &'static [&'static str], score: String, values: Vec<Option<f64>>| {
            let series = (format!("{prefix}{score}"), values);
            match panels.iter_mut().find(|panel| panel.task == task && panel.groups == groups) {
                Some(panel) => panel.series.push(series),
                None => panels.push(Panel { task: task.to_owned(), groups, series: vec![series] }),
            }
        };
        for task in &report.tasks {
            let dual = recall_bars(Some(&task.text_to_image), task.image_to_text.as_ref(), Some(task.mean_recall()));
            add(&task.task, &RETRIEVAL_GROUPS, "dual tower".to_owned(), dual);
            if task.text_to_image_reranked.is_some() {
                add(&task.task, &RETRIEVAL_GROUPS, format!("+ single tower, top {}", task.top_k), reranked_bars(task));
            }
        }
        for task in &report.matching {
            add(&task.task, &MATCHING_GROUPS, "cosine".to_owned(), class_bars(&task.cosine));
            if let Some(matched) = &task.matched {
                add(&task.task, &MATCHING_GROUPS, "single tower".to_owned(), class_bars(matched));
            }
        }
    }
    panels
}

fn recall_bars(text_to_image: Option<&Recalls>, image_to_text: Option<&Recalls>, mean: Option<f64>) -> Vec<Option<f64>> {
    let three = |recalls: Option<&Recalls>| [0, 1, 2].map(|index| recalls.map(|recalls| recalls.at()[index]));
    three(text_to_image).into_iter().chain(three(image_to_text)).chain([mean]).collect()
}

fn reranked_bars(task: &TaskReport) -> Vec<Option<f64>> {
    let (text_to_image, image_to_text) = (task.text_to_image_reranked.as_ref(), task.image_to_text_reranked.as_ref());
    recall_bars(text_to_image, image_to_text, task.mean_recall_reranked())
}

fn class_bars(f: &Classification) -> Vec<Option<f64>> {
    [f.auc, f.average_precision, f.accuracy, f.recall, f.best_accuracy].map(Some).into()
}

fn draw(panels: &[Panel], target: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let size = (PANEL_PX.0, PANEL_PX.1 * panels.len() as u32);
    let root = SVGBackend::new(target, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((panels.len(), 1)).iter().zip(panels) {
        let groups = panel.groups;
        let mut chart = ChartBuilder::on(area)
            .caption(&panel.task, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(45)
            .build_cartesian_2d(0.0..groups.len() as f64, 0.0..1.0)?;
        // Labels stand at whole numbers, which are the left edges of the groups.
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(groups.len() + 1)
            .x_label_offset(PANEL_PX.0 as i32 / (2 * groups.len() as i32 + 1))
            .x_label_formatter(&|at| groups.get(at.round() as usize).map_or_else(String::new, |&name| name.to_owned()))
            .draw()?;
        let width = GROUP_FILL / panel.series.len() as f64;
        for (index, (name, values)) in panel.series.iter().enumerate() {
            let colour = Palette99::pick(index).to_rgba();
            let bars = values.iter().enumerate().filter_map(|(group, value)| {
                let left = group as f64 + (1.0 - GROUP_FILL) / 2.0 + index as f64 * width;
                Some(Rectangle::new([(left, 0.0), (left + width, (*value)?)], colour.filled()))
            });
            chart
                .draw_series(bars)?
                .label(name.as_str())
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], colour.filled()));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn every_task_is_drawn_once_with_the_bars_of_all_reports() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("bars.svg");
        let (first, mut second) = (report(), report());
        second.bundle = "other".into();
        let drawn = panels(&[first.clone(), second.clone()]);
        assert_eq!(drawn.iter().map(|panel| (panel.groups.len(), panel.series.len())).collect::<Vec<_>>(), [(7, 4), (5, 4)]);
        draw_reports(&[first, second], &target).unwrap();
        let svg = std::fs::read_to_string(&target).unwrap();
        for text in ["test.emoji.long", "test.emoji.match", "other 01234567: + single tower, top 16", "R@10", "AUC"] {
            assert!(svg.contains(text), "{text}");
        }
        // Seven bars a report's dual towers, four of six after re-ranking, five for each score of matching.
        let bars = svg.matches("<rect").count();
        assert!(bars >= 2 * (7 + 4 + 5 + 5), "{bars}");
    }

    #[test]
    fn reports_without_tasks_are_refused() {
        let mut empty = report();
        empty.tasks.clear();
        empty.matching.clear();
        let error = draw_reports(&[empty], Path::new("x.svg")).unwrap_err().to_string();
        assert!(error.contains("no task to draw"), "{error}");
    }
}
