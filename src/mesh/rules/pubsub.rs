//! Rules about how news gets from one replica to the others.
//!
//! Figures of PostgreSQL's way count where a replica's news takes it. Where it does not, or nobody knows, they are
//! information: that replicas come and go, and licences, is told through PostgreSQL in any case.

use super::seen::Seen;
use super::{Code, Draft, listed};
use crate::mesh::cause::ms;
use crate::mesh::place::policy::Severity;
use crate::mesh::pubsub::{Carrier, Figures, Path};
use crate::mesh::state::State;

fn path(seen: &Seen<'_>) -> Path {
    Path::of(seen.coderd().into_iter().map(|index| seen.servers[index].carrier))
}

pub(super) fn mixed(seen: &Seen<'_>) -> Vec<Draft> {
    if path(seen) != Path::Mixed {
        return Vec::new();
    }
    let with = |carrier| -> Vec<_> {
        let coderd = seen.coderd().into_iter().filter(|index| seen.servers[*index].carrier == Some(carrier));
        coderd.map(|index| seen.name(index)).collect()
    };
    let (nats, postgres) = (with(Carrier::Nats), with(Carrier::Postgres));
    let evidence = format!(
        "NATS: {}; PostgreSQL: {}. The ones do not hear the news of the others",
        listed(&nats),
        listed(&postgres)
    );
    vec![Draft::new(Code::PubsubMixed, postgres, evidence)]
}

pub(super) fn broken(seen: &Seen<'_>) -> Vec<Draft> {
    let Some(pubsub) = &seen.topology.pubsub else { return Vec::new() };
    if pubsub.own.state != State::Unreachable {
        return Vec::new();
    }
    let (times, failure) = &pubsub.own.silence;
    let why = failure.as_ref().map_or_else(String::new, |failure| format!(": {failure}"));
    let evidence =
        format!("the last {times} notifications of this agent did not reach it through PostgreSQL{why}");
    vec![judged(seen, Code::PubsubBroken, evidence)]
}

pub(super) fn slow(seen: &Seen<'_>) -> Vec<Draft> {
    let Some(pubsub) = &seen.topology.pubsub else { return Vec::new() };
    let slow = |figures: &Figures| figures.median.filter(|_| figures.state == State::Breach);
    let mut parts = Vec::new();
    if let Some(median) = slow(&pubsub.own) {
        let samples = pubsub.own.samples;
        parts.push(format!("a notification takes {} to get here (median of {samples})", ms(median)));
    }
    let peers = pubsub.peers.iter().filter_map(|(name, figures)| Some((name, slow(figures)?)));
    let peers: Vec<_> = peers.map(|(name, median)| format!("{} to {name} and back", ms(median))).collect();
    if !peers.is_empty() {
        parts.push(listed(&peers));
    }
    if parts.is_empty() {
        return Vec::new();
    }
    vec![judged(seen, Code::PubsubSlow, parts.join("; "))]
}

fn judged(seen: &Seen<'_>, code: Code, mut evidence: String) -> Draft {
    let path = path(seen);
    match path {
        Path::Nats => evidence.push_str(". The news of replicas goes by NATS, which this does not touch"),
        Path::Unknown => evidence.push_str(". Whether the news of replicas goes this way is not known"),
        Path::Postgres | Path::Mixed => {}
    }
    let own = &seen.topology.own.agent;
    let at_most = if path.needs_postgres() { Severity::Fail } else { Severity::Info };
    Draft::new(code, [own.clone()], evidence).seen_by([own.clone()]).at_most(at_most)
}
