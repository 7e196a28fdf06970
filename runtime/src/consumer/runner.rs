//! How stages are called: in batches or one by one. Their outcomes are counted here, and a panic costs
//! only its record.

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::sync::watch;

use super::{
    BatchStage, EachStage, Effects, Envelope, Incoming, Outcome, Unreadable,
    effects::{Completions, Finished, Ticket},
};
use crate::lifecycle::Shutdown;

/// Panics of this many origins within [`PANIC_WINDOW`] are a fault of ours, not of one sender.
const PANIC_ORIGINS: usize = 10;
const PANIC_WINDOW: Duration = Duration::from_secs(60);

/// A record on its way through a stage.
pub(crate) struct Task<In> {
    pub(crate) ticket: Ticket,
    pub(crate) envelope: Envelope<In>,
    /// Closed when the partition is let go: what still runs for it is dropped.
    pub(crate) cancelled: watch::Receiver<()>,
}

pub(crate) trait Runner: Send + Sync + 'static {
    type In: Send + 'static;
    fn read(&self, record: &Incoming) -> Result<Self::In, Unreadable>;
    fn not_before_ms(&self, value: &Self::In) -> i64;
    fn refuse(&self, record: &Incoming, reason: &'static str, detail: String) -> Outcome;
    /// Works the tasks, or sees to it that they are worked; every task is finished through `port`.
    fn run(
        self: Arc<Self>,
        tasks: Vec<Task<Self::In>>,
        port: Arc<Port>,
    ) -> impl Future<Output = ()> + Send;
}

/// Where a stage's outcomes go.
pub(crate) struct Port {
    pub(crate) stage: &'static str,
    pub(crate) effects: Effects,
    pub(crate) completions: Arc<Completions>,
    pub(crate) shutdown: Shutdown,
    pub(crate) outcomes: Mutex<HashMap<&'static str, metrics::Counter>>,
    pub(crate) panics: Mutex<VecDeque<(Instant, u64)>>,
}

impl Port {
    pub(crate) async fn finish(&self, ticket: Ticket, record: &Arc<Incoming>, outcome: Outcome) {
        self.count(&outcome);
        self.effects
            .submit(self.stage, ticket, record, outcome, &self.completions)
            .await;
    }

    fn count(&self, outcome: &Outcome) {
        let mut counters = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = counters.entry(outcome.label).or_insert_with(|| {
            metrics::counter!("router_stage_outcomes_total", "stage" => self.stage, "outcome" => outcome.label)
        });
        counter.increment(1);
        if let Some(dead) = &outcome.dead {
            metrics::counter!("router_stage_dead_total", "stage" => self.stage, "reason" => dead.reason)
                .increment(1);
            tracing::warn!(
                stage = self.stage,
                reason = dead.reason,
                detail = dead.detail,
                "record set aside in the dead letters"
            );
        }
    }

    /// Notes a panic, and ends the process where panics come from many origins at once.
    fn panicked(&self, origin: u64, panic: &(dyn Any + Send)) -> String {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panic without a message".to_owned());
        let now = Instant::now();
        let mut panics = self.panics.lock().unwrap_or_else(PoisonError::into_inner);
        panics.retain(|(at, other)| now.duration_since(*at) < PANIC_WINDOW && *other != origin);
        panics.push_back((now, origin));
        if panics.len() >= PANIC_ORIGINS {
            self.shutdown.fail(&format!(
                "{} panics on records of many origins: {text}",
                self.stage
            ));
        }
        text
    }
}

pub(crate) struct Batches<S>(pub(crate) Arc<S>);

impl<S: BatchStage> Batches<S> {
    async fn one_by_one(&self, tasks: Vec<(Ticket, Arc<Incoming>)>, port: &Port) {
        for (ticket, record) in tasks {
            let outcome = match self.0.read(&record) {
                Err(Unreadable(why)) => self.0.refuse(&record, "unreadable", why),
                Ok(value) => {
                    let envelope = Envelope {
                        value,
                        record: Arc::clone(&record),
                    };
                    let work = AssertUnwindSafe(async { self.0.work(vec![envelope]).await });
                    match work.catch_unwind().await {
                        Ok(mut outcomes) if outcomes.len() == 1 => outcomes.remove(0),
                        Ok(_) => {
                            self.0
                                .refuse(&record, "panic", "the stage gave no outcome".into())
                        }
                        Err(panic) => {
                            let text = port.panicked(self.0.origin(&record), &*panic);
                            self.0.refuse(&record, "panic", text)
                        }
                    }
                }
            };
            port.finish(ticket, &record, outcome).await;
        }
    }
}

impl<S: BatchStage> Runner for Batches<S> {
    type In = S::In;

    fn read(&self, record: &Incoming) -> Result<S::In, Unreadable> {
        self.0.read(record)
    }
    fn not_before_ms(&self, value: &S::In) -> i64 {
        self.0.not_before_ms(value)
    }
    fn refuse(&self, record: &Incoming, reason: &'static str, detail: String) -> Outcome {
        self.0.refuse(record, reason, detail)
    }

    async fn run(self: Arc<Self>, tasks: Vec<Task<S::In>>, port: Arc<Port>) {
        let mut places = Vec::with_capacity(tasks.len());
        let mut batch = Vec::with_capacity(tasks.len());
        for task in tasks {
            places.push((task.ticket, Arc::clone(&task.envelope.record)));
            batch.push(task.envelope);
        }
        let work = AssertUnwindSafe(async { self.0.work(batch).await });
        match work.catch_unwind().await {
            Ok(outcomes) if outcomes.len() == places.len() => {
                for ((ticket, record), outcome) in places.into_iter().zip(outcomes) {
                    port.finish(ticket, &record, outcome).await;
                }
            }
            _ => self.one_by_one(places, &port).await,
        }
    }
}

pub(crate) struct Each<S>(pub(crate) Arc<S>);

impl<S: EachStage> Runner for Each<S> {
    type In = S::In;

    fn read(&self, record: &Incoming) -> Result<S::In, Unreadable> {
        self.0.read(record)
    }
    fn not_before_ms(&self, _: &S::In) -> i64 {
        0
    }
    fn refuse(&self, record: &Incoming, reason: &'static str, detail: String) -> Outcome {
        self.0.refuse(record, reason, detail)
    }

    async fn run(self: Arc<Self>, tasks: Vec<Task<S::In>>, port: Arc<Port>) {
        for task in tasks {
            let (stage, port) = (Arc::clone(&self.0), Arc::clone(&port));
            tokio::spawn(async move {
                let Task {
                    ticket,
                    envelope,
                    mut cancelled,
                } = task;
                let record = Arc::clone(&envelope.record);
                let work = AssertUnwindSafe(stage.process(envelope)).catch_unwind();
                let outcome = tokio::select! {
                    biased;
                    done = work => match done {
                        Ok(outcome) => outcome,
                        Err(panic) => {
                            let text = port.panicked(stage.origin(&record), &*panic);
                            stage.refuse(&record, "panic", text)
                        }
                    },
                    // The partition was let go: the ticket only gives its share of the budget back.
                    _ = cancelled.changed() => {
                        port.completions.push(Finished::Done(ticket));
                        return;
                    }
                };
                port.finish(ticket, &record, outcome).await;
            });
        }
    }
}
