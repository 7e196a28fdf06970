//! What is known of one webhook so far.

use std::collections::BTreeMap;

use router_schemas::{DeliveryId, DestinationId, Next, processed::ProcessOutcome};

use super::watch::News;

/// One webhook of the demo.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) sender: String,
    pub(super) category: String,
    pub(super) confidence: Option<f32>,
    pub(super) summary: String,
    /// Unrouted and dead webhooks have no deliveries.
    processed: Option<&'static str>,
    deliveries: BTreeMap<DeliveryId, Delivery>,
    /// Attempts that came before the result that names their delivery.
    pub(super) attempts: u32,
}

#[derive(Debug)]
struct Delivery {
    destination: &'static str,
    attempts: u32,
    next: Option<Next>,
}

impl Story {
    pub(super) fn new(sender: &str) -> Self {
        Self {
            sender: sender.to_owned(),
            category: String::new(),
            confidence: None,
            summary: String::new(),
            processed: None,
            deliveries: BTreeMap::new(),
            attempts: 0,
        }
    }

    /// Takes in a record; results and attempts may come in any order.
    pub(super) fn hear(&mut self, news: News, name: impl Fn(DestinationId) -> &'static str) {
        match news {
            News::Processed(record) => {
                if let Some(classification) = record.classification {
                    self.category = classification.category;
                    self.confidence = Some(classification.confidence);
                }
                self.summary = record
                    .result
                    .map(|result| result.summary)
                    .unwrap_or_default();
                self.processed = Some(match record.outcome {
                    ProcessOutcome::Unrouted => "unrouted",
                    ProcessOutcome::Dead { .. } => "dead",
                    ProcessOutcome::Routed { deliveries } => {
                        for queued in deliveries {
                            self.delivery(queued.delivery_id, name(queued.destination_id));
                        }
                        "routed"
                    }
                });
            }
            News::Attempt(record) => {
                let delivery = self.delivery(record.delivery_id, name(record.destination_id));
                let further = match &delivery.next {
                    None => true,
                    Some(known) => {
                        (record.next.rank(), record.attempt) >= (known.rank(), delivery.attempts)
                    }
                };
                delivery.attempts = delivery.attempts.max(record.attempt);
                if further {
                    delivery.next = Some(record.next);
                }
                self.attempts = self
                    .deliveries
                    .values()
                    .map(|delivery| delivery.attempts)
                    .sum();
            }
        }
    }

    fn delivery(&mut self, id: DeliveryId, destination: &'static str) -> &mut Delivery {
        self.deliveries.entry(id).or_insert(Delivery {
            destination,
            attempts: 0,
            next: None,
        })
    }

    pub(super) fn ended(&self) -> bool {
        let over = |delivery: &Delivery| {
            delivery
                .next
                .as_ref()
                .is_some_and(|next| !matches!(next, Next::Parked { .. }))
        };
        self.processed.is_some() && self.deliveries.values().all(over)
    }

    /// Where it stands, for each destination.
    pub(super) fn outcome(&self) -> String {
        match self.processed {
            None => return "in process".to_owned(),
            Some("routed") => {}
            Some(other) => return other.to_owned(),
        }
        let each = self.deliveries.values().map(|delivery| {
            let state = match &delivery.next {
                None => "queued",
                Some(Next::Parked { .. }) => "waits for its retry",
                Some(next) => next.name(),
            };
            format!("{} {state}", delivery.destination)
        });
        each.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn delivered(&self) -> usize {
        self.deliveries
            .values()
            .filter(|delivery| delivery.next == Some(Next::Delivered))
            .count()
    }

    pub(super) fn deliveries(&self) -> usize {
        self.deliveries.len()
    }
}
