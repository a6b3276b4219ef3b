//! The message of a video: its key frames, each a point of the index, together one item.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DecodeError;
use crate::field::{Common, ImageSource, RecordLimits, check_image};
use crate::identity::Kind;
use crate::lenient::whole;

/// One key frame of a video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// Where the frame stands, milliseconds from the video's beginning.
    #[serde(deserialize_with = "whole")]
    #[schemars(range(max = 9_223_372_036_854_775_807_i64))]
    pub time_ms: u64,
    /// The frame as a picture.
    pub image: ImageSource,
}

/// A video by its key frames, which the producer chooses; the daemon opens no video file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Video {
    /// Always `video`; may be left out where the topic's configuration names the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Key frames, at least one and at most `record.frames_max` (64 by default), in any order. A newer version replaces all of them.
    #[schemars(length(min = 1))]
    pub frames: Vec<Frame>,
    /// Title; embedded as the video's text vector, before the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Fields of every item; `time_ms` is the time of publication.
    #[serde(flatten)]
    pub common: Common,
}

/// Names a frame of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FrameRef {
    /// Place in the record's `frames`, from 0.
    pub number: u32,
    /// Where it stands, milliseconds from the video's beginning.
    pub time_ms: u64,
}

/// Holds a video's frames to their limits.
///
/// # Errors
/// No frame, more than `frames_max`, a time that can't be stored, or a picture that is none: named by its place.
pub(crate) fn check_frames(frames: &[Frame], limits: &RecordLimits) -> Result<(), DecodeError> {
    if frames.is_empty() {
        return Err(DecodeError::new("frames", "there are none", "send at least one key frame"));
    }
    if frames.len() > limits.frames_max {
        let problem = format!("{} key frames, over the limit frames_max = {}", frames.len(), limits.frames_max);
        return Err(DecodeError::new("frames", problem, "send fewer, or raise the limit"));
    }
    for (number, frame) in frames.iter().enumerate() {
        if i64::try_from(frame.time_ms).is_err() {
            let problem = format!("{} ms, over the limit of {} ms", frame.time_ms, i64::MAX);
            return Err(DecodeError::new(format!("frames[{number}].time_ms"), problem, "send milliseconds from the beginning"));
        }
        check_image(&frame.image, limits)
            .map_err(|error| DecodeError { path: format!("frames[{number}].{}", error.path), ..error })?;
    }
    Ok(())
}
