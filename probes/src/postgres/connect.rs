//! From a connection string to an open connection, phase by phase, as libpq would do it.
//!
//! The socket is opened here and not by the driver, so that resolve, TCP, TLS and authentication are timed apart and
//! the kernel's view of the socket stays reachable.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::conninfo::{
    ChannelBinding, Conninfo, Host, HostName, Secret, SslMode, SslNegotiation, TargetSessionAttrs,
};
use super::encryption::{Timed, in_home, tls_name, tls_of};
use super::failure::{failure, refuses_options, refuses_this_line};
use super::query::Session;
use super::{passfile, password};
use crate::resolve::resolve;
use crate::sample::{Failure, Phases, Reason, Timing};
use crate::stopwatch::Stopwatch;
use crate::target::HostPort;
use crate::tcp::{connect_any, io_failure, no_answer};
use crate::tls::TlsError;
use crate::warm::Open;

/// Limits on the server's side, given with the start-up packet.
///
/// Not by `SET`: through a pooler in transaction mode that would stay behind on a connection that coderd uses next.
/// A pooler that refuses start-up options is asked again without them; our own deadline holds then.
const LIMITS: &str =
    "-c statement_timeout=2000 -c lock_timeout=2000 -c idle_in_transaction_session_timeout=2000";

/// How connections to one server (or one of several hosts) are opened.
pub(super) struct Dial {
    conninfo: Conninfo,
    tls: Option<Arc<ClientConfig>>,
}

/// What one attempt does about encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Plain,
    EncryptedIfOffered,
    Encrypted,
}

/// Why an attempt did not end in a connection, and what may still be tried.
struct Refusal {
    failure: Failure,
    try_other_line: bool,
    try_without_options: bool,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let try_other_line = failure.reason == Reason::Tls;
        Self { failure, try_other_line, try_without_options: false }
    }
}

impl Open for Dial {
    type Connection = Session;

    /// Where a command has to be asked for the password, that comes before and has a time limit of its own.
    async fn open(&self, deadline: Duration) -> Result<(Session, Phases), Failure> {
        let asked = match &self.conninfo.password_source {
            Some(source) => Some(password::ask(source).await?),
            None => None,
        };
        let deadline = self.conninfo.connect_timeout.map_or(deadline, |timeout| timeout.min(deadline));
        let detail = || format!("no PostgreSQL connection within {:.1} s", deadline.as_secs_f64());
        tokio::time::timeout(deadline, self.open_any(asked.as_ref(), deadline))
            .await
            .unwrap_or_else(|_| Err(Failure::new(Reason::Unreachable, detail())))
    }

    fn opened(session: &Session, phases: Phases) -> Timing {
        Timing {
            rtt: phases.auth.unwrap_or_default(),
            phases: Some(phases),
            encrypted: Some(session.encrypted()),
            leads_to: session.leads_to(),
            ..Timing::default()
        }
    }
}

impl Dial {
    pub(super) fn new(conninfo: Conninfo) -> Result<Self, TlsError> {
        let tls = tls_of(&conninfo)?.map(Arc::new);
        Ok(Self { conninfo, tls })
    }

    /// The first host that lets us in and is of the wanted kind.
    async fn open_any(
        &self,
        asked: Option<&Secret>,
        deadline: Duration,
    ) -> Result<(Session, Phases), Failure> {
        let watch = Stopwatch::start();
        let wanted = self.conninfo.target_session_attrs;
        let passes = match wanted {
            TargetSessionAttrs::PreferStandby => &[TargetSessionAttrs::Standby, TargetSessionAttrs::Any][..],
            _ => &[wanted][..],
        };
        let mut last = Failure::new(Reason::Unreachable, "the connection string names no host");
        for wanted in passes {
            let hosts = self.conninfo.hosts.len();
            for index in 0..hosts {
                let host = &self.conninfo.hosts[(index + self.first_host()) % hosts];
                // One host that swallows packets must leave time for the next.
                let left = u32::try_from(hosts - index).unwrap_or(u32::MAX);
                let patience = deadline.saturating_sub(watch.elapsed()) / left;
                let attempt = tokio::time::timeout(patience, self.open_host(host, *wanted, asked));
                match attempt.await {
                    Ok(Ok(opened)) => return Ok(opened),
                    // As in libpq, a no to who we are is final: the other hosts would say the same.
                    Ok(Err(failure)) if matches!(failure.reason, Reason::Auth | Reason::Database) => {
                        return Err(failure);
                    }
                    Ok(Err(failure)) => last = failure,
                    Err(_) => {
                        let detail =
                            format!("{} did not answer within {:.1} s", place(host), patience.as_secs_f64());
                        last = Failure::new(Reason::Unreachable, detail);
                    }
                }
            }
        }
        Err(last)
    }

    /// A bare connect to where the kept connection goes or, while there is none, to the first host that lets us in. No
    /// byte is sent, so the server logs nothing unless `log_connections` is on.
    pub(super) async fn connect(
        &self,
        remote: Option<SocketAddr>,
        deadline: Duration,
    ) -> Result<Phases, Failure> {
        let attempt = async {
            if let Some(remote) = remote {
                let (_, connect) = connect_any(&[remote]).await?;
                return Ok(Phases { tcp: Some(connect), ..Phases::default() });
            }
            let mut last = Failure::new(Reason::Local, "a Unix socket has no distance to measure");
            for host in &self.conninfo.hosts {
                let HostName::Tcp(name) = &host.host else { continue };
                match tcp(name, host).await {
                    Ok((_, phases)) => return Ok(phases),
                    Err(failure) => last = failure,
                }
            }
            Err(last)
        };
        tokio::time::timeout(deadline, attempt).await.unwrap_or_else(|_| Err(no_answer(deadline)))
    }

    fn first_host(&self) -> usize {
        if !self.conninfo.load_balance_hosts {
            return 0;
        }
        // Any spread will do; nobody needs to be unable to guess it.
        usize::try_from(crate::stopwatch::monotonic_ns() / 1_000).unwrap_or(0)
    }

    async fn open_host(
        &self,
        host: &Host,
        wanted: TargetSessionAttrs,
        asked: Option<&Secret>,
    ) -> Result<(Session, Phases), Failure> {
        let mut last = None;
        for line in self.lines(host) {
            for with_limits in [true, false] {
                match self.attempt(host, *line, with_limits, asked).await {
                    Ok((session, phases)) => {
                        session.be(wanted).await?;
                        session.look_for_room().await?;
                        return Ok((session, phases));
                    }
                    Err(refusal) if refusal.try_without_options && with_limits => {}
                    Err(refusal) => {
                        let go_on = refusal.try_other_line;
                        last = Some(refusal.failure);
                        if !go_on {
                            return Err(last.unwrap_or_else(|| unreachable_host(host)));
                        }
                        break;
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| unreachable_host(host)))
    }

    /// libpq's order of attempts for each `sslmode`; a Unix socket is never encrypted.
    fn lines(&self, host: &Host) -> &'static [Line] {
        if matches!(host.host, HostName::Unix(_)) {
            return &[Line::Plain];
        }
        match self.conninfo.sslmode {
            SslMode::Disable => &[Line::Plain],
            SslMode::Allow => &[Line::Plain, Line::Encrypted],
            SslMode::Prefer => &[Line::EncryptedIfOffered, Line::Plain],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Line::Encrypted],
        }
    }

    async fn attempt(
        &self,
        host: &Host,
        line: Line,
        with_limits: bool,
        asked: Option<&Secret>,
    ) -> Result<(Session, Phases), Refusal> {
        let config = self.config(host, line, with_limits, asked);
        match &host.host {
            HostName::Unix(directory) => {
                let path = socket_path(directory, host.port);
                let watch = Stopwatch::start();
                let stream = UnixStream::connect(&path)
                    .await
                    .map_err(|error| io_failure(&error, &path.display().to_string()))?;
                let phases = Phases { tcp: Some(watch.elapsed()), ..Phases::default() };
                self.start(stream, host, line, config, with_limits, phases).await
            }
            HostName::Tcp(name) => {
                let (stream, phases) = tcp(name, host).await?;
                let remote = stream.peer_addr().ok();
                // The driver takes the stream; its socket stays reachable for the kernel's view.
                let socket = stream.as_fd().try_clone_to_owned().ok();
                let (mut session, phases) =
                    self.start(stream, host, line, config, with_limits, phases).await?;
                session.goes_to(remote, socket);
                Ok((session, phases))
            }
        }
    }

    /// TLS and authentication on an open stream.
    async fn start<S>(
        &self,
        stream: S,
        host: &Host,
        line: Line,
        config: Config,
        with_limits: bool,
        mut phases: Phases,
    ) -> Result<(Session, Phases), Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let place = place(host);
        let refuse = |error: &tokio_postgres::Error| {
            let mut failure = failure(error, &place);
            if failure.reason == Reason::Tls && failure.detail.contains("does not support TLS") {
                failure.detail = format!(
                    "the server offers no TLS, which sslmode={} demands; sslmode=disable is for a network you trust",
                    self.conninfo.sslmode
                );
            }
            let try_other_line = failure.reason == Reason::Tls || refuses_this_line(error);
            Refusal { failure, try_other_line, try_without_options: refuses_options(error) }
        };
        let watch = Stopwatch::start();
        if line == Line::Plain {
            let (client, connection) =
                config.connect_raw(stream, NoTls).await.map_err(|error| refuse(&error))?;
            phases.auth = Some(watch.elapsed());
            let session = Session::start(client, connection, false, with_limits, place).await?;
            return Ok((session, phases));
        }
        let Some(tls) = &self.tls else {
            return Err(Failure::new(Reason::Tls, "TLS was not set up for this connection").into());
        };
        let encrypted_after = Arc::new(OnceLock::new());
        let mut make = MakeRustlsConnect::new(ClientConfig::clone(tls));
        let Ok(inner) = MakeTlsConnect::<S>::make_tls_connect(&mut make, tls_name(host));
        let timed = Timed { inner, since: watch, done: Arc::clone(&encrypted_after) };
        let (client, connection) = config.connect_raw(stream, timed).await.map_err(|error| refuse(&error))?;
        let tls_time = encrypted_after.get().copied();
        phases.tls = tls_time;
        phases.auth = Some(watch.elapsed().saturating_sub(tls_time.unwrap_or_default()));
        let session = Session::start(client, connection, tls_time.is_some(), with_limits, place).await?;
        Ok((session, phases))
    }

    fn config(&self, host: &Host, line: Line, with_limits: bool, asked: Option<&Secret>) -> Config {
        let conninfo = &self.conninfo;
        let mut config = Config::new();
        config.user(&conninfo.user).dbname(&conninfo.dbname).application_name("probe");
        let options = match (conninfo.options.is_empty(), with_limits) {
            (true, true) => LIMITS.to_owned(),
            (false, true) => format!("{} {LIMITS}", conninfo.options),
            (_, false) => conninfo.options.clone(),
        };
        if !options.is_empty() {
            config.options(&options);
        }
        if let Some(password) = asked.map(|secret| secret.expose().to_owned()).or_else(|| self.password(host))
        {
            config.password(password);
        }
        config.ssl_mode(match line {
            Line::Plain => tokio_postgres::config::SslMode::Disable,
            Line::EncryptedIfOffered => tokio_postgres::config::SslMode::Prefer,
            Line::Encrypted => tokio_postgres::config::SslMode::Require,
        });
        if conninfo.sslnegotiation == SslNegotiation::Direct {
            config.ssl_negotiation(tokio_postgres::config::SslNegotiation::Direct);
        }
        config.channel_binding(match conninfo.channel_binding {
            ChannelBinding::Disable => tokio_postgres::config::ChannelBinding::Disable,
            ChannelBinding::Prefer => tokio_postgres::config::ChannelBinding::Prefer,
            ChannelBinding::Require => tokio_postgres::config::ChannelBinding::Require,
        });
        config
    }

    /// Read anew for each connection, so that a rotated file is picked up.
    fn password(&self, host: &Host) -> Option<String> {
        if let Some(password) = &self.conninfo.password {
            return Some(password.expose().to_owned());
        }
        let path = self.conninfo.passfile.clone().or_else(|| in_home(".pgpass"))?;
        if readable_by_others(&path) {
            tracing::warn!(path = %path.display(), "the password file can be read by others and is ignored, as libpq does: chmod 600");
            return None;
        }
        let contents = std::fs::read_to_string(path).ok()?;
        let name = match &host.host {
            HostName::Tcp(name) => name,
            HostName::Unix(_) => "localhost",
        };
        passfile::lookup(&contents, name, host.port, &self.conninfo.dbname, &self.conninfo.user)
            .map(|secret| secret.expose().to_owned())
    }
}

/// Resolves and connects; `hostaddr` skips the lookup.
async fn tcp(name: &str, host: &Host) -> Result<(TcpStream, Phases), Failure> {
    let (addresses, resolve) = match host.hostaddr {
        Some(address) => (vec![(address, host.port).into()], Duration::ZERO),
        None => resolve(&HostPort { host: name.to_owned(), port: host.port }).await?,
    };
    let (stream, connect) = connect_any(&addresses).await?;
    Ok((stream, Phases { resolve, tcp: Some(connect), ..Phases::default() }))
}

/// `@name` is an abstract socket: its name starts with a zero byte instead of being a file.
fn socket_path(directory: &Path, port: u16) -> PathBuf {
    let file = format!(".s.PGSQL.{port}");
    match directory.to_str().and_then(|name| name.strip_prefix('@')) {
        Some(name) => PathBuf::from(format!("\0{name}/{file}")),
        None => directory.join(file),
    }
}

#[cfg(unix)]
fn readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn readable_by_others(_path: &Path) -> bool {
    false
}

fn place(host: &Host) -> String {
    match &host.host {
        HostName::Tcp(name) => HostPort { host: name.clone(), port: host.port }.to_string(),
        HostName::Unix(directory) => directory.display().to_string(),
    }
}

fn unreachable_host(host: &Host) -> Failure {
    Failure::new(Reason::Unreachable, format!("{} could not be reached", place(host)))
}
