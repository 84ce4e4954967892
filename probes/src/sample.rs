//! What one sample is: one outcome out of a closed list, with its timing or the reason why there is none.
//!
//! A probe never fails: a lost, refused or broken round trip is data, and unknown is distinct from good. This file is
//! pure, so that the mind of the house may use it without touching a socket or a clock.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

/// The result of one order: exactly one outcome per slot of the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// What came of it.
    pub outcome: Outcome,
    /// How long our own thread wanted to run and could not, or did not run at all, while this sample was on its way.
    pub own_wait: Duration,
    /// How long the reflector's thread waited for a CPU before it saw the request; zero where it does not say.
    pub peer_wait: Duration,
    /// Replies to earlier questions that came after their deadline, when they were lost already.
    pub late: u32,
}

impl Sample {
    /// A sample that nothing of ours has disturbed.
    pub fn new(outcome: Outcome) -> Self {
        Self { outcome, own_wait: Duration::ZERO, peer_wait: Duration::ZERO, late: 0 }
    }

    /// Not sent, because we ourselves were late.
    pub fn skipped_self() -> Self {
        Self::new(Outcome::SkippedSelf)
    }
}

/// The closed list of outcomes. The same words stand in code, JSON and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A reply arrived in time.
    Ok(Timing),
    /// No reply before the deadline.
    Lost(Failure, Direction),
    /// The other side, or something on the way, said no.
    Refused(Failure),
    /// The round trip broke for another reason than silence or refusal.
    Error(Failure),
    /// We ourselves were not able to send in this slot, so nothing is known about the path.
    SkippedSelf,
}

impl Outcome {
    /// The word of the closed list: `ok`, `lost`, `refused`, `error` or `skipped_self`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Lost(..) => "lost",
            Self::Refused(_) => "refused",
            Self::Error(_) => "error",
            Self::SkippedSelf => "skipped_self",
        }
    }

    /// Why there is no timing; `None` for `ok` and `skipped_self`.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Lost(failure, _) | Self::Refused(failure) | Self::Error(failure) => Some(failure),
            Self::Ok(_) | Self::SkippedSelf => None,
        }
    }
}

impl From<Timing> for Sample {
    fn from(timing: Timing) -> Self {
        Self::new(Outcome::Ok(timing))
    }
}

impl From<Failure> for Sample {
    /// Files the failure under the outcome that its reason implies.
    fn from(failure: Failure) -> Self {
        let outcome = match failure.reason {
            Reason::Timeout => Outcome::Lost(failure, Direction::Unknown),
            Reason::Refused | Reason::Auth | Reason::Standby => Outcome::Refused(failure),
            _ => Outcome::Error(failure),
        };
        Self::new(outcome)
    }
}

/// On which way an echo got lost, as far as the other side's receive counter can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The request did not reach the reflector.
    There,
    /// The reflector saw the request, so its reply got lost.
    Back,
    /// No later reply told.
    Unknown,
}

/// The durations of one successful round trip.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timing {
    /// The round trip itself, from our send to our receive, less the reflector's hold time for an echo.
    ///
    /// QUIC: echo less hold. PostgreSQL: the whole query, as coderd feels it. TCP: SYN to SYN-ACK.
    /// HTTP: request sent to first byte of the answer. NOTIFY: sent on one connection to arrived on another one.
    pub rtt: Duration,
    /// PostgreSQL: execution time by the server's own clock; a part of `rtt`.
    pub server: Option<Duration>,
    /// Echo: how long the reflector held the request; taken off `rtt` already.
    pub hold: Option<Duration>,
    /// The phases of the connection that this sample opened, if it opened one.
    pub phases: Option<Phases>,
    /// PostgreSQL: the server that this sample's new connection leads to, by its own account; `None` where nothing was
    /// opened, and for a Unix socket.
    pub leads_to: Option<SocketAddr>,
    /// NOTIFY: until the sender was told that the server has committed it; it overlaps with `rtt`.
    pub acknowledged: Option<Duration>,
    /// PostgreSQL: segments that our kernel sent again on this connection since the sample before.
    pub retransmits: Option<u32>,
    /// The connection is encrypted (`None` where the question makes no sense).
    pub encrypted: Option<bool>,
}

impl Timing {
    /// The share of `rtt` outside the server's program; `None` where the server does not report its own time.
    pub fn network(&self) -> Option<Duration> {
        self.server.map(|server| self.rtt.saturating_sub(server))
    }
}

/// A connection that was opened in the background, after the one before it broke, or an attempt at that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reopened {
    /// How long ago.
    pub ago: Duration,
    /// Its phases, or why there is none.
    pub sample: Sample,
}

/// How long each phase of opening a connection took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases {
    /// Name to addresses; zero work for a literal address.
    pub resolve: Duration,
    /// TCP handshake with the address that answered (the QUIC handshake has no such phase of its own).
    pub tcp: Option<Duration>,
    /// TLS negotiation and handshake.
    pub tls: Option<Duration>,
    /// PostgreSQL's start-up and authentication.
    pub auth: Option<Duration>,
    /// HTTP: from the first phase to the end of the body.
    pub total: Option<Duration>,
}

/// A server with fewer free connections than this share of its usable ones is short of them.
pub const FREE_CONNECTIONS_AT_LEAST: f64 = 0.2;

/// Why a round trip has no timing. The words are stable: they stand in JSON and in the docs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The name has no address, or the resolver did not answer.
    Resolve,
    /// No way there, or nothing answered at that address.
    Unreachable,
    /// Something at that address says that nothing listens on the port.
    Refused,
    /// The TLS handshake failed.
    Tls,
    /// The other side does not accept who we are, or we do not accept who it is.
    Auth,
    /// The database does not exist or may not be used by this role.
    Database,
    /// The server answered with something that is not an answer to our question.
    Protocol,
    /// An HTTP answer with a status that is not a success.
    Status,
    /// What answers is coderd, or looks like it, and not its relay: the DERP server is switched off.
    NoRelay,
    /// An established connection ended.
    Closed,
    /// The peer said goodbye: its agent is stopping.
    Left,
    /// An established connection gave no reply in time.
    Timeout,
    /// The database is short of free connections ([`FREE_CONNECTIONS_AT_LEAST`]), so we keep away from it.
    ConnectionsLow,
    /// The password could not be had: its file or its command failed.
    Password,
    /// LISTEN and NOTIFY are not to be had, because the server is a standby.
    Standby,
    /// LISTEN is lost, because a pooler takes the session away after each transaction.
    Pooled,
    /// This machine refused: out of descriptors, no permission, unreadable file.
    Local,
}

impl Reason {
    /// The stable word of this reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Database => "database",
            Self::Protocol => "protocol",
            Self::Status => "status",
            Self::NoRelay => "no_relay",
            Self::Closed => "closed",
            Self::Left => "left",
            Self::Timeout => "timeout",
            Self::ConnectionsLow => "connections_low",
            Self::Password => "password",
            Self::Standby => "standby",
            Self::Pooled => "pooled",
            Self::Local => "local",
        }
    }
}

/// A reason with one line for people: it names the thing and the value, never a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The stable reason.
    pub reason: Reason,
    /// One line, without the target's name.
    pub detail: String,
}

impl Failure {
    /// A failure whose detail is folded to a single line of at most 300 characters.
    pub fn new(reason: Reason, detail: impl fmt::Display) -> Self {
        let detail = detail.to_string();
        let mut line = detail.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = line.char_indices().nth(300) {
            line.truncate(end);
        }
        Self { reason, detail: line }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_lost_a_no_is_refused_and_the_rest_is_an_error() {
        for (reason, outcome) in [
            (Reason::Timeout, "lost"),
            (Reason::Refused, "refused"),
            (Reason::Auth, "refused"),
            (Reason::Resolve, "error"),
            (Reason::Unreachable, "error"),
            (Reason::Closed, "error"),
        ] {
            assert_eq!(Sample::from(Failure::new(reason, "x")).outcome.as_str(), outcome, "{reason:?}");
        }
    }

    #[test]
    fn a_detail_is_one_line() {
        assert_eq!(Failure::new(Reason::Tls, "a\n  b\tc").detail, "a b c");
        assert_eq!(Failure::new(Reason::Tls, "é".repeat(900)).detail.chars().count(), 300);
    }

    #[test]
    fn the_network_share_is_what_the_server_did_not_use() {
        let timing = Timing {
            rtt: Duration::from_micros(14_100),
            server: Some(Duration::from_micros(9_100)),
            ..Timing::default()
        };
        assert_eq!(timing.network(), Some(Duration::from_micros(5_000)));
        assert_eq!(Timing::default().network(), None);
    }
}
