//! A process that a benchmark starts: its log in a file, awaited until it answers, asked to stop and, if it
//! does not, ended. Dropping it ends it, so that a benchmark that fails leaves nothing running.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::machine::{Memory, process_cpu, process_memory};

/// A process that is not ready by then has failed.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A process that has not drained by then is killed.
const STOP_WITHIN: Duration = Duration::from_secs(30);

pub struct Child {
    name: String,
    process: std::process::Child,
    log: PathBuf,
    stopped: bool,
}

impl Child {
    /// # Errors
    /// The program is not there or cannot be started.
    pub fn spawn(name: &str, command: &mut Command, log_dir: &Path) -> anyhow::Result<Self> {
        let log = log_dir.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("opening {}", log.display()))?;
        let process = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            process,
            log,
            stopped: false,
        })
    }

    /// Waits until `GET /readyz` there says 200.
    ///
    /// # Errors
    /// The process ended, or is not ready in time; the message holds the end of its log.
    pub fn wait_ready(&mut self, addr: SocketAddr) -> anyhow::Result<()> {
        self.wait_until("ready", || says_ready(addr))
    }

    /// Waits until something accepts connections there.
    ///
    /// # Errors
    /// As [`Child::wait_ready`].
    pub fn wait_listening(&mut self, addr: SocketAddr) -> anyhow::Result<()> {
        self.wait_until("listening", || TcpStream::connect(addr).is_ok())
    }

    fn wait_until(&mut self, what: &str, done: impl Fn() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while !done() {
            self.check_alive()?;
            if Instant::now() > deadline {
                bail!(
                    "{} is not {what} after {READY_WITHIN:?}{}",
                    self.name,
                    self.end_of_log()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// # Errors
    /// It has ended by itself.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.process.try_wait()? {
            self.stopped = true;
            bail!("{} ended with {status}{}", self.name, self.end_of_log());
        }
        Ok(())
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// CPU time used so far.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        process_cpu(self.process.id()).with_context(|| self.name.clone())
    }

    /// # Errors
    /// It has ended.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        process_memory(self.process.id()).with_context(|| self.name.clone())
    }

    /// Asks it to drain and stop, and waits.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.process.id().to_string();
        // The standard library can only kill; the shell's builtin is there on any machine.
        Command::new("sh")
            .args(["-c", "kill -TERM \"$1\"", "sh", &pid])
            .status()?;
        let deadline = Instant::now() + STOP_WITHIN;
        while self.process.try_wait()?.is_none() {
            if Instant::now() > deadline {
                eprintln!(
                    "{} has not stopped after {STOP_WITHIN:?} and is killed",
                    self.name
                );
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.stopped = true;
        Ok(())
    }

    fn end_of_log(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(2_000)..]).into_owned();
        format!("; the end of {}:\n{tail}", self.log.display())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.stopped {
            self.process.kill().ok();
            self.process.wait().ok();
        }
    }
}

/// A plain request over a fresh connection; anything but 200 is "not yet".
fn says_ready(addr: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&addr, Duration::from_millis(500))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(
            stream,
            "GET /readyz HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n"
        )?;
        let mut start = [0; 12];
        stream.read_exact(&mut start)?;
        Ok(&start == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

/// A port of this machine that is free right now.
///
/// # Errors
/// None is.
pub fn free_addr() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("finding a free port")?;
    Ok(listener.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ends_early_is_told_with_its_log() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo the reason; exit 3"]);
        let name = format!("bench-child-{}", std::process::id());
        let mut child = Child::spawn(&name, &mut command, &std::env::temp_dir()).expect("starts");
        let error = child
            .wait_ready(free_addr().expect("a port"))
            .expect_err("it ends");
        let text = format!("{error:#}");
        assert!(text.contains("the reason") && text.contains('3'), "{text}");
    }

    #[test]
    fn stopping_asks_first() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"]);
        let child =
            Child::spawn("bench-child-stop", &mut command, &std::env::temp_dir()).expect("starts");
        std::thread::sleep(Duration::from_millis(200));
        let start = Instant::now();
        child.stop().expect("stops");
        assert!(start.elapsed() < STOP_WITHIN);
    }
}
