//! The steps of the way of a record, as metrics name them.

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
