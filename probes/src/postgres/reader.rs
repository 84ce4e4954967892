//! A connection for facts instead of figures: rows of tables that others keep, and notifications.
//!
//! It is opened as the one that is measured is: with the same connection string, server-side limits of 2 s, and not at all
//! when free connections run short.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use tokio_postgres::Row;
pub use tokio_postgres::types::{FromSql, ToSql, Type};

use tokio::sync::mpsc;

use super::Room;
use super::connect::Dial;
use super::conninfo::Conninfo;
use super::query::{Arrived, Session};
use crate::sample::{Failure, Reason};
use crate::stopwatch::Stopwatch;
use crate::warm::Open;

/// What has no answer after this will not have one: the server's own limit is 2 s.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who of two connections asks which process answers, in turn. The sequence is Thue and Morse's: a pooler that hands its
/// server connections out one after another, however many they are, cannot look as if each of the two had its own.
const TURNS: [bool; 16] =
    [false, true, true, false, true, false, false, true, true, false, false, true, false, true, true, false];

/// What somebody sent to a channel.
#[derive(Debug, Clone)]
pub struct Note {
    /// The channel.
    pub channel: String,
    /// What was sent; at most 8000 bytes.
    pub payload: String,
    /// Since when it is here.
    pub since: Stopwatch,
}

/// An open connection.
pub struct Reader {
    session: Arc<Session>,
    conninfo: Conninfo,
    room_at: Mutex<Option<Stopwatch>>,
}

/// The notifications of a connection.
pub struct Notes {
    session: Arc<Session>,
    arrived: mpsc::Receiver<Arrived>,
}

impl Reader {
    /// Opens a connection to the first host that lets us in, within this time.
    pub async fn open(conninfo: &Conninfo, deadline: Duration) -> Result<Self, Failure> {
        let session = Arc::new(open(conninfo, deadline).await?);
        Ok(Self { session, conninfo: conninfo.clone(), room_at: Mutex::default() })
    }

    /// All rows of one statement.
    pub async fn rows(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Failure> {
        within(self.session.rows(sql, parameters)).await
    }

    /// Statements without rows. Several of them in one text are one message, which a pooler hands on to one server.
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

    /// The first column of the last row of several statements in one message.
    pub async fn last_value(&self, sql: &str) -> Result<Option<String>, Failure> {
        within(self.session.last_value(sql)).await
    }

    /// The notifications of the channels that are listened to; whoever takes them has them alone.
    pub fn notes(&self) -> Option<Notes> {
        Some(Notes { session: Arc::clone(&self.session), arrived: self.session.notes()? })
    }

    /// Whether the server's session is ours from transaction to transaction, so that what is set in it, such as LISTEN,
    /// stays ours and does not end up with somebody else. `None` where that cannot be told.
    ///
    /// It leaves nothing behind anywhere. A server that is reached without a pooler shows that by itself
    /// (`postgres/backend.rs`). Through a pooler a second connection is opened for a moment, and both ask in turn which
    /// process of the server answers: two sessions have two processes, and always the same ones; a pooler in
    /// transaction mode gives both the one that was used last, or a different one each time.
    pub async fn keeps_session(&self, deadline: Duration) -> Result<Option<bool>, Failure> {
        if self.session.own_process() {
            return Ok(Some(true));
        }
        let watch = Stopwatch::start();
        let Ok(other) = open(&self.conninfo, deadline).await else { return Ok(None) };
        let mut own = [None::<i32>; 2];
        for turn in TURNS {
            let session = if turn { &other } else { &*self.session };
            let process =
                match tokio::time::timeout(deadline.saturating_sub(watch.elapsed()), session.process()).await
                {
                    Ok(Ok(process)) => process,
                    // Ours is needed; the other one was for the question only.
                    Ok(Err(failure)) if !turn => return Err(failure),
                    Ok(Err(_)) | Err(_) => return Ok(None),
                };
            let [mine, others] = if turn { [own[1], own[0]] } else { own };
            if others == Some(process) || mine.is_some_and(|mine| mine != process) {
                return Ok(Some(false));
            }
            own[usize::from(turn)] = Some(process);
        }
        Ok(Some(true))
    }

    /// The number of the server's process that answers now.
    pub async fn process(&self) -> Result<i32, Failure> {
        within(self.session.process()).await
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

impl Notes {
    /// The next notification. Only an ended connection has no next one.
    pub async fn next(&mut self) -> Result<Note, Failure> {
        let ended = || Failure::new(Reason::Closed, "the server closed the connection");
        let arrived = self.arrived.recv().await;
        let (note, since) = arrived.ok_or_else(|| self.session.ended().unwrap_or_else(ended))?;
        Ok(Note { channel: note.channel().to_owned(), payload: note.payload().to_owned(), since })
    }
}

async fn open(conninfo: &Conninfo, deadline: Duration) -> Result<Session, Failure> {
    let dial = Dial::new(conninfo.clone()).map_err(|error| Failure::new(Reason::Tls, error))?;
    Ok(dial.open(deadline).await?.0)
}

async fn within<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let late = || Failure::new(Reason::Timeout, format!("no answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pooler_that_hands_its_connections_out_in_turn_looks_like_two_sessions() {
        for servers in 1..=6 {
            let mut own = [None; 2];
            let found = TURNS.iter().enumerate().any(|(ask, turn)| {
                let process = ask % servers;
                let (mine, others) = (own[usize::from(*turn)], own[usize::from(!*turn)]);
                own[usize::from(*turn)] = Some(process);
                others == Some(process) || mine.is_some_and(|mine| mine != process)
            });
            assert!(found, "{servers}");
        }
    }
}
