//! Logs and metrics of a process: one subscriber, one recorder, installed once.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Upper bounds of latency buckets in seconds: 1 ms to 60 s.
const SECONDS: [f64; 15] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Installs the log subscriber (`RUST_LOG`, `LOG_FORMAT=text|json`) and the metrics recorder.
/// Later calls change nothing.
pub fn init(service: &'static str) {
    // An empty filter would let nothing pass, errors included: empty means unset, as everywhere.
    let filter = crate::env::text(EnvFilter::DEFAULT_ENV)
        .and_then(|wanted| EnvFilter::try_new(wanted).ok())
        .unwrap_or_else(|| EnvFilter::new("info,librdkafka=warn,rdkafka=warn"));
    let json = crate::env::text("LOG_FORMAT").as_deref() == Some("json");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A subscriber that is already installed (tests) stays.
    if json {
        builder.json().flatten_event(true).try_init().ok();
    } else {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        builder
            .with_ansi(terminal)
            .with_target(false)
            .try_init()
            .ok();
    }
    METRICS.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .add_global_label("service", service)
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
            .expect("the list of buckets is not empty")
            .build_recorder();
        let handle = recorder.handle();
        // Another recorder can be there only in tests; then ours renders nothing.
        metrics::set_global_recorder(recorder).ok();
        handle
    });
}

/// All metrics in Prometheus' text format; empty before [`init`].
#[must_use]
pub fn render_metrics() -> String {
    METRICS
        .get()
        .map(PrometheusHandle::render)
        .unwrap_or_default()
}

/// Folds histogram samples into their buckets. To be called every few seconds, so that samples do not
/// pile up in a process that nobody scrapes.
pub fn upkeep() {
    if let Some(handle) = METRICS.get() {
        handle.run_upkeep();
    }
}
