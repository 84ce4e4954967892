//! `probe ping`: what it prints of a near path, a far one and one that is not there.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::house::{Agent, Run, Secret, postgres, probe, quiet, signal};
use crate::relay::Relay;

fn lines(run: &Run) -> Vec<Value> {
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

#[test]
fn a_peer_twelve_milliseconds_away_is_over_the_budget_in_every_line_and_in_the_sum() {
    let _quiet = quiet();
    let secret = Secret::new();
    let agent = Agent::start(&secret);
    let relay = Relay::udp(agent.reflector, Duration::from_millis(12), 0);
    let peer = format!("{}=coderd", relay.address);
    let mut command = probe(&["ping", &peer, "-c", "10", "-i", "100ms", "-o", "json-lines"]);
    let run = Run::of(command.env("PROBE_MESH_SECRET_FILE", &secret.path));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let lines = lines(&run);
    assert_eq!(lines[0]["event"], "opened");
    let slots: Vec<_> = lines.iter().filter(|line| line["event"] == "slot").collect();
    assert_eq!(slots.len(), 10);
    let far = |slot: &&&Value| slot["rtt_us"].as_f64().is_some_and(|rtt| (11_500.0..20_000.0).contains(&rtt));
    assert!(slots.iter().filter(far).count() >= 7, "{slots:#?}");
    assert!(slots.iter().filter(far).all(|slot| slot["over_budget"] == true));
    let sum = lines.last().unwrap();
    assert_eq!(
        (&sum["event"], &sum["sent"], &sum["budget_us"]),
        (&"sum".into(), &10.into(), &10_000.0.into())
    );
    assert_eq!(sum["exceeded"], sum["judged"], "{sum:#}");
}

#[test]
fn a_database_shows_the_networks_share_and_its_own_in_words() {
    let run = Run::of(&mut probe(&["ping", &postgres().url(), "--count", "5", "--interval", "50ms"]));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.starts_with("connected: "), "{}", run.stdout);
    let slots = run.stdout.lines().filter(|line| line.contains("network ") && line.contains(", server "));
    assert!(slots.count() >= 3, "{}", run.stdout);
    assert!(
        run.stdout.contains(" 5 replies") && run.stdout.contains("min/p50/p95/p99/max"),
        "{}",
        run.stdout
    );
    assert!(!run.stdout.contains("\x1b["), "no colours where nobody sees them");
}

#[test]
fn a_port_that_refuses_ends_with_1_and_no_target_or_a_wrong_one_with_2() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = Run::of(&mut probe(&["ping", &format!("tcp://{closed}"), "-c", "2", "-i", "500ms"]));
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    assert!(run.stdout.contains("refused: ") && run.stdout.contains("2 sent, 0 replies"), "{}", run.stdout);
    let none = Run::of(&mut probe(&["ping"]));
    assert_eq!((none.code, none.stdout.as_str()), (Some(2), ""));
    assert!(none.stderr.contains("TARGET: no target"), "{}", none.stderr);
    assert_eq!(Run::of(&mut probe(&["ping", "coderd-2"])).code, Some(2), "a peer needs an identity");
}

#[test]
fn ctrl_c_sums_up() {
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut child = probe(&["ping", &format!("tcp://{}", open.local_addr().unwrap()), "-i", "500ms"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let first = lines.by_ref().find(|line| line.starts_with("   1  "));
    assert!(first.is_some(), "a line as soon as there is one");
    signal(child.id(), "INT");
    let rest: Vec<_> = lines.collect();
    assert!(rest.iter().any(|line| line.starts_with("--- ") && line.contains(" replies")), "{rest:?}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
