//! `GET /v1/media/{kind}/{id}`: the picture of an item, as far as this daemon may show it.
//!
//! The address comes from the index, not from the client; still, what is sent must lie under a configured folder after every link is
//! resolved, and must be a picture by its first bytes: never HTML, never SVG, whatever its name.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use astromech_schemas::{Kind, frame_point_id, point_id};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use url::Url;

use super::extract::{UrlPath, UrlQuery};
use super::problem::Problem;
use super::{AppState, MediaRoots};
use crate::index::payload::is_tombstone;
use crate::media::FileRoots;

/// Bytes read from a file at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Bytes that tell a picture's format.
const SNIFF_BYTES: usize = 16;

/// Which picture of an item that has several.
#[derive(serde::Deserialize)]
pub(super) struct Which {
    /// Of a video: the frame's number; the first where absent.
    #[serde(default)]
    frame: u32,
}

/// `GET /v1/media/{kind}/{id}`, of a video with `?frame=N`.
pub(super) async fn handle(
    State(state): State<Arc<AppState>>,
    UrlPath((kind, id)): UrlPath<(String, String)>,
    UrlQuery(which): UrlQuery<Which>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let kind: Kind = kind.parse().map_err(|problem: String| Problem::invalid("kind", &problem, "see /openapi.json"))?;
    let mut point = point_id(kind, &id);
    if kind == Kind::Video {
        point = frame_point_id(point, which.frame);
    }
    let stored = state.serving()?.index.retrieve(kind, &[point]).await?.pop();
    let payload = stored.map(|stored| stored.payload).filter(|payload| !is_tombstone(payload));
    let payload =
        payload.ok_or_else(|| Problem::not_found(format!("the index holds no {kind} of this id, or no such frame of it")))?;
    let Some(url) = payload.get("image_url").and_then(serde_json::Value::as_str) else {
        return Err(Problem::not_found(
            "the item has no picture with an address: one sent inside a record is embedded and not kept",
        ));
    };
    let parsed = Url::parse(url).map_err(|_| Problem::not_found("the item's image_url is no address"))?;
    match parsed.scheme() {
        "http" | "https" => redirect(&parsed),
        "file" => send_file(url, &state.media, &headers).await,
        scheme => Err(Problem::not_found(format!("pictures by {scheme}: addresses are not shown"))),
    }
}

fn redirect(url: &Url) -> Result<Response, Problem> {
    let location = HeaderValue::from_str(url.as_str()).map_err(|error| Problem::internal(&error))?;
    Ok((StatusCode::FOUND, [(header::LOCATION, location)]).into_response())
}

async fn send_file(url: &str, roots: &MediaRoots, headers: &HeaderMap) -> Result<Response, Problem> {
    let path = resolve(url, roots).await?;
    let mut file = File::open(&path).await.map_err(|error| gone(&error))?;
    let metadata = file.metadata().await.map_err(|error| gone(&error))?;
    if !metadata.is_file() || metadata.len() > roots.bytes_max {
        let detail = format!("the picture is no plain file of at most media.bytes_max = {} bytes", roots.bytes_max);
        return Err(Problem::not_found(detail));
    }
    let etag = etag(&metadata);
    let mut head = Vec::with_capacity(SNIFF_BYTES);
    (&mut file).take(SNIFF_BYTES as u64).read_to_end(&mut head).await.map_err(|error| gone(&error))?;
    let content_type = sniff(&head).ok_or_else(|| Problem::not_found("the file is no JPEG, PNG, WebP, GIF or BMP picture"))?;
    let caching = [(header::ETAG, etag.clone()), (header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=60"))];
    if headers.get(header::IF_NONE_MATCH) == Some(&etag) {
        return Ok((StatusCode::NOT_MODIFIED, caching).into_response());
    }
    file.rewind().await.map_err(|error| gone(&error))?;
    let fixed = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_LENGTH, HeaderValue::from(metadata.len())),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("inline")),
    ];
    Ok((fixed, caching, stream(file, metadata.len())).into_response())
}

/// The file as a body of exactly `length` bytes: a file that grows meanwhile must not break the answer's framing.
fn stream(file: File, length: u64) -> Body {
    Body::from_stream(futures::stream::try_unfold(file.take(length), |mut file| async move {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let read = (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk).await?;
        Ok::<_, io::Error>((read > 0).then(|| (Bytes::from(chunk), file)))
    }))
}

/// The file that `url` names, if it lies under an allowed folder. What exists elsewhere is not told.
async fn resolve(url: &str, roots: &MediaRoots) -> Result<PathBuf, Problem> {
    let (file_roots, url) = (roots.file_roots.clone(), url.to_owned());
    // The folders are resolved each time: one that is mounted or replaced later is seen, for two calls of the system.
    let look = move || {
        FileRoots::open(&file_roots)
            .map_err(|(path, error)| format!("{}: {error}", path.display()))?
            .resolve(&url)
            .map_err(|error| error.to_string())
    };
    let resolved = tokio::task::spawn_blocking(look).await.map_err(|error| Problem::internal(&error))?;
    resolved.map_err(|error| {
        tracing::debug!(%error, "a picture is not shown");
        Problem::not_found("the picture is not there, or not under a folder of media.file_roots")
    })
}

fn gone(error: &io::Error) -> Problem {
    tracing::warn!(%error, "a picture could not be read");
    Problem::not_found("the picture's file can't be read; the reason is in the daemon's log")
}

fn etag(metadata: &std::fs::Metadata) -> HeaderValue {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    HeaderValue::from_str(&format!("\"{:x}-{:x}\"", modified.as_nanos(), metadata.len()))
        .expect("hexadecimal digits are a header value")
}

/// Content type by a picture's first bytes; `None` for everything that is not a raster picture.
fn sniff(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        [b'B', b'M', ..] if head.len() >= SNIFF_BYTES => Some("image/bmp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_raster_pictures_have_a_content_type() {
        assert_eq!(sniff(b"\xff\xd8\xff\xe0rest"), Some("image/jpeg"));
        assert_eq!(sniff(b"\x89PNG\r\n\x1a\nrest"), Some("image/png"));
        assert_eq!(sniff(b"RIFF\0\0\0\0WEBPVP8 "), Some("image/webp"));
        for bytes in [&b"<!doctype html>"[..], b"<svg xmlns=", b"", b"BM", b"GIF80a", b"RIFF\0\0\0\0WAVEfmt "] {
            assert_eq!(sniff(bytes), None, "{bytes:?}");
        }
    }
}
