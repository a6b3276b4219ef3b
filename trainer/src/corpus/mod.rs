//! The training corpus: records, pictures, texts, augmentation and batches.

pub mod augment;
mod batch;
mod error;
mod masking;
mod pictures;
mod plan;
mod record;
mod tasks;
mod texts;

pub use batch::{Batch, BatchMaker, BatchSource, Loader, SampleSettings};
pub(crate) use batch::{SAMPLE_STRIDE, Sample, collate, sample};
pub use error::CorpusError;
pub use masking::{MaskSettings, NOT_MASKED, mask_tokens};
pub(crate) use pictures::with_background;
pub use pictures::{Picture, Pictures};
pub use plan::{PlanSettings, epoch_plan};
pub use record::{Record, RecordFilter, read_records};
pub use tasks::{RetrievalTask, read_retrieval_task};
pub use texts::{TextKindWeights, open_tokenizer};
