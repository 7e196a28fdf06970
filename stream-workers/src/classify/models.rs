//! Which models are in force: one that answers and maybe one in its shadow, changed without a restart.
//!
//! Models lie in the model directory: the one that came with the program directly in it, others in
//! directories of their own below. A model is loaded and checked beside those in use, on a thread of its
//! own, and takes over between two batches; one that is refused changes nothing.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread,
};

use router_schemas::config::{BUILTIN_MODEL, ModelConfig};

use super::model::{Model, ModelError};

/// The models of one moment.
#[derive(Debug)]
pub struct InForce {
    pub current: Arc<Model>,
    pub shadow: Option<Arc<Model>>,
}

/// The models of a process.
#[derive(Debug)]
pub struct Models {
    place: Place,
    in_force: RwLock<Arc<InForce>>,
    /// What was asked for last, whether or not it could be had.
    asked: Mutex<ModelConfig>,
}

/// Where models come from.
#[derive(Debug, Clone)]
struct Place {
    library: PathBuf,
    dir: PathBuf,
}

impl Place {
    fn load(&self, name: Option<&str>) -> Result<Arc<Model>, ModelError> {
        let dir = directory(&self.dir, name);
        Model::load(&self.library, &dir).map(Arc::new)
    }
}

/// The directory of a model by name; none is the model that came with the program.
fn directory(dir: &Path, name: Option<&str>) -> PathBuf {
    match name {
        None | Some(BUILTIN_MODEL) => dir.to_path_buf(),
        Some(name) => dir.join(name),
    }
}

impl Models {
    /// Loads the model that came with the program.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn load(library: &Path, dir: &Path) -> Result<Self, ModelError> {
        let place = Place {
            library: library.to_path_buf(),
            dir: dir.to_path_buf(),
        };
        let current = place.load(None)?;
        show(&current, None);
        Ok(Self {
            place,
            in_force: RwLock::new(Arc::new(InForce {
                current,
                shadow: None,
            })),
            asked: Mutex::default(),
        })
    }

    #[must_use]
    pub fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sees to it that these models come into force, if they are not yet. Returns at once: loading takes its
    /// time elsewhere, and what answers now goes on answering until then.
    pub fn follow(self: &Arc<Self>, wanted: &ModelConfig) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if *asked == *wanted {
            return;
        }
        asked.clone_from(wanted);
        let (models, wanted) = (Arc::clone(self), wanted.clone());
        thread::spawn(move || models.change(&wanted));
    }

    /// As [`Models::follow`], and waits for it. The shadow is left out where it cannot be had; without the
    /// current model nothing changes.
    pub fn change(&self, wanted: &ModelConfig) {
        let mut refused = false;
        let mut load = |role: &'static str, name: Option<&str>| match self.place.load(name) {
            Ok(model) => Some(model),
            Err(error) => {
                let dir = directory(&self.place.dir, name);
                tracing::error!(role, dir = %dir.display(), %error, "model refused");
                metrics::counter!("router_process_models_refused_total").increment(1);
                refused = true;
                None
            }
        };
        let Some(current) = load("current", wanted.current.as_deref()) else {
            return;
        };
        let shadow = wanted.shadow.as_deref();
        let shadow = shadow.and_then(|name| load("shadow", Some(name)));
        {
            // Another change may have been asked for while this one was loading.
            let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if *asked != *wanted {
                return;
            }
            let mut in_force = self
                .in_force
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            hide(&in_force);
            show(&current, shadow.as_deref());
            *in_force = Arc::new(InForce { current, shadow });
        }
        tracing::info!(?wanted, refused, "models changed");
    }
}

fn gauge(model: &Model, role: &'static str) -> metrics::Gauge {
    metrics::gauge!("router_process_model_info", "version" => model.version().to_owned(), "role" => role)
}

fn show(current: &Model, shadow: Option<&Model>) {
    gauge(current, "current").set(1.0);
    if let Some(shadow) = shadow {
        gauge(shadow, "shadow").set(1.0);
    }
}

fn hide(before: &InForce) {
    gauge(&before.current, "current").set(0.0);
    if let Some(shadow) = &before.shadow {
        gauge(shadow, "shadow").set(0.0);
    }
}
