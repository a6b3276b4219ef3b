//! Distillation: what a trained teacher says of each batch, beside what its labels say.
//!
//! The teacher is a native checkpoint or a released bundle; it sees the whole text and the whole picture (resized to its own side), the
//! student what its own settings leave of them. Three terms, each with its weight: the distribution over the batch's similarities
//! (any two embedding sizes), the embeddings themselves (equal sizes), and the match scores of the cross encoders.

mod bundle;
mod lesson;

use std::path::{Path, PathBuf};

use astromech_settings::kinds::{above_zero, float, path};
use astromech_settings::{Value as _, settings};
use tch::Device;
use thiserror::Error;

use self::bundle::BundleTeacher;
pub use self::lesson::Lesson;
use crate::checkpoint::{CheckpointError, LoadedModel, load_model};
use crate::model::ModelConfig;

settings! {
    /// The teacher, and what is asked of it.
    #[derive(Debug, Clone, PartialEq)]
    pub struct DistilConfig {
        /// A native checkpoint's file, or a bundle's folder.
        teacher: PathBuf = (required "runs/teacher/model.safetensors") => path();
        /// Weight of the distributions over the batch: mean of both directions of KL(teacher ‖ student).
        similarity_weight: f64 = 1.0 => float(0.0, f64::INFINITY);
        /// Divides the similarities of both sides in that term (our choice: that of GCPR's start).
        temperature: f64 = 0.07 => float(0.0, f64::INFINITY).parsed(above_zero, || 1.0);
        /// Weight of 1 − cosine of the student's and the teacher's vectors; needs embeddings of one size.
        embedding_weight: f64 = 0.0 => float(0.0, f64::INFINITY);
        /// Weight of the match scores' KL on the pairs that the matching loss draws; needs `loss.itm_every` above 0.
        score_weight: f64 = 0.0 => float(0.0, f64::INFINITY);
    }
}

/// A teacher that can't teach this student.
#[derive(Debug, Error)]
pub enum DistilError {
    /// Its checkpoint.
    #[error("distil.teacher: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// Its bundle.
    #[error("distil.teacher: {0}")]
    Bundle(#[from] astromech_towers::TowersError),
    /// It doesn't go with the student.
    #[error("distil.teacher has {what} {teacher}, the student {student}; {fix}")]
    Differs {
        /// What.
        what: &'static str,
        /// Its value.
        teacher: String,
        /// The student's.
        student: String,
        /// What to change.
        fix: &'static str,
    },
    /// A file of it or of the student, or the runtime that waits for its towers.
    #[error("distil.teacher: {path}: {source}")]
    Io {
        /// What was opened.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A trained model that is asked about batches.
pub enum Teacher {
    /// Through LibTorch.
    Checkpoint(Box<LoadedModel>),
    /// Through ONNX Runtime, as it is served.
    Bundle(Box<BundleTeacher>),
}

impl std::fmt::Debug for Teacher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Checkpoint(_) => "Teacher::Checkpoint",
            Self::Bundle(_) => "Teacher::Bundle",
        })
    }
}

/// What the student needs of a teacher.
#[derive(Debug, Clone, Copy)]
pub struct Student<'a> {
    /// Its sizes.
    pub model: &'a ModelConfig,
    /// Longest text in tokens.
    pub max_tokens: usize,
    /// Its vocabulary's file.
    pub vocabulary: &'a Path,
    /// Threads of a bundle's towers; 0 takes all cores.
    pub threads: usize,
}

impl Teacher {
    /// Opens the teacher (a checkpoint on the device that the student trains on, a bundle on the processor) and holds it to the student: one vocabulary, texts as long, and embeddings of one size where they are compared.
    ///
    /// # Errors
    /// It can't be read, or doesn't go with the student.
    pub fn open(config: &DistilConfig, student: &Student<'_>, device: Device) -> Result<Self, DistilError> {
        let (teacher, embed, tokens) = if config.teacher.is_dir() {
            let bundle = BundleTeacher::open(&config.teacher, config.score_weight > 0.0, student)?;
            let (embed, tokens) = (bundle.embed(), bundle.max_tokens());
            (Self::Bundle(Box::new(bundle)), embed, tokens)
        } else {
            let mut loaded = load_model(&config.teacher)?;
            loaded.params.to_device(device);
            let own = &loaded.model.config;
            if own.vocab != student.model.vocab {
                let fix = "teacher and student must share one vocabulary";
                return Err(differs("a vocabulary of", own.vocab, student.model.vocab, fix));
            }
            let (embed, tokens) = (own.embed, own.positions);
            (Self::Checkpoint(Box::new(loaded)), embed, tokens)
        };
        if tokens < student.max_tokens as i64 {
            return Err(differs("texts of tokens up to", tokens, student.max_tokens as i64, "lower data.max_tokens"));
        }
        if config.embedding_weight > 0.0 && embed != student.model.embed {
            let fix = "set distil.embedding_weight = 0 and rely on distil.similarity_weight";
            return Err(differs("embeddings of size", embed, student.model.embed, fix));
        }
        Ok(teacher)
    }
}

fn differs(what: &'static str, teacher: i64, student: i64, fix: &'static str) -> DistilError {
    DistilError::Differs { what, teacher: teacher.to_string(), student: student.to_string(), fix }
}
