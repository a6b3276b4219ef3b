//! Zero's data (docs/R2D2.md §6.1): records out of shards of any number, as a stream that training can be fed from, and the pipeline that
//! makes such records of a click log.

pub mod clicks;
mod columns;
mod fault;
mod folder;
mod lines;
mod parquet;
mod positions;
mod record;
mod shards;
mod stream;
mod synthetic;
mod tar;

pub use columns::{Columns, Field, Lookup, Row, Value};
pub use fault::{FaultKind, FaultLimits, Ledger, Place, ShardFault, ZeroError};
pub use folder::{FolderOptions, FolderStats, write_folder};
pub use positions::{POSITIONS_FILE, Positions};
pub use record::{ImageSource, ZeroRecord};
pub use shards::{Rows, Shard, list_shards, synthetic_shards};
pub use stream::{Drawn, Position, RecordStream, StreamSettings};
