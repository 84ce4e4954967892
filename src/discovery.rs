//! The door through which facts come in: who is there, and where.
//!
//! Each source is a task of its own that tells what it sees ([`News`]) and goes on telling; the heart carries that to the
//! roster (`src/mesh/roster.rs`), where the facts of all sources are joined. A source that cannot tell says why, once a
//! reason, and tries again by itself: it never stops the measuring, and it never makes anybody disappear.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use crate::mesh::roster::{Sighting, Source};

pub mod coder;
pub mod presence;

/// What a source has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It sees these now, and nobody else.
    Seen(Source, Vec<Sighting>),
    /// It cannot tell at the moment; the text is for people and holds no secret. What it told before stays.
    Failed(Source, String),
    /// Something that it cannot see for want of rights, said once: what, and what would help.
    Blind(Source, String),
}

/// The address that this machine uses towards others, by its routes; nothing is sent. `None` where it has no route.
fn outward() -> Option<IpAddr> {
    // Addresses of documentation (RFC 5737, RFC 3849), which a default route leads to as to any other.
    let ways: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    ways.into_iter().find_map(|(any, there)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((there, 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
    })
}
