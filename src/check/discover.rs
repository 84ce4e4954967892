//! One look at who is there, before the targets are measured.

use std::collections::BTreeSet;
use std::time::Duration;

use probes::Target;
use probes::target::Kind;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::agent::found::Ourselves;
use crate::agent::paths;
use crate::discovery::coder::relay_address;
use crate::discovery::{News, Settings, Sources};
use crate::mesh::database::Known;
use crate::mesh::neighbours::{Stance, Stances};
use crate::mesh::peer::{Link, Role};
use crate::mesh::pubsub::{self, Path};
use crate::mesh::report::{Look, Warning};
use crate::mesh::roster::{Member, Roster, Source, Status, beside};
use crate::mesh::rules::gather::topology;
use crate::mesh::rules::input::Row;
use crate::mesh::rules::{self, Book, TopologyFinding, Vantage};
use crate::mesh::state::State;

/// A source that has told nothing by then will not be waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Agents answer the question who is there one after another; after such a silence all have.
const ALL_ANSWERED: Duration = Duration::from_secs(3);

/// What a check is called where agents have names.
const VANTAGE: &str = "check";

/// What one look found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) targets: Vec<(Link, Target)>,
    pub(super) notes: Vec<Warning>,
    /// A source could not tell, so there may be more.
    pub(super) failed: bool,
    members: Vec<Member>,
    asked_coder: bool,
    database: Option<Known>,
}

impl Found {
    /// What the news of replicas goes by, where Coder's database was asked.
    pub(super) fn pubsub(&self) -> Option<Path> {
        self.asked_coder.then(|| pubsub::path(&self.members))
    }

    /// What is wrong with who stands where, and with the paths that were measured. One look knows no time, so a roll-out may
    /// show in it.
    pub(super) fn topology(&self, looks: &[Look]) -> Vec<TopologyFinding> {
        if self.members.is_empty() {
            return Vec::new();
        }
        let own = Vantage { agent: VANTAGE.to_owned(), ..Vantage::default() };
        let database = self.database.as_ref().map(|known| (known, Vec::new(), Duration::ZERO));
        let blind = self.notes.iter().map(|note| note.text.clone()).collect();
        // What an agent only announced, as anybody may who may log in to the database, is no proof of where it stands.
        let mut members = self.members.clone();
        let only_announced = |member: &&mut Member| {
            member.is_agent() && member.sources.iter().all(|source| *source == Source::Presence)
        };
        for agent in members.iter_mut().filter(only_announced) {
            (agent.facts.claims, agent.facts.node) = (Vec::new(), None);
        }
        let rows = looks.iter().map(row).collect();
        let topology = topology(own, &members, rows, database, blind);
        let Book { atlas, severities, limits, .. } = Book::default();
        rules::findings(&topology, &atlas, &limits, &severities)
    }
}

/// What was measured, as a rule sees it. One reply is enough to say that the target may be reached.
fn row(look: &Look) -> Row {
    let (view, is_postgres) = (look.series.window.all(), look.link.kind == Kind::Postgres);
    let min = if is_postgres { view.network().min() } else { view.rtt().min() };
    let state = match (view.rtt().is_empty(), view.main_failure()) {
        (false, _) => State::Ok,
        (true, Some(_)) => State::Unreachable,
        (true, None) => State::Unknown,
    };
    Row {
        source: VANTAGE.to_owned(),
        target: look.link.target.clone(),
        kind: look.link.kind,
        state,
        reason: view.main_failure().map_or_else(String::new, |(_, reason)| reason.as_str().to_owned()),
        min,
        samples: view.judged(),
        span: look.progress.elapsed,
    }
}

/// Looks once. Peers can be measured only by who has an identity in the mesh.
pub(super) async fn look(settings: &Settings, has_identity: bool) -> Found {
    let (telling, mut news) = mpsc::channel(64);
    // One look asks nobody how long a notification takes.
    let (_asking, peers) = watch::channel(None);
    let (_wanted, database) = watch::channel(true);
    let sources = Sources::start(settings, &telling, &peers, database);
    drop(telling);
    let (mut roster, mut found) = (Roster::default(), Found::default());
    let (mut told, mut expected) = (BTreeSet::new(), settings.sources());
    if expected.contains(&Source::Coder) {
        // The agents are asked through the same connection.
        expected.insert(Source::Presence);
    }
    let gather = async {
        loop {
            let patience = if told.is_superset(&expected) { ALL_ANSWERED } else { PATIENCE };
            let Ok(Some(item)) = timeout(patience, news.recv()).await else { return };
            match item {
                News::Seen(source, sightings) => {
                    roster.hear(source, sightings, Duration::ZERO);
                    told.insert(source);
                }
                News::Failed(source, error) => {
                    found.failed = true;
                    let text = format!("{}: {error}", source.as_str());
                    found.notes.push(Warning { code: "discovery_failed", text });
                    told.insert(source);
                    if source == Source::Coder {
                        told.insert(Source::Presence);
                    }
                }
                News::Database(facts) => {
                    roster.hear(Source::Postgres, facts.sightings(), Duration::ZERO);
                    found.database = Some(Known::hear(found.database.take(), facts, Duration::ZERO));
                }
                News::Cloud(_) | News::Pubsub(_) => {}
                News::Blind(source, what) => {
                    let text = format!("{}: {what}", source.as_str());
                    found.notes.push(Warning { code: "discovery_blind", text });
                }
            }
        }
    };
    // However much is told, this look has an end.
    let in_time = timeout(2 * PATIENCE, gather).await.is_ok();
    drop(news);
    sources.stop(Duration::from_secs(1)).await;
    let has_told = in_time && told.is_superset(&expected);
    if !found.failed && !has_told {
        found.failed = true;
        let text = "no source told in time who is there".to_owned();
        found.notes.push(Warning { code: "discovery_failed", text });
    }
    found.members = roster.members();
    found.asked_coder = settings.coder.is_some();
    let (targets, unreached) = self::targets(&found.members, has_identity);
    found.targets = targets;
    for name in unreached {
        found.failed = true;
        let text =
            format!("{name}: no agent answers beside it, and its relay address may not be read or is none");
        found.notes.push(Warning { code: "discovery_failed", text });
    }
    found
}

/// Agents by an echo, replicas without an agent beside them by a connect to their relay, and the paths that Coder's own
/// traffic takes.
fn targets(members: &[Member], has_identity: bool) -> (Vec<(Link, Target)>, Vec<String>) {
    // A check answers nowhere, so nobody is itself.
    let addresses = BTreeSet::new();
    let own = Ourselves { name: "", port: None, addresses: &addresses, stance: Stance::Active(None) };
    let stances = Stances::of(members);
    let alive = |member: &&Member| member.facts.status == Status::Alive;
    let (mut targets, mut watched, mut unreached) = (Vec::new(), BTreeSet::new(), Vec::new());
    for member in members.iter().filter(alive).filter(|_| has_identity) {
        if let Some(target) = own.link_to(member, &stances) {
            watched.extend(beside(&member.facts, members).into_iter().map(|server| &server.facts.key));
            targets.push(target);
        }
    }
    for replica in members.iter().filter(alive) {
        let is_replica = replica.facts.role == Some(Role::Coderd) && !replica.is_agent();
        let relay = replica.facts.relay.as_deref().and_then(relay_address);
        if !is_replica || watched.contains(&replica.facts.key) {
            continue;
        }
        match relay {
            Some(address) => {
                let link = Link::to(replica.name.clone(), Kind::Tcp, replica.facts.role);
                targets.push((link, Target::Tcp(address)));
            }
            None => unreached.push(replica.name.clone()),
        }
    }
    let servers = members.iter().filter(alive).filter(|member| !member.is_agent());
    targets.extend(servers.flat_map(paths::to));
    (targets, unreached)
}
