//! The noise floor of the echo: what our QUIC echo adds over a plain UDP echo on the same machine in the same run.
//!
//! `cargo bench --bench echo` measures both over loopback at 1, 20 and 1000 echoes a second, side by side, so that
//! whatever else the machine does hits both alike. As in the product, each side is a thread with a current-thread
//! runtime of its own, and the sender's instants are fixed in advance. The plain echo is tokio's `UdpSocket` with the
//! same 64 bytes, no encryption and no authentication: the least that any prober on tokio costs.
//!
//! `PROBE_BENCH_SECONDS` (30) sets how long the 1/s and 20/s rates run; 1000/s runs 5 s.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use probes::quic::{Reflector, Sender};
use probes::sample::Outcome;
use probes::secret::MeshSecret;
use probes::stopwatch::{Stopwatch, monotonic_ns};
use probes::tls::{Identity, MeshTls};
use probes::{HostPort, Order, Probe, Step};
use tokio::net::UdpSocket;
use tokio::time::Instant;

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
const LIMIT: f64 = 2.5;

fn main() {
    let seconds =
        std::env::var("PROBE_BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(30_u32);
    let tls = MeshTls::new(&Identity::Secret(
        MeshSecret::generate_hex()
            .and_then(|hex| MeshSecret::parse(&hex))
            .expect("the system gives random bytes")
            .into(),
    ))
    .expect("a mesh secret gives an identity");
    let quic = reflector(tls.clone());
    let plain = plain_reflector();
    println!("round trip over loopback, µs; both echoes in the same run");
    println!("| echoes/s | n | plain UDP p50 | p99 | QUIC p50 | p99 | ratio of p50 |");
    println!("|---|---|---|---|---|---|---|");
    let mut worst = 0.0_f64;
    for (rate, seconds) in [(1_u32, seconds), (20, seconds), (1000, seconds.min(5))] {
        let (interval, count) = (Duration::from_secs(1) / rate, rate * seconds);
        let tls = tls.clone();
        let ours = std::thread::spawn(move || on_own_runtime(quic_echoes(tls, quic, interval, count)));
        let theirs = std::thread::spawn(move || on_own_runtime(plain_echoes(plain, interval, count)));
        let (ours, theirs) = (ours.join().expect("the sender ends"), theirs.join().expect("the sender ends"));
        let ratio = quantile(&ours, 0.5) / quantile(&theirs, 0.5);
        worst = worst.max(ratio);
        println!(
            "| {rate} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {ratio:.2} |",
            ours.len(),
            quantile(&theirs, 0.5),
            quantile(&theirs, 0.99),
            quantile(&ours, 0.5),
            quantile(&ours, 0.99),
        );
    }
    println!("\nworst ratio {worst:.2}, limit {LIMIT}");
    if worst > LIMIT {
        std::process::exit(1);
    }
}

fn on_own_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built")
        .block_on(work)
}

/// Starts our reflector on a thread of its own; it lives as long as the process.
fn reflector(tls: MeshTls) -> SocketAddr {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        on_own_runtime(async move {
            let reflector = Reflector::listen(LOOPBACK.into(), &tls).expect("loopback has a free port");
            tell.send(reflector.local_addr()).expect("main waits");
            std::future::pending::<()>().await;
        });
    });
    told.recv().expect("the reflector starts")
}

fn plain_reflector() -> SocketAddr {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        on_own_runtime(async move {
            let socket = UdpSocket::bind(LOOPBACK).await.expect("loopback has a free port");
            tell.send(socket.local_addr().expect("it is bound")).expect("main waits");
            let mut bytes = [0; 2048];
            loop {
                let (length, from) = socket.recv_from(&mut bytes).await.expect("loopback receives");
                socket.send_to(&bytes[..length], from).await.expect("loopback sends");
            }
        });
    });
    told.recv().expect("the plain reflector starts")
}

async fn quic_echoes(tls: MeshTls, peer: SocketAddr, interval: Duration, count: u32) -> Vec<f64> {
    let sender = Sender::new(&tls).expect("a UDP socket can be had");
    let probe = sender.peer(HostPort { host: peer.ip().to_string(), port: peer.port() });
    let order = |step| Order { step, deadline: Duration::from_secs(2) };
    let opened = probe.sample(order(Step::Open)).await;
    assert!(matches!(opened.outcome, Outcome::Ok(_)), "{opened:?}");
    let mut ticks = ticks(interval);
    let mut micros = Vec::new();
    for _ in 0..count {
        ticks.tick().await;
        if let Outcome::Ok(timing) = probe.sample(order(Step::Measure)).await.outcome {
            micros.push(timing.rtt.as_secs_f64() * 1e6);
        }
    }
    micros
}

async fn plain_echoes(peer: SocketAddr, interval: Duration, count: u32) -> Vec<f64> {
    let socket = UdpSocket::bind(LOOPBACK).await.expect("loopback has a free port");
    socket.connect(peer).await.expect("the plain reflector is there");
    let mut ticks = ticks(interval);
    let mut micros = Vec::new();
    let mut bytes = [0; 64];
    for _ in 0..count {
        ticks.tick().await;
        let watch = Stopwatch::start();
        bytes[..8].copy_from_slice(&monotonic_ns().to_be_bytes());
        socket.send(&bytes).await.expect("loopback sends");
        socket.recv(&mut bytes).await.expect("loopback receives");
        micros.push(watch.elapsed().as_secs_f64() * 1e6);
    }
    micros
}

/// Half a slot after now, so that the two senders of a rate do not wake in the very same instant for ever.
fn ticks(interval: Duration) -> tokio::time::Interval {
    #[expect(clippy::disallowed_methods, reason = "the bench keeps its own schedule")]
    let start = Instant::now();
    let mut ticks = tokio::time::interval_at(start + interval, interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    ticks
}

fn quantile(micros: &[f64], quantile: f64) -> f64 {
    let mut sorted = micros.to_vec();
    sorted.sort_by(f64::total_cmp);
    let below = |index: &usize| (*index as f64) < sorted.len() as f64 * quantile - 1.0;
    let index = (0..sorted.len()).take_while(below).count();
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
