//! Dead letters, read back: what `astromech dlq` lists, shows and sends again.
//!
//! A dead letter is the record with headers of ours behind its own ([`Letter`] takes them apart again). Reading joins no consumer group and
//! commits nothing; a letter stays in its topic whatever is done with it.

mod filter;
mod letter;
mod reader;
mod replay;

pub use filter::Filter;
pub use letter::{Letter, Origin};
pub use reader::{ReadError, read};
pub use replay::{NotReplayed, ReplayRules, Replayer};
