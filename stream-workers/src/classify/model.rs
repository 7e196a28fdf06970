//! A model directory (`model.onnx`, `model.json`) run by ONNX Runtime.
//!
//! `model.json` says version, labels, threshold and the scheme of features the model was trained on; a
//! model of another scheme is refused, since it would be shown what it has never learnt.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicUsize, Ordering},
    },
};

use ort::{
    session::{Session, builder::GraphOptimizationLevel},
    value::TensorRef,
};
use router_runtime::crypto;
use serde::Deserialize;

use super::features::{BUCKETS, MAX_FEATURES, SCHEME};

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("cannot read {0}: {1}")]
    File(PathBuf, String),
    #[error(
        "the model was trained on features of scheme {found}, this program writes scheme {SCHEME}"
    )]
    Scheme { found: u32 },
    #[error("model.onnx has the checksum {found}, model.json says {told}")]
    Checksum { found: String, told: String },
    #[error("onnx runtime: {0}")]
    Runtime(String),
    #[error("the model answers {found} numbers for {rows} webhooks and {labels} labels")]
    Shape {
        found: usize,
        rows: usize,
        labels: usize,
    },
}

fn runtime(error: impl std::fmt::Display) -> ModelError {
    ModelError::Runtime(error.to_string())
}

/// `model.json`.
#[derive(Debug, Clone, Deserialize)]
struct Facts {
    version: String,
    labels: Vec<String>,
    features: FeatureFacts,
    threshold: f32,
    sha256: String,
}

#[derive(Debug, Clone, Deserialize)]
struct FeatureFacts {
    scheme: u32,
    buckets: u32,
    max: usize,
}

/// A model ready to answer, from several threads at a time.
pub struct Model {
    facts: Facts,
    /// A session answers one call at a time.
    sessions: Vec<Mutex<Session>>,
    next: AtomicUsize,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("version", &self.facts.version)
            .finish_non_exhaustive()
    }
}

impl Model {
    /// Loads the library and the model of `dir`; up to `parallel` calls run at a time.
    ///
    /// # Errors
    /// See [`ModelError`].
    pub fn load(library: &Path, dir: &Path, parallel: usize) -> Result<Self, ModelError> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read(&path).map_err(|error| ModelError::File(path, error.to_string()))
        };
        let facts: Facts = serde_json::from_slice(&read("model.json")?)
            .map_err(|error| ModelError::File(dir.join("model.json"), error.to_string()))?;
        let features = &facts.features;
        if features.scheme != SCHEME || features.buckets != BUCKETS || features.max != MAX_FEATURES
        {
            return Err(ModelError::Scheme {
                found: features.scheme,
            });
        }
        let onnx = read("model.onnx")?;
        let found = crypto::sha256_hex(&onnx);
        if found != facts.sha256 {
            return Err(ModelError::Checksum {
                found,
                told: facts.sha256,
            });
        }
        let environment = ort::init_from(library)
            .map_err(runtime)?
            .build()
            .map_err(runtime)?;
        let session = || -> Result<_, ModelError> {
            let session = Session::builder(&environment)
                .map_err(runtime)?
                .with_optimization_level(GraphOptimizationLevel::Level3)
                .map_err(runtime)?
                // Batches run beside each other; a batch is too small to be worth sharing out.
                .with_intra_threads(1)
                .map_err(runtime)?
                .commit_from_memory(&onnx)
                .map_err(runtime)?;
            Ok(Mutex::new(session))
        };
        let sessions = (0..parallel.max(1))
            .map(|_| session())
            .collect::<Result<_, _>>()?;
        Ok(Self {
            facts,
            sessions,
            next: AtomicUsize::new(0),
        })
    }

    #[must_use]
    pub fn version(&self) -> &str {
        &self.facts.version
    }
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.facts.labels
    }
    /// Below this confidence the category is `other`.
    #[must_use]
    pub fn threshold(&self) -> f32 {
        self.facts.threshold
    }

    /// One row of probabilities for each row of features, as long as there are labels.
    ///
    /// # Errors
    /// ONNX Runtime refuses, or the model's answer has another shape.
    pub fn probabilities(&self, rows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, ModelError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        // Rows are filled up to the longest of the batch with the bucket that means nothing.
        let width = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let mut ids = vec![i64::from(BUCKETS); rows.len() * width];
        for (row, place) in rows.iter().zip(ids.chunks_exact_mut(width)) {
            for (id, slot) in row.iter().zip(place) {
                *slot = i64::from(*id);
            }
        }
        let input = TensorRef::from_array_view(([rows.len(), width], &*ids)).map_err(runtime)?;
        let mut session = self.session();
        let outputs = session.run(ort::inputs!["ids" => input]).map_err(runtime)?;
        let (_, found) = outputs[0].try_extract_tensor::<f32>().map_err(runtime)?;
        let labels = self.facts.labels.len();
        if found.len() != rows.len() * labels {
            return Err(ModelError::Shape {
                found: found.len(),
                rows: rows.len(),
                labels,
            });
        }
        Ok(found.chunks_exact(labels).map(<[f32]>::to_vec).collect())
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        for session in &self.sessions {
            match session.try_lock() {
                Ok(session) => return session,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.sessions.len();
        self.sessions[place]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
