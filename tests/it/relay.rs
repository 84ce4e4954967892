//! Distance in a process: relays that hold what passes for a set time, and lose some of it.
//!
//! Each direction has a thread that waits by the system's own timer and spins for the last stretch. A process on the way
//! also costs four wake-ups that a wire does not have; how much that is on this machine is measured with a plain echo
//! ([`own_cost`]) and taken off the time that is waited, so that the relay as a whole adds what it was asked for. A TCP
//! relay accepts at once: only replies on an open connection are delayed by it,
//! so it says nothing about connect times.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A running relay; its threads end with it.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    settings: Arc<Settings>,
}

struct Settings {
    one_way_ns: AtomicU64,
    /// Of a thousand datagrams on the way there.
    lost_there: AtomicU64,
    passed: AtomicU64,
    stopped: AtomicBool,
}

impl Relay {
    /// Waits until so many datagrams came from the client.
    pub(crate) fn wait_for(&self, datagrams: u64) {
        let patience = probes::stopwatch::Stopwatch::start();
        while self.settings.passed.load(Ordering::Relaxed) < datagrams {
            assert!(patience.elapsed() < Duration::from_secs(20), "{datagrams} datagrams did not come");
            wait_until(now() + Duration::from_millis(5));
        }
    }

    pub(crate) fn stop_answering(&self) {
        self.settings.lost_there.store(1000, Ordering::Relaxed);
    }

    /// Holds what comes from now on for another time; what is under way keeps its own.
    pub(crate) fn set_round_trip(&self, round_trip: Duration) {
        let one_way = u64::try_from(round_trip.as_nanos()).unwrap() / 2;
        self.settings.one_way_ns.store(one_way, Ordering::Relaxed);
    }

    fn settings(round_trip: Duration, lost_there: u64) -> Arc<Settings> {
        let waited =
            round_trip.saturating_sub(if round_trip.is_zero() { Duration::ZERO } else { own_cost() });
        Arc::new(Settings {
            one_way_ns: AtomicU64::new(u64::try_from(waited.as_nanos()).unwrap() / 2),
            lost_there: AtomicU64::new(lost_there),
            passed: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        })
    }

    /// A relay in front of a UDP server, for one client.
    pub(crate) fn udp(server: SocketAddr, round_trip: Duration, lost_there_per_mille: u64) -> Self {
        let settings = Self::settings(round_trip, lost_there_per_mille);
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        back.connect(server).unwrap();
        let address = front.local_addr().unwrap();
        let client = Arc::new(Mutex::new(None::<SocketAddr>));
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        }
        let there = DelayLine::start({
            let back = back.try_clone().unwrap();
            // A server that is gone is what some tests want.
            move |bytes: Vec<u8>| drop(back.send(&bytes))
        });
        let here = DelayLine::start({
            let (front, client) = (front.try_clone().unwrap(), Arc::clone(&client));
            move |bytes: Vec<u8>| {
                if let Some(client) = *client.lock().unwrap() {
                    drop(front.send_to(&bytes, client));
                }
            }
        });
        std::thread::spawn({
            let settings = Arc::clone(&settings);
            move || {
                let mut bytes = [0; 2048];
                while !settings.stopped.load(Ordering::Relaxed) {
                    let Ok((length, from)) = front.recv_from(&mut bytes) else { continue };
                    *client.lock().unwrap() = Some(from);
                    let count = settings.passed.fetch_add(1, Ordering::Relaxed) + 1;
                    let lost = settings.lost_there.load(Ordering::Relaxed);
                    // The handshake is let through, so that what is tested is a bad path and not a missing one.
                    if lost >= 1000 || (count > 20 && dice(count) < lost) {
                        continue;
                    }
                    there.push(settings.one_way(), bytes[..length].to_vec());
                }
            }
        });
        std::thread::spawn({
            let settings = Arc::clone(&settings);
            move || {
                let mut bytes = [0; 2048];
                while !settings.stopped.load(Ordering::Relaxed) {
                    let Ok(length) = back.recv(&mut bytes) else { continue };
                    here.push(settings.one_way(), bytes[..length].to_vec());
                }
            }
        });
        Self { address, settings }
    }

    /// A relay in front of a TCP server; both directions of each connection are held for half of the round trip.
    pub(crate) fn tcp(server: SocketAddr, round_trip: Duration) -> Self {
        let settings = Self::settings(round_trip, 0);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn({
            let settings = Arc::clone(&settings);
            move || {
                for client in listener.incoming().map_while(Result::ok) {
                    if settings.stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let Ok(server) = TcpStream::connect(server) else { continue };
                    for (from, to) in [(&client, &server), (&server, &client)] {
                        from.set_nodelay(true).unwrap();
                        pump(from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&settings));
                    }
                }
            }
        });
        Self { address, settings }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.settings.stopped.store(true, Ordering::Relaxed);
        // Wakes a TCP listener; a UDP relay looks every 50 ms.
        let _ = TcpStream::connect(self.address);
    }
}

impl Settings {
    fn one_way(&self) -> Duration {
        Duration::from_nanos(self.one_way_ns.load(Ordering::Relaxed))
    }
}

fn pump(mut from: TcpStream, to: TcpStream, settings: Arc<Settings>) {
    let mut writer = to.try_clone().unwrap();
    let line = DelayLine::start(move |bytes: Vec<u8>| {
        // An empty piece stands for the end of the stream. The other side may be gone already.
        if bytes.is_empty() {
            drop(to.shutdown(Shutdown::Both));
        } else {
            drop(writer.write_all(&bytes));
        }
    });
    std::thread::spawn(move || {
        let mut bytes = [0; 16 * 1024];
        loop {
            let length = from.read(&mut bytes).unwrap_or(0);
            line.push(settings.one_way(), bytes[..length].to_vec());
            if length == 0 {
                return;
            }
        }
    });
}

/// What a relay that does not wait adds to the median round trip of a plain UDP echo, on an idle machine as in a test.
fn own_cost() -> Duration {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = server.local_addr().unwrap();
    let server_thread = std::thread::spawn(move || {
        let mut bytes = [0; 64];
        // One byte says that it is over.
        while let Ok((length, from)) = server.recv_from(&mut bytes) {
            if length == 1 {
                return;
            }
            server.send_to(&bytes[..length], from).unwrap();
        }
    });
    let relay = Relay::udp(address, Duration::ZERO, 0);
    let client = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket
    };
    let (direct, through) = (client(), client());
    direct.connect(address).unwrap();
    through.connect(relay.address).unwrap();
    let echo = |socket: &UdpSocket| {
        wait_until(now() + Duration::from_millis(10));
        let watch = probes::stopwatch::Stopwatch::start();
        socket.send(&[0; 64]).unwrap();
        socket.recv(&mut [0; 64]).unwrap();
        watch.elapsed()
    };
    // Taken in turns, so that whatever else the machine does hits both alike.
    let (mut near, mut far): (Vec<_>, Vec<_>) = (0..41).map(|_| (echo(&direct), echo(&through))).unzip();
    direct.send(&[0]).unwrap();
    server_thread.join().unwrap();
    near.sort();
    far.sort();
    far[20].saturating_sub(near[20])
}

/// A number below 1000 that looks random and is the same in each run.
fn dice(count: u64) -> u64 {
    let mut x = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) % 1000
}

/// What waits, with the instant at which it goes on.
type Pieces = VecDeque<(Instant, Vec<u8>)>;

/// A queue whose thread hands each piece on when its time has come.
struct DelayLine {
    queue: Arc<(Mutex<Pieces>, Condvar)>,
    // The thread ends when this is dropped.
    _alive: mpsc::Sender<()>,
}

impl DelayLine {
    fn start(mut deliver: impl FnMut(Vec<u8>) + Send + 'static) -> Self {
        let queue = Arc::new((Mutex::new(Pieces::new()), Condvar::new()));
        let (alive, ended) = mpsc::channel::<()>();
        std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || {
                loop {
                    let piece = {
                        let (pieces, filled) = &*queue;
                        let mut pieces = pieces.lock().unwrap();
                        while pieces.is_empty() {
                            if matches!(ended.try_recv(), Err(mpsc::TryRecvError::Disconnected)) {
                                return;
                            }
                            pieces = filled.wait_timeout(pieces, Duration::from_millis(50)).unwrap().0;
                        }
                        pieces.pop_front().unwrap()
                    };
                    wait_until(piece.0);
                    deliver(piece.1);
                }
            }
        });
        Self { queue, _alive: alive }
    }

    fn push(&self, delay: Duration, bytes: Vec<u8>) {
        let (pieces, filled) = &*self.queue;
        pieces.lock().unwrap().push_back((now() + delay, bytes));
        filled.notify_one();
    }
}

/// The system's timer is late by up to a tenth of a millisecond, so the last stretch is spun.
#[expect(clippy::disallowed_methods, reason = "this is the wire of the tests: real time is its job")]
fn wait_until(instant: Instant) {
    const STRETCH: Duration = Duration::from_micros(400);
    loop {
        let left = instant.saturating_duration_since(now());
        if left.is_zero() {
            return;
        }
        match left.checked_sub(STRETCH) {
            Some(most) if !most.is_zero() => std::thread::sleep(most),
            _ => std::hint::spin_loop(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the wire of the tests: real time is its job")]
fn now() -> Instant {
    Instant::now()
}
