//! A database that moves: said at once, and again when it is known what that did to the round trip.

use std::net::IpAddr;

use probes::target::Kind;

use super::Agent;
use crate::export::events::Happening;
use crate::mesh::failover::{Place, Witness};
use crate::mesh::links::Links;
use crate::mesh::place;
use crate::mesh::region::{Atlas, written};
use crate::mesh::roster::Member;
use crate::mesh::rules::input::servers;
use crate::mesh::state::Watch;

impl Agent {
    /// A witness says where this database is.
    pub(super) fn hear_place(&mut self, database: &str, witness: Witness, place: Place) {
        let now = self.age();
        let Some(one) = self.moves.hear(database, witness, place, now) else { return };
        let members = self.found.members();
        let called = |place: &Place| called(place.server?.ip(), members, &self.settings.book.atlas);
        one.called = [called(&one.from), called(&one.to)];
        let [from, to] = one.in_words();
        let moved = format!("from {from} to {to}");
        tracing::warn!(database, moved, "the database is another server now");
        let Some((id, watch)) = link_of(&self.links, database) else { return };
        one.look_at(watch);
        // The verdict has to be about the server that is there now: one connect, where the old server keeps the
        // connection that is measured.
        if one.wants_connection() && self.measuring.reopen(id).is_err() {
            tracing::debug!("the measuring thread is gone, which the loop learns by itself");
        }
    }

    /// The measured connection of this link was opened: it says where the database is.
    pub(super) fn hear_connection(&mut self, id: u32) {
        let Some(watch) = self.links.get(id).filter(|watch| watch.link.kind == Kind::Postgres) else {
            return;
        };
        let Some(leads) = watch.leads() else { return };
        let place = Place { server: Some(leads.to), ..Place::default() };
        self.hear_place(&watch.link.target.clone(), Witness::Connection, place);
    }

    /// Says of the moves what has come to be known of them.
    pub(super) fn follow_moves(&mut self) {
        let now = self.age();
        let links = &self.links;
        let done = self.moves.follow(|database| link_of(links, database).map(|(_, watch)| watch), now);
        for one in &done {
            self.happened(&Happening::Moved(one));
        }
    }
}

fn link_of<'a>(links: &'a Links, database: &str) -> Option<(u32, &'a Watch)> {
    links.all().find(|(_, watch)| watch.link.kind == Kind::Postgres && watch.link.target == database)
}

/// Zone or region of the server at this address, by all that is claimed of it and of the agents beside it.
fn called(ip: IpAddr, members: &[Member], atlas: &Atlas) -> Option<String> {
    let ip = ip.to_string();
    let server = servers(members).into_iter().find(|server| server.known_as.contains(&ip))?;
    let place = place::Place::weigh(&server.claims, atlas);
    place.zones.into_iter().next().or_else(|| place.region.as_ref().map(written))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::mesh::peer::Role;
    use crate::mesh::region::name;
    use crate::mesh::roster::{Claim, Roster, Sighting, Source};

    #[test]
    fn a_server_is_called_by_its_zone_else_by_its_region_else_not_at_all() {
        let server = |last: u8, zone: Option<&str>, region: &str| Sighting {
            key: format!("{last}"),
            role: Some(Role::Postgres),
            addresses: BTreeSet::from([IpAddr::from([10, 0, 0, last])]),
            claims: (!region.is_empty())
                .then(|| Claim {
                    trust: 4,
                    by: "IMDS".into(),
                    region: name(region),
                    zone: zone.map(str::to_owned),
                })
                .into_iter()
                .collect(),
            ..Sighting::default()
        };
        let mut roster = Roster::default();
        let all = vec![
            server(1, Some("use1-az1"), "aws/us-east-1"),
            server(2, None, "aws/us-east-1"),
            server(3, None, ""),
        ];
        roster.hear(Source::Kubernetes, all, std::time::Duration::ZERO);
        let called = |last: u8| called(IpAddr::from([10, 0, 0, last]), &roster.members(), &Atlas::built_in());
        assert_eq!(called(1).as_deref(), Some("use1-az1"));
        assert_eq!(called(2).as_deref(), Some("aws/us-east-1"));
        assert_eq!((called(3), called(4)), (None, None));
    }
}
