//! What is known of one name: its records and those of what they point at, each as it was answered last.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::rr::{Name as FullName, RecordType};
use tokio::task::JoinSet;

use super::ask::{Asked, Asker, Fact};
use super::{Name, Settings};

/// So many targets of SRV records are asked for at a time.
const AT_A_TIME: usize = 8;

const FAMILIES: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

/// What a name has, by last account.
#[derive(Debug, Clone, Default)]
pub(super) struct Round {
    pub(super) members: Vec<HostAddresses>,
    /// How many there are more than are taken.
    pub(super) more: usize,
    /// What cannot be told, and why.
    pub(super) failures: BTreeSet<String>,
}

/// One agent: its addresses and its port, and its host's name where SRV records gave one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostAddresses {
    pub(super) target: Option<String>,
    pub(super) port: u16,
    pub(super) addresses: BTreeSet<IpAddr>,
}

/// Where a round's answers go, beside what is known.
pub(super) struct Answers<'a> {
    pub(super) asker: &'a Arc<Asker>,
    pub(super) ttl: &'a mut Option<Duration>,
    pub(super) failures: &'a mut BTreeSet<String>,
}

/// What was answered last for one host, by type of record.
#[derive(Debug, Clone, Default)]
struct Host {
    facts: BTreeMap<RecordType, BTreeSet<Fact>>,
    settled: Option<FullName>,
}

impl Host {
    /// Takes what was answered; what could not be told stays as it was.
    fn take(&mut self, host: &str, asked: Asked, round: &mut Answers<'_>) {
        self.settled = asked.settled;
        for (kind, answer) in asked.by_type {
            match answer {
                Ok(answer) => {
                    // An answer without time to live is asked for again soon.
                    let ttl = answer.ttl.unwrap_or_default();
                    // Of two families most names have only one: what the other lacks is no reason to hurry.
                    if !answer.facts.is_empty() || answer.ttl.is_some() {
                        *round.ttl = Some(round.ttl.map_or(ttl, |shortest| shortest.min(ttl)));
                    }
                    self.facts.insert(kind, answer.facts);
                }
                Err(failure) => {
                    round.failures.insert(format!("{host} ({kind}): {failure}"));
                }
            }
        }
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        let address = |fact: &Fact| match fact {
            Fact::Address(ip) => Some(ip.to_canonical()),
            _ => None,
        };
        self.facts.values().flatten().filter_map(address).filter(is_somebody).collect()
    }

    fn services(&self) -> BTreeSet<(String, u16)> {
        let service = |fact: &Fact| match fact {
            Fact::Service { target, port } => Some((target.clone(), *port)),
            _ => None,
        };
        self.facts.values().flatten().filter_map(service).collect()
    }
}

/// What is known of a name: its own records and, of SRV records, those of the targets.
#[derive(Debug, Default)]
pub(super) struct Known {
    own: Host,
    targets: BTreeMap<String, Host>,
}

impl Known {
    pub(super) async fn refresh(&mut self, name: &Name, most: usize, round: &mut Answers<'_>) {
        let types: &[RecordType] = if name.is_service() { &[RecordType::SRV] } else { &FAMILIES };
        let asked = round.asker.ask(name.host(), types, self.own.settled.as_ref()).await;
        self.own.take(name.host(), asked, round);
        let services = self.own.services();
        let targets: BTreeSet<String> = services.into_iter().take(most).map(|(target, _)| target).collect();
        self.targets.retain(|target, _| targets.contains(target));
        let mut targets = targets.into_iter();
        let mut asking = JoinSet::new();
        loop {
            while asking.len() < AT_A_TIME
                && let Some(target) = targets.next()
            {
                let asker = Arc::clone(round.asker);
                asking.spawn(async move {
                    let asked = asker.ask(&format!("{target}."), &FAMILIES, None).await;
                    (target, asked)
                });
            }
            match asking.join_next().await {
                None => break,
                Some(Ok((target, asked))) => {
                    self.targets.entry(target.clone()).or_default().take(&target, asked, round);
                }
                Some(Err(_)) => {}
            }
        }
    }

    pub(super) fn round(&self, name: &Name, settings: &Settings, failures: BTreeSet<String>) -> Round {
        let port = name.port().unwrap_or(settings.port);
        let mut members: BTreeSet<HostAddresses> = if name.is_service() {
            let member = |(target, port): (String, u16)| {
                let addresses = self.targets.get(&target).map(Host::addresses).unwrap_or_default();
                HostAddresses { target: Some(target), port, addresses }
            };
            self.own.services().into_iter().map(member).collect()
        } else {
            let member = |ip| HostAddresses { target: None, port, addresses: BTreeSet::from([ip]) };
            self.own.addresses().into_iter().map(member).collect()
        };
        let more = members.len().saturating_sub(settings.most);
        while members.len() > settings.most {
            members.pop_last();
        }
        // Of a host with several addresses one that is ours is enough: all of it is ourselves.
        let ours = |ip: &IpAddr| settings.own.contains(ip) || is_of_this_machine(*ip);
        members.retain(|member| {
            let port_is_ours = settings.own_port.is_none_or(|port| port == member.port);
            let is_us = port_is_ours && member.addresses.iter().any(ours);
            !is_us && !member.addresses.is_empty()
        });
        Round { members: members.into_iter().collect(), more, failures }
    }
}

/// Whether somebody can have this address at all.
fn is_somebody(ip: &IpAddr) -> bool {
    let broadcast = *ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    !(ip.is_unspecified() || ip.is_multicast() || broadcast)
}

/// Whether the system would talk to this address from itself. Nothing is sent for it. Unlike a list of the interfaces it
/// is true of the moment, and unlike a bind it holds where addresses of others may be bound.
fn is_of_this_machine(ip: IpAddr) -> bool {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0))
        .and_then(|socket| {
            // The discard port: a connect of UDP only chooses the way.
            socket.connect((ip, 9))?;
            socket.local_addr()
        })
        .is_ok_and(|local| local.ip() == ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_addresses_are_of_this_machine() {
        assert!(is_of_this_machine(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_of_this_machine("192.0.2.1".parse().unwrap()));
        assert!(!is_of_this_machine("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn nobody_has_an_address_that_means_all_or_none() {
        for (text, somebody) in [
            ("0.0.0.0", false),
            ("::", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
            ("255.255.255.255", false),
            ("10.0.0.1", true),
            ("fd00::1", true),
        ] {
            assert_eq!(is_somebody(&text.parse().unwrap()), somebody, "{text}");
        }
    }
}
