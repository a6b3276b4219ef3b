//! The objective of this first form: GCPR + FGR (reference/r2d2.md §2.1, §2.2).

mod fgr;
mod gcpr;

pub use fgr::{Negatives, POSITIVE_WEIGHT, hard_negatives, weighted_cross_entropy};
pub use gcpr::{Gcpr, gcpr, same_concept, soft_targets};
