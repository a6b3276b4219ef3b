//! Distillation: what a trained teacher says of each batch, beside what its labels say.
//!
//! The teacher is a native checkpoint or a released bundle; it sees the whole text and the whole picture (resized to its own side), the
//! student what its own settings leave of them. Three terms, each with its weight: the distribution over the batch's similarities
//! (any two embedding sizes), the embeddings themselves (equal sizes), and the match scores of the cross encoders.

mod bundle;
mod error;
mod lesson;
mod student;

use std::path::PathBuf;

use astromech_settings::kinds::{above_zero, float, path};
use astromech_settings::{Value as _, settings};
use tch::Device;

use self::bundle::BundleTeacher;
pub use self::error::DistilError;
use self::error::differs;
pub use self::lesson::Lesson;
pub use self::student::Student;
use crate::checkpoint::{LoadedModel, load_model};

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
