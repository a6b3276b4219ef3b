//! Bodies of the HTTP interface.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::blend::Blend;
use crate::field::InlineBytes;
use crate::identity::{Fingerprint, Kind};
use crate::lenient::optional_whole;
use crate::rescore::HitRescore;
use crate::video::FrameRef;

/// A character that is no white space of Unicode: a text that holds none says nothing.
const NOT_BLANK: &str = r"[^\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]";

/// `POST /v1/embed`: at least one text or image, and at most 64 of each.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("not" = {"properties": {"texts": {"maxItems": 0}, "images": {"maxItems": 0}}}))]
pub struct EmbedRequest {
    /// Texts to embed, at most 65,536 characters each, one of them no white space.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 65_536), regex(pattern = NOT_BLANK)))]
    pub texts: Vec<String>,
    /// Encoded pictures to embed, base64.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub images: Vec<InlineBytes>,
}

/// Answer of `POST /v1/embed`. Vectors have unit length and `dim` numbers. A bundle that compares token by token has no such answer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct EmbedResponse {
    /// Vector space of every vector here.
    pub fingerprint: Fingerprint,
    /// Length of a vector.
    pub dim: u32,
    /// One vector a text, in the order of the request.
    pub texts: Vec<Vec<f32>>,
    /// One vector an image, in the order of the request.
    pub images: Vec<Vec<f32>>,
}

/// `POST /v1/search`: exactly one of `text` and `image`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("not" = {"anyOf": [
    {"properties": {"text": {"type": "null"}, "image": {"type": "null"}}},
    {"required": ["text", "image"], "properties": {"text": {"type": "string"}, "image": {"type": "string"}}},
]}))]
pub struct SearchRequest {
    /// Query text, at most 65,536 characters, one of them no white space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536), regex(pattern = NOT_BLANK))]
    pub text: Option<String>,
    /// Query picture, encoded, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<InlineBytes>,
    /// Kinds to search; all where empty.
    #[serde(default)]
    pub kinds: Vec<Kind>,
    /// Most hits of each kind, 1 to 100; 10 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_whole")]
    #[schemars(range(min = 1, max = 100))]
    pub limit: Option<u32>,
    /// Only items that have every one of these tags, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tags: Vec<String>,
    /// Only items in one of these languages, as the items name them; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub languages: Vec<String>,
    /// Only items published then or later, milliseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_whole")]
    pub time_ms_from: Option<i64>,
    /// Only items published then or earlier, milliseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_whole")]
    pub time_ms_to: Option<i64>,
    /// Of each kind, how many of the best hits the single tower ranks anew, 1 to 100: pictures, advertisements and videos for a
    /// text, articles for a picture. None where absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "optional_whole")]
    #[schemars(range(min = 1, max = 100))]
    pub rescore: Option<u32>,
}

/// One hit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hit {
    /// Kind of the item.
    pub kind: Kind,
    /// Id of the item.
    pub id: String,
    /// Source version of the item.
    pub version: u64,
    /// Cosine of query and item, -1 to 1; where the bundle compares token by token, the mean over the query's tokens of the best cosine
    /// among the item's.
    pub score: f32,
    /// Of a video: the frame that is nearest to the query. `score` and `image_url` are its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<FrameRef>,
    /// Title of an article, ad or video, caption of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Beginning of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Address from which a browser can show the picture, if the item has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// Page of the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Tags of the item.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The item's own attributes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// What re-scoring says, where it was asked for and looked at this hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescore: Option<HitRescore>,
}

/// Answer of `POST /v1/search`: each kind's hits, best first. With re-scoring: those that were scored by their blended score, then
/// the others by cosine.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SearchResponse {
    /// Vector space that was searched.
    pub fingerprint: Fingerprint,
    /// Hits by kind: `image`, `article`, `ad`, `video`.
    pub hits: BTreeMap<Kind, Vec<Hit>>,
    /// Time to embed the query, milliseconds.
    pub embed_ms: f64,
    /// Time to search all collections, milliseconds.
    pub search_ms: f64,
    /// Time to re-score, milliseconds; absent where it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescore_ms: Option<f64>,
    /// What the single tower's probabilities added to the cosine; absent where re-scoring was not asked for. Where both of its weights
    /// are 0, fitting found that this bundle ranks no better with its single tower: the order is the dual towers'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blend: Option<Blend>,
}

/// An error, in the form of RFC 9457 (`application/problem+json`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Stable name of the problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short sentence.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Field, limit and fix.
    pub detail: String,
}

/// Path of an item's picture on a daemon, `GET /v1/media/{kind}/{id}`; of a video the picture of `frame`.
pub fn media_path(kind: Kind, id: &str, frame: Option<FrameRef>) -> String {
    use std::fmt::Write as _;
    let mut path = format!("/v1/media/{kind}/");
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
    if let Some(frame) = frame {
        let _ = write!(path, "?frame={}", frame.number);
    }
    path
}
