//! One connection to Coder's database: what may be asked there, and whether notifications can be heard on it.
//!
//! **LISTEN and poolers.** A LISTEN belongs to the server's session. Through a pooler in transaction mode that session is
//! lent for one transaction, and pgbouncer resets nothing when it is given back: the LISTEN stays on a server connection
//! that coderd's clients get next. They are sent notifications that they never asked for, the pooler logs a warning for
//! each that comes while nobody has the connection, and a session that listens and is then kept in a long transaction
//! holds the server's whole notification queue up. So nothing is tried out: a session is listened on only after it has
//! been shown to be ours ([`Reader::keeps_session`], which leaves nothing behind), not the other way round.
//!
//! That an own NOTIFY comes back proves nothing: a quiet pooler lends the connection that was used last, so LISTEN and
//! NOTIFY meet on one server, which tells them to whoever has just committed.
//!
//! A pooler may be switched to another mode while we listen. That is noticed when a notification does not come, or at
//! the latest when the rights are looked at anew, and then the LISTEN is taken back on the very session that has it.

use std::sync::Arc;
use std::time::Duration;

use probes::postgres::reader::{Reader, ToSql, Type};
use probes::sample::{Failure, Reason};

use super::columns::Queries;
use super::rows::what_may_be_asked;
use crate::discovery::presence::{self, Announcement};
use crate::discovery::pubsub;

/// coderd notifies on this channel whenever a replica changes.
pub(super) const REPLICA_CHANNEL: &str = "replica";
/// All that we listen to.
const CHANNELS: [&str; 3] = [presence::CHANNEL, pubsub::CHANNEL, REPLICA_CHANNEL];
/// How long a look at a pooler may take.
const LOOK_WITHIN: Duration = Duration::from_secs(5);
/// So often in a row a session that still listens is looked for; a pooler gives whichever is free.
const TAKE_BACK_TRIES: usize = 8;

/// Whether notifications are heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hearing {
    /// We listen, and wait for our own announcement to come back.
    Waiting,
    /// It came back.
    Works,
    /// It did not.
    Deaf,
    /// The server refuses it, as a standby does.
    Refused(Failure),
    /// A pooler takes the session away after each transaction.
    Pooled,
    /// A pooler stands between, and it cannot be told which kind.
    Unclear,
}

impl Hearing {
    /// Whether we listen, whatever comes of it.
    pub(super) fn listens(&self) -> bool {
        matches!(self, Self::Waiting | Self::Works | Self::Deaf)
    }

    /// Whether a pooler in transaction mode stands between; `None` where that cannot be told.
    pub(super) fn pooled(&self) -> Option<bool> {
        match self {
            Self::Pooled => Some(true),
            Self::Unclear => None,
            Self::Waiting | Self::Works | Self::Deaf | Self::Refused(_) => Some(false),
        }
    }

    /// What keeps us from hearing, for people and as data.
    pub(super) fn obstacle(&self) -> Option<(String, Failure)> {
        let beside = "agents cannot announce themselves through this connection";
        let looked_for = "they are looked for beside the replicas";
        match self {
            Self::Waiting | Self::Works => None,
            Self::Deaf => {
                let text = "our own announcement did not come back although LISTEN stands".to_owned();
                Some((format!("{beside} ({text}): {looked_for}"), Failure::new(Reason::Timeout, text)))
            }
            Self::Refused(failure) => {
                let why = match failure.reason {
                    Reason::Standby => "this is a standby",
                    _ => &failure.detail,
                };
                Some((format!("{beside} ({why}): {looked_for}"), failure.clone()))
            }
            Self::Pooled => {
                let text = "LISTEN does not work through a pooler in transaction mode";
                Some((format!("{text}: {beside}; {looked_for}"), Failure::new(Reason::Pooled, text)))
            }
            Self::Unclear => {
                let text = "a pooler stands before the database and gave no second connection to find out whether it keeps sessions";
                let failure = Failure::new(Reason::Pooled, format!("{text}, so LISTEN is not tried"));
                Some((format!("{text}: {beside}; {looked_for}"), failure))
            }
        }
    }
}

/// What is known of one connection.
pub(super) struct Connection {
    pub(super) reader: Arc<Reader>,
    pub(super) queries: Queries,
    pub(super) hearing: Hearing,
    announcement: Announcement,
    /// The server's process on which we said LISTEN.
    listened_on: Option<i32>,
    /// We have said it, and nobody has begun to wait for what comes of it.
    begins: bool,
}

impl Connection {
    pub(super) async fn new(reader: Arc<Reader>, announcement: Announcement) -> Result<Self, Failure> {
        let queries = what_may_be_asked(&reader).await?;
        let mut connection = Self {
            reader,
            queries,
            hearing: Hearing::Unclear,
            announcement,
            listened_on: None,
            begins: false,
        };
        connection.look_again().await?;
        connection.begins = false;
        Ok(connection)
    }

    /// Looks whether the session is ours, and begins or ends to listen.
    pub(super) async fn look_again(&mut self) -> Result<(), Failure> {
        match self.reader.keeps_session(LOOK_WITHIN).await? {
            Some(true) if self.hearing.listens() && self.still_listens().await? => {}
            Some(true) => self.listen().await?,
            // Not what was known before: the pooler may be short of connections just now.
            None => {}
            Some(false) => {
                self.hearing = Hearing::Pooled;
                self.take_back().await?;
            }
        }
        Ok(())
    }

    /// Whether the server knows of all that we listen to. A LISTEN can be lost on a session that is ours, as to a pooler that
    /// was in another mode for a moment.
    async fn still_listens(&self) -> Result<bool, Failure> {
        let channels = CHANNELS.map(|channel| format!("'{channel}'")).join(", ");
        let sql = format!(
            "SELECT count(*) FROM pg_catalog.pg_listening_channels() AS channel WHERE channel IN ({channels})"
        );
        Ok(self.reader.last_value(&sql).await? == Some(CHANNELS.len().to_string()))
    }

    /// Of a session that is ours.
    pub(super) async fn listen(&mut self) -> Result<(), Failure> {
        let process = self.reader.process().await?;
        let sql: Vec<_> = CHANNELS.iter().map(|channel| format!("LISTEN {channel}")).collect();
        self.hearing = match self.reader.run(&sql.join("; ")).await {
            Ok(()) => {
                self.listened_on = Some(process);
                self.begins = true;
                Hearing::Waiting
            }
            Err(failure) => Hearing::Refused(failure),
        };
        Ok(())
    }

    /// Ends to listen on the session that has our LISTEN, whoever may get it now. Where the pooler does not give it to
    /// us, we try again later.
    pub(super) async fn take_back(&mut self) -> Result<(), Failure> {
        let Some(process) = self.listened_on else { return Ok(()) };
        // One message goes to one server. What is not ours on another one must not be touched: coderd listens, too.
        let sql = format!(
            "DO $probe$ BEGIN IF pg_catalog.pg_backend_pid() = {process} THEN \
             UNLISTEN {}; UNLISTEN {}; UNLISTEN {REPLICA_CHANNEL}; END IF; END $probe$; SELECT pg_catalog.pg_backend_pid()",
            presence::CHANNEL,
            pubsub::CHANNEL,
        );
        for _ in 0..TAKE_BACK_TRIES {
            if self.reader.last_value(&sql).await? == Some(process.to_string()) {
                self.listened_on = None;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether LISTEN was said since this was asked last.
    pub(super) fn begins(&mut self) -> bool {
        std::mem::take(&mut self.begins)
    }

    pub(super) fn asks(&self) -> bool {
        self.announcement.asks()
    }

    pub(super) async fn announce(&self) -> Result<(), Failure> {
        self.notify(&self.announcement).await
    }

    /// Nobody waits for it.
    pub(super) async fn goodbye(&self) {
        if self.hearing == Hearing::Works
            && !self.announcement.asks()
            && let Err(failure) = self.notify(&self.announcement.clone().goodbye()).await
        {
            tracing::debug!(%failure, "no goodbye to the other agents");
        }
    }

    async fn notify(&self, announcement: &Announcement) -> Result<(), Failure> {
        let payload = announcement.encode().map_err(|error| Failure::new(Reason::Local, error))?;
        let channel = presence::CHANNEL;
        let parameters = [(&channel as &(dyn ToSql + Sync), Type::TEXT), (&payload, Type::TEXT)];
        self.reader.rows("SELECT pg_catalog.pg_notify($1, $2)", &parameters).await.map(drop)
    }
}
