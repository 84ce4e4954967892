//! PostgreSQL: the phases of a connect, then one timed query per sample on a connection that stays open.
//!
//! The server stamps when it received the statement and when it ran it, so the round trip splits into execution and
//! network (`postgres/query.rs`). Nothing here may harm the database: one connection per target, one for facts (`postgres/reader.rs`)
//! and one for notifications (`postgres/notify.rs`),
//! a statement that touches no table, server-side limits of 2 s, and a retreat when free connections run short.

use std::sync::Arc;

use crate::sample::{FREE_CONNECTIONS_AT_LEAST, Failure, Outcome, Reopened, Sample, Timing};
use crate::tls::TlsError;
use crate::warm::Warm;
use crate::{Order, Probe, Step};

mod backend;
mod connect;
pub mod conninfo;
mod encryption;
mod failure;
pub mod notify;
pub mod passfile;
mod password;
mod query;
pub mod reader;

use connect::Dial;
use conninfo::Conninfo;

/// Measures one PostgreSQL server.
#[derive(Clone)]
pub struct PostgresProbe {
    warm: Arc<Warm<Dial>>,
}

impl PostgresProbe {
    /// A probe by this connection string; fails on certificates or keys that cannot be used.
    pub fn new(conninfo: Conninfo) -> Result<Self, TlsError> {
        Ok(Self { warm: Arc::new(Warm::new(Dial::new(conninfo)?)) })
    }

    /// Connections that were opened in the background since this was asked last.
    pub fn reopened(&self) -> Vec<Reopened> {
        self.warm.reopened()
    }
}

impl Probe for PostgresProbe {
    async fn sample(&self, order: Order) -> Sample {
        match order.step {
            Step::Open => self.warm.open(order.deadline).await,
            Step::Connect => {
                // Without trying for a connection: the one that is being opened must not get a second one beside it.
                let remote = self.warm.standing().and_then(|session| session.remote());
                match self.warm.opener().connect(remote, order.deadline).await {
                    Ok(phases) => Timing {
                        rtt: phases.tcp.unwrap_or_default(),
                        phases: Some(phases),
                        ..Timing::default()
                    }
                    .into(),
                    Err(failure) => failure.into(),
                }
            }
            Step::Measure => {
                let session = match self.warm.current() {
                    Ok(session) => session,
                    Err(failure) => return failure.into(),
                };
                let sample = session.query(order.deadline).await;
                if let Some(failure) = session.ended() {
                    self.warm.broke(&session, failure);
                } else if let Outcome::Lost(failure, _) = &sample.outcome {
                    // More questions would only queue up behind it on both sides, to be answered all at once later.
                    self.warm.broke(&session, failure.clone());
                } else if session.look_is_due() {
                    let (warm, session) = (Arc::clone(&self.warm), Arc::clone(&session));
                    // Not in the sample's own time.
                    tokio::spawn(async move {
                        if let Err(failure) = session.look_for_room().await {
                            warm.broke(&session, failure);
                        }
                    });
                }
                sample
            }
        }
    }
}

/// How many connections the server has for ordinary roles, and how many are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// All that are not kept for superusers and the like.
    pub usable: i32,
    /// Those with a database, which is all but replication's.
    pub used: i32,
}

impl Room {
    fn verdict(self) -> Result<(), Failure> {
        let free = self.usable - self.used;
        if f64::from(free) >= FREE_CONNECTIONS_AT_LEAST * f64::from(self.usable) {
            return Ok(());
        }
        Err(Failure::new(
            crate::Reason::ConnectionsLow,
            format!(
                "only {} of {} connections are free (less than 20 %), so the probe keeps away and looks again every 30 s",
                free.max(0),
                self.usable
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_keeps_away_when_less_than_a_fifth_is_free() {
        assert!(Room { usable: 100, used: 80 }.verdict().is_ok());
        let low = Room { usable: 100, used: 81 }.verdict().unwrap_err();
        assert_eq!(low.reason, crate::Reason::ConnectionsLow);
        assert!(low.detail.contains("19 of 100"), "{low}");
        assert!(Room { usable: 5, used: 9 }.verdict().unwrap_err().detail.contains("0 of 5"));
    }
}
