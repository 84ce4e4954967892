//! What a PostgreSQL server says of itself and of those that follow it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::peer::Role;
use super::roster::Sighting;

/// What one server says, as far as this role may know it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its name in reports: address and database of the connection string.
    pub name: String,
    /// Whether it is a standby.
    pub standby: bool,
    /// Its own address and port; `None` for a Unix socket.
    pub server: Option<(IpAddr, u16)>,
    /// The timeline, eight hexadecimal digits, which a promotion makes another; `None` on a standby that does not tell.
    pub timeline: Option<String>,
    /// Whether a pooler in transaction mode stands before it; `None` until that is known.
    pub pooled: Option<bool>,
    /// Who follows it.
    pub standbys: Vec<Standby>,
    /// The standbys' figures are hidden from this role.
    pub hidden: bool,
}

/// Who follows a primary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standby {
    /// As it calls itself; not always unique.
    pub name: String,
    /// From where it is connected.
    pub address: Option<IpAddr>,
    /// `streaming`, `catchup` …
    pub state: Option<String>,
    /// How long after the primary it has written, flushed and replayed: one round trip and its own work. `None` when
    /// nothing is to be replayed.
    pub write_lag: Option<Duration>,
    /// See `write_lag`.
    pub flush_lag: Option<Duration>,
    /// See `write_lag`.
    pub replay_lag: Option<Duration>,
}

impl Facts {
    /// What has become of the server since `before`, in words, if it is another one now.
    pub fn moved_since(&self, before: &Self) -> Option<String> {
        let place = |facts: &Self| {
            let server = facts
                .server
                .map_or_else(|| "its socket".to_owned(), |(ip, port)| HostPortText(ip, port).to_string());
            let timeline =
                facts.timeline.as_deref().map_or(String::new(), |line| format!(", timeline {line}"));
            format!("{server}{}{timeline}", if facts.standby { " (a standby)" } else { "" })
        };
        let other_line =
            self.timeline.is_some() && before.timeline.is_some() && self.timeline != before.timeline;
        let other = self.server != before.server || self.standby != before.standby || other_line;
        other.then(|| format!("from {} to {}", place(before), place(self)))
    }

    /// The server and its standbys, for the roster.
    pub fn sightings(&self) -> Vec<Sighting> {
        let itself = Sighting {
            key: format!("server of {}", self.name),
            role: Some(if self.standby { Role::Standby } else { Role::Postgres }),
            addresses: self.server.map(|(ip, _)| ip).into_iter().collect(),
            ..Sighting::default()
        };
        let followers = self.standbys.iter().enumerate().map(|(index, standby)| Sighting {
            key: format!("standby {} {index}", standby.name),
            role: Some(Role::Standby),
            // Without an address of their own they cannot be told apart from the primary's machine.
            host_name: None,
            addresses: BTreeSet::from_iter(standby.address),
            ..Sighting::default()
        });
        std::iter::once(itself).chain(followers).filter(|sighting| !sighting.addresses.is_empty()).collect()
    }
}

struct HostPortText(IpAddr, u16);

impl std::fmt::Display for HostPortText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", std::net::SocketAddr::new(self.0, self.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8, timeline: &str) -> Facts {
        Facts {
            name: "db:5432/coder".into(),
            server: Some((IpAddr::from([10, 0, 0, last]), 5432)),
            timeline: Some(timeline.into()),
            ..Facts::default()
        }
    }

    #[test]
    fn another_address_another_timeline_or_another_role_is_a_failover() {
        assert_eq!(at(1, "00000001").moved_since(&at(1, "00000001")), None);
        let moved = at(2, "00000002").moved_since(&at(1, "00000001")).unwrap();
        assert_eq!(moved, "from 10.0.0.1:5432, timeline 00000001 to 10.0.0.2:5432, timeline 00000002");
        assert!(at(1, "00000002").moved_since(&at(1, "00000001")).is_some(), "behind one address");
        let standby = Facts { standby: true, timeline: None, ..at(1, "") };
        assert!(standby.moved_since(&at(1, "00000001")).unwrap().contains("(a standby)"));
    }

    #[test]
    fn a_server_and_who_follows_it_are_members_by_their_addresses() {
        let follower = Standby {
            name: "walreceiver".into(),
            address: Some(IpAddr::from([10, 0, 0, 2])),
            ..Standby::default()
        };
        let facts = Facts { standbys: vec![follower, Standby::default()], ..at(1, "00000001") };
        let roles: Vec<_> = facts.sightings().iter().map(|s| s.role.unwrap()).collect();
        assert_eq!(roles, [Role::Postgres, Role::Standby]);
    }
}
