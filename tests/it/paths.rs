//! The paths that coderd's own traffic takes, with stand-ins for its replicas: relay, health and NATS.

use serde_json::Value;

use crate::coder::{Coder, Generation};
use crate::discovery::agent_with;
use crate::encryption::Authority;
use crate::house::{Run, Secret, probe, quiet, sql, wait_until};
use crate::replica::{Nats, Replica};

/// The link of this kind to this target.
fn link<'a>(report: &'a Value, list: &str, name: &str, kind: &str) -> Option<&'a Value> {
    report[list].as_array().unwrap().iter().find(|link| link["name"] == name && link["kind"] == kind)
}

fn codes<'a>(report: &'a Value, list: &str) -> Vec<&'a str> {
    report[list].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

/// A replica's row with all that it publishes.
pub(crate) fn add(coder: &Coder, name: &str, replica: &Replica) {
    coder.add_replica(name, &replica.relay());
    sql(
        &coder.cluster,
        &format!(
            "UPDATE replicas SET cluster_host = '{}', nats_port = {} WHERE hostname = '{name}'",
            replica.nats.ip(),
            replica.nats.port()
        ),
    );
}

#[test]
fn agents_beside_coderd_take_the_ways_of_its_own_traffic_and_tell_where_one_is_closed() {
    let _quiet = quiet();
    let mut coder = Coder::new(Generation::WithNats);
    let replicas: Vec<_> = [Nats::Greets, Nats::Silent, Nats::Greets]
        .into_iter()
        .zip(2..)
        .map(|(nats, host)| Replica::start(&format!("127.0.0.{host}"), nats))
        .collect();
    for (replica, host) in replicas.iter().zip(2..) {
        add(&coder, &format!("coder-{host}"), replica);
    }
    coder.keep_alive();
    let (secret, url) = (Secret::new(), coder.cluster.url());
    let more = [("PROBE_INTERVALS__RELAY", "200ms"), ("PROBE_INTERVALS__RELAY_FRESH", "1s")];
    let agents: Vec<_> = (2..=4)
        .map(|host| agent_with(&more, &secret, &url, &format!("agent-{host}"), &format!("127.0.0.{host}")))
        .collect();
    let report = wait_until(&agents[0], "all paths are measured", 30, |report| {
        ["coder-3", "coder-4"].iter().all(|name| {
            let ok = |kind: &str, field: &str, least: u64| {
                link(report, "links", name, kind)
                    .is_some_and(|link| link["totals"]["outcomes"][field].as_u64().unwrap_or(0) >= least)
            };
            let fresh = link(report, "links", name, "relay").is_some_and(|link| link["fresh_us"].is_object());
            ok("relay", "ok", 10) && fresh && ok("nats", "ok", 1)
        })
    });
    let relay = link(&report, "links", "coder-3", "relay").unwrap();
    assert_eq!(relay["budget_us"], Value::Null, "the echo is what is judged: {relay:#}");
    assert_eq!(relay["fresh_failed"], 0);
    let (kept, fresh) =
        (relay["rtt_us"]["min"].as_f64().unwrap(), relay["fresh_us"]["min"].as_f64().unwrap());
    assert!(fresh > kept, "a connect and a request take longer than a request: {relay:#}");
    assert!(link(&report, "links", "coder-3", "http").is_some(), "its health: {report:#}");
    assert!(link(&report, "links", "coder-2", "relay").is_none(), "our own replica is none of them");
    // Each slot has asked on the one connection that is kept; the others were fresh ones, of relay and health.
    let (asked, connections) = (replicas[1].asked("/derp/latency-check"), replicas[1].connections());
    assert!(asked > 2 * connections, "{asked} requests on {connections} connections");
    let (visits, bytes) = replicas[1].nats_visits();
    assert!((1..=2).contains(&visits), "once a minute from each of the two others: {visits}");
    assert_eq!(bytes, 0, "nothing is sent to a NATS port");

    replicas[1].let_relay_fail(true);
    let report = wait_until(&agents[0], "the relay is missed", 40, |report| {
        codes(report, "findings").contains(&"relay_unreachable")
    });
    let finding =
        report["findings"].as_array().unwrap().iter().find(|f| f["code"] == "relay_unreachable").unwrap();
    assert_eq!(finding["subjects"][0], "coder-3", "{finding:#}");
    assert_eq!(finding["severity"], "fail");
    let evidence = finding["evidence"].as_str().unwrap();
    assert!(evidence.contains("the agent beside it answers there"), "{evidence}");
    replicas[1].let_relay_fail(false);
    wait_until(&agents[0], "it is back", 40, |report| {
        !codes(report, "findings").contains(&"relay_unreachable")
    });
}

#[test]
fn a_check_tells_which_ways_to_a_replica_are_closed_and_that_only_it_may_be_kept_out() {
    let mut coder = Coder::new(Generation::WithNats);
    let other = Replica::start("127.0.0.2", Nats::Other);
    let ill = Replica::start("127.0.0.3", Nats::Silent);
    let closed = Replica::start("127.0.0.4", Nats::Closed);
    ill.fall_ill();
    closed.let_relay_fail(true);
    for (name, replica) in [("coder-2", &other), ("coder-3", &ill), ("coder-4", &closed)] {
        add(&coder, name, replica);
    }
    coder.keep_alive();
    let run = Run::of(
        probe(&["check", "--discover", "coder", "--quick", "-o", "json"])
            .env("CODER_PG_CONNECTION_URL", coder.cluster.url()),
    );
    let report = run.json();
    let found: Vec<_> = report["topology"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| (finding["code"].as_str().unwrap(), finding["subjects"][0].as_str().unwrap_or("")))
        .filter(|(code, _)| code.contains("relay") || code.contains("nats") || code.contains("unhealthy"))
        .collect();
    let expected = [
        ("relay_unconfirmed", "coder-4"),
        ("nats_unconfirmed", "coder-2"),
        ("nats_unconfirmed", "coder-4"),
        ("replica_unhealthy", "coder-3"),
    ];
    assert_eq!(found, expected, "{report:#}");
    let nats = link(&report, "targets", "coder-2", "nats").unwrap();
    assert_eq!(nats["verdict"], "info", "{nats:#}");
    assert!(nats["detail"].as_str().unwrap().contains("greets otherwise than NATS does"), "{nats:#}");
    assert_eq!(other.nats_visits(), (1, 0), "a NATS port is connected to once");
}

#[test]
fn a_relay_that_is_switched_off_is_told_as_that_and_the_replica_is_not_ill() {
    let mut coder = Coder::new(Generation::BeforeNats);
    let page = Replica::start("127.0.0.2", Nats::Closed);
    page.switch_relay_off(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 13\r\n\r\n<html></html>",
    );
    let none = Replica::start("127.0.0.3", Nats::Closed);
    none.switch_relay_off("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    for (name, replica) in [("coder-2", &page), ("coder-3", &none)] {
        coder.add_replica(name, &replica.relay());
    }
    coder.keep_alive();
    let run = Run::of(
        probe(&["check", "--discover", "coder", "--quick", "-o", "json"])
            .env("CODER_PG_CONNECTION_URL", coder.cluster.url()),
    );
    let report = run.json();
    let found: Vec<_> = codes(&report, "topology")
        .into_iter()
        .filter(|code| code.contains("relay") || code.contains("unhealthy"))
        .collect();
    assert_eq!(found, ["relay_off", "relay_off"], "{report:#}");
    let relay = link(&report, "targets", "coder-2", "relay").unwrap();
    assert_eq!(relay["verdict"], "info", "{relay:#}");
    assert!(relay["detail"].as_str().unwrap().contains("CODER_DERP_SERVER_ENABLE"), "{relay:#}");
}

#[test]
fn a_relay_with_tls_is_asked_under_the_name_of_the_access_url() {
    let mut coder = Coder::new(Generation::BeforeNats);
    let authority = Authority::new();
    let replica = Replica::with_tls("127.0.0.2", Nats::Closed, &authority, "coder.example.com");
    coder.add_replica("coder-2", &replica.relay());
    coder.keep_alive();
    let ca = authority.path("ca.pem");
    let ask = |more: &[&str]| {
        let mut arguments = vec!["check", "--discover", "coder", "--quick", "-o", "json"];
        arguments.extend(["--http-ca", ca.to_str().unwrap()]);
        arguments.extend(more);
        let run = Run::of(probe(&arguments).env("CODER_PG_CONNECTION_URL", coder.cluster.url()));
        let report = run.json();
        let relay = link(&report, "targets", "coder-2", "relay").unwrap().clone();
        let missed = codes(&report, "topology").contains(&"relay_unconfirmed");
        (relay, missed)
    };
    let (relay, missed) = ask(&["--http-sni", "coder.example.com"]);
    assert!(!missed, "{relay:#}");
    assert_eq!(relay["encrypted"], true);
    assert!(relay["fresh_us"]["p50"].as_f64() > relay["rtt_us"]["p50"].as_f64(), "{relay:#}");
    for wrong in [&[][..], &["--http-sni", "other.example.com"]] {
        let (relay, missed) = ask(wrong);
        assert!(missed, "{wrong:?}: {relay:#}");
        assert!(relay["detail"].as_str().unwrap().contains("TLS"), "{wrong:?}: {relay:#}");
    }
}
