//! Rules about who reaches whom, and how fast.

use std::collections::{BTreeMap, BTreeSet};

use probes::target::Kind;

use super::seen::Seen;
use super::{Code, Draft, listed};
use crate::mesh::cause::ms;
use crate::mesh::domains::{self, Way, domains};
use crate::mesh::peer::Role;

/// More of one kind would hide the rest.
const MOST: usize = 5;

/// What is known of one direction by one kind of measurement.
#[derive(Default)]
struct Direction {
    reached: bool,
    missed: bool,
}

pub(super) fn one_way(seen: &Seen<'_>) -> Vec<Draft> {
    let agents: BTreeSet<&str> = seen
        .topology
        .agents
        .iter()
        .chain([&seen.topology.own])
        .map(|vantage| vantage.agent.as_str())
        .chain(seen.topology.rows.iter().map(|row| row.source.as_str()))
        .collect();
    // A server is reached or not from the place of the agent beside it.
    let party = |name: &str| {
        if agents.contains(name) {
            return name.to_owned();
        }
        let called = seen.servers_called(name);
        let watchers: BTreeSet<_> =
            called.iter().flat_map(|index| &seen.servers[*index].watched_by).collect();
        match watchers.into_iter().collect::<Vec<_>>().as_slice() {
            [one] => (*one).clone(),
            _ => name.to_owned(),
        }
    };
    let mut directions: BTreeMap<(Kind, String, String), Direction> = BTreeMap::new();
    for row in &seen.topology.rows {
        let (source, target) = (party(&row.source), party(&row.target));
        // What coderd's own paths miss is found by rules of their own, and a GET may fail for what the server says.
        let is_path = matches!(row.kind, Kind::Relay | Kind::Nats | Kind::Http);
        let Some(reaches) = row.reaches().filter(|_| source != target && !is_path) else {
            continue;
        };
        let direction = directions.entry((row.kind, source, target)).or_default();
        direction.reached |= reaches;
        direction.missed |= !reaches;
    }
    let mut drafts = Vec::new();
    for ((kind, source, target), there) in &directions {
        let back = directions.get(&(*kind, target.clone(), source.clone()));
        if there.reached && !there.missed && back.is_some_and(|back| back.missed) {
            let evidence = format!(
                "{source} reaches {target}, but {target} does not reach {source} ({})",
                kind.as_str()
            );
            let both = [source.clone(), target.clone()];
            drafts.push(Draft::new(Code::OneWay, both.clone(), evidence).seen_by(both));
        }
    }
    drafts
}

/// Domains, detours and pairs whose directions differ, all from the same distances.
pub(super) fn latency(seen: &Seen<'_>) -> Vec<Draft> {
    let core = seen.with_role(&[Role::Coderd, Role::Postgres, Role::Standby]);
    let nodes: BTreeSet<_> = core.iter().map(|index| seen.name(*index)).collect();
    let enough = |samples, span| samples >= seen.limits.samples && span >= seen.limits.span;
    let solid = seen.ways.iter().filter(|(_, way)| enough(way.measured.samples, way.measured.span));
    let ways: Vec<_> = solid
        .map(|((a, b), way)| Way { source: seen.name(*a), target: seen.name(*b), min: way.measured.min })
        .collect();
    let primary = seen.with_role(&[Role::Postgres]).first().map(|index| seen.name(*index));
    let limits = domains::Limits { budget: seen.limits.budget, same_site: seen.limits.same_site };
    let found = domains(&nodes, &ways, primary.as_deref(), &limits);
    let mut drafts = Vec::new();
    if let Some(node) = found.to_move.first() {
        let known = |a: &str, b: &str| {
            let both = ways
                .iter()
                .filter(|way| (way.source == a && way.target == b) || (way.source == b && way.target == a));
            both.map(|way| way.min).min()
        };
        let far = found.home.iter().filter_map(|other| known(node, other).map(|min| (min, other))).max();
        let far =
            far.map_or_else(String::new, |(min, other)| format!("; {node} is {} from {other}", ms(min)));
        let instead = found
            .or_move
            .as_ref()
            .map_or_else(String::new, |nodes| format!("; moving {} instead would do too", listed(nodes)));
        let evidence = format!(
            "only {} are all below {} of each other, {} would have to move{far}{instead}",
            listed(&found.home),
            ms(seen.limits.budget),
            listed(&found.to_move)
        );
        drafts.push(Draft::new(Code::LatencyDomains, found.to_move.clone(), evidence));
    }
    for detour in found.detours.iter().take(MOST) {
        let (a, b) = &detour.pair;
        let evidence = format!(
            "{a} and {b} are {} apart, and would be {} by way of {}",
            ms(detour.direct),
            ms(detour.around),
            detour.via
        );
        drafts.push(Draft::new(Code::Detour, [a.clone(), b.clone()], evidence));
    }
    for pair in found.lopsided.iter().take(MOST) {
        let evidence = format!(
            "{} sees {} at {}, the other way round it is {}",
            pair.fast,
            pair.slow,
            ms(pair.min.0),
            ms(pair.min.1)
        );
        drafts.push(Draft::new(Code::Lopsided, [pair.fast.clone(), pair.slow.clone()], evidence));
    }
    drafts
}

/// A provisioner may be as far away as it likes, as long as somebody reaches it.
pub(super) fn provisioner_unreachable(seen: &Seen<'_>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for index in seen.with_role(&[Role::Provisioner]) {
        let to_it = |target: &str| seen.servers_called(target).contains(&index);
        let rows: Vec<_> = seen.topology.rows.iter().filter(|row| to_it(&row.target)).collect();
        let missed: Vec<_> =
            rows.iter().filter(|row| row.reaches() == Some(false)).map(|row| row.source.clone()).collect();
        if !missed.is_empty() && rows.iter().all(|row| row.reaches() != Some(true)) {
            let name = seen.name(index);
            let evidence = format!("{name} answers none of {}", listed(&missed));
            drafts.push(Draft::new(Code::ProvisionerUnreachable, [name], evidence).seen_by(missed));
        }
    }
    drafts
}
