//! The sender: one UDP socket for all peers, one warm connection per peer, several echoes in flight on each.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint, TransportErrorCode};
use tokio::sync::oneshot;

use super::letter::{self, Post};
use super::outgoing::Outgoing;
use super::packet::{self, Received, Reply, Request, WAIT_UNKNOWN};
use super::socket::{Traffic, endpoint};
use crate::resolve::resolve;
use crate::sample::{Direction, Failure, Outcome, Phases, Reason, Reopened, Sample, Timing};
use crate::stopwatch::{Stopwatch, monotonic_ns};
use crate::target::HostPort;
use crate::tls::{MeshTls, TlsError};
use crate::warm::{Open, Warm};
use crate::{Order, Probe, Step};

/// When nothing has answered a handshake for this long, the port is asked whether anybody listens.
const KNOCK_AFTER: Duration = Duration::from_millis(300);

/// The socket that all peers are measured from.
#[derive(Debug, Clone)]
pub struct Sender {
    endpoint: Endpoint,
    traffic: Arc<Traffic>,
    outgoing: Outgoing,
    post: Option<Post>,
}

impl Sender {
    /// Binds a UDP socket of both families on a free port, on the runtime of the caller.
    pub fn new(tls: &MeshTls) -> Result<Self, SenderError> {
        let outgoing = Outgoing::new(tls)?;
        let (endpoint, traffic) = endpoint((Ipv6Addr::UNSPECIFIED, 0).into(), None)?;
        Ok(Self { endpoint, traffic, outgoing, post: None })
    }

    /// Is somebody else from the next connection on, in all its clones and probes; what stands stays until it breaks.
    pub fn renew(&self, tls: &MeshTls) -> Result<(), TlsError> {
        self.outgoing.renew(tls)
    }

    /// The same, which takes what those who were dialled tell; without it, they are not listened to.
    pub fn with_post(self, post: Post) -> Self {
        Self { post: Some(post), ..self }
    }

    /// Tells all peers that nothing more will come, and waits at most `patience` until they heard it.
    pub async fn close(&self, patience: Duration) {
        self.endpoint.close(super::CLOSE_LEAVING.into(), b"leaving");
        if tokio::time::timeout(patience, self.endpoint.wait_idle()).await.is_err() {
            tracing::debug!("some peers did not acknowledge the goodbye");
        }
    }

    /// A probe of this peer. Nothing is sent before it is asked for a sample.
    pub fn peer(&self, target: HostPort) -> PeerProbe {
        PeerProbe { warm: Arc::new(Warm::new(Dial { sender: self.clone(), target })) }
    }
}

/// Why there is no sender.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// The socket could not be had.
    #[error("cannot open a UDP socket to send from: {0}")]
    Socket(#[from] io::Error),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Measures one peer.
#[derive(Clone)]
pub struct PeerProbe {
    warm: Arc<Warm<Dial>>,
}

impl PeerProbe {
    /// Connections that were opened in the background since this was asked last.
    pub fn reopened(&self) -> Vec<Reopened> {
        self.warm.reopened()
    }

    /// Sends a letter on the connection that stands; whether there was one and it took it.
    pub async fn write(&self, text: &[u8]) -> bool {
        match self.warm.standing() {
            Some(session) => letter::write(&session.connection, text).await,
            None => false,
        }
    }
}

impl Probe for PeerProbe {
    async fn sample(&self, order: Order) -> Sample {
        match order.step {
            Step::Open => self.warm.open(order.deadline).await,
            Step::Measure | Step::Connect => {
                let session = match self.warm.current() {
                    Ok(session) => session,
                    Err(failure) => return failure.into(),
                };
                let sample = session.echo(order.deadline).await;
                if session.connection.close_reason().is_some()
                    && let Some(failure) = sample.outcome.failure()
                {
                    self.warm.broke(&session, failure.clone());
                }
                sample
            }
        }
    }
}

/// How a connection to one peer is opened.
struct Dial {
    sender: Sender,
    target: HostPort,
}

impl Open for Dial {
    type Connection = Session;

    async fn open(&self, deadline: Duration) -> Result<(Session, Phases), Failure> {
        let watch = Stopwatch::start();
        let attempt = async {
            let (addresses, resolve) = resolve(&self.target).await?;
            let mut failure = Failure::new(Reason::Unreachable, "there is no address to connect to");
            for (index, address) in addresses.iter().enumerate() {
                // What is left is shared by the addresses that are left.
                let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
                let patience = deadline.saturating_sub(watch.elapsed()) / left;
                match self.dial(*address, patience).await {
                    Ok((session, tls)) => {
                        return Ok((session, Phases { resolve, tls: Some(tls), ..Phases::default() }));
                    }
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        };
        tokio::time::timeout(deadline, attempt).await.unwrap_or_else(|_| Err(silence(deadline)))
    }

    fn opened(_: &Session, phases: Phases) -> Timing {
        let rtt = phases.tls.unwrap_or_default();
        Timing { rtt, phases: Some(phases), encrypted: Some(true), ..Timing::default() }
    }
}

impl Dial {
    /// Handshake and first echo: only the echo proves that the peer believes us too.
    async fn dial(&self, address: SocketAddr, patience: Duration) -> Result<(Session, Duration), Failure> {
        let Sender { endpoint, outgoing, .. } = &self.sender;
        let connecting = outgoing.connect(endpoint, address, &self.target.host).map_err(|error| {
            Failure::new(Reason::Local, format!("cannot start a QUIC handshake with {address}: {error}"))
        })?;
        let watch = Stopwatch::start();
        let connection = tokio::select! {
            connected = connecting => connected.map_err(|error| connection_failure(&error))?,
            () = refused(address) => {
                let detail = format!("nothing listens on UDP {address}: the port is closed");
                return Err(Failure::new(Reason::Refused, detail));
            }
            () = tokio::time::sleep(patience) => return Err(silence(patience)),
        };
        let handshake = watch.elapsed();
        let session = Session::new(connection, Arc::clone(&self.sender.traffic));
        match session.echo(patience.saturating_sub(handshake)).await.outcome {
            Outcome::Ok(_) => {
                letter::listen(&session.connection, self.sender.post.as_ref());
                Ok((session, handshake))
            }
            outcome => Err(outcome.failure().cloned().unwrap_or_else(|| silence(patience))),
        }
    }
}

/// Ends only when the system says that nobody listens there. QUIC's own socket does not hear of that, because it is
/// not connected to one address.
async fn refused(address: SocketAddr) {
    tokio::time::sleep(KNOCK_AFTER).await;
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let knock = async {
        let socket = tokio::net::UdpSocket::bind(local).await?;
        socket.connect(address).await?;
        socket.send(&[]).await?;
        socket.recv(&mut [0; 1]).await
    };
    match knock.await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        _ => std::future::pending().await,
    }
}

fn silence(patience: Duration) -> Failure {
    let detail = format!(
        "no QUIC answer within {:.1} s: no agent there, or UDP is filtered on the way",
        patience.as_secs_f64()
    );
    Failure::new(Reason::Unreachable, detail)
}

/// What the end of a QUIC connection means for people.
fn connection_failure(error: &ConnectionError) -> Failure {
    let crypto = |code: TransportErrorCode| {
        // RFC 9001 §4.8: 0x100 plus the TLS alert.
        u8::try_from(u64::from(code).wrapping_sub(0x100)).ok()
    };
    match error {
        ConnectionError::TransportError(ours) if ours.reason.contains("peer certificate") => Failure::new(
            Reason::Auth,
            format!("the peer's certificate is not of our mesh (another mesh secret or CA): {}", ours.reason),
        ),
        ConnectionError::TransportError(ours) => match crypto(ours.code) {
            Some(_) => Failure::new(Reason::Tls, format!("TLS handshake failed: {}", ours.reason)),
            None => Failure::new(Reason::Protocol, format!("QUIC: {ours}")),
        },
        ConnectionError::ConnectionClosed(theirs) => match crypto(theirs.error_code) {
            Some(alert) => Failure::new(
                Reason::Auth,
                format!(
                    "the peer does not accept us (another mesh secret or CA, or no certificate; TLS alert {alert})"
                ),
            ),
            None if theirs.error_code == TransportErrorCode::CONNECTION_REFUSED => {
                Failure::new(Reason::Refused, "the peer's reflector takes no more connections")
            }
            None => Failure::new(Reason::Closed, format!("the peer closed the connection: {theirs}")),
        },
        ConnectionError::ApplicationClosed(_) => {
            Failure::new(Reason::Left, "the peer said goodbye: its agent is stopping")
        }
        ConnectionError::VersionMismatch => {
            Failure::new(Reason::Protocol, "the peer speaks another version of QUIC")
        }
        ConnectionError::TimedOut => {
            Failure::new(Reason::Unreachable, "the connection got no packet from the peer for 10 s")
        }
        ConnectionError::Reset => {
            Failure::new(Reason::Closed, "the peer lost the connection: its agent was restarted")
        }
        ConnectionError::LocallyClosed => Failure::new(Reason::Closed, "we closed the connection"),
        ConnectionError::CidsExhausted => Failure::new(Reason::Local, "no connection ids left"),
    }
}

/// One open connection.
struct Session {
    connection: Connection,
    next_sequence: AtomicU32,
    flight: Arc<Flight>,
}

/// Echoes on their way, and what the reflector says that it has seen.
#[derive(Default)]
struct Flight {
    pending: Mutex<BTreeMap<u32, Pending>>,
    received: Mutex<Received>,
    /// Replies that came after their deadline, since they were last asked for.
    late: AtomicU32,
}

struct Pending {
    t1_ns: u64,
    landed: oneshot::Sender<(Reply, u64)>,
}

impl Session {
    fn new(connection: Connection, traffic: Arc<Traffic>) -> Self {
        let flight = Arc::new(Flight::default());
        tokio::spawn(land(connection.clone(), Arc::clone(&flight), traffic));
        Self { connection, next_sequence: AtomicU32::new(0), flight }
    }

    /// One echo. Dropping the future takes the echo out of the list.
    async fn echo(&self, deadline: Duration) -> Sample {
        let sequence = self.next_sequence.fetch_add(1, Ordering::Relaxed);
        let (landed, landing) = oneshot::channel();
        let t1_ns = monotonic_ns();
        lock(&self.flight.pending).insert(sequence, Pending { t1_ns, landed });
        let _forget = Forget { flight: &self.flight, sequence };
        let bytes = packet::encode_request(Request { sequence, t1_ns }).to_vec();
        if let Err(error) = self.connection.send_datagram(bytes.into()) {
            return self.ended(&error.to_string()).into();
        }
        let mut sample = match tokio::time::timeout(deadline, landing).await {
            Ok(Ok((reply, t4_ns))) => timing(&reply, t4_ns),
            Ok(Err(_)) => self.ended("the connection ended").into(),
            Err(_) => {
                let detail = format!("no reply within {:.1} s", deadline.as_secs_f64());
                let failure = Failure::new(Reason::Timeout, detail);
                Sample::new(Outcome::Lost(failure, self.direction(sequence)))
            }
        };
        sample.late = self.flight.late.swap(0, Ordering::Relaxed);
        sample
    }

    fn ended(&self, otherwise: &str) -> Failure {
        match self.connection.close_reason() {
            Some(error) => connection_failure(&error),
            None => Failure::new(Reason::Closed, otherwise),
        }
    }

    /// Later replies carry which requests arrived: so a loss has a side.
    fn direction(&self, sequence: u32) -> Direction {
        match lock(&self.flight.received).saw(sequence) {
            Some(true) => Direction::Back,
            Some(false) => Direction::There,
            None => Direction::Unknown,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.close(super::CLOSE_LEAVING.into(), b"leaving");
    }
}

struct Forget<'a> {
    flight: &'a Flight,
    sequence: u32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.flight.pending).remove(&self.sequence);
    }
}

/// Takes replies in until the connection ends; then all that are still on their way learn it at once.
async fn land(connection: Connection, flight: Arc<Flight>, traffic: Arc<Traffic>) {
    while let Ok(datagram) = connection.read_datagram().await {
        let t4_ns = traffic.last_arrival_ns();
        let Some(reply) = packet::decode_reply(&datagram) else { continue };
        note_received(&flight, reply.received);
        let pending = lock(&flight.pending).remove(&reply.sequence);
        if pending.is_none() {
            flight.late.fetch_add(1, Ordering::Relaxed);
        }
        // The first copy counts; a reply whose t1 is not ours was not made from our request.
        if let Some(pending) = pending.filter(|pending| pending.t1_ns == reply.t1_ns) {
            // Nobody waits any more when its deadline passed this very moment.
            let _ = pending.landed.send((reply, t4_ns));
        }
    }
    lock(&flight.pending).clear();
}

/// Replies may overtake each other; the newest knowledge wins.
fn note_received(flight: &Flight, received: Received) {
    let mut known = lock(&flight.received);
    if received.count >= known.count {
        *known = received;
    }
}

fn timing(reply: &Reply, t4_ns: u64) -> Sample {
    let trip_ns = t4_ns.saturating_sub(reply.t1_ns);
    match reply.hold_ns() {
        Some(hold_ns) if hold_ns <= trip_ns => {
            let mut sample = Sample::from(Timing {
                rtt: Duration::from_nanos(trip_ns - hold_ns),
                hold: Some(Duration::from_nanos(hold_ns)),
                encrypted: Some(true),
                ..Timing::default()
            });
            if reply.wait_us != WAIT_UNKNOWN {
                sample.peer_wait = Duration::from_micros(u64::from(reply.wait_us));
            }
            sample
        }
        // A hold longer than the whole trip is an instrument's fault; clamping it would invent a good figure.
        _ => Failure::new(Reason::Protocol, "the peer's reply claims an impossible hold time").into(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No invariant spans a panic here: each holder does one insertion, removal or copy.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
