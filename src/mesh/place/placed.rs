//! Everybody that stands somewhere, with all that is claimed of it: servers and agents, each once.

use std::collections::BTreeMap;

use crate::mesh::peer::Role;
use crate::mesh::roster::{Claim, Member};
use crate::mesh::whole::Identity;

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// Its name.
    pub name: String,
    /// What it is, or stands beside.
    pub role: Option<Role>,
    /// It is an agent.
    pub is_agent: bool,
    /// The machine.
    pub node: Option<String>,
    /// Who says that it stands where.
    pub claims: Vec<Claim>,
}

/// Of what discovery knows and what agents say of themselves, by name; an agent and a server of one name are two.
pub fn everybody<'a>(members: &[Member], agents: impl Iterator<Item = &'a Identity>) -> Vec<Placed> {
    let mut all = BTreeMap::new();
    for member in members {
        let facts = &member.facts;
        let is_agent = member.is_agent();
        let name = facts.agent.clone().filter(|_| is_agent).unwrap_or_else(|| member.name.clone());
        let placed = Placed {
            name: name.clone(),
            role: facts.role,
            is_agent,
            node: facts.node.clone(),
            claims: facts.claims.clone(),
        };
        all.insert((name, is_agent), placed);
    }
    for identity in agents {
        let placed = all.entry((identity.name.clone(), true)).or_insert_with(|| Placed {
            name: identity.name.clone(),
            is_agent: true,
            claims: identity.claims.clone(),
            ..Placed::default()
        });
        // It knows this better than who only saw it.
        placed.role = identity.role.or(placed.role);
        placed.node = identity.node.clone().or(placed.node.take());
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::mesh::roster::Sighting;

    #[test]
    fn an_agent_that_discovery_knows_as_well_is_there_once_and_a_server_beside_it_too() {
        let seen = |name: &str, agent: bool| Member {
            name: name.into(),
            facts: Sighting { agent: agent.then(|| name.to_owned()), ..Sighting::default() },
            sources: BTreeSet::new(),
        };
        let own = Identity { name: "a".into(), node: Some("n1".into()), ..Identity::default() };
        let all = everybody(&[seen("a", true), seen("a", false)], [&own].into_iter());
        let seen: Vec<_> = all.iter().map(|one| (one.is_agent, one.node.as_deref())).collect();
        assert_eq!(seen, [(false, None), (true, Some("n1"))]);
        assert_eq!(everybody(&[], [&own].into_iter()).len(), 1, "without discovery");
    }
}
