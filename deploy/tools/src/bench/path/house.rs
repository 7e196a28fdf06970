//! All services of the product, a receiver, and the places where a stage may fall behind.

use std::{net::SocketAddr, time::Duration};

use serde::Serialize;

use super::ProcessMemory;
use crate::{
    bench::{
        machine::{process_cpu, program_cpu},
        stack::Stack,
        world::{Running, World},
    },
    receiver::ReceiverStats,
};

pub(super) const DESTINATIONS: usize = 1;
const CONCURRENCY: &str = "256";
const ROLES: [&str; 4] = ["process", "deliver", "retry", "archive"];

pub(super) struct House {
    // Processes first: they are to end before what they use is removed.
    receiver: Running,
    edge: Running,
    others: Vec<Running>,
    key: String,
    accepted: u64,
    world: World,
}

/// Rows in PostgreSQL beside what the edge accepted.
#[derive(Debug, Serialize)]
pub(super) struct Archived {
    pub(super) accepted: u64,
    pub(super) raw: i64,
    pub(super) results: i64,
    pub(super) attempts: i64,
}

/// Records that a stage has not committed yet.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Lag {
    pub(super) process: u64,
    pub(super) deliver: u64,
    pub(super) archive: u64,
}

impl Lag {
    pub(super) fn total(self) -> u64 {
        self.process + self.deliver + self.archive
    }
}

impl House {
    pub(super) fn start(stack: &Stack) -> anyhow::Result<Self> {
        let world = World::create(stack, "path")?;
        let key = world.create_key()?;
        let receiver = world.start_own("receiver", &[])?;
        let url = format!("http://{}/", receiver.admin);
        let destination =
            world.create_destination("bench", &url, &["--concurrency", CONCURRENCY])?;
        world.route_everything(destination)?;
        eprintln!("  starting all services");
        let mut others = vec![world.start_control_plane()?];
        for role in ROLES {
            others.push(world.start_role(role, &[])?);
        }
        let edge = world.start_edge(&[])?;
        Ok(Self {
            receiver,
            edge,
            others,
            key: key.key,
            accepted: 0,
            world,
        })
    }

    pub(super) fn edge_addr(&self) -> SocketAddr {
        self.edge.admin
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Remembers what the edge has accepted, for the audit at the end.
    pub(super) fn add_accepted(&mut self, count: u64) {
        self.accepted += count;
    }

    pub(super) fn receiver_stats(&self) -> anyhow::Result<ReceiverStats> {
        self.world.receiver_stats(self.receiver.admin)
    }

    pub(super) fn reset_receiver(&self) -> anyhow::Result<()> {
        self.world.reset_receiver(self.receiver.admin)
    }

    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        self.edge.child.check_alive()?;
        self.receiver.child.check_alive()?;
        self.others
            .iter_mut()
            .try_for_each(|running| running.child.check_alive())
    }

    pub(super) fn lag(&self) -> anyhow::Result<Lag> {
        let names = self.world.kafka().names();
        let lag = |stage: &str, topics: &[&str]| self.world.topics.lag(&names.group(stage), topics);
        Ok(Lag {
            process: lag("process", &[&names.raw])?,
            deliver: lag("deliver", &[&names.deliveries])?,
            archive: lag("archive", &[&names.raw, &names.processed, &names.attempts])?,
        })
    }

    pub(super) fn memory(&self) -> anyhow::Result<Vec<ProcessMemory>> {
        let all = std::iter::once(&self.edge).chain(&self.others);
        all.map(|running| {
            let process = running.child.name().to_owned();
            Ok(ProcessMemory {
                process,
                memory: running.child.memory()?,
            })
        })
        .collect()
    }

    /// CPU time so far of everybody who takes part, by name. Kafka's and PostgreSQL's is that of all processes of
    /// these programs on the machine.
    pub(super) fn cpu(&self) -> anyhow::Result<Vec<(String, Duration)>> {
        let ours = [&self.edge, &self.receiver];
        let mut all = Vec::new();
        for running in ours.into_iter().chain(&self.others) {
            all.push((running.child.name().to_owned(), running.child.cpu()?));
        }
        all.push((
            "load generator".to_owned(),
            process_cpu(std::process::id())?,
        ));
        all.push(("kafka".to_owned(), program_cpu("java")?));
        all.push(("postgresql".to_owned(), program_cpu("postgres")?));
        Ok(all)
    }

    /// What PostgreSQL holds.
    pub(super) fn audit(&self) -> anyhow::Result<Archived> {
        let number = |query| self.world.database().number(&self.world.runtime, query);
        Ok(Archived {
            accepted: self.accepted,
            raw: number("SELECT count(*) FROM ingestion.logs")?,
            results: number("SELECT count(*) FROM processed_results")?,
            attempts: number("SELECT count(*) FROM delivery_logs")?,
        })
    }

    /// Senders first, so that everything drains.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.edge.child.stop()?;
        for running in self.others {
            running.child.stop()?;
        }
        self.receiver.child.stop()
    }
}
