//! Records as the stages before would have left them, so that one stage can be measured alone: raw webhooks
//! for `process`, deliveries for `deliver`, parked deliveries for `retry`.

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use router_runtime::{kafka::KafkaSettings, now_ms, producer::HeaderList};
use router_schemas::{
    DeliveryId, DeliveryMeta, DestinationId, EventId, ProjectId, RawMeta, SourceId,
    delivery::Parked, topics::Rung,
};

use super::topics::{Preload, Prepared};
use crate::load::bodies::{Sample, samples};

/// Different bodies among the records.
const VARIETY: usize = 1_024;

/// Whose the records are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) project_id: ProjectId,
    pub(super) source_id: SourceId,
}

/// Fills `webhooks.raw`.
///
/// # Errors
/// Kafka does not take a record.
pub(super) fn raw(kafka: &KafkaSettings, owner: Owner, count: u64) -> anyhow::Result<()> {
    let mut topic = Preload::into_topic(kafka, &kafka.names().raw)?;
    let samples = samples(VARIETY, 23);
    let sender_headers: Vec<String> = samples.iter().map(sender_headers).collect();
    let progress = progress_bar("raw webhooks", count);
    for turn in 0..count {
        let which = turn as usize % samples.len();
        let meta = RawMeta {
            event_id: EventId::generate(),
            project_id: owner.project_id,
            source_id: owner.source_id,
            key_id: None,
            received_at: jiff::Timestamp::now()
                .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
                .to_string(),
            content_type: Some("application/json".to_owned()),
            content_encoding: None,
            query: None,
            sender_headers: sender_headers[which].clone(),
            config_offset: 0,
            trace_parent: None,
            replay: None,
        };
        let mut headers = HeaderList::with_capacity(12);
        meta.write(|name, value| headers.put(name, value));
        topic.put(Prepared {
            key: meta.event_id.to_string().as_bytes(),
            payload: &samples[which].body,
            headers,
            partition: None,
        })?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    topic.finish()
}

/// As the edge writes them: an array of name and value.
fn sender_headers(sample: &Sample) -> String {
    serde_json::to_string(&sample.headers).expect("text is always written")
}

/// Fills `webhooks.deliveries`, the destinations in turn.
///
/// # Errors
/// Kafka does not take a record.
pub(super) fn deliveries(
    kafka: &KafkaSettings,
    owner: Owner,
    destinations: &[DestinationId],
    count: u64,
) -> anyhow::Result<()> {
    let mut topic = Preload::into_topic(kafka, &kafka.names().deliveries)?;
    let samples = samples(VARIETY, 29);
    let progress = progress_bar("deliveries", count);
    for turn in 0..count {
        let destination = destinations[turn as usize % destinations.len()];
        let meta = delivery(owner, destination, now_ms());
        let body = &samples[turn as usize % samples.len()].body;
        put_delivery(&mut topic, &meta, body, None)?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    topic.finish()
}

/// How parked records fall due.
#[derive(Debug, Clone, Copy)]
pub(super) struct DuePlan {
    pub(super) rung: Rung,
    pub(super) first_due_ms: i64,
    pub(super) per_second: f64,
    pub(super) partitions: i32,
}

/// Fills the topic of one rung with deliveries that have been tried once. Within a partition the due time
/// never decreases, as `deliver` leaves it.
///
/// # Errors
/// Kafka does not take a record.
pub(super) fn parked(
    kafka: &KafkaSettings,
    owner: Owner,
    destination: DestinationId,
    plan: DuePlan,
    count: u64,
) -> anyhow::Result<()> {
    let mut topic = Preload::into_topic(kafka, &kafka.names().retry(plan.rung))?;
    let samples = samples(VARIETY, 31);
    let queued_at_ms = now_ms();
    let progress = progress_bar("parked deliveries", count);
    for turn in 0..count {
        let after_ms = turn as f64 * 1_000.0 / plan.per_second;
        let meta = DeliveryMeta {
            attempts: 1,
            parked: Some(Parked {
                due_ms: plan.first_due_ms + after_ms as i64,
                rungs: Vec::new(),
            }),
            ..delivery(owner, destination, queued_at_ms)
        };
        let body = &samples[turn as usize % samples.len()].body;
        let partition = i32::try_from(turn % plan.partitions.unsigned_abs() as u64)?;
        put_delivery(&mut topic, &meta, body, Some(partition))?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    topic.finish()
}

fn delivery(owner: Owner, destination_id: DestinationId, queued_at_ms: i64) -> DeliveryMeta {
    let event_id = EventId::generate();
    DeliveryMeta {
        delivery_id: DeliveryId::derive(event_id, 0, destination_id, None),
        event_id,
        item: 0,
        project_id: owner.project_id,
        source_id: owner.source_id,
        destination_id,
        route_id: None,
        replay_id: None,
        round: 0,
        attempts: 0,
        queued_at_ms,
        config_offset: 0,
        trace_parent: None,
        parked: None,
    }
}

fn put_delivery(
    topic: &mut Preload,
    meta: &DeliveryMeta,
    body: &[u8],
    partition: Option<i32>,
) -> anyhow::Result<()> {
    let mut headers = HeaderList::with_capacity(2);
    meta.write(Some("application/json"), |name, value| {
        headers.put(name, value)
    });
    let key = format!("{}{}", meta.destination_id, meta.event_id);
    let record = Prepared {
        key: key.as_bytes(),
        payload: body,
        headers,
        partition,
    };
    topic.put(record).context("a delivery")
}

fn progress_bar(what: &str, count: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("  preloading {msg} {bar:30} {pos}/{len} {eta} left");
    ProgressBar::new(count)
        .with_style(style.expect("the template is fixed"))
        .with_message(what.to_owned())
}
