//! The steps of the way of a record, and what becomes of spans, as metrics name them.

/// A step of the way of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Waiting for room between the topic and the pipeline.
    Consume,
    /// Reading the message.
    Decode,
    /// Fetching a picture.
    Media,
    /// Decoding, resizing, tokenising.
    Prepare,
    /// The towers.
    Embed,
    /// Writing to the index.
    Index,
    /// Publishing the result.
    Publish,
}

impl Stage {
    /// Every stage, in the order of the way.
    pub const ALL: [Self; 7] = [Self::Consume, Self::Decode, Self::Media, Self::Prepare, Self::Embed, Self::Index, Self::Publish];

    /// The word in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consume => "consume",
            Self::Decode => "decode",
            Self::Media => "media",
            Self::Prepare => "prepare",
            Self::Embed => "embed",
            Self::Index => "index",
            Self::Publish => "publish",
        }
    }
}

/// What became of a span that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanOutcome {
    /// It ended, and goes into the queue where there is room.
    Ended,
    /// The collector took it.
    Exported,
    /// The collector did not take it.
    Failed,
}

impl SpanOutcome {
    /// The word in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Exported => "exported",
            Self::Failed => "failed",
        }
    }
}
