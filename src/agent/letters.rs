//! Letters to and from the other agents: so that each of them knows the whole mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use probes::quic::letter::Letter;
use probes::target::{HostPort, Kind};

use super::Agent;
use crate::mesh::peer::Role;
use crate::mesh::proxies::Proxy;
use crate::mesh::region;
use crate::mesh::roster::{Claim, Source, beside};
use crate::mesh::state::Watch;
use crate::mesh::whole::{Identity, Row, Whole};
use crate::{discovery, exchange};

/// How often what has changed is written.
pub(super) const WRITE_EVERY: Duration = Duration::from_secs(5);
/// Every so many times all is written, in case that a letter got lost.
const FULL_EVERY: u32 = 12;

/// What was heard of others, and what they were told of us.
#[derive(Debug, Default)]
pub(super) struct Letters {
    pub(super) whole: Whole,
    told: BTreeMap<(String, Kind), Row>,
    knows_us: BTreeSet<u32>,
    round: u32,
    /// The proxies of which those who measure us were told.
    told_proxies: Option<Vec<Proxy>>,
}

impl Agent {
    /// What we say of ourselves.
    pub(super) fn identity(&self) -> Identity {
        let own = &self.settings.own;
        let said = own.region.as_ref().map(|region| Claim {
            trust: 2,
            by: "--region".to_owned(),
            region: region::name(region),
            zone: own.zone.clone(),
        });
        let told = self.settings.discovery.claims.iter().chain(&self.found.claims).cloned();
        let (addresses, reflectors) = self.reachable_at();
        let mut identity = Identity {
            name: own.name.clone(),
            role: own.role,
            host_name: own.host_name.clone(),
            node: own.node.clone(),
            claims: said.into_iter().chain(told).collect(),
            addresses,
            reflectors,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        if identity.role.is_none() {
            let members = self.found.members();
            identity.role =
                beside(&identity.sighting(), members).iter().filter_map(|server| server.facts.role).min();
        }
        identity
    }

    /// Our own addresses, and where others reach our reflector, as far as we know.
    fn reachable_at(&self) -> (BTreeSet<IpAddr>, Vec<HostPort>) {
        let Some(listening) = self.measuring.listening() else { return Default::default() };
        let ips = match listening.ip() {
            any if any.is_unspecified() => discovery::own_addresses(),
            ip => BTreeSet::from([ip]),
        };
        let here = ips.iter().map(|ip| HostPort { host: ip.to_string(), port: listening.port() }).collect();
        let advertised = self.settings.discovery.coder.as_ref().map(|coder| coder.advertise.clone());
        (ips, advertised.filter(|advertised| !advertised.is_empty()).unwrap_or(here))
    }

    /// Takes in what a peer wrote.
    pub(super) async fn read(&mut self, letter: Letter) {
        let now = self.age();
        let Some(written) = exchange::decode(&letter.text) else {
            self.letters.whole.drop_one();
            return;
        };
        let from = letter.from.ip().to_canonical();
        if letter.dialled {
            // The writer is told apart by where he answers, and what he says of himself is not asked for.
            if let Some(proxies) = written.proxies {
                self.found.hear_of_proxies(from, proxies, now);
            }
            return;
        }
        if written.from.name == self.settings.own.name {
            // Two agents of one name are a fault that their own roster tells.
            self.letters.whole.drop_one();
            return;
        }
        if self.letters.whole.hear(written, from, now) {
            self.know_the_writers().await;
        }
    }

    /// Who writes is there, and who has not for a while may not be.
    async fn know_the_writers(&mut self) {
        let mut sightings = self.letters.whole.sightings(self.age());
        if !self.settings.discovery.is_empty() {
            // We are one of them, and know best where we stand.
            sightings.push(self.identity().sighting());
        }
        if !sightings.is_empty() || self.found.knows(Source::Exchange) {
            self.hear(discovery::News::Seen(Source::Exchange, sightings)).await;
        }
    }

    /// Time to write.
    pub(super) async fn write(&mut self) {
        self.know_the_writers().await;
        self.look_for_links().await;
        self.write_to_all();
        self.tell_of_proxies();
        self.judge();
    }

    /// Tells those who measure us which proxies there are, where we stand beside coderd and read its database: when they are
    /// others, and once a minute, since it is not believed for ever.
    fn tell_of_proxies(&mut self) {
        let identity = self.identity();
        let Some(proxies) = self.found.proxies().filter(|_| identity.role == Some(Role::Coderd)) else {
            self.letters.told_proxies = None;
            return;
        };
        let is_news = self.letters.told_proxies.as_ref() != Some(&proxies);
        if is_news || self.letters.round.is_multiple_of(FULL_EVERY) {
            match exchange::encode_proxies(&identity, &proxies) {
                Ok(text) => self.measuring.tell(text.into()),
                Err(error) => tracing::error!(%error, "the other agents cannot be told of the proxies"),
            }
            self.letters.told_proxies = Some(proxies);
        }
    }

    /// Writes to each peer: all to one that knows nothing of us yet, to the others what has changed.
    fn write_to_all(&mut self) {
        let identity = self.identity();
        let rows: BTreeMap<_, _> = self
            .links
            .all()
            .map(|(_, watch)| row(watch))
            .map(|row| ((row.target.clone(), row.kind), row))
            .collect();
        let changed: Vec<&Row> = rows
            .iter()
            .filter(|(key, row)| self.letters.told.get(*key).is_none_or(|before| row.differs(before)))
            .map(|(_, row)| row)
            .collect();
        let gone = self.letters.told.keys().any(|key| !rows.contains_key(key));
        self.letters.round += 1;
        let all_full = gone || self.letters.round.is_multiple_of(FULL_EVERY);
        let peers: BTreeSet<u32> = self
            .links
            .all()
            .filter(|(_, watch)| watch.link.kind == Kind::Peer && watch.answers())
            .map(|(id, _)| id)
            .collect();
        let everything: Vec<&Row> = rows.values().collect();
        let now = self.age();
        let encoded = exchange::encode(&identity, true, &everything, now)
            .and_then(|full| Ok((full, exchange::encode(&identity, false, &changed, now)?)));
        let (full, difference): (Arc<[u8]>, Arc<[u8]>) = match encoded {
            Ok((full, difference)) => (full.into(), difference.into()),
            Err(error) => {
                tracing::error!(%error, "a letter to the other agents cannot be written");
                return;
            }
        };
        for id in &peers {
            let knows = self.letters.knows_us.contains(id) && !all_full;
            let text = if knows { &difference } else { &full };
            if self.measuring.write(*id, Arc::clone(text)).is_err() {
                // The measuring thread is gone, which the loop learns by itself.
                return;
            }
        }
        let mut told = std::mem::take(&mut self.letters.told);
        told.retain(|key, _| rows.contains_key(key));
        for row in changed {
            told.insert((row.target.clone(), row.kind), row.clone());
        }
        self.letters.told = told;
        self.letters.knows_us = peers;
    }
}

/// A link in brief.
pub(super) fn row(watch: &Watch) -> Row {
    let view = watch.series().window.all();
    let (rtt, network) = (view.rtt(), view.network());
    Row {
        target: watch.link.target.clone(),
        kind: watch.link.kind,
        role: watch.link.role,
        state: watch.standing().0,
        reason: watch.reason().as_str().to_owned(),
        budget: watch.terms().limit,
        min: if watch.link.kind == Kind::Postgres { network.min() } else { rtt.min() },
        p50: rtt.quantile(0.5),
        p95: rtt.quantile(0.95),
        p99: rtt.quantile(0.99),
        samples: view.judged(),
        lost: view.without_reply(),
        since: watch.standing().1,
        span: watch.terms().interval * view.slots(),
    }
}
