//! Measures a bundle on retrieval and matching tasks through the towers crate: what is measured is what is served.

mod calibrate;
mod classify;
mod encode;
mod error;
mod floor;
mod heads;
mod items;
mod matching;
mod plot;
mod recall;
mod report;
mod retrieval;
mod swaps;

pub use calibrate::calibrate;
pub use classify::{Classification, classify};
pub use error::EvaluateError;
pub use floor::PixelFloor;
pub use heads::HeadAuc;
pub use items::TaskItems;
pub use matching::evaluate_matching;
pub use plot::draw_reports;
pub use recall::{Recalls, best_rank, best_rank_among, mean_recall, recalls, top_k};
pub use report::{MatchReport, Report, TaskReport};
pub use retrieval::{EvaluateOptions, evaluate};
pub use swaps::{ALL_KINDS, SwapFigures, SwapReport, SwapRow, SwapScores, evaluate_swaps, swap_figures};
