//! The paths that Coder's own traffic takes, beside the agents' echoes: relay, NATS and health of the other replicas, and
//! the workspace proxies.
//!
//! Only agents beside coderd measure them, as coderd itself uses them; the proxies are measured by agents on nodes without
//! any server as well, since that is where workspaces run. They are for information: the echo is what is held
//! against the budget, since it is answered at once whatever coderd is busy with. Where they disagree with the echo, that is
//! a finding (`mesh/rules/paths.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use probes::Target;
use probes::target::Kind;

use super::found::{LEAVES_WITHIN, LINGER, LINKS_AT_MOST, One};
use crate::discovery::coder::relay_url;
use crate::mesh::peer::{Link, Role};
use crate::mesh::roster::{Member, Status};

/// How often a replica is asked whether it is well, and a proxy whether it is there.
const HEALTH_EVERY: Duration = Duration::from_secs(60);

/// All paths that are measured, by the server's name and the kind.
#[derive(Debug, Default)]
pub(super) struct Paths(BTreeMap<(String, Kind), One>);

/// The paths to this server.
pub(crate) fn to(server: &Member) -> Vec<(Link, Target)> {
    let facts = &server.facts;
    let url = |path| relay_url(facts.relay.as_deref()?, path);
    let link = |kind| Link::to(server.name.clone(), kind, facts.role);
    let mut paths = Vec::new();
    match facts.role {
        Some(Role::Coderd) => {
            let told = |kind| Link { limit: Some(None), ..link(kind) };
            let relay = url("derp/latency-check").map(Target::Relay);
            let health = url("healthz").map(Target::Health);
            let nats = facts.nats.clone().map(Target::Nats);
            paths.extend(relay.map(|target| (told(Kind::Relay), target)));
            paths.extend(
                health.map(|target| (Link { every: Some(HEALTH_EVERY), ..told(Kind::Http) }, target)),
            );
            paths.extend(nats.map(|target| (told(Kind::Nats), target)));
        }
        Some(Role::Proxy) => {
            let target = url("latency-check").map(Target::Proxy);
            paths.extend(
                target.map(|target| (Link { every: Some(HEALTH_EVERY), ..link(Kind::Http) }, target)),
            );
        }
        _ => {}
    }
    paths
}

/// The same with the proxies as often as the settings say.
fn at(server: &Member, proxy_every: Duration) -> impl Iterator<Item = (Link, Target)> {
    to(server).into_iter().map(move |(link, target)| match target {
        Target::Proxy(_) => (Link { every: Some(proxy_every), ..link }, target),
        _ => (link, target),
    })
}

impl Paths {
    /// These servers are there now, but for those beside us. Who is seen no more is measured for a while.
    pub(super) fn update<'a>(
        &mut self,
        servers: impl Iterator<Item = &'a Member>,
        proxy_every: Duration,
        now: Duration,
    ) {
        for server in servers.filter(|server| !server.is_agent()) {
            let stops = server.facts.status == Status::Leaving;
            for (link, target) in at(server, proxy_every) {
                let key = (link.target.clone(), link.kind);
                let before = self.0.get(&key);
                if before.is_none() && (stops || self.0.len() >= LINKS_AT_MOST) {
                    continue;
                }
                let leaving = stops.then(|| before.and_then(|one| one.leaving).unwrap_or(now));
                self.0.insert(key, One { link, target, seen: now, leaving });
            }
        }
        self.0.retain(|_, one| {
            now.saturating_sub(one.seen) < LINGER
                && one.leaving.is_none_or(|since| now.saturating_sub(since) < LEAVES_WITHIN)
        });
    }

    /// We stand beside no server, and these proxies are all that is measured, for as long as they are told.
    pub(super) fn measure_only(&mut self, proxies: &[Member], proxy_every: Duration, now: Duration) {
        let paths = proxies.iter().flat_map(|proxy| at(proxy, proxy_every));
        let ones = paths.map(|(link, target)| {
            ((link.target.clone(), link.kind), One { link, target, seen: now, leaving: None })
        });
        self.0 = ones.collect();
    }

    /// Nobody beside us uses them any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &One> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use probes::HostPort;

    use super::*;
    use crate::mesh::roster::Sighting;

    fn server(role: Role, relay: &str) -> Member {
        let facts = Sighting {
            role: Some(role),
            relay: Some(relay.into()),
            nats: Some(HostPort { host: "10.0.0.2".into(), port: 6222 }),
            ..Sighting::default()
        };
        Member { name: "coder-2".into(), facts, sources: BTreeSet::new() }
    }

    fn shown(paths: &[(Link, Target)]) -> Vec<String> {
        paths.iter().map(|(link, target)| format!("{} {target}", link.kind.as_str())).collect()
    }

    #[test]
    fn a_replica_is_reached_by_relay_health_and_nats_and_a_proxy_by_its_url() {
        let replica = to(&server(Role::Coderd, "http://fd00::2:8080"));
        let expected = [
            "relay http://[fd00::2]:8080/derp/latency-check",
            "http http://[fd00::2]:8080/healthz",
            "nats 10.0.0.2:6222",
        ];
        assert_eq!(shown(&replica), expected);
        assert!(replica.iter().all(|(link, _)| link.limit == Some(None)), "for information");
        let proxy = to(&server(Role::Proxy, "https://sydney.example.com/base"));
        assert_eq!(shown(&proxy), ["http https://sydney.example.com/base/latency-check"]);
        assert_eq!(to(&server(Role::Postgres, "http://10.0.0.2")), []);
        assert_eq!(shown(&to(&server(Role::Coderd, "nonsense://"))), ["nats 10.0.0.2:6222"]);
    }

    #[test]
    fn who_vanishes_is_measured_for_a_while_and_who_stops_for_a_shorter_one() {
        let at = Duration::from_secs;
        let mut paths = Paths::default();
        let mut replica = server(Role::Coderd, "http://10.0.0.2:8080");
        paths.update([&replica].into_iter(), HEALTH_EVERY, at(0));
        paths.update([].into_iter(), HEALTH_EVERY, at(599));
        assert_eq!(paths.all().count(), 3);
        replica.facts.status = Status::Leaving;
        paths.update([&replica].into_iter(), HEALTH_EVERY, at(599));
        paths.update([&replica].into_iter(), HEALTH_EVERY, at(700));
        assert_eq!(paths.all().count(), 0);
        paths.update([&replica].into_iter(), HEALTH_EVERY, at(701));
        assert_eq!(paths.all().count(), 0, "it is about to stop");
    }
}
