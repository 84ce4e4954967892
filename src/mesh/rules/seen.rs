//! The facts joined: each server with its place, each pair with what was measured and what that means.

use std::collections::{BTreeMap, BTreeSet};

use probes::target::HostPort;

use super::input::{Server, Topology};
use crate::mesh::peer::Role;
use crate::mesh::place::Place;
use crate::mesh::place::decide::{Anchor, End, Limits, Measured, Pair, decide};
use crate::mesh::place::verdict::{Judgement, Note, RegionVerdict};
use crate::mesh::region::Atlas;
use crate::mesh::roster::Status;

/// What the rules look at.
pub(super) struct Seen<'a> {
    pub(super) topology: &'a Topology,
    pub(super) atlas: &'a Atlas,
    pub(super) limits: &'a Limits,
    /// Everybody who is not leaving, and the databases that nobody listed.
    pub(super) servers: Vec<Server>,
    /// Where each of them stands.
    pub(super) places: Vec<Place>,
    /// Who is meant by a name.
    named: BTreeMap<String, Vec<usize>>,
    /// All pairs among coderd and the database, by the place of both in `servers`.
    pub(super) pairs: Vec<Judged>,
    /// One direction each, from server to server.
    pub(super) ways: BTreeMap<(usize, usize), Seeing>,
}

/// What one server's agents measured of another.
#[derive(Debug, Clone)]
pub(super) struct Seeing {
    pub(super) measured: Measured,
    pub(super) by: String,
}

/// Two servers, and whether they stand in one region.
pub(super) struct Judged {
    pub(super) a: usize,
    pub(super) b: usize,
    pub(super) measured: Option<Seeing>,
    pub(super) judgement: Judgement,
    /// Whether they are in different regions, and if so, whether those may be in one metropolis.
    pub(super) crossing: Option<bool>,
}

impl<'a> Seen<'a> {
    pub(super) fn of(topology: &'a Topology, atlas: &'a Atlas, limits: &'a Limits) -> Self {
        let servers = joined(topology);
        let places: Vec<_> = servers.iter().map(|server| Place::weigh(&server.claims, atlas)).collect();
        let mut named: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, server) in servers.iter().enumerate() {
            for name in names(server) {
                named.entry(name.clone()).or_default().push(index);
            }
        }
        let mut seen = Self {
            topology,
            atlas,
            limits,
            servers,
            places,
            named,
            pairs: Vec::new(),
            ways: BTreeMap::new(),
        };
        seen.ways = seen.ways();
        seen.pairs = seen.judged();
        seen
    }

    /// The servers that a row's end means: by its name, or by the host in it.
    pub(super) fn servers_called(&self, name: &str) -> &[usize] {
        let host = || {
            let address = name.split_once("://").map_or(name, |(_, rest)| rest);
            let address = address.split('/').next().unwrap_or_default();
            HostPort::parse(address, Some(1)).ok().and_then(|address| self.named.get(&address.host))
        };
        self.named.get(name).or_else(host).map_or(&[], Vec::as_slice)
    }

    pub(super) fn name(&self, server: usize) -> String {
        self.servers[server].name.clone()
    }

    /// Those with one of these roles, by their place in the list.
    pub(super) fn with_role(&self, roles: &[Role]) -> Vec<usize> {
        (0..self.servers.len()).filter(|index| self.is(*index, roles)).collect()
    }

    pub(super) fn coderd(&self) -> Vec<usize> {
        self.with_role(&[Role::Coderd])
    }

    /// Whether this server has one of these roles.
    pub(super) fn is(&self, server: usize, roles: &[Role]) -> bool {
        self.servers[server].role.is_some_and(|role| roles.contains(&role))
    }

    fn ways(&self) -> BTreeMap<(usize, usize), Seeing> {
        let mut ways: BTreeMap<(usize, usize), Seeing> = BTreeMap::new();
        for row in &self.topology.rows {
            let Some(measured) = row.measured() else {
                continue;
            };
            for source in self.servers_called(&row.source) {
                for target in self.servers_called(&row.target) {
                    if source == target {
                        continue;
                    }
                    let new = Seeing { measured, by: row.source.clone() };
                    let way = ways.entry((*source, *target)).or_insert_with(|| new.clone());
                    if self.rank(&new) < self.rank(way) {
                        *way = new;
                    }
                }
            }
        }
        for (source, target, measured) in self.near_standbys() {
            let new = Seeing { measured, by: self.topology.own.agent.clone() };
            let way = ways.entry((source, target)).or_insert_with(|| new.clone());
            if self.rank(&new) < self.rank(way) {
                *way = new;
            }
        }
        ways
    }

    /// Primaries and standbys that their replication proves to be near. A bound from above that is below the budget bounds
    /// the round trip itself; one that is not proves nothing, for it contains what both ends do beside it. And without
    /// enough readings it must not stand in the way of what labels say.
    fn near_standbys(&self) -> Vec<(usize, usize, Measured)> {
        let mut near = Vec::new();
        for database in &self.topology.databases {
            for standby in &database.standbys {
                let Some(at_most) = standby.at_most.filter(|at_most| {
                    at_most.min < self.limits.budget
                        && at_most.samples >= self.limits.samples
                        && at_most.span >= self.limits.span
                }) else {
                    continue;
                };
                let sources = self.servers_called(&database.name).iter();
                let targets = self.servers_called(&standby.name);
                let pairs = sources.flat_map(|source| targets.iter().map(|target| (*source, *target)));
                near.extend(pairs.filter(|(source, target)| source != target).map(|(s, t)| (s, t, at_most)));
            }
        }
        near
    }

    /// The best of several measurements is the least: enough replies, from the end itself, fast.
    fn rank<'b>(&self, seeing: &'b Seeing) -> (bool, bool, std::time::Duration, &'b str) {
        let Seeing { measured, by } = seeing;
        let enough = measured.samples >= self.limits.samples && measured.span >= self.limits.span;
        (!enough, !measured.end_to_end, measured.min, by)
    }

    fn between(&self, a: usize, b: usize) -> Option<&Seeing> {
        let both = [self.ways.get(&(a, b)), self.ways.get(&(b, a))];
        both.into_iter().flatten().min_by(|x, y| self.rank(x).cmp(&self.rank(y)))
    }

    fn judged(&self) -> Vec<Judged> {
        let core = self.with_role(&[Role::Coderd, Role::Postgres, Role::Standby]);
        let ends: Vec<_> = (0..self.servers.len())
            .map(|index| End { name: self.name(index), region: self.places[index].region.clone() })
            .collect();
        let mut anchors: BTreeMap<usize, Vec<Anchor>> = BTreeMap::new();
        for open in core.iter().filter(|index| ends[**index].region.is_none()) {
            anchors.insert(*open, self.anchors(*open));
        }
        let mut pairs = Vec::new();
        for (position, a) in core.iter().enumerate() {
            for b in &core[position + 1..] {
                let (a, b) = (*a, *b);
                let measured = self.between(a, b).cloned();
                let none: &[Anchor] = &[];
                let anchors = anchors.get(&a).or_else(|| anchors.get(&b)).map_or(none, Vec::as_slice);
                let pair = Pair {
                    ends: [&ends[a], &ends[b]],
                    measured: measured.as_ref().map(|seeing| seeing.measured),
                    anchors,
                };
                let judgement = decide(&pair, self.atlas, self.limits);
                let crossing = self.crossing(&judgement, &ends[a], &ends[b]);
                pairs.push(Judged { a, b, measured, judgement, crossing });
            }
        }
        pairs
    }

    /// The nearest server of each region that this one was measured against.
    fn anchors(&self, open: usize) -> Vec<Anchor> {
        let mut nearest: BTreeMap<_, Anchor> = BTreeMap::new();
        for (other, place) in self.places.iter().enumerate() {
            let Some((region, seeing)) = place.region.clone().zip(self.between(open, other)) else {
                continue;
            };
            let anchor = Anchor { name: self.name(other), region: region.clone(), measured: seeing.measured };
            let rank = |anchor: &Anchor| {
                (
                    self.rank(&Seeing { measured: anchor.measured, by: String::new() }).0,
                    !anchor.measured.end_to_end,
                    anchor.measured.min,
                )
            };
            let known = nearest.entry(region).or_insert_with(|| anchor.clone());
            if rank(&anchor) < rank(known) {
                *known = anchor;
            }
        }
        nearest.into_values().collect()
    }

    /// Labels that differ count where nothing was measured, too.
    fn crossing(&self, judgement: &Judgement, a: &End, b: &End) -> Option<bool> {
        match judgement.verdict {
            RegionVerdict::CrossRegionDeclared => Some(judgement.has(Note::SameMetro)),
            RegionVerdict::CrossRegionImplied => Some(judgement.has(Note::PerhapsSameMetro)),
            RegionVerdict::Unknown if judgement.has(Note::NoMeasurement) => {
                let (one, other) = a.region.as_ref().zip(b.region.as_ref())?;
                let places = self.atlas.find(one).zip(self.atlas.find(other));
                let near = places.is_some_and(|(one, other)| one.same_metro(other));
                (!self.atlas.same(one, other)).then_some(near)
            }
            _ => None,
        }
    }
}

fn names(server: &Server) -> BTreeSet<&String> {
    server.known_as.iter().chain(&server.watched_by).chain([&server.name]).collect()
}

fn joined(topology: &Topology) -> Vec<Server> {
    let mut servers: Vec<_> =
        topology.servers.iter().filter(|server| server.status != Status::Leaving).cloned().collect();
    for database in &topology.databases {
        let called: BTreeSet<_> = database.known_as.iter().chain([&database.name]).cloned().collect();
        let is_it = |server: &&mut Server| {
            let role = matches!(server.role, None | Some(Role::Postgres | Role::Standby));
            role && names(server).iter().any(|name| called.contains(*name))
        };
        if let Some(server) = servers.iter_mut().find(is_it) {
            server.claims.extend(database.claims.iter().cloned());
            server.known_as.extend(called);
        } else {
            let (name, claims) = (database.name.clone(), database.claims.clone());
            let role = Some(Role::Postgres);
            servers.push(Server { name, role, claims, known_as: called, ..Server::default() });
        }
    }
    servers.sort_by(|a, b| (&a.name, a.role, &a.known_as).cmp(&(&b.name, b.role, &b.known_as)));
    // Two servers on one host may have its name; in reports they must not be one.
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    servers.iter().for_each(|server| *counts.entry(server.name.clone()).or_default() += 1);
    for server in servers.iter_mut().filter(|server| counts.get(&server.name).is_some_and(|count| *count > 1))
    {
        let apart = server.role.map_or_else(String::new, |role| format!(" [{role}]"));
        server.known_as.insert(server.name.clone());
        server.name.push_str(&apart);
    }
    servers
}
