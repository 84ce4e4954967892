//! How news gets from one replica of coderd to the others, and how long that takes through PostgreSQL.
//!
//! Replicas tell each other by NATS, from one to the other, or by LISTEN and NOTIFY through the database. The latter is
//! two trips to the database and a commit, so it is held against what people notice and never against the budget of a
//! link.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use probes::sample::{Failure, Outcome, Reason, Sample};
use serde::Serialize;

use super::histogram::Edges;
use super::meter::{Meter, Scale};
use super::peer::Role;
use super::roster::{Member, Status};
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

/// Of the replicas among these members that are not about to stop.
pub fn path(members: &[Member]) -> Path {
    let coderd = members.iter().filter(|member| {
        member.facts.role == Some(Role::Coderd)
            && !member.is_agent()
            && member.facts.status != Status::Leaving
    });
    Path::of(coderd.map(|member| member.facts.carrier))
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
    scale: Scale,
    own: Track,
    peers: BTreeMap<String, Track>,
    /// To all the others, whoever they were.
    together: Track,
}

/// Whose trips these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trips<'a> {
    /// Ours, to ourselves.
    Own,
    /// To this agent and back.
    Peer(&'a str),
    /// To all other agents and back.
    AllPeers,
}

impl Pubsub {
    /// Nothing yet; in exponential buckets as well where somebody asked for them. From where on it is sluggish is an edge.
    pub fn new(exponential: bool) -> Self {
        let edges = Edges::with([SLUGGISH, 2 * SLUGGISH]);
        Self { scale: Scale { edges, exponential }, ..Self::default() }
    }

    /// All trips in buckets and how many were lost since the start: our own first, then those to each other agent and back, or
    /// to all of them together where there are more than `named_at_most`.
    pub fn trips(&self, named_at_most: usize) -> impl Iterator<Item = (Trips<'_>, &Meter, u64)> {
        let is_named = self.peers.len() <= named_at_most;
        let named = self.peers.iter().filter(move |_| is_named);
        let together = (!is_named).then_some((Trips::AllPeers, &self.together));
        std::iter::once((Trips::Own, &self.own))
            .chain(named.map(|(name, track)| (Trips::Peer(name.as_str()), track)))
            .chain(together)
            .filter_map(|(whose, track)| Some((whose, track.meter.as_ref()?, track.lost)))
    }

    /// Takes in what came of a question at `now`.
    pub fn record(&mut self, exchange: &Exchange, now: Duration) {
        let Exchange { own, peer, every, peers } = exchange;
        let scale = &self.scale;
        self.own.record(own, *every, now, scale);
        let turn = *every * u32::try_from((*peers).max(1)).unwrap_or(u32::MAX);
        if let Some((name, sample)) = peer
            && (self.peers.contains_key(name) || self.peers.len() < PEERS_AT_MOST)
        {
            self.peers.entry(name.clone()).or_default().record(sample, turn, now, scale);
            self.together.record(sample, *every, now, scale);
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
    /// From the first trip on.
    meter: Option<Meter>,
}

impl Track {
    fn record(&mut self, sample: &Sample, every: Duration, now: Duration, scale: &Scale) {
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
        let meter = self.meter.get_or_insert_with(|| Meter::new(scale, now));
        trip.into_iter().for_each(|trip| meter.record(trip));
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

#[cfg(test)]
mod tests {
    use probes::sample::Timing;

    use super::*;

    const EVERY: Duration = Duration::from_secs(10);

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn trip(ms: u64) -> Sample {
        Timing {
            rtt: Duration::from_millis(ms),
            acknowledged: Some(Duration::from_millis(1)),
            ..Timing::default()
        }
        .into()
    }

    fn failed(reason: Reason) -> Sample {
        Failure::new(reason, reason.as_str()).into()
    }

    fn told(own: &[Sample]) -> Pubsub {
        let mut pubsub = Pubsub::default();
        for (sample, turn) in own.iter().zip(1..) {
            let exchange = Exchange { own: sample.clone(), peer: None, every: EVERY, peers: 0 };
            pubsub.record(&exchange, at(10 * turn));
        }
        pubsub
    }

    #[test]
    fn the_path_is_what_all_replicas_that_say_something_use() {
        use Carrier::{Nats, Postgres};
        for (carriers, path) in [
            (&[][..], Path::Unknown),
            (&[None, None], Path::Unknown),
            (&[Some(Nats), Some(Nats)], Path::Nats),
            (&[Some(Nats), None], Path::Nats),
            (&[Some(Postgres), Some(Postgres)], Path::Postgres),
            (&[Some(Postgres), Some(Nats), Some(Nats)], Path::Mixed),
            (&[Some(Nats), Some(Nats), Some(Postgres), Some(Nats)], Path::Mixed),
        ] {
            assert_eq!(Path::of(carriers.iter().copied()), path, "{carriers:?}");
        }
        assert!(Path::Mixed.needs_postgres() && Path::Postgres.needs_postgres());
        assert!(!Path::Nats.needs_postgres() && !Path::Unknown.needs_postgres());
    }

    #[test]
    fn what_did_not_come_back_is_longer_than_anything_that_did() {
        let lost = failed(Reason::Timeout);
        let own = told(&[trip(3), lost.clone(), trip(1), trip(2), lost]).standing(at(51)).own;
        assert_eq!((own.samples, own.lost, own.lost_in_all), (5, 2, 2));
        assert_eq!((own.median, own.p95), (Some(Duration::from_millis(3)), None));
        assert_eq!(own.last, Some(Duration::from_millis(2)));
        assert_eq!(own.acknowledged, Some(Duration::from_millis(1)));
        assert_eq!((own.state, own.silence.0), (State::Ok, 1));
    }

    #[test]
    fn it_is_sluggish_from_half_a_second_on_and_back_and_forth_from_a_whole_one() {
        let state = |ms| told(&[trip(ms), trip(ms), trip(ms)]).standing(at(31)).own.state;
        assert_eq!((state(499), state(500)), (State::Ok, State::Breach));
        let mut pubsub = Pubsub::default();
        for turn in 1..=3 {
            for (name, ms) in [("a", 999), ("b", 1000)] {
                let peer = Some((name.to_owned(), trip(ms)));
                pubsub.record(&Exchange { own: trip(1), peer, every: EVERY, peers: 2 }, at(10 * turn));
            }
        }
        let peers = pubsub.standing(at(31)).peers;
        let states: Vec<_> = peers.iter().map(|(name, figures)| (name.as_str(), figures.state)).collect();
        assert_eq!(states, [("a", State::Ok), ("b", State::Breach)]);
        let half = Duration::from_millis(500);
        assert_eq!(peers[1].1.one_way(), Some((half, half)));
    }

    #[test]
    fn silence_old_news_and_little_are_three_things_and_none_of_them_is_good() {
        let lost = || failed(Reason::Timeout);
        let own = |samples: &[Sample], now| told(samples).standing(at(now)).own.state;
        assert_eq!(own(&[], 1), State::Unknown);
        assert_eq!(own(&[trip(1), trip(1)], 21), State::Unknown);
        assert_eq!(own(&[trip(1), trip(1), trip(1), lost(), lost(), lost()], 61), State::Unreachable);
        assert_eq!(own(&[lost(), lost(), failed(Reason::Protocol)], 31), State::Unreachable);
        assert_eq!(own(&[lost(), lost(), lost(), trip(1)], 41), State::Breach, "half of them are lost");
        assert_eq!(own(&[trip(1), trip(1), trip(1)], 61), State::Stale);
    }

    #[test]
    fn what_keeps_us_from_asking_says_nothing_about_how_long_it_takes() {
        for reason in [Reason::Standby, Reason::Pooled, Reason::ConnectionsLow, Reason::Closed] {
            let pubsub = told(&[trip(1), trip(1), trip(1), failed(reason)]);
            let own = pubsub.standing(at(41)).own;
            assert_eq!((own.state, own.samples, own.lost), (State::Unknown, 3, 0), "{reason:?}");
            assert_eq!(own.failure.map(|failure| failure.reason), Some(reason));
        }
        let skipped = told(&[trip(1), trip(1), trip(1), Sample::skipped_self()]).standing(at(41)).own;
        assert_eq!((skipped.state, skipped.samples), (State::Ok, 3));
    }

    #[test]
    fn only_the_last_thirty_count_and_who_is_asked_no_more_is_forgotten() {
        let mut many = vec![trip(900); 30];
        many.extend(vec![trip(1); 30]);
        let own = told(&many).standing(at(601)).own;
        assert_eq!((own.samples, own.state), (30, State::Ok));
        let mut pubsub = Pubsub::default();
        let ask = |name: &str| Exchange {
            own: trip(1),
            peer: Some((name.to_owned(), trip(1))),
            every: EVERY,
            peers: 2,
        };
        pubsub.record(&ask("gone"), at(0));
        pubsub.record(&ask("here"), at(200));
        assert_eq!(pubsub.standing(at(200)).peers.len(), 2);
        pubsub.record(&ask("here"), at(201));
        assert_eq!(pubsub.standing(at(201)).peers.len(), 1);
    }

    #[test]
    fn trips_to_many_agents_are_one_sum_that_never_falls() {
        let mut pubsub = Pubsub::new(false);
        let mut ask = |name: &str, second: u64| {
            let peer = Some((name.to_owned(), trip(500)));
            pubsub.record(&Exchange { own: trip(1), peer, every: EVERY, peers: 2 }, at(second));
            let count = |whose| {
                let all = pubsub.trips(1).find(|(trips, ..)| *trips == whose);
                all.map(|(_, meter, _)| meter.histogram.count())
            };
            (count(Trips::Peer("a")), count(Trips::AllPeers))
        };
        assert_eq!(ask("a", 0), (Some(1), None));
        assert_eq!(ask("b", 10), (None, Some(2)), "nobody is told by name, and what was there before counts");
        assert_eq!(ask("a", 1000), (Some(2), None), "b is forgotten");
        assert_eq!(ask("c", 1010), (None, Some(4)), "and what it had is not");
        let edges = pubsub.scale.edges.all();
        assert!(edges.contains(&SLUGGISH) && edges.contains(&(2 * SLUGGISH)));
    }
}
