//! The whole mesh: what every agent says of itself and of its own links, so that each agent knows all pairs.
//!
//! What is heard comes from somebody who proved to belong to the mesh, and is bounded and checked all the same: an agent
//! speaks for itself alone, rows that make no sense are dropped and counted, and what is not said again grows old and goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use probes::target::{HostPort, Kind};

use super::peer::Role;
use super::proxies::Proxy;
use super::roster::{Claim, Sighting};
use super::state::State;

/// After this long without a word, rows are history.
pub const FRESH_FOR: Duration = Duration::from_secs(30);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// What was measured for so long is enough to judge a place by ([`super::place::decide::Limits`]).
const TELLING: Duration = Duration::from_secs(10);
const AGENTS_AT_MOST: usize = 512;
const ROWS_AT_MOST: usize = 512;
const ALL_ROWS_AT_MOST: usize = 20_000;

/// What an agent says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Identity {
    /// Its name in the mesh.
    pub name: String,
    /// What it stands beside.
    pub role: Option<Role>,
    /// What its machine or pod calls itself.
    pub host_name: Option<String>,
    /// The machine.
    pub node: Option<String>,
    /// Where it stands, and who says so.
    pub claims: Vec<Claim>,
    /// Its own addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Where it answers echoes.
    pub reflectors: Vec<HostPort>,
    /// Its version.
    pub version: String,
}

impl Identity {
    /// The same for the roster.
    pub fn sighting(&self) -> Sighting {
        Sighting {
            key: self.name.clone(),
            role: self.role,
            agent: Some(self.name.clone()),
            addresses: self.addresses.clone(),
            reflectors: self.reflectors.clone(),
            host_name: self.host_name.clone(),
            node: self.node.clone(),
            claims: self.claims.clone(),
            version: Some(self.version.clone()),
            ..Sighting::default()
        }
    }
}

/// One link in brief.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The target's name, as its agent calls it.
    pub target: String,
    /// How it is measured.
    pub kind: Kind,
    /// What the target is for.
    pub role: Option<Role>,
    /// How it stands.
    pub state: State,
    /// The reason to act on.
    pub reason: String,
    /// What it is held against.
    pub budget: Option<Duration>,
    /// Fastest round trip, less what the server took for it.
    pub min: Option<Duration>,
    /// Median.
    pub p50: Option<Duration>,
    /// 95th percentile.
    pub p95: Option<Duration>,
    /// 99th percentile; older agents do not say it.
    pub p99: Option<Duration>,
    /// How many outcomes these rest on.
    pub samples: u32,
    /// How many of the last outcomes got no reply; older agents do not say it.
    pub lost: u32,
    /// Since when it stands so, by the clock of who reads it.
    pub since: Duration,
    /// Over how long they came.
    pub span: Duration,
}

impl Row {
    /// Whether it is worth saying again: another state, or a figure that has moved by more than a tenth.
    pub fn differs(&self, before: &Self) -> bool {
        let moved = |now: Option<Duration>, then: Option<Duration>| match (now, then) {
            (Some(now), Some(then)) => now.abs_diff(then) * 10 > then,
            (now, then) => now.is_some() != then.is_some(),
        };
        (self.state, &self.reason, self.role, self.budget)
            != (before.state, &before.reason, before.role, before.budget)
            || moved(self.min, before.min)
            || moved(self.p50, before.p50)
            || moved(self.p95, before.p95)
            || moved(self.p99, before.p99)
            || self.lost.abs_diff(before.lost) > 2 + before.lost / 10
            || (self.samples >= 20) != (before.samples >= 20)
            || (self.span >= TELLING) != (before.span >= TELLING)
    }
}

/// What one agent wrote. Its rows say in `since` for how long they have stood so.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    /// Who.
    pub from: Identity,
    /// These are all its rows; else those that differ from what it wrote before.
    pub full: bool,
    /// Its rows.
    pub rows: Vec<Row>,
    /// How many rows made no sense.
    pub dropped: u32,
    /// The workspace proxies that it knows from Coder's database; `None` where it does not say.
    pub proxies: Option<Vec<Proxy>>,
}

/// One agent as it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// What it says of itself.
    pub identity: Identity,
    /// From where it said so.
    pub from: IpAddr,
    /// When, since we began.
    pub heard: Duration,
    /// Its links.
    pub rows: BTreeMap<(String, Kind), Row>,
}

/// Everybody else.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Whole {
    agents: BTreeMap<String, Agent>,
    dropped: u64,
}

impl Whole {
    /// Takes in what was written, from this address; whether it is from an agent that was not known, or is another one now.
    pub fn hear(&mut self, letter: Letter, from: IpAddr, now: Duration) -> bool {
        self.forget(now);
        self.dropped += u64::from(letter.dropped);
        let Letter { from: identity, full, rows, .. } = letter;
        let others: usize =
            self.agents.values().filter(|a| a.identity.name != identity.name).map(|a| a.rows.len()).sum();
        let known = self.agents.get(&identity.name);
        // A name that somebody else uses right now is not taken away from him.
        let is_taken =
            known.is_some_and(|agent| agent.from != from && now.saturating_sub(agent.heard) < FRESH_FOR);
        if is_taken || (known.is_none() && self.agents.len() >= AGENTS_AT_MOST) {
            self.dropped += rows.len() as u64 + 1;
            return false;
        }
        let is_new = known.is_none_or(|agent| agent.identity != identity);
        let agent = self.agents.entry(identity.name.clone()).or_insert_with(|| Agent {
            identity: Identity::default(),
            from,
            heard: now,
            rows: BTreeMap::new(),
        });
        (agent.identity, agent.from, agent.heard) = (identity, from, now);
        if full {
            agent.rows.clear();
        }
        for mut row in rows {
            // A letter says for how long.
            row.since = now.saturating_sub(row.since);
            let key = (row.target.clone(), row.kind);
            let has_room = agent.rows.len() < ROWS_AT_MOST && others + agent.rows.len() < ALL_ROWS_AT_MOST;
            if has_room || agent.rows.contains_key(&key) {
                agent.rows.insert(key, row);
            } else {
                self.dropped += 1;
            }
        }
        is_new
    }

    fn forget(&mut self, now: Duration) {
        self.agents.retain(|_, agent| now.saturating_sub(agent.heard) < FORGOTTEN_AFTER);
    }

    /// Everybody that has been heard of late, by name.
    pub fn agents(&self, now: Duration) -> impl Iterator<Item = &Agent> {
        self.agents.values().filter(move |agent| now.saturating_sub(agent.heard) < FRESH_FOR)
    }

    /// Everybody that has been heard of within the last ten minutes, by name.
    pub fn all(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values()
    }

    /// What these agents say of themselves, for the roster.
    pub fn sightings(&self, now: Duration) -> Vec<Sighting> {
        self.agents(now).map(|agent| agent.identity.sighting()).collect()
    }

    /// Letters and rows that were not taken in.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// One that could not be read at all.
    pub fn drop_one(&mut self) {
        self.dropped += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn row(target: &str, us: u64) -> Row {
        Row {
            target: target.into(),
            kind: Kind::Peer,
            role: None,
            state: State::Ok,
            reason: "within_budget".into(),
            budget: None,
            min: Some(Duration::from_micros(us)),
            p50: Some(Duration::from_micros(us)),
            p95: Some(Duration::from_micros(us)),
            p99: None,
            samples: 100,
            lost: 0,
            since: Duration::ZERO,
            span: Duration::from_secs(100),
        }
    }

    fn letter(name: &str, full: bool, rows: Vec<Row>) -> Letter {
        let from = Identity { name: name.into(), ..Identity::default() };
        Letter { from, full, rows, dropped: 0, proxies: None }
    }

    fn targets(whole: &Whole, now: u64) -> Vec<(String, Vec<String>)> {
        whole
            .agents(Duration::from_secs(now))
            .map(|agent| (agent.identity.name.clone(), agent.rows.keys().map(|(t, _)| t.clone()).collect()))
            .collect()
    }

    #[test]
    fn differences_add_up_and_a_full_letter_replaces() {
        let mut whole = Whole::default();
        let at = Duration::from_secs;
        assert!(whole.hear(letter("a", true, vec![row("b", 1), row("c", 2)]), HERE, at(0)));
        assert!(!whole.hear(letter("a", false, vec![row("d", 3)]), HERE, at(5)));
        assert_eq!(targets(&whole, 6), [("a".into(), ["b", "c", "d"].map(String::from).to_vec())]);
        whole.hear(letter("a", true, vec![row("d", 3)]), HERE, at(10));
        assert_eq!(targets(&whole, 11), [("a".into(), vec!["d".to_owned()])]);
        assert_eq!(targets(&whole, 45), [], "not heard of late");
    }

    #[test]
    fn an_agent_speaks_for_itself_alone_and_for_no_more_than_there_is_room() {
        let mut whole = Whole::default();
        whole.hear(letter("a", true, vec![row("b", 1)]), HERE, Duration::ZERO);
        whole.hear(letter("a", true, vec![]), THERE, Duration::from_secs(1));
        assert_eq!(targets(&whole, 2)[0].1.len(), 1, "the name is in use");
        assert_eq!(whole.dropped(), 1);
        whole.hear(letter("a", true, vec![]), THERE, Duration::from_secs(60));
        assert_eq!(targets(&whole, 61)[0].1.len(), 0, "and was free again: its pod has moved");
        let many = (0..2000).map(|i| row(&format!("t{i}"), 1)).collect();
        whole.hear(letter("flood", true, many), HERE, Duration::from_secs(61));
        assert_eq!(whole.agents["flood"].rows.len(), ROWS_AT_MOST);
        for i in 0..1000 {
            whole.hear(letter(&format!("x{i}"), true, vec![]), HERE, Duration::from_secs(62));
        }
        assert_eq!(whole.agents.len(), AGENTS_AT_MOST);
    }

    #[test]
    fn what_moved_by_less_than_a_tenth_is_not_said_again() {
        assert!(!row("a", 1000).differs(&row("a", 1050)));
        assert!(row("a", 1200).differs(&row("a", 1000)));
        assert!(Row { state: State::Breach, ..row("a", 1000) }.differs(&row("a", 1000)));
        assert!(Row { min: None, ..row("a", 1000) }.differs(&row("a", 1000)));
        let over = |seconds| Row { span: Duration::from_secs(seconds), ..row("a", 1000) };
        assert!(
            over(10).differs(&over(9)) && !over(30).differs(&over(10)),
            "now a place can be judged by it"
        );
    }
}
