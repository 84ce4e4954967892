//! Whose slowness it is: our own measurements held beside what coderd's metrics say of the same time.
//!
//! Coder's ping of its database takes the network, the server and the wait for a free connection of coderd's pool; our
//! queries take the network and the server. What only coderd's pings have is therefore the database's under coderd's load
//! or the pool's, and what neither has but API requests do is coderd's own. Every figure of a histogram is a stretch
//! between two edges, and only what holds for the whole stretch decides: docs/attribution.md has the table.
//!
//! It is an explanation and no finding: no exit code and no state follows from it.

use std::time::Duration;

use serde::Serialize;

use super::binomial;

mod histogram;
mod ours;
mod page;

pub use histogram::{Histogram, Range};
pub use ours::{Level as OurLevel, OurLink};
pub use page::{Backend, FEWEST, Figure, Latency, Page, Pages, Pubsub, PubsubFigures, Values};

/// From here on people feel it, by the dashboards of Coder's observability chart. It is an edge of the API's buckets.
pub const SLUGGISH: Duration = Duration::from_millis(500);
/// What the database is held against where it is not measured from here.
const BUDGET: Duration = Duration::from_millis(10);
const QUANTILE: f64 = 0.95;
/// How often a share of slow ones that is allowed may be taken for one that is not.
const ALPHA: f64 = 0.05;

/// Where the slowness comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// From nowhere.
    NothingSlow,
    /// From the way between the servers.
    Network,
    /// From the database, or from coderd's pool of connections to it.
    Database,
    /// From coderd itself.
    Coderd,
    /// It cannot be told.
    Unknown,
}

impl Origin {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NothingSlow => "nothing_slow",
            Self::Network => "network",
            Self::Database => "database",
            Self::Coderd => "coderd",
            Self::Unknown => "unknown",
        }
    }
}

/// What one coderd's metrics come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribution {
    /// Where they were read, without a query.
    pub url: String,
    /// Where the slowness comes from.
    pub origin: Origin,
    /// Why, in one sentence with its figures.
    pub sentence: String,
    /// How old the figures are; `None` where there are none.
    pub age: Option<Duration>,
    /// Why they could not be read the last time.
    pub failure: Option<String>,
    /// Our link to the database.
    pub database: Option<OurLink>,
    /// What it and coderd's pings are held against.
    pub budget: Duration,
    /// Coderd's pings of its database.
    pub ping: Option<Figure>,
    /// Its API requests.
    pub api: Option<Figure>,
    /// Its pubsub, by backend.
    pub pubsub: Vec<PubsubFigures>,
}

/// How one of Coder's figures does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Missing,
    TooFew,
    Fast,
    /// Neither surely within the limit nor surely over it.
    Unclear,
    Slow,
}

impl Level {
    fn of(figure: Option<&Figure>, limit: Duration) -> Self {
        let Some(figure) = figure else { return Self::Missing };
        let count = figure.count();
        if count < FEWEST {
            return Self::TooFew;
        }
        let Some(range) = figure.quantile(QUANTILE) else { return Self::TooFew };
        if range.to.is_some_and(|to| to <= limit) {
            return Self::Fast;
        }
        // Among a few pings one slow one is no wonder; among many, the quantile says it all.
        let (over, _) = figure.over(limit);
        let is_no_chance = match (u32::try_from(over), u32::try_from(count)) {
            (Ok(over), Ok(count)) if count < 10_000 => {
                binomial::at_least(over, count, 1.0 - QUANTILE) <= ALPHA
            }
            _ => true,
        };
        if range.from >= limit && is_no_chance { Self::Slow } else { Self::Unclear }
    }
}

/// Holds the pages of the coderd at `url` beside our own links.
pub fn judge(url: &str, ours: &[OurLink], pages: &Pages, now: Duration) -> Attribution {
    let database = ours.iter().filter(|link| link.is_database).max_by_key(|link| link.level).cloned();
    let budget = database.as_ref().map_or(BUDGET, |link| link.budget);
    let mut attribution = Attribution {
        url: url.to_owned(),
        origin: Origin::Unknown,
        sentence: String::new(),
        age: pages.age(now),
        failure: pages.failure().map(str::to_owned),
        database,
        budget,
        ping: pages.ping(),
        api: pages.api(),
        pubsub: pages.pubsub(),
    };
    let Some(page) = pages.fresh(now) else {
        attribution.sentence = match (pages.failure(), attribution.age) {
            (Some(why), _) => format!("it cannot be told: {why}"),
            (None, None) => "it cannot be told: its metrics have not been read yet".to_owned(),
            (None, Some(age)) => format!("it cannot be told: its metrics are {} s old", age.as_secs()),
        };
        return attribution;
    };
    if pages.are_of_several(now) {
        (attribution.ping, attribution.api, attribution.pubsub) = (None, None, Vec::new());
        "it cannot be told: more than one process answers at this address in turn, as behind a Service over several \
         replicas; give one address for each replica"
            .clone_into(&mut attribution.sentence);
        return attribution;
    }
    let peer = ours.iter().filter(|link| !link.is_database && link.level == OurLevel::SlowWay);
    let seen = Seen {
        attribution: &attribution,
        collects_queries: page.collects_queries,
        peer: peer.max_by_key(|link| link.p95),
        ping: Level::of(attribution.ping.as_ref(), budget),
        api: Level::of(attribution.api.as_ref(), SLUGGISH),
        sluggish: sluggish(&attribution.pubsub),
    };
    (attribution.origin, attribution.sentence) = seen.judge();
    attribution
}

/// The backend through which messages surely take long, if any.
fn sluggish(pubsub: &[PubsubFigures]) -> Option<(Backend, &Figure)> {
    let all = pubsub.iter().flat_map(|one| [(one.backend, &one.receive), (one.backend, &one.send)]);
    all.filter_map(|(backend, figure)| Some((backend, figure.as_ref()?)))
        .find(|(_, figure)| Level::of(Some(figure), SLUGGISH) == Level::Slow)
}

struct Seen<'a> {
    attribution: &'a Attribution,
    collects_queries: bool,
    /// A peer that is surely far.
    peer: Option<&'a OurLink>,
    ping: Level,
    api: Level,
    sluggish: Option<(Backend, &'a Figure)>,
}

impl Seen<'_> {
    /// The table of docs/attribution.md.
    fn judge(&self) -> (Origin, String) {
        let database = self.attribution.database.as_ref();
        let ours = database.map_or(OurLevel::Unknown, |link| link.level);
        let api_or_pubsub = self.api == Level::Slow || self.sluggish.is_some();
        let (origin, lead) = match (ours, self.ping) {
            (OurLevel::SlowWay, Level::Fast | Level::Unclear | Level::Slow) if self.contradicts() => (
                Origin::Unknown,
                "it cannot be told, since coderd seems to take another way to its database than we do",
            ),
            (OurLevel::SlowWay, _) => (Origin::Network, "the way to the database is slow"),
            (OurLevel::SlowServer, _) => (Origin::Database, "the database is slow, or what stands before it"),
            (OurLevel::Fast, Level::Slow) => {
                (Origin::Database, "the database under coderd's load or coderd's pool of connections is slow")
            }
            (OurLevel::Unknown, Level::Slow) => {
                (Origin::Unknown, "it cannot be told whether the way to the database or the database is slow")
            }
            (_, Level::Fast | Level::Missing) if ours == OurLevel::Fast || self.ping == Level::Fast => {
                match (self.peer, api_or_pubsub, self.api, self.ping) {
                    (Some(_), ..) => (Origin::Network, "the way to another replica is slow"),
                    (None, true, _, Level::Fast) if self.notify_alone() => (
                        Origin::Unknown,
                        "it cannot be told whether PostgreSQL's NOTIFY or coderd holds its messages up",
                    ),
                    (None, true, _, Level::Fast) => (Origin::Coderd, "coderd itself is slow"),
                    (None, true, ..) => {
                        (Origin::Unknown, "it cannot be told whether coderd or its database is slow")
                    }
                    (None, false, Level::Fast, _) => (Origin::NothingSlow, "nothing is slow"),
                    (None, false, ..) => (Origin::Unknown, "it cannot be told how coderd itself does"),
                }
            }
            _ if self.peer.is_some() => (Origin::Network, "the way to another replica is slow"),
            _ => (Origin::Unknown, "it cannot be told how coderd's database does"),
        };
        let parts = [Some(self.our_database()), self.our_peer(), Some(self.pings()), Some(self.requests())];
        let parts: Vec<_> = parts.into_iter().flatten().chain(self.messages()).collect();
        (origin, format!("{lead}: {}", parts.join("; ")))
    }

    /// Our way is far by at least half of our queries, while by at least half of its pings coderd's is not.
    fn contradicts(&self) -> bool {
        let Attribution { database, ping, budget, .. } = self.attribution;
        let p50 = database.as_ref().and_then(|link| link.p50);
        let theirs = ping.as_ref().and_then(|ping| ping.quantile(0.5)).and_then(|range| range.to);
        p50.is_some_and(|p50| p50 >= *budget) && theirs.is_some_and(|theirs| theirs <= *budget)
    }

    /// Only messages through PostgreSQL are slow: its NOTIFY takes one lock for all of a database.
    fn notify_alone(&self) -> bool {
        self.api != Level::Slow && self.sluggish.is_some_and(|(backend, _)| backend != Backend::Nats)
    }

    fn our_database(&self) -> String {
        let Some(link) = &self.attribution.database else {
            return "no database is measured from here".to_owned();
        };
        let budget = edge(link.budget);
        match link.level {
            OurLevel::Fast => {
                format!("our queries to {} are within {budget} ({})", link.name, link.figures())
            }
            OurLevel::Unknown => {
                format!(
                    "whether our queries to {} are within {budget} is not known ({})",
                    link.name,
                    link.figures()
                )
            }
            OurLevel::SlowServer | OurLevel::SlowWay => {
                format!("our queries to {} are over {budget} ({})", link.name, link.figures())
            }
        }
    }

    fn our_peer(&self) -> Option<String> {
        let peer = self.peer?;
        Some(format!("our echoes to {} are over {} ({})", peer.name, edge(peer.budget), peer.figures()))
    }

    fn pings(&self) -> String {
        let budget = edge(self.attribution.budget);
        match (&self.attribution.ping, self.ping) {
            (None, _) if self.collects_queries => "coderd has not pinged its database yet".to_owned(),
            (None, _) => {
                "coderd's pings are not among its metrics (set CODER_PROMETHEUS_COLLECT_DB_METRICS=true)"
                    .to_owned()
            }
            (Some(ping), Level::TooFew) => format!("coderd pinged only {}", of(ping)),
            (Some(ping), level) => {
                let doubt = if level == Level::Unclear {
                    let (least, most) = ping.over(self.attribution.budget);
                    let over = if least == most { least.to_string() } else { format!("{least} to {most}") };
                    format!(", {over} of them over {budget}, which is too close to tell")
                } else {
                    String::new()
                };
                format!(
                    "coderd's pings, which also wait for a free connection, took {}{doubt} (p95 of {}, coderd_db_query_latencies_seconds)",
                    ping.p95_in_words(),
                    of(ping)
                )
            }
        }
    }

    fn requests(&self) -> String {
        match (&self.attribution.api, self.api) {
            (None, _) => "no API request is among its metrics".to_owned(),
            (Some(api), Level::TooFew) => format!("it answered only {} API requests", api.count()),
            (Some(api), _) => format!(
                "its API requests took {} (p95 of {}, coderd_api_request_latencies_seconds)",
                api.p95_in_words(),
                of(api)
            ),
        }
    }

    fn messages(&self) -> Option<String> {
        let (backend, figure) = self.sluggish?;
        let backend = backend.as_str();
        Some(format!("its messages through {backend} took {} (p95 of {})", figure.p95_in_words(), of(figure)))
    }
}

/// «12 within 60 s», or «4711 since its start».
fn of(figure: &Figure) -> String {
    match figure.covered {
        Some(covered) => format!("{} within {:.0} s", figure.count(), covered.as_secs_f64()),
        None => format!("{} since its start, not just now", figure.count()),
    }
}

fn edge(duration: Duration) -> String {
    let (number, unit) = histogram::in_words(duration);
    format!("{number} {unit}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOW: Duration = Duration::from_secs(60);

    fn ms_of(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1000.0)
    }

    /// So many in each stretch up to 5, 10, 25, 500 ms, and beyond.
    fn histogram(counts: [u64; 5]) -> Histogram {
        let mut histogram = Histogram::default();
        let mut sum = 0;
        let edges = [5.0, 10.0, 25.0, 500.0].map(ms_of).into_iter().chain([Duration::MAX]);
        for (edge, count) in edges.zip(counts) {
            sum += count;
            histogram.add(edge, sum);
        }
        histogram
    }

    fn page(ping: Option<[u64; 5]>, api: Option<[u64; 5]>) -> Page {
        Page {
            collects_queries: ping.is_some(),
            ping: ping.map(histogram),
            api: api.map(histogram),
            ..Page::default()
        }
    }

    /// What was observed in the last minute, after an empty page.
    fn pages(page: Page) -> Pages {
        let mut pages = Pages::new(Duration::from_secs(30));
        let none = Some(histogram([0; 5]));
        pages.read(Page { ping: none.clone(), api: none, ..Page::default() }, Duration::ZERO);
        let (ping, api) = (page.ping.clone(), page.api.clone());
        pages.read(page, NOW);
        assert_eq!((pages.ping().is_some(), pages.api().is_some()), (ping.is_some(), api.is_some()));
        pages
    }

    fn link(is_database: bool, level: OurLevel, p50: f64) -> OurLink {
        OurLink {
            name: if is_database { "db:5432/coder" } else { "coderd-2" }.into(),
            is_database,
            budget: ms_of(10.0),
            level,
            reason: "placement",
            samples: 300,
            p50: Some(ms_of(p50)),
            p95: Some(ms_of(p50 + 1.0)),
        }
    }

    const FAST: Option<[u64; 5]> = Some([12, 0, 0, 0, 0]);
    const SLOW: Option<[u64; 5]> = Some([2, 0, 10, 0, 0]);
    const API: Option<[u64; 5]> = Some([50, 30, 10, 10, 0]);
    const SLOW_API: Option<[u64; 5]> = Some([50, 0, 0, 0, 50]);

    #[test]
    fn who_is_slow_is_who_takes_the_time_that_the_others_do_not() {
        use OurLevel::{Fast, SlowServer, SlowWay, Unknown};
        let near = || link(true, Fast, 0.6);
        let far = || link(true, SlowWay, 23.0);
        let peer_far = || link(false, SlowWay, 30.0);
        for (ours, ping, api, origin, part) in [
            (vec![near()], FAST, API, Origin::NothingSlow, "at most 5 ms (p95 of 12 within 60 s"),
            (vec![near()], SLOW, API, Origin::Database, "coderd's pool of connections"),
            (vec![near()], FAST, SLOW_API, Origin::Coderd, "more than 500 ms (p95 of 100"),
            (vec![far()], SLOW, API, Origin::Network, "p95 24.0 ms of 300, placement"),
            (vec![far()], None, API, Origin::Network, "CODER_PROMETHEUS_COLLECT_DB_METRICS"),
            (vec![far()], FAST, API, Origin::Unknown, "another way"),
            (vec![link(true, SlowWay, 3.0)], FAST, API, Origin::Network, "over 10 ms"),
            (vec![link(true, SlowServer, 23.0)], SLOW, API, Origin::Database, "the database is slow"),
            (vec![near(), peer_far()], FAST, API, Origin::Network, "another replica"),
            (vec![near(), peer_far()], FAST, SLOW_API, Origin::Network, "more than 500 ms"),
            (vec![near(), peer_far()], SLOW, API, Origin::Database, "echoes to coderd-2 are over 10 ms"),
            (vec![near(), far()], SLOW, API, Origin::Network, "p95 24.0 ms"),
            (vec![near()], None, API, Origin::NothingSlow, "CODER_PROMETHEUS_COLLECT_DB_METRICS"),
            (vec![near()], None, SLOW_API, Origin::Unknown, "whether coderd or its database"),
            (vec![near()], Some([4, 0, 0, 0, 0]), API, Origin::Unknown, "pinged only 4"),
            (vec![near()], FAST, Some([4, 0, 0, 0, 0]), Origin::Unknown, "only 4 API requests"),
            (vec![near()], FAST, None, Origin::Unknown, "no API request"),
            (vec![near()], Some([6, 0, 1, 0, 0]), API, Origin::Unknown, "1 of them over 10 ms"),
            (vec![], FAST, API, Origin::NothingSlow, "no database is measured from here"),
            (vec![], FAST, SLOW_API, Origin::Coderd, "no database"),
            (vec![], SLOW, API, Origin::Unknown, "the way to the database or the database"),
            (vec![link(true, Unknown, 0.5)], SLOW, API, Origin::Unknown, "is not known"),
            (vec![link(true, Unknown, 0.5)], FAST, API, Origin::NothingSlow, "is not known"),
            (vec![], None, None, Origin::Unknown, "no API request"),
            (vec![peer_far()], None, None, Origin::Network, "another replica"),
        ] {
            let all = pages(page(ping, api));
            let told = judge("http://coderd/", &ours, &all, NOW);
            assert_eq!(told.origin, origin, "{}", told.sentence);
            assert!(told.sentence.contains(part), "{part}: {}", told.sentence);
        }
    }

    #[test]
    fn only_what_holds_for_a_whole_stretch_is_said() {
        let at = |budget: f64, ping| {
            let near = OurLink { budget: ms_of(budget), ..link(true, OurLevel::Fast, 0.6) };
            judge("u", &[near], &pages(page(Some(ping), API)), NOW).origin
        };
        assert_eq!(at(10.0, [0, 12, 0, 0, 0]), Origin::NothingSlow, "5 to 10 ms");
        assert_eq!(at(8.0, [0, 12, 0, 0, 0]), Origin::Unknown, "8 ms lies within");
        assert_eq!(at(5.0, [0, 12, 0, 0, 0]), Origin::Database);
        assert_eq!(at(10.0, [0, 0, 12, 0, 0]), Origin::Database, "10 to 25 ms");
        // The same share of slow ones: among 20 it may be chance, among 200 it is none.
        assert_eq!(at(10.0, [18, 0, 2, 0, 0]), Origin::Unknown);
        assert_eq!(at(10.0, [180, 0, 20, 0, 0]), Origin::Database);
        assert_eq!(at(10.0, [18_000, 0, 2_000, 0, 0]), Origin::Database);
    }

    #[test]
    fn messages_that_take_long_are_coderds_own_only_where_no_database_is_on_their_way() {
        let near = [link(true, OurLevel::Fast, 0.6)];
        let told = |backend, latency: Latency| {
            let pubsub = BTreeMap::from([(backend, Pubsub { send: None, receive: Some(latency.clone()) })]);
            let mut all = pages(Page { pubsub: pubsub.clone(), ..page(FAST, API) });
            for second in [70, 80] {
                all.read(Page { pubsub: pubsub.clone(), ..page(FAST, API) }, Duration::from_secs(second));
            }
            judge("u", &near, &all, Duration::from_secs(80))
        };
        let slow = || Latency::Histogram(histogram([0, 0, 0, 0, 9]));
        assert_eq!(told(Backend::Nats, slow()).origin, Origin::Coderd);
        assert_eq!(told(Backend::Postgres, slow()).origin, Origin::Unknown);
        assert!(told(Backend::Postgres, slow()).sentence.contains("NOTIFY"));
        let fast = told(Backend::Nats, Latency::Histogram(histogram([9, 0, 0, 0, 0])));
        assert_eq!((fast.origin, fast.pubsub[0].backend), (Origin::NothingSlow, Backend::Nats));
        let few = told(Backend::Nats, Latency::Gauge(ms_of(900.0)));
        assert_eq!(few.origin, Origin::NothingSlow, "three readings are too few");
    }

    #[test]
    fn without_a_fresh_page_nothing_is_told_but_why() {
        let near = [link(true, OurLevel::Fast, 0.6)];
        let mut all = Pages::new(Duration::from_secs(30));
        let told = |all: &Pages, now| judge("u", &near, all, Duration::from_secs(now));
        assert!(told(&all, 0).sentence.contains("not been read yet"));
        all.failed("nobody is there".into());
        assert!(told(&all, 0).sentence.contains("nobody is there"));
        all.read(page(FAST, API), Duration::ZERO);
        assert_eq!(told(&all, 60).origin, Origin::NothingSlow);
        assert!(told(&all, 60).sentence.contains("12 since its start, not just now"));
        let old = told(&all, 200);
        assert_eq!((old.origin, old.age), (Origin::Unknown, Some(Duration::from_secs(200))));
        assert!(old.sentence.contains("200 s old"), "{}", old.sentence);
    }

    #[test]
    fn of_several_coderds_at_one_address_nothing_is_said() {
        let started = |started, page| Page { started: Some(Duration::from_secs(started)), ..page };
        let mut pages = Pages::new(Duration::from_secs(30));
        pages.read(started(9, page(FAST, API)), Duration::from_secs(30));
        pages.read(started(5, page(FAST, API)), NOW);
        let told = judge("http://coder:2112/metrics", &[], &pages, NOW);
        assert_eq!((told.origin, &told.ping, &told.api), (Origin::Unknown, &None, &None));
        assert!(told.sentence.contains("give one address for each replica"), "{}", told.sentence);
    }
}
