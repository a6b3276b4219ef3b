//! The search page: one document without a single outside address, kept to its own script and style by a nonce.

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse as _, Response};
use uuid::Uuid;

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const ICON: &str = include_str!("page/icon.svg");

/// `GET /`.
pub(super) async fn handle() -> Response {
    let nonce = Uuid::new_v4().simple().to_string();
    // The script's comments and strings never hold these marks: a test looks at the result.
    let html = HTML.replace("/*STYLE*/", STYLE).replace("/*SCRIPT*/", SCRIPT).replace("NONCE", &nonce);
    // Pictures of items may lie anywhere on the web; nothing else may be loaded or called.
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data: blob: http: https:; \
         connect-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    );
    let policy = HeaderValue::from_str(&policy).expect("hexadecimal digits and fixed text are a header value");
    let headers = [(header::CONTENT_SECURITY_POLICY, policy), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    (headers, Html(html)).into_response()
}

/// `GET /favicon.svg`.
pub(super) async fn icon() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("image/svg+xml")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400")),
    ];
    (headers, ICON).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_hold_no_mark_but_the_documents_own() {
        for part in [STYLE, SCRIPT] {
            assert!(!part.contains("NONCE") && !part.contains("</s") && !part.contains("/*S"));
        }
        assert_eq!(HTML.matches("NONCE").count(), 2);
    }

    #[test]
    fn the_page_names_no_outside_address() {
        for part in [HTML, STYLE, SCRIPT] {
            assert!(!part.contains("http://") && !part.contains("https://") && !part.contains("//cdn"));
        }
    }
}
