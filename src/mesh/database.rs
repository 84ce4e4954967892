//! What a PostgreSQL server says of itself and of those that follow it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use probes::sample::FREE_CONNECTIONS_AT_LEAST;

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
    /// How full it is; `None` where that was not looked at this time.
    pub load: Option<Load>,
}

/// How full a server is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections that are taken.
    pub used: u32,
    /// All that ordinary roles may have.
    pub usable: u32,
    /// Billionths of the notification queue that are full; `None` on a standby, which has none.
    pub queue_used_ppb: Option<u32>,
}

impl Load {
    /// The share of the notification queue that is full, from 0 to 1.
    pub fn queue_usage(&self) -> Option<f64> {
        self.queue_used_ppb.map(|ppb| f64::from(ppb) / 1e9)
    }

    /// Whether less than [`FREE_CONNECTIONS_AT_LEAST`] of the connections are free.
    pub fn is_short_of_connections(&self) -> bool {
        let free = self.usable.saturating_sub(self.used);
        f64::from(free) < FREE_CONNECTIONS_AT_LEAST * f64::from(self.usable)
    }
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
    /// `async`, `sync`, `quorum`, `potential`.
    pub sync_state: Option<String>,
    /// How many bytes of the log it has yet to replay.
    pub behind_bytes: Option<u64>,
}

impl Facts {
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

/// What is known of a database over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// What the server said last.
    pub facts: Facts,
    /// When.
    pub heard: Duration,
    /// How full it was when that was looked at last, and when.
    pub load: Option<(Duration, Load)>,
    lags: BTreeMap<IpAddr, Lags>,
}

/// How long a standby's writes took to be known to its primary, lately.
#[derive(Debug, Clone, Default, PartialEq)]
struct Lags {
    last: Option<Duration>,
    readings: VecDeque<(Duration, Duration)>,
}

/// So many readings are kept, and not for longer than this.
const READINGS: usize = 20;
const READINGS_COUNT_FOR: Duration = Duration::from_secs(900);

impl Known {
    /// What the server says now, after what is known of it.
    pub fn hear(before: Option<Self>, facts: Facts, now: Duration) -> Self {
        let same = before.filter(|before| before.facts.server == facts.server);
        let (before_load, mut lags) = same.map(|before| (before.load, before.lags)).unwrap_or_default();
        lags.retain(|ip, _| facts.standbys.iter().any(|standby| standby.address == Some(*ip)));
        for standby in &facts.standbys {
            let Some(address) = standby.address else { continue };
            // Behind one address, whose lag is whose?
            if facts.standbys.iter().filter(|other| other.address == Some(address)).count() > 1 {
                lags.remove(&address);
                continue;
            }
            let lags = lags.entry(address).or_default();
            // While nothing is written PostgreSQL shows the same reading again.
            if let Some(lag) = standby.write_lag.filter(|lag| lags.last != Some(*lag)) {
                if lags.readings.len() == READINGS {
                    lags.readings.pop_front();
                }
                lags.readings.push_back((now, lag));
            }
            lags.last = standby.write_lag;
        }
        let load = facts.load.map(|load| (now, load)).or(before_load);
        Self { facts, heard: now, load, lags }
    }

    /// The most that a round trip between the primary and the standby at this address takes: the median of the readings of
    /// the last quarter of an hour, how many there are, and over how long they came. `None` where there is none.
    ///
    /// A write lag runs from the primary's flush to the standby's word that it has written: one round trip, and what both
    /// ends do beside it. It is never less, but PostgreSQL interpolates between two of its samples, so a single reading
    /// may be. Hence the median and not the least.
    pub fn round_trip_at_most(&self, standby: IpAddr, now: Duration) -> Option<(Duration, u32, Duration)> {
        let readings = &self.lags.get(&standby)?.readings;
        let late: Vec<_> =
            readings.iter().filter(|(at, _)| now.saturating_sub(*at) <= READINGS_COUNT_FOR).collect();
        let span = late.last()?.0.saturating_sub(late.first()?.0);
        let mut lags: Vec<_> = late.iter().map(|(_, lag)| *lag).collect();
        lags.sort_unstable();
        Some((*lags.get(lags.len() / 2)?, u32::try_from(lags.len()).unwrap_or(u32::MAX), span))
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

    fn with_lag(us: Option<u64>) -> Facts {
        let standby = Standby {
            address: Some(IpAddr::from([10, 0, 0, 2])),
            write_lag: us.map(Duration::from_micros),
            ..Standby::default()
        };
        Facts { standbys: vec![standby], ..at(1, "00000001") }
    }

    #[test]
    fn write_lags_bound_a_round_trip_by_their_median_and_a_reading_shown_twice_counts_once() {
        let (standby, second) = (IpAddr::from([10, 0, 0, 2]), Duration::from_secs);
        let mut known = Known::hear(None, with_lag(None), second(0));
        assert_eq!(known.round_trip_at_most(standby, second(0)), None, "idle is not near");
        for (time, us) in [(10, 900), (20, 900), (30, 5), (40, 1100), (50, 1000), (60, 70_000)] {
            known = Known::hear(Some(known), with_lag(Some(us)), second(time));
        }
        let bound = (Duration::from_millis(1), 5, second(50));
        assert_eq!(
            known.round_trip_at_most(standby, second(60)),
            Some(bound),
            "not the 5 µs of an interpolation"
        );
        assert_eq!(known.round_trip_at_most(standby, second(1000)), None, "too old");
        for time in 0..100 {
            known = Known::hear(Some(known), with_lag(Some(3000 + time)), second(70 + time));
        }
        assert_eq!(known.round_trip_at_most(standby, second(170)).unwrap().1, 20);
        let mut two = with_lag(Some(9));
        two.standbys.push(two.standbys[0].clone());
        let shared = Known::hear(Some(known.clone()), two, second(171));
        assert_eq!(shared.round_trip_at_most(standby, second(171)), None, "two behind one address");
        let other = Facts { server: at(3, "").server, ..with_lag(Some(1)) };
        known = Known::hear(Some(known), other, second(180));
        assert_eq!(known.round_trip_at_most(standby, second(180)).unwrap().1, 1, "of another primary");
    }

    #[test]
    fn how_full_it_is_stays_known_between_two_looks_and_not_of_another_server() {
        let load = Load { used: 81, usable: 100, queue_used_ppb: Some(500_000_000) };
        let known = Known::hear(None, Facts { load: Some(load), ..at(1, "") }, Duration::from_secs(1));
        let known = Known::hear(Some(known), at(1, ""), Duration::from_secs(9));
        assert_eq!(known.load, Some((Duration::from_secs(1), load)));
        assert_eq!(Known::hear(Some(known), at(2, ""), Duration::from_secs(9)).load, None);
        assert!(load.is_short_of_connections() && load.queue_usage() == Some(0.5));
        assert!(!Load { used: 80, ..load }.is_short_of_connections());
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
