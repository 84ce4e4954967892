//! PostgreSQL in depth, with real servers: what a primary tells of its standbys and of itself, and a database that moves.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use probe::demo::cluster::Cluster;
use serde_json::Value;

use crate::house::{Agent, Secret, own_postgres, probe, quiet, sql, wait_until, with_connections};
use crate::relay::Relay;

/// An agent that is given nothing but this connection string and the mesh secret.
fn agent(secret: &Secret, url: &str, name: &str) -> Agent {
    let arguments =
        ["agent", "--name", name, "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0", "--log-format", "json"];
    Agent::with(
        probe(&arguments)
            .env("PROBE_MESH_SECRET_FILE", &secret.path)
            .env("CODER_PG_CONNECTION_URL", url)
            .env("PROBE_INTERVALS__POSTGRES", "100ms"),
    )
}

fn samples(report: &Value) -> u64 {
    report["links"][0]["samples"].as_u64().unwrap_or(0)
}

#[test]
fn a_failover_is_told_with_the_round_trip_before_and_after_and_the_window_is_of_the_new_server_alone() {
    let _quiet = quiet();
    let mut primary = own_postgres(&[]);
    let standby = primary.follower().unwrap();
    let relay = Relay::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, standby.port())), Duration::from_millis(8));
    let url = format!(
        "postgres://probe:{}@127.0.0.1:{},127.0.0.1:{}/postgres?sslmode=disable&target_session_attrs=read-write",
        primary.password(),
        primary.port(),
        relay.address.port()
    );
    let agent = agent(&Secret::new(), &url, "watcher");
    wait_until(&agent, "it measures, and knows who follows", 60, |report| {
        samples(report) >= 40 && report["databases"][0]["standbys"][0]["state"] == "streaming"
    });
    primary.stop().unwrap();
    standby.promote().unwrap();
    let report = wait_until(&agent, "it is measured elsewhere", 60, |report| {
        report["database_moves"][0]["rtt_after_us"].is_number()
    });
    let moves = report["database_moves"].as_array().unwrap();
    assert_eq!(moves.len(), 1, "two witnesses, one move: {report:#}");
    let (before, after) =
        (moves[0]["rtt_before_us"].as_f64().unwrap(), moves[0]["rtt_after_us"].as_f64().unwrap());
    assert!(before < 4_000.0 && after >= 7_000.0, "{before} → {after}");
    let address = |port: u16| format!("127.0.0.1:{port}");
    assert_eq!(moves[0]["from"]["address"], address(primary.port()));
    assert_eq!(moves[0]["to"]["address"], address(standby.port()));
    assert_eq!(moves[0]["from"]["timeline"], "00000001");
    let link = &report["links"][0];
    assert_eq!(link["server"], address(standby.port()));
    assert!(link["rtt_us"]["min"].as_f64().unwrap() >= 7_000.0, "nothing of the near one is in it: {link:#}");
    assert_eq!(link["reconnects"], 1, "{link:#}");
    let connects = link["connects"].as_array().unwrap();
    assert_eq!(connects[0]["outcome"], "ok");
    // Four messages each way through the relay, whatever else they take.
    assert!(connects[0]["phases_us"]["auth"].as_f64().unwrap() > 16_000.0, "{connects:#?}");
    assert!(connects.len() >= 2, "the near one is remembered: {connects:#?}");
    let told = wait_until(&agent, "discovery has come after", 60, |report| {
        report["databases"][0]["timeline"] == "00000002"
    });
    assert_eq!(told["database_moves"].as_array().unwrap().len(), 1, "{told:#}");
    assert_eq!(told["database_moves"][0]["to"]["timeline"], "00000002", "{told:#}");
    let said = agent.said();
    let line =
        said.iter().find(|line| line.contains("database moved from")).unwrap_or_else(|| panic!("{said:#?}"));
    assert!(line.contains(", RTT ") && line.contains(" → "), "{line}");
    assert!(said.iter().any(|line| line.contains("another server now")), "{said:#?}");
}

/// Fills a little of the notification queue, which a listener in a transaction keeps from being emptied.
fn with_a_queue<T>(cluster: &Cluster, work: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("LISTEN slow").await.unwrap();
        client.batch_execute("BEGIN; SELECT 1").await.unwrap();
        client
    });
    sql(cluster, "SELECT pg_notify('slow', repeat('x', 7000) || n) FROM generate_series(1, 3000) n");
    let result = work();
    drop(listener);
    result
}

#[test]
fn a_primary_tells_how_full_it_is_and_who_follows_and_what_a_role_may_not_see_is_unknown_and_not_zero() {
    let primary = own_postgres(&["max_connections=30"]);
    let standby = primary.follower().unwrap();
    sql(&primary, "CREATE ROLE coder_probe LOGIN PASSWORD 'pwd'; CREATE TABLE t (n int)");
    let url = |port| format!("postgres://coder_probe:pwd@127.0.0.1:{port}/postgres?sslmode=disable");
    let secret = Secret::new();
    let tells = |report: &Value| report["databases"][0]["standbys"].is_array();
    let (owner, little, behind) = with_a_queue(&primary, || {
        let all = (
            agent(&secret, &primary.url(), "owner"),
            agent(&secret, &url(primary.port()), "little"),
            agent(&secret, &url(standby.port()), "behind"),
        );
        for agent in [&all.0, &all.1, &all.2] {
            wait_until(agent, "its database tells", 60, tells);
        }
        all
    });
    let seen = wait_until(&owner, "its lag", 60, |report| {
        sql(&primary, "INSERT INTO t SELECT generate_series(1, 100)");
        report["databases"][0]["standbys"][0]["write_lag_us"].is_number()
    });
    let database = &seen["databases"][0];
    let one = &database["standbys"][0];
    assert_eq!((one["state"].as_str(), one["sync_state"].as_str()), (Some("streaming"), Some("async")));
    assert!(one["behind_bytes"].is_u64() && one["round_trip_at_most_us"].is_number(), "{one:#}");
    assert_eq!(
        (database["standby"].as_bool(), database["timeline"].as_str()),
        (Some(false), Some("00000001"))
    );
    assert_eq!(database["connections"]["max"], 27, "30, less 3 for superusers: {database:#}");
    let used = database["connections"]["used"].as_u64().unwrap();
    assert!((2..=10).contains(&used), "{database:#}");
    let usage = database["notification_queue_usage"].as_f64().unwrap();
    assert!((0.000_1..0.5).contains(&usage), "21 MB of 8 GB: {usage}");
    let found = |report: &Value, code: &str| {
        report["findings"].as_array().unwrap().iter().any(|finding| finding["code"] == code)
    };
    assert!(!found(&seen, "notification_queue_filling") && !found(&seen, "connections_low"), "{seen:#}");

    let hidden = &wait_until(&little, "its database tells", 60, tells)["databases"][0].clone();
    let one = &hidden["standbys"][0];
    for key in
        ["state", "sync_state", "write_lag_us", "replay_lag_us", "behind_bytes", "round_trip_at_most_us"]
    {
        assert!(one[key].is_null(), "{key}: {one:#}");
    }
    assert_eq!(hidden["standbys_hidden"], true);
    assert!(hidden["notification_queue_usage"].as_f64().unwrap() > 0.0, "that needs no right: {hidden:#}");
    assert_eq!(hidden["connections"]["max"], 27);

    let recovering = &wait_until(&behind, "its database tells", 60, tells)["databases"][0].clone();
    assert_eq!(
        (recovering["standby"].as_bool(), recovering["standbys"].as_array().unwrap().len()),
        (Some(true), 0)
    );
    assert!(recovering["notification_queue_usage"].is_null(), "a standby has no such queue: {recovering:#}");
}

#[test]
fn a_server_that_runs_short_of_connections_is_a_finding_for_who_is_connected() {
    let cluster = own_postgres(&["max_connections=20"]);
    let arguments = ["agent", "--name", "watcher", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"];
    let agent = Agent::with(
        probe(&arguments)
            .env("PROBE_MESH_SECRET_FILE", &Secret::new().path)
            .env("CODER_PG_CONNECTION_URL", cluster.url())
            .env("PROBE_GRACES__START", "1s"),
    );
    let low = |report: &Value| {
        let findings = report["findings"].as_array().unwrap().iter();
        findings.filter(|finding| finding["code"] == "connections_low").cloned().collect::<Vec<_>>()
    };
    let report = wait_until(&agent, "there is room", 60, |report| {
        report["databases"][0]["connections"]["used"].is_u64() && samples(report) > 0
    });
    assert_eq!(low(&report), [] as [Value; 0], "{report:#}");
    let report = with_connections(&cluster, 14, || {
        wait_until(&agent, "it looks again", 60, |report| {
            low(report).iter().any(|finding| finding["news"] == true)
        })
    });
    let evidence = low(&report)[0]["evidence"].as_str().unwrap().to_owned();
    assert!(evidence.contains(" of 17 connections of 127.0.0.1:"), "{evidence}");
}
