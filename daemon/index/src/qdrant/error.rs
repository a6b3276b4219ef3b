//! gRPC statuses as index errors.

use qdrant_client::QdrantError;

use crate::IndexError;

// gRPC status codes (https://grpc.io/docs/guides/status-codes/); the client does not export the type that names them.
const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const ALREADY_EXISTS: i32 = 6;
const PERMISSION_DENIED: i32 = 7;
const OUT_OF_RANGE: i32 = 11;
const UNIMPLEMENTED: i32 = 12;
const UNAUTHENTICATED: i32 = 16;

/// Which of the three an error of the client is: only what the server says about the content is `Refused`, only what no retry heals is
/// `Mismatch`; everything else (no answer, no room, a restart, a shard that moves) may pass.
pub(super) fn from_client(doing: &str, url: &str, error: QdrantError) -> IndexError {
    let (code, message) = match &error {
        QdrantError::ResponseError { status } | QdrantError::ResourceExhaustedError { status, .. } => {
            (i32::from(status.code()), status.message().to_owned())
        }
        QdrantError::InvalidUri(problem) => {
            return IndexError::Mismatch(
                format!("`{url}` is not a URL: {problem}; expected for example http://127.0.0.1:6334").into(),
            );
        }
        QdrantError::ConversionError(problem) => return IndexError::Refused(format!("{doing}: {problem}").into()),
        other => (0, other.to_string()),
    };
    let text = format!("{doing} at {url}: {message}");
    match code {
        INVALID_ARGUMENT | OUT_OF_RANGE | ALREADY_EXISTS => IndexError::refused(text, error),
        NOT_FOUND => IndexError::mismatch(format!("{text}; a start says what is missing, and what can be done"), error),
        UNAUTHENTICATED | PERMISSION_DENIED => IndexError::mismatch(format!("{text}; check the API key and its rights"), error),
        UNIMPLEMENTED => IndexError::mismatch(format!("{text}; is this a Qdrant server's gRPC port (usually 6334)?"), error),
        _ => IndexError::transient(text, error),
    }
}
