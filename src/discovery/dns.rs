//! Names in DNS: a headless service's addresses, or the targets of its SRV records, are the agents of a mesh.
//!
//! Each name is followed by a task of its own, which asks again when the answer's time to live is over. What one of them
//! hears is joined with what the others heard last. An answer is believed as far as it goes: a name server that fails
//! for one name, one family or one target of many takes away nobody, and NOERROR or NXDOMAIN without records do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use probes::target::HostPort;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::News;
use crate::mesh::roster::{Sighting, Source};

mod ask;
mod known;
mod name;

use ask::Asker;
pub use ask::Failure;
use known::{Answers, Known, Round};
pub use name::{Name, NameError};

/// What is looked up, where and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The names.
    pub names: Vec<Name>,
    /// The port of agents whose name brings none.
    pub port: u16,
    /// Where we answer ourselves, beside the addresses of this machine: what we are told of ourselves is left out.
    pub own: BTreeSet<IpAddr>,
    /// The port on which we answer; agents on other ports of our addresses are others. `None`: all are ourselves.
    pub own_port: Option<u16>,
    /// Answers are asked for anew when their time to live is over, but not sooner than this; failures after this.
    pub shortest: Duration,
    /// And not later than this.
    pub longest: Duration,
    /// How long an answer is waited for, with all repetitions.
    pub timeout: Duration,
    /// How long a name with all its targets may take.
    pub round: Duration,
    /// So many addresses of one name are taken, the first in their order.
    pub most: usize,
    /// Which servers are asked; `None`: those of the system.
    pub servers: Option<Servers>,
}

impl Settings {
    /// These names, with the system's name servers and defaults for the rest.
    pub fn new(names: Vec<Name>, port: u16) -> Self {
        Self {
            names,
            port,
            own: BTreeSet::new(),
            own_port: None,
            shortest: Duration::from_secs(5),
            longest: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
            round: Duration::from_secs(30),
            most: 1000,
            servers: None,
        }
    }
}

/// Name servers that are asked instead of the system's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    /// Where they answer, over UDP and TCP.
    pub addresses: Vec<SocketAddr>,
    /// Domains in which a name may stand that is not full.
    pub search: Vec<String>,
    /// A name with fewer dots is looked for in those domains first.
    pub ndots: usize,
}

/// Tells who the names' records are until nobody listens any more.
///
/// The first news come when every name has been answered or has failed: less would look like a departure to a roster
/// that outlives a change of settings.
pub async fn watch(settings: Settings, news: mpsc::Sender<News>) {
    let settings = Arc::new(settings);
    let (tell, mut told) = mpsc::channel(settings.names.len().max(1));
    let mut following = JoinSet::new();
    for index in 0..settings.names.len() {
        following.spawn(follow(index, Arc::clone(&settings), tell.clone()));
    }
    drop(tell);
    let mut heard =
        Heard { rounds: BTreeMap::new(), last: None, said: BTreeSet::new(), cut: BTreeSet::new() };
    loop {
        let next = tokio::select! {
            next = told.recv() => next,
            () = news.closed() => return,
        };
        let Some((index, round)) = next else { return news.closed().await };
        for item in heard.hear(&settings, index, round) {
            if news.send(item).await.is_err() {
                return;
            }
        }
    }
}

/// The names that this host's name is an alias of, nearest first; the last is the one with addresses.
pub async fn aliases(settings: &Settings, host: &str) -> Result<Vec<String>, Failure> {
    Asker::new(settings.servers.as_ref(), settings.timeout)?.aliases(host).await
}

/// What was said so far, so that nothing is said twice.
struct Heard {
    rounds: BTreeMap<usize, Round>,
    last: Option<Vec<Sighting>>,
    said: BTreeSet<String>,
    cut: BTreeSet<usize>,
}

impl Heard {
    fn hear(&mut self, settings: &Settings, index: usize, round: Round) -> Vec<News> {
        let mut news = Vec::new();
        if round.more > 0 && self.cut.insert(index) {
            news.push(News::Blind(
                Source::Dns,
                format!(
                    "{} has more than {} members: the first {} in their order are taken",
                    settings.names[index], settings.most, settings.most
                ),
            ));
        }
        self.rounds.insert(index, round);
        if self.rounds.len() < settings.names.len() {
            return news;
        }
        let failures: BTreeSet<&str> =
            self.rounds.values().flat_map(|round| round.failures.iter().map(String::as_str)).collect();
        let failure = failures.into_iter().collect::<Vec<_>>().join("; ");
        let sightings = sightings(settings, &self.rounds);
        let known = self.last.is_some() || !sightings.is_empty();
        let changed = self.last.as_ref() != Some(&sightings);
        // What is told anew says that all is well; where it is not, that is said after it.
        let tell = failure.is_empty() || (changed && known);
        if tell {
            news.push(News::Seen(Source::Dns, sightings.clone()));
            self.last = Some(sightings);
        }
        if failure.is_empty() {
            self.said.clear();
        } else if self.said.insert(failure.clone()) || tell {
            news.push(News::Failed(Source::Dns, failure));
        }
        news
    }
}

/// All members of all names, each once; the first name that has one says what it stands beside.
fn sightings(settings: &Settings, rounds: &BTreeMap<usize, Round>) -> Vec<Sighting> {
    let mut by_key: BTreeMap<String, Sighting> = BTreeMap::new();
    for (index, round) in rounds {
        for member in &round.members {
            let at = |host: String| HostPort { host, port: member.port };
            let reflectors: Vec<_> = member.addresses.iter().map(|ip| at(ip.to_string())).collect();
            let Some(first) = reflectors.first() else { continue };
            let key =
                member.target.clone().map_or_else(|| first.to_string(), |target| at(target).to_string());
            by_key.entry(key.clone()).or_insert_with(|| Sighting {
                key,
                role: settings.names[*index].role(),
                reflectors,
                host_name: member.target.clone(),
                addresses: member.addresses.clone(),
                ..Sighting::default()
            });
        }
    }
    by_key.into_values().collect()
}

/// Asks for one name again and again, and tells what came of it.
async fn follow(index: usize, settings: Arc<Settings>, tell: mpsc::Sender<(usize, Round)>) {
    let name = &settings.names[index];
    let mut known = Known::default();
    let mut asker = None;
    loop {
        let mut ttl = None;
        let mut failures = BTreeSet::new();
        if asker.is_none() {
            match Asker::new(settings.servers.as_ref(), settings.timeout) {
                Ok(new) => asker = Some(Arc::new(new)),
                Err(failure) => {
                    failures.insert(failure.to_string());
                }
            }
        }
        if let Some(asker) = &asker {
            asker.forget();
            let mut round = Answers { asker, ttl: &mut ttl, failures: &mut failures };
            let asked = known.refresh(name, settings.most, &mut round);
            if tokio::time::timeout(settings.round, asked).await.is_err() {
                failures.insert(format!(
                    "{}: not all answers are there after {:?}",
                    name.host(),
                    settings.round
                ));
            }
        }
        let round = known.round(name, &settings, failures);
        if !round.failures.is_empty() {
            // The system's configuration may be another by now.
            asker = None;
            ttl = None;
        }
        if tell.send((index, round)).await.is_err() {
            return;
        }
        tokio::time::sleep(ttl.unwrap_or_default().clamp(settings.shortest, settings.longest)).await;
    }
}
