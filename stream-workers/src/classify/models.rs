//! Which models are in force: one that answers and maybe one in its shadow, changed without a restart.
//!
//! Models lie in the model directory: the one that came with the program directly in it, others in
//! directories of their own below. A model is loaded and checked beside those in use and takes over between two
//! batches; one that is refused changes nothing, and is tried again after a while, since its directory may have been
//! on its way. What a name stands for is read once: another content needs another name.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use router_schemas::config::{BUILTIN_MODEL, ModelConfig};

use super::model::{Model, ModelError};

/// How long a model that was refused is let alone.
const AGAIN: Duration = Duration::from_secs(60);

/// The models of one moment.
#[derive(Debug)]
pub struct InForce {
    pub current: Arc<Model>,
    pub shadow: Option<Arc<Model>>,
    /// The names under which they were asked for.
    names: (String, Option<String>),
}

/// The models of a process.
#[derive(Debug)]
pub struct Models {
    library: PathBuf,
    dir: PathBuf,
    in_force: RwLock<Arc<InForce>>,
    /// What was asked for last and could not be had, and when.
    refused: Mutex<Option<(ModelConfig, Instant)>>,
}

fn name(wanted: Option<&str>) -> &str {
    wanted.unwrap_or(BUILTIN_MODEL)
}

/// The directory of a model by name. Nothing outside of the model directory has a name.
fn directory(dir: &Path, name: &str) -> Result<PathBuf, ModelError> {
    if name == BUILTIN_MODEL {
        return Ok(dir.to_path_buf());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
        let why =
            "a model's name has letters, digits, `.`, `_` and `-`, and does not begin with `.`";
        return Err(ModelError::File(PathBuf::from(name), why.to_owned()));
    }
    Ok(dir.join(name))
}

impl Models {
    /// Loads the models that are wanted; where the current one cannot be had, the one that came with the program.
    ///
    /// # Errors
    /// That one cannot be used either.
    pub fn load(library: &Path, dir: &Path, wanted: &ModelConfig) -> Result<Self, ModelError> {
        let load = |name: &str| Model::load(library, &directory(dir, name)?).map(Arc::new);
        let current = name(wanted.current.as_deref());
        let mut refused = None;
        let (current, model) = match load(current) {
            Ok(model) => (current, model),
            Err(error) if current == BUILTIN_MODEL => return Err(error),
            Err(error) => {
                refuse("current", current, &error);
                refused = Some((wanted.clone(), Instant::now()));
                (BUILTIN_MODEL, load(BUILTIN_MODEL)?)
            }
        };
        show(&model, None);
        let models = Self {
            library: library.to_path_buf(),
            dir: dir.to_path_buf(),
            in_force: RwLock::new(Arc::new(InForce {
                current: model,
                shadow: None,
                names: (current.to_owned(), None),
            })),
            refused: Mutex::new(refused),
        };
        models.follow(wanted);
        Ok(models)
    }

    #[must_use]
    pub fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Brings these models into force, if they are not yet; takes as long as loading takes. The shadow is left out
    /// where it cannot be had; without the current model nothing changes. Returns whether all of it is in force.
    pub fn follow(&self, wanted: &ModelConfig) -> bool {
        let before = self.in_force();
        let (current, shadow) = (name(wanted.current.as_deref()), wanted.shadow.as_deref());
        if before.names.0 == current && before.names.1.as_deref() == shadow {
            return true;
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = refused
            .as_ref()
            .is_some_and(|(what, when)| what == wanted && when.elapsed() < AGAIN);
        if waits {
            return false;
        }
        let mut all = true;
        let mut load = |role: &'static str, name: &str| {
            if let Some(loaded) = before.named(name) {
                return Some(loaded);
            }
            let model = directory(&self.dir, name).and_then(|dir| Model::load(&self.library, &dir));
            match model {
                Ok(model) => Some(Arc::new(model)),
                Err(error) => {
                    refuse(role, name, &error);
                    all = false;
                    None
                }
            }
        };
        if let Some(model) = load("current", current) {
            let shadow =
                shadow.and_then(|name| load("shadow", name).map(|model| (model, name.to_owned())));
            let (shadow, shadow_name) = shadow.unzip();
            hide(&before);
            show(&model, shadow.as_deref());
            tracing::info!(
                current = model.version(),
                shadow = shadow.as_ref().map(|m| m.version()),
                "models in force"
            );
            let mut in_force = self
                .in_force
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            *in_force = Arc::new(InForce {
                current: model,
                shadow,
                names: (current.to_owned(), shadow_name),
            });
        }
        *refused = (!all).then(|| (wanted.clone(), Instant::now()));
        all
    }
}

impl InForce {
    /// What is loaded under a name.
    fn named(&self, name: &str) -> Option<Arc<Model>> {
        if self.names.0 == name {
            return Some(Arc::clone(&self.current));
        }
        let shadow = self.shadow.as_ref()?;
        (self.names.1.as_deref() == Some(name)).then(|| Arc::clone(shadow))
    }
}

fn refuse(role: &'static str, name: &str, error: &ModelError) {
    tracing::error!(role, name, %error, "model refused; what was in force stays");
    metrics::counter!("router_process_models_refused_total").increment(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_model_directory() {
        let dir = Path::new("/models");
        assert_eq!(directory(dir, "builtin").unwrap(), dir);
        assert_eq!(directory(dir, "mine-2.1").unwrap(), dir.join("mine-2.1"));
        for name in ["..", "", ".hidden", "/etc", "a/b", "a\\b", "a b"] {
            assert!(directory(dir, name).is_err(), "{name}");
        }
    }
}
