//! The long-running roles: what each needs, and the order in which its parts start and stop.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use router_runtime::{
    admin,
    consumer::Effects,
    env,
    kafka::{self, KafkaSettings},
    lifecycle::{Readiness, Shutdown},
};
use router_schemas::topics::Ladder;

use crate::{
    archive,
    deliver::role::DeliverSettings,
    process::role::ProcessSettings,
    {deliver, process, retry},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Process,
    Deliver,
    Retry,
    Archive,
}

impl Role {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Deliver => "deliver",
            Self::Retry => "retry",
            Self::Archive => "archive",
        }
    }

    fn admin_port(self) -> u16 {
        match self {
            Self::Process => 4011,
            Self::Deliver => 4012,
            Self::Retry => 4013,
            Self::Archive => 4014,
        }
    }
}

/// Everything a role is told by the environment, checked before a port opens.
#[derive(Debug)]
pub struct Settings {
    role: RoleSettings,
    kafka: KafkaSettings,
    ladder: Ladder,
    admin_addr: SocketAddr,
    instance_id: Option<String>,
}

#[derive(Debug)]
enum RoleSettings {
    Process(ProcessSettings),
    Deliver(Box<DeliverSettings>),
    Retry,
    Archive(archive::ArchiveSettings),
}

impl Settings {
    /// # Errors
    /// A variable is missing or cannot be read.
    pub fn from_env(role: Role) -> anyhow::Result<Self> {
        let port = SocketAddr::from((Ipv4Addr::LOCALHOST, role.admin_port()));
        Ok(Self {
            role: match role {
                Role::Process => RoleSettings::Process(ProcessSettings::from_env()?),
                Role::Deliver => RoleSettings::Deliver(Box::new(DeliverSettings::from_env()?)),
                Role::Retry => RoleSettings::Retry,
                Role::Archive => RoleSettings::Archive(archive::ArchiveSettings::from_env()?),
            },
            kafka: KafkaSettings::from_env()?,
            ladder: kafka::ladder_from_env()?,
            admin_addr: env::or("WORKER_ADMIN_ADDR", port)?,
            instance_id: env::text("WORKER_INSTANCE_ID"),
        })
    }
}

/// Runs a future to its end on a runtime with all cores.
///
/// # Errors
/// Those of the future, or there is no runtime to be had.
pub fn block_on(future: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.context("cannot make a runtime")?.block_on(future)
}

/// Runs a role until a signal, then drains.
///
/// # Errors
/// It cannot start, or ended for a reason that only a new process can mend.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    tracing::info!(?settings, "starting");
    let Settings {
        role,
        kafka,
        ladder,
        admin_addr,
        instance_id,
    } = settings;
    let shutdown = Shutdown::on_signals()?;
    let stopped = Shutdown::new();
    let readiness = Readiness::default();
    let listener = admin::bind(admin_addr).await?;
    tokio::spawn(admin::serve(listener, readiness.clone(), stopped.clone()));
    let effects = Effects::new(&kafka, &shutdown)?;
    let instance = instance_id.as_deref();
    match role {
        RoleSettings::Process(settings) => {
            process::role::run(&kafka, settings, instance, &effects, &readiness, &shutdown).await
        }
        RoleSettings::Deliver(settings) => {
            deliver::role::run(
                &kafka, &ladder, *settings, instance, &effects, &readiness, &shutdown,
            )
            .await
        }
        RoleSettings::Retry => {
            retry::role::run(&kafka, &ladder, instance, &effects, &readiness, &shutdown).await
        }
        RoleSettings::Archive(settings) => {
            archive::run(&kafka, settings, instance, &effects, &readiness, &shutdown).await
        }
    }?;
    stopped.trigger();
    tracing::info!("stopped");
    shutdown.outcome()
}
