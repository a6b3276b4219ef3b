//! MODEL_CARD.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use astromech_schemas::manifest::{Manifest, Precision, Similarity};
use astromech_settings::kinds::{int, text};
use astromech_settings::settings;

use crate::export::verify::Measured;

settings! {
    /// What the card says that no file holds.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct CardFacts {
        /// What it was trained on, for people.
        data: String = "" => text();
        /// Pairs in the training set.
        pairs: u64 = 0 => int(0, u64::MAX);
        /// Optimiser steps; 0 takes those of the run's metrics.
        steps: u64 = 0 => int(0, u64::MAX);
        /// Licence of the weights, an SPDX expression.
        licence: String = "" => text();
        /// Licences of the training data, and where the attributions are.
        data_licences: String = "" => text();
        /// How to make the bundle again: the commands.
        repeat: String = "" => text();
        /// Anything else, Markdown.
        notes: String = "" => text();
    }
}

/// What the release measured on itself.
#[derive(Debug, Clone, Default)]
pub struct ModelFacts {
    /// Largest difference of the f32 graphs from LibTorch.
    pub torch_difference: Option<f64>,
    /// Per precision, against f32 on the golden samples.
    pub measured: Vec<(Precision, Measured)>,
}

/// Renders the card.
pub(super) fn model_card(manifest: &Manifest, facts: &CardFacts, model: &ModelFacts) -> String {
    let mut card = format!("# {}\n\n", manifest.name);
    let mut line = |text: std::fmt::Arguments<'_>| {
        // Writing to a String can't fail.
        let _ = card.write_fmt(text);
    };
    let a = &manifest.architecture;
    line(format_args!(
        "An R2D2 model (image, text and cross towers) for Chinese text and pictures, released by astromech-trainer as ONNX graphs.\n\n"
    ));
    line(format_args!("| | |\n|---|---|\n"));
    line(format_args!("| fingerprint | `{}` |\n", manifest.fingerprint));
    if let Some(parent) = &manifest.parent {
        line(format_args!("| trained from | `{parent}` |\n"));
    }
    let licence = if facts.licence.is_empty() { "not stated" } else { &facts.licence };
    line(format_args!("| licence of the weights | {licence} |\n"));
    let precisions: Vec<_> = manifest.precisions.iter().map(|precision| precision.as_str()).collect();
    line(format_args!("| graphs | {}; opset {} |\n", precisions.join(", "), manifest.opset));
    line(format_args!("| parameters | {} |\n", a.parameters));
    let compared = match manifest.similarity {
        Similarity::Cosine => String::new(),
        Similarity::LateInteraction { image_tokens, text_tokens } => {
            format!(" a token; compared token by token: {image_tokens} of a picture, up to {text_tokens} of a text")
        }
    };
    line(format_args!("| embedding | {} numbers, unit length{compared} |\n\n", manifest.embedding_dim));

    line(format_args!("## Architecture\n\n| tower | width | layers | heads | feed-forward |\n|---|---|---|---|---|\n"));
    let image = format!("image, {} px in patches of {}", manifest.image.size, a.patch);
    for (name, s) in [(image.as_str(), &a.vision), ("text", &a.text), ("cross, each of two", &a.cross)] {
        line(format_args!("| {name} | {} | {} | {} | {} |\n", s.width, s.layers, s.heads, s.mlp));
    }
    line(format_args!(
        "\nPictures are squashed to {0} x {0} with antialiased bicubic; texts are cut to {1} WordPiece tokens.\n\n",
        manifest.image.size, manifest.text.max_tokens
    ));

    let t = &manifest.training;
    line(format_args!("## Training\n\n{}\n\n", if t.data.is_empty() { "Data: not stated." } else { &t.data }));
    line(format_args!("Pairs: {}. Optimiser steps: {}.\n\n", t.pairs, t.steps));
    if !facts.data_licences.is_empty() {
        line(format_args!("Licences of the data: {}\n\n", facts.data_licences));
    }
    line(format_args!("{}", metrics_section(&t.metrics)));
    checks(&mut line, model);
    line(format_args!(
        "## Intended use and limits\n\nSearch of pictures and articles by text or picture, and re-ranking of candidates, inside an Astromech daemon. \
         It knows what its training data shows and little else; scores are for ranking and no probabilities of facts. It was not tested for \
         decisions about people, and must not be used for them.\n\n"
    ));
    if !facts.notes.is_empty() {
        line(format_args!("{}\n\n", facts.notes));
    }
    line(format_args!("## How to repeat it\n\n"));
    if facts.repeat.is_empty() {
        line(format_args!("Not stated.\n"));
    } else {
        line(format_args!("```\n{}\n```\n", facts.repeat.trim()));
    }
    card
}

const METRICS_HEADING: &str = "## Metrics\n";

fn metrics_section(metrics: &BTreeMap<String, f64>) -> String {
    if metrics.is_empty() {
        return format!("{METRICS_HEADING}\nNot measured yet: `trainer evaluate`, then `trainer release --metrics`.\n\n");
    }
    let mut section = format!("{METRICS_HEADING}\n| metric | value |\n|---|---|\n");
    for (name, value) in metrics {
        // Writing to a String can't fail.
        let _ = writeln!(section, "| {name} | {value:.4} |");
    }
    section.push('\n');
    section
}

/// `card` with its metrics replaced; at its end when it has no such section.
pub(super) fn replace_metrics(card: &str, metrics: &BTreeMap<String, f64>) -> String {
    let section = metrics_section(metrics);
    let Some(start) = card.find(METRICS_HEADING) else { return format!("{card}\n{section}") };
    let rest = &card[start + METRICS_HEADING.len()..];
    let end = rest.find("\n## ").map_or("", |next| &rest[next + 1..]);
    format!("{}{section}{end}", &card[..start])
}

fn checks(line: &mut impl FnMut(std::fmt::Arguments<'_>), model: &ModelFacts) {
    let Some(difference) = model.torch_difference else { return };
    line(format_args!("## Checks at release\n\nLargest difference of the f32 graphs from LibTorch: {difference:.1e}.\n\n"));
    if model.measured.is_empty() {
        return;
    }
    line(format_args!(
        "Against f32 on the golden samples:\n\n| precision | least image cosine | least text cosine | most match difference |\n|---|---|---|---|\n"
    ));
    for (precision, m) in &model.measured {
        line(format_args!(
            "| {} | {:.5} | {:.5} | {:.4} |\n",
            precision.as_str(),
            m.image_cosine,
            m.text_cosine,
            m.match_difference
        ));
    }
    line(format_args!("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_metrics_replace_the_old_ones_and_nothing_else() {
        let before = format!("# m\n\n{}## Intended use and limits\n\ntext\n", metrics_section(&BTreeMap::new()));
        let first = replace_metrics(&before, &BTreeMap::from([("a.t2i.r1".to_owned(), 0.5)]));
        assert_eq!(
            first,
            "# m\n\n## Metrics\n\n| metric | value |\n|---|---|\n| a.t2i.r1 | 0.5000 |\n\n## Intended use and limits\n\ntext\n"
        );
        let second = replace_metrics(&first, &BTreeMap::from([("b".to_owned(), 1.0)]));
        assert!(second.contains("| b | 1.0000 |") && !second.contains("a.t2i.r1") && second.ends_with("text\n"), "{second}");
    }
}
