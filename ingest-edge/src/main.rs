//! Wiring of the edge: settings, config view, producer, serving threads, and the order in which they stop.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, thread, time::Duration};

use anyhow::Context;
use ingest_edge::{
    access::Access,
    app::{self, App, Meters},
    body::InFlight,
    intake::Intake,
    server,
    settings::EdgeSettings,
};
use router_runtime::{
    admin, config_view,
    lifecycle::{Readiness, ReadinessPart, Shutdown},
    telemetry,
};
use tokio::{net::TcpListener, runtime, sync::mpsc, task::LocalSet};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `sysexits.h`: the command was used wrongly.
const EX_USAGE: u8 = 64;
/// Above this share of what may be in flight the edge asks its load balancer for less.
const READY_MARK_PERCENT: usize = 80;

fn main() -> ExitCode {
    telemetry::init("ingest-edge");
    let settings = match EdgeSettings::from_env() {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!("configuration: {error:#}");
            return ExitCode::from(EX_USAGE);
        }
    };
    tracing::info!(?settings, "starting");
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn current_thread() -> anyhow::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make a runtime")
}

fn run(settings: EdgeSettings) -> anyhow::Result<()> {
    let runtime = current_thread()?;
    LocalSet::new().block_on(&runtime, start(Arc::new(settings)))
}

async fn start(settings: Arc<EdgeSettings>) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    // Requests go on while connections drain, so what they need stops later than the listeners.
    let stopped = Shutdown::new();
    let readiness = Readiness::default();
    let listener = bind(settings.addr).await?;

    let access = Arc::new(Access::default());
    let config_ready = readiness.part("config");
    let config_position = config_view::follow(
        &settings.kafka,
        Arc::clone(&access),
        config_ready.clone(),
        stopped.clone(),
    )?;
    let in_flight = Arc::new(InFlight::new(
        settings.max_requests_in_flight,
        settings.max_bytes_in_flight,
    ));
    let intake = Intake::new(&settings, &shutdown)?;
    let admin_here = match settings.admin_addr {
        None => Some(readiness.clone()),
        Some(addr) => {
            let listener = admin::bind(addr).await?;
            tokio::spawn(admin::serve(listener, readiness.clone(), stopped.clone()));
            None
        }
    };
    tokio::spawn(watch_load(
        Arc::clone(&in_flight),
        intake.clone(),
        settings.max_bytes_in_flight,
        settings.max_requests_in_flight,
        readiness.part("room"),
        readiness.part("running"),
        shutdown.clone(),
    ));

    let mut senders = Vec::new();
    let mut threads = Vec::new();
    for index in 0..settings.threads {
        let (intake, acks) = intake.for_thread();
        let app = Arc::new(App {
            settings: Arc::clone(&settings),
            access: Arc::clone(&access),
            config_ready: config_ready.clone(),
            config_position: config_position.clone(),
            in_flight: Arc::clone(&in_flight),
            intake,
            meters: Meters::default(),
        });
        let router = app::router(app, admin_here.clone());
        let (sender, receiver) = mpsc::channel(1024);
        senders.push(sender);
        let serve = server::serve(receiver, router, Arc::clone(&settings), shutdown.clone());
        if index == 0 {
            tokio::task::spawn_local(acks.dispatch());
            threads.push(Serving::Here(tokio::task::spawn_local(serve)));
            continue;
        }
        let thread = thread::Builder::new()
            .name(format!("serve-{index}"))
            .spawn(move || {
                let runtime = current_thread()?;
                let local = LocalSet::new();
                local.spawn_local(acks.dispatch());
                local.block_on(&runtime, serve);
                anyhow::Ok(())
            });
        threads.push(Serving::There(thread.context("cannot start a thread")?));
    }
    tracing::info!(addr = %settings.addr, threads = settings.threads, "listening");
    server::accept(
        listener,
        senders,
        settings.max_connections,
        shutdown.clone(),
    )
    .await;
    for serving in threads {
        serving.join().await?;
    }
    stopped.trigger();
    tracing::info!("stopped: everything accepted has been answered");
    shutdown.outcome()
}

/// A serving thread: this one, or another.
enum Serving {
    Here(tokio::task::JoinHandle<()>),
    There(thread::JoinHandle<anyhow::Result<()>>),
}

impl Serving {
    async fn join(self) -> anyhow::Result<()> {
        match self {
            Self::Here(task) => task.await.context("the serving task panicked"),
            Self::There(thread) => {
                let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
                joined.map_err(|_| anyhow::anyhow!("a serving thread panicked"))?
            }
        }
    }
}

async fn bind(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(addr),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket
        .bind(&addr.into())
        .with_context(|| format!("cannot listen on {addr}"))?;
    socket.listen(4096)?;
    Ok(TcpListener::from_std(socket.into())?)
}

fn ready_mark(bound: usize) -> usize {
    bound.saturating_mul(READY_MARK_PERCENT) / 100
}

/// Keeps readiness and gauges in step with what is in flight.
async fn watch_load(
    in_flight: Arc<InFlight>,
    intake: Intake,
    max_bytes: usize,
    max_requests: usize,
    room: ReadinessPart,
    running: ReadinessPart,
    shutdown: Shutdown,
) {
    let requests = metrics::gauge!("router_ingest_in_flight_requests");
    let bytes = metrics::gauge!("router_ingest_in_flight_bytes");
    let records = metrics::gauge!("router_ingest_producer_queue_records");
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    for tick in 0u64.. {
        running.set(!shutdown.requested());
        // A webhook whose sender has gone away stands in the producer's queue alone.
        room.set(
            in_flight.bytes() <= ready_mark(max_bytes)
                && intake.in_flight() <= ready_mark(max_requests),
        );
        requests.set(in_flight.requests() as f64);
        bytes.set(in_flight.bytes() as f64);
        records.set(intake.in_flight() as f64);
        if tick.is_multiple_of(25) {
            telemetry::upkeep();
        }
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.wait(), if running.get() => {}
        }
    }
}
