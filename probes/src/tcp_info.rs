//! The kernel's view of a TCP connection: the house's one island of `unsafe`.
//!
//! What it is not: the smoothed round trip is no round trip of the network. The acknowledgement of a question rides on
//! its answer, so it contains the server's time to think, up to the 40 ms of a delayed acknowledgement. The minimum is one
//! of the network, but where small questions travel alone, as ours do, it never rises: of a sample that may have been
//! acknowledged late, the kernel takes only what is lower. A route that gets longer is seen by a fresh connect.

use std::time::Duration;

/// Offsets in `struct tcp_info`, which only ever grows at its end (include/uapi/linux/tcp.h).
const SMOOTHED_RTT: usize = 68;
const TOTAL_RETRANS: usize = 100;
const MIN_RTT: usize = 148;

/// What the kernel knows of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpInfo {
    /// Smoothed time from a segment to its acknowledgement, the peer's time to think included.
    pub smoothed: Duration,
    /// The lowest such time of the last minutes; `None` before the first, and on kernels that do not tell.
    pub min_rtt: Option<Duration>,
    /// Segments sent again since the connection began.
    pub retransmits: u32,
}

impl TcpInfo {
    /// Reads what the kernel returned; `None` when that is too short to be it.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let number = |offset: usize| {
            let field = bytes.get(offset..offset + 4)?;
            Some(u32::from_ne_bytes(field.try_into().ok()?))
        };
        let micros = |us: u32| Duration::from_micros(u64::from(us));
        Some(Self {
            retransmits: number(TOTAL_RETRANS)?,
            smoothed: micros(number(SMOOTHED_RTT)?),
            min_rtt: number(MIN_RTT).filter(|us| *us != u32::MAX).map(micros),
        })
    }
}

/// Asks the kernel about this socket; `None` where it does not tell, or it is no TCP socket.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "TCP_INFO has no safe wrapper that keeps the length which the kernel returned"
)]
pub fn of(socket: &impl std::os::fd::AsFd) -> Option<TcpInfo> {
    use std::os::fd::AsRawFd;
    let mut bytes = [0_u8; 512];
    let mut length = libc::socklen_t::try_from(bytes.len()).ok()?;
    let socket = socket.as_fd();
    // SAFETY: the descriptor is borrowed and so is open; `bytes` and `length` outlive the call, and `length` says how much
    // room there is.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            bytes.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return None;
    }
    TcpInfo::parse(bytes.get(..usize::try_from(length).ok()?)?)
}

/// Nothing is known elsewhere.
#[cfg(not(target_os = "linux"))]
pub fn of<S>(_socket: &S) -> Option<TcpInfo> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returned(length: usize, min_rtt: u32) -> Option<TcpInfo> {
        let mut bytes = [0; 256];
        bytes[SMOOTHED_RTT..SMOOTHED_RTT + 4].copy_from_slice(&9_410_u32.to_ne_bytes());
        bytes[TOTAL_RETRANS..TOTAL_RETRANS + 4].copy_from_slice(&3_u32.to_ne_bytes());
        bytes[MIN_RTT..MIN_RTT + 4].copy_from_slice(&min_rtt.to_ne_bytes());
        TcpInfo::parse(&bytes[..length])
    }

    #[test]
    fn what_the_kernel_does_not_return_is_not_known() {
        let known = |min_rtt| TcpInfo { smoothed: Duration::from_micros(9_410), min_rtt, retransmits: 3 };
        assert_eq!(returned(103, 4_130), None);
        assert_eq!(returned(104, 4_130), Some(known(None)));
        for length in [192, 232, 256] {
            assert_eq!(returned(length, 4_130), Some(known(Some(Duration::from_micros(4_130)))));
            assert_eq!(returned(length, u32::MAX), Some(known(None)), "before the first sample");
        }
    }

    #[test]
    fn a_socket_that_is_not_tcp_has_none() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(of(&udp), None);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(of(&stream).unwrap().retransmits, 0);
    }
}
