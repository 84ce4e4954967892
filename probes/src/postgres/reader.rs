//! A connection for facts instead of figures: rows of tables that others keep, and notifications.
//!
//! It is opened as the one that is measured is: with the same connection string, server-side limits of 2 s, and not at all
//! when free connections run short.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use tokio_postgres::Row;
pub use tokio_postgres::types::{FromSql, ToSql, Type};

use tokio::sync::mpsc;
use tokio_postgres::Notification;

use super::Room;
use super::connect::Dial;
use super::conninfo::Conninfo;
use super::query::Session;
use crate::sample::{Failure, Reason};
use crate::stopwatch::Stopwatch;
use crate::warm::Open;

/// What has no answer after this will not have one: the server's own limit is 2 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// What somebody sent to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The channel.
    pub channel: String,
    /// What was sent; at most 8000 bytes.
    pub payload: String,
}

/// An open connection.
pub struct Reader {
    session: Session,
    notes: Option<mpsc::Receiver<Notification>>,
    room_at: Mutex<Option<Stopwatch>>,
}

impl Reader {
    /// Opens a connection to the first host that lets us in, within this time.
    pub async fn open(conninfo: &Conninfo, deadline: Duration) -> Result<Self, Failure> {
        let dial = Dial::new(conninfo.clone()).map_err(|error| Failure::new(Reason::Tls, error))?;
        let (session, _) = dial.open(deadline).await?;
        let notes = session.notes();
        Ok(Self { session, notes, room_at: Mutex::default() })
    }

    /// All rows of one statement.
    pub async fn rows(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Failure> {
        within(self.session.rows(sql, parameters)).await
    }

    /// Statements without rows.
    pub async fn run(&self, sql: &str) -> Result<(), Failure> {
        within(self.session.run(sql)).await
    }

    /// How many connections the server has and how many are taken. Where that was asked less than `every` ago, `None`: it
    /// is cheap, and not free.
    pub async fn room(&self, every: Duration) -> Result<Option<Room>, Failure> {
        {
            let mut asked = self.room_at.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.as_ref().is_some_and(|asked| asked.elapsed() < every) {
                return Ok(None);
            }
            *asked = Some(Stopwatch::start());
        }
        within(self.session.room()).await.map(Some)
    }

    /// The next notification of a channel that was listened to. Only an ended connection has no next one.
    pub async fn heard(&mut self) -> Result<Note, Failure> {
        let note = match &mut self.notes {
            Some(notes) => notes.recv().await,
            None => None,
        };
        let ended = || Failure::new(Reason::Closed, "the server closed the connection");
        let note = note.ok_or_else(|| self.session.ended().unwrap_or_else(ended))?;
        Ok(Note { channel: note.channel().to_owned(), payload: note.payload().to_owned() })
    }

    /// Our own address on this connection; `None` for a Unix socket.
    pub fn local(&self) -> Option<SocketAddr> {
        self.session.local()
    }

    /// The server's address on this connection; `None` for a Unix socket.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.session.remote()
    }
}

async fn within<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = || Failure::new(Reason::Timeout, format!("no answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(late()))
}
