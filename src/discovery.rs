//! The door through which facts come in: who is there, and where.
//!
//! Each source is a task of its own that tells what it sees ([`News`]) and goes on telling; the heart carries that to the
//! roster (`src/mesh/roster.rs`), where the facts of all sources are joined. A source that cannot tell says why, once a
//! reason, and tries again by itself: it never stops the measuring, and it never makes anybody disappear.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::mesh::database::Facts;
use crate::mesh::roster::{Sighting, Source};

pub mod coder;
mod postgres;
pub mod presence;

/// Which sources there are, and what each needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// Coder's own PostgreSQL, and presence through it.
    pub coder: Option<coder::Settings>,
}

impl Settings {
    /// Whether there is any source.
    pub fn is_empty(&self) -> bool {
        self.coder.is_none()
    }
}

/// All sources at work, until they are stopped.
#[derive(Debug)]
pub struct Sources {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Sources {
    /// Starts them on the runtime of the caller; what they tell goes to `news`.
    pub fn start(settings: &Settings, news: &mpsc::Sender<News>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        if let Some(settings) = &settings.coder {
            tasks.spawn(coder::watch(settings.clone(), news.clone(), stopped.clone()));
        }
        Self { tasks, stop }
    }

    /// Lets them say goodbye, within this time.
    pub async fn stop(mut self, patience: Duration) {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::debug!("a source of discovery did not end in time");
        }
    }
}

/// What a source has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It sees these now, and nobody else.
    Seen(Source, Vec<Sighting>),
    /// It cannot tell at the moment; the text is for people and holds no secret. What it told before stays.
    Failed(Source, String),
    /// What the database says of itself.
    Database(Facts),
    /// Something that it cannot see for want of rights, said once: what, and what would help.
    Blind(Source, String),
}

/// The addresses that this machine uses towards others, as far as they can be found out without asking anybody.
pub fn own_addresses() -> BTreeSet<IpAddr> {
    outward().into_iter().collect()
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
