//! The UDP socket under quinn: it notes when something arrived, counts what did, and what is not QUIC at all.
//!
//! A datagram waits for decryption and for three tasks before the reader sees it. Stamped here, right after the system
//! call, that time counts as hold time in the reflector and is left out by the sender. The stamp is that of the *last*
//! arrival, so for a datagram that was overtaken while it waited it is late, never early: a round trip may be called
//! longer than it was, never shorter.
//!
//! quinn drops garbage without a word. An operator who wonders why a peer cannot be reached wants to know whether
//! anything arrives, and a scan or a broken tunnel should be seen.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, Runtime, ServerConfig, TokioRuntime, UdpPoller};

use super::{bind, endpoint_config};
use crate::stopwatch::monotonic_ns;

#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) malformed: AtomicU64,
    last_arrival_ns: AtomicU64,
}

impl Traffic {
    /// When the last datagram arrived, in monotonic nanoseconds.
    pub(super) fn last_arrival_ns(&self) -> u64 {
        self.last_arrival_ns.load(Ordering::Relaxed)
    }
}

/// An endpoint on such a socket, and what the socket notes. A server configuration makes it accept connections.
pub(super) fn endpoint(
    address: SocketAddr,
    server: Option<ServerConfig>,
) -> io::Result<(Endpoint, Arc<Traffic>)> {
    let runtime = Arc::new(TokioRuntime);
    let inner = runtime.wrap_udp_socket(bind(address)?)?;
    let traffic = Arc::new(Traffic::default());
    let socket = Arc::new(StampedSocket { inner, traffic: Arc::clone(&traffic) });
    let endpoint = Endpoint::new_with_abstract_socket(endpoint_config(), server, socket, runtime)?;
    Ok((endpoint, traffic))
}

#[derive(Debug)]
struct StampedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    traffic: Arc<Traffic>,
}

impl AsyncUdpSocket for StampedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)?;
        self.traffic.bytes_out.fetch_add(transmit.contents.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let polled = self.inner.poll_recv(cx, buffers, meta);
        if let Poll::Ready(Ok(count)) = polled {
            self.traffic.last_arrival_ns.store(monotonic_ns(), Ordering::Relaxed);
            for (buffer, meta) in buffers.iter().zip(meta.iter()).take(count) {
                self.traffic.bytes_in.fetch_add(meta.len as u64, Ordering::Relaxed);
                let malformed = buffer[..meta.len]
                    .chunks(meta.stride.max(1))
                    .filter(|datagram| !may_be_quic(datagram))
                    .count();
                self.traffic.malformed.fetch_add(malformed as u64, Ordering::Relaxed);
            }
        }
        polled
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// RFC 9000 §17: the fixed bit is set; an Initial (long header, type 0, version 1) comes in at least 1200 bytes; a
/// short header cannot be smaller than its protection sample allows.
fn may_be_quic(datagram: &[u8]) -> bool {
    let Some(first) = datagram.first() else { return false };
    if first & 0x40 == 0 {
        return false;
    }
    if first & 0x80 == 0 {
        return datagram.len() >= 21;
    }
    let initial_of_version_1 = first & 0x30 == 0 && datagram.get(1..5) == Some(&[0, 0, 0, 1]);
    datagram.len() >= if initial_of_version_1 { 1200 } else { 7 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_and_truncated_datagrams_are_told_from_quic() {
        let mut initial = vec![0_u8; 1200];
        initial[..5].copy_from_slice(&[0xc3, 0, 0, 0, 1]);
        assert!(may_be_quic(&initial));
        assert!(!may_be_quic(&initial[..600]), "a truncated Initial");
        assert!(may_be_quic(&[0x41; 40]));
        for garbage in
            [&b""[..], b"GET / HTTP/1.1\r\n", b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", &[0x41; 8]]
        {
            assert!(!may_be_quic(garbage), "{garbage:?}");
        }
    }
}
