//! The verdict, as JSON, as Markdown and as a figure.

use std::fmt;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{GateError, Measured};
use crate::evaluate::draw_reports;

/// Name of the figure's file.
const FIGURE_FILE: &str = "figure.svg";

/// One figure against one threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Name of the threshold in the configuration.
    pub threshold: String,
    /// What was measured.
    pub figure: String,
    /// The candidate's.
    pub candidate: f64,
    /// The live bundle's.
    pub live: Option<f64>,
    /// What is held to the threshold: a fall, a ratio, or the candidate's figure itself.
    pub found: f64,
    /// The threshold.
    pub allowed: f64,
    /// Whether `found` may be at most `allowed`, or must be at least that.
    pub at_most: bool,
    /// Whether it is.
    pub passed: bool,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.at_most { "at most" } else { "at least" };
        write!(f, "{}: {} is {:.5}", self.threshold, self.figure, self.candidate)?;
        if let Some(live) = self.live {
            write!(f, " (live {live:.5})")?;
        }
        write!(f, ": found {:.5}, allowed {side} {}", self.found, self.allowed)
    }
}

/// What the gate decided, and on what grounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether every check passed.
    pub passed: bool,
    /// The candidate's figures.
    pub candidate: Measured,
    /// The live bundle's.
    pub live: Option<Measured>,
    /// Every threshold that was held.
    pub checks: Vec<Check>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

impl Verdict {
    /// The checks that failed; empty where it passed.
    pub fn refusals(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.passed)
    }

    /// Writes report.json, report.md and figure.svg.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn write(&self, folder: &Path) -> Result<(), GateError> {
        let fail = |path: &Path, problem: String| GateError::Report { path: path.to_owned(), problem };
        std::fs::create_dir_all(folder).map_err(|error| fail(folder, error.to_string()))?;
        let json = serde_json::to_vec_pretty(self).map_err(|error| fail(folder, error.to_string()))?;
        let reports: Vec<_> =
            std::iter::once(&self.candidate).chain(&self.live).map(|measured| measured.report.clone()).collect();
        draw_reports(&reports, &folder.join(FIGURE_FILE))?;
        let text = format!("{}\n![Candidate and live, task by task]({FIGURE_FILE})\n", self.to_markdown());
        // The verdict's own file last: who sees it sees the others too.
        for (name, bytes) in [("report.md", text.as_bytes()), ("report.json", &json)] {
            let path = folder.join(name);
            std::fs::write(&path, bytes).map_err(|error| fail(&path, error.to_string()))?;
        }
        Ok(())
    }

    /// The report for people, without the figure.
    pub fn to_markdown(&self) -> String {
        let fingerprint = |measured: &Measured| measured.report.fingerprint.chars().take(12).collect::<String>();
        let verdict = if self.passed { "passed" } else { "REFUSED" };
        let mut text = format!("# Gate: {} `{}` {verdict}\n\n", self.candidate.report.bundle, fingerprint(&self.candidate));
        // Writing to a String can't fail.
        match &self.live {
            Some(live) => {
                let _ = writeln!(text, "Held to the live bundle {} `{}`.\n", live.report.bundle, fingerprint(live));
            }
            None => text += "There is no live bundle.\n\n",
        }
        for refusal in self.refusals() {
            let _ = writeln!(text, "- refused by {refusal}");
        }
        text += "\n| threshold | figure | candidate | live | found | allowed | |\n|---|---|---|---|---|---|---|\n";
        for check in &self.checks {
            let live = check.live.map_or_else(String::new, |live| format!("{live:.4}"));
            let (side, word) = (if check.at_most { "≤" } else { "≥" }, if check.passed { "passed" } else { "**refused**" });
            let _ = writeln!(
                text,
                "| {} | {} | {:.4} | {live} | {:.4} | {side} {} | {word} |",
                check.threshold, check.figure, check.candidate, check.found, check.allowed
            );
        }
        text += "\n| bundle | bytes | ms a picture | ms a text | int8 to f32: pictures, least | texts, least |\n|---|---|---|---|---|---|\n";
        for measured in std::iter::once(&self.candidate).chain(&self.live) {
            let (time, drift) = (measured.latency, measured.drift);
            let cosines = |read: fn(super::Drift) -> (f64, f64)| {
                drift.map(read).map_or_else(String::new, |(mean, least)| format!("{mean:.4}, {least:.4}"))
            };
            let _ = writeln!(
                text,
                "| {} `{}` | {} | {:.2} | {:.2} | {} | {} |",
                measured.report.bundle,
                fingerprint(measured),
                measured.bytes,
                time.image_ms,
                time.text_ms,
                cosines(|drift| (drift.image_mean, drift.image_least)),
                cosines(|drift| (drift.text_mean, drift.text_least))
            );
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}.\n");
        }
        text
    }
}
