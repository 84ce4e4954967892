//! The echo between agents: datagrams over QUIC, so that nothing retransmits, reorders or hides a loss.
//!
//! The figure is the application's own round trip less the reflector's hold time. QUIC's own `rtt()` is not used: it
//! waits for acknowledgements, which are delayed by design. Several echoes may be in flight on one connection.
//!
//! Both ends are one trust domain ([`crate::tls`]). Under TLS 1.3 the reflector's refusal of our certificate arrives
//! after `connect` has succeeded, so a connection counts as open only when its first echo is back.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

pub mod letter;
mod outgoing;
pub mod packet;
pub mod reflector;
pub mod sender;
mod socket;
mod window;

pub use reflector::{Reflector, ReflectorCounts};
pub use sender::{PeerProbe, Sender};

/// After this silence both sides forget a connection. An idle sender keeps it alive at less than half of that.
const IDLE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// The close code of an agent that goes away on purpose; its reason says so.
pub(crate) const CLOSE_LEAVING: u32 = 0;

/// One transport for both sides: datagrams, a few short letters, small buffers, no path MTU search.
fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(letter::AT_ONCE))
        .stream_receive_window(VarInt::from_u32(letter::WINDOW))
        .receive_window(VarInt::from_u32(letter::WINDOW))
        .datagram_receive_buffer_size(Some(64 * 1024))
        .datagram_send_buffer_size(64 * 1024)
        .mtu_discovery_config(None)
        .initial_rtt(Duration::from_millis(50))
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .congestion_controller_factory(Arc::new(window::Constant));
    Arc::new(config)
}

fn endpoint_config() -> quinn::EndpointConfig {
    let mut config = quinn::EndpointConfig::default();
    // A fixed bit that is really fixed lets the reflector tell garbage from QUIC by the first byte.
    config.grease_quic_bit(false);
    config
}

/// A UDP socket at this address; an unspecified IPv6 address serves both families, or IPv4 alone where the system has
/// no IPv6.
fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let attempt = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // An address that names one family keeps to it.
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    match attempt(address) {
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED && !ipv6_exists() => {
            attempt((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        other => other,
    }
}

fn ipv6_exists() -> bool {
    Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))
        .and_then(|socket| socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()))
        .is_ok()
}
