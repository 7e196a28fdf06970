//! What librdkafka tells a consumer: rebalances, errors, statistics.
//!
//! A rebalance is only noted here; the owner answers it when it has drained. Once the consumer is
//! closing there is no owner any more, and the answer is given at once.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use rdkafka::{
    ClientContext, Statistics, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};

/// A rebalance that waits for an answer.
#[derive(Debug)]
pub(crate) enum Rebalance {
    Assign(Vec<(String, i32)>),
    Revoke(Vec<(String, i32)>),
}

#[derive(Debug)]
pub(crate) struct Context {
    stage: &'static str,
    rebalances: Mutex<Vec<Rebalance>>,
    pub(crate) closing: AtomicBool,
    pub(crate) fatal: Mutex<Option<String>>,
}

impl Context {
    pub(crate) fn new(stage: &'static str) -> Self {
        Self {
            stage,
            rebalances: Mutex::default(),
            closing: AtomicBool::new(false),
            fatal: Mutex::default(),
        }
    }

    pub(crate) fn take_rebalances(&self) -> Vec<Rebalance> {
        std::mem::take(
            &mut self
                .rebalances
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            *self.fatal.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        } else {
            tracing::warn!(stage = self.stage, %error, reason, "kafka consumer");
        }
    }

    fn stats(&self, statistics: Statistics) {
        let partitions = statistics
            .topics
            .values()
            .flat_map(|topic| topic.partitions.values());
        let lag: i64 = partitions
            .map(|partition| partition.consumer_lag.max(0))
            .sum();
        metrics::gauge!("router_consumer_lag_records", "stage" => self.stage).set(lag as f64);
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let assign = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            // An error here means that the group is gone already, and closing goes on.
            if !assign {
                consumer.incremental_unassign(partitions).ok();
            }
            return;
        }
        let named = partitions.elements();
        let named = named
            .iter()
            .map(|p| (p.topic().to_owned(), p.partition()))
            .collect();
        let rebalance = if assign {
            Rebalance::Assign(named)
        } else {
            Rebalance::Revoke(named)
        };
        self.rebalances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(rebalance);
    }
}
