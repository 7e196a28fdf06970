//! Start, ready, drain, stop: one shutdown signal and one readiness for all parts of a process.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

/// The wish to stop, shared by all parts of a process. The first wish wins.
#[derive(Clone, Debug)]
pub struct Shutdown {
    state: watch::Sender<State>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// Drain and stop.
    Requested,
    /// Drain, stop, and exit with an error.
    Failed(Arc<str>),
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: watch::Sender::new(State::Running),
        }
    }

    /// Triggered by SIGTERM or SIGINT. A second signal ends the process at once.
    ///
    /// # Errors
    /// The signal handlers cannot be installed. Must be called within a tokio runtime.
    pub fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let trigger = shutdown.clone();
        tokio::spawn(async move {
            for round in 0.. {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if round > 0 {
                    tracing::warn!("second signal: stopping without draining");
                    std::process::exit(130);
                }
                tracing::info!("signal received: draining");
                trigger.trigger();
            }
        });
        Ok(shutdown)
    }

    pub fn trigger(&self) {
        self.set(State::Requested);
    }

    /// Stops the process because something cannot be mended from within.
    pub fn fail(&self, reason: &str) {
        tracing::error!(reason, "stopping because of a failure");
        self.set(State::Failed(reason.into()));
    }

    fn set(&self, next: State) {
        self.state.send_if_modified(|state| {
            let first = *state == State::Running;
            if first {
                *state = next;
            }
            first
        });
    }

    #[must_use]
    pub fn requested(&self) -> bool {
        *self.state.borrow() != State::Running
    }

    /// Completes when the process is to stop.
    pub async fn wait(&self) {
        let mut state = self.state.subscribe();
        // The sender lives as long as `self`, so this ends only with the wish to stop.
        state.wait_for(|state| *state != State::Running).await.ok();
    }

    /// What `main` returns after everything has stopped.
    ///
    /// # Errors
    /// The process stopped because of [`Shutdown::fail`].
    pub fn outcome(&self) -> anyhow::Result<()> {
        match &*self.state.borrow() {
            State::Failed(reason) => Err(anyhow::anyhow!("{reason}")),
            _ => Ok(()),
        }
    }
}

/// Ready when every named part is.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    parts: Arc<Mutex<Vec<Named>>>,
}

type Named = (String, Arc<AtomicBool>);

/// One part of a [`Readiness`]; not ready at first.
#[derive(Clone, Debug)]
pub struct ReadinessPart(Arc<AtomicBool>);

impl ReadinessPart {
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }
    #[must_use]
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Readiness {
    #[must_use]
    pub fn part(&self, name: &str) -> ReadinessPart {
        let flag = Arc::new(AtomicBool::new(false));
        self.lock().push((name.to_owned(), Arc::clone(&flag)));
        ReadinessPart(flag)
    }

    /// A process that has no parts yet is still starting.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let parts = self.lock();
        !parts.is_empty() && parts.iter().all(|(_, ready)| ready.load(Ordering::Relaxed))
    }

    /// Each part and whether it is ready.
    #[must_use]
    pub fn parts(&self) -> Vec<(String, bool)> {
        let parts = self.lock();
        parts
            .iter()
            .map(|(name, ready)| (name.clone(), ready.load(Ordering::Relaxed)))
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Named>> {
        self.parts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_wish_to_stop_wins() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.requested());
        shutdown.fail("broken");
        shutdown.trigger();
        shutdown.wait().await;
        assert!(shutdown.outcome().is_err());
    }

    #[test]
    fn ready_means_every_part() {
        let readiness = Readiness::default();
        let (a, b) = (readiness.part("a"), readiness.part("b"));
        a.set(true);
        assert!(!readiness.is_ready());
        b.set(true);
        assert!(readiness.is_ready());
    }
}
