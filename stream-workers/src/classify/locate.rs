//! Finds the model directory and ONNX Runtime's library: by environment, else beside the checkout or the
//! executable, else where systems keep libraries.

use std::path::{Path, PathBuf};

use anyhow::Context;
use router_runtime::env;

const MODEL: &str = "stream-workers/classifier/model";
const LIBRARY: &str = ".local/onnxruntime/libonnxruntime.so";
const INSTALLED: [&str; 4] = [
    "/usr/local/lib/libonnxruntime.so",
    "/usr/lib/libonnxruntime.so",
    "/usr/lib/x86_64-linux-gnu/libonnxruntime.so",
    "/usr/lib/aarch64-linux-gnu/libonnxruntime.so",
];

/// `MODEL_DIR`, else `stream-workers/classifier/model` in this directory, in that of the executable, or
/// above one of them.
///
/// # Errors
/// There is none.
pub fn model_dir() -> anyhow::Result<PathBuf> {
    if let Some(dir) = env::text("MODEL_DIR") {
        return Ok(dir.into());
    }
    upwards(MODEL).context(
        "no model found: set MODEL_DIR to a directory that holds model.onnx and model.json, or CLASSIFIER=rules to run \
         without a model",
    )
}

/// `ORT_DYLIB_PATH`, else `.local/onnxruntime/libonnxruntime.so` found like the model, else the system's.
///
/// # Errors
/// There is none.
pub fn library() -> anyhow::Result<PathBuf> {
    if let Some(path) = env::text("ORT_DYLIB_PATH") {
        return Ok(path.into());
    }
    let installed = || {
        INSTALLED
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
    };
    upwards(LIBRARY).or_else(installed).context(
        "ONNX Runtime's library is not found: run `make up` once, or `pip install onnxruntime` and set ORT_DYLIB_PATH to \
         its libonnxruntime.so, or set CLASSIFIER=rules to run without a model",
    )
}

fn upwards(relative: &str) -> Option<PathBuf> {
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    starts.into_iter().flatten().find_map(|start| {
        start
            .ancestors()
            .map(|dir: &Path| dir.join(relative))
            .find(|path| path.exists())
    })
}
