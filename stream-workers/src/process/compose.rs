//! The records that follow from a worked webhook: its result, and one delivery for each destination.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use router_runtime::consumer::{Order, OutRecord};
use router_schemas::{
    Classification, DeliveryId, DeliveryMeta, DestinationId, ProcessedRecord, RawMeta, RouteId,
    config::BodyMode,
    processed::{DeliveredBody, ExtractedResult, QueuedDelivery},
    topics::TopicNames,
};

use crate::{body::Body, directory::Tables};

/// Topics that `process` writes.
#[derive(Debug, Clone)]
pub struct Outlets {
    pub processed: Arc<str>,
    pub deliveries: Arc<str>,
    pub redeliveries: Arc<str>,
}

impl Outlets {
    #[must_use]
    pub fn new(names: &TopicNames) -> Self {
        Self {
            processed: names.processed.as_str().into(),
            deliveries: names.deliveries.as_str().into(),
            redeliveries: names.redeliveries.as_str().into(),
        }
    }
}

/// What `process` knows of a webhook once it is worked.
pub struct Worked<'a> {
    pub meta: &'a RawMeta,
    pub body: &'a Body,
    pub classification: &'a Classification,
    pub result: &'a ExtractedResult,
    pub config_offset: i64,
    pub now_ms: i64,
}

impl Worked<'_> {
    /// One delivery for each destination, and its name for the result.
    #[must_use]
    pub fn deliveries(
        &self,
        outlets: &Outlets,
        tables: &Tables,
        destinations: &[(DestinationId, RouteId)],
    ) -> (Vec<OutRecord>, Vec<QueuedDelivery>) {
        // What is late on purpose must not wait among, or hold up, what has just arrived.
        let topic = if self.meta.replay.is_some() {
            &outlets.redeliveries
        } else {
            &outlets.deliveries
        };
        let mut result_body: Option<Bytes> = None;
        let mut records = Vec::with_capacity(destinations.len() + 1);
        let mut queued = Vec::with_capacity(destinations.len());
        for (destination_id, route_id) in destinations.iter().copied() {
            let raw = tables
                .destinations
                .get(&destination_id)
                .is_some_and(|destination| destination.config.body == BodyMode::Raw);
            let (payload, content_type) = if raw {
                (self.body.bytes.clone(), self.body.content_type.as_deref())
            } else {
                let body = result_body.get_or_insert_with(|| self.result_body(tables));
                (body.clone(), Some("application/json"))
            };
            let delivery = self.delivery(destination_id, route_id);
            let mut headers = Vec::with_capacity(2);
            delivery.write(content_type, |name, value| {
                headers.push((name.into(), value.to_vec()))
            });
            let key = format!("{destination_id}/{}", self.meta.event_id).into_bytes();
            records.push(OutRecord {
                topic: Arc::clone(topic),
                key,
                order: Order::Any,
                payload,
                headers,
            });
            let delivery_id = delivery.delivery_id;
            queued.push(QueuedDelivery {
                delivery_id,
                destination_id,
                route_id,
            });
        }
        (records, queued)
    }

    fn delivery(&self, destination_id: DestinationId, route_id: RouteId) -> DeliveryMeta {
        let meta = self.meta;
        let replay_id = meta.replay.and_then(|replay| replay.replay_id);
        DeliveryMeta {
            delivery_id: DeliveryId::derive(meta.event_id, 0, destination_id, replay_id),
            event_id: meta.event_id,
            item: 0,
            project_id: meta.project_id,
            source_id: meta.source_id,
            destination_id,
            route_id: Some(route_id),
            replay_id,
            round: meta.replay.map_or(0, |replay| replay.round),
            attempts: 0,
            queued_at_ms: self.now_ms,
            config_offset: self.config_offset,
            trace_parent: meta.trace_parent.clone(),
            parked: None,
        }
    }

    fn result_body(&self, tables: &Tables) -> Bytes {
        let result = self.result;
        let kind = match (&result.provider, &result.event_type) {
            (Some(provider), Some(event_type)) => Cow::Owned(format!("{provider}.{event_type}")),
            _ => Cow::Borrowed(router_schemas::raw::RECEIVED),
        };
        let source = tables.sources.get(&self.meta.source_id);
        let body = DeliveredBody {
            id: self.meta.event_id,
            kind,
            source: source.map_or("", |source| &source.name),
            occurred_at: result
                .occurred_at
                .as_deref()
                .unwrap_or(&self.meta.received_at),
            category: &self.classification.category,
            confidence: self.classification.confidence,
            result,
            payload: self.body.payload(),
        };
        let mut json = Vec::with_capacity(self.body.bytes.len() + 1_024);
        serde_json::to_writer(&mut json, &body)
            .expect("plain fields into memory are always written");
        Bytes::from(json)
    }
}

/// The record of `webhooks.processed`.
#[must_use]
pub fn processed_record(outlets: &Outlets, record: &ProcessedRecord) -> OutRecord {
    let json = serde_json::to_vec(record).expect("plain fields into memory are always written");
    OutRecord {
        topic: Arc::clone(&outlets.processed),
        key: record.event_id.to_string().into_bytes(),
        order: Order::Any,
        payload: Bytes::from(json),
        headers: Vec::new(),
    }
}
