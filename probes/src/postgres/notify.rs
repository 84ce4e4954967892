//! The round trip of a notification: sent on a connection of its own, heard on another one that listens.
//!
//! A NOTIFY is a transaction that is written to the log of the server, so it must not share the connection whose queries
//! are timed, nor the one on which tables are read. The connection is kept; while there is none, whoever wants to send
//! gets the reason at once, and another one is tried. It is given back when free connections run short.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_postgres::types::Type;

use super::connect::Dial;
use super::conninfo::Conninfo;
use super::query::Session;
use crate::sample::{Failure, Reason, Sample, Timing};
use crate::stopwatch::Stopwatch;
use crate::tls::TlsError;
use crate::warm::Warm;

/// The name of a channel is an identifier: the server cuts it off after this many bytes where it listens, and refuses it
/// where it notifies.
pub const CHANNEL_AT_MOST: usize = 63;

/// A connection to send notifications on.
#[derive(Clone)]
pub struct Notifier {
    warm: Arc<Warm<Dial>>,
    opened: Arc<AtomicBool>,
}

/// A notification on its way.
pub struct Sent {
    /// Since it left.
    pub since: Stopwatch,
    /// How it ended: `rtt` is the time until it arrived, `acknowledged` the one until its commit was.
    pub sample: Sample,
}

impl Notifier {
    /// By this connection string; fails on certificates or keys that cannot be used. Nothing is opened yet.
    pub fn new(conninfo: Conninfo) -> Result<Self, TlsError> {
        Ok(Self { warm: Arc::new(Warm::new(Dial::new(conninfo)?)), opened: Arc::default() })
    }

    /// Sees to it that the connection stands before it is used: opens it the first time, and only then waits for it.
    pub async fn stand(&self, deadline: Duration) -> Result<(), Failure> {
        if self.opened.swap(true, Ordering::Relaxed) {
            return self.session().map(drop);
        }
        match self.warm.open(deadline).await.outcome.failure() {
            None => Ok(()),
            Some(failure) => Err(failure.clone()),
        }
    }

    /// Sends, and comes back when the server has committed it, or when the deadline has passed. The answer is how long
    /// that took.
    pub async fn notify(
        &self,
        channel: &str,
        payload: &str,
        deadline: Duration,
    ) -> Result<Duration, Failure> {
        let session = self.session()?;
        self.send(&session, channel, payload, deadline).await
    }

    /// One round trip: sends, and waits for `arrival`, which tells since when the notification is there. It never fails:
    /// what went wrong is the sample.
    pub async fn round_trip(
        &self,
        channel: &str,
        payload: &str,
        arrival: impl Future<Output = Option<Stopwatch>>,
        deadline: Duration,
    ) -> Sent {
        let since = Stopwatch::start();
        let session = match self.session() {
            Ok(session) => session,
            Err(failure) => return Sent { since, sample: failure.into() },
        };
        let arrived = tokio::time::timeout(deadline, arrival);
        let (acknowledged, arrived) = tokio::join!(self.send(&session, channel, payload, deadline), arrived);
        let sample = match (acknowledged, arrived) {
            (Err(failure), _) => failure.into(),
            (Ok(acknowledged), Ok(Some(arrival))) => {
                let rtt = since.elapsed().saturating_sub(arrival.elapsed());
                Timing { rtt, acknowledged: Some(acknowledged), ..Timing::default() }.into()
            }
            // Whoever waits for the arrival has given up for us: nothing is known.
            (Ok(_), Ok(None)) => Sample::skipped_self(),
            (Ok(_), Err(_)) => {
                let detail =
                    format!("the notification did not arrive within {:.0} s", deadline.as_secs_f64());
                Failure::new(Reason::Timeout, detail).into()
            }
        };
        Sent { since, sample }
    }

    /// The connection that stands; where it ended while it was not used, a new one is tried at once.
    fn session(&self) -> Result<Arc<Session>, Failure> {
        let session = self.warm.current()?;
        match session.ended() {
            None => Ok(session),
            Some(failure) => {
                self.warm.broke(&session, failure.clone());
                Err(failure)
            }
        }
    }

    async fn send(
        &self,
        session: &Arc<Session>,
        channel: &str,
        payload: &str,
        deadline: Duration,
    ) -> Result<Duration, Failure> {
        let watch = Stopwatch::start();
        let parameters =
            [(&channel as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT), (&payload, Type::TEXT)];
        let sent = session.rows("SELECT pg_catalog.pg_notify($1, $2)", &parameters);
        let late = || {
            let detail = format!("the server did not commit a NOTIFY within {:.0} s", deadline.as_secs_f64());
            Failure::new(Reason::Timeout, detail)
        };
        let sent = tokio::time::timeout(deadline, sent).await.unwrap_or_else(|_| Err(late()));
        let acknowledged = watch.elapsed();
        if let Some(failure) = session.ended() {
            self.warm.broke(session, failure);
        } else if let Err(failure) = &sent
            && failure.reason == Reason::Timeout
        {
            // What is not sent later for want of a connection is no notification that got lost.
            self.warm.broke(session, Failure::new(Reason::Closed, failure.detail.clone()));
        } else if session.look_is_due() {
            let (warm, session) = (Arc::clone(&self.warm), Arc::clone(session));
            // Not in the sample's own time.
            tokio::spawn(async move {
                if let Err(failure) = session.look_for_room().await {
                    warm.broke(&session, failure);
                }
            });
        }
        sent.map(|_| acknowledged)
    }
}
