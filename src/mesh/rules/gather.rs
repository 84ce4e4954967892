//! From what an agent knows to what the rules look at.

use std::collections::BTreeSet;
use std::time::Duration;

use super::input::{Database, Replication, Row, Topology, Vantage, sees_all_coderd, servers};
use crate::mesh::database::Known;
use crate::mesh::place::decide::Measured;
use crate::mesh::roster::{Claim, Member};

/// What a database said longer ago says nothing about now: it is read every ten seconds, and how full it is every thirty.
pub const FACTS_COUNT_FOR: Duration = Duration::from_secs(60);
/// See [`FACTS_COUNT_FOR`].
pub const LOAD_COUNTS_FOR: Duration = Duration::from_secs(90);

/// Everything that is known at this moment. `rows` are the links of all agents, `database` what it says of itself, what is claimed of its place by
/// its host name and the like, `blind` what the sources cannot see.
pub fn topology(
    own: Vantage,
    members: &[Member],
    rows: Vec<Row>,
    database: Option<(&Known, Vec<Claim>, Duration)>,
    blind: Vec<String>,
) -> Topology {
    let agents = members.iter().filter(|member| member.is_agent());
    Topology {
        agents: agents
            .map(|member| Vantage {
                agent: member.name.clone(),
                host: member.facts.host_name.clone(),
                node: member.facts.node.clone(),
            })
            .filter(|vantage| vantage.agent != own.agent)
            .collect(),
        own,
        servers: servers(members),
        all_coderd: sees_all_coderd(members),
        rows,
        databases: database
            .map(|(known, claims, now)| self::database(known, claims, now))
            .into_iter()
            .collect(),
        blind,
        ..Topology::default()
    }
}

/// What it said too long ago says nothing about now.
fn database(known: &Known, claims: Vec<Claim>, now: Duration) -> Database {
    let facts = &known.facts;
    let is_new = now.saturating_sub(known.heard) < FACTS_COUNT_FOR;
    let load = known.load.filter(|(at, _)| now.saturating_sub(*at) < LOAD_COUNTS_FOR);
    let at_most = |ip| known.round_trip_at_most(ip, known.heard);
    let lag = |standby: &crate::mesh::database::Standby| standby.replay_lag.max(standby.write_lag);
    Database {
        name: facts.name.clone(),
        known_as: facts.server.map(|(ip, _)| ip.to_string()).into_iter().collect::<BTreeSet<_>>(),
        standby: is_new.then_some(facts.standby),
        pooled: facts.pooled.filter(|_| is_new),
        standbys: facts
            .standbys
            .iter()
            .map(|standby| Replication {
                name: standby.address.map_or_else(|| standby.name.clone(), |ip| ip.to_string()),
                lag: lag(standby).filter(|_| is_new),
                at_most: standby.address.and_then(at_most).map(|(min, samples, span)| Measured {
                    min,
                    samples,
                    span,
                    end_to_end: true,
                }),
            })
            .collect(),
        load: load.map(|(_, load)| load),
        claims,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::database::Facts;

    #[test]
    fn what_a_database_said_too_long_ago_says_nothing_about_now() {
        let facts = Facts { standby: true, pooled: Some(true), ..Facts::default() };
        let known = Known::hear(None, facts, Duration::ZERO);
        let at = |seconds| database(&known, Vec::new(), Duration::from_secs(seconds));
        assert_eq!((at(59).standby, at(59).pooled), (Some(true), Some(true)));
        assert_eq!((at(60).standby, at(60).pooled), (None, None));
    }
}
