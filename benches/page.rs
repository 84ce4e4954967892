//! What looking costs: a hundred streams on one agent, twenty open pages beside the echo, the page's bytes, and the memory of a whole
//! history.
//!
//! `cargo bench --bench page` takes two minutes. The targets are 5 % of a core for a hundred streams, less than 10 % of the echo's p99
//! for twenty pages, 150 KB for the page and 40 MB for an agent among twelve with two full days; the bench fails at twice the share,
//! at 20 % (or a tenth of a millisecond) more of the p99, and at the bytes.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use probe::export::page::FILES;
use probe::mesh::history::History;
use probes::secret::MeshSecret;
use probes::stopwatch::Stopwatch;

#[path = "shared/agent.rs"]
mod agent;

use agent::{Agent, OFTEN, get, pause};

const PEERS: usize = 4;
const NAME: &str = "watched";
const SETTLE: Duration = Duration::from_secs(5);
const MEASURE: Duration = Duration::from_secs(20);
/// Of an agent in a mesh of twelve: peers, their relays, health and NATS ports, and the database.
const LINKS: usize = 11 * 4 + 1;

fn main() {
    let bytes: usize = FILES.iter().map(|file| file.text.len()).sum();
    let history = full_history_bytes();

    let secret = MeshSecret::generate_hex().expect("the system has random numbers");
    let peers: Vec<_> = (0..PEERS).map(|_| Agent::start(&secret, &[], &[])).collect();
    let targets: Vec<_> =
        peers.iter().flat_map(|peer| ["--peer".to_owned(), peer.reflector.to_string()]).collect();
    let named: Vec<_> = ["--name".to_owned(), NAME.to_owned()].into_iter().chain(targets).collect();
    let usual = || Agent::start(&secret, &named, &[]);
    let (idle, _, rss_kib) = share_of_a_core(&usual(), 0);
    let (watched, events, _) = share_of_a_core(&usual(), 100);
    let often = || Agent::start(&secret, &named, OFTEN);
    let (calm, looked_at) = (echo_p99_us(&often(), 0), echo_p99_us(&often(), 20));

    let rss = (rss_kib as f64 / 1024.0, history as f64 / 1024.0 / 1024.0);
    let table = format!(
        "| what | measured | target |\n|---|---|---|\n\
         | the page, all files without compression | {:.0} KB | 150 KB |\n\
         | a hundred streams ({events} messages in {} s) | {:.2} % of a core, {:.2} % without | 5 % |\n\
         | the echo's p99 without and with 20 pages | {calm:.0}, {looked_at:.0} µs | + 10 % |\n\
         | an agent, and two full days of {LINKS} links | {:.1} + {:.1} MB | 40 MB |\n",
        bytes as f64 / 1000.0,
        MEASURE.as_secs(),
        watched * 100.0,
        idle * 100.0,
        rss.0,
        rss.1,
    );
    // A reader that went away is nobody's fault.
    let _ = std::io::stdout().write_all(table.as_bytes());
    assert!(events > 100, "the streams were silent");
    assert!(bytes <= 150_000 && rss.0 + rss.1 <= 40.0, "over the target");
    assert!(watched - idle < 0.10, "twice over the target");
    assert!(looked_at < calm * 1.2 || looked_at - calm < 100.0, "pages disturb what is measured");
}

/// Of so many links, each with two days at one a second.
fn full_history_bytes() -> usize {
    let mut one = History::default();
    for second in 0..48 * 3600_u64 {
        let rtt = Duration::from_micros(300 + second * 7919 % 900);
        one.record(Some(rtt), Duration::from_secs(second));
    }
    LINKS * (one.heap_bytes() + size_of::<History>())
}

/// What the agent takes while so many streams are open, how many messages they got, and its resident memory in KiB.
fn share_of_a_core(agent: &Agent, streams: usize) -> (f64, u64, u64) {
    let listeners = Listeners::open(agent.web, streams);
    pause(SETTLE);
    let (before, heard, watch) = (agent.cpu(), listeners.heard(), Stopwatch::start());
    pause(MEASURE);
    let share = (agent.cpu() - before).as_secs_f64() / watch.elapsed().as_secs_f64();
    (share, listeners.heard() - heard, agent.kib("VmRSS:"))
}

/// The 99th percentile of an agent's echoes while so many pages are open, each of which looks at a path every ten seconds.
fn echo_p99_us(agent: &Agent, pages: usize) -> f64 {
    let _listeners = Listeners::open(agent.web, pages);
    pause(SETTLE);
    let target = links(agent)[0].0.clone();
    for _ in 0..2 {
        for _ in 0..pages {
            let query = format!("source={NAME}&target={target}&kind=peer");
            let path = get(agent.web, &format!("/api/v1/path?{query}"));
            assert!(path.contains("\"history\":{"), "the path is not known: {path}");
        }
        pause(MEASURE / 2);
    }
    // The median of four links: one that a neighbour of this machine disturbed says nothing.
    let mut p99: Vec<_> = links(agent).into_iter().map(|(_, p99)| p99).collect();
    p99.sort_by(f64::total_cmp);
    p99[p99.len() / 2]
}

fn links(agent: &Agent) -> Vec<(String, f64)> {
    let report: serde_json::Value =
        serde_json::from_str(&get(agent.web, "/api/v1/report")).expect("a report is JSON");
    let links = report["links"].as_array().expect("links");
    let one =
        |link: &serde_json::Value| Some((link["name"].as_str()?.to_owned(), link["rtt_us"]["p99"].as_f64()?));
    links.iter().filter_map(one).collect()
}

/// Clients of the stream that read all that comes.
struct Listeners {
    stop: Arc<AtomicBool>,
    heard: Arc<AtomicU64>,
}

impl Listeners {
    fn open(web: SocketAddr, count: usize) -> Self {
        let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        for _ in 0..count {
            let (stop, heard) = (Arc::clone(&stop), Arc::clone(&heard));
            let mut stream = TcpStream::connect(web).expect("it listens");
            write!(stream, "GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
            std::thread::spawn(move || {
                let lines = BufReader::new(stream).lines().map_while(Result::ok);
                for line in lines.take_while(|_| !stop.load(Ordering::Relaxed)) {
                    heard.fetch_add(u64::from(line.starts_with("event:")), Ordering::Relaxed);
                }
            });
        }
        Self { stop, heard }
    }

    fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
