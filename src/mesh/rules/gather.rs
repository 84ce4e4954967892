//! From what an agent knows to what the rules look at.

use std::collections::BTreeSet;

use super::input::{Database, Replication, Row, Topology, Vantage, sees_all_coderd, servers};
use crate::mesh::database::Known;
use crate::mesh::place::decide::Measured;
use crate::mesh::roster::{Claim, Member};

/// Everything that is known at this moment. `rows` are the links of all agents, `place` what is claimed of the database by
/// its host name and the like, `blind` what the sources cannot see.
pub fn topology(
    own: Vantage,
    members: &[Member],
    rows: Vec<Row>,
    database: Option<(&Known, Vec<Claim>)>,
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
        databases: database.map(|(known, claims)| self::database(known, claims)).into_iter().collect(),
        blind,
        ..Topology::default()
    }
}

fn database(known: &Known, claims: Vec<Claim>) -> Database {
    let facts = &known.facts;
    let at_most = |ip| known.round_trip_at_most(ip, known.heard);
    let lag = |standby: &crate::mesh::database::Standby| standby.replay_lag.max(standby.write_lag);
    Database {
        name: facts.name.clone(),
        known_as: facts.server.map(|(ip, _)| ip.to_string()).into_iter().collect::<BTreeSet<_>>(),
        standby: Some(facts.standby),
        pooled: facts.pooled,
        standbys: facts
            .standbys
            .iter()
            .map(|standby| Replication {
                name: standby.address.map_or_else(|| standby.name.clone(), |ip| ip.to_string()),
                lag: lag(standby),
                at_most: standby.address.and_then(at_most).map(|(min, samples, span)| Measured {
                    min,
                    samples,
                    span,
                    end_to_end: true,
                }),
            })
            .collect(),
        load: known.load.map(|(_, load)| load),
        claims,
    }
}
