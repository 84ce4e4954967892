//! The rows of `replicas`, and which of them are alive.
//!
//! A replica writes its row every 5 s by its own clock, a workspace proxy's is written every 30 s by the coderd that hears
//! from it. So whether a row is fresh by the database's clock tells only as much as the two clocks agree; that it has
//! changed since we looked last tells for certain. Rows of the dead linger for up to half an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use probes::http::HttpUrl;
use probes::target::HostPort;

use crate::mesh::peer::Role;
use crate::mesh::pubsub::Carrier;
use crate::mesh::roster::{Sighting, Status};

/// Coder itself takes a replica for alive for 15 s, three times its interval; a little more forgives a busy database.
const ALIVE_FOR: Duration = Duration::from_secs(20);
/// Two intervals of 30 s, and the 15 s.
const PROXY_ALIVE_FOR: Duration = Duration::from_secs(75);
/// A clean stop is told for so long.
const STOPPED_FOR: Duration = Duration::from_secs(300);
/// Coder's first number for regions of proxies, which are no geography.
const PROXY_REGIONS_FROM: i32 = 10_000;
/// A clock that differs by less than this may just be a row that is about to be written.
const SKEW_FROM_MS: i64 = 1_000;

/// One row, as far as the role may read it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) host_name: String,
    pub(super) relay: String,
    pub(super) region_id: i32,
    pub(super) primary: Option<bool>,
    pub(super) version: String,
    pub(super) cluster_host: String,
    /// Zero is none; `None` is not to be read.
    pub(super) nats_port: Option<i32>,
    /// By the database's clock now; negative when it was written in the future.
    pub(super) age_ms: i64,
    /// Since `stopped_at`.
    pub(super) stopped_ms: Option<i64>,
}

/// What is remembered of a row between two looks.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// When it was written, on the database's clock less ours: it only moves when the row is written.
    written_ms: i64,
    /// When we saw it change last.
    changed: Option<Duration>,
    role: Role,
    /// The least age that it was seen with of late: with a clock that agrees this gets close to zero.
    least_age_ms: i64,
}

/// All rows over time.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    known: BTreeMap<String, Known>,
}

impl Ledger {
    /// Takes in all rows as they are at `now`, and says who is there.
    pub(super) fn read(&mut self, rows: &[Row], now: Duration) -> Vec<Sighting> {
        let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let ids: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        self.known.retain(|id, _| ids.contains(id.as_str()));
        rows.iter()
            .filter_map(|row| {
                let written_ms = now_ms.saturating_sub(row.age_ms);
                let role = self.role(row);
                let known = self.known.entry(row.id.clone()).or_insert(Known {
                    written_ms,
                    changed: None,
                    role,
                    least_age_ms: row.age_ms,
                });
                // Two looks at one row differ by what the look itself took. One that seems to have been written earlier
                // than before was not written at all: our clock, which stands still while there is no connection, did.
                if written_ms.saturating_sub(known.written_ms) > 500 {
                    known.changed = Some(now);
                    known.least_age_ms = row.age_ms;
                }
                known.written_ms = written_ms;
                known.role = role;
                let status = status(row, *known, now)?;
                Some(sighting(row, *known, status))
            })
            .collect()
    }

    /// A stopped row says `primary = false`, whatever it was: what it was before is remembered, or told by its region.
    fn role(&self, row: &Row) -> Role {
        match (row.stopped_ms, self.known.get(&row.id), row.primary) {
            (Some(_), Some(known), _) => known.role,
            (None, _, Some(true)) => Role::Coderd,
            (None, _, Some(false)) => Role::Proxy,
            _ if row.region_id >= PROXY_REGIONS_FROM => Role::Proxy,
            _ => Role::Coderd,
        }
    }
}

fn status(row: &Row, known: Known, now: Duration) -> Option<Status> {
    let window = if known.role == Role::Proxy { PROXY_ALIVE_FOR } else { ALIVE_FOR };
    let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    match row.stopped_ms {
        Some(since) => {
            (since <= i64::try_from(STOPPED_FOR.as_millis()).unwrap_or(i64::MAX)).then_some(Status::Leaving)
        }
        None => {
            let changed = known.changed.is_some_and(|at| now.saturating_sub(at) <= window);
            // What has not changed while we looked for a whole window is a ghost, however fresh its clock makes it look.
            let fresh = known.changed.is_none() && (-window_ms..=window_ms).contains(&row.age_ms);
            (changed || fresh).then_some(Status::Alive)
        }
    }
}

fn sighting(row: &Row, known: Known, status: Status) -> Sighting {
    let relay = relay(&row.relay);
    let addresses = [relay.as_ref().map(|relay| relay.host.as_str()), Some(row.cluster_host.as_str())];
    let nats_port = row.nats_port.filter(|_| !row.cluster_host.is_empty());
    let nats = nats_port.and_then(|port| u16::try_from(port).ok());
    let carrier = row.nats_port.map(|port| if port > 0 { Carrier::Nats } else { Carrier::Postgres });
    let ahead_ms = if row.age_ms <= -SKEW_FROM_MS { -row.age_ms } else { behind(known) };
    Sighting {
        key: row.id.clone(),
        role: Some(known.role),
        host_name: Some(row.host_name.clone()).filter(|name| !name.is_empty()),
        addresses: addresses.into_iter().flatten().filter_map(|host| host.parse::<IpAddr>().ok()).collect(),
        // A proxy's own is for its siblings, and may be private to another cluster.
        relay: Some(row.relay.clone()).filter(|relay| !relay.is_empty() && known.role == Role::Coderd),
        nats: nats.filter(|port| *port > 0).map(|port| HostPort { host: row.cluster_host.clone(), port }),
        carrier: carrier.filter(|_| known.role == Role::Coderd),
        version: Some(row.version.clone()).filter(|version| !version.is_empty()),
        status,
        clock_ahead_ms: ahead_ms,
        ..Sighting::default()
    }
}

/// A row that was just written and is old already comes from a clock that is behind by as much.
fn behind(known: Known) -> i64 {
    let interval_ms = if known.role == Role::Proxy { 30_000 } else { 10_000 };
    if known.changed.is_some() && known.least_age_ms > interval_ms {
        interval_ms - known.least_age_ms
    } else {
        0
    }
}

/// Host and port of a relay address. Coder's chart writes `http://$(KUBE_POD_IP):8080`, so an IPv6 address stands there
/// without brackets, and its last colon is that of the port.
pub(super) fn relay(text: &str) -> Option<HostPort> {
    let (scheme, rest) = text.trim().split_once("://").unwrap_or(("http", text.trim()));
    let default_port = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    let authority = rest.split(['/', '?', '#']).next()?;
    if authority.is_empty() || authority.contains('@') {
        return None;
    }
    if let Some((host, port)) = authority.rsplit_once(':')
        && !authority.starts_with('[')
        && host.parse::<Ipv6Addr>().is_ok()
        && let Ok(port) = port.parse::<u16>()
        && port > 0
    {
        return Some(HostPort { host: host.to_owned(), port });
    }
    HostPort::parse(authority, Some(default_port)).ok()
}

/// This path below a relay address or a proxy's URL, as an HTTP address.
pub(crate) fn relay_url(text: &str, path: &str) -> Option<HttpUrl> {
    let address = relay(text)?;
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let base = rest.split(['?', '#']).next()?.split_once('/').map_or("", |(_, base)| base);
    let base = base.trim_end_matches('/');
    let slash = if base.is_empty() { "" } else { "/" };
    let scheme = scheme.to_lowercase();
    let mut authority = address.to_string();
    // Virtual hosts are told apart by what a browser would write.
    if let Some(bare) = authority.strip_suffix(if scheme == "https" { ":443" } else { ":80" }) {
        authority = bare.to_owned();
    }
    format!("{scheme}://{authority}/{base}{slash}{path}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, age_ms: i64) -> Row {
        Row {
            id: id.into(),
            host_name: format!("coder-{id}"),
            relay: "http://10.0.0.1:8080".into(),
            primary: Some(true),
            region_id: 999,
            age_ms,
            ..Row::default()
        }
    }

    fn statuses(ledger: &mut Ledger, rows: &[Row], second: u64) -> Vec<(String, Role, Status)> {
        let seen = ledger.read(rows, Duration::from_secs(second));
        seen.into_iter().map(|s| (s.key, s.role.unwrap(), s.status)).collect()
    }

    #[test]
    fn a_fresh_row_is_alive_at_the_first_look_and_an_old_one_is_a_ghost() {
        let mut ledger = Ledger::default();
        let seen = statuses(&mut ledger, &[row("a", 3_000), row("b", 60_000)], 0);
        assert_eq!(seen, [("a".into(), Role::Coderd, Status::Alive)]);
    }

    #[test]
    fn a_row_that_is_not_written_any_more_is_a_ghost_after_its_window() {
        let mut ledger = Ledger::default();
        for second in (0..=60).step_by(10) {
            let age = 1_000 + i64::try_from(second).unwrap() * 1000;
            let seen = statuses(&mut ledger, &[row("a", age)], second);
            assert_eq!(seen.is_empty(), second >= 20, "at {second}");
        }
    }

    #[test]
    fn a_row_that_goes_on_being_written_is_alive_however_wrong_its_clock_is() {
        for skew in [-40_000, 40_000] {
            let mut ledger = Ledger::default();
            for second in (10..60).step_by(10) {
                let seen = ledger.read(&[row("a", skew + 1_000)], Duration::from_secs(second));
                // Nothing is known before it changed once.
                if second > 10 {
                    assert_eq!(seen[0].status, Status::Alive, "{skew} at {second}");
                    assert_eq!(seen[0].clock_ahead_ms.signum(), -skew.signum(), "{skew}");
                    assert!(seen[0].clock_ahead_ms.abs() >= 29_000, "{}", seen[0].clock_ahead_ms);
                }
            }
        }
    }

    #[test]
    fn an_outage_of_the_database_forgets_nobody() {
        let mut ledger = Ledger::default();
        for second in [0, 10, 20] {
            statuses(&mut ledger, &[row("a", 1_000)], second);
        }
        // Ten minutes without a connection, in which our clock stood still.
        let seen = ledger.read(&[row("a", 601_000)], Duration::from_secs(21));
        assert_eq!((seen[0].status, seen[0].clock_ahead_ms), (Status::Alive, 0));
        assert_eq!(ledger.read(&[row("a", 631_000)], Duration::from_secs(51)), [], "it did not come back");
    }

    #[test]
    fn a_proxy_has_a_longer_window_and_a_stopped_replica_is_leaving_as_what_it_was() {
        let mut ledger = Ledger::default();
        let proxy = |age| Row { primary: Some(false), region_id: 10_001, ..row("p", age) };
        let seen = statuses(&mut ledger, &[row("a", 1_000), proxy(40_000)], 0);
        assert_eq!(seen[1], ("p".into(), Role::Proxy, Status::Alive));
        let stopped = |ms| Row { primary: Some(false), stopped_ms: Some(ms), ..row("a", 2_000) };
        assert_eq!(
            statuses(&mut ledger, &[stopped(1_000)], 10),
            [("a".into(), Role::Coderd, Status::Leaving)]
        );
        assert_eq!(statuses(&mut ledger, &[stopped(400_000)], 400), []);
        let mut new = Ledger::default();
        assert_eq!(statuses(&mut new, &[stopped(1_000)], 0), [("a".into(), Role::Coderd, Status::Leaving)]);
    }

    #[test]
    fn relay_addresses_are_read_as_people_and_charts_write_them() {
        let relay = |text| super::relay(text).map(|address| address.to_string());
        for (text, address) in [
            ("http://10.1.2.3:8080", Some("10.1.2.3:8080")),
            ("http://fd00::1:2:8080", Some("[fd00::1:2]:8080")),
            ("http://[fd00::1]:8080/", Some("[fd00::1]:8080")),
            ("https://coder-0.coder:8443/derp", Some("coder-0.coder:8443")),
            ("https://coder-0.coder", Some("coder-0.coder:443")),
            ("10.1.2.3:8080", Some("10.1.2.3:8080")),
            ("", None),
            ("http://", None),
            ("http://:8080", None),
            ("http://user:secret@host:1", None),
            ("http://a b:1", None),
            ("http://10.1.2.3:99999", None),
        ] {
            assert_eq!(relay(text).as_deref(), address, "{text}");
        }
    }

    #[test]
    fn what_the_news_of_a_replica_goes_by_is_told_by_its_port_of_nats() {
        let carrier = |nats_port| {
            let row = Row { nats_port, cluster_host: "10.0.0.9".into(), ..row("a", 0) };
            Ledger::default().read(&[row], Duration::ZERO)[0].carrier
        };
        assert_eq!(carrier(Some(6222)), Some(Carrier::Nats));
        assert_eq!(carrier(Some(0)), Some(Carrier::Postgres));
        assert_eq!(carrier(None), None);
        let proxy = Row { primary: Some(false), nats_port: Some(0), ..row("a", 0) };
        assert_eq!(Ledger::default().read(&[proxy], Duration::ZERO)[0].carrier, None);
    }

    #[test]
    fn nonsense_in_a_row_yields_what_is_left_of_it() {
        let strange = Row {
            relay: ":::".into(),
            cluster_host: "10.0.0.9".into(),
            nats_port: Some(70_000),
            ..row("a", 0)
        };
        let seen = Ledger::default().read(&[strange], Duration::ZERO);
        assert_eq!(seen[0].nats, None);
        assert_eq!(seen[0].addresses, BTreeSet::from([IpAddr::from([10, 0, 0, 9])]));
    }
}
