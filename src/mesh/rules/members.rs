//! Rules about who is there: how many, on which machines, which version, seen by whom.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::seen::Seen;
use super::{Code, Draft, listed};
use crate::mesh::cause::ms;
use crate::mesh::peer::Role;
use crate::mesh::roster::Status;

/// So many replicas of coderd there should be at least.
pub const FEW_CODERD: usize = 3;
/// And so many at most.
pub const MANY_CODERD: usize = 9;
/// Coder takes a replica for dead after 15 s without a heartbeat, by the clocks of two machines.
const SKEW_MS: u64 = 1000;

pub(super) fn blind(seen: &Seen<'_>) -> Vec<Draft> {
    if !seen.coderd().is_empty() {
        return Vec::new();
    }
    let reasons = seen.topology.blind.join("; ");
    let reasons = if reasons.is_empty() { "no source of discovery told of any".to_owned() } else { reasons };
    vec![Draft::new(Code::Blind, [], format!("not one replica of coderd is known: {reasons}"))]
}

pub(super) fn few_coderd(seen: &Seen<'_>) -> Vec<Draft> {
    let coderd = seen.coderd();
    if !seen.topology.all_coderd || coderd.is_empty() || coderd.len() >= FEW_CODERD {
        return Vec::new();
    }
    let names: Vec<_> = coderd.iter().map(|index| seen.name(*index)).collect();
    let unready = coderd.iter().filter(|index| seen.servers[**index].status == Status::NotReady).count();
    let unready = if unready > 0 { format!(", {unready} of them not ready") } else { String::new() };
    let evidence = format!("{} of coderd: {}{unready}", counted(names.len(), "replica"), listed(&names));
    vec![Draft::new(Code::FewCoderd, names, evidence)]
}

pub(super) fn many_coderd(seen: &Seen<'_>) -> Vec<Draft> {
    let count = seen.coderd().len();
    let evidence = format!("{count} replicas of coderd; every one of them talks to all others");
    (count > MANY_CODERD).then(|| Draft::new(Code::ManyCoderd, [], evidence)).into_iter().collect()
}

pub(super) fn shared_node(seen: &Seen<'_>) -> Vec<Draft> {
    let mut nodes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for index in seen.coderd() {
        if let Some(node) = &seen.servers[index].node {
            nodes.entry(node).or_default().push(seen.name(index));
        }
    }
    let shared = nodes.into_iter().filter(|(_, names)| names.len() > 1);
    shared
        .map(|(node, names)| {
            let evidence = format!("{} run on {node}: when it goes, they all do", listed(&names));
            Draft::new(Code::SharedNode, names, evidence)
        })
        .collect()
}

pub(super) fn single_zone(seen: &Seen<'_>) -> Vec<Draft> {
    let coderd = seen.coderd();
    if !seen.topology.all_coderd || coderd.len() < 2 {
        return Vec::new();
    }
    let zones = |index: &usize| &seen.places[*index].zones;
    let first = zones(&coderd[0]);
    let common = first.iter().find(|zone| coderd.iter().all(|index| zones(index).contains(*zone)));
    let names = coderd.iter().map(|index| seen.name(*index));
    common
        .map(|zone| {
            let evidence = format!("all {} replicas of coderd are in {zone}", coderd.len());
            Draft::new(Code::SingleZone, names, evidence)
        })
        .into_iter()
        .collect()
}

pub(super) fn unwatched(seen: &Seen<'_>) -> Vec<Draft> {
    let unwatched = seen.coderd().into_iter().filter(|index| seen.servers[*index].watched_by.is_empty());
    let names: Vec<_> = unwatched.map(|index| seen.name(index)).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let evidence = format!(
        "no agent stands beside {}, so their links are measured from one side at most",
        listed(&names)
    );
    vec![Draft::new(Code::UnwatchedReplica, names, evidence)]
}

pub(super) fn mixed_versions(seen: &Seen<'_>) -> Vec<Draft> {
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for index in seen.with_role(&[Role::Coderd, Role::Proxy]) {
        let version = seen.servers[index].version.as_deref().map(|version| version.trim_start_matches('v'));
        if let Some(version) = version.filter(|version| !version.is_empty()) {
            versions.entry(version).or_default().push(seen.name(index));
        }
    }
    if versions.len() < 2 {
        return Vec::new();
    }
    let most = versions.values().map(Vec::len).max().unwrap_or_default();
    let groups = versions.iter().map(|(version, names)| format!("{version}: {}", listed(names)));
    let evidence = groups.collect::<Vec<_>>().join("; ");
    // Whoever is not with the most; all, where there is no most.
    let minority: Vec<_> = versions.values().filter(|names| names.len() < most).flatten().cloned().collect();
    let subjects = if minority.is_empty() { versions.into_values().flatten().collect() } else { minority };
    vec![Draft::new(Code::MixedVersions, subjects, evidence)]
}

pub(super) fn clock_skew(seen: &Seen<'_>) -> Vec<Draft> {
    let wrong = seen.servers.iter().filter(|server| server.clock_ahead_ms.unsigned_abs() >= SKEW_MS);
    wrong
        .map(|server| {
            let way = if server.clock_ahead_ms > 0 { "ahead of" } else { "behind" };
            let by = ms(Duration::from_millis(server.clock_ahead_ms.unsigned_abs()));
            let evidence = format!("the clock of {} is at least {by} {way} the database's", server.name);
            Draft::new(Code::ClockSkew, [server.name.clone()], evidence)
        })
        .collect()
}

pub(super) fn shared_relay(seen: &Seen<'_>) -> Vec<Draft> {
    let mut relays: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for index in seen.coderd() {
        let relay = seen.servers[index].relay.as_deref().map(str::trim);
        if let Some(relay) = relay.filter(|relay| !relay.is_empty()) {
            relays.entry(relay).or_default().insert(seen.name(index));
        }
    }
    let shared = relays.into_values().filter(|names| names.len() > 1);
    shared
        .map(|names| {
            let names: Vec<_> = names.into_iter().collect();
            let evidence = format!(
                "{} give one relay address, so what is meant for one of them may reach another",
                listed(&names)
            );
            Draft::new(Code::SharedRelay, names, evidence)
        })
        .collect()
}

/// Coder names a daemon within coderd by its host and a number. It builds workspaces where coderd should answer requests,
/// which does not matter in a small deployment.
pub(super) fn built_in_provisioners(seen: &Seen<'_>) -> Vec<Draft> {
    let coderd = seen.coderd();
    if coderd.len() < FEW_CODERD {
        return Vec::new();
    }
    let names: Vec<_> = coderd.iter().map(|index| seen.name(*index)).collect();
    let is_builtin = |name: &str| {
        let number = |host: &String| name.strip_prefix(host.as_str())?.strip_prefix('-');
        names
            .iter()
            .filter_map(number)
            .any(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let builtin: Vec<_> =
        seen.with_role(&[Role::Provisioner]).into_iter().map(|index| seen.name(index)).collect();
    let builtin: Vec<_> = builtin.into_iter().filter(|name| is_builtin(name)).collect();
    if builtin.is_empty() {
        return Vec::new();
    }
    let evidence = format!("{} run within coderd", listed(&builtin));
    vec![Draft::new(Code::BuiltInProvisioners, builtin, evidence)]
}

pub(super) fn no_disruption_budget(seen: &Seen<'_>) -> Vec<Draft> {
    let missing = seen.topology.deployment.disruption_budget == Some(false);
    let draft = || Draft::new(Code::NoDisruptionBudget, [], "no disruption budget covers coderd");
    missing.then(draft).into_iter().collect()
}

pub(super) fn health_threshold(seen: &Seen<'_>) -> Vec<Draft> {
    let late = seen.topology.deployment.health_threshold.filter(|threshold| *threshold > seen.limits.budget);
    late.map(|threshold| {
        let evidence = format!(
            "Coder's health page calls the database slow from {} on, the budget ends at {}",
            ms(threshold),
            ms(seen.limits.budget)
        );
        Draft::new(Code::HealthThreshold, [], evidence)
    })
    .into_iter()
    .collect()
}

fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("one {thing}") } else { format!("{count} {thing}s") }
}
