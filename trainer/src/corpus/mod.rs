//! The training corpus: records, pictures, texts, augmentation and batches.

pub mod augment;
mod batch;
mod error;
mod masking;
mod mix;
mod pairs;
mod pictures;
mod plan;
mod published;
mod record;
mod rows;
mod stream;
mod swaps;
mod tasks;
mod texts;

pub use batch::{Batch, BatchMaker, BatchSource, Loader, SampleSettings};
pub(crate) use batch::{SAMPLE_STRIDE, Sample, collate};
pub use error::CorpusError;
pub use masking::{MaskSettings, NOT_MASKED, mask_tokens};
pub(crate) use mix::mix;
pub use pairs::{MatchPair, MatchPairs, PairSource, TaskPicture};
pub use pictures::{Picture, Pictures};
pub use plan::{PlanSettings, epoch_plan};
pub use published::{FLICKR_IMAGES, PublishedRow, PublishedRows, PublishedSet, PublishedSource, ZERO_IMAGES};
pub use record::{Record, RecordFilter, read_records};
pub use stream::StreamBatches;
pub use swaps::{SwapPair, SwapTask};
pub use tasks::{RetrievalTask, read_retrieval_task};
pub use texts::{TextKindWeights, open_tokenizer};
