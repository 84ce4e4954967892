//! The reflector: answers echoes of agents that it believes, and nothing of anybody else.
//!
//! An address that has not proved that it can be reached gets one small Retry, so nothing larger than what came in
//! leaves before that (no amplification). Datagrams that are no echo are dropped and counted.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, ConnectionError, Endpoint, Incoming, VarInt};

use super::letter::{self, Letter, Post, Telling};
use super::packet::{self, Received, Reply, WAIT_UNKNOWN};
use super::socket::{Traffic, endpoint};
use super::{CLOSE_LEAVING, transport};
use tokio::sync::{mpsc, watch};

use crate::own;
use crate::stopwatch::monotonic_ns;
use crate::tls::{MeshTls, TlsError};

/// Far above any mesh this is made for; more are refused.
const MAX_CONNECTIONS: usize = 2048;

/// A listening reflector. It answers until [`Reflector::close`] is called or it is dropped.
#[derive(Debug)]
pub struct Reflector {
    endpoint: Endpoint,
    /// As it was at the start; its tokens stay good when its certificates are others.
    server: quinn::ServerConfig,
    local: SocketAddr,
    counters: Arc<Counters>,
    traffic: Arc<Traffic>,
    letters: Mutex<Option<mpsc::Receiver<Letter>>>,
    post: Post,
    telling: watch::Sender<Option<Arc<[u8]>>>,
}

/// What a reflector has seen since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReflectorCounts {
    /// Handshakes that ended in a mutually authenticated connection.
    pub accepted: u64,
    /// Handshakes that failed: another mesh secret, no certificate, another protocol.
    pub rejected: u64,
    /// Connections refused because there were too many.
    pub refused: u64,
    /// Echoes answered.
    pub replied: u64,
    /// UDP datagrams that are not QUIC, and datagrams on a connection that are no echo. All dropped.
    pub malformed: u64,
    /// Letters that were too long, came too fast or found nobody to read them.
    pub letters_dropped: u64,
    /// UDP payload bytes received.
    pub bytes_in: u64,
    /// UDP payload bytes sent.
    pub bytes_out: u64,
}

#[derive(Debug, Default)]
struct Counters {
    open: AtomicUsize,
    accepted: AtomicU64,
    rejected: AtomicU64,
    refused: AtomicU64,
    replied: AtomicU64,
    malformed: AtomicU64,
}

/// Why a reflector does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The socket could not be had.
    #[error("cannot listen on UDP {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Reflector {
    /// Listens at `address` and starts to answer on the runtime of the caller.
    pub fn listen(address: SocketAddr, tls: &MeshTls) -> Result<Self, ListenError> {
        let mut server = quinn::ServerConfig::with_crypto(crypto(tls)?);
        // A peer that changes its address mid-connection would blur which path was measured.
        server.migration(false).transport_config(transport());
        server.max_incoming(256).incoming_buffer_size(16 * 1024).incoming_buffer_size_total(1024 * 1024);
        let bound = |source| ListenError::Bind { address, source };
        let (endpoint, traffic) = endpoint(address, Some(server.clone())).map_err(bound)?;
        let local = endpoint.local_addr().map_err(bound)?;
        let counters = Arc::new(Counters::default());
        let (post, letters) = Post::new();
        let telling = watch::Sender::new(None);
        let serving = Serving {
            counters: Arc::clone(&counters),
            traffic: Arc::clone(&traffic),
            post: post.clone(),
            telling: telling.subscribe(),
        };
        tokio::spawn(accept(endpoint.clone(), serving));
        let letters = Mutex::new(Some(letters));
        Ok(Self { endpoint, server, local, counters, traffic, letters, post, telling })
    }

    /// Is somebody else, and believes others, from the next connection on; what stands stays until it breaks.
    pub fn renew(&self, tls: &MeshTls) -> Result<(), TlsError> {
        let mut server = self.server.clone();
        server.crypto = crypto(tls)?;
        self.endpoint.set_server_config(Some(server));
        Ok(())
    }

    /// Where letters are put that come another way, to be read with the others.
    pub fn post(&self) -> Post {
        self.post.clone()
    }

    /// Tells this to all that are connected, within a few seconds, and from now on to whoever connects, at once. Peers that
    /// take no letters are told nothing.
    pub fn tell(&self, text: Arc<[u8]>) {
        self.telling.send_replace(Some(text));
    }

    /// The letters of all peers; whoever takes them has them alone.
    pub fn letters(&self) -> Option<mpsc::Receiver<Letter>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The address that it really listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What it has seen so far.
    pub fn counts(&self) -> ReflectorCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ReflectorCounts {
            accepted: read(&self.counters.accepted),
            rejected: read(&self.counters.rejected),
            refused: read(&self.counters.refused),
            replied: read(&self.counters.replied),
            malformed: read(&self.counters.malformed) + read(&self.traffic.malformed),
            letters_dropped: self.post.dropped(),
            bytes_in: read(&self.traffic.bytes_in),
            bytes_out: read(&self.traffic.bytes_out),
        }
    }

    /// Tells all peers that this agent leaves, and waits at most `patience` until they heard it.
    pub async fn close(&self, patience: Duration) {
        self.endpoint.close(VarInt::from_u32(CLOSE_LEAVING), b"leaving");
        if tokio::time::timeout(patience, self.endpoint.wait_idle()).await.is_err() {
            tracing::debug!("some peers did not acknowledge the goodbye");
        }
    }
}

fn crypto(tls: &MeshTls) -> Result<Arc<QuicServerConfig>, TlsError> {
    let crypto = QuicServerConfig::try_from(Arc::clone(&tls.server));
    Ok(Arc::new(crypto.map_err(|error| TlsError::Setup(error.to_string()))?))
}

impl Drop for Reflector {
    fn drop(&mut self) {
        self.endpoint.close(VarInt::from_u32(CLOSE_LEAVING), b"leaving");
    }
}

/// What all connections share.
#[derive(Clone)]
struct Serving {
    counters: Arc<Counters>,
    traffic: Arc<Traffic>,
    post: Post,
    telling: Telling,
}

async fn accept(endpoint: Endpoint, serving: Serving) {
    let counters = &serving.counters;
    while let Some(incoming) = endpoint.accept().await {
        if !incoming.remote_address_validated() {
            // Retry fails only for an address that is validated already.
            let _ = incoming.retry();
        } else if counters.open.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            incoming.refuse();
        } else {
            tokio::spawn(serve(incoming, serving.clone()));
        }
    }
}

async fn serve(incoming: Incoming, serving: Serving) {
    let Serving { counters, traffic, post, telling } = serving;
    let remote = incoming.remote_address();
    counters.open.fetch_add(1, Ordering::Relaxed);
    match incoming.await {
        Ok(connection) => {
            counters.accepted.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%remote, "peer connected");
            let ended = tokio::select! {
                ended = reflect(&connection, &counters, &traffic) => ended,
                ended = letter::read(&connection, &post, false) => ended,
                ended = letter::tell(&connection, telling) => ended,
            };
            tracing::debug!(%remote, %ended, "peer gone");
        }
        Err(error) => {
            let rejected = counters.rejected.fetch_add(1, Ordering::Relaxed) + 1;
            // The 1st, 2nd, 4th, 8th …: one who keeps knocking must not fill the log.
            if rejected.is_power_of_two() {
                tracing::warn!(%remote, %error, rejected, "a peer could not prove that it belongs to this mesh");
            }
        }
    }
    counters.open.fetch_sub(1, Ordering::Relaxed);
}

/// What it cost this thread to be woken for the request. The runtime calls [`own::note_park`] before each sleep.
fn wait_us() -> u32 {
    let known =
        own::wait_since_park().map(|wait| u32::try_from(wait.as_micros()).unwrap_or(WAIT_UNKNOWN - 1));
    known.unwrap_or(WAIT_UNKNOWN)
}

async fn reflect(connection: &Connection, counters: &Counters, traffic: &Traffic) -> ConnectionError {
    let mut received = Received::default();
    loop {
        let datagram = match connection.read_datagram().await {
            Ok(datagram) => datagram,
            Err(error) => return error,
        };
        let t2_ns = traffic.last_arrival_ns();
        let Some(request) = packet::decode_request(&datagram) else {
            counters.malformed.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        received.note(request.sequence);
        let mut reply = Reply {
            sequence: request.sequence,
            t1_ns: request.t1_ns,
            t2_ns,
            t3_ns: 0,
            received,
            wait_us: wait_us(),
        };
        reply.t3_ns = monotonic_ns();
        // A reply that cannot be queued is a loss, which the sender sees.
        if connection.send_datagram(packet::encode_reply(&reply).to_vec().into()).is_ok() {
            counters.replied.fetch_add(1, Ordering::Relaxed);
        }
    }
}
