//! Rules about how replicas of coderd find and reach each other: the relay for DERP, the cluster's host for NATS, and the
//! network policies between them.

use std::net::IpAddr;

use super::answer::{Answer, Deployment, Running};
use super::environment::{Setting, Value};
use super::network::Passage;
use crate::mesh::rules::Code;

const RELAY: &str = "CODER_DERP_SERVER_RELAY_URL";
const ACCESS: &str = "CODER_ACCESS_URL";
const CLUSTER_HOST: &str = "CODER_CLUSTER_HOST";
const EXPERIMENTS: &str = "CODER_EXPERIMENTS";
/// Where the NATS servers of Coder's replicas listen to each other.
const NATS_PORT: u32 = 6222;

pub(super) fn relay(deployment: &Deployment<'_>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for site in deployment.sites_of_several() {
        for running in &site {
            match running.known(RELAY, Code::RelayUnset) {
                Err(unjudged) => answers.push(unjudged),
                Ok(Setting::Value(value)) => answers.extend(relay_value(running, &site, &value, deployment)),
                Ok(_) => {
                    let messages = match running.environment.setting(CLUSTER_HOST) {
                        Setting::Unset => {
                            "; neither is CODER_CLUSTER_HOST, so their messages go through PostgreSQL alone"
                        }
                        _ => "",
                    };
                    let evidence = format!("{RELAY} of {} is not set{messages}", running.name());
                    answers.push(running.wrong(Code::RelayUnset, evidence));
                }
            }
        }
    }
    answers
}

fn relay_value(
    running: &Running<'_>,
    site: &[&Running<'_>],
    value: &Value,
    deployment: &Deployment<'_>,
) -> Vec<Answer> {
    let text = value.text();
    let is_of_another = |other: &&&Running<'_>| {
        other.workload.resource != running.workload.resource
            && matches!(other.environment.setting(RELAY), Setting::Value(theirs) if theirs.text() == text)
    };
    let is_shared = running.are_several() || site.iter().any(|other| is_of_another(&other));
    if value.is_of_each_pod() || !is_shared {
        return Vec::new();
    }
    let mut answers = Vec::new();
    match running.known(ACCESS, Code::RelayIsAccessUrl) {
        Ok(Setting::Value(access)) if is_same(&access.text(), &text) => {
            let evidence = format!("{RELAY} and {ACCESS} of {} are both {}", running.name(), shown(value));
            return vec![running.wrong(Code::RelayIsAccessUrl, evidence)];
        }
        Ok(_) => {}
        Err(unjudged) => answers.push(unjudged),
    }
    let host = value.host().text();
    let named = |name: &str| host == name || host.starts_with(&format!("{name}."));
    let mut services = deployment.facts.services.iter();
    let service = services
        .find(|service| named(&service.name) && service.is_beside(&running.workload.resource))
        .map(|service| format!(", which is {service}"));
    let evidence = format!(
        "all replicas of {} give one relay address, {}{}",
        running.name(),
        shown(value),
        service.unwrap_or_default()
    );
    answers.push(running.wrong(Code::SharedRelay, evidence));
    answers
}

fn is_same(one: &str, other: &str) -> bool {
    let plain = |url: &str| url.trim().trim_end_matches('/').to_lowercase();
    plain(one) == plain(other)
}

/// Addresses are no secret, unless somebody put one in.
fn shown(value: &Value) -> String {
    let text = value.in_words();
    if text.contains('@') { "a value that is not shown, as there is an @ in it".to_owned() } else { text }
}

/// Whether this coderd uses NATS.
enum Nats {
    On,
    /// It is made ready for it, which the chart does whether the version has it or not.
    Ready,
    Off,
    /// With why it cannot be told.
    Unknown(String),
}

const MAY_BE_AN_EXPERIMENT: &str = "this version may still have NATS as an experiment";

fn nats(running: &Running<'_>) -> Nats {
    let has = |value: &Value, name: &str| value.text().split(',').any(|word| word.trim() == name);
    match running.environment.setting(EXPERIMENTS) {
        Setting::Value(value) if has(&value, "no_nats_pubsub") => Nats::Off,
        Setting::Value(value) if has(&value, "nats_pubsub") => Nats::On,
        Setting::Unknown(from) => Nats::Unknown(format!("{EXPERIMENTS} comes from {from}")),
        Setting::Value(_) | Setting::Unset => match running.environment.setting(CLUSTER_HOST) {
            Setting::Value(_) => Nats::Ready,
            Setting::Unknown(from) => Nats::Unknown(format!("{CLUSTER_HOST} comes from {from}")),
            Setting::Unset => Nats::Unknown(format!(
                "without {CLUSTER_HOST} it cannot be told whether this version of Coder does"
            )),
        },
    }
}

/// What is wrong only with NATS, where it cannot be told whether there is any.
fn only_with_nats(answer: Answer, why: &str) -> Answer {
    match answer {
        Answer::Wrong { code, evidence, .. } => Answer::Unjudged {
            code,
            text: format!("{evidence}; that matters to coderd with NATS, and {why}"),
        },
        unjudged @ Answer::Unjudged { .. } => unjudged,
    }
}

pub(super) fn cluster_host(deployment: &Deployment<'_>) -> Vec<Answer> {
    let all = deployment.sites_of_several().into_iter().flatten();
    all.filter_map(|running| {
        let answer = match running.known(CLUSTER_HOST, Code::ClusterHostNotPodIp) {
            Err(unjudged) => Some(unjudged),
            Ok(Setting::Value(value)) => not_pod_ip(running, CLUSTER_HOST, &value),
            // The host of the relay stands in. One that all share is told of by itself.
            Ok(_) => match running.environment.setting(RELAY) {
                Setting::Value(relay) if relay.is_of_each_pod() => {
                    let what = "CODER_CLUSTER_HOST is not set, and the host of CODER_DERP_SERVER_RELAY_URL";
                    not_pod_ip(running, what, &relay.host())
                }
                _ => None,
            },
        };
        match nats(running) {
            // Whoever makes it ready wants it right.
            Nats::On | Nats::Ready => answer,
            Nats::Off => None,
            Nats::Unknown(why) => Some(only_with_nats(answer?, &why)),
        }
    })
    .collect()
}

fn not_pod_ip(running: &Running<'_>, what: &str, host: &Value) -> Option<Answer> {
    if host.is_pod_address() {
        return None;
    }
    let name = running.name();
    let is_address = host.text().trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let evidence = match (is_address, running.are_several()) {
        (true, false) => return None,
        (true, true) => format!("{what} of {name} is {} for all replicas", shown(host)),
        (false, _) => {
            format!(
                "{what} of {name} is {}, which is no address, so NATS goes without mutual TLS",
                shown(host)
            )
        }
    };
    Some(running.wrong(Code::ClusterHostNotPodIp, evidence))
}

pub(super) fn relay_blocked(deployment: &Deployment<'_>) -> Vec<Answer> {
    let port = |to: &Running<'_>| match to.environment.setting(RELAY) {
        // What goes by way of a load balancer meets other policies.
        Setting::Value(value) if value.is_of_each_pod() => Some(port_of(&value.text())),
        _ => None,
    };
    blocked(deployment, Code::RelayBlocked, &port)
}

pub(super) fn nats_blocked(deployment: &Deployment<'_>) -> Vec<Answer> {
    blocked(deployment, Code::NatsBlocked, &|to| (!matches!(nats(to), Nats::Off)).then_some(NATS_PORT))
}

fn blocked(
    deployment: &Deployment<'_>,
    code: Code,
    port: &dyn Fn(&Running<'_>) -> Option<u32>,
) -> Vec<Answer> {
    let mut answers = Vec::new();
    for site in deployment.sites_of_several() {
        for from in &site {
            for to in &site {
                let is_same = from.workload.resource == to.workload.resource;
                if is_same && !from.are_several() {
                    continue;
                }
                let Some(port) = port(to) else { continue };
                let answer = between(deployment, from, to, port, code);
                answers.extend(answer.map(|answer| match nats(to) {
                    _ if code != Code::NatsBlocked => answer,
                    Nats::Ready => only_with_nats(answer, MAY_BE_AN_EXPERIMENT),
                    Nats::Unknown(why) => only_with_nats(answer, &why),
                    Nats::On | Nats::Off => answer,
                }));
            }
        }
    }
    answers
}

fn between(
    deployment: &Deployment<'_>,
    from: &Running<'_>,
    to: &Running<'_>,
    port: u32,
    code: Code,
) -> Option<Answer> {
    let (source, target) = (from.name(), to.name());
    let way = if source == target {
        format!("between the replicas of {source}")
    } else {
        format!("from {source} to {target}")
    };
    let passage = deployment.network().passage(from.workload, to.workload, port);
    let mut foreign = deployment.facts.foreign_policies.iter();
    let foreign = foreign.find(|policy| {
        policy.is_of_cluster() || [from, to].iter().any(|end| policy.is_beside(&end.workload.resource))
    });
    // It may close what these leave open, and open what these close.
    if let Some(foreign) = foreign {
        let closed = match passage {
            Passage::Closed(_, policies) => {
                format!(", and without it none of {} allows it", policies.join(", "))
            }
            Passage::Open | Passage::Unknown(_) => String::new(),
        };
        let text = format!("TCP {port} {way}: {foreign} is of a kind that is not understood here{closed}");
        return Some(Answer::Unjudged { code, text });
    }
    match passage {
        Passage::Closed(direction, policies) => {
            let direction = direction.as_str();
            let policies = policies.join(", ");
            let evidence = format!("TCP {port} {way} is closed: none of {policies} allows it ({direction})");
            let mut subjects = vec![source, target];
            subjects.dedup();
            Some(Answer::Wrong { code, subjects, evidence })
        }
        Passage::Unknown(why) => Some(Answer::Unjudged { code, text: format!("TCP {port} {way}: {why}") }),
        Passage::Open => None,
    }
}

/// The port of a URL.
fn port_of(url: &str) -> u32 {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.unwrap_or(if scheme == "https" { 443 } else { 80 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_port_has_that_of_its_scheme() {
        for (url, port) in [
            ("http://pod:8080", 8080),
            ("http://pod:8080/x?y=1:2", 8080),
            ("https://pod", 443),
            ("http://pod/", 80),
            ("http://[pod]:8443", 8443),
        ] {
            assert_eq!(port_of(url), port, "{url}");
        }
    }
}
