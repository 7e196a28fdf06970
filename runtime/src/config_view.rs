//! Follows `control.config`: reads it from the start into a view in memory, is ready once it has reached
//! the end that it saw when it started and has met the marker, and follows it from then on.
//!
//! What the records mean is the view's business; here is only that a newer version wins, that a record
//! which cannot be read leaves the value before it, and how far the view has come.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, DefaultConsumerContext},
    error::KafkaError,
    message::Message as _,
};
use router_schemas::config::{ConfigRecord, MARKER_KEY, READER_VERSION};
use tokio::sync::watch;

use crate::{
    kafka::KafkaSettings,
    lifecycle::{ReadinessPart, Shutdown},
};

const POLL: Duration = Duration::from_millis(200);
const BROKER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stage waits at the most for its view to come as far as a record says another has.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(3);

/// Settings in memory, kept up to date by [`follow`].
pub trait View: Send + Sync + 'static {
    /// Sets or, without a value, deletes what stands under `<kind>/<id>`. Kinds that it does not need
    /// are ignored.
    ///
    /// # Errors
    /// The value cannot be used; what stood there before stays.
    fn apply(&self, kind: &str, id: &str, value: Option<&str>) -> Result<(), String>;

    /// A record under `<kind>/<id>` could not be used, so that what the view has there, or that it has nothing, is
    /// not the last word.
    fn unusable(&self, _kind: &str, _id: &str) {}
}

/// How far the view has come.
#[derive(Clone)]
pub struct ConfigPosition {
    position: watch::Receiver<i64>,
    complete: watch::Receiver<bool>,
    consumer: Arc<BaseConsumer>,
    topic: Arc<str>,
}

impl ConfigPosition {
    /// The offset that is read next.
    #[must_use]
    pub fn current(&self) -> i64 {
        *self.position.borrow()
    }

    /// Waits until the view is complete. False where the process is to stop before that.
    ///
    /// Whoever decides by settings waits for this first: to a view that has read nothing yet, every destination
    /// is one that was deleted.
    pub async fn completed(&self, shutdown: &Shutdown) -> bool {
        let mut complete = self.complete.clone();
        tokio::select! {
            told = complete.wait_for(|complete| *complete) => told.is_ok(),
            () = shutdown.wait() => false,
        }
    }

    /// Waits until the view has come as far as `offset`, but never past the topic's present end and never longer
    /// than a few seconds. False where it has not: what is not in the view then may still be on its way.
    pub async fn caught_up_to(&self, offset: i64) -> bool {
        if self.current() >= offset {
            return true;
        }
        let caught_up = async {
            let target = offset.min(self.end().await);
            let mut position = self.position.clone();
            position.wait_for(|at| *at >= target).await.is_ok()
        };
        let caught_up = tokio::time::timeout(CATCH_UP_TIMEOUT, caught_up).await;
        caught_up.unwrap_or(false)
    }

    /// The topic's present end; asked for until Kafka answers.
    async fn end(&self) -> i64 {
        loop {
            let (consumer, topic) = (Arc::clone(&self.consumer), Arc::clone(&self.topic));
            let asked = tokio::task::spawn_blocking(move || {
                consumer.fetch_watermarks(&topic, 0, BROKER_TIMEOUT)
            });
            if let Ok(Ok((_, end))) = asked.await {
                return end;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Starts a thread that keeps `view` up to date until `shutdown`; `ready` is set once it is complete.
///
/// # Errors
/// librdkafka refuses the configuration.
pub fn follow<V: View>(
    settings: &KafkaSettings,
    view: Arc<V>,
    ready: ReadinessPart,
    shutdown: Shutdown,
) -> anyhow::Result<ConfigPosition> {
    let config = settings.with(&[
        // Partitions are assigned by hand and nothing is committed; librdkafka wants a group's name.
        ("group.id", "config-view"),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("isolation.level", "read_committed"),
        ("auto.offset.reset", "earliest"),
        ("fetch.wait.max.ms", "100"),
    ]);
    let consumer: BaseConsumer = config
        .create()
        .context("cannot make the consumer of the config topic")?;
    let consumer = Arc::new(consumer);
    let topic: Arc<str> = settings.names().config.into();
    let (sender, receiver) = watch::channel(0);
    let (complete, completed) = watch::channel(false);
    let follower = Follower {
        consumer: Arc::clone(&consumer),
        topic: Arc::clone(&topic),
        view,
        versions: HashMap::new(),
        marker: false,
        position: sender,
        complete,
        ready,
        unreadable: metrics::counter!("router_config_unreadable_total"),
        offset_gauge: metrics::gauge!("router_config_position"),
    };
    std::thread::Builder::new()
        .name("config-view".into())
        .spawn(move || follower.run(&shutdown))
        .context("cannot start a thread")?;
    Ok(ConfigPosition {
        position: receiver,
        complete: completed,
        consumer,
        topic,
    })
}

struct Follower<V> {
    consumer: Arc<BaseConsumer<DefaultConsumerContext>>,
    topic: Arc<str>,
    view: Arc<V>,
    versions: HashMap<String, i64>,
    marker: bool,
    position: watch::Sender<i64>,
    complete: watch::Sender<bool>,
    ready: ReadinessPart,
    unreadable: metrics::Counter,
    offset_gauge: metrics::Gauge,
}

impl<V: View> Follower<V> {
    fn run(mut self, shutdown: &Shutdown) {
        let Some(end) = self.start(shutdown) else {
            return;
        };
        let mut complete = false;
        while !shutdown.requested() {
            // The borrow of the consumer must end before `self` is used mutably.
            let consumer = Arc::clone(&self.consumer);
            match consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    let key = message.key().unwrap_or_default();
                    self.read(key, message.payload(), message.offset());
                    self.set_position(message.offset() + 1);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    let position = consumer.position().ok();
                    let position =
                        position.and_then(|list| list.elements().first()?.offset().to_raw());
                    // Transaction markers lie behind the last record: only this tells that they are passed.
                    self.set_position(position.unwrap_or(end).max(end));
                    if !self.marker {
                        tracing::error!(
                            topic = &*self.topic,
                            "the config topic holds no marker record: it is empty or was emptied; run `control-plane config republish`"
                        );
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, topic = &*self.topic, "kafka config view");
                    std::thread::sleep(POLL);
                }
            }
            if !complete && self.marker && *self.position.borrow() >= end {
                complete = true;
                self.complete.send_replace(true);
                self.ready.set(true);
                tracing::info!(
                    position = *self.position.borrow(),
                    settings = self.versions.len(),
                    "config view is complete"
                );
            }
        }
    }

    /// Finds the topic's present end and assigns it from the start; tries until Kafka answers.
    fn start(&self, shutdown: &Shutdown) -> Option<i64> {
        let mut said = false;
        while !shutdown.requested() {
            match self
                .consumer
                .fetch_watermarks(&self.topic, 0, BROKER_TIMEOUT)
            {
                Ok((_, end)) => {
                    let mut list = TopicPartitionList::new();
                    let added = list.add_partition_offset(&self.topic, 0, Offset::Beginning);
                    if added.is_ok() && self.consumer.assign(&list).is_ok() {
                        return Some(end);
                    }
                }
                Err(error) if !said => {
                    said = true;
                    tracing::warn!(%error, topic = &*self.topic, "cannot reach the config topic yet; has `control-plane topics create` been run?");
                }
                Err(_) => {}
            }
            std::thread::sleep(POLL);
        }
        None
    }

    fn set_position(&self, position: i64) {
        self.offset_gauge.set(position as f64);
        self.position.send_if_modified(|at| {
            let moved = position > *at;
            *at = position.max(*at);
            moved
        });
    }

    fn read(&mut self, key: &[u8], value: Option<&[u8]>, offset: i64) {
        if key == MARKER_KEY.as_bytes() {
            self.marker = value.is_some();
            return;
        }
        if let Err(why) = self.try_read(key, value) {
            self.unreadable.increment(1);
            let key = String::from_utf8_lossy(key);
            if let Some((kind, id)) = key.split_once('/') {
                self.view.unusable(kind, id);
            }
            tracing::error!(offset, %key, why, "a config record cannot be read; what stood there before stays");
        }
    }

    fn try_read(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        let key = std::str::from_utf8(key).map_err(|error| error.to_string())?;
        let (kind, id) = key.split_once('/').ok_or("the key is not <kind>/<id>")?;
        let Some(value) = value else {
            self.versions.remove(key);
            return self.view.apply(kind, id, None);
        };
        let record: ConfigRecord<'_> =
            serde_json::from_slice(value).map_err(|error| error.to_string())?;
        if record.reader > READER_VERSION {
            return Err(format!(
                "needs a reader of version {}, this is {READER_VERSION}",
                record.reader
            ));
        }
        if self
            .versions
            .get(key)
            .is_some_and(|known| *known > record.version)
        {
            return Ok(());
        }
        self.view.apply(kind, id, Some(record.value.get()))?;
        self.versions.insert(key.to_owned(), record.version);
        Ok(())
    }
}
