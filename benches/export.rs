//! What telling costs: to count one outcome in buckets, to collect all figures, to write Prometheus' page, and what ten scrapes a
//! second do to the echo.
//!
//! `cargo bench --bench export` takes a minute. The targets are 500 ns a sample, 5 ms for 64 targets and 60 ms for 1,000, and less
//! than 10 % of the echo's p99 where 64 targets are told; the bench fails at twice the times, where a target costs more than twice as
//! much among 1,000 as among 64, and at 20 % (or a tenth of a millisecond) more of the p99, for machines are shared.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use probe::export::collect::Settings;
use probe::export::prometheus::{Format, render};
use probe::mesh::meter::{Meter, Scale};
use probes::secret::MeshSecret;
use probes::stopwatch::Stopwatch;
use probes::target::Kind;

#[path = "shared/agent.rs"]
mod agent;
#[path = "../tests/it/scene.rs"]
mod scene;

use agent::{Agent, OFTEN, get, pause};

const ROUNDS: u32 = 21;

/// The median over rounds, in nanoseconds.
fn median_ns(mut work: impl FnMut()) -> f64 {
    let mut rounds: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let watch = Stopwatch::start();
            work();
            watch.elapsed().as_nanos() as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn main() {
    let scale = Scale { exponential: true, ..Scale::default() };
    let mut meter = Meter::new(&scale, Duration::ZERO);
    let record = median_ns(|| {
        (0..10_000_u64).for_each(|i| meter.record(Duration::from_nanos(300_000 + i * 7919 % 900_000)));
    }) / 10_000.0;

    let everything = Settings { targets_at_most: 10_000, pairs: true };
    let of = |count: usize| {
        let links = scene::links(&[(Kind::Peer, count)], 300);
        let metrics = scene::collect(&links, everything);
        let collect = median_ns(|| drop(scene::collect(&links, everything))) / 1e6;
        let page = median_ns(|| drop(render(&metrics, Format::Text))) / 1e6;
        let bytes = render(&metrics, Format::Text).len();
        (collect, page, bytes)
    };
    let (few, many) = (of(64), of(1000));
    let (calm, scraped) = (echo_p99_us(0), echo_p99_us(10));

    let table = format!(
        "| work | median | target |\n|---|---|---|\n\
         | count one outcome in both kinds of buckets | {record:.0} ns | 500 ns |\n\
         | `/metrics` of 64 targets: collect + write, {} kB | {:.2} + {:.2} ms | 5 ms |\n\
         | `/metrics` of 1,000 targets: collect + write, {} kB | {:.1} + {:.1} ms | 60 ms |\n\
         | the echo's p99 without and with 10 scrapes a second | {calm:.0}, {scraped:.0} µs | + 10 % |\n",
        few.2 / 1000,
        few.0,
        few.1,
        many.2 / 1000,
        many.0,
        many.1,
    );
    // A reader that went away is nobody's fault.
    let _ = std::io::stdout().write_all(table.as_bytes());
    assert!(record < 1000.0 && few.0 + few.1 < 10.0 && many.0 + many.1 < 120.0, "twice over the target");
    let each = |(collect, page, _): (f64, f64, usize), count: f64| (collect + page) / count;
    assert!(each(many, 1000.0) < 2.0 * each(few, 64.0), "many targets cost more than their share");
    assert!(scraped < calm * 1.2 || scraped - calm < 100.0, "scrapes disturb what is measured");
}

/// The 99th percentile of an agent's echoes, while its figures are read so often a second.
fn echo_p99_us(scrapes_a_second: u64) -> f64 {
    let secret = MeshSecret::generate_hex().expect("the system has random numbers");
    let peers: Vec<_> = (0..4).map(|_| Agent::start(&secret, &[], OFTEN)).collect();
    // Sixty more, of a kind that costs little.
    let tcp: Vec<_> = (0..60).flat_map(|_| ["--tcp".to_owned(), open_port().to_string()]).collect();
    let targets: Vec<_> =
        peers.iter().flat_map(|peer| ["--peer".to_owned(), peer.reflector.to_string()]).chain(tcp).collect();
    let agent = Agent::start(&secret, &targets, OFTEN);
    let (web, stop) = (agent.web, Arc::new(AtomicBool::new(false)));
    let scraper = (scrapes_a_second > 0).then(|| {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                drop(get(web, "/metrics"));
                pause(Duration::from_millis(1000 / scrapes_a_second));
            }
        })
    });
    pause(Duration::from_secs(20));
    stop.store(true, Ordering::Relaxed);
    scraper.into_iter().for_each(|scraper| scraper.join().expect("it does not fail"));
    let report = get(web, "/api/v1/report");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let links = report["links"].as_array().expect("links");
    // The median of four links: one that a neighbour of this machine disturbed says nothing.
    let echoes = links.iter().filter(|link| link["kind"] == "peer");
    let mut p99: Vec<_> = echoes.filter_map(|link| link["rtt_us"]["p99"].as_f64()).collect();
    p99.sort_by(f64::total_cmp);
    p99[p99.len() / 2]
}

/// A port of its own that accepts and closes.
fn open_port() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || listener.incoming().for_each(drop));
    address
}
