//! How news gets from one replica of coderd to the others, and how long that takes through PostgreSQL.
//!
//! Replicas tell each other by NATS, from one to the other, or by LISTEN and NOTIFY through the database. The latter is
//! two trips to the database and a commit, so it is held against what people notice and never against the budget of a
//! link.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use probes::sample::{Failure, Outcome, Reason, Sample};
use serde::Serialize;

use super::state::State;

/// From here on Coder's own dashboards call it sluggish (coder/observability). Of one trip.
pub const SLUGGISH: Duration = Duration::from_millis(500);
/// So many exchanges are looked at.
pub const LOOKED_AT: usize = 30;
/// With fewer nothing is said; and so many in a row without an answer are silence.
const FEWEST: usize = 3;
/// Who was not asked for so many turns is forgotten.
const FORGOTTEN_AFTER: u32 = 10;
/// More agents than any mesh this is made for.
const PEERS_AT_MOST: usize = 512;

/// What one replica uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// NATS among the replicas.
    Nats,
    /// LISTEN and NOTIFY.
    Postgres,
}

/// What all of them use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// NATS, all of them.
    Nats,
    /// PostgreSQL, all of them.
    Postgres,
    /// Some this and some that: they do not hear each other.
    Mixed,
    /// Nobody could tell.
    #[default]
    Unknown,
}

impl Path {
    /// Of these replicas. One that says nothing is not in Coder's table yet, or may not be read.
    pub fn of(carriers: impl IntoIterator<Item = Option<Carrier>>) -> Self {
        carriers.into_iter().flatten().fold(Self::Unknown, |path, carrier| match (path, carrier) {
            (Self::Unknown | Self::Nats, Carrier::Nats) => Self::Nats,
            (Self::Unknown | Self::Postgres, Carrier::Postgres) => Self::Postgres,
            _ => Self::Mixed,
        })
    }

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Postgres => "postgres",
            Self::Mixed => "mixed",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the news of a replica goes through PostgreSQL, at least to some of the others.
    pub fn needs_postgres(self) -> bool {
        matches!(self, Self::Postgres | Self::Mixed)
    }
}

/// What came of one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The question itself, as its sender heard it on another connection: one trip.
    pub own: Sample,
    /// What the agent that was asked answered: there and back, less its hold.
    pub peer: Option<(String, Sample)>,
    /// How often we ask.
    pub every: Duration,
    /// How many there are to be asked.
    pub peers: usize,
}

/// All that we know of it.
#[derive(Debug, Clone, Default)]
pub struct Pubsub {
    own: Track,
    peers: BTreeMap<String, Track>,
}

impl Pubsub {
    /// Takes in what came of a question at `now`.
    pub fn record(&mut self, exchange: &Exchange, now: Duration) {
        let Exchange { own, peer, every, peers } = exchange;
        self.own.record(own, *every, now);
        let turn = *every * u32::try_from((*peers).max(1)).unwrap_or(u32::MAX);
        if let Some((name, sample)) = peer
            && (self.peers.contains_key(name) || self.peers.len() < PEERS_AT_MOST)
        {
            self.peers.entry(name.clone()).or_default().record(sample, turn, now);
        }
        self.peers.retain(|_, track| now.saturating_sub(track.at) <= track.every * FORGOTTEN_AFTER);
    }

    /// How it stands at `now`.
    pub fn standing(&self, now: Duration) -> Standing {
        let peers = self.peers.iter();
        Standing {
            own: self.own.figures(SLUGGISH, now),
            // The mean of both directions is half of the round trip, whatever each of them takes.
            peers: peers.map(|(name, track)| (name.clone(), track.figures(2 * SLUGGISH, now))).collect(),
        }
    }
}

/// How it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// From one connection of ours to another: one trip.
    pub own: Figures,
    /// To each other agent and back.
    pub peers: Vec<(String, Figures)>,
}

/// Figures of the last exchanges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// `ok`, `breach` (of `limit`), `unreachable`, `stale` or `unknown`; the words are those of links, the limit is not.
    pub state: State,
    /// From where on it is sluggish.
    pub limit: Duration,
    /// The last round trip.
    pub last: Option<Duration>,
    /// The median of the last [`LOOKED_AT`]; one that did not come back is longer than any that did, and `None` when it
    /// falls among those.
    pub median: Option<Duration>,
    /// The 95th percentile, likewise.
    pub p95: Option<Duration>,
    /// Until the server had committed the last one.
    pub acknowledged: Option<Duration>,
    /// How many of them are looked at.
    pub samples: usize,
    /// And how many of those did not come back.
    pub lost: usize,
    /// Since the start.
    pub lost_in_all: u64,
    /// Why there is none, when the last attempt says nothing about how long it takes.
    pub failure: Option<Failure>,
    /// How many of the last in a row did not come back, and the last reason.
    pub silence: (usize, Option<Failure>),
}

impl Default for Figures {
    fn default() -> Self {
        Track::default().figures(SLUGGISH, Duration::ZERO)
    }
}

impl Figures {
    /// Half of the median, and by how much either direction may differ from it: by as much, as only the sum is known.
    pub fn one_way(&self) -> Option<(Duration, Duration)> {
        self.median.map(|median| (median / 2, median / 2))
    }
}

#[derive(Debug, Clone, Default)]
struct Track {
    last: VecDeque<Option<Duration>>,
    acknowledged: Option<Duration>,
    lost: u64,
    /// Why the last attempt was none.
    failure: Option<Failure>,
    /// Why the last one was lost.
    loss: Option<Failure>,
    at: Duration,
    every: Duration,
}

impl Track {
    fn record(&mut self, sample: &Sample, every: Duration, now: Duration) {
        (self.at, self.every) = (now, every);
        let (loss, trip) = match &sample.outcome {
            Outcome::SkippedSelf => return,
            Outcome::Ok(timing) => {
                self.acknowledged = timing.acknowledged.or(self.acknowledged);
                (None, Some(timing.rtt))
            }
            // A server that refuses to notify is as silent as one that loses it.
            Outcome::Lost(failure, _) | Outcome::Error(failure) | Outcome::Refused(failure)
                if matches!(failure.reason, Reason::Timeout | Reason::Protocol) =>
            {
                self.lost += 1;
                (Some(failure.clone()), None)
            }
            // No connection, no session: that is told elsewhere, and says nothing about this.
            Outcome::Lost(failure, _) | Outcome::Error(failure) | Outcome::Refused(failure) => {
                self.failure = Some(failure.clone());
                return;
            }
        };
        (self.failure, self.loss) = (None, loss);
        self.last.push_back(trip);
        while self.last.len() > LOOKED_AT {
            self.last.pop_front();
        }
    }

    fn figures(&self, limit: Duration, now: Duration) -> Figures {
        let mut sorted: Vec<_> = self.last.iter().copied().collect();
        sorted.sort_by_key(|trip| trip.unwrap_or(Duration::MAX));
        let samples = sorted.len();
        // The nearest rank.
        let quantile = |percent: usize| {
            sorted.get((samples * percent).div_ceil(100).saturating_sub(1)).copied().flatten()
        };
        let silent = self.last.iter().rev().take_while(|trip| trip.is_none()).count();
        let median = quantile(50);
        let state = if self.failure.is_some() || samples < FEWEST {
            State::Unknown
        } else if now.saturating_sub(self.at) > self.every * 3 {
            State::Stale
        } else if silent >= FEWEST {
            State::Unreachable
        } else if median.is_none_or(|median| median >= limit) {
            State::Breach
        } else {
            State::Ok
        };
        Figures {
            state,
            limit,
            last: self.last.iter().rev().find_map(|trip| *trip),
            median,
            p95: quantile(95),
            acknowledged: self.acknowledged,
            samples,
            lost: samples - sorted.iter().flatten().count(),
            lost_in_all: self.lost,
            failure: self.failure.clone(),
            silence: (silent, self.loss.clone()),
        }
    }
}
