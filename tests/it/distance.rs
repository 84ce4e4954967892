//! What the product is for: near is near, far is far, and the figures are right.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use crate::house::{Agent, Run, Secret, check, check_until_told, postgres, quiet};
use crate::relay::Relay;

/// The relay's own cost is taken off only as well as it can be known, so the figure may miss on either side.
fn within_half_a_millisecond(figures: &Value, wire_us: f64) {
    let p50 = figures["p50"].as_f64().unwrap();
    assert!(
        (p50 - wire_us).abs() <= 500.0,
        "p50 {p50} µs is more than 0.5 ms off the wire's {wire_us} µs: {figures:#}"
    );
}

fn peer_through(wire: Duration, lost_per_mille: u64) -> Run {
    let secret = Secret::new();
    let agent = Agent::start(&secret);
    let relay = Relay::udp(agent.reflector, wire, lost_per_mille);
    check_until_told(&secret, &["--peer", &relay.address.to_string()])
}

fn postgres_through(wire: Duration) -> Run {
    let cluster = postgres();
    let relay = Relay::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.port())), wire);
    let url = cluster.url().replace(&cluster.port().to_string(), &relay.address.port().to_string());
    check_until_told(&Secret::new(), &["--postgres", &url])
}

#[test]
fn a_peer_three_milliseconds_away_passes_with_the_right_figure() {
    let _quiet = quiet();
    let run = peer_through(Duration::from_millis(3), 0);
    let target = run.target();
    assert_eq!((run.code, target["verdict"].as_str()), (Some(0), Some("pass")), "{target:#}");
    within_half_a_millisecond(&target["rtt_us"], 3000.0);
    assert!(target["samples"].as_u64().unwrap() >= 100, "{target:#}");
}

#[test]
fn a_peer_twenty_milliseconds_away_fails_because_of_where_it_is() {
    let _quiet = quiet();
    let run = peer_through(Duration::from_millis(20), 0);
    let target = run.target();
    assert_eq!((run.code, target["verdict"].as_str()), (Some(1), Some("fail")), "{target:#}");
    assert_eq!(target["reason"], "placement");
    assert_eq!(target["findings"][1]["reason"], "floor");
    assert_eq!(target["exceeded"], target["samples"]);
    assert!(
        run.json()["elapsed_us"].as_f64().unwrap() < 5e6,
        "without waiting longer than it takes to be sure"
    );
    within_half_a_millisecond(&target["rtt_us"], 20_000.0);
}

#[test]
fn a_peer_that_loses_a_fifth_fails_because_of_loss_on_the_way_there() {
    let _quiet = quiet();
    let run = peer_through(Duration::from_millis(3), 200);
    let target = run.target();
    assert_eq!((run.code, target["verdict"].as_str()), (Some(1), Some("fail")), "{target:#}");
    assert_eq!(target["reason"], "loss");
    let share = target["lost"].as_f64().unwrap() / target["samples"].as_f64().unwrap();
    assert!((0.08..0.35).contains(&share), "a fifth of all datagrams, {share} of the echoes");
    assert!(target["lost_there"].as_u64().unwrap() * 2 > target["lost"].as_u64().unwrap(), "{target:#}");
    assert_eq!(target["lost_back"], 0, "{target:#}");
    assert_eq!(target["judged_quantile_us"], Value::Null, "p95 falls among the lost ones");
    within_half_a_millisecond(&target["rtt_us"], 3000.0);
}

#[test]
fn a_database_three_milliseconds_away_passes_and_its_distance_is_the_networks() {
    let _quiet = quiet();
    let run = postgres_through(Duration::from_millis(3));
    let target = run.target();
    assert_eq!((run.code, target["verdict"].as_str()), (Some(0), Some("pass")), "{target:#}");
    within_half_a_millisecond(&target["network_us"], 3000.0);
    assert!(target["execution_us"]["p50"].as_f64().unwrap() < 500.0, "{target:#}");
}

#[test]
fn a_database_twenty_milliseconds_away_fails() {
    let _quiet = quiet();
    let run = postgres_through(Duration::from_millis(20));
    let target = run.target();
    assert_eq!((run.code, target["reason"].as_str()), (Some(1), Some("server_or_proxy")), "{target:#}");
    within_half_a_millisecond(&target["network_us"], 20_000.0);
}

#[test]
fn a_slow_server_is_not_called_a_far_one() {
    let _quiet = quiet();
    let cluster = postgres();
    // A role for whom a view of the same name stands in front of the system's function and takes 15 ms.
    let sql = "CREATE SCHEMA IF NOT EXISTS slow; \
               CREATE OR REPLACE FUNCTION slow.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE \
               AS $$ SELECT pg_sleep(0.015); SELECT pg_catalog.clock_timestamp() $$;";
    crate::house::sql(cluster, sql);
    let url = format!("{}&options=-c%20search_path%3Dslow%2Cpg_catalog", cluster.url());
    let run = check(&Secret::new(), &["--postgres", &url]);
    let target = run.target();
    assert_eq!((run.code, target["reason"].as_str()), (Some(1), Some("server")), "{target:#}");
    assert!(target["network_us"]["p50"].as_f64().unwrap() < 5000.0, "{target:#}");
    assert!(target["execution_us"]["p50"].as_f64().unwrap() >= 15_000.0, "{target:#}");
}
