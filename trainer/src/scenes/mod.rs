//! Composed scenes: pictures of one to three objects with a caption, and near twins of the same things and words bound otherwise. They
//! ask what a bag of words cannot answer: what is left of what, which is red, which is larger, two of which.

mod artist;
mod captions;
mod config;
mod cutout;
mod error;
mod fold;
mod folder;
mod kind;
mod layout;
mod names;
mod paint;
mod stock;
mod stream;

pub use artist::{Artist, Part, Scene, Twins};
pub use captions::Templates;
pub use config::{KindWeights, ScenesConfig};
pub use cutout::{TINTS, Tint};
pub use error::SceneError;
pub use fold::Fold;
pub use folder::{FolderPlan, Written, write_scenes};
pub use kind::{KINDS, SceneKind};
pub use names::NAMES;
pub use stock::{Stock, StockSettings};
pub use stream::{SceneBatches, SceneStream};
