//! A private PostgreSQL in a temporary directory: loopback, a free port, a random password, gone afterwards.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use probes::secret::MeshSecret;
use tempfile::TempDir;

const ROLE: &str = "probe";
const START_PATIENCE: Duration = Duration::from_secs(15);

/// A running private server. Dropping it stops the server by its own pid and removes its directory.
#[derive(Debug)]
pub struct Cluster {
    server: Child,
    binaries: PathBuf,
    directory: TempDir,
    owner: Option<Owner>,
    port: u16,
    password: String,
}

/// Why there is no private server.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Not installed.
    #[error(
        "no PostgreSQL server was found: initdb, postgres and pg_ctl are neither on PATH nor under /usr/lib/postgresql/*/bin"
    )]
    NotInstalled,
    /// PostgreSQL refuses to run as root and there is nobody else to be.
    #[error("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")]
    NoUser,
    /// A program did not do its part.
    #[error("{program} failed: {cause}")]
    Program {
        /// Which one.
        program: &'static str,
        /// Its last words.
        cause: String,
    },
    /// The file system or the process table.
    #[error("a private PostgreSQL could not be set up: {0}")]
    Io(#[from] io::Error),
}

#[derive(Debug, Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
}

impl Cluster {
    /// Makes and starts a server with these extra settings (`name=value`), from the programs in this directory or where
    /// they usually are. Blocks for one to three seconds.
    pub fn start(binaries: Option<&Path>, settings: &[&str]) -> Result<Self, ClusterError> {
        let binaries = find_binaries(binaries).ok_or(ClusterError::NotInstalled)?;
        let owner = if is_root()? { Some(unprivileged().ok_or(ClusterError::NoUser)?) } else { None };
        let directory = private_directory(owner)?;
        let password = MeshSecret::generate_hex().map_err(|error| io::Error::other(error.to_string()))?;
        initialize(&binaries, directory.path(), owner, &password)?;
        Self::run(binaries, owner, directory, password, settings)
    }

    /// Makes and starts a standby that follows this server. Blocks for a few seconds.
    pub fn follower(&self) -> Result<Self, ClusterError> {
        let directory = private_directory(self.owner)?;
        // It belongs to the clients' package, which may keep it elsewhere.
        let beside = self.binaries.join("pg_basebackup");
        let program = if beside.is_file() { beside } else { PathBuf::from("pg_basebackup") };
        let output = run_as(&program, self.owner)
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                ROLE,
                "-R",
                "-X",
                "stream",
                "-c",
                "fast",
            ])
            .arg("--no-sync")
            .arg("-D")
            .arg(directory.path().join("data"))
            .env("PGPASSWORD", &self.password)
            .stdin(Stdio::null())
            .output()?;
        succeeded("pg_basebackup", &output)?;
        Self::run(self.binaries.clone(), self.owner, directory, self.password.clone(), &[])
    }

    /// Makes a standby a primary.
    pub fn promote(&self) -> Result<(), ClusterError> {
        let output = run_as(&self.binaries.join("pg_ctl"), self.owner)
            .args(["promote", "-w", "-t", "10", "-D"])
            .arg(self.directory.path().join("data"))
            .stdin(Stdio::null())
            .output()?;
        succeeded("pg_ctl promote", &output)
    }

    fn run(
        binaries: PathBuf,
        owner: Option<Owner>,
        directory: TempDir,
        password: String,
        settings: &[&str],
    ) -> Result<Self, ClusterError> {
        let port = free_port()?;
        let mut command = run_as(&binaries.join("postgres"), owner);
        command.arg("-D").arg(directory.path().join("data"));
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            // Nothing in here has to survive.
            "fsync=off",
            "logging_collector=off",
            &format!("port={port}"),
        ]
        .iter()
        .chain(settings)
        {
            command.arg("-c").arg(setting);
        }
        let log = std::fs::File::create(directory.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let server = command.spawn()?;
        let mut cluster = Self { server, binaries, directory, owner, port, password };
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// The connection string of the server's owner, password included.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same through something that listens on this port of 127.0.0.1.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://{ROLE}:{}@127.0.0.1:{port}/postgres?sslmode=disable", self.password)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password of the owner, whose name is `probe`.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The directory that holds the data directory `data` and the server's log.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Process id of the server's first process.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Stops the server at once, as a crash would; its directory stays until the drop.
    pub fn stop(&mut self) -> io::Result<ExitStatus> {
        let stopped = run_as(&self.binaries.join("pg_ctl"), self.owner)
            .arg("stop")
            .arg("-D")
            .arg(self.directory.path().join("data"))
            .args(["-m", "immediate", "-s", "-w", "-t", "10"])
            .stdin(Stdio::null())
            .output();
        if !stopped.is_ok_and(|output| output.status.success()) {
            // It may have ended by itself; then there is nothing to kill, and the wait says so.
            let _ = self.server.kill();
        }
        self.server.wait()
    }

    fn wait_until_ready(&mut self) -> Result<(), ClusterError> {
        let patience = probes::stopwatch::Stopwatch::start();
        loop {
            if self.log().contains("database system is ready to accept") {
                return Ok(());
            }
            let ended = self.server.try_wait()?;
            if ended.is_some() || patience.elapsed() > START_PATIENCE {
                let log = self.log();
                let last = log.lines().last().unwrap_or("no word in its log").to_owned();
                return Err(ClusterError::Program { program: "postgres", cause: last });
            }
            pause();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if matches!(self.server.try_wait(), Ok(None))
            && let Err(error) = self.stop()
        {
            tracing::warn!(%error, pid = self.server.id(), "the private PostgreSQL could not be stopped");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "start-up runs on a blocking thread of its own")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

fn initialize(
    binaries: &Path,
    directory: &Path,
    owner: Option<Owner>,
    password: &str,
) -> Result<(), ClusterError> {
    let password_file = directory.join("password");
    std::fs::write(&password_file, password)?;
    if let Some(owner) = owner {
        std::os::unix::fs::chown(&password_file, Some(owner.uid), Some(owner.gid))?;
    }
    let output = run_as(&binaries.join("initdb"), owner)
        .arg("-D")
        .arg(directory.join("data"))
        .args([
            "-U",
            ROLE,
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ])
        .arg("--pwfile")
        .arg(&password_file)
        .stdin(Stdio::null())
        .output()?;
    succeeded("initdb", &output)
}

fn succeeded(program: &'static str, output: &Output) -> Result<(), ClusterError> {
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(ClusterError::Program { program, cause: words.lines().last().unwrap_or("no word").to_owned() })
}

/// A new directory that the server's user owns.
fn private_directory(owner: Option<Owner>) -> io::Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("probe-pg-").tempdir()?;
    if let Some(owner) = owner {
        std::os::unix::fs::chown(directory.path(), Some(owner.uid), Some(owner.gid))?;
    }
    Ok(directory)
}

fn run_as(program: &Path, owner: Option<Owner>) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    // The caller's directory may be closed to another user.
    command.current_dir("/");
    if let Some(owner) = owner {
        command.uid(owner.uid).gid(owner.gid);
    }
    command
}

/// The directory of the server's programs: the given one and no other, or the first on PATH, or where Debian and its
/// children keep them; of several versions the newest wins.
fn find_binaries(given: Option<&Path>) -> Option<PathBuf> {
    let complete = |directory: &PathBuf| {
        ["initdb", "postgres", "pg_ctl"].iter().all(|program| directory.join(program).is_file())
    };
    if let Some(given) = given {
        return Some(given.to_owned()).filter(complete);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().parse().unwrap_or(0), entry.path().join("bin")))
        .collect();
    versions.sort();
    candidates.extend(versions.into_iter().rev().map(|(_, path)| path));
    candidates.into_iter().find(complete)
}

/// Whether this process is root: then a new file belongs to uid 0.
fn is_root() -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(tempfile::tempfile()?.metadata()?.uid() == 0)
}

fn unprivileged() -> Option<Owner> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    ["postgres", "nobody"].iter().find_map(|name| {
        let fields: Vec<&str> = users
            .lines()
            .map(|line| line.split(':').collect())
            .find(|fields: &Vec<&str>| fields.first() == Some(name))?;
        Some(Owner { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
    })
}

/// A port that was free a moment ago.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
