//! Re-scoring: candidates against a context by the single tower (docs/R2D2.md §4). The same bodies through every door.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::blend::Blend;
use crate::field::InlineBytes;
use crate::identity::{Fingerprint, Kind};
use crate::lenient::optional_whole;
use crate::video::FrameRef;

/// Names an item of the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ItemRef {
    /// Kind of the item.
    pub kind: Kind,
    /// Id of the item.
    pub id: String,
}

/// What candidates are scored against: exactly one of `text`, `image` and `item`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("not" = {"anyOf": [
    {"properties": {"text": {"type": "null"}, "image": {"type": "null"}, "item": {"type": "null"}}},
    {"required": ["text", "image"], "properties": {"text": {"type": "string"}, "image": {"type": "string"}}},
    {"required": ["text", "item"], "properties": {"text": {"type": "string"}, "item": {"type": "object"}}},
    {"required": ["image", "item"], "properties": {"image": {"type": "string"}, "item": {"type": "object"}}},
]}))]
pub struct RescoreContext {
    /// A text: a query, a title, a paragraph, at most 65,536 characters. The model reads its first 64 tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub text: Option<String>,
    /// An encoded picture, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<InlineBytes>,
    /// An item of the index: its text, or its picture (a video's first frame) where it is an image or has no text. In the mode `ads` both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemRef>,
}

/// What the scores are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RescoreMode {
    /// One pair a candidate: the context's text with the candidate's picture, else the context's picture with the candidate's text.
    #[default]
    Plain,
    /// Advertisements for an article: every pair of a text and a picture of the two, their scores averaged; `prior` and `bid` enter.
    Ads,
    /// Pictures for a paragraph: the context is a text, candidates are their pictures.
    Illustrations,
}

/// One candidate: exactly one of `item`, or a picture (`image` or `url`) and/or a `text`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// An item of the index, as it is indexed; of a video its frame nearest to the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemRef>,
    /// An encoded picture (JPEG, PNG, WebP, GIF or BMP), base64. What can't be read is this candidate's problem only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("contentEncoding" = "base64"))]
    pub image: Option<String>,
    /// `https:` or `http:` address of a picture on a host that the daemon's configuration allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Probability that the candidate is clicked wherever it is shown, above 0 and at most 1; adds `weights.prior × ln(prior)` to the
    /// score. Absent is 1: send it for all candidates or for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<f32>,
    /// What the advertiser pays, above 0, in any one unit; adds `weights.bid × ln(bid)` to the score. Absent is 1: send it for all
    /// candidates or for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bid: Option<f32>,
}

/// Weights of a request in place of the configured ones, -1,000 to 1,000 each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightsOverride {
    /// Of the match score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1000, max = 1000))]
    pub itm: Option<f32>,
    /// Of the cosine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1000, max = 1000))]
    pub itc: Option<f32>,
    /// Of ln(prior).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1000, max = 1000))]
    pub prior: Option<f32>,
    /// Of ln(bid).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1000, max = 1000))]
    pub bid: Option<f32>,
}

/// `POST /v1/rescore`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("not" = {"required": ["mode"], "properties": {
    "mode": {"enum": ["illustrations"]},
    "context": {"required": ["image"], "properties": {"image": {"type": "string"}}},
}}))]
pub struct RescoreRequest {
    /// What candidates are scored against.
    pub context: RescoreContext,
    /// At least one, at most `rescore.candidates_max` (200 by default).
    #[schemars(length(min = 1))]
    pub candidates: Vec<Candidate>,
    /// What the scores are for; `plain` where absent.
    #[serde(default)]
    pub mode: RescoreMode,
    /// Weights in place of the configured ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightsOverride>,
    /// Most results; all where absent. Problems are listed in any case.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_whole")]
    #[schemars(range(min = 1))]
    pub k: Option<u32>,
    /// Time for the whole request, milliseconds, 1 to `rescore.deadline_ms_max`. Candidates that are not scored by then are answered
    /// with the problem `deadline`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_whole")]
    #[schemars(range(min = 1))]
    pub deadline_ms: Option<u64>,
}

/// Weights of a request: score = itm·match + itc·cosine + prior·ln(prior) + bid·ln(bid), where match is what the bundle's `blend` makes of
/// both probabilities: their mean, unless weights were fitted. With 1, 1, 0, 0 and no fitted weights it is the official score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Weights {
    /// Of the match term.
    pub itm: f32,
    /// Of the cosine.
    pub itc: f32,
    /// Of ln(prior).
    pub prior: f32,
    /// Of ln(bid).
    pub bid: f32,
}

/// Scores of one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scores {
    /// Match probability of the text-image encoder, 0 to 1.
    pub itm_text: f32,
    /// Match probability of the image-text encoder, 0 to 1.
    pub itm_image: f32,
    /// Match score: mean of both.
    pub itm: f32,
    /// Cosine of the dual towers' vectors, -1 to 1; where the bundle compares token by token, the mean over the context's tokens of the
    /// best cosine among the candidate's.
    pub itc: f32,
    /// The score: `weights` over the match term of `blend` and the cosine.
    pub score: f32,
}

/// One side of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// A picture.
    Image,
    /// A text.
    Text,
}

impl Side {
    /// Both sides.
    pub const ALL: [Self; 2] = [Self::Image, Self::Text];

    /// The word used in messages: `image` or `text`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Text => "text",
        }
    }
}

/// Scores of one pair, where a candidate has two: in the mode `ads`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairScores {
    /// Side of the candidate; the context's is the other one.
    pub candidate: Side,
    /// Match probability of the text-image encoder.
    pub itm_text: f32,
    /// Match probability of the image-text encoder.
    pub itm_image: f32,
    /// Cosine.
    pub itc: f32,
}

/// A candidate that was scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rescored {
    /// Rank by score, from 1; equal scores keep the order of the request.
    pub rank: u32,
    /// Place in the request's candidates, from 0.
    pub index: u32,
    /// The item, where the candidate named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemRef>,
    /// Of a video: the frame that was scored, the nearest to the context by cosine; absent where only its text was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<FrameRef>,
    /// Its scores: means over its pairs.
    #[serde(flatten)]
    pub scores: Scores,
    /// Each pair's, where there are two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<PairScores>,
}

/// Why one candidate was not scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The candidate itself is wrong.
    InvalidCandidate,
    /// No pair of a picture and a text can be made of context and candidate.
    UnsupportedPair,
    /// The index holds no such item.
    NotFound,
    /// The item's picture came inside its record and is not kept.
    PictureNotKept,
    /// No picture that is read, or a damaged one.
    InvalidImage,
    /// The picture is over a limit.
    ImageTooLarge,
    /// The picture's address is not allowed.
    UrlForbidden,
    /// The picture's address answers that there is nothing.
    UrlNotFound,
    /// There is more at the picture's address than may be fetched.
    UrlTooLarge,
    /// The picture's host does not answer now.
    UrlUnavailable,
    /// The deadline passed before the candidate was scored.
    Deadline,
    /// The daemon failed on it; the cause is in its log.
    Failed,
}

impl ProblemKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::InvalidCandidate,
        Self::UnsupportedPair,
        Self::NotFound,
        Self::PictureNotKept,
        Self::InvalidImage,
        Self::ImageTooLarge,
        Self::UrlForbidden,
        Self::UrlNotFound,
        Self::UrlTooLarge,
        Self::UrlUnavailable,
        Self::Deadline,
        Self::Failed,
    ];

    /// The word used in messages and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidCandidate => "invalid_candidate",
            Self::UnsupportedPair => "unsupported_pair",
            Self::NotFound => "not_found",
            Self::PictureNotKept => "picture_not_kept",
            Self::InvalidImage => "invalid_image",
            Self::ImageTooLarge => "image_too_large",
            Self::UrlForbidden => "url_forbidden",
            Self::UrlNotFound => "url_not_found",
            Self::UrlTooLarge => "url_too_large",
            Self::UrlUnavailable => "url_unavailable",
            Self::Deadline => "deadline",
            Self::Failed => "failed",
        }
    }
}

/// What is wrong with one candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CandidateFault {
    /// For machines.
    pub kind: ProblemKind,
    /// For people: field, limit and fix.
    pub detail: String,
}

/// A candidate that was not scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CandidateProblem {
    /// Place in the request's candidates, from 0.
    pub index: u32,
    /// The item, where the candidate named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemRef>,
    /// For machines.
    pub kind: ProblemKind,
    /// For people: field, limit and fix.
    pub detail: String,
}

/// How the states of context and candidates were had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheUse {
    /// Taken from the feature cache.
    pub hits: u32,
    /// Encoded for this request.
    pub misses: u32,
}

/// Where the time of a request went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RescoreTimings {
    /// Looking items up and encoding the context, milliseconds.
    pub context_ms: f64,
    /// Fetching and encoding candidates, and the cross tower beside it, milliseconds.
    pub score_ms: f64,
    /// All together, milliseconds.
    pub total_ms: f64,
}

/// Answer of `POST /v1/rescore`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RescoreResponse {
    /// Bundle that scored.
    pub fingerprint: Fingerprint,
    /// The request's mode.
    pub mode: RescoreMode,
    /// Weights that were used.
    pub weights: Weights,
    /// What both probabilities make of the match term.
    pub blend: Blend,
    /// Candidates that were scored, best first, at most `k`.
    pub results: Vec<Rescored>,
    /// How many were scored.
    pub scored: u32,
    /// Candidates that were not scored, in the order of the request.
    pub problems: Vec<CandidateProblem>,
    /// In the mode `ads`: why the context's picture was left out, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_problem: Option<CandidateFault>,
    /// How states were had.
    pub cache: CacheUse,
    /// Where the time went.
    pub timings: RescoreTimings,
}

/// What re-scoring says of a hit of `POST /v1/search`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HitRescore {
    /// Rank by cosine alone among the hits of its kind, from 1.
    pub dual_rank: u32,
    /// Its scores, unless there is a problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Scores>,
    /// Why it was not scored; it then stands behind those that were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<CandidateFault>,
}
