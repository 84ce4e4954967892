//! Rules about the paths that coderd's own traffic takes, beside the echoes of the agents: its relay, its NATS port, its
//! health, and whether TCP goes the way that the echo goes.
//!
//! A network rule of Kubernetes selects pods: what an agent in a pod of its own cannot reach, coderd perhaps can. So only
//! who shares the pod (address or host name) of a replica states a fact, and all others say what may be.

use std::collections::BTreeSet;
use std::time::Duration;

use probes::sample::Reason;
use probes::target::Kind;

use super::input::Row;
use super::seen::Seen;
use super::{Code, Draft, listed};
use crate::mesh::cause::ms;
use crate::mesh::roster::Status;

/// A connect so much faster than the echo was answered by something nearer: the same figures as for a terminator before
/// PostgreSQL.
const NEARER: f64 = 0.3;
const NEARER_BY: Duration = Duration::from_millis(1);
/// And one so much slower went another way.
const FARTHER: f64 = 2.0;
const FARTHER_BY: Duration = Duration::from_millis(2);
/// Before a fastest one is compared, so many must have been taken: connects to a NATS port come once a minute.
const FEWEST_OF_NATS: u32 = 5;

/// The two codes of a path that does not answer: as a fact, and as a possibility.
struct Words {
    kind: Kind,
    fact: Code,
    possibility: Code,
    what: &'static str,
}

const RELAY: Words = Words {
    kind: Kind::Relay,
    fact: Code::RelayUnreachable,
    possibility: Code::RelayUnconfirmed,
    what: "relay",
};
const NATS: Words = Words {
    kind: Kind::Nats,
    fact: Code::NatsUnreachable,
    possibility: Code::NatsUnconfirmed,
    what: "NATS port",
};

pub(super) fn relay(seen: &Seen<'_>) -> Vec<Draft> {
    unreachable(seen, &RELAY)
}

pub(super) fn nats(seen: &Seen<'_>) -> Vec<Draft> {
    unreachable(seen, &NATS)
}

fn unreachable(seen: &Seen<'_>, words: &Words) -> Vec<Draft> {
    let within = agents_within(seen);
    let mut drafts = Vec::new();
    for server in alive(seen) {
        let rows: Vec<_> = rows(seen, server, words.kind).collect();
        // Where no echo comes back either, the whole machine or the way to it is gone, and the links say so.
        let missed = rows
            .iter()
            .filter(|row| answers(row) == Some(false) && echo(seen, server, &row.source) != Some(false));
        let (facts, possibilities): (Vec<&Row>, Vec<&Row>) =
            missed.copied().partition(|row| within.contains(row.source.as_str()) && !fails_in_tls(row));
        let reached: Vec<_> =
            rows.iter().filter(|row| answers(row) == Some(true)).map(|row| row.source.clone()).collect();
        let others = match reached.as_slice() {
            [] => String::new(),
            reached => format!(", {} can", listed(reached)),
        };
        let name = seen.name(server);
        for (missed, code) in [(facts, words.fact), (possibilities, words.possibility)] {
            let Some(first) = missed.first() else { continue };
            let reasons: BTreeSet<_> =
                missed.iter().map(|row| row.reason.as_str()).filter(|reason| !reason.is_empty()).collect();
            let why = match reasons.into_iter().collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => none,
                reasons => format!(" ({reasons})"),
            };
            let agents: Vec<_> = missed.iter().map(|row| row.source.clone()).collect();
            let echo = match echo(seen, server, &first.source) {
                Some(true) => "; the agent beside it answers there",
                _ => "",
            };
            let in_tls = missed.iter().filter(|row| fails_in_tls(row)).count();
            let doubt = match in_tls {
                0 if code == words.fact => "",
                0 => "; none of them shares the pod of a replica, so a network rule may stop them alone",
                all if all == missed.len() => {
                    "; the way is open, and the agent may lack the name or the authority (--http-sni, --http-ca)"
                }
                _ => {
                    "; some may lack the name or the authority (--http-sni, --http-ca), and a network rule may stop the \
                     others alone, none of which shares the pod of a replica"
                }
            };
            let evidence = format!(
                "{} cannot reach the {} of {name}{why}{others}{echo}{doubt}",
                listed(&agents),
                words.what
            );
            drafts.push(Draft::new(code, [name.clone()], evidence).seen_by(agents));
        }
    }
    drafts
}

/// A replica that answers, and not with success.
pub(super) fn unhealthy(seen: &Seen<'_>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for server in alive(seen) {
        let answering = || rows(seen, server, Kind::Relay).filter(|row| answers(row) == Some(true));
        let refused = answering().filter(|row| row.reaches() == Some(false) && !relays_nothing(row));
        let refused: Vec<_> = refused.map(|row| row.source.clone()).collect();
        let says_no = |agent: &str| {
            rows(seen, server, Kind::Http).any(|row| row.source == agent && row.reaches() == Some(false))
        };
        let ill: Vec<_> =
            answering().filter(|row| says_no(&row.source)).map(|row| row.source.clone()).collect();
        let name = seen.name(server);
        let (agents, evidence) = if !refused.is_empty() {
            let evidence = format!("the relay of {name} answers {} with an error", listed(&refused));
            (refused, evidence)
        } else if !ill.is_empty() {
            let evidence = format!("the relay of {name} answers {}, its /healthz does not", listed(&ill));
            (ill, evidence)
        } else {
            continue;
        };
        drafts.push(Draft::new(Code::ReplicaUnhealthy, [name], evidence).seen_by(agents));
    }
    drafts
}

/// A replica that answers where its relay should, and relays nothing.
pub(super) fn off(seen: &Seen<'_>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for server in alive(seen) {
        let agents: Vec<_> = rows(seen, server, Kind::Relay)
            .filter(|row| relays_nothing(row))
            .map(|row| row.source.clone())
            .collect();
        if agents.is_empty() {
            continue;
        }
        let name = seen.name(server);
        let evidence = format!(
            "{name} answers {}, with a web page or a status 404 and not as a relay does",
            listed(&agents)
        );
        drafts.push(Draft::new(Code::RelayOff, [name], evidence).seen_by(agents));
    }
    drafts
}

fn relays_nothing(row: &Row) -> bool {
    row.reaches() == Some(false) && row.reason == Reason::NoRelay.as_str()
}

/// What name and which authority a relay's certificate is for, an agent has to be told.
fn fails_in_tls(row: &Row) -> bool {
    row.reason == Reason::Tls.as_str()
}

/// Whether whatever is there answers at all: an HTTP status that is no success came all the way.
fn answers(row: &Row) -> Option<bool> {
    row.reaches().map(|reaches| reaches || row.reason == Reason::Status.as_str() || relays_nothing(row))
}

/// TCP that does not go where the echo goes.
pub(super) fn differ(seen: &Seen<'_>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for server in alive(seen) {
        let name = seen.name(server);
        for (kind, fewest) in [(Kind::Nats, FEWEST_OF_NATS), (Kind::Relay, seen.limits.samples)] {
            for row in rows(seen, server, kind).filter(|row| row.samples >= fewest) {
                let (Some(tcp), Some(echo)) = (row.min, fastest_echo(seen, server, &row.source)) else {
                    continue;
                };
                let agent = &row.source;
                let draft = |code, evidence| Draft::new(code, [agent.clone(), name.clone()], evidence);
                // A GET ends at the server's program, so only a connect can be answered too soon.
                let nearer = kind == Kind::Nats && tcp < echo.mul_f64(NEARER) && tcp + NEARER_BY < echo;
                if nearer {
                    let evidence = format!(
                        "from {agent} a TCP connect to {name} takes {}, an echo of the agent beside it {}: something \
                         nearer answers the connect",
                        ms(tcp),
                        ms(echo)
                    );
                    drafts.push(draft(Code::TcpRedirected, evidence).seen_by([agent.clone()]));
                } else if tcp > echo.mul_f64(FARTHER) && tcp > echo + FARTHER_BY {
                    let what =
                        if kind == Kind::Nats { "a TCP connect to" } else { "a request to the relay of" };
                    let evidence = format!(
                        "from {agent} {what} {name} takes {} at the least, an echo of the agent beside it {}",
                        ms(tcp),
                        ms(echo)
                    );
                    drafts.push(draft(Code::PathsDiffer, evidence).seen_by([agent.clone()]));
                }
            }
        }
    }
    drafts
}

/// Replicas that are to be reached.
fn alive<'a>(seen: &'a Seen<'_>) -> impl Iterator<Item = usize> + 'a {
    seen.coderd().into_iter().filter(|index| seen.servers[*index].status == Status::Alive)
}

/// The rows of one kind that lead to this server itself.
fn rows<'a>(seen: &'a Seen<'_>, server: usize, kind: Kind) -> impl Iterator<Item = &'a Row> {
    let rows = seen.topology.rows.iter();
    rows.filter(move |row| row.kind == kind && seen.servers_called(&row.target).contains(&server))
}

/// The echoes of this agent that come from beside this server.
fn echoes<'a>(seen: &'a Seen<'_>, server: usize, agent: &'a str) -> impl Iterator<Item = &'a Row> {
    let beside = &seen.servers[server].watched_by;
    let rows = seen.topology.rows.iter();
    rows.filter(move |row| row.kind == Kind::Peer && row.source == agent && beside.contains(&row.target))
}

/// Whether they come back; `None` where there is none, or it is not known.
fn echo(seen: &Seen<'_>, server: usize, agent: &str) -> Option<bool> {
    echoes(seen, server, agent).filter_map(Row::reaches).max()
}

fn fastest_echo(seen: &Seen<'_>, server: usize, agent: &str) -> Option<Duration> {
    echoes(seen, server, agent)
        .filter(|row| row.samples >= seen.limits.samples)
        .filter_map(|row| row.min)
        .min()
}

/// The agents that share the pod of a replica.
fn agents_within<'a>(seen: &'a Seen<'_>) -> BTreeSet<&'a str> {
    seen.coderd().into_iter().flat_map(|index| &seen.servers[index].shared_with).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    //! Each rule by a story in which it speaks and one in which it is silent.

    use super::super::input::{Server, Topology};
    use super::super::{Severities, findings};
    use super::*;
    use crate::mesh::peer::Role;
    use crate::mesh::place::decide::Limits;
    use crate::mesh::region::Atlas;
    use crate::mesh::state::State;

    fn replica(called: &str) -> Server {
        let agent = BTreeSet::from([format!("agent-{called}")]);
        Server {
            name: called.into(),
            role: Some(Role::Coderd),
            watched_by: agent.clone(),
            shared_with: agent,
            ..Server::default()
        }
    }

    fn row(source: &str, target: &str, kind: Kind, ms: f64) -> Row {
        Row {
            source: format!("agent-{source}"),
            target: target.into(),
            kind,
            state: State::Ok,
            reason: String::new(),
            min: Some(Duration::from_secs_f64(ms / 1000.0)),
            samples: 100,
            span: Duration::from_secs(600),
        }
    }

    /// Three replicas that reach each other on all paths.
    fn sound() -> Topology {
        let mut topology = Topology { servers: ["a", "b", "c"].map(replica).into(), ..Topology::default() };
        for (source, target) in [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b")] {
            topology.rows.push(row(source, &format!("agent-{target}"), Kind::Peer, 0.9));
            topology.rows.push(row(source, target, Kind::Relay, 1.1));
            topology.rows.push(row(source, target, Kind::Nats, 0.8));
            topology.rows.push(row(source, target, Kind::Http, 1.4));
        }
        topology
    }

    fn change(topology: &mut Topology, source: &str, target: &str, kind: Kind, with: impl Fn(&mut Row)) {
        let source = format!("agent-{source}");
        let mut rows = topology.rows.iter_mut();
        with(rows.find(|row| row.source == source && row.target == target && row.kind == kind).unwrap());
    }

    fn lose(topology: &mut Topology, source: &str, target: &str, kind: Kind) {
        change(topology, source, target, kind, |row| row.state = State::Unreachable);
    }

    /// Codes with their subjects and evidence.
    fn found(topology: &Topology) -> Vec<(Code, Vec<String>, String)> {
        findings(topology, &Atlas::built_in(), &Limits::default(), &Severities::default())
            .into_iter()
            .map(|finding| (finding.code, finding.subjects, finding.evidence))
            .collect()
    }

    fn one(code: Code, subjects: &[&str], evidence: &str) -> Vec<(Code, Vec<String>, String)> {
        vec![(code, subjects.iter().map(|name| (*name).to_owned()).collect(), evidence.to_owned())]
    }

    #[test]
    fn where_all_paths_agree_nothing_is_found() {
        assert_eq!(found(&sound()), []);
    }

    #[test]
    fn a_relay_that_one_cannot_reach_although_the_echo_comes_back() {
        let mut topology = sound();
        lose(&mut topology, "a", "b", Kind::Relay);
        change(&mut topology, "a", "b", Kind::Relay, |row| row.reason = "timeout".into());
        let expected =
            "agent-a cannot reach the relay of b (timeout), agent-c can; the agent beside it answers there";
        assert_eq!(found(&topology), one(Code::RelayUnreachable, &["b"], expected));
        // From a pod of its own nobody can say that coderd is stopped as well.
        topology.servers.iter_mut().for_each(|server| server.shared_with.clear());
        let doubt = "; none of them shares the pod of a replica, so a network rule may stop them alone";
        assert_eq!(found(&topology), one(Code::RelayUnconfirmed, &["b"], &format!("{expected}{doubt}")));
        // Nor can who lacks coderd's own certificate, wherever it stands.
        let mut topology = sound();
        lose(&mut topology, "a", "b", Kind::Relay);
        change(&mut topology, "a", "b", Kind::Relay, |row| row.reason = "tls".into());
        let tls = found(&topology);
        assert_eq!((tls[0].0, tls.len()), (Code::RelayUnconfirmed, 1));
        assert!(tls[0].2.contains("--http-ca"), "{}", tls[0].2);
        let mut mixed = topology.clone();
        mixed.servers[2].shared_with.clear();
        lose(&mut mixed, "c", "b", Kind::Relay);
        let both = found(&mixed);
        assert!(both[0].2.contains("some may lack") && both.len() == 1, "{both:?}");
        // A machine that is gone is no fault of its relay.
        lose(&mut topology, "a", "agent-b", Kind::Peer);
        assert!(found(&topology).iter().all(|(code, ..)| *code == Code::OneWay), "{:?}", found(&topology));
    }

    #[test]
    fn a_replica_without_an_agent_whose_relay_does_not_answer() {
        let mut topology = sound();
        let gone = replica("d");
        topology.servers.push(Server { watched_by: BTreeSet::new(), shared_with: BTreeSet::new(), ..gone });
        topology.rows.push(Row { state: State::Unreachable, ..row("a", "d", Kind::Relay, 1.0) });
        let codes =
            |topology: &Topology| found(topology).into_iter().map(|(code, ..)| code).collect::<Vec<_>>();
        assert!(codes(&topology).contains(&Code::RelayUnreachable), "{:?}", found(&topology));
        topology.servers[3].status = Status::Leaving;
        assert_eq!(codes(&topology), [], "it is about to stop");
    }

    #[test]
    fn a_nats_port_that_is_closed() {
        let mut topology = sound();
        lose(&mut topology, "a", "b", Kind::Nats);
        lose(&mut topology, "c", "b", Kind::Nats);
        let expected = "agent-a, agent-c cannot reach the NATS port of b; the agent beside it answers there";
        assert_eq!(found(&topology), one(Code::NatsUnreachable, &["b"], expected));
        topology.servers.iter_mut().for_each(|server| server.shared_with.clear());
        assert_eq!(found(&topology)[0].0, Code::NatsUnconfirmed);
    }

    #[test]
    fn a_replica_whose_relay_answers_and_which_is_not_well() {
        let mut topology = sound();
        lose(&mut topology, "a", "b", Kind::Http);
        let expected = "the relay of b answers agent-a, its /healthz does not";
        assert_eq!(found(&topology), one(Code::ReplicaUnhealthy, &["b"], expected));
        lose(&mut topology, "a", "b", Kind::Relay);
        assert_eq!(found(&topology)[0].0, Code::RelayUnreachable, "then that is what is wrong");
        assert_eq!(found(&topology).len(), 1);
        change(&mut topology, "a", "b", Kind::Relay, |row| row.reason = "status".into());
        let expected = "the relay of b answers agent-a with an error";
        assert_eq!(found(&topology), one(Code::ReplicaUnhealthy, &["b"], expected));
    }

    #[test]
    fn a_replica_whose_relay_is_switched_off_is_not_ill() {
        let mut topology = sound();
        lose(&mut topology, "a", "b", Kind::Relay);
        change(&mut topology, "a", "b", Kind::Relay, |row| row.reason = "no_relay".into());
        let expected = "b answers agent-a, with a web page or a status 404 and not as a relay does";
        assert_eq!(found(&topology), one(Code::RelayOff, &["b"], expected));
        lose(&mut topology, "a", "b", Kind::Http);
        let codes: Vec<_> = found(&topology).into_iter().map(|(code, ..)| code).collect();
        assert_eq!(codes, [Code::ReplicaUnhealthy, Code::RelayOff], "but for its health");
    }

    #[test]
    fn tcp_that_is_answered_nearer_or_goes_another_way_than_the_echo() {
        let to = |kind, tcp: f64, echo: f64, samples| {
            let mut topology = sound();
            let ms = |ms: f64| Some(Duration::from_secs_f64(ms / 1000.0));
            change(&mut topology, "a", "agent-b", Kind::Peer, |row| row.min = ms(echo));
            for path in [Kind::Relay, Kind::Nats] {
                change(&mut topology, "a", "b", path, |row| row.min = ms(echo));
            }
            change(&mut topology, "a", "b", kind, |row| (row.min, row.samples) = (ms(tcp), samples));
            let mut found = found(&topology);
            found.retain(|(code, ..)| matches!(code, Code::TcpRedirected | Code::PathsDiffer));
            found
        };
        let nearer = "from agent-a a TCP connect to b takes 0.10 ms, an echo of the agent beside it 4.00 ms: something \
                      nearer answers the connect";
        let nats = |tcp, echo, samples| {
            let found = to(Kind::Nats, tcp, echo, samples);
            found.first().map(|(code, _, evidence)| (*code, evidence.clone()))
        };
        assert_eq!(nats(0.1, 4.0, 5), Some((Code::TcpRedirected, nearer.to_owned())));
        assert_eq!(nats(0.1, 4.0, 4), None, "too few");
        assert_eq!(nats(0.1, 0.9, 5), None, "less than a millisecond");
        assert_eq!(nats(3.5, 1.0, 5).map(|(code, _)| code), Some(Code::PathsDiffer));
        assert_eq!(nats(2.9, 1.0, 5), None);
        assert_eq!(to(Kind::Relay, 0.1, 4.0, 100), [], "a GET cannot be answered before it is there");
        let slow = to(Kind::Relay, 9.0, 1.0, 100);
        let expected = "from agent-a a request to the relay of b takes 9.00 ms at the least, an echo of the agent beside \
                        it 1.00 ms";
        assert_eq!(slow, one(Code::PathsDiffer, &["agent-a", "b"], expected));
    }
}
