//! The producer against librdkafka's mock cluster, which can be made to fail: what passes by itself is
//! waited out and acknowledged once, what cannot be produced is told as such, and a broker that does not
//! answer is `Unavailable`, never a silent success.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use router_runtime::{
    kafka::KafkaSettings,
    lifecycle::Shutdown,
    producer::{AckSink, Failure, HeaderList, Producer},
};

type Told = (usize, Result<(), Failure>);

#[derive(Default)]
struct Sink(Mutex<Vec<Told>>);

impl AckSink for Sink {
    type Token = Box<usize>;
    fn acked(&self, token: Box<usize>, result: Result<(), Failure>) {
        self.0.lock().unwrap().push((*token, result));
    }
}

struct World {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: Producer<Sink>,
    sink: Arc<Sink>,
    // Serves the acknowledgements.
    _runtime: tokio::runtime::Runtime,
}

impl World {
    fn new(message_timeout_ms: &str) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 3, 1).unwrap();
        let settings = KafkaSettings {
            brokers: cluster.bootstrap_servers(),
            ..KafkaSettings::default()
        };
        let mut config = settings.producer_config();
        config.set("message.timeout.ms", message_timeout_ms);
        let sink = Arc::new(Sink::default());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        let producer = Producer::new(&config, Arc::clone(&sink), Shutdown::new()).unwrap();
        drop(entered);
        Self {
            cluster,
            producer,
            sink,
            _runtime: runtime,
        }
    }

    fn send(&self, number: usize, payload: &[u8]) -> Result<(), Failure> {
        let headers = HeaderList::with_capacity(0).finish();
        let key = number.to_string();
        let sent = self
            .producer
            .send("t", key.as_bytes(), payload, headers, Box::new(number));
        sent.map_err(|(failure, _)| failure)
    }

    /// All that the sink was told once it knows the fate of `count` records.
    fn told(&self, count: usize) -> Vec<Told> {
        let began = Instant::now();
        loop {
            let told = self.sink.0.lock().unwrap().clone();
            if told.len() >= count {
                return told;
            }
            assert!(
                began.elapsed().as_secs() < 30,
                "only {} of {count} were told",
                told.len()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn faults_that_pass_are_waited_out_and_each_record_is_acknowledged_once() {
    let world = World::new("20000");
    // What a broker answers while it moves a partition, is short of replicas, or is overloaded.
    world.cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        ],
    );
    for number in 0..200 {
        world.send(number, b"x").unwrap();
    }
    let mut told = world.told(200);
    told.sort_by_key(|(number, _)| *number);
    let numbers: Vec<usize> = told.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    assert!(told.iter().all(|(_, result)| result.is_ok()), "{told:?}");
}

#[test]
fn a_broker_that_is_gone_is_unavailable_and_one_that_comes_back_takes_what_waited() {
    let world = World::new("3000");
    world.send(0, b"x").unwrap();
    assert_eq!(world.told(1), [(0, Ok(()))]);
    world.cluster.broker_down(1).unwrap();
    world.send(1, b"x").unwrap();
    let told = world.told(2);
    assert!(
        matches!(&told[1], (1, Err(Failure::Unavailable(_)))),
        "{told:?}"
    );

    // Within its time a record outlives the outage.
    world.send(2, b"x").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    world.cluster.broker_up(1).unwrap();
    let told = world.told(3);
    assert_eq!(told[2], (2, Ok(())));
}

#[test]
fn what_can_never_be_produced_is_refused_at_once_or_by_the_broker() {
    let world = World::new("20000");
    let too_large = vec![0; 16_000_000];
    assert!(matches!(
        world.send(0, &too_large),
        Err(Failure::Refused(_))
    ));
    world.cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE],
    );
    world.send(1, b"x").unwrap();
    let told = world.told(1);
    assert!(
        matches!(&told[0], (1, Err(Failure::Refused(_)))),
        "{told:?}"
    );
}
