//! gzip: answers for clients that accept it, and bodies of requests that say they are. The limit of a body counts what is unpacked.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate, SizeAbove};
use tower_http::decompression::RequestDecompressionLayer;

use super::problem::Problem;

/// Shorter answers fit into one packet as they are, bytes.
const ANSWER_BYTES_MIN: u16 = 1024;
const GZIP: &str = "gzip";

/// Packs answers that gain by it; pictures are left as they are.
pub(super) fn pack() -> CompressionLayer<impl Predicate> {
    CompressionLayer::new().gzip(true).compress_when(DefaultPredicate::new().and(SizeAbove::new(ANSWER_BYTES_MIN)))
}

/// Unpacks bodies of requests, while they are read.
pub(super) fn unpack() -> RequestDecompressionLayer {
    RequestDecompressionLayer::new().gzip(true)
}

/// Refuses a body in another encoding than gzip, and one that says it is over the limit of `body_bytes_max` even as it is sent.
pub(super) async fn check(State(body_bytes_max): State<usize>, mut request: Request, next: Next) -> Response {
    if declared_bytes(request.headers()).is_some_and(|bytes| bytes > body_bytes_max as u64) {
        return Problem::body_too_large(body_bytes_max).into_response();
    }
    match encoding(request.headers()) {
        Encoding::None => drop(request.headers_mut().remove(header::CONTENT_ENCODING)),
        // In the spelling that the layer behind this looks for.
        Encoding::Gzip => drop(request.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(GZIP))),
        Encoding::Other => {
            let detail = "content-encoding: only gzip is unpacked; fix: send the body as it is, or with content-encoding: gzip";
            let problem = Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-encoding",
                "The body's encoding is not known",
                detail,
            );
            return ([(header::ACCEPT_ENCODING, HeaderValue::from_static(GZIP))], problem).into_response();
        }
    }
    next.run(request).await
}

enum Encoding {
    None,
    Gzip,
    Other,
}

fn encoding(headers: &HeaderMap) -> Encoding {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    match (values.next().map(|value| value.as_bytes().trim_ascii()), values.next()) {
        (None, _) => Encoding::None,
        (Some(value), None) if value.is_empty() || value.eq_ignore_ascii_case(b"identity") => Encoding::None,
        (Some(value), None) if value.eq_ignore_ascii_case(GZIP.as_bytes()) => Encoding::Gzip,
        _ => Encoding::Other,
    }
}

fn declared_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
