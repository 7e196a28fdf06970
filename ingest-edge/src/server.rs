//! Sockets: accepting, handing connections to the serving threads, timeouts, and the drain.
//!
//! Each serving thread has a runtime of its own, and a request never leaves its thread. One thread
//! accepts and hands connections round, so that few connections spread as evenly as many.

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use hyper::{
    server::conn::{http1, http2},
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use router_runtime::lifecycle::Shutdown;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

use crate::settings::EdgeSettings;

/// Start of an HTTP/2 connection without TLS (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Room above our own header limit, so that most senders get our answer and not the parser's bare one.
const HEADER_ROOM: usize = 2;
/// An HTTP/2 connection on which nothing has been asked for this long is closed.
const HTTP2_IDLE_TIMEOUT: Duration = Duration::from_secs(120);
const MAX_HEADERS: usize = 100;

/// A connection on its way to a serving thread.
pub type Handover = (TcpStream, OwnedSemaphorePermit);

/// Accepts connections and hands them round until `shutdown`.
pub async fn accept(
    listener: TcpListener,
    threads: Vec<mpsc::Sender<Handover>>,
    max_connections: usize,
    shutdown: Shutdown,
) {
    let permits = Arc::new(Semaphore::new(max_connections));
    for turn in 0.. {
        // Beyond the bound, connections wait in the kernel's queue.
        let accepted = tokio::select! {
            () = shutdown.wait() => return,
            accepted = accept_one(&listener, &permits) => accepted,
        };
        let (stream, permit) = accepted;
        // Answers are small and must not wait for more.
        stream.set_nodelay(true).ok();
        let thread: &mpsc::Sender<Handover> = &threads[turn % threads.len()];
        if thread.send((stream, permit)).await.is_err() {
            return;
        }
    }
}

async fn accept_one(listener: &TcpListener, permits: &Arc<Semaphore>) -> Handover {
    loop {
        let permit = Arc::clone(permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                // Out of file descriptors, or a connection that broke before we had it.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves the connections that are handed over; on `shutdown` answers what is under way and returns.
pub async fn serve(
    mut connections: mpsc::Receiver<Handover>,
    app: Router,
    settings: Arc<EdgeSettings>,
    shutdown: Shutdown,
) {
    let graceful = Arc::new(GracefulShutdown::new());
    loop {
        let (stream, permit) = tokio::select! {
            () = shutdown.wait() => break,
            connection = connections.recv() => match connection {
                Some(connection) => connection,
                None => break,
            },
        };
        let (app, settings) = (app.clone(), Arc::clone(&settings));
        let (graceful, shutdown) = (graceful.watcher(), shutdown.clone());
        tokio::task::spawn_local(async move {
            serve_connection(stream, app, &settings, graceful, &shutdown).await;
            drop(permit);
        });
    }
    let Some(graceful) = Arc::into_inner(graceful) else {
        return;
    };
    if tokio::time::timeout(settings.drain_timeout, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some requests were still unanswered when the drain timed out");
    }
}

async fn serve_connection(
    stream: TcpStream,
    app: Router,
    settings: &EdgeSettings,
    graceful: hyper_util::server::graceful::Watcher,
    shutdown: &Shutdown,
) {
    // A connection that says nothing is closed, and holds up no stop; so is one that breaks.
    let detected = tokio::select! {
        detected = tokio::time::timeout(settings.header_timeout, is_http2(&stream)) => detected,
        () = shutdown.wait() => return,
    };
    let Ok(Ok(http2)) = detected else { return };
    let io = TokioIo::new(stream);
    let service = TowerToHyperService::new(app);
    let room = settings.header_limit_bytes * HEADER_ROOM;
    let served = if http2 {
        let activity = Rc::new(Activity::default());
        let counted = Rc::clone(&activity);
        let service = service_fn(move |request| {
            let busy = counted.begin();
            let answer = service.call(request);
            async move {
                let answer = answer.await;
                drop(busy);
                answer
            }
        });
        let connection = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(room).unwrap_or(u32::MAX))
            .max_concurrent_streams(256)
            .keep_alive_interval(Duration::from_secs(30))
            .serve_connection(io, service);
        tokio::select! {
            served = graceful.watch(connection) => served,
            () = activity.ceases(settings.header_timeout) => return,
        }
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(settings.header_timeout)
            .max_buf_size(room.max(16 * 1024))
            .max_headers(MAX_HEADERS)
            .serve_connection(io, service);
        graceful.watch(connection).await
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}

/// What an HTTP/2 connection does. Its parser waits for headers without a limit of time, so that a sender who never
/// ends them would keep the connection for ever.
#[derive(Default)]
struct Activity {
    requests: Cell<usize>,
    served: Cell<bool>,
    /// When the last request ended, or the connection began.
    idle_since: Cell<Option<Instant>>,
}

/// A request of a connection, for as long as it lives.
struct Busy(Rc<Activity>);

impl Activity {
    fn begin(self: &Rc<Self>) -> Busy {
        self.requests.set(self.requests.get() + 1);
        Busy(Rc::clone(self))
    }

    /// Returns when no request has come for too long: at first for as long as headers may take.
    async fn ceases(&self, header_timeout: Duration) {
        self.idle_since.set(Some(Instant::now()));
        loop {
            tokio::time::sleep(header_timeout / 2).await;
            let limit = if self.served.get() {
                HTTP2_IDLE_TIMEOUT.max(header_timeout)
            } else {
                header_timeout
            };
            let idle = self
                .idle_since
                .get()
                .map_or(Duration::ZERO, |at| at.elapsed());
            if self.requests.get() == 0 && idle >= limit {
                return;
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Self(activity) = self;
        activity.requests.set(activity.requests.get() - 1);
        activity.served.set(true);
        activity.idle_since.set(Some(Instant::now()));
    }
}

/// Looks at the first bytes without taking them.
async fn is_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut start = [0; HTTP2_PREFACE.len()];
    loop {
        let seen = stream.peek(&mut start).await?;
        if seen == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if !HTTP2_PREFACE.starts_with(&start[..seen]) {
            return Ok(false);
        }
        if seen == HTTP2_PREFACE.len() {
            return Ok(true);
        }
        // A part of the preface: peeking does not wait for more.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Spawns HTTP/2 streams on the serving thread.
#[derive(Clone)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
