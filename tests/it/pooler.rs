//! A real pgbouncer in front of a test's PostgreSQL: on a free port of loopback, as somebody who is not root, stopped by
//! its own pid.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use probe::demo::cluster::Cluster;
use probes::stopwatch::Stopwatch;

use crate::house::{closed_port, signal};

/// When a server connection goes to the next client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// After each transaction.
    Transaction,
    /// When the client leaves.
    Session,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Session => "session",
        }
    }
}

/// A running pgbouncer.
pub(crate) struct Pooler {
    child: Child,
    directory: tempfile::TempDir,
    server: u16,
    password: String,
    port: u16,
    pool_size: usize,
    more: String,
}

impl Pooler {
    /// In front of this server, with at most so many connections to it; `more` are further lines of its settings.
    pub(crate) fn start(cluster: &Cluster, mode: Mode, pool_size: usize, more: &str) -> Self {
        let program = program().unwrap_or_else(|| {
            panic!("pgbouncer was not found on PATH or in /usr/sbin; `bash tests/run.sh` installs what the tests need")
        });
        let directory = tempfile::Builder::new().prefix("probe-pgbouncer-").tempdir().unwrap();
        let owner = somebody();
        let port = closed_port();
        let password = cluster.password().to_owned();
        let users = directory.path().join("users.txt");
        std::fs::write(&users, format!("\"probe\" \"{password}\"\n")).unwrap();
        let settings = directory.path().join("pgbouncer.ini");
        let log = directory.path().join("log");
        write_settings(&settings, directory.path(), cluster.port(), port, mode, pool_size, more);
        std::fs::write(&log, "").unwrap();
        let mut command = Command::new(program);
        command.arg(&settings).current_dir("/").stdin(Stdio::null());
        if let Some((uid, gid)) = owner {
            for path in [directory.path(), &users, &settings, &log] {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
            command.uid(uid).gid(gid);
        }
        let output = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
        let child = command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        let server = cluster.port();
        let mut pooler = Self { child, directory, server, password, port, pool_size, more: more.to_owned() };
        pooler.wait_until_ready();
        pooler
    }

    /// The connection string through it.
    pub(crate) fn url(&self) -> String {
        format!("postgres://probe:{}@127.0.0.1:{}/postgres?sslmode=disable", self.password, self.port)
    }

    /// What it is called in reports.
    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}/postgres", self.port)
    }

    /// Makes it another mode while it runs, as by an operator's reload.
    pub(crate) fn switch(&self, mode: Mode) {
        let settings = self.directory.path().join("pgbouncer.ini");
        write_settings(
            &settings,
            self.directory.path(),
            self.server,
            self.port,
            mode,
            self.pool_size,
            &self.more,
        );
        signal(self.child.id(), "HUP");
    }

    /// What it has written to its log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn wait_until_ready(&mut self) {
        let watch = Stopwatch::start();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && watch.elapsed() < Duration::from_secs(15),
                "pgbouncer does not listen ({ended:?}); it says: {}",
                self.log()
            );
            pause();
        }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_settings(
    file: &Path,
    directory: &Path,
    server: u16,
    port: u16,
    mode: Mode,
    pool_size: usize,
    more: &str,
) {
    let mut settings = std::fs::File::create(file).unwrap();
    write!(
        settings,
        "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {users}\npool_mode = {mode}\n\
         default_pool_size = {pool_size}\nquery_wait_timeout = 20\n{more}\n",
        users = directory.join("users.txt").display(),
        mode = mode.word(),
    )
    .unwrap();
    settings.set_permissions(std::fs::Permissions::from_mode(0o644)).unwrap();
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|directory| directory.join("pgbouncer"))
        .find(|file| file.is_file())
}

/// Whom it runs as where we are root, which it refuses to be.
fn somebody() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    if tempfile::tempfile().unwrap().metadata().unwrap().uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let found = ["postgres", "nobody"].iter().find_map(|name| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    Some(found.expect("pgbouncer does not run as root, and there is no user postgres or nobody"))
}

#[expect(clippy::disallowed_methods, reason = "a process in the making has no other sign than its port")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
