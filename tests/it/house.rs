//! What the tests live in: the binary under test, agents in processes of their own, a PostgreSQL for all.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use probe::demo::cluster::Cluster;
use probes::secret::MeshSecret;
use probes::stopwatch::Stopwatch;
use serde_json::Value;

/// The binary under test, with an environment that holds nothing of the machine it runs on.
pub(crate) fn probe(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_probe"));
    command.args(arguments).stdin(Stdio::null()).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    // Nothing that the tests start asks an address outside of this machine.
    command.env("PROBE_NO_CLOUD_METADATA", "true");
    command
}

/// A finished run.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs of other tests share this; a test whose figures must be exact has it alone.
static NOISE: RwLock<()> = RwLock::new(());

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// While this is held, no other test runs the binary: two cores are few.
pub(crate) struct Quiet {
    _alone: RwLockWriteGuard<'static, ()>,
}

pub(crate) fn quiet() -> Quiet {
    let alone = NOISE.write().unwrap_or_else(PoisonError::into_inner);
    ALONE.set(true);
    Quiet { _alone: alone }
}

/// Held by what keeps a core busy without running the binary.
pub(crate) struct Busy {
    _shared: Option<RwLockReadGuard<'static, ()>>,
}

/// For a test that keeps a core busy without running the binary. Who has the machine alone has it anyway.
pub(crate) fn busy() -> Busy {
    let shared = || NOISE.read().unwrap_or_else(PoisonError::into_inner);
    Busy { _shared: (!ALONE.get()).then(shared) }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        ALONE.set(false);
    }
}

impl Run {
    pub(crate) fn of(command: &mut Command) -> Self {
        let shared = || NOISE.read().unwrap_or_else(PoisonError::into_inner);
        let _shared = (!ALONE.get()).then(shared);
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// The report of `-o json`.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}\nstdout: {}\nstderr: {}", self.stdout, self.stderr))
    }

    /// The report's only target.
    pub(crate) fn target(&self) -> Value {
        let report = self.json();
        let targets = report["targets"].as_array().unwrap();
        assert_eq!(targets.len(), 1, "{report:#}");
        targets[0].clone()
    }
}

/// Runs `probe check -o json` with these arguments and the mesh secret in its environment.
pub(crate) fn check(secret: &Secret, arguments: &[&str]) -> Run {
    let mut all = vec!["check", "-o", "json"];
    all.extend(arguments);
    Run::of(probe(&all).env("PROBE_MESH_SECRET_FILE", &secret.path))
}

/// As [`check`], and where the answer is «cannot tell» once more for longer, as its hint advises: on a shared machine a
/// stall or two of our own are no news about the path. A fail is never asked again.
pub(crate) fn check_until_told(secret: &Secret, arguments: &[&str]) -> Run {
    let run = check(secret, arguments);
    if run.code != Some(3) {
        return run;
    }
    let mut longer: Vec<_> = arguments.iter().copied().filter(|argument| *argument != "--quick").collect();
    if longer.len() < arguments.len() {
        longer.extend(["--quantile", "0.5"]);
    }
    longer.extend(["--time-limit", "100s"]);
    check(secret, &longer)
}

/// A mesh secret in a file.
pub(crate) struct Secret {
    pub(crate) path: PathBuf,
    directory: tempfile::TempDir,
}

impl Secret {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mesh-secret");
        std::fs::write(&path, MeshSecret::generate_hex().unwrap() + "\n").unwrap();
        Self { path, directory }
    }

    /// A file beside it.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    }
}

/// An agent in a process of its own, killed by its own pid when dropped.
pub(crate) struct Agent {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// What it said before it was ready.
    pub(crate) said_first: Vec<String>,
    pub(crate) reflector: SocketAddr,
    pub(crate) web: SocketAddr,
}

impl Agent {
    pub(crate) fn start(secret: &Secret) -> Self {
        Self::with(
            probe(&["agent", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"])
                .env("PROBE_MESH_SECRET_FILE", &secret.path),
        )
    }

    /// Starts this command and reads its real addresses from its log.
    pub(crate) fn with(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut seen = Vec::new();
        let ready = loop {
            match lines.recv_timeout(Duration::from_secs(10)) {
                Ok(line) if line.contains("probe agent is ready") => break line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("the agent did not become ready; it said: {seen:#?}"),
            }
        };
        let address = |name: &str| {
            if let Ok(line) = serde_json::from_str::<Value>(&ready) {
                return line[name.trim_end_matches('=')].as_str().unwrap().parse().unwrap();
            }
            let (_, rest) = ready.split_once(name).unwrap_or_else(|| panic!("{name} in {ready}"));
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        let (reflector, web) = (address("reflector="), address("web="));
        Self { child, lines, said_first: seen, reflector, web }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said since this was asked last.
    pub(crate) fn said(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// The body of this path.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.web).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// How its links stand.
    pub(crate) fn report(&self) -> Value {
        let answer = self.get("/api/v1/report");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Sends this signal to this very process.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for its end; its exit code and what it said since it was ready.
    pub(crate) fn wait(mut self) -> (Option<i32>, Vec<String>) {
        let code = self.child.wait().unwrap().code();
        (code, self.lines.iter().collect())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -s {name} {pid}");
}

/// One PostgreSQL that all tests share which do not hurt it.
pub(crate) fn postgres() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| shared_postgres(&[]))
}

/// A PostgreSQL for a static, which is never dropped: a watcher that outlives the tests stops the server by its pid.
#[expect(clippy::zombie_processes, reason = "the watcher outlives this process")]
pub(crate) fn shared_postgres(settings: &[&str]) -> Cluster {
    let cluster = own_postgres(settings);
    let script = format!(
        "while kill -0 {tests} 2>/dev/null; do sleep 0.2; done; kill -s QUIT {server} 2>/dev/null; sleep 0.5; rm -rf '{directory}'",
        tests = std::process::id(),
        server = cluster.pid(),
        directory = cluster.directory().display()
    );
    Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    cluster
}

/// A PostgreSQL for one test that hurts it.
pub(crate) fn own_postgres(settings: &[&str]) -> Cluster {
    Cluster::start(None, settings)
        .unwrap_or_else(|error| panic!("{error}; `bash tests/run.sh` installs what the tests need"))
}

/// A UDP and TCP port on which nobody listens.
pub(crate) fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs statements as the server's owner.
pub(crate) fn sql(cluster: &Cluster, statements: &str) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let (client, connection) =
            tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await.unwrap();
        let driver = tokio::spawn(connection);
        client.batch_execute(statements).await.unwrap();
        drop(client);
        driver.await.unwrap().unwrap();
    });
}

/// The only number that this query yields; may be asked from within a runtime.
pub(crate) fn number(cluster: &Cluster, query: &str) -> i64 {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let (client, connection) =
                    tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await.unwrap();
                let driver = tokio::spawn(connection);
                let number = client.query_one(query, &[]).await.unwrap().get(0);
                drop(client);
                driver.await.unwrap().unwrap();
                number
            })
        });
        asked.join().unwrap()
    })
}

/// Whether the statements ran without an error.
pub(crate) fn try_sql(cluster: &Cluster, statements: &str) -> bool {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let Ok((client, connection)) = tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await
        else {
            return false;
        };
        let driver = tokio::spawn(connection);
        let ran = client.batch_execute(statements).await.is_ok();
        driver.abort();
        ran
    })
}

/// Does `work` while so many connections of the server's owner are open.
pub(crate) fn with_connections<T>(cluster: &Cluster, count: usize, work: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let clients: Vec<_> = (0..count)
        .map(|_| {
            runtime.block_on(async {
                let (client, connection) =
                    tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                client
            })
        })
        .collect();
    let result = work();
    drop(clients);
    result
}

#[expect(clippy::disallowed_methods, reason = "the story takes real time")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}

/// Waits until this is true of the agent's report, which the answer is.
pub(crate) fn wait_until(agent: &Agent, what: &str, patience: u64, is_so: impl Fn(&Value) -> bool) -> Value {
    let watch = Stopwatch::start();
    loop {
        let report = agent.report();
        if is_so(&report) {
            return report;
        }
        assert!(watch.elapsed() < Duration::from_secs(patience), "{what}: {:#?}\n{report:#}", agent.said());
        pause();
    }
}
