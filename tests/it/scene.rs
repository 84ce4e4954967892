//! An agent's links after so many outcomes, for what is measured of their figures. `benches/export.rs` uses it as well.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use probe::export::collect::{Collector, OwnFigures, Scene, Settings};
use probe::export::metrics::Metrics;
use probe::export::standing::OwnTiming;
use probe::mesh::links::{Links, Rules};
use probe::mesh::meter::Meter;
use probe::mesh::neighbours::Stance;
use probe::mesh::peer::{Link, Own, Role};
use probe::mesh::pubsub::Pubsub;
use probe::mesh::region::Atlas;
use probe::mesh::roster::Member;
use probe::mesh::rules::held::Held;
use probes::sample::{Sample, Timing};
use probes::target::Kind;

/// Of these kinds so many each, with so many outcomes.
pub(crate) fn links(kinds: &[(Kind, usize)], outcomes: u64) -> Links {
    let own = Own { name: "coderd-1".into(), role: Some(Role::Coderd), ..Own::default() };
    let mut links = Links::new(own, Rules::default());
    let all: Vec<_> = kinds
        .iter()
        .flat_map(|(kind, count)| {
            let role = if *kind == Kind::Postgres { Role::Postgres } else { Role::Coderd };
            (0..*count).map(move |i| Link::to(format!("{}-{i}", kind.as_str()), *kind, Some(role)))
        })
        .collect();
    links.handle_roster(&all, Duration::ZERO);
    for id in 0..u32::try_from(all.len()).unwrap_or(u32::MAX) {
        for slot in 0..outcomes {
            let rtt = Duration::from_micros(400 + (slot * 7919 + u64::from(id)) % 300);
            let sample: Sample =
                Timing { rtt, server: Some(Duration::from_micros(40)), ..Timing::default() }.into();
            if let Some(watch) = links.get_mut(id) {
                watch.outcome(slot, &sample, Duration::from_secs(slot));
            }
        }
    }
    links
}

/// Their figures.
pub(crate) fn collect(links: &Links, settings: Settings) -> Metrics {
    collect_with(links, settings, &[], &[])
}

/// The same where these are known and this was found.
pub(crate) fn collect_with(
    links: &Links,
    settings: Settings,
    members: &[Member],
    findings: &[Held],
) -> Metrics {
    let (moves, events, pubsub) = (BTreeMap::new(), BTreeMap::new(), Pubsub::default());
    let (atlas, lateness) = (Atlas::built_in(), Meter::new(links.scale(), Duration::ZERO));
    let own = OwnFigures {
        timing: OwnTiming::default(),
        lateness: &lateness,
        cpu: None,
        memory_bytes: None,
        descriptors: None,
        reload_is_in_force: true,
        reloaded: SystemTime::UNIX_EPOCH,
        certificates: Vec::new(),
        handed_over: probe::export::otlp::tallies::Tallies::default(),
    };
    let scene = Scene {
        began: SystemTime::UNIX_EPOCH,
        taken: SystemTime::UNIX_EPOCH,
        now: Duration::from_secs(300),
        links,
        stance: Stance::Active(Some(Role::Coderd)),
        members,
        atlas: &atlas,
        findings: findings.iter().collect(),
        sources: Vec::new(),
        database: None,
        moves: &moves,
        pubsub: &pubsub,
        agents: 0,
        letters_dropped: 0,
        own: &own,
        events: &events,
    };
    Collector::new(settings).collect(&scene)
}
