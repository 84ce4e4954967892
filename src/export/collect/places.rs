//! Where everybody stands, for the information metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Scene, Sheet, table, word};
use crate::mesh::neighbours::Stance;
use crate::mesh::peer::Role;
use crate::mesh::place::Place;
use crate::mesh::region::{Atlas, written};
use crate::mesh::roster::Member;
use crate::mesh::rules::input::servers;

/// What is known of one of them. What nobody knows is empty.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) node: Arc<str>,
    pub(super) zone: Arc<str>,
    pub(super) region: Arc<str>,
    pub(super) by: Arc<str>,
}

/// Everybody by each name that links may have for them.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<String, Arc<Known>>);

impl Places {
    pub(super) fn of(members: &[Member], atlas: &Atlas) -> Self {
        let mut all = BTreeMap::new();
        // Servers first: an agent's own name goes to the agent.
        for server in servers(members) {
            let known = Arc::new(known(server.node.as_deref(), &Place::weigh(&server.claims, atlas)));
            for name in std::iter::once(&server.name).chain(&server.known_as) {
                all.entry(name.clone()).or_insert_with(|| Arc::clone(&known));
            }
        }
        for agent in members.iter().filter(|member| member.is_agent()) {
            let place = Place::weigh(&agent.facts.claims, atlas);
            all.insert(agent.name.clone(), Arc::new(known(agent.facts.node.as_deref(), &place)));
        }
        Self(all)
    }

    pub(super) fn get(&self, names: &[&str]) -> Option<&Known> {
        names.iter().find_map(|name| self.0.get(*name)).map(|known| &**known)
    }
}

fn known(node: Option<&str>, place: &Place) -> Known {
    Known {
        node: word(node.unwrap_or_default()),
        zone: word(place.zones.first().map_or("", String::as_str)),
        region: word(&place.region.as_ref().map(written).unwrap_or_default()),
        by: word(if place.region.is_some() { &place.by } else { "" }),
    }
}

pub(super) fn collect(sheet: &mut Sheet, scene: &Scene<'_>, places: &Places) {
    let own = scene.links.own();
    let found = places.get(&[&own.name]).cloned().unwrap_or_default();
    let told = |said: Option<&str>, found: Arc<str>| said.map_or(found, word);
    let stance = match scene.stance {
        Stance::Active(_) => "active",
        Stance::Idle => "idle",
    };
    let labels = vec![
        word(&own.name),
        word(own.role.map_or("", Role::as_str)),
        word(stance),
        told(own.node.as_deref(), found.node),
        told(own.zone.as_deref(), found.zone),
        told(own.region.as_deref(), found.region),
    ];
    sheet.gauge(&table::AGENT_INFO, labels, 1.0);
}
