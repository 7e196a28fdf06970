//! The transactional producer of `control.config`. Its calls block, so they run on threads for blocking
//! work; they are bounded in time.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientContext,
    config::FromClientConfigAndContext,
    error::{KafkaError, RDKafkaError},
    message::DeliveryResult,
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode as Code,
};
use router_runtime::kafka::KafkaSettings;

use super::{KeyValue, PublishError};

/// How long taking the epoch, and committing, may take. Fits into the time that a command waits.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// After this long the broker ends an open transaction by itself, so that readers are not held up behind
/// one whose producer is gone. Above the time that a commit may take.
const TRANSACTION_TIMEOUT_MS: &str = "15000";

/// Errors that matter come back from the calls; what librdkafka says beside them is for who debugs.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "config producer");
    }
}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

pub(super) struct ConfigProducer {
    inner: Arc<ThreadedProducer<Quiet>>,
    brokers: String,
    topic: String,
}

impl ConfigProducer {
    /// Makes a producer and takes the epoch: what an older one has open is aborted, what it tries later
    /// is refused.
    pub(super) async fn start(kafka: &KafkaSettings) -> Result<Self, PublishError> {
        let names = kafka.names();
        let mut config = kafka.producer_config();
        config.set("transactional.id", names.group("control-plane.publisher"));
        config.set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
        config.set("message.timeout.ms", "10000");
        let brokers = kafka.brokers.clone();
        let failed = |error: KafkaError| told(&brokers, &error);
        let inner = ThreadedProducer::from_config_and_context(&config, Quiet).map_err(failed)?;
        let producer = Self {
            inner: Arc::new(inner),
            brokers: brokers.clone(),
            topic: names.config,
        };
        producer
            .call(|inner, _| inner.init_transactions(CALL_TIMEOUT))
            .await?;
        Ok(producer)
    }

    /// Writes records in one transaction: all of them or none.
    pub(super) async fn write(&self, records: Vec<KeyValue>) -> Result<(), PublishError> {
        self.call(move |inner, topic| {
            inner.begin_transaction()?;
            let written = send_all(inner, topic, &records)
                .and_then(|()| inner.commit_transaction(CALL_TIMEOUT));
            if written.is_err() {
                // Where aborting fails too, taking the epoch again does it.
                inner.abort_transaction(CALL_TIMEOUT).ok();
            }
            written
        })
        .await
    }

    async fn call<F>(&self, work: F) -> Result<(), PublishError>
    where
        F: FnOnce(&ThreadedProducer<Quiet>, &str) -> Result<(), KafkaError> + Send + 'static,
    {
        let (inner, topic) = (Arc::clone(&self.inner), self.topic.clone());
        let done = tokio::task::spawn_blocking(move || work(&inner, &topic)).await;
        match done {
            Ok(result) => result.map_err(|error| told(&self.brokers, &error)),
            Err(panic) => Err(PublishError::Kafka {
                brokers: self.brokers.clone(),
                why: panic.to_string(),
            }),
        }
    }
}

fn send_all(
    inner: &ThreadedProducer<Quiet>,
    topic: &str,
    records: &[KeyValue],
) -> Result<(), KafkaError> {
    for (key, value) in records {
        let mut record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(topic).key(key.as_slice()).partition(0);
        if let Some(value) = value {
            record = record.payload(value);
        }
        inner.send(record).map_err(|(error, _)| error)?;
    }
    Ok(())
}

fn told(brokers: &str, error: &KafkaError) -> PublishError {
    let code = error.rdkafka_error_code();
    if matches!(
        code,
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
    ) {
        return PublishError::Fenced;
    }
    let why = match (error, code) {
        (_, Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition)) => {
            "the config topic does not exist; run `control-plane topics create`".into()
        }
        (KafkaError::Transaction(error), _) => transaction_text(error),
        _ => error.to_string(),
    };
    PublishError::Kafka {
        brokers: brokers.to_owned(),
        why,
    }
}

fn transaction_text(error: &RDKafkaError) -> String {
    match error.code() {
        Code::OperationTimedOut | Code::RequestTimedOut => "no answer".into(),
        _ => error.to_string(),
    }
}
