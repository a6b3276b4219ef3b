//! Generations: a bundle, its collections and its consumer group; one is live, another may be made ready beside it (promise 7).
//!
//! ```text
//! registry -> fetched and verified -> towers start, golden vectors are replayed -> collections of its own, filled out of the topics or
//!   the live generation's points (live traffic first) -> at the live head -> counts and a sample of recalls compared -> one change of the aliases: live
//! live -> retired: it goes on consuming, so that going back is one change of the aliases too -> dropped after `rollout.keep_hours`
//! ```
//!
//! What is live is written in one place only, the index's own book: the aliases in Qdrant, or a table of the embedded index (see
//! [`Catalog`](crate::index::Catalog)). Every daemon looks there and answers with the generation that it finds, so several daemons agree without talking to each other.

mod backfill;
mod bundles;
mod candidate;
mod command;
mod group;
mod heads;
mod ingest;
mod kill_point;
mod load;
mod lost;
mod metrics;
mod orders;
mod roller;
mod running;
mod serving;
mod start;
mod status;
mod survey;
mod traffic;
mod verify;

use astromech_schemas::Fingerprint;

pub use bundles::registry_options;
pub use command::{Generations, RollError};
pub use ingest::{Ingest, Reading};
pub use lost::{Lost, kafka_of, refused};
pub use metrics::{GenerationMetrics, RolloutEnd};
pub use serving::{Live, Serving};
pub use start::{CommandReceiver, Rolling, StartParts, Started, generations};
pub use status::{GenerationState, GenerationStatus, Refusal, Rollout};
pub use survey::{Rollouts, look};
pub use traffic::Requests;

/// The consumer group of a generation: the configured one and the generation's fingerprint, for example `astromech-0a1b2c3d4e5f`.
pub fn group_name(group: &str, fingerprint: &Fingerprint) -> String {
    format!("{group}-{}", fingerprint.short())
}

/// Whether `name` is the group of a generation of the configured `group`.
pub fn is_group_of(group: &str, name: &str) -> bool {
    let short = name.strip_prefix(group).and_then(|rest| rest.strip_prefix('-'));
    short.is_some_and(|short| short.len() == Fingerprint::SHORT_CHARS && short.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
