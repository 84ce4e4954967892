//! What is wrong with how everything stands: a list of rules, each a pure function from what is known to findings.
//!
//! The rules say what is so now. They know no time: whoever calls them decides how long something must be so before it is
//! news, as replicas come and go in every roll-out. What is leaving is looked at by no rule, and what nobody knows is
//! neither good nor a finding.

use std::collections::BTreeMap;

use serde::Serialize;

use super::place::decide;
use super::place::policy::Severity;
use super::region::Atlas;
use super::roster::RegionName;

pub mod code;
mod database;
pub mod gather;
pub mod held;
pub mod input;
mod links;
mod members;
mod paths;
mod places;
mod pubsub;
mod seen;
mod severities;

pub use code::Code;
pub use input::{Topology, Vantage};
pub use members::{FEW_CODERD, MANY_CODERD};
use seen::Seen;
pub use severities::{Severities, SeverityError};

/// What the rules go by.
#[derive(Debug, Clone, PartialEq)]
pub struct Book {
    /// Where the regions are.
    pub atlas: Atlas,
    /// How bad each finding is.
    pub severities: Severities,
    /// What a round trip says about a place.
    pub limits: decide::Limits,
    /// Where the workspaces are that a proxy serves, by the proxy's name, which nothing but its owner can tell.
    pub workspaces: BTreeMap<String, Vec<RegionName>>,
}

impl Default for Book {
    fn default() -> Self {
        let (severities, limits) = (Severities::default(), decide::Limits::default());
        Self { atlas: Atlas::built_in(), severities, limits, workspaces: BTreeMap::new() }
    }
}

/// A finding about who stands where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopologyFinding {
    /// Stable word.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// Whom it is about.
    pub subjects: Vec<String>,
    /// One line for people: what was seen.
    pub evidence: String,
    /// What to do, in one sentence.
    pub remedy: &'static str,
    /// Where to read on.
    pub anchor: String,
    /// Who saw it.
    pub vantage: Vec<Vantage>,
}

/// A finding before anybody said how bad it is.
#[derive(Debug)]
struct Draft {
    code: Code,
    subjects: Vec<String>,
    evidence: String,
    /// The agents that measured it; nobody where it follows from what is told.
    seen_by: Vec<String>,
    /// Not worse than this, whatever its code is.
    at_most: Severity,
}

impl Draft {
    fn new(code: Code, subjects: impl IntoIterator<Item = String>, evidence: impl Into<String>) -> Self {
        let subjects = subjects.into_iter().collect();
        Self { code, subjects, evidence: evidence.into(), seen_by: Vec::new(), at_most: Severity::Fail }
    }

    fn at_most(self, at_most: Severity) -> Self {
        Self { at_most, ..self }
    }

    fn seen_by(self, agents: impl IntoIterator<Item = String>) -> Self {
        Self { seen_by: agents.into_iter().collect(), ..self }
    }
}

type Rule = fn(&Seen<'_>) -> Vec<Draft>;

const RULES: [Rule; 36] = [
    members::blind,
    members::few_coderd,
    members::many_coderd,
    members::shared_node,
    members::single_zone,
    places::coderd_cross_region,
    places::database_cross_region,
    places::database_nodes_far,
    places::suspected,
    places::contradicted,
    places::label_conflict,
    places::label_overruled,
    places::proxy_other_region,
    database::standby_lagging,
    database::is_standby,
    database::pooled,
    database::notification_queue_filling,
    database::connections_low,
    pubsub::mixed,
    pubsub::broken,
    pubsub::slow,
    links::one_way,
    links::latency,
    links::provisioner_unreachable,
    members::unwatched,
    members::mixed_versions,
    members::clock_skew,
    members::shared_relay,
    members::no_disruption_budget,
    members::health_threshold,
    members::built_in_provisioners,
    paths::relay,
    paths::nats,
    paths::unhealthy,
    paths::off,
    paths::differ,
];

/// All findings, the worst first. Their order depends on nothing but what was found.
pub fn findings(
    topology: &Topology,
    atlas: &Atlas,
    limits: &decide::Limits,
    severities: &Severities,
) -> Vec<TopologyFinding> {
    let seen = Seen::of(topology, atlas, limits);
    let drafts = RULES.iter().flat_map(|rule| rule(&seen));
    let mut findings: Vec<_> = drafts
        .filter_map(|draft| {
            let severity = severities.of(draft.code)?.min(draft.at_most);
            let seen_by = &draft.seen_by;
            let mut vantage: Vec<_> = seen_by.iter().map(|agent| topology.vantage(agent)).collect();
            if vantage.is_empty() {
                vantage.push(topology.own.clone());
            }
            vantage.sort();
            vantage.dedup();
            Some(TopologyFinding {
                code: draft.code,
                severity,
                subjects: draft.subjects,
                evidence: draft.evidence,
                remedy: draft.code.remedy(),
                anchor: draft.code.anchor(),
                vantage,
            })
        })
        .collect();
    findings.sort_by(|a, b| {
        let order = b.severity.cmp(&a.severity).then_with(|| a.code.cmp(&b.code));
        order.then_with(|| a.subjects.cmp(&b.subjects)).then_with(|| a.evidence.cmp(&b.evidence))
    });
    findings
}

impl Topology {
    fn vantage(&self, agent: &str) -> Vantage {
        let known = self.agents.iter().chain([&self.own]).find(|vantage| vantage.agent == agent);
        known.cloned().unwrap_or_else(|| Vantage { agent: agent.to_owned(), host: None, node: None })
    }
}

/// A few names for a sentence, and how many more there are.
fn listed(names: &[String]) -> String {
    const MOST: usize = 5;
    let shown = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > MOST { format!("{shown} and {} more", names.len() - MOST) } else { shown }
}

#[cfg(test)]
mod tests {
    //! Each rule by a story in which it speaks and one in which it is silent.

    use std::collections::BTreeSet;
    use std::net::IpAddr;
    use std::time::Duration;

    use probes::sample::{Failure, Reason, Sample, Timing};
    use probes::target::{HostPort, Kind};

    use super::input::{Database, Replication, Row, Server, servers};
    use super::*;
    use crate::mesh::database::Load;
    use crate::mesh::peer::Role;
    use crate::mesh::place::decide::{Limits, Measured};
    use crate::mesh::pubsub::{Carrier, Exchange, Pubsub};
    use crate::mesh::region::name;
    use crate::mesh::roster::{Claim, Roster, Sighting, Source, Status};
    use crate::mesh::state::State;

    const USE1: &str = "aws/us-east-1";
    const USE2: &str = "aws/us-east-2";

    fn claim(trust: u8, by: &str, region: &str, zone: &str) -> Claim {
        let zone = (!zone.is_empty()).then(|| zone.to_owned());
        Claim { trust, by: by.into(), region: name(region), zone }
    }

    fn server(role: Role, called: &str, region: &str) -> Server {
        let claims =
            (!region.is_empty()).then(|| claim(3, "node label", region, &format!("{region}-{called}")));
        Server {
            name: called.into(),
            role: Some(role),
            node: Some(format!("node-{called}")),
            claims: claims.into_iter().collect(),
            version: Some("v2.33.5".into()),
            watched_by: BTreeSet::from([format!("agent-{called}")]),
            ..Server::default()
        }
    }

    fn row(source: &str, target: &str, ms: f64) -> Row {
        Row {
            source: format!("agent-{source}"),
            target: target.into(),
            kind: Kind::Peer,
            state: if ms < 10.0 { State::Ok } else { State::Breach },
            reason: String::new(),
            min: Some(Duration::from_secs_f64(ms / 1000.0)),
            samples: 100,
            span: Duration::from_secs(60),
        }
    }

    /// Three replicas and a database as they should be.
    fn sound() -> Topology {
        let mut servers: Vec<_> = ["a", "b", "c"].map(|called| server(Role::Coderd, called, USE1)).into();
        servers.push(server(Role::Postgres, "db", USE1));
        let pairs = [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b")];
        let mut rows: Vec<_> = pairs.map(|(source, target)| row(source, target, 0.9)).into();
        rows.extend(["a", "b", "c"].map(|source| Row { kind: Kind::Postgres, ..row(source, "db", 0.7) }));
        let own =
            Vantage { agent: "agent-a".into(), host: Some("pod-a".into()), node: Some("node-a".into()) };
        let agents = vec![Vantage { agent: "agent-b".into(), host: Some("pod-b".into()), node: None }];
        Topology { own, agents, servers, rows, all_coderd: true, ..Topology::default() }
    }

    /// Every round trip to or from one of them takes so long.
    fn move_away(topology: &mut Topology, called: &str, ms: f64) {
        let agent = format!("agent-{called}");
        for row in topology.rows.iter_mut().filter(|row| row.source == agent || row.target == called) {
            row.min = Some(Duration::from_secs_f64(ms / 1000.0));
            row.state = if ms < 10.0 { State::Ok } else { State::Breach };
        }
    }

    fn found(topology: &Topology) -> Vec<TopologyFinding> {
        findings(topology, &Atlas::built_in(), &Limits::default(), &Severities::default())
    }

    fn codes(topology: &Topology) -> Vec<Code> {
        found(topology).iter().map(|finding| finding.code).collect()
    }

    fn only(topology: &Topology, code: Code) -> TopologyFinding {
        let mut of_code: Vec<_> =
            found(topology).into_iter().filter(|finding| finding.code == code).collect();
        assert_eq!(of_code.len(), 1, "{:#?}", found(topology));
        of_code.remove(0)
    }

    #[test]
    fn what_is_as_it_should_be_has_no_findings() {
        assert_eq!(found(&sound()), []);
    }

    #[test]
    fn how_many_replicas_there_are() {
        let mut topology = sound();
        topology.servers[2].status = Status::Leaving;
        let few = only(&topology, Code::FewCoderd);
        assert_eq!(few.evidence, "2 replicas of coderd: a, b");
        assert_eq!(few.severity, Severity::Warning);
        assert_eq!(few.vantage, [topology.own.clone()]);
        assert_eq!(few.anchor, "docs/findings.md#few_coderd");
        topology.all_coderd = false;
        assert_eq!(codes(&topology), [], "who saw only some of them cannot count");

        let mut topology = sound();
        let more = (0..6).map(|n| server(Role::Coderd, &format!("m{n}"), USE1));
        topology.servers.extend(more);
        assert_eq!(codes(&topology), []);
        topology.servers.push(server(Role::Coderd, "tenth", USE1));
        assert_eq!(only(&topology, Code::ManyCoderd).severity, Severity::Info);
    }

    #[test]
    fn nodes_and_zones() {
        let mut topology = sound();
        topology.servers[1].node = Some("node-a".into());
        let shared = only(&topology, Code::SharedNode);
        assert_eq!(
            (shared.subjects, shared.evidence.as_str()),
            (vec!["a".to_owned(), "b".to_owned()], "a, b run on node-a: when it goes, they all do")
        );
        let mut topology = sound();
        for server in &mut topology.servers {
            server.claims.push(claim(4, "IMDS", USE1, "use1-az1"));
        }
        assert_eq!(only(&topology, Code::SingleZone).evidence, "all 3 replicas of coderd are in use1-az1");
        topology.servers[2].claims.pop();
        assert_eq!(codes(&topology), [], "a zone that nobody knows is not the same one");
    }

    #[test]
    fn a_replica_labelled_here_behind_38_ms() {
        let mut topology = sound();
        move_away(&mut topology, "c", 38.0);
        let wrong = only(&topology, Code::LabelContradictsMeasurement);
        assert_eq!(wrong.subjects, ["c", "a", "b", "db"]);
        assert!(
            wrong
                .evidence
                .contains("are both labelled aws/us-east-1, but even the fastest round trip takes 38.0 ms")
        );
        assert!(wrong.evidence.ends_with("(and 2 more of its links)"), "{}", wrong.evidence);
        assert_eq!(wrong.vantage[0].agent, "agent-a");
        let domains = only(&topology, Code::LatencyDomains);
        assert_eq!(domains.subjects, ["c"]);
        assert_eq!(
            domains.evidence,
            "only a, b, db are all below 10.0 ms of each other, c would have to move; c is 38.0 ms from db"
        );
    }

    #[test]
    fn a_replica_labelled_elsewhere_at_4_ms() {
        let mut topology = sound();
        topology.servers[2] = server(Role::Coderd, "c", USE2);
        move_away(&mut topology, "c", 4.0);
        let crossing = only(&topology, Code::CoderdCrossRegion);
        assert_eq!((crossing.severity, crossing.subjects), (Severity::Fail, vec!["c".to_owned()]));
        assert_eq!(
            crossing.evidence,
            "aws/us-east-1: a, b; aws/us-east-2: c. a in aws/us-east-1 and c in aws/us-east-2 are in different regions, 4.00 \
             ms apart"
        );
        let database = only(&topology, Code::DatabaseCrossRegion);
        assert_eq!(
            (database.severity, database.subjects),
            (Severity::Fail, vec!["c".to_owned(), "db".to_owned()])
        );
        // Labels count where nothing was measured, and not where light forbids them.
        topology.rows.clear();
        assert!(codes(&topology).contains(&Code::CoderdCrossRegion));
        let mut topology = sound();
        topology.servers[2] = server(Role::Coderd, "c", "aws/eu-west-1");
        assert_eq!(codes(&topology), [Code::LabelContradictsMeasurement]);
    }

    #[test]
    fn a_replica_without_a_label_that_an_anchor_gives_away() {
        let mut topology = sound();
        topology.servers[2].claims.clear();
        move_away(&mut topology, "c", 12.0);
        assert_eq!(codes(&topology), [Code::LatencyDomains, Code::CrossRegionSuspected]);
        topology.servers.push(server(Role::Proxy, "edge", USE2));
        topology.rows.push(row("c", "edge", 0.8));
        let crossing = only(&topology, Code::CoderdCrossRegion);
        assert_eq!(crossing.subjects, ["c"]);
        assert!(crossing.evidence.contains("0.80 ms to edge in aws/us-east-2 rules out aws/us-east-1 for c"));
        assert_eq!(crossing.evidence.split("; ").next(), Some("aws/us-east-1: a, b"));
    }

    #[test]
    fn a_database_next_door_warns_and_one_far_away_fails() {
        let mut topology = sound();
        for server in &mut topology.servers {
            server.claims = vec![claim(4, "IMDS", "aws/eu-west-2", &server.name)];
        }
        topology.servers[3].claims = vec![claim(3, "host name", "gcp/europe-west2", "")];
        assert_eq!(codes(&topology), [Code::DatabaseSameMetro]);
        assert_eq!(only(&topology, Code::DatabaseSameMetro).severity, Severity::Warning);
        topology.servers[3].claims = vec![claim(3, "host name", "aws/eu-west-3", "")];
        move_away(&mut topology, "db", 8.0);
        let far = only(&topology, Code::DatabaseCrossRegion);
        assert_eq!((far.severity, far.subjects.len()), (Severity::Fail, 4));
    }

    #[test]
    fn what_the_database_says_of_itself() {
        let mut topology = sound();
        topology.databases.push(Database {
            name: "db".into(),
            standby: Some(false),
            pooled: Some(false),
            ..Database::default()
        });
        assert_eq!(codes(&topology), []);
        let lag = |s| Replication {
            name: format!("after {s}"),
            lag: Some(Duration::from_secs(s)),
            ..Replication::default()
        };
        topology.databases[0] = Database {
            standby: Some(true),
            pooled: Some(true),
            standbys: vec![lag(9), lag(10), Replication { name: "idle".into(), ..Replication::default() }],
            claims: vec![claim(4, "IMDS", USE2, "")],
            ..topology.databases[0].clone()
        };
        let all = codes(&topology);
        for code in [Code::DatabaseIsStandby, Code::DatabasePooled, Code::LabelConflict] {
            assert!(all.contains(&code), "{all:?}");
        }
        assert_eq!(only(&topology, Code::StandbyLagging).evidence, "after 10 is 10 s behind db");
        // One that nobody listed is a server all the same; by its address it is the one that is there.
        let mut topology = sound();
        topology.databases.push(Database {
            name: "other:5432/coder".into(),
            claims: vec![claim(3, "host name", USE2, "")],
            ..Database::default()
        });
        assert_eq!(codes(&topology), [Code::DatabaseCrossRegion, Code::DatabaseNodesFar]);
        topology.servers[3].known_as.insert("10.0.0.9".into());
        topology.databases[0].known_as.insert("10.0.0.9".into());
        assert_eq!(codes(&topology), [Code::LabelConflict], "now it is one server with two labels");
    }

    /// What an agent hears through PostgreSQL, three times.
    fn hears(topology: &mut Topology, own: &Sample, peer_ms: u64) {
        let mut pubsub = Pubsub::default();
        for turn in 1..=3 {
            let peer = Timing { rtt: Duration::from_millis(peer_ms), ..Timing::default() }.into();
            let peer = Some(("agent-b".to_owned(), peer));
            let every = Duration::from_secs(10);
            pubsub.record(&Exchange { own: own.clone(), peer, every, peers: 1 }, every * turn);
        }
        topology.pubsub = Some(pubsub.standing(Duration::from_secs(31)));
    }

    fn told_by(topology: &mut Topology, carriers: [Option<Carrier>; 3]) {
        for (server, carrier) in topology.servers.iter_mut().zip(carriers) {
            server.carrier = carrier;
        }
    }

    #[test]
    fn replicas_whose_news_takes_different_ways() {
        let mut topology = sound();
        told_by(&mut topology, [Some(Carrier::Nats), Some(Carrier::Postgres), Some(Carrier::Nats)]);
        let mixed = only(&topology, Code::PubsubMixed);
        assert_eq!((mixed.severity, mixed.subjects), (Severity::Warning, vec!["b".to_owned()]));
        assert_eq!(mixed.evidence, "NATS: a, c; PostgreSQL: b. The ones do not hear the news of the others");
        topology.servers[1].status = Status::Leaving;
        assert!(!codes(&topology).contains(&Code::PubsubMixed), "the old one goes");
        for same in [Some(Carrier::Nats), Some(Carrier::Postgres), None] {
            let mut topology = sound();
            told_by(&mut topology, [same; 3]);
            assert_eq!(codes(&topology), [], "{same:?}");
        }
    }

    #[test]
    fn slow_and_broken_notifications_count_where_news_takes_that_way() {
        let trip = |ms| Sample::from(Timing { rtt: Duration::from_millis(ms), ..Timing::default() });
        let lost = || {
            Sample::from(Failure::new(
                Reason::Timeout,
                "it did not arrive within 5 s, although LISTEN stands",
            ))
        };
        for (carrier, slow, broken, word) in [
            (Some(Carrier::Postgres), Severity::Warning, Severity::Fail, "listen"),
            (Some(Carrier::Nats), Severity::Info, Severity::Info, "goes by NATS"),
            (None, Severity::Info, Severity::Info, "is not known"),
        ] {
            let mut topology = sound();
            told_by(&mut topology, [carrier; 3]);
            hears(&mut topology, &trip(499), 999);
            assert_eq!(codes(&topology), [], "fast enough, and 10 ms are no matter");
            hears(&mut topology, &trip(620), 1300);
            let finding = only(&topology, Code::PubsubSlow);
            assert_eq!((finding.severity, finding.subjects), (slow, vec!["agent-a".to_owned()]));
            assert!(
                finding.evidence.starts_with(
                    "a notification takes 620 ms to get here (median of 3); 1300 ms to agent-b and back"
                ),
                "{}",
                finding.evidence
            );
            assert_eq!(finding.vantage, [topology.own.clone()]);
            hears(&mut topology, &lost(), 1);
            let finding = only(&topology, Code::PubsubBroken);
            assert_eq!(finding.severity, broken);
            assert!(finding.evidence.contains("although LISTEN stands"), "{}", finding.evidence);
            assert!(finding.evidence.to_lowercase().contains(&word.to_lowercase()), "{}", finding.evidence);
            for reason in [Reason::Standby, Reason::Pooled, Reason::ConnectionsLow] {
                hears(&mut topology, &Failure::new(reason, "x").into(), 1);
                assert_eq!(codes(&topology), [], "told elsewhere: {reason:?}");
            }
        }
    }

    #[test]
    fn servers_of_one_database_that_are_far_from_each_other() {
        let mut topology = sound();
        topology.servers.push(server(Role::Standby, "db2", USE1));
        topology.rows.push(row("db", "db2", 9.9));
        assert!(!codes(&topology).contains(&Code::DatabaseNodesFar));
        topology.rows[9].min = Some(Duration::from_millis(10));
        assert_eq!(only(&topology, Code::DatabaseNodesFar).subjects, ["db", "db2"]);
    }

    #[test]
    fn replication_proves_that_a_standby_is_near_and_never_that_it_is_far() {
        let mut topology = sound();
        topology.servers.push(server(Role::Standby, "db2", USE1));
        topology.servers[4].known_as.insert("10.0.0.2".into());
        // Somebody measured a detour.
        topology.rows.push(Row { kind: Kind::Tcp, ..row("db", "db2", 12.0) });
        let at_most = |ms: u64, samples| {
            let span = Duration::from_secs(300);
            let measured = Measured { min: Duration::from_millis(ms), samples, span, end_to_end: true };
            Replication { name: "10.0.0.2".into(), at_most: Some(measured), ..Replication::default() }
        };
        let unproven = [Code::LatencyDomains, Code::DatabaseNodesFar, Code::LabelContradictsMeasurement];
        let mut with = |replication| {
            let standbys = vec![replication];
            topology.databases = vec![Database { name: "db".into(), standbys, ..Database::default() }];
            codes(&topology)
        };
        assert_eq!(with(Replication::default()), unproven);
        assert_eq!(with(at_most(9, 20)), [], "it is near, whatever the detour takes");
        assert_eq!(with(at_most(9, 19)), unproven, "too few readings");
        assert_eq!(with(at_most(10, 20)), unproven);
        topology.rows.pop();
        let mut with = |replication, region| {
            topology.servers[4] = Server { claims: Vec::new(), ..server(Role::Standby, "10.0.0.2", region) };
            let region = (!region.is_empty()).then(|| claim(3, "node label", region, ""));
            topology.servers[4].claims = region.into_iter().collect();
            let standbys = vec![replication];
            topology.databases = vec![Database { name: "db".into(), standbys, ..Database::default() }];
            codes(&topology)
        };
        assert_eq!(with(at_most(500, 20), USE1), [], "a slow disk is no distance");
        assert!(with(at_most(9, 20), USE2).contains(&Code::DatabaseNodesFar), "two regions are two regions");
        assert!(with(at_most(9, 1), USE2).contains(&Code::DatabaseNodesFar));
        let lies = with(at_most(1, 20), "aws/eu-west-1");
        assert!(
            lies.contains(&Code::LabelContradictsMeasurement) && !lies.contains(&Code::DatabaseNodesFar),
            "light does not come from there in that time: {lies:?}"
        );
    }

    #[test]
    fn how_full_a_database_is() {
        let mut topology = sound();
        let mut with = |load| {
            topology.databases = vec![Database { name: "db".into(), load, ..Database::default() }];
            found(&topology).into_iter().map(|finding| (finding.code, finding.evidence)).collect::<Vec<_>>()
        };
        let load = |used, queue_used_ppb| Some(Load { used, usable: 100, queue_used_ppb });
        for silent in [None, load(80, Some(499_999_999)), load(0, None)] {
            assert_eq!(with(silent), [], "{silent:?}");
        }
        let full = with(load(81, Some(500_000_000)));
        assert_eq!(
            full,
            [
                (Code::NotificationQueueFilling, "the notification queue of db is 50 % full".to_owned()),
                (Code::ConnectionsLow, "81 of 100 connections of db are taken".to_owned())
            ]
        );
    }

    #[test]
    fn one_way_is_seen_from_both_ends() {
        let mut topology = sound();
        topology.rows[2].state = State::Unreachable;
        topology.rows[2].min = None;
        let one_way = only(&topology, Code::OneWay);
        assert_eq!(one_way.evidence, "agent-a reaches agent-b, but agent-b does not reach agent-a (peer)");
        assert_eq!(
            one_way.vantage.iter().map(|v| v.host.as_deref()).collect::<Vec<_>>(),
            [Some("pod-a"), Some("pod-b")]
        );
        for state in [State::Unknown, State::Stale, State::Left] {
            topology.rows[2].state = state;
            assert_eq!(codes(&topology), [], "{state:?} is not known");
        }
        topology.rows[0].state = State::Unreachable;
        topology.rows[2].state = State::Unreachable;
        assert!(!codes(&topology).contains(&Code::OneWay), "neither way is another matter");
    }

    #[test]
    fn a_port_that_is_closed_from_both_sides_is_not_one_way() {
        let mut topology = sound();
        for (source, target) in [("a", "b"), ("b", "a")] {
            let tcp = Row { kind: Kind::Tcp, ..row(source, target, 0.5) };
            topology.rows.push(tcp.clone());
            topology.rows.push(Row { state: State::Unreachable, min: None, ..tcp });
        }
        assert_eq!(codes(&topology), []);
    }

    #[test]
    fn of_several_measurements_the_one_with_enough_replies_from_the_end_itself_counts() {
        let mut topology = sound();
        move_away(&mut topology, "c", 38.0);
        let before = found(&topology);
        topology.rows.push(Row { samples: 3, ..row("a", "c", 0.4) });
        topology.rows.push(Row { kind: Kind::Tcp, ..row("b", "c", 0.4) });
        assert_eq!(found(&topology), before);
    }

    #[test]
    fn who_is_watched_and_which_version_clock_and_relay_they_have() {
        let mut topology = sound();
        topology.servers[1].watched_by.clear();
        topology.servers[1].version = Some("2.34.0".into());
        topology.servers[0].version = Some("2.33.5".into());
        topology.servers[2].clock_ahead_ms = -1500;
        topology.servers[0].clock_ahead_ms = 999;
        topology.servers[0].relay = Some("http://coder.example:80".into());
        topology.servers[1].relay = Some("http://coder.example:80".into());
        assert_eq!(only(&topology, Code::UnwatchedReplica).subjects, ["b"]);
        let mixed = only(&topology, Code::MixedVersions);
        assert_eq!(
            (mixed.subjects, mixed.evidence.as_str()),
            (vec!["b".to_owned()], "2.33.5: a, c; 2.34.0: b")
        );
        assert_eq!(
            only(&topology, Code::ClockSkew).evidence,
            "the clock of c is at least 1500 ms behind the database's"
        );
        assert_eq!(only(&topology, Code::SharedRelay).subjects, ["a", "b"]);
    }

    #[test]
    fn proxies_and_provisioners_are_told_of_and_never_judged_by_distance() {
        let mut topology = sound();
        let mut proxy = server(Role::Proxy, "edge", "aws/eu-west-1");
        proxy.workspaces = vec![name("aws/eu-west-1"), name("aws/eu-west-2")];
        topology.servers.push(proxy);
        topology.servers.push(server(Role::Provisioner, "builder", "aws/ap-south-1"));
        topology.rows.push(row("a", "edge", 80.0));
        topology.rows.push(row("a", "builder", 200.0));
        assert_eq!(codes(&topology), []);
        topology.servers[4].workspaces = vec![name("aws/eu-west-2")];
        assert_eq!(only(&topology, Code::ProxyOtherRegion).severity, Severity::Info);
        topology.rows[10].state = State::Unreachable;
        assert_eq!(only(&topology, Code::ProvisionerUnreachable).evidence, "builder answers none of agent-a");
    }

    #[test]
    fn where_a_proxys_workspaces_are_is_told_by_its_owner() {
        let mut topology = sound();
        topology.servers.push(server(Role::Proxy, "sydney.example.com", USE1));
        let told = |proxy: &str| BTreeMap::from([(proxy.to_owned(), vec![name("aws/ap-southeast-2")])]);
        topology.set_workspaces(&told("b"));
        assert_eq!(codes(&topology), [], "a replica is no proxy");
        topology.set_workspaces(&told("sydney.example.com"));
        let other = only(&topology, Code::ProxyOtherRegion);
        assert!(other.evidence.contains("its workspaces are in aws/ap-southeast-2"), "{}", other.evidence);
    }

    #[test]
    fn provisioners_within_coderd_are_told_of_in_a_large_deployment() {
        let mut topology = sound();
        topology.servers.push(server(Role::Provisioner, "builder-0", ""));
        topology.servers.push(server(Role::Provisioner, "a-x", ""));
        assert_eq!(codes(&topology), []);
        topology.servers.push(server(Role::Provisioner, "a-0", ""));
        topology.servers.push(server(Role::Provisioner, "a-12", ""));
        let builtin = only(&topology, Code::BuiltInProvisioners);
        assert_eq!(
            (builtin.severity, builtin.evidence.as_str()),
            (Severity::Info, "a-0, a-12 run within coderd")
        );
        topology.servers.remove(2);
        assert_eq!(codes(&topology), [Code::FewCoderd], "in a small one they do no harm");
    }

    #[test]
    fn how_coderd_is_deployed_is_information_where_somebody_looked() {
        let mut topology = sound();
        topology.deployment.disruption_budget = Some(false);
        topology.deployment.health_threshold = Some(Duration::from_millis(15));
        assert_eq!(codes(&topology), [Code::NoDisruptionBudget, Code::HealthThreshold]);
        assert!(found(&topology).iter().all(|finding| finding.severity == Severity::Info));
        topology.deployment.disruption_budget = Some(true);
        topology.deployment.health_threshold = Some(Duration::from_millis(10));
        assert_eq!(codes(&topology), []);
    }

    #[test]
    fn who_knows_nobody_is_blind() {
        let topology = Topology { blind: vec!["coder: no rights".into()], ..Topology::default() };
        assert_eq!(
            only(&topology, Code::Blind).evidence,
            "not one replica of coderd is known: coder: no rights"
        );
    }

    #[test]
    fn detours_and_pairs_whose_directions_differ_are_information() {
        let mut topology = sound();
        for index in [0, 2] {
            topology.rows[index].min = Some(Duration::from_micros(4_900));
        }
        topology.rows[2].min = Some(Duration::from_micros(6_500));
        assert_eq!(codes(&topology), [Code::Detour, Code::Lopsided]);
        assert_eq!(
            only(&topology, Code::Detour).evidence,
            "a and b are 4.90 ms apart, and would be 1.40 ms by way of db"
        );
    }

    #[test]
    fn severities_are_what_somebody_said_and_off_is_silence() {
        let mut topology = sound();
        topology.servers.remove(2);
        topology.servers[1].node = Some("node-a".into());
        let mut severities = Severities::default();
        severities.set("shared_node", "fail").unwrap();
        severities.set("few_coderd", "off").unwrap();
        let found = findings(&topology, &Atlas::built_in(), &Limits::default(), &severities);
        assert_eq!(
            found.iter().map(|finding| (finding.code, finding.severity)).collect::<Vec<_>>(),
            [(Code::SharedNode, Severity::Fail)]
        );
    }

    #[test]
    fn the_order_of_facts_does_not_matter() {
        let mut topology = sound();
        move_away(&mut topology, "c", 38.0);
        topology.servers[1].claims.push(claim(4, "IMDS", USE2, ""));
        topology.rows[2].state = State::Unreachable;
        let before = found(&topology);
        assert!(before.len() > 3);
        topology.servers.reverse();
        topology.rows.reverse();
        assert_eq!(found(&topology), before);
    }

    #[test]
    fn five_hundred_servers_are_no_matter() {
        let mut topology = sound();
        topology.servers.extend(
            (0..120).map(|n| server(Role::Coderd, &format!("n{n:03}"), if n < 60 { USE1 } else { USE2 })),
        );
        topology.servers.extend((0..376).map(|n| server(Role::Provisioner, &format!("p{n:03}"), "")));
        for a in 0..120 {
            for b in 0..120 {
                let ms = if (a < 60) == (b < 60) { 0.8 } else { 13.0 };
                topology.rows.push(row(&format!("n{a:03}"), &format!("n{b:03}"), ms));
            }
        }
        let all = found(&topology);
        assert!(all.len() < 30, "{}", all.len());
        assert_eq!(only(&topology, Code::CoderdCrossRegion).subjects.len(), 60);
    }

    #[test]
    fn a_roster_becomes_servers_with_their_agents() {
        let ip = |last| BTreeSet::from([IpAddr::from([10, 0, 0, last])]);
        let replica = |key: &str, last| Sighting {
            key: key.into(),
            role: Some(Role::Coderd),
            host_name: Some(key.into()),
            addresses: ip(last),
            ..Sighting::default()
        };
        let agent = |key: &str, last, role| Sighting {
            key: key.into(),
            role,
            agent: Some(key.into()),
            reflectors: vec![HostPort { host: format!("10.0.0.{last}"), port: 9862 }],
            addresses: ip(last),
            node: Some("n1".into()),
            claims: vec![claim(4, "IMDS", USE1, "use1-az1")],
            ..Sighting::default()
        };
        let mut roster = Roster::default();
        roster.hear(Source::Coder, vec![replica("coder-1", 1), replica("coder-2", 2)], Duration::ZERO);
        let agents =
            vec![agent("one", 1, None), agent("alone", 9, Some(Role::Postgres)), agent("idle", 10, None)];
        roster.hear(Source::Presence, agents, Duration::ZERO);
        let members = roster.members();
        assert!(super::input::sees_all_coderd(&members));
        let servers = servers(&members);
        let names: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["alone", "coder-1", "coder-2"]);
        assert_eq!(servers[0].role, Some(Role::Postgres));
        assert_eq!(servers[1].watched_by, BTreeSet::from(["one".to_owned()]));
        assert_eq!((servers[1].node.as_deref(), servers[1].claims.len()), (Some("n1"), 1));
        assert!(servers[1].known_as.contains("10.0.0.1:9862"));
        assert!(servers[2].watched_by.is_empty());
    }

    #[test]
    fn a_host_that_is_both_is_two_servers_and_its_rows_are_found_by_address() {
        let mut topology = sound();
        topology.servers[0].name = "vm".into();
        topology.servers[0].known_as.insert("10.0.0.1".into());
        topology.servers[3].name = "vm".into();
        topology.servers[3].version = None;
        topology.rows =
            vec![row("b", "https://10.0.0.1:8080/healthz", 30.0), row("b", "10.0.0.1:6222", 30.0)];
        let subjects = only(&topology, Code::LabelContradictsMeasurement).subjects;
        assert_eq!(subjects, ["b", "vm [coderd]"]);
    }
}
