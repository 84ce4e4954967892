//! What our own links say, as far as Coder's metrics are held beside it.

use std::time::Duration;

use probes::target::Kind;

use crate::mesh::cause::{Finding, Reason, ms};
use crate::mesh::report::{Figures, TargetReport};
use crate::mesh::standing::LinkStanding;
use crate::mesh::state::State;
use crate::mesh::verdict::Verdict;

/// How one of our links does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Within its budget, with confidence.
    Fast,
    /// Nothing that could be held beside another figure.
    Unknown,
    /// Over its budget, by what the server or something before it takes.
    SlowServer,
    /// Over its budget, by the way there.
    SlowWay,
}

/// One of our links with a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OurLink {
    /// The target.
    pub name: String,
    /// Whether it is a database; the others are peers.
    pub is_database: bool,
    /// What it is held against.
    pub budget: Duration,
    /// How it does.
    pub level: Level,
    /// Why, by the link's own account.
    pub reason: &'static str,
    /// How many round trips the figures are of.
    pub samples: u32,
    /// Median of the round trips.
    pub p50: Option<Duration>,
    /// Their 95th percentile.
    pub p95: Option<Duration>,
}

impl OurLink {
    /// Of a finished look; `None` where there is nothing to hold it against, or it is of another kind.
    pub fn of_target(target: &TargetReport) -> Option<Self> {
        let level = match target.judgement.verdict {
            Verdict::Pass => Level::Fast,
            Verdict::Fail => slow(target.judgement.reason()),
            Verdict::Inconclusive | Verdict::Info => Level::Unknown,
        };
        let reason = target.judgement.reason();
        Self::new(&target.name, target.kind, target.limit, level, reason, target.samples, &target.rtt)
    }

    /// Of a link that is watched.
    pub fn of_link(link: &LinkStanding) -> Option<Self> {
        let reason = link.findings.first().map_or(Reason::TooFewSamples, |finding: &Finding| finding.reason);
        let level = match link.state {
            State::Ok => Level::Fast,
            State::AtRisk if reason != Reason::Recovering => Level::Fast,
            State::Breach => slow(reason),
            State::Left | State::Unknown | State::Stale | State::AtRisk | State::Unreachable => {
                Level::Unknown
            }
        };
        Self::new(&link.name, link.kind, link.limit, level, reason, link.samples, &link.rtt)
    }

    fn new(
        name: &str,
        kind: Kind,
        limit: Option<Duration>,
        level: Level,
        reason: Reason,
        samples: u32,
        rtt: &Figures,
    ) -> Option<Self> {
        let is_database = match kind {
            Kind::Postgres => true,
            Kind::Peer => false,
            Kind::Tcp | Kind::Http | Kind::Relay | Kind::Nats => return None,
        };
        Some(Self {
            name: name.to_owned(),
            is_database,
            budget: limit?,
            level,
            reason: reason.as_str(),
            samples,
            p50: rtt.p50,
            p95: rtt.p95,
        })
    }

    /// «p95 23.4 ms of 300, placement».
    pub(super) fn figures(&self) -> String {
        match self.p95 {
            Some(p95) => format!("p95 {} of {}, {}", ms(p95), self.samples, self.reason),
            None => self.reason.to_owned(),
        }
    }
}

/// Who takes the time of a link that is over its budget. One that does not answer at all has no latency to compare.
fn slow(reason: Reason) -> Level {
    match reason {
        Reason::Server | Reason::ServerOrProxy => Level::SlowServer,
        Reason::NoReply(_) | Reason::SelfNoise => Level::Unknown,
        _ => Level::SlowWay,
    }
}

#[cfg(test)]
mod tests {
    use probes::sample::Reason as Failed;

    use super::*;

    #[test]
    fn a_link_over_its_budget_is_the_ways_or_the_servers_and_silence_is_neither() {
        for (reason, level) in [
            (Reason::Placement, Level::SlowWay),
            (Reason::Jitter, Level::SlowWay),
            (Reason::Loss, Level::SlowWay),
            (Reason::Server, Level::SlowServer),
            (Reason::ServerOrProxy, Level::SlowServer),
            (Reason::NoReply(Failed::Timeout), Level::Unknown),
            (Reason::SelfNoise, Level::Unknown),
        ] {
            assert_eq!(slow(reason), level, "{reason}");
        }
        assert!(Level::SlowWay > Level::SlowServer && Level::SlowServer > Level::Unknown);
        assert!(
            Level::Unknown > Level::Fast,
            "the worst of several databases is held beside Coder's figures"
        );
    }

    #[test]
    fn only_echoes_and_queries_with_a_budget_are_compared() {
        let of = |kind, limit| {
            OurLink::new("a", kind, limit, Level::Fast, Reason::WithinBudget, 9, &Figures::default())
        };
        let budget = Some(Duration::from_millis(10));
        assert!(of(Kind::Postgres, budget).is_some_and(|link| link.is_database));
        assert!(of(Kind::Peer, budget).is_some_and(|link| !link.is_database));
        for (kind, limit) in [(Kind::Tcp, budget), (Kind::Http, budget), (Kind::Peer, None)] {
            assert_eq!(of(kind, limit), None);
        }
    }
}
