//! What the rules look at: plain facts, from whichever door they came.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use probes::target::Kind;
use serde::Serialize;

use crate::mesh::database::Load;
use crate::mesh::peer::Role;
use crate::mesh::place::decide::Measured;
use crate::mesh::pubsub::{self, Carrier};
use crate::mesh::roster::{Claim, Member, RegionName, Source, Status, beside};
use crate::mesh::state::State;

/// Who saw something.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Vantage {
    /// The agent's name in the mesh.
    pub agent: String,
    /// Its host's name, which in a pod is the pod's.
    pub host: Option<String>,
    /// The machine.
    pub node: Option<String>,
}

/// Everything that is known at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Topology {
    /// Who looks.
    pub own: Vantage,
    /// The other agents.
    pub agents: Vec<Vantage>,
    /// Replicas, database servers, proxies, provisioners.
    pub servers: Vec<Server>,
    /// Whether a source has told that sees every replica of coderd. Without one, nobody knows how many there are.
    pub all_coderd: bool,
    /// The links of all agents.
    pub rows: Vec<Row>,
    /// What the databases say of themselves.
    pub databases: Vec<Database>,
    /// How long notifications take through PostgreSQL, where somebody measures that.
    pub pubsub: Option<pubsub::Standing>,
    /// How coderd is deployed.
    pub deployment: Deployment,
    /// What the sources of discovery cannot see, in words.
    pub blind: Vec<String>,
}

/// A server, joined with the agents beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// What it is called in reports.
    pub name: String,
    /// What it is.
    pub role: Option<Role>,
    /// What rows may call it beside its name: addresses, targets.
    pub known_as: BTreeSet<String>,
    /// The machine.
    pub node: Option<String>,
    /// Where it stands, by itself and by the agents beside it.
    pub claims: Vec<Claim>,
    /// A proxy: where the workspaces are that it serves.
    pub workspaces: Vec<RegionName>,
    /// Its version.
    pub version: Option<String>,
    /// How it is doing.
    pub status: Status,
    /// coderd: where the others reach its relay.
    pub relay: Option<String>,
    /// coderd: what its news goes by.
    pub carrier: Option<Carrier>,
    /// How far its clock is ahead, at least; zero when that cannot be told.
    pub clock_ahead_ms: i64,
    /// The agents beside it.
    pub watched_by: BTreeSet<String>,
    /// Those of them that share its address or its host's name, which is to say its pod: what they cannot reach, it
    /// cannot.
    pub shared_with: BTreeSet<String>,
}

/// One link as an agent sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The agent that measured.
    pub source: String,
    /// An agent, or a server by its name or by what it is known as.
    pub target: String,
    /// How it was measured.
    pub kind: Kind,
    /// How it stands; tells whether the source reaches the target at all.
    pub state: State,
    /// The word of its reason.
    pub reason: String,
    /// The fastest round trip.
    pub min: Option<Duration>,
    /// Of how many replies.
    pub samples: u32,
    /// Over how long.
    pub span: Duration,
}

impl Row {
    /// Whether the source reaches the target; `None` where that is not known.
    pub fn reaches(&self) -> Option<bool> {
        match self.state {
            State::Ok | State::AtRisk | State::Breach => Some(true),
            State::Unreachable => Some(false),
            State::Left | State::Unknown | State::Stale => None,
        }
    }

    /// What was measured. An echo and a query are answered by the end itself, a connect perhaps by something before it.
    pub fn measured(&self) -> Option<Measured> {
        let end_to_end = matches!(self.kind, Kind::Peer | Kind::Postgres);
        self.min.map(|min| Measured { min, samples: self.samples, span: self.span, end_to_end })
    }
}

/// What a database says of itself, through one connection string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Database {
    /// The server that the string leads to: its name, or what it is known as.
    pub name: String,
    /// What else it is known as, such as the addresses that its name leads to.
    pub known_as: BTreeSet<String>,
    /// Whether it is in recovery.
    pub standby: Option<bool>,
    /// Whether a session ends with its transaction.
    pub pooled: Option<bool>,
    /// Who follows it.
    pub standbys: Vec<Replication>,
    /// How full it is; `None` where nobody looked.
    pub load: Option<Load>,
    /// Where it stands, by host name and the like.
    pub claims: Vec<Claim>,
}

/// A standby as its primary sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replication {
    /// What it is called.
    pub name: String,
    /// How far it is behind; `None` when idle, or when we may not see it.
    pub lag: Option<Duration>,
    /// The most that a round trip from its primary takes, by the primary's own account.
    pub at_most: Option<Measured>,
}

/// How coderd is deployed; `None` where nobody looked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deployment {
    /// Whether a disruption budget covers coderd.
    pub disruption_budget: Option<bool>,
    /// From when on Coder's health page calls the database slow.
    pub health_threshold: Option<Duration>,
}

impl Topology {
    /// These proxies serve workspaces there.
    pub fn set_workspaces(&mut self, workspaces: &BTreeMap<String, Vec<RegionName>>) {
        for server in self.servers.iter_mut().filter(|server| server.role == Some(Role::Proxy)) {
            if let Some(regions) = workspaces.get(&server.name) {
                server.workspaces.clone_from(regions);
            }
        }
    }
}

/// The servers among these members, each joined with the agents beside it. An agent that says what it stands beside, and
/// stands beside nothing that anybody else sees, stands for it.
pub fn servers(members: &[Member]) -> Vec<Server> {
    let mut servers: Vec<Server> =
        members.iter().filter(|member| !member.is_agent()).map(|member| server(member, &[])).collect();
    for agent in members.iter().filter(|member| member.is_agent()) {
        let found = beside(&agent.facts, members);
        for member in &found {
            // Names need not be unique, keys within their sources are.
            let same = |server: &&mut Server| {
                server.name == member.name
                    && server.role == member.facts.role
                    && addresses(member).all(|address| server.known_as.contains(&address))
            };
            if let Some(server) = servers.iter_mut().find(same) {
                join(server, agent);
                let shares = agent.facts.addresses.intersection(&member.facts.addresses).next().is_some()
                    || (agent.facts.host_name.is_some() && agent.facts.host_name == member.facts.host_name);
                if shares {
                    server.shared_with.insert(agent.name.clone());
                }
            }
        }
        let alone = agent.facts.role.is_some() && !found.iter().any(|m| m.facts.role == agent.facts.role);
        if alone {
            servers.push(server(agent, &[agent]));
        }
    }
    servers.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.known_as.cmp(&b.known_as)));
    servers
}

/// Whether one of these has been seen by a source that sees every replica.
pub fn sees_all_coderd(members: &[Member]) -> bool {
    let coderd = members.iter().filter(|member| member.facts.role == Some(Role::Coderd));
    coderd
        .flat_map(|member| &member.sources)
        .any(|source| matches!(source, Source::Coder | Source::Kubernetes))
}

fn server(member: &Member, agents: &[&Member]) -> Server {
    let facts = &member.facts;
    let mut server = Server {
        name: member.name.clone(),
        role: facts.role,
        known_as: addresses(member).chain(facts.host_name.clone()).collect(),
        node: facts.node.clone(),
        claims: facts.claims.clone(),
        workspaces: Vec::new(),
        version: facts.version.clone().filter(|_| !member.is_agent()),
        status: facts.status,
        relay: facts.relay.clone(),
        carrier: facts.carrier,
        clock_ahead_ms: facts.clock_ahead_ms,
        watched_by: BTreeSet::new(),
        shared_with: BTreeSet::new(),
    };
    agents.iter().for_each(|agent| join(&mut server, agent));
    server
}

fn addresses(member: &Member) -> impl Iterator<Item = String> {
    member.facts.addresses.iter().map(ToString::to_string)
}

fn join(server: &mut Server, agent: &Member) {
    server.watched_by.insert(agent.name.clone());
    server.known_as.extend(agent.facts.reflectors.iter().map(ToString::to_string));
    if server.node.is_none() {
        server.node.clone_from(&agent.facts.node);
    }
    for claim in &agent.facts.claims {
        if !server.claims.contains(claim) {
            server.claims.push(claim.clone());
        }
    }
}
