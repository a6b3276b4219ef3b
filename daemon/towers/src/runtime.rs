//! ONNX Runtime's library: loaded once a process.

use std::path::Path;

use crate::TowersError;

/// Loads ONNX Runtime from `path`, else from the environment variable `ORT_DYLIB_PATH`. Once a process; later calls do nothing.
///
/// # Errors
/// No path is given, or the library can't be loaded or is older than the API that is used; the error says how to get it.
pub fn init_runtime(path: Option<&Path>) -> Result<(), TowersError> {
    todo!("{path:?}")
}
