//! A batch of raw webhooks from records to outcomes: unpack, classify together, extract, match routes,
//! compose.

use std::sync::Arc;

use router_runtime::{
    config_view::ConfigPosition,
    consumer::{BatchStage, Dead, Envelope, Incoming, Outcome, Unreadable},
    now_ms,
};
use router_schemas::{
    CATEGORIES, Classification, EventId, ProcessedRecord, ProjectId, RawMeta, SourceId,
    processed::{DecidedBy, ProcessOutcome},
};

use super::{
    compose::{Outlets, Worked, processed_record},
    matching,
};
use crate::{
    body::Body,
    classify::{Classifier, Webhook},
    directory::{Directory, Tables},
    extract::Extractor,
    headers::SenderHeaders,
};

/// What live traffic and replays share.
pub struct Shared {
    pub directory: Arc<Directory>,
    pub config_position: ConfigPosition,
    pub classifier: Classifier,
    pub extractor: Extractor,
    pub outlets: Outlets,
    /// Largest body that is unpacked or parsed.
    pub body_limit_bytes: usize,
    pub meters: Meters,
}

/// Handles of the stage's metrics, resolved once.
pub struct Meters {
    batch_seconds: metrics::Histogram,
    packed: metrics::Counter,
    /// As `CATEGORIES`, and one for all that users name themselves: these have no bound.
    categories: Vec<metrics::Counter>,
    /// As `DecidedBy::ALL`.
    decided: Vec<metrics::Counter>,
}

/// The category of metrics that stands for every one of a user's own.
const OWN: &str = "own";

impl Default for Meters {
    fn default() -> Self {
        let category =
            |name| metrics::counter!("router_process_classified_total", "category" => name);
        let decided =
            |by: DecidedBy| metrics::counter!("router_process_decided_total", "by" => by.name());
        Self {
            batch_seconds: metrics::histogram!("router_process_batch_seconds"),
            packed: metrics::counter!("router_process_left_packed_total"),
            categories: CATEGORIES.into_iter().chain([OWN]).map(category).collect(),
            decided: DecidedBy::ALL.into_iter().map(decided).collect(),
        }
    }
}

impl Meters {
    fn count(&self, classification: &Classification) {
        let category = CATEGORIES
            .iter()
            .position(|known| *known == classification.category);
        let by = DecidedBy::ALL
            .iter()
            .position(|by| *by == classification.decided_by);
        if let (Some(category), Some(by)) = (
            self.categories.get(category.unwrap_or(CATEGORIES.len())),
            by.and_then(|by| self.decided.get(by)),
        ) {
            category.increment(1);
            by.increment(1);
        }
    }
}

/// The stage.
#[derive(Clone)]
pub struct ProcessStage(pub Arc<Shared>);

/// One webhook of a batch, read.
struct Item {
    meta: RawMeta,
    record: Arc<Incoming>,
    body: Body,
}

impl BatchStage for ProcessStage {
    type In = RawMeta;

    fn read(&self, record: &Incoming) -> Result<RawMeta, Unreadable> {
        let meta = RawMeta::read(record.headers())?;
        meta.event_id.check_given(record.timestamp_ms())?;
        Ok(meta)
    }

    async fn work(&self, batch: Vec<Envelope<RawMeta>>) -> Vec<Outcome> {
        let began = std::time::Instant::now();
        let shared = &*self.0;
        // Routes that were in force when a webhook came in are known before it is routed; after a few seconds it
        // is routed by those that are.
        let seen = batch
            .iter()
            .map(|envelope| envelope.value.config_offset)
            .max()
            .unwrap_or(0);
        shared.config_position.caught_up_to(seen).await;
        let config_offset = shared.config_position.current();
        let tables = shared.directory.snapshot();

        let mut items = Vec::with_capacity(batch.len());
        for Envelope {
            value: meta,
            record,
        } in batch
        {
            let body = Body::read(
                record.payload_bytes(),
                meta.content_type.as_deref(),
                meta.content_encoding.as_deref(),
                shared.body_limit_bytes,
            );
            if let Some(why) = body.packed {
                shared.meters.packed.increment(1);
                tracing::debug!(event = %meta.event_id, %why, "body left as it came");
            }
            items.push(Item { meta, record, body });
        }
        let headers: Vec<_> = items
            .iter()
            .map(|item| SenderHeaders::parse(&item.meta.sender_headers))
            .collect();
        let webhooks: Vec<_> = items
            .iter()
            .zip(&headers)
            .map(|(item, headers)| Webhook {
                project_id: item.meta.project_id,
                source_id: item.meta.source_id,
                headers,
                content_type: item.body.content_type.as_deref(),
                body: &item.body.bytes,
                document: item.body.value(),
            })
            .collect();
        let answers = match shared.classifier.classify(&tables, &webhooks) {
            Ok(answers) => answers,
            // One webhook may be to blame: each is tried by itself.
            Err(_) if items.len() > 1 => return Vec::new(),
            Err(error) => {
                tracing::error!(%error, "the model does not answer");
                let refuse =
                    |item: &Item| self.refuse(&item.record, "model_failed", error.to_string());
                return items.iter().map(refuse).collect();
            }
        };
        let outcomes = items
            .iter()
            .zip(&headers)
            .zip(answers)
            .map(|((item, headers), classification)| {
                shared.conclude(item, headers, classification, &tables, config_offset)
            })
            .collect();
        shared
            .meters
            .batch_seconds
            .record(began.elapsed().as_secs_f64());
        outcomes
    }

    /// What is set aside is accounted for: under its own id, or under one made of its place where it has
    /// none that can be used.
    fn refuse(&self, record: &Incoming, reason: &'static str, detail: String) -> Outcome {
        let meta = self.read(record).ok();
        let position = record.position();
        let synthetic = || {
            EventId::synthetic(
                record.timestamp_ms(),
                record.topic(),
                record.partition(),
                record.offset(),
            )
        };
        let project_id = meta
            .as_ref()
            .map_or(ProjectId::DEFAULT, |meta| meta.project_id);
        let replay = meta.as_ref().and_then(|meta| meta.replay);
        let processed = ProcessedRecord {
            event_id: meta.as_ref().map_or_else(synthetic, |meta| meta.event_id),
            item: 0,
            replay_id: replay.and_then(|replay| replay.replay_id),
            round: replay.map_or(0, |replay| replay.round),
            project_id,
            source_id: meta
                .as_ref()
                .map_or(SourceId(uuid::Uuid::nil()), |meta| meta.source_id),
            raw: position,
            processed_at_ms: now_ms(),
            outcome: ProcessOutcome::Dead {
                reason: reason.to_owned(),
            },
            classification: None,
            result: None,
        };
        Outcome {
            label: "dead",
            records: vec![processed_record(&self.0.outlets, &processed)],
            dead: Some(Dead {
                reason,
                detail,
                project_id: Some(project_id),
            }),
        }
    }

    fn origin(&self, record: &Incoming) -> u64 {
        let meta = RawMeta::read(record.headers());
        meta.map_or(0, |meta| meta.source_id.0.as_u128() as u64)
    }
}

impl Shared {
    fn conclude(
        &self,
        item: &Item,
        headers: &SenderHeaders<'_>,
        classification: Classification,
        tables: &Tables,
        config_offset: i64,
    ) -> Outcome {
        let Item { meta, record, body } = item;
        self.meters.count(&classification);
        let result = self.extractor.extract(headers, body);
        let event = matching::Event {
            project_id: meta.project_id,
            source_id: meta.source_id,
            category: &classification.category,
            confidence: classification.confidence,
        };
        let mut destinations = matching::destinations(tables, event);
        if let Some(only) = meta.replay.and_then(|replay| replay.destination_id) {
            destinations.retain(|(destination, _)| *destination == only);
        }
        let now_ms = now_ms();
        let worked = Worked {
            meta,
            body,
            classification: &classification,
            result: &result,
            config_offset,
            now_ms,
        };
        let (mut records, deliveries) = worked.deliveries(&self.outlets, tables, &destinations);
        let (label, outcome) = if deliveries.is_empty() {
            ("unrouted", ProcessOutcome::Unrouted)
        } else {
            ("routed", ProcessOutcome::Routed { deliveries })
        };
        let processed = ProcessedRecord {
            event_id: meta.event_id,
            item: 0,
            replay_id: meta.replay.and_then(|replay| replay.replay_id),
            round: meta.replay.map_or(0, |replay| replay.round),
            project_id: meta.project_id,
            source_id: meta.source_id,
            raw: record.position(),
            processed_at_ms: now_ms,
            outcome,
            classification: Some(classification),
            result: Some(result),
        };
        records.push(processed_record(&self.outlets, &processed));
        Outcome::emit(label, records)
    }
}
