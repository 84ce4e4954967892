//! What the watches have told so far, and the sightings that follow from it. Pure.
//!
//! A pod of both families stands in one slice of each, and while slices are rebalanced an endpoint may stand in two at
//! once: all that name one pod are one sighting.

use std::collections::BTreeMap;
use std::net::IpAddr;

use probes::target::HostPort;

use crate::mesh::peer::Role;
use crate::mesh::roster::{Sighting, Status};

use super::claims;
use super::object::{Conditions, Endpoint, Node, Object, Port, Slice};

/// Whose endpoints a slice holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Service {
    Agents,
    Coderd,
}

/// A change of one kind of object.
#[derive(Debug)]
pub(super) enum Change<T> {
    /// These are all.
    All(Vec<T>),
    /// This one is new, or has changed.
    Put(T),
    /// This one is no more.
    Gone(T),
}

#[derive(Debug)]
pub(super) struct Picture {
    /// Where an agent's reflector listens if its service names no port.
    peer_port: u16,
    slices: BTreeMap<Service, BTreeMap<String, Slice>>,
    nodes: BTreeMap<String, Node>,
}

impl Picture {
    pub(super) fn new(peer_port: u16) -> Self {
        Self { peer_port, slices: BTreeMap::new(), nodes: BTreeMap::new() }
    }

    /// The answer is whether anything is different.
    pub(super) fn slices(&mut self, service: Service, change: Change<Slice>) -> bool {
        let first = !self.slices.contains_key(&service);
        apply(self.slices.entry(service).or_default(), change) || first
    }

    /// The answer is whether anything is different: of most changes of a node, its heartbeats, we keep nothing.
    pub(super) fn nodes(&mut self, change: Change<Node>) -> bool {
        apply(&mut self.nodes, change)
    }

    /// Whether any service has told who its endpoints are, even if that is nobody.
    pub(super) fn has_heard(&self) -> bool {
        !self.slices.is_empty()
    }

    /// Everybody, by key.
    pub(super) fn sightings(&self) -> Vec<Sighting> {
        let mut found: BTreeMap<String, Seen> = BTreeMap::new();
        for (service, slices) in &self.slices {
            for slice in slices.values() {
                for endpoint in &slice.endpoints {
                    let addresses: Vec<IpAddr> =
                        endpoint.addresses.iter().filter_map(|text| text.parse().ok()).collect();
                    if let Some(key) = key(*service, endpoint, &addresses) {
                        let seen = found.entry(key.clone()).or_default();
                        self.add(*service, seen, slice, endpoint, &addresses);
                        seen.sighting.key = key;
                    }
                }
            }
        }
        found.into_values().map(|seen| self.finish(seen)).collect()
    }

    fn add(
        &self,
        service: Service,
        seen: &mut Seen,
        slice: &Slice,
        endpoint: &Endpoint,
        addresses: &[IpAddr],
    ) {
        let sighting = &mut seen.sighting;
        sighting.addresses.extend(addresses);
        match service {
            Service::Agents => {
                let port = reflector_port(&slice.ports).unwrap_or(self.peer_port);
                for address in addresses {
                    let reflector = HostPort { host: address.to_string(), port };
                    if !sighting.reflectors.contains(&reflector) {
                        sighting.reflectors.push(reflector);
                    }
                }
            }
            Service::Coderd => {
                sighting.role = Some(Role::Coderd);
                if sighting.relay.is_none() {
                    sighting.relay = addresses.first().and_then(|address| relay(*address, &slice.ports));
                }
            }
        }
        let first = |mine: &mut Option<String>, other: Option<String>| {
            if mine.is_none() {
                *mine = other.filter(|text| !text.is_empty());
            }
        };
        first(&mut sighting.host_name, endpoint.hostname.clone().or_else(|| pod(endpoint).map(host_name)));
        first(&mut sighting.node, endpoint.node_name.clone());
        first(&mut seen.zone, endpoint.zone.clone());
        // That it stops cannot be taken back; of two that differ about readiness, one is old, and readiness wins.
        let status = status(&endpoint.conditions);
        seen.leaving |= status == Status::Leaving;
        seen.ready |= status == Status::Alive;
    }

    fn finish(&self, seen: Seen) -> Sighting {
        let Seen { mut sighting, zone, leaving, ready } = seen;
        let node = sighting.node.as_ref().and_then(|name| self.nodes.get(name));
        sighting.status = match (leaving, ready) {
            (true, _) => Status::Leaving,
            (false, true) if node.is_none_or(Node::is_well) => Status::Alive,
            (false, _) => Status::NotReady,
        };
        sighting.claims = node.map(claims::of_node).unwrap_or_default();
        if sighting.claims.is_empty() {
            sighting.claims.extend(zone.as_deref().and_then(claims::of_zone));
        }
        sighting
    }
}

/// One pod, as put together so far.
#[derive(Default)]
struct Seen {
    sighting: Sighting,
    zone: Option<String>,
    leaving: bool,
    ready: bool,
}

fn apply<T: Object>(all: &mut BTreeMap<String, T>, change: Change<T>) -> bool {
    // A version differs each time.
    let named = |mut object: T| {
        let metadata = object.metadata();
        metadata.resource_version = None;
        (metadata.name.clone(), object)
    };
    match change {
        Change::All(objects) => {
            let new = objects.into_iter().map(named).collect();
            let different = *all != new;
            *all = new;
            different
        }
        Change::Put(object) => {
            let (name, object) = named(object);
            let different = all.get(&name) != Some(&object);
            all.insert(name, object);
            different
        }
        Change::Gone(object) => all.remove(&named(object).0).is_some(),
    }
}

fn pod(endpoint: &Endpoint) -> Option<&str> {
    let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"))?;
    target.name.as_deref().filter(|name| !name.is_empty())
}

/// The pod's name, or an address where a person wrote the slice. Nobody can be told from an endpoint with neither, and an
/// agent without an address cannot be asked anything.
fn key(service: Service, endpoint: &Endpoint, addresses: &[IpAddr]) -> Option<String> {
    let (word, needs_address) = match service {
        Service::Agents => ("agent", true),
        Service::Coderd => ("coderd", false),
    };
    let address = addresses.first().map(ToString::to_string);
    if address.is_none() && needs_address {
        return None;
    }
    Some(format!("{word}/{}", pod(endpoint).map(str::to_owned).or(address)?))
}

/// A pod's host name is its own, cut as the kubelet cuts it.
pub(super) fn host_name(pod: &str) -> String {
    const LONGEST: usize = 63;
    let cut: String = pod.chars().take(LONGEST).collect();
    if cut.len() < pod.len() { cut.trim_end_matches(['-', '.']).to_owned() } else { cut }
}

/// `serving` is the pod's own readiness; `ready` is without meaning where a service publishes what is not ready. What is
/// missing counts as ready, as the API says.
fn status(conditions: &Conditions) -> Status {
    if conditions.terminating == Some(true) {
        Status::Leaving
    } else if conditions.serving.or(conditions.ready).unwrap_or(true) {
        Status::Alive
    } else {
        Status::NotReady
    }
}

fn number(port: &Port) -> Option<u16> {
    port.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
}

/// Echoes travel over UDP.
fn reflector_port(ports: &[Port]) -> Option<u16> {
    ports.iter().find(|port| port.protocol.as_deref() == Some("UDP")).and_then(number)
}

/// Where the other replicas reach the relay of Coder's chart: the pod's `http` port.
fn relay(address: IpAddr, ports: &[Port]) -> Option<String> {
    let named = |name: &str| ports.iter().find(|port| port.name.as_deref() == Some(name));
    let only =
        ports.first().filter(|port| ports.len() == 1 && port.name.as_deref().unwrap_or_default().is_empty());
    let (scheme, port) = match (named("http").or(only), named("https")) {
        (Some(http), _) => ("http", http),
        (None, Some(https)) => ("https", https),
        (None, None) => return None,
    };
    let place = HostPort { host: address.to_string(), port: number(port)? };
    Some(format!("{scheme}://{place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, protocol: &str, port: i64) -> Port {
        let name = Some(name.to_owned()).filter(|name| !name.is_empty());
        Port { name, protocol: Some(protocol.to_owned()), port: Some(port) }
    }

    #[test]
    fn the_relay_is_at_the_http_port_of_the_chart_or_at_the_only_one() {
        let relay = |ports: &[Port]| relay("10.0.0.1".parse().unwrap(), ports);
        let (http, https) = (port("http", "TCP", 8080), port("https", "TCP", 8443));
        let metrics = port("prometheus-http", "TCP", 2112);
        assert_eq!(relay(&[metrics.clone(), https.clone(), http]).as_deref(), Some("http://10.0.0.1:8080"));
        assert_eq!(relay(&[https, metrics.clone()]).as_deref(), Some("https://10.0.0.1:8443"));
        assert_eq!(relay(&[port("", "TCP", 80)]).as_deref(), Some("http://10.0.0.1:80"));
        for none in [&[][..], &[metrics], &[port("http", "TCP", 0)], &[port("http", "TCP", 70_000)]] {
            assert_eq!(relay(none), None, "{none:?}");
        }
    }

    #[test]
    fn echoes_go_to_the_udp_port() {
        assert_eq!(reflector_port(&[port("web", "TCP", 9863), port("echo", "UDP", 9900)]), Some(9900));
        assert_eq!(reflector_port(&[port("web", "TCP", 9863)]), None);
    }

    #[test]
    fn a_long_name_of_a_pod_is_cut_as_the_kubelet_cuts_it_for_the_host() {
        assert_eq!(host_name("coder-1"), "coder-1");
        let long = format!("{}-{}", "a".repeat(62), "b".repeat(9));
        assert_eq!(host_name(&long), "a".repeat(62));
    }

    #[test]
    fn an_endpoint_that_stands_in_two_slices_for_a_while_is_one_and_its_end_is_believed() {
        let endpoint = |ready, terminating| Endpoint {
            addresses: vec!["10.0.0.1".into()],
            conditions: Conditions {
                ready: Some(ready),
                serving: Some(ready),
                terminating: Some(terminating),
            },
            ..Endpoint::default()
        };
        let mut picture = Picture::new(9862);
        for (old, new, expected) in [
            (endpoint(false, false), endpoint(true, false), Status::Alive),
            (endpoint(true, false), endpoint(true, true), Status::Leaving),
            (endpoint(false, false), endpoint(false, false), Status::NotReady),
        ] {
            let slice = |name: &str, endpoint| {
                let mut slice = Slice { endpoints: vec![endpoint], ..Slice::default() };
                slice.metadata.name = name.to_owned();
                slice
            };
            picture.slices(Service::Coderd, Change::All(vec![slice("old", old), slice("new", new)]));
            let seen = picture.sightings();
            assert_eq!((seen.len(), seen[0].status), (1, expected));
        }
    }

    #[test]
    fn a_heartbeat_of_a_node_is_no_change() {
        let mut picture = Picture::new(9862);
        let node = |version: &str, cordoned| {
            let mut node = Node::default();
            node.metadata.name = "a".into();
            node.metadata.resource_version = Some(version.into());
            node.spec.unschedulable = Some(cordoned);
            node
        };
        assert!(picture.nodes(Change::All(vec![node("1", false)])));
        assert!(!picture.nodes(Change::Put(node("2", false))));
        assert!(!picture.nodes(Change::All(vec![node("3", false)])));
        assert!(picture.nodes(Change::Put(node("4", true))));
        assert!(picture.nodes(Change::Gone(node("5", true))));
        assert!(!picture.nodes(Change::Gone(node("5", true))));
    }
}
