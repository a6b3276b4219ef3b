//! The comparison as bars.

use std::path::Path;

use plotters::prelude::*;

use super::Summary;

/// Part of an arm's place that its bar fills.
const BAR: f64 = 0.36;

/// Draws text-to-image R@1 of every arm, one panel a task, with the spread over seeds; a second bar where the arm re-ranks.
///
/// # Errors
/// The file can't be written.
pub fn draw(target: &Path, summaries: &[Summary]) -> Result<(), String> {
    draw_panels(target, summaries).map_err(|error| format!("{}: {error}", target.display()))
}

fn draw_panels(target: &Path, summaries: &[Summary]) -> Result<(), Box<dyn std::error::Error>> {
    let mut tasks: Vec<&str> = summaries.iter().map(|row| row.task.as_str()).collect();
    tasks.dedup();
    let root = SVGBackend::new(target, (900, 320 * tasks.len().max(1) as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, task) in root.split_evenly((tasks.len().max(1), 1)).iter().zip(&tasks) {
        let rows: Vec<&Summary> = summaries.iter().filter(|row| row.task == *task).collect();
        let highest = rows
            .iter()
            .flat_map(|row| [Some(row.text_to_image[0]), row.reranked.map(|values| values[0])])
            .flatten()
            .map(|spread| spread.mean + spread.deviation)
            .fold(0.01, f64::max);
        let mut chart = ChartBuilder::on(area)
            .caption(format!("{task}: text to image R@1"), ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(50)
            .build_cartesian_2d(-0.5..rows.len() as f64 - 0.5, 0.0..highest * 1.1)?;
        let names: Vec<String> = rows.iter().map(|row| row.arm.clone()).collect();
        let label = |x: &f64| {
            let near = x.round();
            let whole = (x - near).abs() < 1e-6 && near >= 0.0;
            if whole { names.get(near as usize).cloned().unwrap_or_default() } else { String::new() }
        };
        chart.configure_mesh().disable_x_mesh().x_labels(rows.len() * 2 + 1).x_label_formatter(&label).draw()?;
        for (index, row) in rows.iter().enumerate() {
            let bars = [(Some(row.text_to_image[0]), 0, -BAR), (row.reranked.map(|values| values[0]), 1, 0.0)];
            for (spread, colour, left) in bars {
                let Some(spread) = spread else { continue };
                let from = index as f64 + left;
                let colour = Palette99::pick(colour).to_rgba();
                let bar = Rectangle::new([(from, 0.0), (from + BAR, spread.mean)], colour.filled());
                let middle = from + BAR / 2.0;
                let (low, high) = (spread.mean - spread.deviation, spread.mean + spread.deviation);
                chart.draw_series([bar])?;
                chart.draw_series([PathElement::new(vec![(middle, low.max(0.0)), (middle, high)], BLACK)])?;
            }
        }
    }
    root.present()?;
    Ok(())
}
