//! What goes wrong in the field: each thing is named in one line, without its password, while the rest is measured.

use std::net::UdpSocket;
use std::time::Duration;

use crate::house::{Agent, Secret, check, closed_port, own_postgres, postgres, signal};
use crate::relay::Relay;

const QUICK: [&str; 1] = ["--quick"];

fn quick<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().copied().chain(QUICK).collect()
}

#[test]
fn each_unreachable_target_fails_with_its_cause_and_the_good_one_is_still_measured() {
    let secret = Secret::new();
    let agent = Agent::start(&secret);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let closed = closed_port();
    let password = "hunter2-and-more";
    let port = postgres().port();
    let peer = agent.reflector.to_string();
    let closed_peer = format!("127.0.0.1:{closed}");
    let silent_peer = silent.local_addr().unwrap().to_string();
    let refused_db = format!("postgres://probe:{password}@127.0.0.1:{closed}/coder");
    let wrong_password = format!("postgres://probe:{password}@127.0.0.1:{port}/coder");
    let missing_db = postgres().url().replace("/postgres?", "/no_such_database?");
    let refused_http = format!("http://127.0.0.1:{closed}/healthz");
    let not_found = format!("http://{}/no-such-page", agent.web);
    let run = check(
        &secret,
        &quick(&[
            "--peer",
            &peer,
            "--peer",
            &closed_peer,
            "--peer",
            &silent_peer,
            "--peer",
            "no-such-host.invalid",
            "--postgres",
            &refused_db,
            "--postgres",
            &wrong_password,
            "--postgres",
            &missing_db,
            "--postgres",
            "postgres://probe@no-such-host.invalid/coder",
            "--tcp",
            &closed_peer,
            "--http",
            &refused_http,
            "--http",
            &not_found,
        ]),
    );
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let report = run.json();
    let seen: Vec<(&str, &str, &str)> = report["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|target| {
            let text = |key: &str| target[key].as_str().unwrap_or_default();
            (text("kind"), text("verdict"), text("reason"))
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("peer", "pass", "within_budget"),
            ("peer", "fail", "refused"),
            ("peer", "fail", "unreachable"),
            ("peer", "fail", "resolve"),
            ("postgres", "fail", "refused"),
            ("postgres", "fail", "auth"),
            ("postgres", "fail", "database"),
            ("postgres", "fail", "resolve"),
            ("tcp", "fail", "refused"),
            ("http", "fail", "refused"),
            ("http", "fail", "status"),
        ],
        "{report:#}"
    );
    for target in report["targets"].as_array().unwrap().iter().filter(|target| target["verdict"] == "fail") {
        let detail = target["detail"].as_str().unwrap();
        assert!(!detail.contains('\n') && !detail.is_empty(), "{detail}");
        assert!(target["hint"].is_string(), "{target:#}");
    }
    for secret in [password, postgres().password()] {
        assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret), "{}{}", run.stdout, run.stderr);
    }
}

#[test]
fn the_human_report_names_each_failing_target_with_cause_and_hint() {
    let secret = Secret::new();
    let closed = format!("127.0.0.1:{}", closed_port());
    let run = crate::house::Run::of(
        crate::house::probe(&quick(&["check", "--tcp", &closed, "--peer", &closed]))
            .env("PROBE_MESH_SECRET_FILE", &secret.path),
    );
    assert_eq!(run.code, Some(1));
    for part in ["× ", &closed, "refused: connection refused", "hint: ", "FAIL – 2 of 2 targets fail"] {
        assert!(run.stdout.contains(part), "{part}\n{}", run.stdout);
    }
    assert_eq!(run.stderr, "", "no progress where there is no terminal");
}

#[test]
fn a_bad_url_is_a_usage_error_that_keeps_the_password_to_itself() {
    let secret = Secret::new();
    for (arguments, part) in [
        (["--postgres", "mysql://coder:hunter2@db/coder"], "--postgres"),
        (["--postgres", "postgres://coder:hunter2@db:99999/coder"], "--postgres"),
        (["--postgres", "host=db user=coder password=hunter2 sslmode=maybe"], "sslmode"),
        (["--http", "http://coder:hunter2@db/"], "user or password"),
        (["--peer", "coder:hunter2@db"], "--peer"),
    ] {
        let run = check(&secret, &arguments);
        assert_eq!(run.code, Some(2), "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(part), "{arguments:?}: {}", run.stderr);
        assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn a_database_that_dies_in_the_middle_fails_with_what_it_said() {
    let secret = Secret::new();
    let cluster = own_postgres(&[]);
    let url = cluster.url();
    let pid = cluster.pid();
    let watched = std::thread::spawn(move || check(&secret, &["--postgres", &url, "--time-limit", "6s"]));
    wait_for_backend(&cluster);
    // Fast shutdown: backends are told why they end.
    signal(pid, "INT");
    let run = watched.join().unwrap();
    let target = run.target();
    assert_eq!((run.code, target["verdict"].as_str()), (Some(1), Some("fail")), "{target:#}");
    assert!(matches!(target["reason"].as_str(), Some("refused" | "closed")), "{target:#}");
    assert!(target["outcomes"]["ok"].as_u64().unwrap() > 0, "{target:#}");
    assert_eq!(
        target["lost"].as_u64().unwrap() + target["outcomes"]["ok"].as_u64().unwrap(),
        60,
        "{target:#}"
    );
    assert!(target["detail"].as_str().unwrap().contains("got no reply"), "{target:#}");
}

/// Waits until a client of that name has run a query.
fn wait_for_backend(cluster: &probe::demo::cluster::Cluster) {
    let patience = probes::stopwatch::Stopwatch::start();
    let query = "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'probe' \
                 AND state = 'idle' AND query LIKE '%clock_timestamp%') THEN RAISE 'not yet'; END IF; END $$";
    while !crate::house::try_sql(cluster, query) {
        assert!(patience.elapsed() < Duration::from_secs(10), "no query was seen");
    }
}

#[test]
fn a_peer_that_stops_answering_fails_because_of_loss() {
    let secret = Secret::new();
    let agent = Agent::start(&secret);
    let relay = Relay::udp(agent.reflector, Duration::from_millis(1), 0);
    let address = relay.address.to_string();
    let watched = std::thread::spawn(move || check(&secret, &["--peer", &address, "--time-limit", "6s"]));
    relay.wait_for(40);
    relay.stop_answering();
    let run = watched.join().unwrap();
    let target = run.target();
    assert_eq!((run.code, target["reason"].as_str()), (Some(1), Some("loss")), "{target:#}");
    assert!(target["outcomes"]["ok"].as_u64().unwrap() > 0, "{target:#}");
    assert!(target["detail"].as_str().unwrap().contains("no reply within 2.0 s"), "{target:#}");
}

#[test]
fn a_database_short_of_connections_is_left_alone() {
    // Seven connections for ordinary roles, six of them taken: less than a fifth is free.
    let cluster = own_postgres(&["max_connections=10", "superuser_reserved_connections=3"]);
    crate::house::sql(&cluster, "CREATE ROLE ordinary LOGIN PASSWORD 'ordinary'");
    let url = cluster.url();
    let run =
        crate::house::with_connections(&cluster, 6, || check(&Secret::new(), &quick(&["--postgres", &url])));
    let target = run.target();
    assert_eq!((run.code, target["reason"].as_str()), (Some(3), Some("connections_low")), "{target:#}");
    assert!(target["hint"].as_str().unwrap().contains("max_connections"), "{target:#}");
    let run = check(&Secret::new(), &quick(&["--postgres", &url]));
    assert_eq!(run.code, Some(0), "and measured again when there is room: {}", run.stdout);
}

#[test]
fn the_limits_are_set_on_the_server_and_the_application_has_a_name() {
    let cluster = own_postgres(&["log_statement=all", "log_line_prefix=%a ", "log_connections=on"]);
    crate::house::sql(
        &cluster,
        "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$ \
        SELECT pg_catalog.clock_timestamp() FROM (SELECT 1/(CASE WHEN \
        (current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'), \
        current_setting('application_name')) = ('2s', '2s', '2s', 'probe') THEN 1 ELSE 0 END)) AS must_hold $$;",
    );
    // The query fails by a division by zero unless all four hold; the user's own options travel beside them.
    let url = format!("{}&options=-c%20search_path%3Dpublic%2Cpg_catalog", cluster.url());
    let run = check(&Secret::new(), &quick(&["--postgres", &url]));
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    let connections = cluster.log().matches("connection authorized").count();
    // One of the set-up above and one of the check.
    assert_eq!(connections, 2, "one connection serves a whole check: {}", cluster.log());
}

#[test]
fn a_check_that_can_reach_nothing_ends_long_before_its_time() {
    let closed = format!("127.0.0.1:{}", closed_port());
    let url = format!("http://{closed}/healthz");
    let run =
        check(&Secret::new(), &["--tcp", &closed, "--http", &url, "--peer", &closed, "--time-limit", "60s"]);
    assert_eq!(run.code, Some(1));
    assert!(run.json()["elapsed_us"].as_f64().unwrap() < 30e6, "{}", run.stdout);
}
