//! What a stream begins with, and what has changed since (`GET /api/v1/stream`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Picture;
use super::events::{Event, IN_SNAPSHOT};
use super::findings::Finding;
use super::matrix::{Agent, Cell, Document, Target, Verdict, ZonePair};

/// Everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The whole mesh.
    #[serde(flatten)]
    pub matrix: Document,
    /// What is wrong with who stands where.
    pub findings: Vec<Finding>,
    /// What has happened, the newest first; not all that is kept.
    pub events: Vec<Event>,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// When it was so.
    pub generated_at: String,
    /// Always the whole of it.
    pub verdict: Verdict,
    /// Changed or new. That it wrote again is a change; that time goes by is none.
    #[serde(default)]
    pub agents: Vec<Agent>,
    /// Changed or new.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// Changed or new.
    #[serde(default)]
    pub cells: Vec<Cell>,
    /// All of them, where any has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_pairs: Option<Vec<ZonePair>>,
    /// What is no more.
    pub gone: Gone,
    /// All of them, where any has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Vec<Finding>>,
    /// What has happened since, the oldest first.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// What is no more, by what tells it from others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Names.
    pub agents: Vec<String>,
    /// Name and kind.
    pub targets: Vec<(String, String)>,
    /// Source, kind and target.
    pub cells: Vec<(String, String, String)>,
}

impl Snapshot {
    /// Of this picture.
    pub fn of(picture: &Picture) -> Self {
        Self {
            matrix: picture.matrix.clone(),
            findings: picture.findings.clone(),
            events: picture.events.iter().take(IN_SNAPSHOT).map(|event| Event::of(event)).collect(),
        }
    }

    /// Brings it up to date.
    pub fn apply(&mut self, delta: Delta) {
        let matrix = &mut self.matrix;
        matrix.generated_at = delta.generated_at;
        matrix.verdict = delta.verdict;
        let own = |agent: &Agent| agent.name.clone();
        replace(&mut matrix.agents, delta.agents, &delta.gone.agents, own);
        let own = |target: &Target| (target.name.clone(), target.kind.clone());
        replace(&mut matrix.targets, delta.targets, &delta.gone.targets, own);
        let own = |cell: &Cell| (cell.source.clone(), cell.kind.clone(), cell.target.clone());
        replace(&mut matrix.cells, delta.cells, &delta.gone.cells, own);
        if let Some(zone_pairs) = delta.zone_pairs {
            matrix.zone_pairs = zone_pairs;
        }
        if let Some(findings) = delta.findings {
            self.findings = findings;
        }
        self.events.splice(..0, delta.events.into_iter().rev());
        self.events.truncate(IN_SNAPSHOT);
    }
}

fn replace<T, K: Ord>(all: &mut Vec<T>, changed: Vec<T>, gone: &[K], key: impl Fn(&T) -> K) {
    let old = std::mem::take(all).into_iter().map(|one| (key(&one), one));
    let mut kept: BTreeMap<K, T> = old.filter(|(key, _)| !gone.contains(key)).collect();
    kept.extend(changed.into_iter().map(|one| (key(&one), one)));
    all.extend(kept.into_values());
}

impl Delta {
    /// What has changed from one picture to a later one; `None` where nothing has.
    pub fn between(before: &Picture, now: &Picture) -> Option<Self> {
        let (old, new) = (&before.matrix, &now.matrix);
        let name = |agent: &Agent| agent.name.clone();
        let (agents, gone_agents) = changes(&old.agents, &new.agents, name, Agent::differs);
        let target = |target: &Target| (target.name.clone(), target.kind.clone());
        let (targets, gone_targets) = changes(&old.targets, &new.targets, target, |a, b| a != b);
        let pair = |cell: &Cell| (cell.source.clone(), cell.kind.clone(), cell.target.clone());
        let (cells, gone_cells) = changes(&old.cells, &new.cells, pair, |a, b| a != b);
        let known: BTreeSet<_> = before.events.iter().map(|event| event.id.as_str()).collect();
        let news = now.events.iter().take_while(|event| !known.contains(event.id.as_str()));
        let mut events: Vec<_> = news.map(|event| Event::of(event)).collect();
        events.reverse();
        let delta = Self {
            generated_at: new.generated_at.clone(),
            verdict: new.verdict.clone(),
            agents,
            targets,
            cells,
            zone_pairs: (old.zone_pairs != new.zone_pairs).then(|| new.zone_pairs.clone()),
            gone: Gone { agents: gone_agents, targets: gone_targets, cells: gone_cells },
            findings: (before.findings != now.findings).then(|| now.findings.clone()),
            events,
        };
        let is_same = delta.agents.is_empty()
            && delta.targets.is_empty()
            && delta.cells.is_empty()
            && delta.events.is_empty()
            && (&delta.zone_pairs, &delta.findings, &delta.gone) == (&None, &None, &Gone::default())
            && old.verdict == new.verdict;
        (!is_same).then_some(delta)
    }

    /// Whether the two are about one agent in one place, so that a delta tells all that is to be told.
    pub fn suffices(before: &Picture, now: &Picture) -> bool {
        let fixed = |picture: &Picture| {
            let Document { vantage, quantile, coder_warns_at_us, .. } = &picture.matrix;
            (vantage.clone(), quantile.to_bits(), coder_warns_at_us.to_bits())
        };
        before.life == now.life && fixed(before) == fixed(now)
    }
}

/// Those that are changed or new, and the keys of those that are no more.
fn changes<T: Clone, K: Ord>(
    old: &[T],
    new: &[T],
    key: impl Fn(&T) -> K,
    differ: impl Fn(&T, &T) -> bool,
) -> (Vec<T>, Vec<K>) {
    let mut before: BTreeMap<K, &T> = old.iter().map(|one| (key(one), one)).collect();
    let mut changed = Vec::new();
    for one in new {
        if before.remove(&key(one)).is_none_or(|known| differ(one, known)) {
            changed.push(one.clone());
        }
    }
    (changed, before.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;
    use crate::export::api::Anchor;
    use crate::export::events;
    use crate::mesh::matrix::{self, Matrix, Spot};
    use crate::mesh::state::State;
    use crate::mesh::whole::Row;
    use probes::target::Kind;

    /// A mesh of so many pairs, of which each has a median and a state; so much has happened.
    fn picture(age: u64, medians: &BTreeMap<(u8, u8), (u16, usize)>, told: usize) -> Picture {
        let name = |number: u8| format!("a{number}");
        let cells = medians.iter().map(|((from, to), (us, state))| matrix::Cell {
            source: name(*from),
            called: name(*to),
            stale: us % 7 == 0,
            lopsided: false,
            row: Row {
                target: name(*to),
                kind: if us % 2 == 0 { Kind::Peer } else { Kind::Tcp },
                role: None,
                state: State::ALL[*state],
                reason: "x".into(),
                budget: None,
                min: None,
                p50: Some(Duration::from_micros((*us).into())),
                p95: None,
                p99: None,
                samples: 9,
                lost: 0,
                since: Duration::from_secs(1),
                span: Duration::ZERO,
            },
        });
        let sources: BTreeSet<u8> = medians.keys().map(|(from, _)| *from).collect();
        let agents = sources.into_iter().map(|from| matrix::AgentLine {
            name: name(from),
            role: None,
            is_idle: false,
            spot: Spot::default(),
            version: "1".into(),
            // It wrote when it began, and never again.
            heard: Some(Duration::from_secs(age)),
            stale: false,
            starved: false,
            links: medians.keys().filter(|(other, _)| *other == from).count(),
            reflector: None,
        });
        let cells: Vec<_> = cells.collect();
        let targets: BTreeSet<_> =
            cells.iter().map(|cell| (cell.row.target.clone(), cell.row.kind)).collect();
        let line = |(name, kind)| matrix::TargetLine { name, kind, role: None, spot: Spot::default() };
        let matrix = Matrix {
            verdict: matrix::Verdict { state: State::Ok, since: None, words: "x".into() },
            agents: agents.collect(),
            targets: targets.into_iter().map(line).collect(),
            cells,
            zone_pairs: Vec::new(),
        };
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + age);
        let anchor = Anchor { age: Duration::from_secs(age), wall };
        let event = |number: usize| events::Event {
            id: format!("x-{number}"),
            at: wall,
            name: "coder.probe.agent.started".into(),
            gravity: events::Gravity::Info,
            body: "x".into(),
            attributes: Vec::new(),
        };
        Picture {
            number: age,
            life: "x".into(),
            matrix: Document::of(&matrix, "a0", 0.95, &anchor),
            placed: Vec::new(),
            findings: Vec::new(),
            events: (0..told).rev().map(|number| Arc::new(event(number))).collect(),
        }
    }

    fn without_time(mut snapshot: Snapshot) -> Snapshot {
        snapshot.matrix.agents.iter_mut().for_each(|agent| agent.heard_ago_us = None);
        snapshot.events.iter_mut().for_each(|event| event.at.clear());
        snapshot
    }

    fn mesh() -> impl Strategy<Value = BTreeMap<(u8, u8), (u16, usize)>> {
        proptest::collection::btree_map((0_u8..5, 0_u8..5), (0_u16..9, 0_usize..7), 0..20)
    }

    proptest! {
        #[test]
        fn a_snapshot_and_all_deltas_are_what_is_seen_now(
            meshes in proptest::collection::vec((mesh(), 0_usize..30), 1..6),
        ) {
            let (mut age, mut told) = (0, 0);
            let mut pictures = Vec::new();
            for (mesh, more) in &meshes {
                (age, told) = (age + 1, told + more);
                pictures.push(picture(age, mesh, told));
            }
            let mut shown = Snapshot::of(&pictures[0]);
            for two in pictures.windows(2) {
                if let Some(delta) = Delta::between(&two[0], &two[1]) {
                    shown.apply(delta);
                }
                shown.matrix.generated_at.clone_from(&two[1].matrix.generated_at);
            }
            let seen = Snapshot::of(pictures.last().unwrap());
            prop_assert_eq!(without_time(shown), without_time(seen));
        }
    }

    #[test]
    fn time_that_goes_by_is_no_change_and_a_letter_is() {
        let mesh = BTreeMap::from([((0, 1), (2, 0)), ((1, 0), (2, 0))]);
        let (before, mut now) = (picture(1, &mesh, 3), picture(2, &mesh, 3));
        assert_eq!(Delta::between(&before, &now), None);
        now.matrix.agents[1].heard_at = Some("later".into());
        let delta = Delta::between(&before, &now).unwrap();
        assert_eq!(delta.agents.iter().map(|agent| agent.name.as_str()).collect::<Vec<_>>(), ["a1"]);
        assert!(delta.cells.is_empty() && delta.zone_pairs.is_none() && delta.findings.is_none());
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_secret_of_the_house_is_in_it() {
        let mesh = BTreeMap::from([((0, 1), (2, 0))]);
        let snapshot = Snapshot::of(&picture(1, &mesh, 3));
        let text = serde_json::to_string(&snapshot).unwrap();
        let mut read: Snapshot = serde_json::from_str(&text).unwrap();
        assert!(!text.contains("called") && !text.contains("heard_at"));
        read.matrix.cells[0].called = "a1".into();
        read.matrix.agents[0].heard_at.clone_from(&snapshot.matrix.agents[0].heard_at);
        assert_eq!(read, snapshot);
    }
}
