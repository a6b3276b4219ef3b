//! Curves of a run as one SVG, drawn from its metrics.

use std::path::Path;

use plotters::prelude::*;

/// One line of a chart.
type Series = (String, Vec<(f64, f64)>);

/// Reads `metrics.jsonl` and draws loss, learning rate, temperature and recall into `curves.svg` beside it.
///
/// # Errors
/// The metrics cannot be read or the drawing cannot be written.
pub fn draw_curves(metrics: &Path, target: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(metrics).map_err(|error| format!("{}: {error}", metrics.display()))?;
    let rows: Vec<serde_json::Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |field: &str| -> Vec<(f64, f64)> {
        rows.iter().filter_map(|row| Some((row.get("step")?.as_f64()?, row.get(field)?.as_f64()?))).collect()
    };
    let mut recall: Vec<Series> = Vec::new();
    for row in &rows {
        let (Some(step), Some(tasks)) = (row["step"].as_f64(), row.get("recall").and_then(|value| value.as_array())) else {
            continue;
        };
        for task in tasks {
            let name = task["task"].as_str().unwrap_or("task").to_owned();
            let Some(value) = task["text_to_image"][0].as_f64() else { continue };
            match recall.iter_mut().find(|series| series.0 == name) {
                Some(series) => series.1.push((step, value)),
                None => recall.push((name, vec![(step, value)])),
            }
        }
    }
    let named = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), of(name))).collect();
    let charts: Vec<(&str, Vec<Series>)> = vec![
        ("loss", named(&["loss", "gcpr", "fgr", "mlm", "distil"])),
        ("matching loss of each head (ln 2 is chance)", named(&["fgr_text", "fgr_image"])),
        (
            "AUC of each head and direction in training (0.5 is chance)",
            named(&[
                "itm_text_auc_text_to_image",
                "itm_text_auc_image_to_text",
                "itm_image_auc_text_to_image",
                "itm_image_auc_image_to_text",
            ]),
        ),
        ("recall at 1, text to image", recall),
        ("learning rate", named(&["lr", "cross_lr"])),
        ("temperature", vec![("temperature".into(), of("temperature"))]),
    ];
    draw(target, &charts).map_err(|error| format!("{}: {error}", target.display()))
}

fn draw(target: &Path, charts: &[(&str, Vec<Series>)]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(target, (1200, 1200)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, (title, series)) in root.split_evenly((3, 2)).iter().zip(charts) {
        let points = || series.iter().flat_map(|(_, points)| points.iter());
        let x_max = points().map(|point| point.0).fold(1.0, f64::max);
        let (low, high) = points().fold((f64::MAX, f64::MIN), |(low, high), point| (low.min(point.1), high.max(point.1)));
        if low > high {
            continue;
        }
        let margin = ((high - low) * 0.05).max(1e-9);
        let mut chart = ChartBuilder::on(area)
            .caption(*title, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..x_max, low - margin..high + margin)?;
        chart.configure_mesh().x_desc("step").draw()?;
        for (index, (name, points)) in series.iter().enumerate().filter(|(_, (_, points))| !points.is_empty()) {
            let colour = Palette99::pick(index).to_rgba();
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
                .label(name.as_str())
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour));
        }
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    }
    root.present()?;
    Ok(())
}
