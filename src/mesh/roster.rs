//! Who is there: what the sources of discovery saw, merged into one list, each fact with where it comes from.
//!
//! A source tells all it sees now ([`Sighting`]s), and what it told before is replaced by it. A source that fails changes
//! nothing: an error is no proof that anybody left. Sightings of one thing by several sources become one [`Member`], joined
//! by name, address or host name; an agent belongs to the server that it stands beside, joined by address, host name or node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use probes::target::HostPort;
use serde::Serialize;

use super::peer::Role;
use super::pubsub::Carrier;

/// Where a fact comes from. The order is that of belief where two sources differ on what something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Flags, environment or the configuration file.
    Fixed,
    /// What a peer said of itself over its authenticated connection.
    Exchange,
    /// Coder's own tables.
    Coder,
    /// An agent's announcement through PostgreSQL, which anybody may make who may log in there.
    Presence,
    /// The API of Kubernetes.
    Kubernetes,
    /// PostgreSQL's own view of its replication.
    Postgres,
    /// The cloud's metadata service, or the pattern of a host name.
    Cloud,
    /// A name in DNS.
    Dns,
}

impl Source {
    /// The stable word of this source.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Coder => "coder",
            Self::Presence => "presence",
            Self::Exchange => "exchange",
            Self::Kubernetes => "kubernetes",
            Self::Postgres => "postgres",
            Self::Cloud => "cloud",
            Self::Dns => "dns",
        }
    }
}

/// How something is doing by its source's account, not by our measurements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is there.
    #[default]
    Alive,
    /// It is there and not ready to serve.
    NotReady,
    /// It said that it stops, or it is being stopped.
    Leaving,
}

/// A region as a source names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RegionName {
    /// `aws`, `gcp`, `azure` or another word; `None` where nobody said.
    pub provider: Option<String>,
    /// As the provider writes it.
    pub region: String,
}

/// Somebody's statement about where something stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Claim {
    /// 4: the cloud itself; 3: labels and host names set by machines; 2: people. See docs/findings.md.
    pub trust: u8,
    /// Who says so, in words: `node label`, `IMDS`, `--region`.
    pub by: String,
    /// The region.
    pub region: RegionName,
    /// The zone. Of AWS, names differ between accounts, so only ids can be compared.
    pub zone: Option<String>,
}

/// What one source sees of one thing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sighting {
    /// Names it within its source, and stays: a replica's id, a pod's name.
    pub key: String,
    /// What it is; `None` where the source cannot tell.
    pub role: Option<Role>,
    /// An agent's name in the mesh.
    pub agent: Option<String>,
    /// Where an agent answers echoes. Whoever has one is an agent.
    pub reflectors: Vec<HostPort>,
    /// The host's own name, which in a pod is the pod's.
    pub host_name: Option<String>,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The machine.
    pub node: Option<String>,
    /// Where it stands.
    pub claims: Vec<Claim>,
    /// coderd: where the other replicas reach its relay.
    pub relay: Option<String>,
    /// coderd: where the other replicas' NATS reaches it.
    pub nats: Option<HostPort>,
    /// coderd: what its news goes by; `None` where that may not be read.
    pub carrier: Option<Carrier>,
    /// Its version.
    pub version: Option<String>,
    /// How it is doing.
    pub status: Status,
    /// How far its clock is ahead of the database's (negative: behind), at least this much; zero when that cannot be told.
    pub clock_ahead_ms: i64,
}

/// One thing that is there, by all sources together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it is called in reports: an agent's name, else the host's, else an address.
    pub name: String,
    /// What is known of it; where sources differ, the one that is believed most.
    pub facts: Sighting,
    /// Who has seen it.
    pub sources: BTreeSet<Source>,
}

impl Member {
    /// Whether an agent answers there.
    pub fn is_agent(&self) -> bool {
        !self.facts.reflectors.is_empty() || self.facts.agent.is_some()
    }
}

/// How a source is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    sightings: Vec<Sighting>,
    at: Option<Duration>,
    failure: Option<String>,
    /// The failure that was news last. A source that sees a part of what it should tells and fails in turns.
    said: Option<String>,
}

/// Everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    told: BTreeMap<Source, Told>,
}

impl Roster {
    /// A source sees these now, and nobody else. The answer is whether that is news.
    pub fn hear(&mut self, source: Source, mut sightings: Vec<Sighting>, now: Duration) -> bool {
        sightings.sort_by(|a, b| a.key.cmp(&b.key));
        let told = self.told.entry(source).or_default();
        let news = told.sightings != sightings;
        // Twice without a failure in between: it is well again.
        let said = told.said.take().filter(|_| told.failure.is_some());
        *told = Told { sightings, at: Some(now), failure: None, said };
        news
    }

    /// A source cannot tell. What it told last stays. The answer is whether it is the first time, or for another reason.
    pub fn fail(&mut self, source: Source, failure: &str) -> bool {
        let told = self.told.entry(source).or_default();
        let news = told.said.as_deref() != Some(failure);
        told.failure = Some(failure.to_owned());
        told.said.clone_from(&told.failure);
        news
    }

    /// A source is asked no more, so what it told says nothing. The answer is whether it had told anything.
    pub fn forget(&mut self, source: Source) -> bool {
        self.told.remove(&source).is_some_and(|told| !told.sightings.is_empty())
    }

    /// Where agents stand beside coderd by another's account than their own: their addresses, and those of coderd's own
    /// pods. An agent may say of itself what it likes.
    pub fn beside_coderd(&self) -> BTreeSet<IpAddr> {
        let is_hearsay = |source: &Source| matches!(source, Source::Exchange | Source::Presence);
        let told = self.told.iter().filter(|(source, _)| !is_hearsay(source));
        let all: Vec<_> = told.flat_map(|(_, told)| &told.sightings).collect();
        let is_agent = |seen: &Sighting| !seen.reflectors.is_empty() || seen.agent.is_some();
        let is_coderd = |seen: &Sighting| seen.role == Some(Role::Coderd);
        let replicas: Vec<_> = all.iter().filter(|seen| !is_agent(seen) && is_coderd(seen)).collect();
        let nodes: BTreeSet<_> = replicas.iter().filter_map(|replica| replica.node.as_ref()).collect();
        let mut found: BTreeSet<IpAddr> =
            replicas.iter().flat_map(|replica| &replica.addresses).copied().collect();
        for agent in all.iter().filter(|seen| is_agent(seen)) {
            let shares_node = agent.node.as_ref().is_some_and(|node| nodes.contains(node));
            if is_coderd(agent) || shares_node {
                let reflectors = agent.reflectors.iter().filter_map(|reflector| reflector.host.parse().ok());
                found.extend(agent.addresses.iter().copied().chain(reflectors));
            }
        }
        found.into_iter().map(|ip: IpAddr| ip.to_canonical()).collect()
    }

    /// How each source is doing: when it told last, and what keeps it from telling now.
    pub fn sources(&self) -> impl Iterator<Item = (Source, Option<Duration>, Option<&str>)> {
        self.told.iter().map(|(source, told)| (*source, told.at, told.failure.as_deref()))
    }

    /// Everybody, by name.
    pub fn members(&self) -> Vec<Member> {
        let mut groups: Vec<Vec<(Source, &Sighting)>> = Vec::new();
        for (source, told) in &self.told {
            for sighting in told.sightings.iter().filter(|sighting| !is_succeeded(sighting, &told.sightings))
            {
                // One that joins several groups makes them one.
                let (same, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| {
                    // One source does not see one thing twice.
                    group.iter().any(|(from, other)| from != source && are_one(other, sighting))
                });
                groups = others;
                let mut merged: Vec<_> = same.into_iter().flatten().collect();
                merged.push((*source, sighting));
                groups.push(merged);
            }
        }
        let mut members: Vec<_> = groups.into_iter().map(|group| merge(&group)).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.facts.key.cmp(&b.facts.key)));
        members
    }
}

/// Whether it has stopped and another one has taken its place, under its name or at its address: a pod that was restarted.
fn is_succeeded(sighting: &Sighting, all: &[Sighting]) -> bool {
    sighting.status == Status::Leaving
        && all.iter().any(|other| other.status != Status::Leaving && are_one(other, sighting))
}

/// Whether two sightings are of one thing: of agents with agents, and of servers of one kind with each other.
fn are_one(a: &Sighting, b: &Sighting) -> bool {
    let agents = |s: &Sighting| !s.reflectors.is_empty() || s.agent.is_some();
    if agents(a) != agents(b) {
        return false;
    }
    if agents(a) {
        // Whoever says its name is nobody else, wherever it says that it answers.
        return match (&a.agent, &b.agent) {
            (Some(a), Some(b)) => a == b,
            _ => a.reflectors.iter().any(|reflector| b.reflectors.contains(reflector)),
        };
    }
    // A server and its standby may share a machine, but not what they are.
    let same_kind = a.role.is_none() || b.role.is_none() || a.role == b.role;
    let same_host = a.host_name.is_some() && a.host_name == b.host_name;
    same_kind && (same_host || a.addresses.intersection(&b.addresses).next().is_some())
}

fn merge(group: &[(Source, &Sighting)]) -> Member {
    let mut group = group.to_vec();
    group.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.key.cmp(&y.key)));
    let mut facts = Sighting::default();
    let is_agent =
        group.iter().any(|(_, sighting)| sighting.agent.is_some() || !sighting.reflectors.is_empty());
    for (index, (_, sighting)) in group.iter().enumerate() {
        let first = |mine: &mut Option<String>, other: &Option<String>| {
            if mine.is_none() {
                mine.clone_from(other);
            }
        };
        if facts.key.is_empty() {
            facts.key.clone_from(&sighting.key);
        }
        facts.role = facts.role.or(sighting.role);
        first(&mut facts.agent, &sighting.agent);
        first(&mut facts.host_name, &sighting.host_name);
        first(&mut facts.node, &sighting.node);
        first(&mut facts.relay, &sighting.relay);
        first(&mut facts.version, &sighting.version);
        if facts.nats.is_none() {
            facts.nats.clone_from(&sighting.nats);
        }
        for reflector in &sighting.reflectors {
            if !facts.reflectors.contains(reflector) {
                facts.reflectors.push(reflector.clone());
            }
        }
        facts.addresses.extend(&sighting.addresses);
        facts.claims.extend(sighting.claims.iter().cloned());
        // An agent that writes to us is there, whoever says that it stops; of a server the gravest word counts.
        if !is_agent || index == 0 {
            facts.status = facts.status.max(sighting.status);
        }
        facts.carrier = facts.carrier.or(sighting.carrier);
        if facts.clock_ahead_ms == 0 {
            facts.clock_ahead_ms = sighting.clock_ahead_ms;
        }
    }
    let address = || facts.addresses.first().map(ToString::to_string);
    let reflector = || facts.reflectors.first().map(ToString::to_string);
    let name = facts.agent.clone().or_else(|| facts.host_name.clone()).or_else(reflector).or_else(address);
    Member {
        name: name.unwrap_or_else(|| facts.key.clone()),
        sources: group.iter().map(|(source, _)| *source).collect(),
        facts,
    }
}

/// The servers that this agent stands beside: in the same pod (address or host name), else on the same node.
pub fn beside<'a>(agent: &Sighting, members: &'a [Member]) -> Vec<&'a Member> {
    let servers = || members.iter().filter(|member| !member.is_agent());
    let closer: [&dyn Fn(&Member) -> bool; 3] = [
        &|server| server.facts.addresses.intersection(&agent.addresses).next().is_some(),
        &|server| agent.host_name.is_some() && server.facts.host_name == agent.host_name,
        &|server| agent.node.is_some() && server.facts.node == agent.node,
    ];
    let joined = closer.iter().map(|same| servers().filter(|server| same(server)).collect::<Vec<_>>());
    joined.into_iter().find(|found| !found.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> BTreeSet<IpAddr> {
        BTreeSet::from([IpAddr::from([10, 0, 0, last])])
    }

    fn replica(key: &str, last: u8) -> Sighting {
        Sighting {
            key: key.into(),
            role: Some(Role::Coderd),
            host_name: Some(key.into()),
            addresses: ip(last),
            ..Sighting::default()
        }
    }

    fn agent(name: &str, last: u8) -> Sighting {
        let reflector = HostPort { host: format!("10.0.0.{last}"), port: 9862 };
        Sighting {
            key: name.into(),
            agent: Some(name.into()),
            reflectors: vec![reflector],
            addresses: ip(last),
            ..Sighting::default()
        }
    }

    #[test]
    fn a_source_that_is_asked_no_more_has_told_nothing() {
        let mut roster = Roster::default();
        roster.hear(Source::Coder, vec![replica("coder-1", 1)], Duration::ZERO);
        roster.hear(Source::Kubernetes, vec![replica("coder-2", 2)], Duration::ZERO);
        assert!(roster.forget(Source::Coder));
        assert!(!roster.forget(Source::Coder));
        assert_eq!(roster.members().iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["coder-2"]);
        assert_eq!(roster.sources().count(), 1);
    }

    #[test]
    fn what_two_sources_see_of_one_replica_is_one_member_with_the_facts_of_both() {
        let mut roster = Roster::default();
        roster.hear(Source::Coder, vec![replica("coder-1", 1), replica("coder-2", 2)], Duration::ZERO);
        let mut pod = Sighting { node: Some("node-a".into()), ..replica("pod-1", 1) };
        pod.host_name = None;
        roster.hear(Source::Kubernetes, vec![pod], Duration::ZERO);
        let members = roster.members();
        assert_eq!(members.len(), 2);
        assert_eq!(members[0].name, "coder-1");
        assert_eq!(members[0].facts.node.as_deref(), Some("node-a"));
        assert_eq!(members[0].sources, BTreeSet::from([Source::Coder, Source::Kubernetes]));
        assert_eq!(members[1].sources, BTreeSet::from([Source::Coder]));
    }

    #[test]
    fn a_source_that_fails_forgets_nobody_and_one_that_tells_replaces_what_it_told() {
        let mut roster = Roster::default();
        assert!(roster.hear(Source::Coder, vec![replica("a", 1), replica("b", 2)], Duration::ZERO));
        assert!(!roster.hear(Source::Coder, vec![replica("b", 2), replica("a", 1)], Duration::from_secs(5)));
        assert!(roster.fail(Source::Coder, "no way there"));
        assert!(!roster.fail(Source::Coder, "no way there"), "said once");
        assert_eq!(roster.members().len(), 2);
        let told: Vec<_> = roster.sources().collect();
        assert_eq!(told, [(Source::Coder, Some(Duration::from_secs(5)), Some("no way there"))]);
        assert!(roster.hear(Source::Coder, vec![replica("a", 1)], Duration::from_secs(9)));
        assert!(
            !roster.fail(Source::Coder, "no way there"),
            "it sees a part, and fails on the rest in turns"
        );
        roster.hear(Source::Coder, vec![replica("a", 1)], Duration::from_secs(19));
        roster.hear(Source::Coder, vec![replica("a", 1)], Duration::from_secs(29));
        assert!(roster.fail(Source::Coder, "no way there"), "it was well in between");
        assert_eq!(roster.members().len(), 1);
    }

    #[test]
    fn an_agent_belongs_to_the_server_in_its_pod_or_else_to_those_on_its_node() {
        let mut roster = Roster::default();
        let on = |node: &str, sighting| Sighting { node: Some(node.into()), ..sighting };
        roster.hear(
            Source::Kubernetes,
            vec![on("n1", replica("c1", 1)), on("n1", replica("c2", 2)), on("n2", replica("c3", 3))],
            Duration::ZERO,
        );
        let members = roster.members();
        let names =
            |agent: &Sighting| beside(agent, &members).iter().map(|m| m.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&on("n1", agent("sidecar", 2))), ["c2"]);
        assert_eq!(names(&on("n1", agent("daemon", 77))), ["c1", "c2"]);
        let same_host = Sighting { host_name: Some("c3".into()), ..agent("vm", 78) };
        assert_eq!(names(&same_host), ["c3"]);
        assert_eq!(names(&on("n9", agent("far", 79))), Vec::<String>::new());
    }

    #[test]
    fn who_was_restarted_in_its_place_is_there_and_two_of_one_address_are_two() {
        let mut roster = Roster::default();
        let stopped = Sighting { status: Status::Leaving, version: Some("old".into()), ..replica("pod", 1) };
        let stopped = Sighting { key: "before".into(), ..stopped };
        roster.hear(Source::Coder, vec![stopped, replica("pod", 1)], Duration::ZERO);
        let members = roster.members();
        assert_eq!((members.len(), members[0].facts.status), (1, Status::Alive));
        assert_eq!(members[0].facts.version, None, "nothing of the one before");
        roster.hear(Source::Coder, vec![replica("a", 1), replica("b", 1)], Duration::ZERO);
        assert_eq!(
            roster.members().len(),
            2,
            "one relay address for two is a fault to be seen, not one replica"
        );
    }

    #[test]
    fn where_agents_stand_beside_coderd_is_told_by_others_than_themselves() {
        let on = |node: &str, sighting| Sighting { node: Some(node.into()), ..sighting };
        let liar = Sighting { role: Some(Role::Coderd), ..on("n1", agent("liar", 13)) };
        let mut roster = Roster::default();
        roster.hear(Source::Presence, vec![liar.clone(), replica("said", 14)], Duration::ZERO);
        roster.hear(Source::Exchange, vec![liar], Duration::ZERO);
        assert_eq!(roster.beside_coderd(), BTreeSet::new());
        let pods = vec![
            on("n1", replica("coder-1", 1)),
            on("n1", agent("probe-1", 11)),
            on("n2", agent("probe-2", 12)),
            on("n2", Sighting { role: Some(Role::Postgres), ..replica("db", 2) }),
        ];
        roster.hear(Source::Kubernetes, pods, Duration::ZERO);
        assert_eq!(roster.beside_coderd(), ip(1).union(&ip(11)).copied().collect());
        let named = Sighting { role: Some(Role::Coderd), ..agent("", 15) };
        roster.hear(Source::Dns, vec![Sighting { agent: None, ..named }], Duration::ZERO);
        assert!(
            roster.beside_coderd().contains(ip(15).first().unwrap()),
            "a name that was given with its role"
        );
    }

    #[test]
    fn nobody_is_hidden_by_somebody_who_claims_his_place() {
        let mut roster = Roster::default();
        let mut evil = agent("evil", 9);
        evil.reflectors.extend([agent("a", 1).reflectors[0].clone(), agent("b", 2).reflectors[0].clone()]);
        roster.hear(Source::Presence, vec![agent("a", 1), agent("b", 2), evil], Duration::ZERO);
        let names: Vec<_> = roster.members().into_iter().map(|member| member.name).collect();
        assert_eq!(names, ["a", "b", "evil"]);
        let bye = Sighting { status: Status::Leaving, ..agent("a", 1) };
        roster.hear(Source::Presence, vec![bye], Duration::ZERO);
        roster.hear(Source::Exchange, vec![agent("a", 1)], Duration::ZERO);
        assert_eq!(roster.members()[0].facts.status, Status::Alive, "it writes to us");
    }

    #[test]
    fn an_agent_is_never_taken_for_the_server_beside_it() {
        let mut roster = Roster::default();
        roster.hear(Source::Coder, vec![replica("c1", 1)], Duration::ZERO);
        roster.hear(Source::Presence, vec![agent("a1", 1)], Duration::ZERO);
        assert_eq!(roster.members().len(), 2);
    }
}
