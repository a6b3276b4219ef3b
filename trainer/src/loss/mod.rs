//! The terms of the objective (docs/R2D2.md §2).

mod distil;
mod fgr;
mod gcpr;
mod matching;
mod mlm;
mod queue;
mod token_wise;

pub use distil::{divergence, embedding_distance, score_distance};
pub use fgr::{Draw, HeadFigures, Negatives, POSITIVE_WEIGHT, auc, hard_negatives, listwise, weighted_cross_entropy};
pub use gcpr::{Gcpr, contrast, distilled_targets, gcpr, same_concept, same_concept_columns, soft_targets};
pub use matching::averaged_cross_entropy;
pub use mlm::{feature_distillation, masked_cross_entropy};
pub use queue::FeatureQueue;
pub use token_wise::{Tokens, token_wise};
