//! The timed query: four timestamps in one statement tell network from execution.
//!
//! `statement_timestamp()` is when the server's process received the statement (T2), `clock_timestamp()` is now (T3),
//! both in microseconds; T1 and T4 are ours. Execution is T3−T2 and the network's share is (T4−T1)−(T3−T2). A process
//! that gets no CPU stamps its receipt late, so its waiting lands in the network's share: only a concurrent bare
//! connect can tell.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Connection, Notification, Row, SimpleQueryMessage, Statement};

use super::conninfo::TargetSessionAttrs;
use super::failure::failure;
use super::{Room, backend};
use crate::sample::{Failure, Reason, Sample, Timing};
use crate::stopwatch::Stopwatch;
use crate::tcp_info;

const QUERY: &str = "SELECT statement_timestamp(), clock_timestamp()";
const PROCESS: &str = "SELECT pg_catalog.pg_backend_pid()";
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// One open connection with its statement ready.
pub(super) struct Session {
    client: Client,
    statement: Option<Statement>,
    /// A pooler in transaction mode may send our statement to another server process, which does not know it.
    unnamed: AtomicBool,
    /// The server's own process answers, and no pooler's choice of one.
    own_process: bool,
    encrypted: bool,
    place: String,
    remote: Option<SocketAddr>,
    /// Which server it is by its own account, as it said when we looked first.
    leads_to: OnceLock<SocketAddr>,
    socket: Option<OwnedFd>,
    /// As the kernel counted them when we looked last.
    retransmits: AtomicU32,
    ended: Arc<OnceLock<Failure>>,
    last_look: Mutex<Stopwatch>,
    notes: Mutex<Option<mpsc::Receiver<Arrived>>>,
    driver: JoinHandle<()>,
}

/// A notification, and since when it is here.
pub(super) type Arrived = (Notification, Stopwatch);

/// So many notifications wait to be taken; one that finds no room is dropped, as nobody listens then.
const NOTES: usize = 256;

/// How long the driver may take to say goodbye to the server. On a dead line it would wait for a quarter of an hour.
const GOODBYE: Duration = Duration::from_secs(2);

impl Drop for Session {
    fn drop(&mut self) {
        let driver = self.driver.abort_handle();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                tokio::time::sleep(GOODBYE).await;
                driver.abort();
            })),
            Err(_) => driver.abort(),
        }
    }
}

impl Session {
    /// Takes the connection over and prepares the statement, unless the other side is a pooler: there a named statement
    /// would stay behind on a server connection that others use next.
    pub(super) async fn start<S, T>(
        client: Client,
        connection: Connection<S, T>,
        encrypted: bool,
        named: bool,
        place: String,
    ) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
    {
        let ended = Arc::new(OnceLock::new());
        let (noted, notes) = mpsc::channel(NOTES);
        let driver = tokio::spawn({
            let (ended, place) = (Arc::clone(&ended), place.clone());
            async move {
                let end = match drive(connection, noted).await {
                    Ok(()) => Failure::new(Reason::Closed, "the server closed the connection"),
                    Err(error) => failure(&error, &place),
                };
                // Set once: a connection ends once.
                let _ = ended.set(end);
            }
        });
        let own_process = is_own_process(&client).await.map_err(|error| failure(&error, &place))?;
        let statement = match named && own_process {
            false => None,
            true => match client.prepare(QUERY).await {
                Ok(statement) => Some(statement),
                Err(error) if is_pooled(&error) => None,
                Err(error) => return Err(failure(&error, &place)),
            },
        };
        Ok(Self {
            unnamed: AtomicBool::new(statement.is_none()),
            own_process,
            statement,
            client,
            encrypted,
            place,
            remote: None,
            leads_to: OnceLock::new(),
            socket: None,
            retransmits: AtomicU32::new(0),
            ended,
            last_look: Mutex::new(Stopwatch::start()),
            notes: Mutex::new(Some(notes)),
            driver,
        })
    }

    pub(super) fn goes_to(&mut self, remote: Option<SocketAddr>, socket: Option<OwnedFd>) {
        (self.remote, self.socket) = (remote, socket);
        self.new_retransmits();
    }

    /// Segments sent again since we looked last: TCP hides a lost one as a round trip of 200 ms and more.
    fn new_retransmits(&self) -> Option<u32> {
        let count = tcp_info::of(self.socket.as_ref()?)?.retransmits;
        Some(count.saturating_sub(self.retransmits.swap(count, Ordering::Relaxed)))
    }

    /// The notifications of this connection; whoever takes them has them alone.
    pub(super) fn notes(&self) -> Option<mpsc::Receiver<Arrived>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Rows of one statement, in one round trip and without a name.
    pub(super) async fn rows(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Failure> {
        self.client.query_typed(sql, parameters).await.map_err(|error| failure(&error, &self.place))
    }

    /// Statements without rows or parameters.
    pub(super) async fn run(&self, sql: &str) -> Result<(), Failure> {
        self.client.batch_execute(sql).await.map_err(|error| failure(&error, &self.place))
    }

    /// The first column of the last row of several statements.
    pub(super) async fn last_value(&self, sql: &str) -> Result<Option<String>, Failure> {
        let answers = self.client.simple_query(sql).await.map_err(|error| failure(&error, &self.place))?;
        let row = answers.iter().rev().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(row.and_then(|row| row.get(0)).map(str::to_owned))
    }

    /// Whether the server's own process answers; else a pooler stands between, and may choose another one each time.
    pub(super) fn own_process(&self) -> bool {
        self.own_process
    }

    /// The number of the server's process that answers now.
    pub(super) async fn process(&self) -> Result<i32, Failure> {
        let row = self.one(PROCESS).await?;
        self.column(&row, 0)
    }

    /// Our own address on this connection.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        socket2::SockRef::from(self.socket.as_ref()?).local_addr().ok()?.as_socket()
    }

    /// The address at the other end; `None` for a Unix socket.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    pub(super) fn encrypted(&self) -> bool {
        self.encrypted
    }

    /// Why the connection is gone, once it is.
    pub(super) fn ended(&self) -> Option<Failure> {
        if let Some(failure) = self.ended.get() {
            return Some(failure.clone());
        }
        self.client.is_closed().then(|| Failure::new(Reason::Closed, "the server closed the connection"))
    }

    /// One round trip. A query that is still on its way does not hold the next one back on our side; the server answers
    /// them in order, so a stall is felt by all of them, as it should be.
    pub(super) async fn query(&self, deadline: Duration) -> Sample {
        let watch = Stopwatch::start();
        let answer = tokio::time::timeout(deadline, self.ask()).await;
        let rtt = watch.elapsed();
        let row = match answer {
            Err(_) => {
                let detail = format!("no answer to the query within {:.1} s", deadline.as_secs_f64());
                return Failure::new(Reason::Timeout, detail).into();
            }
            Ok(Err(said)) => {
                // «connection closed» is only the echo of what the connection itself was told.
                let reason = if said.reason == Reason::Closed { self.ended.get().cloned() } else { None };
                return reason.unwrap_or(said).into();
            }
            Ok(Ok(row)) => row,
        };
        // Where the server's clock was set between its two readings, the split is void; the round trip is not.
        let server = execution(&row).filter(|server| *server <= rtt);
        let (encrypted, retransmits) = (Some(self.encrypted), self.new_retransmits());
        Timing { rtt, server, encrypted, retransmits, ..Timing::default() }.into()
    }

    async fn ask(&self) -> Result<Row, Failure> {
        if let Some(statement) = self.statement.as_ref().filter(|_| !self.unnamed.load(Ordering::Relaxed)) {
            match self.client.query_one(statement, &[]).await {
                Err(error) if is_pooled(&error) => self.unnamed.store(true, Ordering::Relaxed),
                answer => return answer.map_err(|error| failure(&error, &self.place)),
            }
        }
        // One round trip as well: parse, bind and execute travel together, and no statement has a name.
        self.one(QUERY).await
    }

    /// Whether this server is of the kind that `target_session_attrs` wants.
    pub(super) async fn be(&self, wanted: TargetSessionAttrs) -> Result<(), Failure> {
        if wanted == TargetSessionAttrs::Any {
            return Ok(());
        }
        let query = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'";
        let row = self.one(query).await?;
        let (standby, read_only): (bool, bool) = (self.column(&row, 0)?, self.column(&row, 1)?);
        let fits = match wanted {
            TargetSessionAttrs::Any => true,
            TargetSessionAttrs::ReadWrite => !read_only,
            TargetSessionAttrs::ReadOnly => read_only,
            TargetSessionAttrs::Primary => !standby,
            TargetSessionAttrs::Standby | TargetSessionAttrs::PreferStandby => standby,
        };
        if fits {
            return Ok(());
        }
        let kind = if standby { "a standby" } else { "a primary" };
        // Not a no to who we are: another host of the list may be of the wanted kind.
        Err(Failure::new(
            Reason::Refused,
            format!("{} is {kind}, which target_session_attrs does not want", self.place),
        ))
    }

    pub(super) fn look_is_due(&self) -> bool {
        let mut last = self.last_look.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.elapsed() >= LOOK_EVERY;
        if due {
            *last = Stopwatch::start();
        }
        due
    }

    /// Fails when the server is short of free connections.
    pub(super) async fn look_for_room(&self) -> Result<(), Failure> {
        self.room().await?.verdict()
    }

    /// How many connections the server has and how many are taken; on the way, which server it is.
    pub(super) async fn room(&self) -> Result<Room, Failure> {
        // Roles with a reserve of their own came with PostgreSQL 16.
        let query = "SELECT current_setting('max_connections')::int \
                     - current_setting('superuser_reserved_connections')::int \
                     - coalesce(current_setting('reserved_connections', true), '0')::int, \
                     (SELECT coalesce(sum(numbackends), 0)::int FROM pg_stat_database), \
                     inet_server_addr(), inet_server_port()";
        let row = self.one(query).await?;
        let (address, port): (Option<IpAddr>, Option<i32>) = (self.column(&row, 2)?, self.column(&row, 3)?);
        if let Some((address, port)) = address.zip(port.and_then(|port| u16::try_from(port).ok())) {
            let _ = self.leads_to.set(SocketAddr::new(address, port));
        }
        Ok(Room { usable: self.column(&row, 0)?, used: self.column(&row, 1)? })
    }

    /// Which server it is by its own account; `None` for a Unix socket.
    pub(super) fn leads_to(&self) -> Option<SocketAddr> {
        self.leads_to.get().copied()
    }

    async fn one(&self, query: &str) -> Result<Row, Failure> {
        let rows = self.rows(query, &[]).await?;
        rows.into_iter().next().ok_or_else(|| Failure::new(Reason::Protocol, "the server gave no row"))
    }

    fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
        &self,
        row: &'a Row,
        index: usize,
    ) -> Result<T, Failure> {
        row.try_get(index).map_err(|error| failure(&error, &self.place))
    }
}

/// Does the connection's work to its end.
async fn drive<S, T>(
    mut connection: Connection<S, T>,
    noted: mpsc::Sender<Arrived>,
) -> Result<(), tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notification(note) = message? {
            // Where there is no room, or nobody took the other end, nobody wants it.
            let _ = noted.try_send((note, Stopwatch::start()));
        }
    }
    Ok(())
}

async fn is_own_process(client: &Client) -> Result<bool, tokio_postgres::Error> {
    let rows = client.query_typed(PROCESS, &[]).await?;
    let process = rows.first().and_then(|row| row.try_get::<_, i32>(0).ok());
    Ok(process.is_some() && process == backend::told(client).await)
}

/// T3−T2 on the server's own clock; `None` when it went backwards.
fn execution(row: &Row) -> Option<Duration> {
    let received: SystemTime = row.try_get(0).ok()?;
    let now: SystemTime = row.try_get(1).ok()?;
    now.duration_since(received).ok()
}

fn is_pooled(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::INVALID_SQL_STATEMENT_NAME | &SqlState::DUPLICATE_PSTATEMENT))
}
