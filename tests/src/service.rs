//! A process of the product, its log in a file, ended with the test.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Where cargo puts programs: beside the folder of the test that runs.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its file");
    let dir = test.ancestors().nth(2).expect("target/release/deps/test");
    let path = dir.join(name);
    assert!(
        path.exists(),
        "{} is not built: run `make test`, or `cargo build --release --bins`",
        path.display()
    );
    path
}

/// A running process.
pub struct Service {
    name: String,
    command: Vec<String>,
    env: Vec<(String, String)>,
    ready_url: String,
    log: PathBuf,
    child: Option<Child>,
}

impl Service {
    /// Starts it; `ready_url` answers 200 once it is ready.
    pub(crate) fn start(
        name: &str,
        program_name: &str,
        args: &[&str],
        env: Vec<(String, String)>,
        ready_url: String,
        logs: &Path,
    ) -> Self {
        let mut command = vec![program(program_name).display().to_string()];
        command.extend(args.iter().map(|arg| (*arg).to_owned()));
        let log = logs.join(format!("{name}.log"));
        let mut service = Self {
            name: name.to_owned(),
            command,
            env,
            ready_url,
            log,
            child: None,
        };
        service.restart();
        service
    }

    /// Starts it again with the same settings.
    ///
    /// # Panics
    /// The program cannot be started.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("log file");
        let child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log file"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("the program starts"));
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// It ended, or is not ready within a minute.
    pub async fn ready(&mut self) {
        let began = Instant::now();
        let client = reqwest::Client::new();
        loop {
            let answer = client
                .get(&self.ready_url)
                .timeout(Duration::from_secs(2))
                .send()
                .await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            let ended = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten());
            assert!(
                ended.is_none(),
                "{} ended ({ended:?}): {}",
                self.name,
                self.log_end()
            );
            assert!(
                began.elapsed().as_secs() < 60,
                "{} is not ready: {}",
                self.name,
                self.log_end()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it without a word (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Ends it as an operator does (SIGTERM), waiting until it has drained; its exit status.
    ///
    /// # Panics
    /// It has not ended within half a minute.
    pub fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        Command::new("kill")
            .arg(child.id().to_string())
            .status()
            .expect("kill");
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("its own child") {
                return status.code();
            }
            assert!(
                began.elapsed().as_secs() < 30,
                "{} does not stop: {}",
                self.name,
                self.log_end()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[must_use]
    pub fn runs(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_none()))
    }

    /// All it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Resident memory in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let Some(child) = &self.child else { return 0 };
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap_or_default();
        line.trim()
            .trim_end_matches("kB")
            .trim()
            .parse()
            .unwrap_or(0)
            * 1_024
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "\n--- {}\n{}",
            self.log.display(),
            lines[lines.len().saturating_sub(15)..].join("\n")
        )
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}
