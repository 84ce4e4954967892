//! Distance in a process: relays that hold whatever passes for as long as a real way would, and can be cut.
//!
//! A thread of its own receives, and another hands each piece on when its time has come: the timers of the runtime have
//! steps of a millisecond, which is as long as a whole way between two zones. It costs no privilege and no namespace; the
//! price is that the kernel of this machine accepts a TCP connection at once, however far its relay pretends to be, so a
//! bare connect says nothing here.

use std::collections::BinaryHeap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use probes::stopwatch::Stopwatch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

const LOCALHOST: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
/// More than any datagram that an agent sends.
const DATAGRAM: usize = 4096;
const PIECE: usize = 16 * 1024;
/// What a relay itself takes for a round trip on an idle machine, and so need not wait for.
const OWN_COST: Duration = Duration::from_micros(150);

/// What all relays share. Dropping it ends them.
#[derive(Debug)]
pub struct Wire {
    line: Arc<Line>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// A relay in front of one server.
#[derive(Debug, Clone)]
pub struct Relay {
    /// Where it is reached.
    pub address: SocketAddr,
    way: Arc<Way>,
}

#[derive(Debug)]
struct Way {
    server: Mutex<SocketAddr>,
    one_way_ns: AtomicU64,
    is_cut: AtomicBool,
}

impl Wire {
    /// Starts the two threads.
    pub fn start() -> io::Result<Self> {
        let line = Arc::new(Line::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let receiving = std::thread::Builder::new().name("demo-wire".to_owned()).spawn(move || {
            // A sender that is gone says the same.
            let _ = runtime.block_on(stopped);
        })?;
        let delaying = std::thread::Builder::new().name("demo-delay".to_owned()).spawn({
            let line = Arc::clone(&line);
            move || line.run()
        })?;
        Ok(Self { line, runtime: handle, stop: Some(stop), threads: vec![receiving, delaying] })
    }

    /// A relay in front of a UDP server, for one client.
    pub fn udp(&self, server: SocketAddr, round_trip: Duration) -> io::Result<Relay> {
        let _runtime = self.runtime.enter();
        let (front, back) = (udp_socket()?, udp_socket()?);
        let relay = Relay::new(front.local_addr()?, server, round_trip);
        let client = Arc::new(Mutex::new(None));
        let there = Datagrams {
            from: Arc::clone(&front),
            to: Arc::clone(&back),
            way: Arc::clone(&relay.way),
            line: Arc::clone(&self.line),
            client: Arc::clone(&client),
        };
        let here = Datagrams { from: back, to: front, ..there.clone() };
        self.runtime.spawn(there.pass(true));
        self.runtime.spawn(here.pass(false));
        Ok(relay)
    }

    /// A relay in front of a TCP server.
    pub fn tcp(&self, server: SocketAddr, round_trip: Duration) -> io::Result<Relay> {
        let _runtime = self.runtime.enter();
        let listener = std::net::TcpListener::bind(LOCALHOST)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let relay = Relay::new(listener.local_addr()?, server, round_trip);
        let (way, line) = (Arc::clone(&relay.way), Arc::clone(&self.line));
        self.runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (way, line) = (Arc::clone(&way), Arc::clone(&line));
                tokio::spawn(async move {
                    if let Err(error) = connect(client, &way, &line).await {
                        tracing::debug!(%error, "a connection of the demo's relay was not made");
                    }
                });
            }
        });
        Ok(relay)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.line.lock().has_ended = true;
        self.line.filled.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the demo's relays has panicked");
            }
        }
    }
}

impl Relay {
    fn new(address: SocketAddr, server: SocketAddr, round_trip: Duration) -> Self {
        let way =
            Way { server: Mutex::new(server), one_way_ns: AtomicU64::new(0), is_cut: AtomicBool::new(false) };
        let relay = Self { address, way: Arc::new(way) };
        relay.set_round_trip(round_trip);
        relay
    }

    /// Holds what comes from now on for another time; what is under way keeps its own.
    pub fn set_round_trip(&self, round_trip: Duration) {
        let one_way = round_trip.saturating_sub(OWN_COST) / 2;
        // 64 bits of nanoseconds last for 584 years.
        let one_way_ns = u64::try_from(one_way.as_nanos()).unwrap_or(u64::MAX);
        self.way.one_way_ns.store(one_way_ns, Ordering::Relaxed);
    }

    /// Swallows every datagram, both ways and those under way as well, or lets them pass again.
    pub fn cut(&self, is_cut: bool) {
        self.way.is_cut.store(is_cut, Ordering::Relaxed);
    }

    /// Whoever sends from now on is led to this server.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.way.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
    }
}

impl Way {
    fn one_way(&self) -> Duration {
        Duration::from_nanos(self.one_way_ns.load(Ordering::Relaxed))
    }

    fn server(&self) -> SocketAddr {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }
}

fn udp_socket() -> io::Result<Arc<UdpSocket>> {
    let socket = std::net::UdpSocket::bind(LOCALHOST)?;
    socket.set_nonblocking(true)?;
    Ok(Arc::new(UdpSocket::from_std(socket)?))
}

/// One direction of a UDP relay.
#[derive(Clone)]
struct Datagrams {
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    way: Arc<Way>,
    line: Arc<Line>,
    client: Arc<Mutex<Option<SocketAddr>>>,
}

impl Datagrams {
    async fn pass(self, from_client: bool) {
        let mut bytes = vec![0; DATAGRAM];
        loop {
            // A server that is gone is an error of one datagram, not the end of the relay.
            let Ok((length, from)) = self.from.recv_from(&mut bytes).await else { continue };
            let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
            let to = if from_client {
                *client = Some(from);
                self.way.server()
            } else {
                match *client {
                    Some(client) if from == self.way.server() => client,
                    _ => continue,
                }
            };
            drop(client);
            let (socket, way, piece) =
                (Arc::clone(&self.to), Arc::clone(&self.way), bytes[..length].to_vec());
            self.line.push(self.way.one_way(), move || {
                if !way.is_cut() {
                    // What does not fit into the socket is lost, as on any wire.
                    let _ = socket.try_send_to(&piece, to);
                }
            });
        }
    }
}

/// Joins a client with the server behind the relay; both directions are held for half of the round trip.
async fn connect(client: TcpStream, way: &Arc<Way>, line: &Arc<Line>) -> io::Result<()> {
    let server = TcpStream::connect(way.server()).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    for (from, to) in [(from_client, to_server), (from_server, to_client)] {
        let (pieces, waiting) = mpsc::unbounded_channel();
        tokio::spawn(write(to, waiting));
        tokio::spawn(read(from, pieces, Arc::clone(way), Arc::clone(line)));
    }
    Ok(())
}

/// An empty piece stands for the end of the stream.
async fn read(
    mut from: OwnedReadHalf,
    pieces: mpsc::UnboundedSender<Vec<u8>>,
    way: Arc<Way>,
    line: Arc<Line>,
) {
    let mut bytes = vec![0; PIECE];
    loop {
        let length = from.read(&mut bytes).await.unwrap_or(0);
        let (pieces, piece) = (pieces.clone(), bytes[..length].to_vec());
        // Where the writer is gone, so is the connection.
        line.push(way.one_way(), move || drop(pieces.send(piece)));
        if length == 0 {
            return;
        }
    }
}

async fn write(mut to: OwnedWriteHalf, mut pieces: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(piece) = pieces.recv().await {
        if piece.is_empty() || to.write_all(&piece).await.is_err() {
            break;
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}

/// What is under way, and the thread that delivers it.
#[derive(Debug)]
struct Line {
    clock: Stopwatch,
    pieces: Mutex<Pieces>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Pieces {
    waiting: BinaryHeap<Piece>,
    count: u64,
    has_ended: bool,
}

struct Piece {
    due: Duration,
    number: u64,
    deliver: Box<dyn FnOnce() + Send>,
}

impl Default for Line {
    fn default() -> Self {
        Self { clock: Stopwatch::start(), pieces: Mutex::default(), filled: Condvar::new() }
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, delay: Duration, deliver: impl FnOnce() + Send + 'static) {
        let due = self.clock.elapsed() + delay;
        let mut pieces = self.lock();
        let is_next = pieces.waiting.peek().is_none_or(|next| due < next.due);
        pieces.count += 1;
        let number = pieces.count;
        pieces.waiting.push(Piece { due, number, deliver: Box::new(deliver) });
        drop(pieces);
        if is_next {
            self.filled.notify_one();
        }
    }

    fn run(&self) {
        let mut pieces = self.lock();
        while !pieces.has_ended {
            let left = pieces.waiting.peek().map(|next| next.due.saturating_sub(self.clock.elapsed()));
            match left {
                None => pieces = self.filled.wait(pieces).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    let piece = pieces.waiting.pop();
                    drop(pieces);
                    piece.into_iter().for_each(|piece| (piece.deliver)());
                    pieces = self.lock();
                }
                Some(left) => {
                    let woken = self.filled.wait_timeout(pieces, left);
                    pieces = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Piece").field("due", &self.due).field("number", &self.number).finish_non_exhaustive()
    }
}

impl PartialEq for Piece {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Piece {}

impl PartialOrd for Piece {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Piece {
    /// The heap yields the greatest first, which is the one that is due first; of two, the one that came first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// An echo on a thread of its own, until it gets one byte.
    fn echo() -> (SocketAddr, std::net::UdpSocket) {
        let socket = std::net::UdpSocket::bind(LOCALHOST).unwrap();
        let (address, answering) = (socket.local_addr().unwrap(), socket.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok((length, from)) = answering.recv_from(&mut bytes) {
                if length == 1 {
                    return;
                }
                answering.send_to(&bytes[..length], from).unwrap();
            }
        });
        (address, socket)
    }

    fn client(relay: &Relay) -> std::net::UdpSocket {
        let socket = std::net::UdpSocket::bind(LOCALHOST).unwrap();
        socket.connect(relay.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    fn fastest(client: &std::net::UdpSocket) -> Duration {
        let once = |_| {
            let watch = Stopwatch::start();
            client.send(&[7; 64]).unwrap();
            client.recv(&mut [0; 64]).unwrap();
            watch.elapsed()
        };
        (0..20).map(once).min().unwrap()
    }

    #[test]
    fn a_way_is_as_long_as_was_asked_for_from_now_on_and_nothing_passes_while_it_is_cut() {
        let (wire, (server, stop)) = (Wire::start().unwrap(), echo());
        let relay = wire.udp(server, Duration::from_millis(1)).unwrap();
        let client = client(&relay);
        let ms = Duration::from_millis;
        let short = fastest(&client);
        assert!(short >= ms(1) - OWN_COST, "{short:?}");
        relay.set_round_trip(ms(20));
        let long = fastest(&client);
        assert!(long >= ms(20) - OWN_COST && long > short, "{long:?}");
        relay.set_round_trip(ms(1));
        assert!(fastest(&client) < long, "and back");
        relay.cut(true);
        client.send(&[7; 64]).unwrap();
        client.set_read_timeout(Some(ms(300))).unwrap();
        assert!(client.recv(&mut [0; 64]).is_err(), "cut");
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        relay.cut(false);
        fastest(&client);
        let (other, stop_other) = echo();
        stop.send_to(&[0], server).unwrap();
        relay.lead_to(other);
        fastest(&client);
        stop_other.send_to(&[0], other).unwrap();
    }

    #[test]
    fn a_stream_arrives_whole_and_in_order_and_its_end_with_it() {
        let wire = Wire::start().unwrap();
        let listener = std::net::TcpListener::bind(LOCALHOST).unwrap();
        let relay = wire.tcp(listener.local_addr().unwrap(), Duration::from_millis(5)).unwrap();
        let mut client = std::net::TcpStream::connect(relay.address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let sent: Vec<u8> = (0..200_000_u32).map(|i| (i % 251).to_le_bytes()[0]).collect();
        let writing = std::thread::spawn({
            let sent = sent.clone();
            move || client.write_all(&sent).unwrap()
        });
        let mut received = Vec::new();
        server.read_to_end(&mut received).unwrap();
        writing.join().unwrap();
        assert!(sent == received);
    }
}
