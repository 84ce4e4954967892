//! What discovery found: from its news to links that are measured.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use probes::Target;
use probes::target::{HostPort, Kind};

use super::Agent;
use super::paths::Paths;
use crate::discovery::{self, News, Peers};
use crate::mesh::database::Known;
use crate::mesh::failover::{Place, Witness};
use crate::mesh::neighbours::{self, Stance, Stances};
use crate::mesh::peer::{Link, Role};
use crate::mesh::region;
use crate::mesh::roster::{Claim, Member, Roster, Sighting, Source, Status, beside};
use crate::mesh::standing::SourceStanding;

/// Who is seen no more without having said goodbye is measured for so much longer: that it does not answer is news.
pub(super) const LINGER: Duration = Duration::from_secs(600);
/// Who is about to stop is measured for so much longer: its silence will be no news.
pub(super) const LEAVES_WITHIN: Duration = Duration::from_secs(90);
/// More links than any agent can look after.
pub(super) const LINKS_AT_MOST: usize = 512;

/// The roster and the links that follow from it.
#[derive(Debug, Default)]
pub(super) struct Found {
    roster: Roster,
    /// Joined anew whenever a source tells something new.
    members: Vec<Member>,
    links: BTreeMap<String, One>,
    /// What coderd's own traffic takes.
    paths: Paths,
    /// What Coder's database said of itself last.
    pub(super) database: Option<Known>,
    /// Where the cloud says that we stand.
    pub(super) claims: Vec<Claim>,
    /// No server stands beside us.
    pub(super) is_idle: bool,
}

#[derive(Debug, Clone)]
pub(super) struct One {
    pub(super) link: Link,
    pub(super) target: Target,
    pub(super) seen: Duration,
    /// Since when its source says that it stops.
    pub(super) leaving: Option<Duration>,
}

impl Found {
    /// Everybody, by all sources.
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// A source sees these now; whether that is news.
    fn hear(&mut self, source: Source, sightings: Vec<Sighting>, now: Duration) -> bool {
        let news = self.roster.hear(source, sightings, now);
        if news {
            self.members = self.roster.members();
        }
        news
    }

    /// Whether this source has told anything yet.
    pub(super) fn knows(&self, source: Source) -> bool {
        self.roster.sources().any(|(other, ..)| other == source)
    }

    /// What this source told says nothing any more.
    pub(super) fn forget(&mut self, source: Source) {
        if self.roster.forget(source) {
            self.members = self.roster.members();
        }
    }

    /// How each source is doing.
    pub(super) fn sources(&self, now: Duration) -> Vec<SourceStanding> {
        let told = self.roster.sources();
        told.map(|(source, at, failure)| SourceStanding {
            source,
            told: at.map(|at| now.saturating_sub(at)),
            failure: failure.map(str::to_owned),
        })
        .collect()
    }

    /// All that is to be measured: what was given, and what was found and not given already.
    pub(super) fn beside(&self, given: &[(Link, Target)]) -> Vec<(Link, Target)> {
        let mut all = given.to_vec();
        for one in self.links.values().chain(self.paths.all()) {
            let is_given = given.iter().any(|(link, target)| {
                *target == one.target || (link.target == one.link.target && link.kind == one.link.kind)
            });
            if !is_given {
                all.push((one.link.clone(), one.target.clone()));
            }
        }
        all
    }

    /// Makes links of the members that are agents, but not of ourselves.
    fn update(&mut self, own: &Ourselves<'_>, now: Duration) {
        let stances = Stances::of(&self.members);
        // A server may have the name of the agent beside it, and is no reason to end that one's link.
        for member in self.members.iter().filter(|member| member.is_agent()) {
            let Some((link, target)) = own.link_to(member, &stances) else {
                // It is there, and not to be measured.
                self.links.remove(&member.name);
                continue;
            };
            // Under another name, which it has told meanwhile or does not tell any more, it is the same.
            let known =
                self.links.iter_mut().find(|(name, one)| **name != member.name && one.target == target);
            if let Some((_, one)) = known.filter(|(_, one)| one.leaving.is_none()) {
                (one.seen, one.link.role, one.link.every) = (now, link.role, link.every);
                continue;
            }
            if self.links.len() >= LINKS_AT_MOST && !self.links.contains_key(&member.name) {
                continue;
            }
            let before = self.links.get(&member.name);
            let stops = member.facts.status == Status::Leaving;
            if stops && before.is_none() {
                continue;
            }
            let leaving = stops.then(|| before.and_then(|one| one.leaving).unwrap_or(now));
            let one = One { link, target, seen: now, leaving };
            self.links.insert(member.name.clone(), one);
        }
        self.links.retain(|_, one| {
            now.saturating_sub(one.seen) < LINGER
                && one.leaving.is_none_or(|since| now.saturating_sub(since) < LEAVES_WITHIN)
        });
    }

    /// The other replicas' own addresses, where we stand beside one.
    fn update_paths(&mut self, role: Option<Role>, own: &Sighting, now: Duration) {
        if role != Some(Role::Coderd) {
            self.paths.clear();
            return;
        }
        let ours: BTreeSet<&str> =
            beside(own, &self.members).into_iter().map(|server| server.facts.key.as_str()).collect();
        let others = self.members.iter().filter(|member| !ours.contains(member.facts.key.as_str()));
        self.paths.update(others, now);
    }

    /// Those that said goodbye, or whose source says that they stop.
    fn leaving(&self) -> BTreeSet<&str> {
        let all = self.links.values().chain(self.paths.all());
        all.filter(|one| one.leaving.is_some()).map(|one| one.link.target.as_str()).collect()
    }
}

/// What we know of ourselves, so as not to measure it.
pub(crate) struct Ourselves<'a> {
    /// Our name in the mesh.
    pub(crate) name: &'a str,
    /// The port where we answer echoes, if we do.
    pub(crate) port: Option<u16>,
    /// Our addresses.
    pub(crate) addresses: &'a BTreeSet<IpAddr>,
    /// What we stand beside.
    pub(crate) stance: Stance,
}

impl Ourselves<'_> {
    /// The link to a member, if it is an agent other than us and one that we measure.
    pub(crate) fn link_to(&self, member: &Member, stances: &Stances<'_>) -> Option<(Link, Target)> {
        if !member.is_agent() || self.is(member) {
            return None;
        }
        let address = self.choose(&member.facts.reflectors)?;
        let other = stances.stance(&member.facts);
        let every = neighbours::every(self.stance, other)?;
        let role = match other {
            Stance::Active(role) => role,
            Stance::Idle => None,
        };
        let link = Link { every, ..Link::to(member.name.clone(), Kind::Peer, role) };
        Some((link, Target::Peer(address)))
    }

    /// Whom to ask how long a notification takes: those that are measured and have announced themselves the same way.
    fn asks(&self, members: &[Member]) -> Peers {
        let stances = Stances::of(members);
        let announced = members.iter().filter(|member| {
            member.sources.contains(&Source::Presence)
                && member.facts.status == Status::Alive
                && self.link_to(member, &stances).is_some()
        });
        let names = announced.filter_map(|member| member.facts.agent.clone()).collect();
        matches!(self.stance, Stance::Active(_)).then_some(names)
    }

    fn is(&self, member: &Member) -> bool {
        let ours = |reflector: &HostPort| {
            Some(reflector.port) == self.port
                && reflector.host.parse().is_ok_and(|ip: IpAddr| self.addresses.contains(&ip))
        };
        member.facts.agent.as_deref() == Some(self.name) || member.facts.reflectors.iter().any(ours)
    }

    /// One of an agent's addresses: of a family that we have ourselves, if that is known.
    fn choose(&self, reflectors: &[HostPort]) -> Option<HostPort> {
        let reachable = |reflector: &&HostPort| match reflector.host.parse::<IpAddr>() {
            Ok(ip) => self.addresses.iter().any(|own| own.is_ipv4() == ip.is_ipv4()),
            Err(_) => true,
        };
        reflectors.iter().find(reachable).or_else(|| reflectors.first()).cloned()
    }
}

impl Agent {
    /// The settings of discovery with the address at which we really answer.
    pub(super) fn reachable(&self) -> discovery::Settings {
        let mut settings = self.settings.discovery.clone();
        let listening = self.measuring.listening();
        if let Some(coder) = &mut settings.coder {
            coder.reflector = listening;
        }
        if let Some(dns) = &mut settings.dns {
            dns.own_port = listening.map(|address| address.port());
            dns.own.extend(listening.map(|address| address.ip()).filter(|ip| !ip.is_unspecified()));
        }
        settings
    }

    /// Takes in what a source tells.
    pub(super) async fn hear(&mut self, news: News) {
        let now = self.age();
        match news {
            News::Seen(source, _) | News::Failed(source, _) | News::Blind(source, _)
                if !self.listens_to(source) => {}
            News::Database(_) | News::Pubsub(_) if !self.listens_to(Source::Postgres) => {}
            News::Seen(source, sightings) => {
                let count = sightings.len();
                if self.found.hear(source, sightings, now) {
                    tracing::debug!(source = source.as_str(), count, "the roster has changed");
                    self.look_for_links().await;
                }
            }
            News::Failed(source, error) => {
                let is_news = self.found.roster.fail(source, &error);
                self.source_failed(source, &error, is_news);
            }
            News::Database(facts) => {
                self.hear_place(&facts.name, Witness::Discovery, Place::of(&facts));
                self.found.hear(Source::Postgres, facts.sightings(), now);
                self.found.database = Some(Known::hear(self.found.database.take(), facts, now));
            }
            News::Pubsub(exchange) => self.pubsub.record(&exchange, now),
            News::Cloud(whereabouts) => {
                let places: Vec<_> =
                    whereabouts.claims.iter().map(|claim| region::written(&claim.region)).collect();
                tracing::info!(
                    regions = places.join(", "),
                    instance = whereabouts.instance.as_deref().unwrap_or("-"),
                    not_found = whereabouts.explanation().unwrap_or_default(),
                    "the cloud was asked where this machine stands"
                );
                self.found.claims = whereabouts.claims;
            }
            News::Blind(source, what) => {
                tracing::warn!(source = source.as_str(), what, "discovery cannot see everything");
                if !self.judged.blind.contains(&what) {
                    self.judged.blind.push(what);
                }
            }
        }
    }

    /// All that is to be measured by these settings.
    pub(super) fn wanted(&self, settings: &super::Settings) -> Vec<(Link, Target)> {
        let given = settings.targets.iter().filter(|(_, target)| !self.is_left_alone(settings, target));
        self.found.beside(&given.cloned().collect::<Vec<_>>())
    }

    /// Measures whom the roster asks to, when it has changed and every few seconds.
    pub(super) async fn look_for_links(&mut self) {
        // Without discovery, what was given is all.
        if self.settings.discovery.is_empty() {
            return;
        }
        let now = self.age();
        let listening = self.measuring.listening();
        let addresses = match listening.map(|address| address.ip()) {
            Some(ip) if !ip.is_unspecified() => BTreeSet::from([ip]),
            _ => discovery::own_addresses(),
        };
        let identity = self.identity().sighting();
        let own = Ourselves {
            name: &self.settings.own.name,
            port: listening.map(|address| address.port()),
            addresses: &addresses,
            stance: Stances::of(self.found.members()).stance(&identity),
        };
        let role = match own.stance {
            Stance::Active(role) => role,
            Stance::Idle => None,
        };
        let stance = own.stance;
        self.found.update(&own, now);
        let asked = own.asks(self.found.members());
        self.asking.send_if_modified(|before| std::mem::replace(before, asked.clone()) != asked);
        self.found.update_paths(role, &identity, now);
        self.rest_or_work(stance);
        if role != self.links.own().role {
            tracing::info!(
                role = role.map_or("-", Role::as_str),
                "what this agent stands beside was found out"
            );
            self.links.set_role(role);
        }
        let targets = self.wanted(&self.settings);
        if targets != self.targets {
            match self.measure(self.settings.clone(), targets).await {
                Ok((added, removed)) => {
                    tracing::info!(
                        added,
                        removed,
                        targets = self.targets.len(),
                        "discovery changed the targets"
                    );
                }
                Err(error) => tracing::error!(%error, "what discovery found cannot be measured"),
            }
        }
        let leaving = self.found.leaving();
        let ids: Vec<_> = self
            .links
            .all()
            .filter(|(_, watch)| leaving.contains(watch.link.target.as_str()))
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            if let Some(watch) = self.links.get_mut(id) {
                watch.leaves(now);
            }
        }
        self.tick();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str, last: u8) -> Sighting {
        Sighting {
            key: name.into(),
            agent: Some(name.into()),
            reflectors: vec![HostPort { host: format!("10.0.0.{last}"), port: 9862 }],
            addresses: BTreeSet::from([IpAddr::from([10, 0, 0, last])]),
            ..Sighting::default()
        }
    }

    fn names(found: &Found) -> Vec<&str> {
        found.links.keys().map(String::as_str).collect()
    }

    #[test]
    fn everybody_but_ourselves_is_measured_and_who_vanishes_is_for_a_while() {
        let addresses = BTreeSet::from([IpAddr::from([10, 0, 0, 1])]);
        let own =
            Ourselves { name: "me", port: Some(9862), addresses: &addresses, stance: Stance::Active(None) };
        let mut found = Found::default();
        let at = Duration::from_secs;
        found.hear(Source::Presence, vec![agent("me", 9), agent("b", 2), agent("me-by-address", 1)], at(0));
        found.update(&own, at(0));
        assert_eq!(names(&found), ["b"]);
        found.hear(Source::Presence, vec![agent("c", 3)], at(10));
        found.update(&own, at(10));
        assert_eq!(names(&found), ["b", "c"], "b may have crashed");
        found.update(&own, at(605));
        assert_eq!(names(&found), ["c"]);
    }

    #[test]
    fn a_server_of_the_same_name_does_not_end_the_link_to_the_agent_beside_it() {
        let addresses = BTreeSet::new();
        let own = Ourselves { name: "me", port: None, addresses: &addresses, stance: Stance::Active(None) };
        let mut found = Found::default();
        found.hear(Source::Presence, vec![agent("coder-6", 6)], Duration::ZERO);
        let server = Sighting {
            key: "later than the agent's".into(),
            role: Some(Role::Coderd),
            host_name: Some("coder-6".into()),
            ..Sighting::default()
        };
        found.hear(Source::Coder, vec![server], Duration::ZERO);
        found.update(&own, Duration::ZERO);
        assert_eq!(names(&found), ["coder-6"]);
    }

    #[test]
    fn who_is_about_to_stop_is_measured_for_a_little_longer_and_not_again_until_it_is_back() {
        let addresses = BTreeSet::new();
        let own = Ourselves { name: "me", port: None, addresses: &addresses, stance: Stance::Active(None) };
        let mut found = Found::default();
        let at = Duration::from_secs;
        let stopping = Sighting { status: Status::Leaving, ..agent("b", 2) };
        let story = [
            (0, false, true),
            (10, true, true),
            (90, true, true),
            (110, true, false),
            (120, true, false),
            (130, false, true),
        ];
        for (second, stops, there) in story {
            let one = if stops { stopping.clone() } else { agent("b", 2) };
            found.hear(Source::Presence, vec![one], at(second));
            found.update(&own, at(second));
            assert_eq!(names(&found).len(), usize::from(there), "at {second}");
        }
    }

    #[test]
    fn what_was_given_is_not_measured_twice() {
        let mut found = Found::default();
        let addresses = BTreeSet::new();
        let own = Ourselves { name: "me", port: None, addresses: &addresses, stance: Stance::Active(None) };
        found.hear(Source::Presence, vec![agent("b", 2), agent("c", 3)], Duration::ZERO);
        found.update(&own, Duration::ZERO);
        let address = HostPort { host: "10.0.0.2".into(), port: 9862 };
        let link = Link::to(address.to_string(), Kind::Peer, None);
        let all = found.beside(&[(link, Target::Peer(address))]);
        let targets: Vec<_> = all.iter().map(|(link, _)| link.target.as_str()).collect();
        assert_eq!(targets, ["10.0.0.2:9862", "c"]);
    }

    #[test]
    fn an_agent_without_a_role_has_that_of_the_server_beside_it() {
        let mut found = Found::default();
        let addresses = BTreeSet::new();
        let own = Ourselves { name: "me", port: None, addresses: &addresses, stance: Stance::Active(None) };
        let replica = Sighting {
            key: "r".into(),
            role: Some(Role::Coderd),
            addresses: BTreeSet::from([IpAddr::from([10, 0, 0, 2])]),
            ..Sighting::default()
        };
        found.hear(Source::Coder, vec![replica], Duration::ZERO);
        found.hear(Source::Presence, vec![agent("b", 2)], Duration::ZERO);
        found.update(&own, Duration::ZERO);
        assert_eq!(found.links["b"].link.role, Some(Role::Coderd));
    }
}
