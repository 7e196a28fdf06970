//! A Kafka and a PostgreSQL that a test may kill: the stack's own serve all tests at once.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests lie in the checkout")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound port").port()
}

fn wait_for_port(port: u16) {
    let began = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(began.elapsed().as_secs() < 60, "nobody listens on {port}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// One broker from the jars that `make test` has fetched, as the local stack configures it.
pub struct OwnKafka {
    port: u16,
    dir: PathBuf,
    child: Option<Child>,
}

impl OwnKafka {
    /// # Panics
    /// Java or the jars are missing, or the broker does not come up.
    #[must_use]
    pub fn start(name: &str) -> Self {
        let dir = checkout()
            .join(".local/test")
            .join(format!("kafka-{name}-{}", std::process::id()));
        fs::remove_dir_all(&dir).ok();
        fs::create_dir_all(&dir).expect("a folder");
        let (port, controller) = (free_port(), free_port());
        let template = checkout().join("deploy/local/kafka/server.properties.in");
        let config = fs::read_to_string(template)
            .expect("the configuration of the local stack")
            .replace("@PORT@", &port.to_string())
            .replace("@CONTROLLER_PORT@", &controller.to_string())
            .replace("@DATA@", &dir.join("data").display().to_string());
        fs::write(dir.join("server.properties"), config).expect("written");
        let mut kafka = Self {
            port,
            dir,
            child: None,
        };
        let id = run(kafka
            .java()
            .args(["kafka.tools.StorageTool", "random-uuid"]));
        let id = id.lines().last().expect("an id").to_owned();
        let file = kafka.config();
        run(kafka.java().args([
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            &id,
            "--config",
            &file,
            "--standalone",
        ]));
        kafka.restart();
        kafka
    }

    fn java(&self) -> Command {
        let mut java = Command::new("java");
        let jars = checkout().join(".local/kafka/lib/*");
        java.args(["-Xmx384m", "-Djava.awt.headless=true", "-cp"])
            .arg(jars);
        java
    }

    fn config(&self) -> String {
        self.dir.join("server.properties").display().to_string()
    }

    #[must_use]
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it without a word (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Starts it again on the same data.
    ///
    /// # Panics
    /// It does not come up.
    pub fn restart(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .expect("log");
        let config = self.config();
        let mut java = self.java();
        java.args(["kafka.Kafka", &config])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null());
        self.child = Some(java.spawn().expect("java starts"));
        wait_for_port(self.port);
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        self.kill();
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// A cluster of the system's PostgreSQL, as an unprivileged user.
pub struct OwnPostgres {
    port: u16,
    dir: PathBuf,
}

impl OwnPostgres {
    /// # Panics
    /// PostgreSQL is missing or does not come up.
    #[must_use]
    pub fn start(name: &str) -> Self {
        // User postgres must reach it, wherever the checkout lies.
        let dir =
            PathBuf::from("/var/tmp").join(format!("router-e2e-{name}-{}", std::process::id()));
        fs::remove_dir_all(&dir).ok();
        fs::create_dir_all(&dir).expect("a folder");
        let postgres = Self {
            port: free_port(),
            dir,
        };
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&postgres.dir));
        }
        let data = postgres.data();
        run(postgres.tool("initdb").args([
            "-D",
            &data,
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ]));
        postgres.restart();
        postgres
    }

    fn data(&self) -> String {
        self.dir.join("data").display().to_string()
    }

    fn tool(&self, name: &str) -> Command {
        let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
        let newest = versions
            .flatten()
            .map(|entry| entry.path().join("bin"))
            .max()
            .expect("a version");
        let tool = newest.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(tool);
            command
        } else {
            Command::new(tool)
        };
        command.current_dir("/");
        command
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Stops it at once, connections or not.
    pub fn stop(&self) {
        let data = self.data();
        run(self
            .tool("pg_ctl")
            .args(["-D", &data, "-m", "immediate", "-w", "stop"]));
    }

    /// Starts it again on the same data.
    pub fn restart(&self) {
        let (data, log) = (self.data(), self.dir.join("log").display().to_string());
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off",
            self.port,
            self.dir.display()
        );
        let mut command = self.tool("pg_ctl");
        command.args(["-D", &data, "-l", &log, "-w", "-o", &options, "start"]);
        // What it leaves running must not hold on to our pipes.
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(
            status.expect("pg_ctl starts").success(),
            "PostgreSQL does not start: {log}"
        );
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        let data = self.data();
        self.tool("pg_ctl")
            .args(["-D", &data, "-m", "immediate", "stop"])
            .output()
            .ok();
        fs::remove_dir_all(&self.dir).ok();
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}
