//! `bench edge`: the edge against a bare HTTP server and a naive edge, under the same load, with the
//! servers taking turns so that a noisy minute of the machine does not hit only one of them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use serde::Serialize;
use serde_json::json;

use super::{
    Options,
    report::{Figures, Table, median, thousands},
    world::{Running, World},
};
use crate::load::{
    Latency, LoadPlan, LoadResult, Pace,
    bodies::{Sample, samples},
    client::request_bytes,
};

const CONNECTIONS: [usize; 3] = [16, 128, 512];
const LOAD_THREADS: usize = 2;
const SAMPLES: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Server {
    Bare,
    Naive,
    Edge,
    EdgeTwoThreads,
}

const SERVERS: [Server; 4] = [
    Server::Bare,
    Server::Naive,
    Server::Edge,
    Server::EdgeTwoThreads,
];

impl Server {
    fn label(self) -> &'static str {
        match self {
            Self::Bare => "bare axum",
            Self::Naive => "naive edge",
            Self::Edge => "edge",
            Self::EdgeTwoThreads => "edge, EDGE_THREADS=2",
        }
    }
}

/// One server under one number of connections for one stretch of time.
#[derive(Debug, Clone, Copy, Serialize)]
struct Measured {
    per_second: f64,
    latency: Latency,
    cpu_us_per_request: f64,
    peak_memory_mib: f64,
    /// Answers that were not 2xx, and broken exchanges.
    not_accepted: u64,
}

/// The rounds of one server at one number of connections.
#[derive(Debug, Serialize)]
struct Point {
    server: Server,
    connections: usize,
    median: Measured,
    rounds: Vec<Measured>,
}

struct Bench<'a> {
    world: &'a World,
    key: String,
    samples: Vec<Sample>,
    naive_topic: String,
    warm_up: Duration,
    measure: Duration,
}

/// # Errors
/// A server does not start, or the stack does not answer.
pub(super) fn run(options: &Options) -> anyhow::Result<Figures> {
    let world = World::create(&options.stack, "edge")?;
    let key = world.create_key()?;
    let naive_topic = format!("{}naive", world.kafka().topic_prefix);
    world.topics.create(&world.runtime, &naive_topic)?;
    let seconds = options.seconds(5, 1);
    let bench = Bench {
        world: &world,
        key: key.key,
        samples: samples(SAMPLES, 11),
        naive_topic,
        warm_up: Duration::from_secs(if options.quick { 1 } else { 2 }),
        measure: Duration::from_secs(seconds),
    };
    let rounds = if options.quick { 1 } else { 3 };
    let mut points = Vec::new();
    for connections in CONNECTIONS {
        points.extend(bench.at(connections, rounds)?);
    }
    Ok(figures(points, seconds, rounds))
}

impl Bench<'_> {
    /// All servers at one number of connections, in turn, `rounds` times.
    fn at(&self, connections: usize, rounds: usize) -> anyhow::Result<Vec<Point>> {
        let mut measured: Vec<Vec<Measured>> = vec![Vec::new(); SERVERS.len()];
        for round in 1..=rounds {
            for (server, results) in SERVERS.into_iter().zip(&mut measured) {
                eprint!(
                    "  {connections} connections, round {round} of {rounds}, {}: ",
                    server.label()
                );
                let result = self.measure(server, connections)?;
                eprintln!("{} a second", thousands(result.per_second));
                results.push(result);
            }
        }
        let points = SERVERS
            .into_iter()
            .zip(measured)
            .map(|(server, rounds)| Point {
                server,
                connections,
                median: middle(&rounds),
                rounds,
            });
        Ok(points.collect())
    }

    /// A fresh process each time, so that peak memory belongs to this number of connections.
    fn measure(&self, server: Server, connections: usize) -> anyhow::Result<Measured> {
        let running = self.start(server)?;
        let load = self.plan(running.admin, connections).start()?;
        load.wait_for_window();
        let cpu_before = running.child.cpu()?;
        load.wait_for_end();
        let cpu = running.child.cpu()?.saturating_sub(cpu_before);
        let result = load.join()?;
        let memory = running.child.memory()?;
        running.child.stop()?;
        self.forget_records(server)?;
        anyhow::ensure!(result.accepted() > 0, "{} accepted nothing", server.label());
        Ok(self.figures_of(&result, cpu, memory.peak_kib))
    }

    fn start(&self, server: Server) -> anyhow::Result<Running> {
        let brokers = &self.world.kafka().brokers;
        let naive = ["--brokers", brokers, "--topic", &self.naive_topic];
        let running = match server {
            Server::Bare => self.world.start_own("bare-server", &[]),
            Server::Naive => self.world.start_own("naive-server", &naive),
            Server::Edge => self.world.start_edge(&[]),
            Server::EdgeTwoThreads => self.world.start_edge(&[("EDGE_THREADS", "2")]),
        };
        running.with_context(|| format!("starting the {}", server.label()))
    }

    fn plan(&self, addr: SocketAddr, connections: usize) -> LoadPlan {
        let requests = self
            .samples
            .iter()
            .map(|sample| request_bytes("/webhooks", addr, Some(&self.key), sample));
        LoadPlan {
            addr,
            requests: Arc::new(requests.collect()),
            connections,
            threads: LOAD_THREADS,
            pace: Pace::Closed,
            warm_up: self.warm_up,
            measure: self.measure,
            stamp: false,
        }
    }

    fn figures_of(&self, result: &LoadResult, cpu: Duration, peak_kib: u64) -> Measured {
        let accepted = result.accepted() as f64;
        Measured {
            per_second: accepted / self.measure.as_secs_f64(),
            latency: result.latency.summary(),
            cpu_us_per_request: cpu.as_secs_f64() * 1e6 / accepted,
            peak_memory_mib: peak_kib as f64 / 1024.0,
            not_accepted: result.refused() + result.errors,
        }
    }

    /// Gigabytes a minute would otherwise pile up.
    fn forget_records(&self, server: Server) -> anyhow::Result<()> {
        let topic = match server {
            Server::Bare => return Ok(()),
            Server::Naive => self.naive_topic.clone(),
            Server::Edge | Server::EdgeTwoThreads => self.world.kafka().names().raw,
        };
        self.world.topics.recreate(&self.world.runtime, &topic)
    }
}

fn middle(rounds: &[Measured]) -> Measured {
    let of = |figure: fn(&Measured) -> f64| median(rounds.iter().map(figure));
    Measured {
        per_second: of(|m| m.per_second),
        latency: Latency {
            p50_ms: of(|m| m.latency.p50_ms),
            p90_ms: of(|m| m.latency.p90_ms),
            p99_ms: of(|m| m.latency.p99_ms),
            max_ms: of(|m| m.latency.max_ms),
        },
        cpu_us_per_request: of(|m| m.cpu_us_per_request),
        peak_memory_mib: of(|m| m.peak_memory_mib),
        not_accepted: rounds.iter().map(|m| m.not_accepted).sum(),
    }
}

fn figures(points: Vec<Point>, seconds: u64, rounds: usize) -> Figures {
    let tables = CONNECTIONS.map(|connections| table(&points, connections));
    Figures {
        name: "edge",
        parameters: json!({
            "connections": CONNECTIONS, "seconds": seconds, "rounds": rounds, "load_threads": LOAD_THREADS,
            "bodies": "JSON, 1 to 4 KB", "request_headers": 14, "partitions": 12,
        }),
        figures: json!({ "points": points }),
        notes: vec![
            "Medians of the rounds; ratios are to the naive edge. CPU is the server process's own, by the \
             system's accounting; load generator and Kafka share the machine."
                .to_owned(),
        ],
        tables: tables.into(),
    }
}

fn table(points: &[Point], connections: usize) -> Table {
    let here = || {
        points
            .iter()
            .filter(move |point| point.connections == connections)
    };
    let naive = here()
        .find(|point| point.server == Server::Naive)
        .map(|point| point.median);
    let rows = here().map(|point| {
        let figure = point.median;
        let ratio = |of: fn(&Measured) -> f64| {
            naive.map_or_else(String::new, |naive| {
                format!("{:.2}", of(&figure) / of(&naive))
            })
        };
        vec![
            point.server.label().to_owned(),
            thousands(figure.per_second),
            ratio(|m| m.per_second),
            format!("{:.2}", figure.latency.p50_ms),
            ratio(|m| m.latency.p50_ms),
            format!("{:.2}", figure.latency.p99_ms),
            ratio(|m| m.latency.p99_ms),
            format!("{:.1}", figure.cpu_us_per_request),
            ratio(|m| m.cpu_us_per_request),
            format!("{:.0}", figure.peak_memory_mib),
            figure.not_accepted.to_string(),
        ]
    });
    Table {
        title: format!("Edge, {connections} connections"),
        headings: vec![
            "server", "req/s", "x", "p50 ms", "x", "p99 ms", "x", "CPU us", "x", "peak MiB",
            "errors",
        ],
        rows: rows.collect(),
    }
}
