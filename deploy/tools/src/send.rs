//! `router-tools send`: posts the lines of a JSON Lines file to the edge and says what became of them.
//!
//! Reads the file as it goes, so that its size does not matter. With a rate, webhooks are due by the clock
//! and latency counts from when they were due; without one, each of the connections sends as fast as it
//! is answered.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use crate::local_env::LocalEnv;

mod line;
mod outcome;
mod source;

pub(crate) use line::Webhook;
use outcome::Outcomes;
use source::{Lines, count_lines};

/// An answer that takes longer is an error: the edge itself gives up on Kafka far earlier.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Args, Debug)]
pub struct Arguments {
    /// JSON Lines: {"headers": {...}, "content_type": "...", "body": "..."}; other fields are ignored
    #[arg(long)]
    file: PathBuf,
    /// Webhooks a second; without it as fast as answers come
    #[arg(long)]
    rate: Option<f64>,
    /// Requests in flight at the most
    #[arg(long, default_value_t = 32)]
    concurrency: usize,
    /// Send the whole file this often
    #[arg(long, default_value_t = 1)]
    repeat: u64,
    /// Stop after this many webhooks
    #[arg(long)]
    limit: Option<u64>,
    /// Address of the edge [default: EDGE_URL of the environment or of .local/env]
    #[arg(long)]
    url: Option<String>,
    /// API key [default: ROUTER_API_KEY of the environment or of .local/env]
    #[arg(long)]
    key: Option<String>,
}

/// One webhook on its way to a worker, with the moment at which it was due.
struct Job {
    webhook: Webhook,
    due: Option<Instant>,
}

/// Where to post and as whom.
struct Target {
    client: reqwest::Client,
    url: String,
    key: String,
}

/// Sends and prints the summary.
///
/// # Errors
/// The file or the edge cannot be reached, or nothing was accepted.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    anyhow::ensure!(
        arguments.concurrency > 0,
        "--concurrency must be at least 1"
    );
    anyhow::ensure!(arguments.repeat > 0, "--repeat must be at least 1");
    let rate_makes_sense = arguments
        .rate
        .is_none_or(|rate| rate.is_finite() && rate > 0.0);
    anyhow::ensure!(rate_makes_sense, "--rate must be above 0");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcomes = runtime.block_on(send_all(&arguments))?;
    outcomes.print();
    if outcomes.accepted() == 0 {
        bail!("nothing was accepted{}", outcomes.hint());
    }
    Ok(())
}

async fn send_all(arguments: &Arguments) -> anyhow::Result<Outcomes> {
    let target = Arc::new(target(arguments)?);
    target.check_reachable().await?;
    let lines = count_lines(&arguments.file)?;
    anyhow::ensure!(lines > 0, "{} holds no webhooks", arguments.file.display());
    let planned = (lines * arguments.repeat).min(arguments.limit.unwrap_or(u64::MAX));
    let progress = progress_bar(planned);

    let (jobs, queue) = mpsc::channel(arguments.concurrency);
    let (report, reports) = mpsc::channel(arguments.concurrency * 4);
    let queue = Arc::new(tokio::sync::Mutex::new(queue));
    for _ in 0..arguments.concurrency {
        tokio::spawn(work(
            Arc::clone(&target),
            Arc::clone(&queue),
            report.clone(),
        ));
    }
    let source = Lines::read_in_background(&arguments.file, arguments.repeat);
    let feeder = tokio::spawn(feed(source, jobs, report, arguments.rate, planned));
    let outcomes = Outcomes::collect(reports, &progress).await;
    feeder.await.context("reading the file")??;
    progress.finish_and_clear();
    Ok(outcomes)
}

fn target(arguments: &Arguments) -> anyhow::Result<Target> {
    let local = LocalEnv::find()?;
    let base = match &arguments.url {
        Some(url) => url.clone(),
        None => local.require("EDGE_URL")?,
    };
    let key = match &arguments.key {
        Some(key) => key.clone(),
        None => local.require("ROUTER_API_KEY")?,
    };
    let client = crate::http::client_builder()
        .pool_max_idle_per_host(arguments.concurrency)
        .timeout(ANSWER_TIMEOUT)
        .build()?;
    Ok(Target {
        client,
        url: webhooks_url(&base),
        key,
    })
}

/// `--url` may name the edge or an endpoint of it.
fn webhooks_url(base: &str) -> String {
    let base = base.trim_end_matches('/');
    let after_scheme = base.split_once("://").map_or(base, |(_, rest)| rest);
    if after_scheme.contains('/') {
        base.to_owned()
    } else {
        format!("{base}/webhooks")
    }
}

impl Target {
    /// Any answer at all will do; what it says is for the webhooks themselves to find out.
    async fn check_reachable(&self) -> anyhow::Result<()> {
        let Err(error) = self.client.get(&self.url).send().await else {
            return Ok(());
        };
        if error.is_builder() {
            return Err(error).with_context(|| format!("{} is not an address", self.url));
        }
        Err(error).with_context(|| format!("no edge answers at {}: run `make up` first", self.url))
    }

    async fn post(&self, webhook: Webhook) -> Result<u16, reqwest::Error> {
        let mut request = self
            .client
            .post(&self.url)
            .headers(webhook.headers)
            .body(webhook.body);
        if !self.url.contains("/in/") {
            request = request.header("x-api-key", &self.key);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        // Read to the end, so that the connection can be used again.
        response.bytes().await?;
        Ok(status)
    }
}

fn progress_bar(planned: u64) -> ProgressBar {
    let bar = ProgressBar::new(planned);
    let template = "{bar:30} {pos}/{len} {per_sec} {msg} {eta} left";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is fixed"));
    bar
}

/// Hands out the lines in order, each at its time.
async fn feed(
    mut source: Lines,
    jobs: mpsc::Sender<Job>,
    report: mpsc::Sender<outcome::Report>,
    rate: Option<f64>,
    planned: u64,
) -> anyhow::Result<()> {
    let start = Instant::now();
    for turn in 0..planned {
        let Some((number, text)) = source.next().await? else {
            break;
        };
        let webhook = match Webhook::parse(&text) {
            Ok(webhook) => webhook,
            Err(why) => {
                report
                    .send(outcome::Report::BadLine { number, why })
                    .await
                    .ok();
                continue;
            }
        };
        let due = rate.map(|rate| start + Duration::from_secs_f64(turn as f64 / rate));
        if let Some(due) = due {
            tokio::time::sleep_until(due.into()).await;
        }
        if jobs.send(Job { webhook, due }).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn work(
    target: Arc<Target>,
    queue: Arc<tokio::sync::Mutex<mpsc::Receiver<Job>>>,
    report: mpsc::Sender<outcome::Report>,
) {
    loop {
        let job = queue.lock().await.recv().await;
        let Some(Job { webhook, due }) = job else {
            return;
        };
        let since = due.unwrap_or_else(Instant::now);
        let result = target.post(webhook).await;
        let told = match result {
            Ok(status) => outcome::Report::Answered {
                status,
                latency: since.elapsed(),
            },
            Err(error) => outcome::Report::Failed {
                why: outcome::cause(&error),
            },
        };
        if report.send(told).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::{Receiver, ReceiverSettings};

    async fn arguments(lines: &str, name: &str) -> (Arguments, Receiver) {
        let receiver = Receiver::start(ReceiverSettings::default())
            .await
            .expect("starts");
        let file = std::env::temp_dir().join(format!("send-{}-{name}.jsonl", std::process::id()));
        std::fs::write(&file, lines).expect("writes");
        let arguments = Arguments {
            file,
            rate: None,
            concurrency: 4,
            repeat: 1,
            limit: None,
            url: Some(format!("http://{}", receiver.addr())),
            key: Some("a-key".to_owned()),
        };
        (arguments, receiver)
    }

    const TWO: &str = "{\"headers\":{\"x-a\":\"1\"},\"content_type\":\"text/plain\",\"body\":\"hello\"}\n\n{\"id\":\"x\",\"body\":\"\"}\n";

    #[tokio::test]
    async fn every_line_is_posted_as_often_as_asked() {
        let (mut arguments, receiver) = arguments(TWO, "repeat").await;
        arguments.repeat = 3;
        let outcomes = send_all(&arguments).await.expect("sends");
        assert_eq!((outcomes.accepted(), outcomes.failed()), (6, 0));
        assert_eq!(receiver.stats().body_bytes, 3 * 5);
        arguments.limit = Some(4);
        assert_eq!(send_all(&arguments).await.expect("sends").accepted(), 4);
    }

    #[tokio::test]
    async fn a_bad_line_is_named_and_the_others_are_sent() {
        let text = format!("{TWO}{{\"headers\":{{}}}}\nnot json\n{TWO}");
        let (arguments, _receiver) = arguments(&text, "bad").await;
        let outcomes = send_all(&arguments).await.expect("sends");
        assert_eq!(outcomes.accepted(), 4);
        let numbers: Vec<u64> = outcomes
            .bad_lines()
            .iter()
            .map(|(number, _)| *number)
            .collect();
        assert_eq!(numbers, [4, 5]);
        assert!(outcomes.bad_lines()[0].1.contains("body"));
    }

    #[tokio::test]
    async fn a_rate_is_kept() {
        let (mut arguments, receiver) = arguments(TWO, "rate").await;
        arguments.repeat = 25;
        arguments.rate = Some(100.0);
        let start = Instant::now();
        assert_eq!(send_all(&arguments).await.expect("sends").accepted(), 50);
        assert!(start.elapsed() >= Duration::from_millis(480));
        // The webhooks, and the question before them whether anybody is there.
        assert_eq!(receiver.stats().requests, 50 + 1);
    }

    #[tokio::test]
    async fn an_edge_that_is_not_there_names_the_remedy() {
        let (mut arguments, receiver) = arguments(TWO, "gone").await;
        drop(receiver);
        arguments.url = Some("http://127.0.0.1:9".to_owned());
        let Err(error) = send_all(&arguments).await else {
            panic!("nobody listens there")
        };
        assert!(error.to_string().contains("make up"));
    }

    #[test]
    fn an_address_without_a_path_gets_the_endpoint() {
        assert_eq!(
            webhooks_url("http://127.0.0.1:4000/"),
            "http://127.0.0.1:4000/webhooks"
        );
        assert_eq!(webhooks_url("http://h:1/in/whs_x"), "http://h:1/in/whs_x");
    }
}
