//! What distance really does: to round trips, connects, the kernel's view, and the verdicts on them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use probe::demo::cluster::Cluster;
use probes::stopwatch::Stopwatch;
use probes::tcp_info;
use serde_json::Value;

use crate::house::{Agent, Run, Secret, own_postgres, probe, signal};
use crate::metadata_server::{self, MetadataServer};
use crate::wire::{End, Wire};

/// The tests take turns: two cores are few, and each wire spins.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A PostgreSQL at the far end, and the way to it from the near one.
fn far_postgres(wire: &Wire) -> (Cluster, String) {
    postgres_at(&wire.far)
}

/// A PostgreSQL at this end, and the way to it from both.
pub(crate) fn postgres_at(end: &End) -> (Cluster, String) {
    let cluster = end.visit(|| own_postgres(&["listen_addresses=*"]));
    let hba = cluster.directory().join("data/pg_hba.conf");
    let mut hba = std::fs::OpenOptions::new().append(true).open(hba).unwrap();
    hba.write_all(b"host all all 10.83.0.0/16 scram-sha-256\n").unwrap();
    signal(cluster.pid(), "HUP");
    let url = cluster.url().replace("127.0.0.1", &end.address);
    (cluster, url)
}

fn check(wire: &Wire, arguments: &[&str]) -> Run {
    let mut all = vec!["check", "-o", "json"];
    all.extend(arguments);
    Run::of(&mut wire.near.command(&probe(&all)))
}

fn near(figure: &Value, wire_ms: f64, slack_ms: f64) {
    let ms = figure.as_f64().unwrap_or_else(|| panic!("no figure: {figure}")) / 1000.0;
    assert!((wire_ms - 0.1..wire_ms + slack_ms).contains(&ms), "{ms} ms on a wire of {wire_ms} ms");
}

#[test]
fn four_milliseconds_are_four_for_an_echo_a_query_and_a_connect() {
    let _turn = turn();
    let wire = Wire::new(ms(4));
    let secret = Secret::new();
    let any = format!("{}:0", wire.far.address);
    let mut command = probe(&["agent", "--listen", &any, "--web", "127.0.0.1:0"]);
    let agent = Agent::with(&mut wire.far.command(command.env("PROBE_MESH_SECRET_FILE", &secret.path)));
    let (_cluster, url) = far_postgres(&wire);
    let peer = agent.reflector.to_string();
    let mut command = probe(&["check", "-o", "json", "--peer", &peer, "--postgres", &url]);
    let run = Run::of(&mut wire.near.command(command.env("PROBE_MESH_SECRET_FILE", &secret.path)));
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    let targets = run.json()["targets"].clone();
    near(&targets[0]["rtt_us"]["p50"], 4.0, 0.6);
    near(&targets[1]["network_us"]["p50"], 4.0, 0.8);
    near(&targets[1]["connect_us"]["tcp"], 4.0, 0.6);
}

#[test]
fn a_database_twenty_milliseconds_away_fails_because_of_where_it_is() {
    let _turn = turn();
    let wire = Wire::new(ms(20));
    let (_cluster, url) = far_postgres(&wire);
    let run = check(&wire, &["--postgres", &url]);
    let target = run.target();
    assert_eq!((run.code, target["reason"].as_str()), (Some(1), Some("placement")), "{target:#}");
    near(&target["bare_connect_us"], 20.0, 0.8);
    assert!(run.json()["elapsed_us"].as_f64().unwrap() < 5e6, "{}", run.stdout);
}

#[test]
fn what_a_long_way_to_the_database_costs_coderd_is_the_networks() {
    let _turn = turn();
    let wire = Wire::new(ms(25));
    let (_cluster, url) = far_postgres(&wire);
    let mut page = String::new();
    for (metric, edges) in [
        (
            "coderd_db_query_latencies_seconds_bucket{query=\"Ping\",",
            [("0.025", 0), ("0.05", 60), ("+Inf", 60)],
        ),
        ("coderd_api_request_latencies_seconds_bucket{", [("0.1", 0), ("0.5", 300), ("+Inf", 300)]),
    ] {
        for (edge, count) in edges {
            page += &format!("{metric}le=\"{edge}\"}} {count}\n");
        }
    }
    let coderd = wire.near.visit(|| MetadataServer::start(move |_| metadata_server::ok(&page)));
    let metrics = format!("http://{}/", coderd.address);
    let run = check(&wire, &["--postgres", &url, "--coderd-metrics", &metrics]);
    let told = run.json()["attribution"][0].clone();
    assert_eq!((run.code, told["verdict"].as_str()), (Some(1), Some("network")), "{told:#}");
    let sentence = told["sentence"].as_str().unwrap();
    assert!(sentence.contains("placement") && sentence.contains("took 25 to 50 ms (p95 of 60"), "{sentence}");
}

#[test]
fn a_database_that_moves_away_under_the_agent_is_far_and_not_busy() {
    let _turn = turn();
    let wire = Wire::new(ms(1));
    let (cluster, url) = far_postgres(&wire);
    let secret = Secret::new();
    let arguments =
        ["--listen", "127.0.0.1:0", "--web", "127.0.0.1:0", "--role", "coderd", "--log-format", "json"];
    let mut command = probe(&[&["agent", "--postgres", &url][..], &arguments[..]].concat());
    command.env("PROBE_MESH_SECRET_FILE", &secret.path).env("PROBE_INTERVALS__POSTGRES", "100ms");
    let agent = Agent::with(&mut wire.near.command(&command));
    let said = |state: &str, patience: Duration| {
        let watch = Stopwatch::start();
        loop {
            let lines = agent.said();
            for line in &lines {
                let line: Value = serde_json::from_str(line).unwrap();
                if line["message"] == "state changed" && line["to"] == state {
                    return line;
                }
            }
            assert!(watch.elapsed() < patience, "it did not become {state}");
            pause(ms(50));
        }
    };
    said("ok", Duration::from_secs(40));
    wire.set_round_trip(ms(31));
    let breach = said("breach", Duration::from_secs(20));
    assert_eq!(breach["reason"], "placement", "{breach:#}");
    drop(cluster);
}

#[test]
fn the_kernel_knows_the_wire_at_the_connect_and_the_servers_thinking_later() {
    let _turn = turn();
    let wire = Wire::new(ms(4));
    let far = wire.far.address.clone();
    let listener = wire.far.visit(|| TcpListener::bind((far.as_str(), 0)).unwrap());
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            stream.set_nodelay(true).unwrap();
            let mut think = [0];
            while stream.read_exact(&mut think).is_ok() {
                pause(ms(u64::from(think[0])));
                stream.write_all(&[0]).unwrap();
            }
        }
    });
    let in_ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    // Two shared cores delay a packet now and then, so the fastest of some connects is looked at.
    let connect = || {
        let stream = wire.near.visit(|| TcpStream::connect(address).unwrap());
        let min = in_ms(tcp_info::of(&stream).unwrap().min_rtt.unwrap());
        (stream, min)
    };
    let min = (0..9).map(|_| connect().1).fold(f64::INFINITY, f64::min);
    assert!((3.9..4.8).contains(&min), "{min} ms at the connect");
    let mut stream = connect().0;
    stream.set_nodelay(true).unwrap();
    let mut ask = |think: u8| {
        for _ in 0..60 {
            stream.write_all(&[think]).unwrap();
            stream.read_exact(&mut [0]).unwrap();
        }
        tcp_info::of(&stream).unwrap()
    };
    let thinking = ask(8);
    let smoothed = in_ms(thinking.smoothed);
    assert!((10.0..20.0).contains(&smoothed), "{smoothed} ms: the wire's 4 and the server's 8");
    wire.set_round_trip(ms(12));
    let longer = ask(0);
    let (min, smoothed) = (in_ms(longer.min_rtt.unwrap()), in_ms(longer.smoothed));
    assert!(
        min < 5.0 && smoothed > 11.0,
        "the minimum stays at {min} ms although a round trip is {smoothed} ms"
    );
    assert_eq!(longer.retransmits, 0);
}

#[test]
fn what_the_wire_loses_is_lost_for_an_echo_and_sent_again_for_a_query() {
    let _turn = turn();
    let wire = Wire::new(ms(2));
    let (_cluster, url) = far_postgres(&wire);
    wire.lose(150);
    let run = check(&wire, &["--postgres", &url, "--time-limit", "20s"]);
    let target = run.target();
    assert!(target["retransmits"].as_u64().unwrap() > 5, "{target:#}");
    assert_eq!(run.code, Some(1), "{target:#}");
    // How many of the slow ones are those of a segment of ours is a matter of luck; that it was so is said in any case.
    let reason = target["reason"].as_str().unwrap();
    assert!(["loss", "jitter"].contains(&reason), "{target:#}");
    assert!(target["findings"][0]["evidence"].as_str().unwrap().contains("TCP"), "{target:#}");
}

#[expect(clippy::disallowed_methods, reason = "the story takes real time")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
