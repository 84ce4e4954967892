//! Whom an agent measures, and how often, so that the cost of a big cluster grows with its number of nodes and not with
//! the square of it.
//!
//! Agents beside a server of the deployment (coderd, PostgreSQL, a proxy) measure each other, all of them. An agent on a
//! node without any is idle: it answers echoes, and once a minute it measures those beside coderd and PostgreSQL, so that
//! it is known how the node would do if a server moved there. Nobody measures an idle one.

use std::time::Duration;

use super::peer::Role;
use super::roster::{Member, Sighting, beside};

/// How often an idle agent measures.
pub const IDLE_EVERY: Duration = Duration::from_secs(60);

/// Where an agent stands in this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance {
    /// Beside a server, or in a mesh of which no agent is known to stand beside a replica.
    Active(Option<Role>),
    /// Beside none, where there are some.
    Idle,
}

/// The stances of all agents among these members.
#[derive(Debug, Clone)]
pub struct Stances<'a> {
    members: &'a [Member],
    /// Whether any agent stands beside a replica: only then it means something to stand beside none.
    some_beside: bool,
}

impl<'a> Stances<'a> {
    /// Of these members.
    pub fn of(members: &'a [Member]) -> Self {
        let agents = members.iter().filter(|member| member.is_agent());
        let some_beside =
            agents.filter_map(|agent| role(&agent.facts, members)).any(|role| role == Role::Coderd);
        Self { members, some_beside }
    }

    /// Of this agent.
    pub fn stance(&self, agent: &Sighting) -> Stance {
        match role(agent, self.members) {
            None if self.some_beside => Stance::Idle,
            role => Stance::Active(role),
        }
    }
}

fn role(agent: &Sighting, members: &[Member]) -> Option<Role> {
    agent.role.or_else(|| beside(agent, members).iter().filter_map(|server| server.facts.role).min())
}

/// How often one measures another; `None` is never, `Some(None)` as often as the settings say.
pub fn every(own: Stance, other: Stance) -> Option<Option<Duration>> {
    match (own, other) {
        (_, Stance::Idle) => None,
        (Stance::Active(_), Stance::Active(_)) => Some(None),
        (Stance::Idle, Stance::Active(Some(Role::Coderd | Role::Postgres | Role::Standby))) => {
            Some(Some(IDLE_EVERY))
        }
        (Stance::Idle, Stance::Active(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    use probes::target::HostPort;

    use super::super::roster::{Roster, Source};
    use super::*;

    /// A cluster of this many nodes with an agent each; coderd on the first three, PostgreSQL on the fourth.
    fn cluster(nodes: u16) -> (Vec<Sighting>, Vec<Member>) {
        let ip = |net: u8, i: u16| {
            let [high, low] = i.to_be_bytes();
            IpAddr::from([10, net, high, low])
        };
        let agents: Vec<_> = (0..nodes)
            .map(|i| Sighting {
                key: format!("agent-{i}"),
                agent: Some(format!("agent-{i}")),
                reflectors: vec![HostPort { host: ip(1, i).to_string(), port: 9862 }],
                addresses: BTreeSet::from([ip(1, i)]),
                node: Some(format!("node-{i}")),
                ..Sighting::default()
            })
            .collect();
        let servers = (0..4)
            .map(|i| Sighting {
                key: format!("server-{i}"),
                role: Some(if i < 3 { Role::Coderd } else { Role::Postgres }),
                addresses: BTreeSet::from([ip(2, i)]),
                node: Some(format!("node-{i}")),
                ..Sighting::default()
            })
            .collect();
        let mut roster = Roster::default();
        roster.hear(Source::Kubernetes, servers, Duration::ZERO);
        roster.hear(Source::Presence, agents.clone(), Duration::ZERO);
        (agents, roster.members())
    }

    #[test]
    fn the_servers_agents_are_a_full_mesh_and_all_others_cost_four_links_each() {
        for nodes in [10, 50, 500] {
            let (agents, members) = cluster(nodes);
            let all = Stances::of(&members);
            let stances: Vec<_> = agents.iter().map(|agent| all.stance(agent)).collect();
            let (mut full, mut slow) = (0, 0);
            for (i, own) in stances.iter().enumerate() {
                for (j, other) in stances.iter().enumerate() {
                    match every(*own, *other).filter(|_| i != j) {
                        Some(None) => full += 1,
                        Some(Some(_)) => slow += 1,
                        None => {}
                    }
                }
            }
            assert_eq!((full, slow), (4 * 3, (usize::from(nodes) - 4) * 4), "{nodes} nodes");
        }
    }

    #[test]
    fn without_a_known_replica_everybody_measures_everybody() {
        let (agents, _) = cluster(5);
        let mut roster = Roster::default();
        roster.hear(Source::Presence, agents.clone(), Duration::ZERO);
        let members = roster.members();
        for agent in &agents {
            assert_eq!(Stances::of(&members).stance(agent), Stance::Active(None));
        }
    }

    #[test]
    fn an_agent_that_says_what_it_is_is_believed() {
        let (agents, members) = cluster(5);
        let proxy = Sighting { role: Some(Role::Proxy), ..agents[4].clone() };
        assert_eq!(Stances::of(&members).stance(&proxy), Stance::Active(Some(Role::Proxy)));
        assert_eq!(Stances::of(&members).stance(&agents[4]), Stance::Idle);
    }
}
