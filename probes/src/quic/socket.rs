//! The UDP socket under the reflector: it counts what arrives and what is not QUIC at all.
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
use quinn::{AsyncUdpSocket, UdpPoller};

#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) malformed: AtomicU64,
}

#[derive(Debug)]
pub(super) struct CountingSocket {
    pub(super) inner: Arc<dyn AsyncUdpSocket>,
    pub(super) traffic: Arc<Traffic>,
}

impl AsyncUdpSocket for CountingSocket {
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
