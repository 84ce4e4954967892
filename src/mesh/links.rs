//! All links of one agent: which there are, what each is held against, and how they stand.

use std::collections::BTreeMap;
use std::time::Duration;

use probes::target::Kind;

use super::budget::Budgets;
use super::histogram::Edges;
use super::meter::Scale;
use super::peer::{Link, Own, Role};
use super::state::{Change, Graces, State, Terms, Watch};

/// What all links have in common.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rules {
    /// Limits by class of link.
    pub budgets: Budgets,
    /// How long things may be missing.
    pub graces: Graces,
    /// How often each kind is measured.
    pub intervals: Intervals,
}

/// How often each kind is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Echoes.
    pub peer: Duration,
    /// Queries.
    pub postgres: Duration,
    /// Bare connects beside the queries; zero is never.
    pub postgres_connect: Duration,
    /// Bare connects to a TCP target.
    pub tcp: Duration,
    /// GETs.
    pub http: Duration,
    /// GETs of a relay on a kept connection.
    pub relay: Duration,
    /// GETs of a relay on a fresh connection; zero is never.
    pub relay_fresh: Duration,
    /// Connects to a NATS port.
    pub nats: Duration,
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            peer: Duration::from_secs(1),
            postgres: Duration::from_secs(1),
            postgres_connect: Duration::from_secs(30),
            tcp: Duration::from_secs(30),
            http: Duration::from_secs(10),
            relay: Duration::from_secs(10),
            relay_fresh: Duration::from_secs(60),
            nats: Duration::from_secs(60),
        }
    }
}

impl Intervals {
    /// Of this link.
    pub fn of(&self, link: &Link) -> Duration {
        link.every.unwrap_or(match link.kind {
            Kind::Peer => self.peer,
            Kind::Postgres => self.postgres,
            Kind::Tcp => self.tcp,
            Kind::Http => self.http,
            Kind::Relay => self.relay,
            Kind::Nats => self.nats,
        })
    }
}

/// One change of which links there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RosterChange {
    /// A link is new: its id, and its place in the list that was given.
    Added(u32, usize),
    /// A link is no more.
    Removed(u32),
}

/// All links of one agent.
#[derive(Debug, Clone)]
pub struct Links {
    own: Own,
    rules: Rules,
    watches: BTreeMap<u32, Watch>,
    next_id: u32,
    scale: Scale,
}

impl Links {
    /// No links yet.
    pub fn new(own: Own, rules: Rules) -> Self {
        Self { own, rules, watches: BTreeMap::new(), next_id: 0, scale: Scale::default() }
    }

    /// The same with its buckets in exponential steps as well.
    pub fn exponential(mut self) -> Self {
        self.scale.exponential = true;
        self
    }

    /// By what all meters of this agent count.
    pub fn scale(&self) -> &Scale {
        &self.scale
    }

    /// What this agent says that it is.
    pub fn own(&self) -> &Own {
        &self.own
    }

    /// What all links have in common.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Holds all links against other rules from now on.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        for watch in self.watches.values_mut() {
            watch.set_terms(terms(&self.own, &rules, &watch.link));
        }
    }

    /// This is what this agent stands beside, as was found out.
    pub fn set_role(&mut self, role: Option<Role>) {
        self.own.role = role;
        self.set_rules(self.rules);
    }

    /// These are the links from now on, in any order. Those that were there before keep their samples and their state;
    /// the answer says which are new and which are gone.
    pub fn handle_roster(&mut self, links: &[Link], now: Duration) -> Vec<RosterChange> {
        let same = |a: &Link, b: &Link| a.target == b.target && a.kind == b.kind;
        let gone: Vec<_> = self
            .watches
            .iter()
            .filter(|(_, watch)| !links.iter().any(|link| same(link, &watch.link)))
            .map(|(id, _)| *id)
            .collect();
        let mut changes = Vec::new();
        for id in gone {
            self.watches.remove(&id);
            changes.push(RosterChange::Removed(id));
        }
        let edges = Edges::of(&self.rules, links.iter(), &self.scale.edges);
        if edges != self.scale.edges {
            self.scale.edges = edges;
            self.watches.values_mut().for_each(|watch| watch.set_scale(&self.scale, now));
        }
        for (place, link) in links.iter().enumerate() {
            let terms = terms(&self.own, &self.rules, link);
            match self.watches.values_mut().find(|watch| same(&watch.link, link)) {
                Some(watch) => {
                    watch.link = link.clone();
                    watch.set_terms(terms);
                }
                None => {
                    let id = self.next_id;
                    self.next_id += 1;
                    let mut watch = Watch::new(link.clone(), terms, now);
                    watch.set_scale(&self.scale, now);
                    self.watches.insert(id, watch);
                    changes.push(RosterChange::Added(id, place));
                }
            }
        }
        changes
    }

    /// The link of this id; `None` when it is gone.
    pub fn get(&self, id: u32) -> Option<&Watch> {
        self.watches.get(&id)
    }

    /// To tell a link of something. Samples of a link that is gone are nobody's.
    pub fn get_mut(&mut self, id: u32) -> Option<&mut Watch> {
        self.watches.get_mut(&id)
    }

    /// All links, in the order they came.
    pub fn all(&self) -> impl Iterator<Item = (u32, &Watch)> {
        self.watches.iter().map(|(id, watch)| (*id, watch))
    }

    /// Looks at the clock on behalf of all links.
    pub fn tick(&mut self, now: Duration) -> Vec<(u32, Change)> {
        self.watches.iter_mut().filter_map(|(id, watch)| Some((*id, watch.tick(now)?))).collect()
    }

    /// When to look at the clock again after `now`, if nothing comes before.
    pub fn next_wake(&self, now: Duration) -> Option<Duration> {
        self.watches.values().filter_map(|watch| watch.next_wake(now)).min()
    }

    /// The worst state of all links with a budget; `unknown` when there is none.
    pub fn worst(&self) -> State {
        let judged = self.watches.values().filter(|watch| watch.terms().limit.is_some());
        judged.map(|watch| watch.standing().0).max().unwrap_or(State::Unknown)
    }
}

fn terms(own: &Own, rules: &Rules, link: &Link) -> Terms {
    Terms {
        limit: link.limit.unwrap_or_else(|| rules.budgets.limit(own.role, link.role)),
        quantile: rules.budgets.quantile,
        interval: rules.intervals.of(link),
        connects: !rules.intervals.postgres_connect.is_zero(),
        graces: rules.graces,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(target: &str, kind: Kind, role: Option<Role>) -> Link {
        Link::to(target, kind, role)
    }

    fn roster() -> Vec<Link> {
        vec![
            link("a", Kind::Peer, Some(Role::Coderd)),
            link("b", Kind::Peer, Some(Role::Proxy)),
            link("db", Kind::Postgres, Some(Role::Postgres)),
        ]
    }

    fn links() -> Links {
        Links::new(Own { role: Some(Role::Coderd), ..Own::default() }, Rules::default())
    }

    #[test]
    fn a_new_roster_keeps_what_stays_and_its_order_is_irrelevant() {
        let mut links = links();
        let added = links.handle_roster(&roster(), Duration::ZERO);
        assert_eq!(added, [0, 1, 2].map(|id| RosterChange::Added(id, id as usize)));
        let mut turned: Vec<_> = roster().into_iter().rev().collect();
        assert_eq!(links.handle_roster(&turned, Duration::from_secs(9)), []);
        turned.pop();
        turned.push(link("c", Kind::Peer, None));
        let changes = links.handle_roster(&turned, Duration::from_secs(10));
        assert_eq!(changes, [RosterChange::Removed(0), RosterChange::Added(3, 2)]);
    }

    #[test]
    fn each_link_is_held_against_the_budget_of_its_class_and_its_own_goes_first() {
        let mut links = links();
        let mut wanted = roster();
        links.handle_roster(&wanted, Duration::ZERO);
        let limits = |links: &Links| links.all().map(|(_, watch)| watch.terms().limit).collect::<Vec<_>>();
        let ten = Some(Duration::from_millis(10));
        assert_eq!(limits(&links), [ten, None, ten]);
        wanted[1].limit = Some(Some(Duration::from_millis(80)));
        links.handle_roster(&wanted, Duration::ZERO);
        assert_eq!(limits(&links), [ten, Some(Duration::from_millis(80)), ten]);
    }
}
