//! The door through which facts come in: who is there, and where.
//!
//! Each source is a task of its own that tells what it sees ([`News`]) and goes on telling; the heart carries that to the
//! roster (`src/mesh/roster.rs`), where the facts of all sources are joined. A source that cannot tell says why, once a
//! reason, and tries again by itself: it never stops the measuring, and it never makes anybody disappear.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};

use crate::mesh::database::Facts;
use crate::mesh::pubsub::Exchange;
use crate::mesh::roster::{Claim, Sighting, Source};

pub mod cloud;
pub mod coder;
pub mod dns;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod postgres;
pub mod presence;
pub mod pubsub;

/// Which sources there are, and what each needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// Coder's own PostgreSQL, and presence through it.
    pub coder: Option<coder::Settings>,
    /// Names whose addresses are agents.
    pub dns: Option<dns::Settings>,
    /// The API of Kubernetes.
    #[cfg(feature = "kubernetes")]
    pub kubernetes: Option<kubernetes::Settings>,
    /// What is known beforehand, and told as it is: the demo knows where its servers stand.
    pub fixed: Vec<Sighting>,
    /// Where this machine stands, by what its pod was told.
    pub claims: Vec<Claim>,
    /// Where this machine stands, by its cloud. It is no source of others, so it is asked beside one only.
    pub cloud: Option<cloud::Settings>,
}

impl Settings {
    /// Whether there is any source.
    pub fn is_empty(&self) -> bool {
        self.sources().is_empty()
    }

    /// The sources that tell who is there.
    pub fn sources(&self) -> BTreeSet<Source> {
        let coder = self.coder.as_ref().map(|_| Source::Coder);
        let dns = self.dns.as_ref().map(|_| Source::Dns);
        #[cfg(feature = "kubernetes")]
        let kubernetes = self.kubernetes.as_ref().map(|_| Source::Kubernetes);
        #[cfg(not(feature = "kubernetes"))]
        let kubernetes = None;
        let fixed = (!self.fixed.is_empty()).then_some(Source::Fixed);
        coder.into_iter().chain(dns).chain(kubernetes).chain(fixed).collect()
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
    /// `peers` are the agents to ask how long a notification takes; `None` is not to ask at all. The database is connected
    /// to only while it is wanted.
    pub fn start(
        settings: &Settings,
        news: &mpsc::Sender<News>,
        peers: &watch::Receiver<Peers>,
        database: watch::Receiver<bool>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        if let Some(settings) = &settings.coder {
            let peers = peers.clone();
            tasks.spawn(while_wanted(settings.clone(), news.clone(), peers, database, stopped.clone()));
        }
        if let Some(settings) = &settings.dns {
            tasks.spawn(until(stopped.clone(), dns::watch(settings.clone(), news.clone())));
        }
        #[cfg(feature = "kubernetes")]
        if let Some(settings) = &settings.kubernetes {
            tasks.spawn(until(stopped.clone(), kubernetes::watch(settings.clone(), news.clone())));
        }
        if !settings.fixed.is_empty() {
            let (news, fixed) = (news.clone(), settings.fixed.clone());
            // Where nobody listens any more, nobody wants to know.
            tasks.spawn(async move { drop(news.send(News::Seen(Source::Fixed, fixed)).await) });
        }
        if let Some(settings) = settings.cloud.clone() {
            tasks.spawn(until(stopped, ask_cloud(settings, news.clone())));
        }
        Self { tasks, stop }
    }

    /// The next of them that fails for good, which none should; one that has done its work does not count.
    pub async fn fault(&mut self) -> JoinError {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                return error;
            }
        }
        std::future::pending().await
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

/// Does this work until it is done or stopped.
async fn until(mut stopped: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

/// Follows Coder's database while that is wanted, and leaves it with a goodbye when it is wanted no more.
async fn while_wanted(
    settings: coder::Settings,
    news: mpsc::Sender<News>,
    peers: watch::Receiver<Peers>,
    mut wanted: watch::Receiver<bool>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            heard = wanted.wait_for(|wanted| *wanted) => {
                if heard.is_err() {
                    return;
                }
            }
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        let (end, ended) = watch::channel(false);
        let mut following =
            std::pin::pin!(coder::watch(settings.clone(), news.clone(), peers.clone(), ended));
        let is_over = tokio::select! {
            () = &mut following => return,
            heard = wanted.wait_for(|wanted| !*wanted) => heard.is_err(),
            _ = stopped.wait_for(|stopped| *stopped) => true,
        };
        end.send_replace(true);
        following.await;
        if is_over {
            return;
        }
    }
}

/// Off the way of the start-up, and again a few times where nothing answered: a metadata service may start later than we.
async fn ask_cloud(settings: cloud::Settings, news: mpsc::Sender<News>) {
    const TIMES: u32 = 3;
    const PAUSE: Duration = Duration::from_secs(60);
    for time in 1..=TIMES {
        let whereabouts = cloud::ask(&settings).await;
        let is_known = !whereabouts.claims.is_empty();
        if is_known || time == TIMES {
            // Where nobody listens any more, nobody wants to know.
            let _ = news.send(News::Cloud(whereabouts)).await;
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The names of agents to ask; `None` is not to ask at all.
pub type Peers = Option<BTreeSet<String>>;

/// What a source has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It sees these now, and nobody else.
    Seen(Source, Vec<Sighting>),
    /// It cannot tell at the moment; the text is for people and holds no secret. What it told before stays.
    Failed(Source, String),
    /// What the database says of itself.
    Database(Facts),
    /// What came of a question that was sent through PostgreSQL.
    Pubsub(Box<Exchange>),
    /// Where the cloud says that this machine stands.
    Cloud(cloud::Whereabouts),
    /// Something that it cannot see for want of rights, said once: what, and what would help.
    Blind(Source, String),
}

/// The addresses that this machine uses towards others, as far as they can be found out without asking anybody.
pub fn own_addresses() -> BTreeSet<IpAddr> {
    outwards().collect()
}

/// One of them; `None` where this machine has no route to anywhere.
fn outward() -> Option<IpAddr> {
    outwards().next()
}

/// The addresses of both families that this machine uses towards others, by its routes; nothing is sent.
fn outwards() -> impl Iterator<Item = IpAddr> {
    // Addresses of documentation (RFC 5737, RFC 3849), which a default route leads to as to any other.
    let ways: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    ways.into_iter().filter_map(|(any, there)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((there, 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
    })
}
