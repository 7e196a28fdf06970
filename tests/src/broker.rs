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

/// As deploy/local/lib/kafka.sh finds it.
fn java() -> PathBuf {
    let home = std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty());
    home.map_or_else(
        || "java".into(),
        |home| PathBuf::from(home).join("bin/java"),
    )
}

fn jars() -> PathBuf {
    checkout().join(".local/kafka/lib")
}

fn missing_for_kafka() -> Option<String> {
    let answers = Command::new(java()).arg("-version").output();
    if !answers.is_ok_and(|output| output.status.success()) {
        return Some(java().display().to_string());
    }
    let jars = jars();
    // Written last by `make test`: a folder without it is half fetched.
    (!jars.join(".pom").exists()).then(|| format!("the jars of Kafka in {}", jars.display()))
}

/// One broker from the jars that `make test` has fetched, as the local stack configures it.
pub struct OwnKafka {
    port: u16,
    dir: PathBuf,
    child: Option<Child>,
}

impl OwnKafka {
    /// None where the machine has no Java or no jars (a laptop whose stack runs in Docker).
    ///
    /// # Panics
    /// The broker does not come up.
    #[must_use]
    pub fn start(name: &str) -> Option<Self> {
        if let Some(missing) = missing_for_kafka() {
            eprintln!("SKIPPED {name}: a Kafka of its own needs {missing}");
            return None;
        }
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
        Some(kafka)
    }

    fn java(&self) -> Command {
        let mut java = Command::new(java());
        java.args(["-Xmx384m", "-Djava.awt.headless=true", "-cp"])
            .arg(jars().join("*"));
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

/// The newest version's folder, else that of PATH, as deploy/local/lib/postgres.sh finds it.
fn postgres_programs() -> Option<PathBuf> {
    let has_initdb = |dir: &PathBuf| dir.join("initdb").exists();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = versions
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, dir)| has_initdb(dir))
        .max();
    newest.map(|(_, dir)| dir).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(has_initdb)
    })
}

/// A cluster of the system's PostgreSQL, as an unprivileged user.
pub struct OwnPostgres {
    port: u16,
    dir: PathBuf,
    programs: PathBuf,
}

impl OwnPostgres {
    /// None where the machine has no PostgreSQL (a laptop whose stack runs in Docker).
    ///
    /// # Panics
    /// PostgreSQL does not come up.
    #[must_use]
    pub fn start(name: &str) -> Option<Self> {
        let Some(programs) = postgres_programs() else {
            eprintln!("SKIPPED {name}: a PostgreSQL of its own needs initdb and pg_ctl");
            return None;
        };
        // User postgres must reach it, wherever the checkout lies.
        let dir =
            PathBuf::from("/var/tmp").join(format!("router-e2e-{name}-{}", std::process::id()));
        fs::remove_dir_all(&dir).ok();
        fs::create_dir_all(&dir).expect("a folder");
        let postgres = Self {
            port: free_port(),
            dir,
            programs,
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
        Some(postgres)
    }

    fn data(&self) -> String {
        self.dir.join("data").display().to_string()
    }

    fn tool(&self, name: &str) -> Command {
        let tool = self.programs.join(name);
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
