//! Workspace proxies: which of them an agent near the workspaces measures, and which one is nearest.
//!
//! An agent on a node without any server leaves Coder's database alone, so it is told of the proxies by those who read it.
//! What is told must not become a way to make hundreds of nodes ask whomever somebody likes: only agents are believed that
//! stand beside coderd by another's account than their own, and only so many names and plain addresses of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use probes::target::Kind;

use super::peer::Role;
use super::report::TargetReport;
use super::roster::{Member, Sighting};
use super::standing::LinkStanding;
use super::state::State;
use super::whole::Agent;

/// More are not told, nor believed.
pub const AT_MOST: usize = 16;
/// A median of fewer is none.
pub const FEWEST: u32 = 5;
/// A check is over before there are so many, and says how few there are.
const FEWEST_OF_LOOK: u32 = 3;
/// It is told once a minute; who has not told for so long is believed no more.
const BELIEVED_FOR: Duration = Duration::from_secs(300);
/// So many tell at most.
const TELLERS_AT_MOST: usize = 64;
const LONGEST: usize = 253;

/// A workspace proxy as it is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proxy {
    name: String,
    url: String,
}

impl Proxy {
    /// A name and `http://HOST[:PORT]` or `https://HOST[:PORT]`; `None` for anything else: another scheme, a user, a path,
    /// a query, or more than 253 bytes.
    pub fn new(name: &str, url: &str) -> Option<Self> {
        let url = url.strip_suffix('/').unwrap_or(url);
        let authority = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        let is_sound = (1..=LONGEST).contains(&name.len())
            && !name.chars().any(char::is_control)
            && !authority.is_empty()
            && url.len() <= LONGEST
            && authority.chars().all(is_plain);
        is_sound.then(|| Self { name: name.to_owned(), url: url.to_owned() })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Scheme, host and port.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same as a server that is there.
    pub fn member(&self) -> Member {
        let facts = Sighting {
            key: format!("told {}", self.name),
            role: Some(Role::Proxy),
            relay: Some(self.url.clone()),
            ..Sighting::default()
        };
        Member { name: self.name.clone(), facts, sources: BTreeSet::new() }
    }
}

/// What was told of proxies, by the address of who told it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    by: BTreeMap<IpAddr, (Duration, Vec<Proxy>)>,
}

impl Told {
    /// Whoever answers at this address knows these now, and no others. `beside_coderd` is where agents stand beside coderd.
    pub fn hear(
        &mut self,
        from: IpAddr,
        mut proxies: Vec<Proxy>,
        beside_coderd: &BTreeSet<IpAddr>,
        now: Duration,
    ) {
        self.by.retain(|_, (at, _)| now.saturating_sub(*at) < BELIEVED_FOR);
        if self.by.len() >= TELLERS_AT_MOST && !self.by.contains_key(&from) {
            // Whom we do not believe yet keeps nobody else from being heard.
            self.by.retain(|teller, _| beside_coderd.contains(teller));
        }
        if self.by.len() < TELLERS_AT_MOST || self.by.contains_key(&from) {
            proxies.sort();
            proxies.truncate(AT_MOST);
            self.by.insert(from, (now, proxies));
        }
    }

    /// The proxies that are believed to be there, by name: told of late from where an agent stands beside coderd.
    pub fn believed(&self, beside_coderd: &BTreeSet<IpAddr>, now: Duration) -> Vec<Proxy> {
        let mut by_name = BTreeMap::new();
        for (from, (at, proxies)) in &self.by {
            if now.saturating_sub(*at) >= BELIEVED_FOR || !beside_coderd.contains(from) {
                continue;
            }
            for proxy in proxies {
                // Of two that differ, the first.
                by_name.entry(proxy.name.clone()).or_insert_with(|| proxy.clone());
            }
        }
        by_name.into_values().take(AT_MOST).collect()
    }
}

/// The proxy that answers soonest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest {
    /// What it is called.
    pub name: String,
    /// Median of the requests of the window, each to the first byte of its answer.
    pub p50: Duration,
    /// How many answers that rests on; of what another agent wrote, how many requests.
    pub samples: u32,
}

/// What is known of one proxy.
struct Candidate<'a> {
    name: &'a str,
    state: State,
    p50: Option<Duration>,
    samples: u32,
}

impl Nearest {
    /// Of an agent's own links; `None` where no proxy answers, or none often enough yet.
    pub fn of_links(links: &[LinkStanding]) -> Option<Self> {
        let proxies = links.iter().filter(|link| is_proxy(link.role, link.kind));
        let candidates = proxies.map(|link| Candidate {
            name: &link.name,
            state: link.state,
            p50: link.rtt.p50,
            samples: link.answered,
        });
        nearest(candidates, FEWEST)
    }

    /// The same of one bounded look.
    pub fn of_targets(targets: &[TargetReport]) -> Option<Self> {
        let proxies = targets.iter().filter(|target| is_proxy(target.role, target.kind));
        let candidates = proxies.map(|target| Candidate {
            name: &target.name,
            state: State::Unknown,
            p50: target.rtt.p50,
            samples: target.samples.saturating_sub(target.lost),
        });
        nearest(candidates, FEWEST_OF_LOOK)
    }

    /// The same of what another agent says of its links.
    pub fn of_agent(agent: &Agent) -> Option<Self> {
        let proxies = agent.rows.values().filter(|row| is_proxy(row.role, row.kind));
        let candidates = proxies.map(|row| Candidate {
            name: &row.target,
            state: row.state,
            p50: row.p50,
            samples: row.samples,
        });
        nearest(candidates, FEWEST)
    }
}

fn is_proxy(role: Option<Role>, kind: Kind) -> bool {
    role == Some(Role::Proxy) && kind == Kind::Http
}

/// Of those that tell enough, and answer now.
fn nearest<'a>(candidates: impl Iterator<Item = Candidate<'a>>, fewest: u32) -> Option<Nearest> {
    let answers = |one: &Candidate<'_>| {
        !matches!(one.state, State::Unreachable | State::Stale) && one.samples >= fewest
    };
    candidates
        .filter(answers)
        .filter_map(|one| Some((one.p50?, one.name, one.samples)))
        .min()
        .map(|(p50, name, samples)| Nearest { name: name.to_owned(), p50, samples })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn proxy(name: &str) -> Proxy {
        Proxy::new(name, &format!("https://{name}.example.com")).unwrap()
    }

    fn names(proxies: &[Proxy]) -> Vec<&str> {
        proxies.iter().map(Proxy::name).collect()
    }

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port_and_nothing_else() {
        for url in ["https://eu.example.com", "http://10.0.0.1:3001/", "https://[fd00::1]:8443"] {
            assert!(Proxy::new("eu", url).is_some(), "{url}");
        }
        let long = format!("https://{}.example.com", "x".repeat(250));
        for url in [
            "",
            "https://",
            "eu.example.com",
            "ftp://eu.example.com",
            "file:///etc/passwd",
            "https://user:secret@eu.example.com",
            "https://eu.example.com/admin/delete",
            "https://eu.example.com?x=1",
            "https://eu.example.com#x",
            "https://eu.example.com\r\nX: y",
            "https://eu example.com",
            &long,
        ] {
            assert_eq!(Proxy::new("eu", url), None, "{url}");
        }
        assert_eq!(Proxy::new("", "https://a"), None);
        assert_eq!(Proxy::new("\u{1b}[2J", "https://a"), None);
        assert_eq!(Proxy::new(&"n".repeat(254), "https://a"), None);
    }

    #[test]
    fn only_who_stands_beside_coderd_is_believed_and_only_for_as_long_as_he_tells() {
        let mut told = Told::default();
        let beside = BTreeSet::from([ip(1)]);
        told.hear(ip(1), vec![proxy("b"), proxy("a")], &beside, at(0));
        told.hear(ip(9), vec![proxy("evil")], &beside, at(0));
        assert_eq!(names(&told.believed(&beside, at(299))), ["a", "b"]);
        assert_eq!(told.believed(&beside, at(300)), [], "it has not said so for too long");
        assert_eq!(told.believed(&BTreeSet::new(), at(1)), [], "it stands beside coderd no more");
        assert_eq!(names(&told.believed(&BTreeSet::from([ip(9)]), at(1))), ["evil"], "coderd came there");
        told.hear(ip(1), vec![proxy("b")], &beside, at(60));
        assert_eq!(names(&told.believed(&beside, at(60))), ["b"], "and no others");
    }

    #[test]
    fn there_are_never_more_of_them_than_a_node_can_ask_without_being_felt() {
        let many = |prefix: &str| (0..40).map(|i| proxy(&format!("{prefix}{i:02}"))).collect::<Vec<_>>();
        let beside = BTreeSet::from([ip(1), ip(2)]);
        let mut told = Told::default();
        told.hear(ip(1), many("x"), &beside, at(0));
        told.hear(ip(2), many("y"), &beside, at(0));
        assert_eq!(told.believed(&beside, at(0)).len(), AT_MOST);
    }

    #[test]
    fn a_crowd_that_is_not_believed_keeps_nobody_from_being_heard() {
        let beside = BTreeSet::from([ip(200), ip(201)]);
        let mut told = Told::default();
        told.hear(ip(200), vec![proxy("a")], &beside, at(0));
        for last in 0..100 {
            told.hear(ip(last), vec![proxy("evil")], &beside, at(0));
        }
        told.hear(ip(201), vec![proxy("b")], &beside, at(0));
        assert_eq!(names(&told.believed(&beside, at(0))), ["a", "b"]);
        assert!(told.by.len() <= TELLERS_AT_MOST);
    }

    #[test]
    fn the_nearest_is_the_one_with_the_smallest_median_of_enough_answers_and_ties_go_by_name() {
        let of = |all: &[(&str, State, Option<u64>, u32)]| {
            let candidates = all.iter().map(|(name, state, ms, samples)| Candidate {
                name,
                state: *state,
                p50: ms.map(Duration::from_millis),
                samples: *samples,
            });
            nearest(candidates, FEWEST)
                .map(|nearest| (nearest.name, nearest.p50.as_millis(), nearest.samples))
        };
        let far = ("far", State::Ok, Some(30), 9);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[far, ("near", State::Ok, Some(3), 4)]), Some(("far".into(), 30, 9)), "too few");
        assert_eq!(of(&[far, ("near", State::Ok, Some(3), 5)]), Some(("near".into(), 3, 5)));
        assert_eq!(of(&[far, ("a", State::Unknown, Some(30), 5)]), Some(("a".into(), 30, 5)), "a tie");
        let gone = ("near", State::Unreachable, Some(3), 50);
        assert_eq!(of(&[far, gone]), Some(("far".into(), 30, 9)), "what answered once is not near now");
        assert_eq!(of(&[gone, ("mute", State::Unknown, None, 50)]), None);
    }
}
