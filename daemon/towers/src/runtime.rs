//! ONNX Runtime's library: loaded once a process.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::environment::Environment;

use crate::TowersError;

const VARIABLE: &str = "ORT_DYLIB_PATH";
const HOW_TO_GET: &str = "Set ORT_DYLIB_PATH (or [runtime] onnxruntime) to libonnxruntime.so of version 1.24 or newer; `make setup` takes \
                          it from the Python wheel onnxruntime==1.31.1 (onnxruntime-gpu==1.31.1 for CUDA)";

/// Held for the life of the process: ONNX Runtime allows one environment, and `ort` keeps only a weak one.
static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// Loads ONNX Runtime from `path`, else from the environment variable `ORT_DYLIB_PATH`. Once a process; later calls do nothing.
///
/// # Errors
/// No path is given, or the library can't be loaded or is older than the API that is used; the error says how to get it.
pub fn init_runtime(path: Option<&Path>) -> Result<(), TowersError> {
    let _loading = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if ENVIRONMENT.get().is_some() {
        return Ok(());
    }
    let error = |reason: String| TowersError::Runtime { reason, fix: HOW_TO_GET };
    let from_variable = || std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = path
        .filter(|path| !path.as_os_str().is_empty())
        .map(Path::to_owned)
        .or_else(from_variable)
        .ok_or_else(|| error(format!("no path was given and {VARIABLE} is not set")))?;
    if !path.is_file() {
        return Err(error(format!("there is no file {}", path.display())));
    }
    // Relative paths are taken from the working directory, as everywhere; `ort` would take them from the program's folder.
    let path = std::path::absolute(&path).map_err(|problem| error(problem.to_string()))?;
    let environment = ort::init_from(&path)
        .map_err(|problem| error(problem.to_string()))?
        .with_name("astromech")
        .with_telemetry(false)
        .build()
        .map_err(|problem| error(problem.to_string()))?;
    ENVIRONMENT.get_or_init(|| environment);
    Ok(())
}

pub(crate) fn environment() -> Result<&'static Environment, TowersError> {
    init_runtime(None)?;
    ENVIRONMENT.get().ok_or_else(|| TowersError::Runtime { reason: "it was not initialised".to_owned(), fix: HOW_TO_GET })
}
