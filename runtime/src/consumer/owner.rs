//! The owner of one consumer: polls, keeps the ledgers, commits, answers rebalances.
//!
//! Every partition has a queue of its own, read in turn while the budget lasts. The main queue is polled
//! on every tick whatever the budget says, so that backpressure never looks like a dead member; what is
//! fetched ahead stays where it is.
//!
//! - `places`: where a partition goes on. `rebalances`: partitions that come and go. `commits`: what is committed.

mod commits;
mod places;
mod rebalances;

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rdkafka::{
    TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer, base_consumer::PartitionQueue},
    error::KafkaError,
    message::Message as _,
    types::RDKafkaErrorCode,
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinHandle,
    time::MissedTickBehavior,
};

use self::commits::{CommitEnd, State};
use super::{
    ConsumerSettings, Effects, Envelope, Incoming,
    context::{Context, Rebalance},
    effects::{Completions, Finished, Ticket},
    ledger::{Ledger, Received},
    record::Unreadable,
    runner::{Port, Runner, Task},
};
use crate::{
    lifecycle::{ReadinessPart, Shutdown},
    now_ms,
};

/// The main queue is served, commits are considered and deadlines checked this often.
const TICK: Duration = Duration::from_millis(20);
/// Records taken from one partition before the next has its turn.
const TURN: usize = 32;

type Queue = PartitionQueue<Context>;

/// One assigned partition.
struct Slot<In> {
    topic: Arc<str>,
    partition: i32,
    epoch: u32,
    queue: Queue,
    ledger: Ledger,
    /// Dispatched or waiting for dispatch, and not finished.
    in_work: usize,
    /// The head of a delayed partition, until it is due.
    held: Option<(i64, Task<In>)>,
    committed: State,
    revoked: bool,
    /// The next record no longer exists, and where to go on is not known yet.
    lost_place: bool,
    /// Dropped with the slot: cancels what still runs.
    cancel: watch::Sender<()>,
}

/// A revocation that waits for what is in work.
struct Revocation {
    partitions: Vec<(String, i32)>,
    deadline: Instant,
}

struct Meters {
    in_flight: metrics::Gauge,
    received: metrics::Counter,
    skipped: metrics::Counter,
    lost: metrics::Counter,
    rebalances: metrics::Counter,
    commit_errors: metrics::Counter,
}

struct Owner<R: Runner> {
    settings: ConsumerSettings,
    runner: Arc<R>,
    consumer: Arc<BaseConsumer<Context>>,
    port: Arc<Port>,
    queue_filled: Arc<Notify>,
    slots: Vec<Option<Slot<R::In>>>,
    /// Where the next round of polling begins, so that every partition has its turn.
    turn: usize,
    /// Records may be waiting in partition queues.
    maybe_filled: bool,
    waiting: Vec<Task<R::In>>,
    waiting_bytes: usize,
    in_flight: usize,
    in_flight_bytes: usize,
    epochs: u32,
    revocation: Option<Revocation>,
    last_commit: Instant,
    committing: Option<JoinHandle<CommitEnd>>,
    draining: bool,
    ready: ReadinessPart,
    meters: Meters,
}

pub(crate) async fn run<R: Runner>(
    settings: ConsumerSettings,
    runner: R,
    effects: Effects,
    ready: ReadinessPart,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let stage = settings.stage;
    let consumer: BaseConsumer<Context> =
        BaseConsumer::from_config_and_context(&settings.client_config(), Context::new(stage))
            .with_context(|| format!("cannot make the consumer of {stage}"))?;
    let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics)?;
    let port = Port {
        stage,
        effects,
        completions: Arc::new(Completions::default()),
        shutdown: shutdown.clone(),
        outcomes: std::sync::Mutex::default(),
        panics: std::sync::Mutex::default(),
    };
    let owner = Owner {
        runner: Arc::new(runner),
        consumer: Arc::new(consumer),
        port: Arc::new(port),
        queue_filled: Arc::new(Notify::new()),
        slots: Vec::new(),
        turn: 0,
        maybe_filled: false,
        waiting: Vec::new(),
        waiting_bytes: 0,
        in_flight: 0,
        in_flight_bytes: 0,
        epochs: 0,
        revocation: None,
        last_commit: Instant::now(),
        committing: None,
        draining: false,
        ready,
        meters: Meters {
            in_flight: metrics::gauge!("router_consumer_in_flight_records", "stage" => stage),
            received: metrics::counter!("router_consumer_received_total", "stage" => stage),
            skipped: metrics::counter!("router_consumer_skipped_finished_total", "stage" => stage),
            lost: metrics::counter!("router_consumer_expired_records_total", "stage" => stage),
            rebalances: metrics::counter!("router_consumer_rebalances_total", "stage" => stage),
            commit_errors: metrics::counter!("router_consumer_commit_errors_total", "stage" => stage),
        },
        settings,
    };
    owner.run(shutdown).await
}

impl<R: Runner> Owner<R> {
    async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        let completions = Arc::clone(&self.port.completions);
        let filled = Arc::clone(&self.queue_filled);
        let permits = Arc::new(Semaphore::new(self.settings.parallel_batches));
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut drain_deadline = None;
        let mut finished = Vec::new();
        loop {
            let head_due = self.next_head_due();
            tokio::select! {
                biased;
                () = shutdown.wait(), if !self.draining => {
                    self.draining = true;
                    self.ready.set(false);
                    self.drop_unstarted();
                    drain_deadline = Some(Instant::now() + self.settings.drain_timeout);
                }
                _ = tick.tick() => self.tick()?,
                () = completions.notify.notified() => {
                    completions.take(&mut finished);
                    self.complete(&mut finished).await;
                }
                permit = Arc::clone(&permits).acquire_owned(), if !self.waiting.is_empty() => {
                    let permit = permit.context("the semaphore is never closed")?;
                    let tasks = self.next_batch();
                    let (runner, port) = (Arc::clone(&self.runner), Arc::clone(&self.port));
                    tokio::spawn(async move {
                        runner.run(tasks, port).await;
                        drop(permit);
                    });
                }
                ended = async { self.committing.as_mut().expect("guarded").await }, if self.committing.is_some() => {
                    self.commit_ended(ended);
                }
                () = filled.notified() => self.maybe_filled = true,
                () = sleep_until(head_due), if head_due.is_some() => self.release_heads(),
            }
            self.pump();
            if let Some(deadline) = drain_deadline
                && (self.in_flight == 0 || Instant::now() >= deadline)
            {
                break;
            }
        }
        self.close().await;
        Ok(())
    }

    // --- polling ---

    /// Reads partition queues in turn while the budget lasts.
    fn pump(&mut self) {
        while self.maybe_filled && !self.draining && self.has_budget() {
            let count = self.slots.len();
            let mut any = false;
            for step in 0..count {
                let index = (self.turn + step) % count;
                for _ in 0..TURN {
                    if !self.has_budget() {
                        self.turn = index;
                        return;
                    }
                    if !self.poll_slot(index) {
                        break;
                    }
                    any = true;
                }
            }
            self.turn = (self.turn + 1) % count.max(1);
            self.maybe_filled = any;
        }
    }

    fn has_budget(&self) -> bool {
        self.in_flight < self.settings.max_in_flight
            && self.in_flight_bytes < self.settings.max_in_flight_bytes
            && self.waiting.len() < self.settings.max_batch
            && self.waiting_bytes < self.settings.max_batch_bytes
    }

    /// Takes one record of a partition. False where there is none to take now.
    fn poll_slot(&mut self, index: usize) -> bool {
        let Some(slot) = &self.slots[index] else {
            return false;
        };
        if slot.revoked || slot.held.is_some() {
            return false;
        }
        let incoming = match slot.queue.poll(Duration::ZERO) {
            None => return false,
            Some(Ok(message)) => Incoming::copy(Arc::clone(&slot.topic), &message),
            Some(Err(error)) => {
                self.partition_error(index, &error);
                return true;
            }
        };
        self.receive(index, incoming);
        true
    }

    fn receive(&mut self, index: usize, incoming: Incoming) {
        let Some(slot) = &mut self.slots[index] else {
            return;
        };
        match slot.ledger.receive(incoming.offset()) {
            Received::New => {}
            Received::AlreadyDone => {
                self.meters.skipped.increment(1);
                return;
            }
            Received::Repeated => return,
        }
        self.meters.received.increment(1);
        let record = Arc::new(incoming);
        let bytes = record.bytes();
        let ticket = Ticket {
            slot: index,
            epoch: slot.epoch,
            offset: record.offset(),
            bytes,
        };
        slot.in_work += 1;
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        let value = match self.runner.read(&record) {
            Ok(value) => value,
            Err(Unreadable(why)) => {
                let outcome = self.runner.refuse(&record, "unreadable", why);
                let port = Arc::clone(&self.port);
                tokio::spawn(async move { port.finish(ticket, &record, outcome).await });
                return;
            }
        };
        let due_ms = self.runner.not_before_ms(&value);
        let cancelled = slot.cancel.subscribe();
        let task = Task {
            ticket,
            envelope: Envelope { value, record },
            cancelled,
        };
        if due_ms > now_ms() {
            // A held head is not in work: nobody waits for it when the partition is let go.
            slot.in_work -= 1;
            slot.held = Some((due_ms, task));
            return;
        }
        self.waiting_bytes += bytes;
        self.waiting.push(task);
    }

    fn next_batch(&mut self) -> Vec<Task<R::In>> {
        self.waiting_bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    // --- delayed heads ---

    fn next_head_due(&self) -> Option<i64> {
        let heads = self.slots.iter().flatten().filter(|slot| !slot.revoked);
        heads
            .filter_map(|slot| slot.held.as_ref().map(|(due, _)| *due))
            .min()
    }

    fn release_heads(&mut self) {
        let now = now_ms();
        for slot in self.slots.iter_mut().flatten() {
            let due = slot.held.as_ref().is_some_and(|(due, _)| *due <= now);
            if due
                && !slot.revoked
                && let Some((_, task)) = slot.held.take()
            {
                slot.in_work += 1;
                self.waiting_bytes += task.ticket.bytes;
                self.waiting.push(task);
            }
        }
        // What stands behind a released head may be due as well.
        self.maybe_filled = true;
    }

    // --- completions ---

    async fn complete(&mut self, finished: &mut Vec<Finished>) {
        for one in finished.drain(..) {
            match one {
                Finished::Done(ticket) => self.settle(ticket),
                Finished::Refused {
                    ticket,
                    record,
                    detail,
                    already_dead: false,
                } => {
                    let outcome = self.runner.refuse(&record, "effect_refused", detail);
                    let port = Arc::clone(&self.port);
                    tokio::spawn(async move { port.finish(ticket, &record, outcome).await });
                }
                Finished::Refused {
                    ticket,
                    record,
                    detail,
                    already_dead: true,
                } => {
                    tracing::error!(
                        stage = self.settings.stage,
                        topic = record.topic(),
                        partition = record.partition(),
                        offset = record.offset(),
                        detail,
                        "kafka refuses the dead letter; setting it aside without its body"
                    );
                    if record.payload().is_empty() {
                        self.port
                            .shutdown
                            .fail("kafka refuses a dead letter without a body");
                        continue;
                    }
                    let port = Arc::clone(&self.port);
                    tokio::spawn(async move {
                        let completions = &port.completions;
                        port.effects
                            .bury(port.stage, ticket, &record, detail, completions)
                            .await;
                    });
                }
            }
        }
    }

    fn settle(&mut self, ticket: Ticket) {
        self.in_flight -= 1;
        self.in_flight_bytes -= ticket.bytes;
        let Some(slot) = self.slots.get_mut(ticket.slot).and_then(Option::as_mut) else {
            return;
        };
        // A completion of an older assignment says nothing about this one.
        if slot.epoch == ticket.epoch {
            slot.in_work -= 1;
            slot.ledger.complete(ticket.offset);
        }
    }

    // --- ticks ---

    fn tick(&mut self) -> anyhow::Result<()> {
        self.serve_main_queue()?;
        for rebalance in self.consumer.context().take_rebalances() {
            self.meters.rebalances.increment(1);
            match rebalance {
                Rebalance::Assign(partitions) => self.assign(&partitions)?,
                Rebalance::Revoke(partitions) => self.begin_revocation(partitions),
            }
        }
        self.find_places();
        self.finish_revocation()?;
        self.start_commit();
        self.meters.in_flight.set(self.in_flight as f64);
        Ok(())
    }

    /// Serves callbacks. Records come this way only if they were fetched before their partition's queue
    /// was split off; they are older than what stands there.
    fn serve_main_queue(&mut self) -> anyhow::Result<()> {
        let consumer = Arc::clone(&self.consumer);
        // A rebalance ends the run: it is answered before anything else is read.
        for _ in 0..64 {
            match consumer.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    let place = (message.topic(), message.partition());
                    if let Some(index) = self.find(place.0, place.1)
                        && let Some(slot) = &self.slots[index]
                    {
                        let incoming = Incoming::copy(Arc::clone(&slot.topic), &message);
                        self.receive(index, incoming);
                    }
                }
                Some(Err(error)) => self.consumer_error(&error),
            }
        }
        let fatal = &consumer.context().fatal;
        if let Some(reason) = fatal.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bail!("consumer of {}: {reason}", self.settings.stage);
        }
        Ok(())
    }

    fn consumer_error(&self, error: &KafkaError) {
        match error {
            KafkaError::MessageConsumptionFatal(code) => {
                let reason = format!("consumer of {}: {code}", self.settings.stage);
                self.port.shutdown.fail(&reason);
            }
            // librdkafka goes on by itself; the topic may be about to be created.
            error => tracing::warn!(stage = self.settings.stage, %error, "kafka consumer"),
        }
    }

    /// An error that came through a partition's queue.
    fn partition_error(&mut self, index: usize, error: &KafkaError) {
        let Some(slot) = &mut self.slots[index] else {
            return;
        };
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AutoOffsetReset) {
            tracing::warn!(stage = self.settings.stage, topic = &*slot.topic, partition = slot.partition, %error, "kafka consumer");
            return;
        }
        slot.lost_place = true;
        self.find_places();
    }

    // --- partitions ---

    fn find(&self, topic: &str, partition: i32) -> Option<usize> {
        self.slots.iter().position(|slot| {
            slot.as_ref()
                .is_some_and(|s| s.partition == partition && &*s.topic == topic)
        })
    }

    fn owned(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    // --- the end ---

    async fn close(mut self) {
        if self.in_flight > 0 {
            tracing::warn!(
                stage = self.settings.stage,
                in_flight = self.in_flight,
                "stopping while records are in work; these will be repeated"
            );
        }
        if let Some(committing) = self.committing.take() {
            self.commit_ended(committing.await);
        }
        self.commit_now(|_| true);
        self.consumer
            .context()
            .closing
            .store(true, Ordering::Release);
        let unanswered = self.consumer.context().take_rebalances();
        self.slots.clear();
        let (consumer, revocation) = (self.consumer, self.revocation);
        let closed = tokio::task::spawn_blocking(move || {
            // A rebalance that was noted and not answered would block the close for ever.
            let pending = unanswered.into_iter().map(|rebalance| match rebalance {
                Rebalance::Assign(_) => Vec::new(),
                Rebalance::Revoke(partitions) => partitions,
            });
            for partitions in pending.chain(revocation.map(|revocation| revocation.partitions)) {
                let mut list = TopicPartitionList::new();
                partitions.iter().for_each(|(topic, partition)| {
                    list.add_partition(topic, *partition);
                });
                consumer.incremental_unassign(&list).ok();
            }
            drop(consumer);
        });
        closed.await.ok();
        tracing::info!(stage = self.settings.stage, "consumer closed");
    }
}

async fn sleep_until(due_ms: Option<i64>) {
    let wait = due_ms.map_or(0, |due| (due - now_ms()).max(0));
    tokio::time::sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0))).await;
}
