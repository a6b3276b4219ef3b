//! Sections and values of the training configuration that have a file of the loop to themselves.

use std::path::PathBuf;

use astromech_settings::kinds::{choice, flag, float, int, list, path};
use astromech_settings::{At, Entry, Part, Section, SectionAt, SettingError, Table, Value as _, defaults, settings};

/// Shape of the learning rate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum ScheduleKind {
    /// Linear warm-up from 0, then cosine over progress.
    #[default]
    Cosine,
    /// Cosine that changes between epochs only, lr_e = ½·lr·(1 + cos(π·e/E)). In the first epoch, and in every step below
    /// `optim.warmup_steps`, a linear warm-up from `warmup_from`·lr takes its place, capped at the peak (docs/R2D2.md §3.1).
    CosinePerEpoch {
        /// Learning rate of the first step, as a fraction of the peak.
        warmup_from: f64,
    },
    /// Rises linearly from `low`·lr to lr in `up_steps`, falls back in as many, and repeats (docs/R2D2.md §3.2).
    Triangular {
        /// Steps from the low to the peak.
        up_steps: u64,
        /// The low as a fraction of the peak.
        low: f64,
    },
}

/// Its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// [`ScheduleKind::Cosine`].
    Cosine,
    /// [`ScheduleKind::CosinePerEpoch`].
    CosinePerEpoch,
    /// [`ScheduleKind::Triangular`].
    Triangular,
}

const SHAPES: &[(&str, Shape)] =
    &[("cosine", Shape::Cosine), ("cosine_per_epoch", Shape::CosinePerEpoch), ("triangular", Shape::Triangular)];

settings! {
    /// A shape as it is written: `{ kind = "…", … }` with what that kind takes.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ScheduleSection {
        /// Which.
        kind: Shape = "cosine" => choice(SHAPES);
        /// Of cosine_per_epoch: learning rate of the first step, as a fraction of the peak.
        warmup_from: Option<f64> = optional => float(0.0, 1.0).or_none();
        /// Of triangular: steps from the low to the peak.
        up_steps: Option<u64> = optional => int(1, u64::MAX).or_none();
        /// Of triangular: the low as a fraction of the peak.
        low: Option<f64> = optional => float(0.0, 1.0).or_none();
    }
}

type Places = SectionAt<<ScheduleSection as Section>::Places>;

impl Part for ScheduleKind {
    type Place = Places;

    fn entry(name: &'static str, doc: &'static str) -> Entry {
        ScheduleSection::entry(name, doc)
    }

    fn read_part(name: &'static str, table: &mut Table<'_>) -> (Self, Places) {
        let (section, at) = ScheduleSection::read_part(name, table);
        let mut errors = Vec::new();
        let kind = section.kind(&at, &mut errors);
        for error in errors {
            table.report(error);
        }
        (kind, at)
    }
}

impl ScheduleSection {
    fn kind(&self, at: &Places, errors: &mut Vec<SettingError>) -> ScheduleKind {
        let mut keep = |wanted: bool, given: bool, at: &At, example: &str| match (wanted, given) {
            // A value that is written but wrong is reported already.
            (true, false) if !at.is_given() => {
                errors.push(at.error("missing for this kind of schedule", format!("write {example}")));
            }
            (false, true) => errors.push(at.error("not of this kind of schedule", "take it out, or choose another kind")),
            _ => {}
        };
        let (per_epoch, triangular) = (self.kind == Shape::CosinePerEpoch, self.kind == Shape::Triangular);
        keep(per_epoch, self.warmup_from.is_some(), &at.warmup_from, "warmup_from = 0.1");
        keep(triangular, self.up_steps.is_some(), &at.up_steps, "up_steps = 1000");
        keep(triangular, self.low.is_some(), &at.low, "low = 0.05");
        match self.kind {
            Shape::Cosine => ScheduleKind::Cosine,
            Shape::CosinePerEpoch => ScheduleKind::CosinePerEpoch { warmup_from: self.warmup_from.unwrap_or(0.0) },
            Shape::Triangular => ScheduleKind::Triangular { up_steps: self.up_steps.unwrap_or(1), low: self.low.unwrap_or(0.0) },
        }
    }
}

settings! {
    /// Learning rate of the cross encoders and their heads (with the head of masked language modelling): linear warm-up from the step
    /// in which they start, then a cosine to `optim.lr_end` over what is left of the run. Their decay under Muon is the whole of
    /// `optim.weight_decay` a step of the rate, where the towers' is divided by `optim.muon_lr_scale`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct CrossOptimConfig {
        /// Peak as a multiple of the towers' peak, for AdamW and Muon alike.
        lr_scale: f64 = 0.25 => float(0.0, f64::INFINITY);
        /// Steps of linear warm-up from where they start.
        warmup_steps: u64 = 200 => int(0, u64::MAX);
    }
}

impl Default for CrossOptimConfig {
    fn default() -> Self {
        defaults()
    }
}

settings! {
    /// Fine-tuning for matching. The other sections of the configuration keep their meaning where they apply.
    #[derive(Debug, Clone, PartialEq)]
    pub struct MatchingConfig {
        /// Files of labelled pairs to train on: JSON Lines of `image` (id of a record of `data.corpus`), `text`, `label`; of
        /// `image_path`, `text`, `label` as Zero publishes ICM and IQM; or `.tsv` lines of picture, text, label.
        train: Vec<PathBuf> = (required ["pairs.jsonl"]) => list(path());
        /// Files to validate on.
        valid: Vec<PathBuf> = [] => list(path());
        /// Folder of the pictures that rows name by file.
        images: Option<PathBuf> = optional => path().or_none();
        /// Leave out rows whose picture is not there; else such a row is an error.
        skip_missing: bool = false => flag();
        /// At most this many pairs of a file are validated on, from its start; 0 uses all.
        valid_pairs_max: usize = 0 => int(0, u64::MAX);
        /// Pairs that go through the model at a time, to bound memory; the gradient is that of the whole batch all the same. 0 takes
        /// all.
        micro_batch: usize = 0 => int(0, u64::MAX);
        /// Decoded pictures stay in memory while all of them take at most this many bytes.
        pictures_bytes_max: u64 = 1073741824 => int(0, u64::MAX);
    }
}
