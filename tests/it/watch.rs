//! `probe agent` over time: real PostgreSQL, real peers behind relays; what it says when a link changes, and what not.
//!
//! Ten questions a second instead of one, so that a window of 300 outcomes takes half a minute instead of five;
//! `PROBE_TEST_INTERVAL=1s` tells the story at the speed of the defaults.

use std::process::Command;
use std::time::Duration;

use probes::stopwatch::Stopwatch;
use serde_json::Value;

use crate::house::{Agent, Secret, own_postgres, postgres, probe, quiet, signal};
use crate::relay::Relay;

fn interval() -> Duration {
    let text = std::env::var("PROBE_TEST_INTERVAL").unwrap_or_else(|_| "100ms".to_owned());
    humantime::parse_duration(&text).unwrap()
}

/// So many outcomes take so long.
fn outcomes(count: u32) -> Duration {
    interval() * count
}

fn watch(secret: &Secret, arguments: &[&str]) -> Agent {
    let mut all = vec!["agent", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0", "--role", "coderd"];
    all.extend(["--name", "watcher", "--log-format", "json"]);
    all.extend(arguments);
    Agent::with(with_rhythm(probe(&all).env("PROBE_MESH_SECRET_FILE", &secret.path)))
}

fn with_rhythm(command: &mut Command) -> &mut Command {
    let interval = humantime::format_duration(interval()).to_string();
    command.env("PROBE_INTERVALS__PEER", &interval).env("PROBE_INTERVALS__POSTGRES", &interval)
}

#[expect(clippy::disallowed_methods, reason = "the story takes real time")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// The link of this target.
fn link(agent: &Agent, target: &str) -> Value {
    let report = agent.report();
    let links = report["links"].as_array().unwrap();
    links.iter().find(|link| link["name"] == target).unwrap_or_else(|| panic!("{target}: {report:#}")).clone()
}

/// Waits until this link is in this state; how long that took.
fn wait_for(agent: &Agent, target: &str, state: &str, patience: Duration) -> Duration {
    let watch = Stopwatch::start();
    loop {
        let seen = link(agent, target);
        if seen["state"] == state {
            return watch.elapsed();
        }
        assert!(watch.elapsed() < patience, "{target} did not become {state} within {patience:?}: {seen:#}");
        pause(Duration::from_millis(100));
    }
}

/// The state changes since this was asked last: target, state, reason.
fn changes(agent: &Agent) -> Vec<(String, String, String)> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or("-").to_owned();
    agent
        .said()
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .filter(|line| line["message"] == "state changed")
        .map(|line| (text(&line, "target"), text(&line, "to"), text(&line, "reason")))
        .collect()
}

#[test]
fn thirty_milliseconds_more_on_one_link_are_a_breach_of_exactly_that_link_and_no_longer_than_they_last() {
    let _quiet = quiet();
    let secret = Secret::new();
    let (near, moving) = (Agent::start(&secret), Agent::start(&secret));
    let near_relay = Relay::udp(near.reflector, Duration::from_millis(1), 0);
    let moving_relay = Relay::udp(moving.reflector, Duration::from_millis(1), 0);
    let (near_peer, moving_peer) = (near_relay.address.to_string(), moving_relay.address.to_string());
    let url = postgres().url();
    let watcher = watch(
        &secret,
        &[
            "--peer",
            &format!("{near_peer}=coderd"),
            "--peer",
            &format!("{moving_peer}=coderd"),
            "--postgres",
            &url,
        ],
    );
    let database = format!("127.0.0.1:{}/postgres", postgres().port());
    // A shared machine has its own stalls, which are not what this is about.
    for target in [&near_peer, &moving_peer, &database] {
        wait_for(&watcher, target, "ok", Duration::from_secs(20) + outcomes(200));
    }
    // Fill the long window, so that the breach has to be found among good outcomes.
    pause(outcomes(240));
    changes(&watcher);

    moving_relay.set_round_trip(Duration::from_millis(30));
    let raised = wait_for(&watcher, &moving_peer, "breach", Duration::from_secs(2) + outcomes(28));
    let seen = link(&watcher, &moving_peer);
    assert_eq!(seen["findings"][0]["reason"], "placement", "{seen:#}");
    let said = changes(&watcher);
    assert!(said.contains(&(moving_peer.clone(), "breach".into(), "placement".into())), "{said:?}");
    for target in [&near_peer, &database] {
        assert_ne!(link(&watcher, target)["state"], "breach", "{target}");
    }

    moving_relay.set_round_trip(Duration::from_millis(1));
    let cleared = wait_for(&watcher, &moving_peer, "ok", outcomes(360));
    pause(outcomes(100));
    let said = changes(&watcher);
    let again = said.iter().filter(|(target, to, _)| *target == moving_peer && to == "breach").count();
    assert_eq!(again, 0, "no flapping: {said:?}");
    eprintln!("raised after {raised:?}, cleared after {cleared:?} at an interval of {:?}", interval());
}

#[test]
fn a_database_process_that_gets_no_cpu_is_never_called_far() {
    let _quiet = quiet();
    let cluster = own_postgres(&[]);
    let watcher = watch(&Secret::new(), &["--postgres", &cluster.url()]);
    let database = format!("127.0.0.1:{}/postgres", cluster.port());
    wait_for(&watcher, &database, "ok", Duration::from_secs(20) + outcomes(200));
    let backend = serving_process(&cluster);
    // It runs for 5 ms out of 60, as a process does that is squeezed by a CPU limit.
    let watch = Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(40) + outcomes(100) {
        signal(backend, "STOP");
        pause(Duration::from_millis(55));
        signal(backend, "CONT");
        pause(Duration::from_millis(5));
        if link(&watcher, &database)["state"] == "breach" {
            break;
        }
    }
    let seen = link(&watcher, &database);
    assert_eq!(seen["state"], "breach", "{seen:#}");
    let reason = seen["findings"][0]["reason"].as_str().unwrap();
    assert!(["server", "server_or_proxy"].contains(&reason), "{seen:#}");
    let said = changes(&watcher);
    assert!(said.iter().all(|(_, _, reason)| reason != "placement"), "{said:?}");
}

/// The pid of the process that serves the agent's connection.
fn serving_process(cluster: &probe::demo::cluster::Cluster) -> u32 {
    let query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'probe'";
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let (client, connection) =
            tokio_postgres::connect(&cluster.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let pid: i32 = client.query_one(query, &[]).await.unwrap().get(0);
        u32::try_from(pid).unwrap()
    })
}

#[test]
fn freezing_our_own_process_is_our_own_fault_and_nobodys_breach() {
    let _quiet = quiet();
    let secret = Secret::new();
    let peer = Agent::start(&secret);
    let (address, url) = (peer.reflector.to_string(), postgres().url());
    let watcher = watch(&secret, &["--peer", &format!("{address}=coderd"), "--postgres", &url]);
    let database = format!("127.0.0.1:{}/postgres", postgres().port());
    for target in [&address, &database] {
        wait_for(&watcher, target, "ok", Duration::from_secs(20) + outcomes(200));
    }
    changes(&watcher);
    watcher.signal("STOP");
    pause(outcomes(45) + Duration::from_secs(1));
    watcher.signal("CONT");
    // Asked at once, it may answer before it has seen what it missed.
    let (mut said, patience) = (changes(&watcher), Stopwatch::start());
    while said.iter().filter(|(_, to, _)| to == "stale").count() < 2
        && patience.elapsed() < Duration::from_secs(20)
    {
        pause(Duration::from_millis(20));
        said.extend(changes(&watcher));
    }
    for target in [&address, &database] {
        wait_for(&watcher, target, "ok", Duration::from_secs(20) + outcomes(200));
    }
    said.extend(changes(&watcher));
    for target in [&address, &database] {
        assert!(said.contains(&(target.clone(), "stale".into(), "self".into())), "{target}: {said:?}");
    }
    assert!(said.iter().all(|(_, to, _)| to != "breach" && to != "unreachable"), "{said:?}");
}

#[test]
fn a_peer_that_stops_has_left_and_one_that_vanishes_is_unreachable() {
    let _quiet = quiet();
    let secret = Secret::new();
    let (polite, rude) = (Agent::start(&secret), Agent::start(&secret));
    let (polite_peer, rude_peer) = (polite.reflector.to_string(), rude.reflector.to_string());
    let watcher = watch(&secret, &["--peer", &polite_peer, "--peer", &rude_peer]);
    for target in [&polite_peer, &rude_peer] {
        wait_for(&watcher, target, "ok", Duration::from_secs(20) + outcomes(200));
    }
    polite.signal("TERM");
    signal(rude.pid(), "KILL");
    wait_for(&watcher, &polite_peer, "left", Duration::from_secs(5));
    wait_for(&watcher, &rude_peer, "unreachable", Duration::from_secs(20));
    assert_eq!(link(&watcher, &polite_peer)["state"], "left", "and still has");
}

#[test]
fn a_reload_is_all_or_nothing_and_keeps_what_is_known() {
    let secret = Secret::new();
    let peer = Agent::start(&secret);
    let address = peer.reflector.to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probe.toml");
    let write = |targets: &str, more: &str| {
        let text = format!("{more}\n[targets]\npeer = [{targets}]\n[intervals]\npeer = \"100ms\"\n");
        std::fs::write(&file, text).unwrap();
    };
    write(&format!("\"{address}=coderd\""), "");
    let arguments = ["agent", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0", "--log-format", "json"];
    let watcher =
        Agent::with(probe(&arguments).env("PROBE_MESH_SECRET_FILE", &secret.path).env("PROBE_CONFIG", &file));
    let patience = Stopwatch::start();
    while link(&watcher, &address)["samples"].as_u64().unwrap() < 10 {
        assert!(patience.elapsed() < Duration::from_secs(20));
        pause(Duration::from_millis(100));
    }
    let said = |part: &str| {
        let patience = Stopwatch::start();
        let mut all = Vec::new();
        loop {
            all.extend(watcher.said());
            if let Some(line) = all.iter().find(|line| line.contains(part)) {
                return line.clone();
            }
            assert!(patience.elapsed() < Duration::from_secs(20), "{part} was not said: {all:#?}");
            pause(Duration::from_millis(50));
        }
    };
    write(&format!("\"{address}=coderd\", \"127.0.0.1:1=chief\""), "");
    watcher.signal("HUP");
    assert!(said("not taken over").contains("chief"));
    assert_eq!(watcher.report()["links"].as_array().unwrap().len(), 1, "nothing of it");

    write(&format!("\"{address}=coderd\""), "name = \"another\"");
    watcher.signal("HUP");
    assert!(said("not taken over").contains("restart"));

    write(&format!("\"127.0.0.1:1=coderd\", \"{address}=coderd@3ms\""), "");
    watcher.signal("HUP");
    said("in force");
    let report = watcher.report();
    assert_eq!(report["links"].as_array().unwrap().len(), 2, "{report:#}");
    let known = link(&watcher, &address);
    assert_eq!(known["budget_us"], 3000.0);
    assert!(known["samples"].as_u64().unwrap() >= 10, "{known:#}");

    write("", "");
    said("the file has changed");
    assert_eq!(watcher.report()["links"].as_array().unwrap().len(), 0, "and without a signal as well");
}

#[test]
fn the_report_says_who_measures_and_how_well_it_keeps_its_own_time() {
    let watcher = watch(&Secret::new(), &["--postgres", &postgres().url(), "--zone", "z1", "--region", "r1"]);
    let database = format!("127.0.0.1:{}/postgres", postgres().port());
    let patience = Stopwatch::start();
    while link(&watcher, &database)["samples"].as_u64().unwrap() < 10 {
        assert!(patience.elapsed() < Duration::from_secs(20));
        pause(Duration::from_millis(100));
    }
    let report = watcher.report();
    assert_eq!(report["agent"]["name"], "watcher");
    assert_eq!(
        (report["agent"]["zone"].as_str(), report["agent"]["region"].as_str()),
        (Some("z1"), Some("r1"))
    );
    assert!(report["own_timing"]["sent"].as_u64().unwrap() >= 10, "{report:#}");
    let seen = &report["links"][0];
    assert!(seen["bare_connect_us"].is_null() || seen["bare_connect_us"].as_f64().unwrap() > 0.0);
    assert_eq!(seen["coder_would_warn"], false, "{seen:#}");
    assert!(!report.to_string().contains(postgres().password()));
}
