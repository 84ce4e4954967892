//! The whole story: three agents beside three replicas, a primary with a standby, a pooler, a workspace proxy and
//! provisioners, all in one report, and each of its numbers worked out again from the others.

use serde_json::Value;

use crate::coder::{Coder, Generation};
use crate::dashboard::every_expression;
use crate::discovery::agent_with;
use crate::house::{Secret, quiet, sql, wait_until};
use crate::metadata_server::{MetadataServer, ok};
use crate::pooler::{Mode, Pooler};
use crate::prometheus::{self, Prometheus};
use crate::replica::{Nats, Replica};

fn link<'a>(report: &'a Value, name: &str, kind: &str) -> &'a Value {
    let links = report["links"].as_array().unwrap();
    links
        .iter()
        .find(|link| link["name"] == name && link["kind"] == kind)
        .unwrap_or_else(|| panic!("no {kind} {name}: {report:#}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn codes(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

/// What coderd's metrics say: pings of the database within 5 ms, one request.
const METRICS: &str = "coderd_db_query_latencies_seconds_bucket{query=\"Ping\",le=\"0.005\"} 90\n\
    coderd_db_query_latencies_seconds_bucket{query=\"Ping\",le=\"+Inf\"} 90\n\
    coderd_db_query_latencies_seconds_count{query=\"Ping\"} 90\n\
    coderd_api_request_latencies_seconds_bucket{method=\"GET\",path=\"/api/v2/users/{user}\",le=\"0.01\"} 100\n\
    coderd_api_request_latencies_seconds_bucket{method=\"GET\",path=\"/api/v2/users/{user}\",le=\"+Inf\"} 100\n\
    coderd_api_request_latencies_seconds_count{method=\"GET\",path=\"/api/v2/users/{user}\"} 100\n";

#[test]
fn one_report_tells_of_every_way_that_coder_uses_and_its_numbers_fit() {
    let _quiet = quiet();
    let mut coder = Coder::new(Generation::WithNats);
    let _standby = coder.cluster.follower().unwrap();
    let pooler = Pooler::start(&coder.cluster, Mode::Transaction, 4, "");
    let metrics = MetadataServer::start(|_| ok(METRICS));
    let proxy = MetadataServer::start(|_| ok(""));
    let replicas: Vec<_> =
        (2..=4).map(|host| Replica::start(&format!("127.0.0.{host}"), Nats::Greets)).collect();
    for (replica, host) in replicas.iter().zip(2..) {
        crate::paths::add(&coder, &format!("coder-{host}"), replica);
    }
    sql(
        &coder.cluster,
        &format!(
            "INSERT INTO workspace_proxies (id, name, display_name, icon, url, wildcard_hostname, created_at, updated_at, \
             deleted, token_hashed_secret, version) \
             VALUES (gen_random_uuid(), 'sydney', '', '', 'http://{}', '', now(), now(), false, '', 'v2.33.5'); \
             INSERT INTO provisioner_daemons (created_at, name, provisioners, last_seen_at, organization_id, key_id) \
             VALUES (now(), 'coder-2-0', '{{terraform}}', now(), gen_random_uuid(), gen_random_uuid()), \
             (now(), 'builder', '{{terraform}}', now(), gen_random_uuid(), gen_random_uuid())",
            proxy.address
        ),
    );
    coder.keep_alive();
    let (secret, url) = (Secret::new(), coder.cluster.url());
    let pooled_url = pooler.url();
    let metrics_url = format!("http://{}/metrics", metrics.address);
    let more = [
        ("PROBE_INTERVALS__RELAY", "200ms"),
        ("PROBE_INTERVALS__RELAY_FRESH", "1s"),
        ("PROBE_INTERVALS__POSTGRES", "100ms"),
        ("PROBE_INTERVALS__POSTGRES_CONNECT", "1s"),
        ("PROBE_CODERD_METRICS", metrics_url.as_str()),
        ("PROBE_GRACES__START", "5s"),
        // Nobody takes what is handed over, which is a figure as well.
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
    ];
    let start = |host: u8, url: &str| {
        agent_with(&more, &secret, url, &format!("agent-{host}"), &format!("127.0.0.{host}"))
    };
    let agents = [start(2, &url), start(3, &url), start(4, &pooled_url)];
    let database = format!("127.0.0.1:{}/postgres", coder.cluster.port());
    let report = wait_until(&agents[0], "all of it is told", 90, |report| {
        let links = report["links"].as_array().unwrap();
        let measured =
            |kind: &str| links.iter().any(|link| link["kind"] == kind && link["rtt_us"]["p50"].is_number());
        let all = ["peer", "postgres", "relay", "nats", "http"].into_iter().all(measured);
        let split = links.iter().any(|link| link["split_us"].is_object());
        let fresh = links.iter().any(|link| link["fresh_us"].is_object());
        let heard = report["pubsub"]["peers"].as_array().is_some_and(|peers| {
            peers.iter().any(|peer| peer["name"] == "agent-3" && peer["p50_us"].is_number())
        });
        let standbys = report["databases"][0]["standbys"].as_array().is_some_and(|all| !all.is_empty());
        let load = report["databases"][0]["connections"].is_object();
        let explained =
            report["attribution"][0]["verdict"].as_str().is_some_and(|verdict| verdict != "unknown");
        all && split && fresh && heard && standbys && load && explained
    });

    // 1: the ways from replica to replica.
    let (relay, echo) = (link(&report, "coder-3", "relay"), link(&report, "agent-3", "peer"));
    assert!(number(&echo["rtt_us"]["min"]) > 0.0);
    assert!(number(&relay["fresh_us"]["min"]) > number(&relay["bare_connect_us"]), "{relay:#}");
    let nats = link(&report, "coder-3", "nats");
    assert!(number(&nats["total_us"]["max"]) >= number(&nats["rtt_us"]["max"]), "{nats:#}");
    link(&report, "coder-3", "http");

    // 2: news, which takes the way of NATS here, so that through PostgreSQL is for information.
    let pubsub = &report["pubsub"];
    assert_eq!(
        (pubsub["path"].as_str(), pubsub["judged"].as_bool()),
        (Some("nats"), Some(false)),
        "{pubsub:#}"
    );
    let peer = &pubsub["peers"][0];
    let (one_way, bound) = (number(&peer["one_way_us"]), number(&peer["one_way_bound_us"]));
    assert!((one_way * 2.0 - number(&peer["p50_us"])).abs() <= 1.0, "{peer:#}");
    assert!(bound >= one_way, "one clock tells no more: {peer:#}");

    // 3: the database in depth.
    let postgres = link(&report, &database, "postgres");
    let split = &postgres["split_us"];
    assert!(
        (number(&split["network"]) - number(&postgres["bare_connects_us"]["p50"])).abs() < 0.2,
        "{postgres:#}"
    );
    let server = (number(&postgres["rtt_us"]["p50"]) - number(&split["network"])).max(0.0);
    assert!((number(&split["server_p50"]) - server).abs() < 0.2, "{postgres:#}");
    assert_eq!(postgres["connects"][0]["outcome"], "ok");
    let told = &report["databases"][0];
    assert_eq!(told["standbys"][0]["state"], "streaming", "{told:#}");
    assert!(number(&told["connections"]["used"]) < number(&told["connections"]["max"]), "{told:#}");
    assert!((0.0..1.0).contains(&number(&told["notification_queue_usage"])), "{told:#}");

    // 4: coderd's own metrics.
    let attribution = &report["attribution"][0];
    assert_eq!(attribution["verdict"], "nothing_slow", "{attribution:#}");
    let buckets = attribution["ping"]["buckets_us"].as_array().unwrap();
    let counted: f64 = buckets.iter().map(|bucket| number(&bucket["count"])).sum();
    assert!((counted - number(&attribution["ping"]["count"])).abs() < 0.5, "{attribution:#}");

    // 5: the proxy is reached and not judged; provisioners are known.
    let links = report["links"].as_array().unwrap();
    let proxy = links.iter().find(|link| link["role"] == "proxy").unwrap();
    assert_eq!((proxy["kind"].as_str(), &proxy["budget_us"]), (Some("http"), &Value::Null), "{proxy:#}");
    assert!(codes(&report).contains(&"built_in_provisioners"), "{:?}", codes(&report));
    assert!(!codes(&report).contains(&"database_pooled"));
    assert!(
        report["findings"].as_array().unwrap().iter().all(|finding| finding["severity"] != "fail"),
        "{report:#}"
    );

    // Through the pooler the same database is known for what it is, and nothing is listened to.
    let pooled = wait_until(&agents[2], "the pooler is found", 60, |report| {
        codes(report).contains(&"database_pooled")
    });
    assert_eq!(pooled["databases"][0]["pooled"], true, "{pooled:#}");

    // And all of it in the dashboard, by way of a real Prometheus.
    let mut targets: Vec<_> = agents.iter().map(|agent| agent.web).collect();
    targets.push(prometheus::page(prometheus::coderd()));
    let prometheus = Prometheus::start(&targets);
    prometheus.wait_until_scraped();
    // A rate needs two samples.
    prometheus.wait_until_some("min(count_over_time(up[1m])) >= 3");
    prometheus.wait_until_some("coder_probe_findings > 0");
    prometheus
        .wait_until_some("min(count_over_time(coder_probe_otlp_exports_total{outcome!=\"ok\"}[1m])) >= 3");
    let is_silent = |expression: &String| prometheus.query(expression).is_empty();
    let silent: Vec<_> = every_expression().into_iter().filter(is_silent).collect();
    assert_eq!(silent, [""; 0], "nothing comes of these");
}
