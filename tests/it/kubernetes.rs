//! The source `kubernetes` against an API server of the tests ([`crate::kube_api`]).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use probe::discovery::News;
use probe::discovery::kubernetes::{self, Config, Pace, Settings};
use probe::mesh::peer::Role;
use probe::mesh::roster::{Sighting, Source, Status};
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::kube_api::{KubeApi, Mood, Verb};

const PATIENCE: Duration = Duration::from_secs(20);

fn settings() -> Settings {
    Settings {
        namespace: Some("coder".into()),
        agents_service: Some("probe".into()),
        coderd_service: Some("coder".into()),
        pace: Pace {
            settle: Duration::from_millis(50),
            settle_at_most: Duration::from_secs(2),
            answer: Duration::from_millis(400),
            watch: Duration::from_secs(20),
            quiet: Duration::from_secs(20),
            calm: Duration::from_millis(30),
            retry_at_first: Duration::from_millis(4),
            retry_at_most: Duration::from_millis(40),
            denied: Duration::from_millis(40),
        },
        ..Settings::default()
    }
}

/// The source at work, and what it tells.
struct Watching {
    news: Receiver<News>,
    task: JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watching {
    fn of(api: &KubeApi, settings: Settings) -> Self {
        Self::with(Config::new(format!("http://{}", api.address).parse().unwrap()), settings)
    }

    fn with(config: Config, settings: Settings) -> Self {
        let (to, news) = mpsc::channel(16);
        Self { news, task: tokio::spawn(kubernetes::watch_with(config, settings, to)) }
    }

    async fn next(&mut self) -> News {
        timeout(PATIENCE, self.news.recv()).await.expect("no news").expect("the source ended")
    }

    async fn seen(&mut self) -> Vec<Sighting> {
        match self.next().await {
            News::Seen(Source::Kubernetes, sightings) => sightings,
            other => panic!("{other:?}"),
        }
    }

    async fn failed(&mut self) -> String {
        match self.next().await {
            News::Failed(Source::Kubernetes, text) => text,
            other => panic!("{other:?}"),
        }
    }

    async fn blind(&mut self) -> String {
        match self.next().await {
            News::Blind(Source::Kubernetes, text) => text,
            other => panic!("{other:?}"),
        }
    }

    /// The first that is seen in this way; what came before it is passed over.
    async fn seen_with(&mut self, wanted: impl Fn(&[Sighting]) -> bool) -> Vec<Sighting> {
        loop {
            if let News::Seen(_, sightings) = self.next().await
                && wanted(&sightings)
            {
                return sightings;
            }
        }
    }

    fn has_no_news(&mut self) {
        let news = self.news.try_recv();
        assert!(news.is_err(), "{news:?}");
    }
}

fn endpoint(pod: &str, address: &str, node: &str) -> Value {
    json!({
        "addresses": [address],
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "nodeName": node,
        "zone": "us-east-1a",
        "targetRef": {"kind": "Pod", "name": pod, "namespace": "coder"},
    })
}

fn slice(family: &str, port: &Value, endpoints: &[Value]) -> Value {
    json!({"addressType": family, "endpoints": endpoints, "ports": [port]})
}

fn http() -> Value {
    json!({"name": "http", "protocol": "TCP", "port": 8080})
}

fn echo() -> Value {
    json!({"name": "echo", "protocol": "UDP", "port": 9900})
}

fn node(zone: &str) -> Value {
    json!({
        "metadata": {"labels": {"topology.kubernetes.io/region": "us-east-1", "topology.kubernetes.io/zone": zone}},
        "spec": {"providerID": format!("aws:///{zone}/i-0")},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// Two replicas and an agent on two nodes.
async fn cluster() -> KubeApi {
    let api = KubeApi::start().await;
    let replicas = [endpoint("coder-1", "10.0.0.1", "node-a"), endpoint("coder-2", "10.0.0.2", "node-b")];
    api.put("coder", "coder-x", &slice("IPv4", &http(), &replicas));
    api.put("probe", "probe-x", &slice("IPv4", &echo(), &[endpoint("probe-1", "10.0.0.11", "node-a")]));
    api.put("nodes", "node-a", &node("us-east-1a"));
    api.put("nodes", "node-b", &node("us-east-1b"));
    api
}

fn find<'a>(sightings: &'a [Sighting], key: &str) -> &'a Sighting {
    sightings
        .iter()
        .find(|sighting| sighting.key == key)
        .unwrap_or_else(|| panic!("no {key}: {sightings:#?}"))
}

fn keys(sightings: &[Sighting]) -> Vec<&str> {
    sightings.iter().map(|sighting| sighting.key.as_str()).collect()
}

fn verbs(api: &KubeApi, what: &str) -> Vec<Verb> {
    api.asked().into_iter().filter(|asked| asked.what == what).map(|asked| asked.verb).collect()
}

fn all_placed(sightings: &[Sighting]) -> bool {
    sightings.iter().all(|sighting| sighting.claims.iter().any(|claim| claim.trust == 4))
}

const ALL: [&str; 3] = ["agent/probe-1", "coderd/coder-1", "coderd/coder-2"];

fn ips(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn replicas_and_agents_are_seen_with_address_node_and_place() {
    let api = cluster().await;
    let mut source = Watching::of(&api, settings());
    let seen = source.seen_with(all_placed).await;
    assert_eq!(keys(&seen), ALL);
    let replica = find(&seen, "coderd/coder-2");
    assert_eq!((replica.role, replica.status), (Some(Role::Coderd), Status::Alive));
    assert_eq!((replica.host_name.as_deref(), replica.node.as_deref()), (Some("coder-2"), Some("node-b")));
    assert_eq!(replica.addresses, ips(&["10.0.0.2"]));
    assert_eq!(replica.relay.as_deref(), Some("http://10.0.0.2:8080"));
    let claims: Vec<_> = replica.claims.iter().map(|c| (c.trust, c.by.as_str(), c.zone.as_deref())).collect();
    assert_eq!(claims, [(4, "providerID", Some("us-east-1b")), (3, "node label", Some("us-east-1b"))]);
    assert!(replica.reflectors.is_empty());
    let agent = find(&seen, "agent/probe-1");
    assert_eq!(agent.reflectors.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.11:9900"]);
    assert_eq!((agent.role, agent.node.as_deref()), (None, Some("node-a")));
    for asked in api.asked() {
        let slices = "/apis/discovery.k8s.io/v1/namespaces/coder/endpointslices";
        assert_eq!(asked.path, if asked.what == "nodes" { "/api/v1/nodes" } else { slices });
    }
}

#[tokio::test]
async fn both_families_of_a_pod_are_one_sighting_and_all_its_addresses_answer() {
    let api = cluster().await;
    api.put("coder", "coder-y", &slice("IPv6", &http(), &[endpoint("coder-1", "fd00::1", "node-a")]));
    api.put("probe", "probe-y", &slice("IPv6", &echo(), &[endpoint("probe-1", "fd00::11", "node-a")]));
    let mut source = Watching::of(&api, settings());
    let seen = source.seen_with(all_placed).await;
    assert_eq!(keys(&seen), ALL);
    let replica = find(&seen, "coderd/coder-1");
    assert_eq!(replica.addresses, ips(&["10.0.0.1", "fd00::1"]));
    assert_eq!(replica.relay.as_deref(), Some("http://10.0.0.1:8080"));
    let agent = find(&seen, "agent/probe-1");
    let reflectors: Vec<_> = agent.reflectors.iter().map(ToString::to_string).collect();
    assert_eq!(reflectors, ["10.0.0.11:9900", "[fd00::11]:9900"]);
    // Of a cluster with IPv6 alone, the relay has brackets.
    api.put("coder", "coder-z", &slice("IPv6", &http(), &[endpoint("coder-6", "fd00::6", "node-a")]));
    let seen = source.seen_with(|seen| seen.len() == 4).await;
    assert_eq!(find(&seen, "coderd/coder-6").relay.as_deref(), Some("http://[fd00::6]:8080"));
}

#[tokio::test]
async fn a_pod_that_stops_is_leaving_and_one_that_is_not_ready_or_on_a_cordoned_node_is_not_ready() {
    let api = cluster().await;
    let mut source = Watching::of(&api, settings());
    source.seen_with(all_placed).await;
    let with = |conditions: Value| {
        let mut one = endpoint("coder-1", "10.0.0.1", "node-a");
        one["conditions"] = conditions;
        slice("IPv4", &http(), &[one, endpoint("coder-2", "10.0.0.2", "node-b")])
    };
    for (conditions, expected) in [
        (json!({"ready": false, "serving": true, "terminating": true}), Status::Leaving),
        (json!({"ready": false, "serving": false, "terminating": false}), Status::NotReady),
        // What a service publishes although it is not ready.
        (json!({"ready": true, "serving": true}), Status::Alive),
        (json!({"ready": true, "serving": false}), Status::NotReady),
        (json!({}), Status::Alive),
    ] {
        api.put("coder", "coder-x", &with(conditions.clone()));
        let seen = source.seen().await;
        assert_eq!(find(&seen, "coderd/coder-1").status, expected, "{conditions}");
        assert_eq!(find(&seen, "coderd/coder-2").status, Status::Alive);
    }
    let mut cordoned = node("us-east-1b");
    cordoned["spec"]["unschedulable"] = json!(true);
    api.put("nodes", "node-b", &cordoned);
    assert_eq!(find(&source.seen().await, "coderd/coder-2").status, Status::NotReady);
    let mut silent = node("us-east-1b");
    silent["status"]["conditions"][0]["status"] = json!("Unknown");
    api.put("nodes", "node-b", &node("us-east-1b"));
    assert_eq!(find(&source.seen().await, "coderd/coder-2").status, Status::Alive);
    api.put("nodes", "node-b", &silent);
    assert_eq!(find(&source.seen().await, "coderd/coder-2").status, Status::NotReady);
}

#[tokio::test]
async fn changes_are_watched_and_not_asked_for() {
    let api = cluster().await;
    let mut source = Watching::of(&api, settings());
    source.seen_with(all_placed).await;
    api.wait_for_open(3).await;
    api.put("coder", "coder-y", &slice("IPv4", &http(), &[endpoint("coder-3", "10.0.0.3", "node-a")]));
    assert_eq!(source.seen().await.len(), 4);
    api.delete("coder", "coder-x");
    assert_eq!(keys(&source.seen().await), ["agent/probe-1", "coderd/coder-3"]);
    // A node's heart beats, and nothing is different.
    let mut beat = node("us-east-1a");
    beat["status"]["conditions"][0]["lastHeartbeatTime"] = json!("2026-11-23T00:00:00Z");
    api.put("nodes", "node-a", &beat);
    api.delete("coder", "coder-y");
    assert_eq!(keys(&source.seen().await), ["agent/probe-1"]);
    for what in ["coder", "probe", "nodes"] {
        assert_eq!((api.count(what, Verb::List), api.count(what, Verb::Watch)), (1, 1), "{what}");
    }
}

#[tokio::test]
async fn nobody_behind_a_service_is_an_answer() {
    let api = KubeApi::start().await;
    let mut source = Watching::of(&api, settings());
    assert_eq!(source.seen().await, []);
}

#[tokio::test]
async fn a_namespaced_role_is_told_once_what_it_cannot_see_and_sees_the_rest() {
    let api = cluster().await;
    api.mood("nodes", Verb::List, Mood::Deny);
    let mut source = Watching::of(&api, settings());
    let blind = source.blind().await;
    assert!(blind.contains("region") && blind.contains("cordoned"), "{blind}");
    assert!(
        blind.contains("ClusterRole") && blind.contains("resources [nodes], verbs [list, watch]"),
        "{blind}"
    );
    assert!(blind.contains("system:serviceaccount:coder:probe"), "{blind}");
    let seen = source.seen().await;
    assert_eq!(keys(&seen), ALL);
    // The zone of the endpoint is all that there is, and it is a reading.
    let claim = &find(&seen, "coderd/coder-1").claims[0];
    assert_eq!((claim.trust, claim.region.region.as_str()), (2, "us-east-1"));
    let tries = api.count("nodes", Verb::List);
    api.wait_for("nodes", Verb::List, tries + 4).await;
    source.has_no_news();
    // Rights that come later are used.
    api.mood("nodes", Verb::List, Mood::Serve);
    source.seen_with(all_placed).await;
}

#[tokio::test]
async fn slices_that_are_denied_are_said_once_with_the_rule_that_helps_and_the_others_are_seen() {
    let api = cluster().await;
    api.mood("coder", Verb::List, Mood::Deny);
    let mut source = Watching::of(&api, settings());
    let seen = source.seen().await;
    assert_eq!(keys(&seen), ["agent/probe-1"]);
    let text = source.failed().await;
    assert!(text.starts_with("the endpoints of coder/coder: denied"), "{text}");
    assert!(text.contains("Role in the namespace coder"), "{text}");
    assert!(text.contains("[discovery.k8s.io], resources [endpointslices], verbs [list, watch]"), "{text}");
    let tries = api.count("coder", Verb::List);
    api.wait_for("coder", Verb::List, tries + 4).await;
    source.has_no_news();
    api.mood("coder", Verb::List, Mood::Serve);
    source.seen_with(|seen| keys(seen) == ALL).await;
}

#[tokio::test]
async fn where_only_the_list_is_allowed_it_is_repeated() {
    let api = cluster().await;
    api.mood("coder", Verb::Watch, Mood::Deny);
    let mut source = Watching::of(&api, settings());
    source.seen_with(|seen| seen.len() == 3).await;
    api.put("coder", "coder-y", &slice("IPv4", &http(), &[endpoint("coder-3", "10.0.0.3", "node-a")]));
    source.seen_with(|seen| seen.len() == 4).await;
    assert_eq!(verbs(&api, "coder")[..4], [Verb::List, Verb::Watch, Verb::List, Verb::Watch]);
}

#[tokio::test]
async fn nobody_passes_for_gone_because_his_service_has_not_answered_yet() {
    let api = cluster().await;
    api.mood("coder", Verb::List, Mood::Hang);
    let watch = probes::stopwatch::Stopwatch::start();
    let mut source = Watching::of(&api, settings());
    assert_eq!(keys(&source.seen().await), ["agent/probe-1"]);
    assert!(watch.elapsed() >= settings().pace.answer, "{:?}", watch.elapsed());
    assert_eq!(source.failed().await, "the endpoints of coder/coder: no answer in time");
}

#[tokio::test]
async fn two_reasons_that_take_turns_are_said_once_each() {
    let api = cluster().await;
    let moods = [Mood::Status(500, "InternalError"), Mood::Status(503, "ServiceUnavailable")];
    api.mood("coder", Verb::List, moods[0]);
    let mut source = Watching::of(&api, settings());
    source.seen_with(all_placed).await;
    assert!(source.failed().await.ends_with("500 InternalError"));
    api.mood("coder", Verb::List, moods[1]);
    assert!(source.failed().await.ends_with("503 ServiceUnavailable"));
    for mood in moods {
        api.mood("coder", Verb::List, mood);
        let tries = api.count("coder", Verb::List);
        // At least half of the longest wait each, which is more than it takes to settle.
        api.wait_for("coder", Verb::List, tries + 6).await;
    }
    source.has_no_news();
}

#[tokio::test]
async fn thousands_of_endpoints_are_one_piece_of_news_and_so_is_a_burst_of_changes() {
    let api = KubeApi::start().await;
    let many = |slices: std::ops::Range<u32>| {
        slices.map(|number| {
            let endpoints: Vec<_> = (0..100)
                .map(|last| {
                    let pod = format!("probe-{number}-{last}");
                    endpoint(&pod, &format!("10.1.{number}.{last}"), &format!("node-{}", number % 7))
                })
                .collect();
            (format!("probe-{number}"), slice("IPv4", &echo(), &endpoints))
        })
    };
    api.put_all("probe", many(0..60));
    api.put_all("nodes", (0..1_200).map(|number| (format!("node-{number}"), node("us-east-1a"))));
    let patient = Pace {
        settle: Duration::from_millis(500),
        settle_at_most: Duration::from_secs(10),
        answer: Duration::from_secs(10),
        ..settings().pace
    };
    let mut source = Watching::of(&api, Settings { pace: patient, ..settings() });
    let seen = source.seen().await;
    assert_eq!(seen.len(), 6_000);
    assert!(all_placed(&seen));
    assert_eq!(api.count("nodes", Verb::List), 3, "pages");
    api.wait_for_open(3).await;
    for change in many(60..120) {
        api.put("probe", &change.0, &change.1);
    }
    assert_eq!(source.seen().await.len(), 12_000);
    source.has_no_news();
}

#[tokio::test]
async fn news_does_not_wait_for_changes_to_end() {
    let api = cluster().await;
    let restless = Pace {
        settle: Duration::from_secs(10),
        settle_at_most: Duration::from_millis(100),
        ..settings().pace
    };
    let mut source = Watching::of(&api, Settings { pace: restless, ..settings() });
    source.seen().await;
}

#[tokio::test]
async fn a_watch_that_is_cut_off_is_taken_up_where_it_was() {
    let api = cluster().await;
    let mut source = Watching::of(&api, settings());
    source.seen_with(all_placed).await;
    api.wait_for_open(3).await;
    // Nothing is asked for again until the watch is over, so this happens in between.
    api.mood("coder", Verb::Watch, Mood::Hang);
    api.cut();
    api.put("coder", "coder-y", &slice("IPv4", &http(), &[endpoint("coder-3", "10.0.0.3", "node-a")]));
    api.mood("coder", Verb::Watch, Mood::Serve);
    source.seen_with(|seen| seen.len() == 4).await;
    assert_eq!(api.count("coder", Verb::List), 1);
}

#[tokio::test]
async fn a_bookmark_moves_the_version_from_which_a_watch_goes_on() {
    let api = cluster().await;
    let mut source = Watching::of(&api, settings());
    source.seen_with(all_placed).await;
    api.wait_for_open(3).await;
    let version = api.bookmark();
    // An event after it proves that it has come.
    api.put("nodes", "node-b", &node("us-east-1c"));
    source.seen().await;
    api.cut();
    api.wait_for("coder", Verb::Watch, 2).await;
    let again = api.asked().into_iter().rev().find(|a| a.what == "coder" && a.verb == Verb::Watch).unwrap();
    assert_eq!(again.version, Some(version.to_string()));
}

#[tokio::test]
async fn a_version_that_is_forgotten_leads_to_a_new_list_and_loses_nobody() {
    for in_the_stream in [false, true] {
        let api = cluster().await;
        let mut source = Watching::of(&api, settings());
        source.seen_with(all_placed).await;
        api.wait_for_open(3).await;
        api.forget(in_the_stream);
        api.delete("coder", "coder-x");
        api.put("coder", "coder-z", &slice("IPv4", &http(), &[endpoint("coder-9", "10.0.0.9", "node-a")]));
        api.forget(in_the_stream);
        api.cut();
        let seen = source.seen_with(|seen| seen.iter().any(|s| s.key == "coderd/coder-9")).await;
        assert_eq!(keys(&seen), ["agent/probe-1", "coderd/coder-9"]);
        api.wait_for("coder", Verb::Watch, 3).await;
        assert_eq!(verbs(&api, "coder"), [Verb::List, Verb::Watch, Verb::Watch, Verb::List, Verb::Watch]);
    }
}

#[tokio::test]
async fn a_server_that_fails_is_said_once_forgets_nobody_and_is_well_again() {
    let api = cluster().await;
    let mut source = Watching::of(&api, settings());
    source.seen_with(all_placed).await;
    api.wait_for_open(3).await;
    let whats = ["coder", "probe", "nodes"];
    for what in whats {
        api.mood(what, Verb::Watch, Mood::Status(500, "InternalError"));
        api.mood(what, Verb::List, Mood::Status(500, "InternalError"));
    }
    api.cut();
    let text = source.failed().await;
    assert_eq!(
        text,
        "the endpoints of coder/probe and the endpoints of coder/coder and the nodes: 500 InternalError"
    );
    api.wait_for("coder", Verb::List, 4).await;
    source.has_no_news();
    for what in whats {
        api.mood(what, Verb::Watch, Mood::Serve);
        api.mood(what, Verb::List, Mood::Serve);
    }
    // The same are seen, and that clears the failure.
    let seen = source.seen_with(all_placed).await;
    assert_eq!(keys(&seen), ALL);
}

#[tokio::test]
async fn one_service_that_fails_keeps_its_last_known_while_the_other_goes_on() {
    let api = cluster().await;
    let mut source = Watching::of(&api, settings());
    source.seen_with(all_placed).await;
    api.wait_for_open(3).await;
    api.mood("coder", Verb::Watch, Mood::Status(503, "ServiceUnavailable"));
    api.mood("coder", Verb::List, Mood::Status(503, "ServiceUnavailable"));
    api.cut();
    assert_eq!(source.failed().await, "the endpoints of coder/coder: 503 ServiceUnavailable");
    api.put("probe", "probe-y", &slice("IPv4", &echo(), &[endpoint("probe-2", "10.0.0.12", "node-b")]));
    assert_eq!(
        keys(&source.seen().await),
        ["agent/probe-1", "agent/probe-2", "coderd/coder-1", "coderd/coder-2"]
    );
    // It is good only in part, and stays known as such.
    assert_eq!(source.failed().await, "the endpoints of coder/coder: 503 ServiceUnavailable");
}

#[tokio::test]
async fn every_way_not_to_answer_is_a_failure_with_its_own_words() {
    for (verb, mood, expected) in [
        (Verb::List, Mood::Hang, "no answer in time"),
        (Verb::List, Mood::Garbage, "the answer is no list"),
        (Verb::List, Mood::Status(401, "Unauthorized"), "401: the credentials are not valid"),
        (Verb::List, Mood::Status(502, "not one word"), "502"),
        (Verb::List, Mood::Status(410, "Expired"), "every version is too old at once (410)"),
        (Verb::Watch, Mood::Hang, "no answer in time"),
        (Verb::Watch, Mood::Garbage, "the answer is not of this API"),
        (Verb::Watch, Mood::Close, "every watch is closed at once"),
    ] {
        let api = cluster().await;
        ["coder", "probe", "nodes"].iter().for_each(|what| api.mood(what, verb, mood));
        let mut source = Watching::of(&api, settings());
        let text = loop {
            match source.next().await {
                News::Failed(_, text) => break text,
                News::Seen(_, seen) if verb == Verb::Watch => assert_eq!(keys(&seen), ALL),
                other => panic!("{other:?}"),
            }
        };
        assert!(text.ends_with(&format!(": {expected}")), "{mood:?}: {text}");
    }
}

#[tokio::test]
async fn nobody_listening_and_a_connection_that_is_dropped_are_failures() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut source = Watching::with(Config::new(format!("http://{free}").parse().unwrap()), settings());
    let text = source.failed().await;
    assert!(text.to_lowercase().contains("connection refused"), "{text}");
    let api = cluster().await;
    ["coder", "probe", "nodes"].iter().for_each(|what| api.mood(what, Verb::List, Mood::Drop));
    assert!(!Watching::of(&api, settings()).failed().await.is_empty());
}

#[tokio::test]
async fn a_watch_that_falls_silent_is_opened_anew() {
    let api = cluster().await;
    let quiet = Pace { quiet: Duration::from_millis(150), ..settings().pace };
    let mut source = Watching::of(&api, Settings { pace: quiet, ..settings() });
    source.seen_with(all_placed).await;
    api.wait_for("coder", Verb::Watch, 3).await;
    assert_eq!(api.count("coder", Verb::List), 1);
    source.has_no_news();
}

#[tokio::test]
async fn failures_make_the_tries_rarer_and_a_server_that_closes_every_watch_is_not_stormed() {
    for (verb, mood) in [(Verb::List, Mood::Status(500, "InternalError")), (Verb::Watch, Mood::Close)] {
        let api = cluster().await;
        api.mood("coder", verb, mood);
        let slow = Pace {
            retry_at_first: Duration::from_millis(20),
            retry_at_most: Duration::from_millis(80),
            calm: Duration::from_secs(10),
            ..settings().pace
        };
        let watch = probes::stopwatch::Stopwatch::start();
        let _source = Watching::of(&api, Settings { pace: slow, ..settings() });
        api.wait_for("coder", verb, 7).await;
        // Half of 20, 40, 80, 80, 80 and 80.
        assert!(watch.elapsed() >= Duration::from_millis(190), "{mood:?}: {:?}", watch.elapsed());
    }
}

#[tokio::test]
async fn it_ends_with_whoever_listened() {
    let api = cluster().await;
    for mood in [Mood::Serve, Mood::Hang] {
        api.mood("coder", Verb::List, mood);
        let (to, news) = mpsc::channel(1);
        let config = Config::new(format!("http://{}", api.address).parse().unwrap());
        let task = tokio::spawn(kubernetes::watch_with(config, settings(), to));
        api.wait_for("nodes", Verb::Watch, 1).await;
        drop(news);
        timeout(PATIENCE, task).await.unwrap().unwrap();
        api.wait_for_open(0).await;
    }
}

#[tokio::test]
async fn a_name_that_is_none_is_said_and_nothing_is_asked() {
    let api = cluster().await;
    let wrong = Settings { coderd_service: Some("../../secrets".into()), ..settings() };
    let text = Watching::of(&api, wrong).failed().await;
    assert!(text.contains("not the name of a service"), "{text}");
    assert!(api.asked().is_empty());
}

#[tokio::test]
async fn endpoints_of_nonsense_are_left_out_and_the_others_are_seen() {
    let api = cluster().await;
    let nonsense = [
        json!({}),
        json!({"addresses": null, "targetRef": null, "conditions": null}),
        json!({"addresses": ["", "not an address", "10.0.0"], "targetRef": {"kind": "Pod", "name": "probe-7"}}),
        json!({"addresses": ["10.0.0.77"], "targetRef": {"kind": "Node", "name": "n"}}),
    ];
    let odd_port = json!({"protocol": "UDP", "port": 99_999});
    api.put("probe", "odd", &slice("IPv4", &odd_port, &nonsense));
    api.put("probe", "names", &slice("FQDN", &echo(), &[json!({"addresses": ["db.example.com"]})]));
    api.put("coder", "bare", &json!({"endpoints": null, "ports": null}));
    let mut source = Watching::of(&api, settings());
    let seen = source.seen().await;
    assert_eq!(keys(&seen), ["agent/10.0.0.77", "agent/probe-1", "coderd/coder-1", "coderd/coder-2"]);
    // A port that is none is as good as none.
    assert_eq!(find(&seen, "agent/10.0.0.77").reflectors[0].port, 9862);
}

#[tokio::test]
async fn the_api_is_reached_over_tls_with_a_token_and_the_one_provider() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = rustls::ServerConfig::builder_with_provider(probes::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let api = KubeApi::with(Some(tokio_rustls::TlsAcceptor::from(Arc::new(server)))).await;
    api.put("coder", "coder-x", &slice("IPv4", &http(), &[endpoint("coder-1", "10.0.0.1", "node-a")]));
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "hunter2").unwrap();
    let mut config = Config::new(format!("https://{}", api.address).parse().unwrap());
    config.auth_info.token_file = Some(token.path().to_str().unwrap().to_owned());
    // Whom nobody vouches for gets no token.
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    config.root_cert = Some(vec![other.cert.der().to_vec()]);
    let text = Watching::with(config.clone(), settings()).failed().await;
    assert!(text.contains("certificate"), "{text}");
    assert!(api.asked().is_empty());
    config.root_cert = Some(vec![made.cert.der().to_vec()]);
    let mut source = Watching::with(config, settings());
    assert_eq!(keys(&source.seen().await), ["coderd/coder-1"]);
    assert!(api.asked().iter().all(|asked| asked.authorization.as_deref() == Some("Bearer hunter2")));
}

/// Counts what is logged.
struct Counting(std::sync::atomic::AtomicUsize);

impl tracing::Subscriber for Counting {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("kube")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        if *event.metadata().level() <= tracing::Level::WARN {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn what_is_news_is_not_logged_by_kube_each_time_as_well() {
    let counting = Arc::new(Counting(std::sync::atomic::AtomicUsize::new(0)));
    let _guard = tracing::subscriber::set_default(Arc::clone(&counting));
    let api = cluster().await;
    api.mood("coder", Verb::List, Mood::Status(500, "InternalError"));
    api.mood("probe", Verb::List, Mood::Garbage);
    let mut source = Watching::of(&api, settings());
    source.failed().await;
    api.wait_for("coder", Verb::List, 4).await;
    assert_eq!(counting.0.load(std::sync::atomic::Ordering::Relaxed), 0);
}
