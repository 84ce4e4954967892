//! What one page of coderd's metrics says, and what several of them in a row come to.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::histogram::{Histogram, Range};
use crate::mesh::cause::ms;
use crate::mesh::distribution::Distribution;

/// As long as the links' window at one outcome a second, so that both speak of the same time.
const WINDOW: Duration = Duration::from_secs(300);
/// With fewer observations nothing is said.
pub const FEWEST: u64 = 5;
/// A page every 15 s, for the length of the window, and the one before.
const PAGES_AT_MOST: usize = 22;
/// Our clock and coderd's may differ by this much.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);
/// After so many pages of one process, the others are believed to be gone.
const PAGES_OF_ONE: u32 = 10;

/// Who carries coderd's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// LISTEN/NOTIFY of PostgreSQL.
    Postgres,
    /// The server of NATS within coderd.
    Nats,
    /// The metrics do not say.
    Unknown,
}

impl Backend {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Nats => "nats",
            Self::Unknown => "unknown",
        }
    }
}

/// What a page says of one latency of the pubsub: all since coderd's start, or the last one alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Latency {
    /// Since mid-2026.
    Histogram(Histogram),
    /// Before: measured while the page was written.
    Gauge(Duration),
}

/// The latencies of one backend, from coderd to itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pubsub {
    /// Until a message is handed over.
    pub send: Option<Latency>,
    /// Until it is back.
    pub receive: Option<Latency>,
}

/// What one page says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// When the process began, since the epoch, by its own clock.
    pub started: Option<Duration>,
    /// When it was read, since the epoch, by our own clock.
    pub read: Option<Duration>,
    /// Whether any query is counted, as `CODER_PROMETHEUS_COLLECT_DB_METRICS` asks.
    pub collects_queries: bool,
    /// Pings of the database, with the wait for a connection of the pool.
    pub ping: Option<Histogram>,
    /// API requests of all methods and paths.
    pub api: Option<Histogram>,
    /// By backend.
    pub pubsub: BTreeMap<Backend, Pubsub>,
}

impl Page {
    fn histograms(&self) -> impl Iterator<Item = (u8, Option<Backend>, &Histogram)> {
        let pubsub = self.pubsub.iter().flat_map(|(backend, pubsub)| {
            [(2, &pubsub.send), (3, &pubsub.receive)].into_iter().filter_map(move |(which, latency)| {
                match latency {
                    Some(Latency::Histogram(histogram)) => Some((which, Some(*backend), histogram)),
                    _ => None,
                }
            })
        });
        let others = [(0, None, self.ping.as_ref()), (1, None, self.api.as_ref())];
        others
            .into_iter()
            .filter_map(|(which, backend, histogram)| Some((which, backend, histogram?)))
            .chain(pubsub)
    }

    /// Whether the process that it comes from ran beside the one of the page before, by when they began. A new one in the
    /// place of an old one begins after the last page of that.
    fn is_beside(&self, before: &Self) -> bool {
        let (Some(started), Some(other)) = (self.started, before.started) else { return false };
        let both_ran = before.read.is_some_and(|read| started + CLOCKS_DIFFER < read);
        started != other && (started < other || both_ran)
    }

    /// Whether it comes from another process than the page before did: its counters began anew.
    fn is_restarted(&self, before: &Self) -> bool {
        if self.started.is_some() && before.started.is_some() && self.started != before.started {
            return true;
        }
        before.histograms().any(|(which, backend, old)| {
            let now = self.histograms().find(|(w, b, _)| (*w, *b) == (which, backend));
            now.is_none_or(|(_, _, histogram)| histogram.since(old).is_none())
        })
    }
}

/// A figure of Coder's, with what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// The observations.
    pub values: Values,
    /// How long they were gathered; `None` since coderd's start.
    pub covered: Option<Duration>,
}

/// Observations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// Counted between edges.
    Histogram(Histogram),
    /// A value for each page, oldest first; never empty.
    Readings(Vec<Duration>),
}

impl Figure {
    /// How many there are.
    pub fn count(&self) -> u64 {
        match &self.values {
            Values::Histogram(histogram) => histogram.count(),
            Values::Readings(readings) => u64::try_from(readings.len()).unwrap_or(u64::MAX),
        }
    }

    /// Where the quantile lies; a reading is exact.
    pub fn quantile(&self, quantile: f64) -> Option<Range> {
        match &self.values {
            Values::Histogram(histogram) => histogram.quantile(quantile),
            Values::Readings(readings) => {
                let value = Distribution::of(readings.clone()).quantile(quantile)?;
                Some(Range { from: value, to: Some(value) })
            }
        }
    }

    /// The 95th percentile: «5 to 10 ms», or «6.20 ms» where it is exact.
    pub fn p95_in_words(&self) -> String {
        match (&self.values, self.quantile(0.95)) {
            (_, None) => "an unknown time".to_owned(),
            (Values::Readings(_), Some(exact)) => ms(exact.from),
            (Values::Histogram(_), Some(range)) => range.to_string(),
        }
    }

    /// How many took `limit` or longer: at least, and at most.
    pub fn over(&self, limit: Duration) -> (u64, u64) {
        match &self.values {
            Values::Histogram(histogram) => histogram.over(limit),
            Values::Readings(readings) => {
                let over = readings.iter().filter(|reading| **reading >= limit).count();
                let over = u64::try_from(over).unwrap_or(u64::MAX);
                (over, over)
            }
        }
    }
}

/// The figures of one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PubsubFigures {
    /// Which.
    pub backend: Backend,
    /// See [`Pubsub`].
    pub send: Option<Figure>,
    /// See [`Pubsub`].
    pub receive: Option<Figure>,
}

/// The last pages of one coderd.
#[derive(Debug, Clone)]
pub struct Pages {
    pages: VecDeque<(Duration, Page)>,
    failure: Option<String>,
    every: Duration,
    /// When counters began anew last, without anything that would tell why.
    fell: Option<Duration>,
    /// When it was seen last that several processes answer at this address.
    several: Option<Duration>,
}

impl Pages {
    /// None yet; one is expected every so often.
    pub fn new(every: Duration) -> Self {
        Self { pages: VecDeque::new(), failure: None, every, fell: None, several: None }
    }

    /// Takes in a page that was read at `now`; whether the one before had failed.
    pub fn read(&mut self, page: Page, now: Duration) -> bool {
        if let Some((at, last)) = self.pages.back()
            && page.is_restarted(last)
        {
            let began = *at;
            let again = self.fell.is_some_and(|at| now.saturating_sub(at) <= self.memory());
            let is_told_apart = page.started.is_some() && last.started.is_some();
            let several = page.is_beside(last) || (again && !is_told_apart);
            self.fell = Some(now);
            self.pages.clear();
            if several {
                // The counters of two processes have no difference.
                self.several = Some(now);
            } else {
                // All counters of a new process began at nothing, after the last page of the old one.
                self.pages.push_back((began, Page::default()));
            }
        }
        self.pages.push_back((now, page));
        let window = WINDOW.max(self.every);
        while self.pages.len() > PAGES_AT_MOST
            || (self.pages.len() > 2
                && self.pages.front().is_some_and(|(at, _)| now.saturating_sub(*at) > window))
        {
            self.pages.pop_front();
        }
        self.failure.take().is_some()
    }

    /// Whether several processes answer at this address, as behind a Service over several replicas: then it is known of none
    /// of them what it did between two pages.
    pub fn are_of_several(&self, now: Duration) -> bool {
        self.several.is_some_and(|at| now.saturating_sub(at) <= self.memory())
    }

    fn memory(&self) -> Duration {
        WINDOW.max(self.every * PAGES_OF_ONE)
    }

    /// Takes in that there was no page, and why; whether that is news.
    pub fn failed(&mut self, why: String) -> bool {
        self.failure.replace(why).is_none()
    }

    /// Why the last page did not come.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// How old the last page is.
    pub fn age(&self, now: Duration) -> Option<Duration> {
        self.pages.back().map(|(at, _)| now.saturating_sub(*at))
    }

    /// The last page, while it says something about now.
    pub fn fresh(&self, now: Duration) -> Option<&Page> {
        let patience = self.every * 2 + Duration::from_secs(10);
        self.pages.back().filter(|(at, _)| now.saturating_sub(*at) <= patience).map(|(_, page)| page)
    }

    /// The pings of the database.
    pub fn ping(&self) -> Option<Figure> {
        self.figure(|page| page.ping.as_ref())
    }

    /// The API requests.
    pub fn api(&self) -> Option<Figure> {
        self.figure(|page| page.api.as_ref())
    }

    /// The latencies of the pubsub, by backend.
    pub fn pubsub(&self) -> Vec<PubsubFigures> {
        let Some((_, last)) = self.pages.back() else { return Vec::new() };
        let of = |backend, which: fn(&Pubsub) -> &Option<Latency>| {
            self.latency(|page| which(page.pubsub.get(&backend)?).as_ref())
        };
        let backends = last.pubsub.keys().copied();
        backends
            .map(|backend| PubsubFigures {
                backend,
                send: of(backend, |pubsub| &pubsub.send),
                receive: of(backend, |pubsub| &pubsub.receive),
            })
            .collect()
    }

    fn latency<'a>(&'a self, of: impl Fn(&'a Page) -> Option<&'a Latency>) -> Option<Figure> {
        match of(&self.pages.back()?.1)? {
            Latency::Histogram(_) => self.figure(|page| match of(page)? {
                Latency::Histogram(histogram) => Some(histogram),
                Latency::Gauge(_) => None,
            }),
            Latency::Gauge(_) => {
                let readings = self.pages.iter().filter_map(|(_, page)| match of(page)? {
                    Latency::Gauge(reading) => Some(*reading),
                    Latency::Histogram(_) => None,
                });
                Some(Figure { values: Values::Readings(readings.collect()), covered: self.covered() })
            }
        }
    }

    /// The difference between the last page and the first, or all since coderd's start where that is too little.
    fn figure<'a>(&'a self, of: impl Fn(&'a Page) -> Option<&'a Histogram>) -> Option<Figure> {
        let ((_, first), (_, last)) = (self.pages.front()?, self.pages.back()?);
        let all = of(last)?;
        let lately = if self.pages.len() < 2 {
            None
        } else {
            // What the first page did not have began after it, at nothing.
            of(first).map_or_else(|| Some(all.clone()), |before| all.since(before))
        };
        let (histogram, covered) = match lately {
            Some(lately) if lately.count() >= FEWEST || lately.count() == all.count() => {
                (lately, self.covered())
            }
            _ => (all.clone(), None),
        };
        Some(Figure { values: Values::Histogram(histogram), covered })
    }

    fn covered(&self) -> Option<Duration> {
        let ((first, _), (last, _)) = (self.pages.front()?, self.pages.back()?);
        Some(last.saturating_sub(*first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pings(fast: u64, slow: u64) -> Page {
        let mut ping = Histogram::default();
        ping.add(Duration::from_millis(5), fast);
        ping.add(Duration::from_millis(50), fast + slow);
        ping.add(Duration::MAX, fast + slow);
        Page { ping: Some(ping), collects_queries: true, ..Page::default() }
    }

    fn pages(all: impl IntoIterator<Item = (u64, Page)>) -> Pages {
        let mut pages = Pages::new(at(30));
        for (second, page) in all {
            pages.read(page, at(second));
        }
        pages
    }

    #[test]
    fn two_pages_tell_of_the_time_between_them_and_one_of_all_since_the_start() {
        let one = pages([(0, pings(1000, 0))]).ping().unwrap();
        assert_eq!((one.count(), one.covered), (1000, None));
        let two = pages([(0, pings(1000, 0)), (30, pings(1002, 4))]).ping().unwrap();
        assert_eq!((two.count(), two.covered), (6, Some(at(30))));
        assert_eq!(
            two.quantile(0.95).unwrap().to_string(),
            "5 to 50 ms",
            "a thousand good ones do not hide four"
        );
        let few = pages([(0, pings(1000, 0)), (12, pings(1002, 0))]).ping().unwrap();
        assert_eq!((few.count(), few.covered), (1002, None), "two pings are too few, so all are taken");
    }

    #[test]
    fn a_restart_begins_at_nothing_whether_the_counters_fell_or_the_process_says_so() {
        let fell = pages([(0, pings(1000, 0)), (30, pings(2, 5))]).ping().unwrap();
        assert_eq!((fell.count(), fell.covered), (7, Some(at(30))));
        let started = |second, page| Page { started: Some(at(second)), ..page };
        let grew = pages([(0, started(5, pings(10, 0))), (30, started(6, pings(12, 5)))]).ping().unwrap();
        assert_eq!((grew.count(), grew.covered), (17, Some(at(30))), "although no counter fell");
        let same = pages([(0, started(5, pings(10, 0))), (30, started(5, pings(12, 5)))]).ping().unwrap();
        assert_eq!(same.count(), 7);
    }

    #[test]
    fn several_processes_at_one_address_are_told_from_a_restart_and_have_no_difference() {
        let page = |started, read, count| Page {
            started: Some(at(started)),
            read: Some(at(read)),
            ..pings(count, 0)
        };
        // A Service over two replicas that have run for days.
        let mut service = pages([(0, page(100, 9000, 1000))]);
        assert!(!service.are_of_several(at(0)));
        service.read(page(200, 9030, 7000), at(30));
        assert!(service.are_of_several(at(30)), "both ran when the first was asked");
        let ping = service.ping().unwrap();
        assert_eq!((ping.count(), ping.covered), (7000, None), "no difference of two processes");
        for turn in 2..=20_u64 {
            service.read(page(200, 9000 + 30 * turn, 7000 + 6 * turn), at(30 * turn));
        }
        assert!(!service.are_of_several(at(600)), "one of them is left");
        // What began before the one that was asked last is no successor of it, whatever the clocks say.
        let mut back = pages([(0, Page { read: None, ..page(200, 0, 5) })]);
        back.read(Page { read: None, ..page(100, 0, 9) }, at(30));
        assert!(back.are_of_several(at(30)));
        // A restart, and one by a clock that is a little behind ours.
        let restarted = pages([(0, page(100, 9000, 1000)), (30, page(9010, 9030, 7))]);
        let behind = pages([(0, page(100, 9000, 1000)), (30, page(8950, 9030, 7))]);
        assert!(!restarted.are_of_several(at(30)) && !behind.are_of_several(at(30)));
        assert_eq!(restarted.ping().unwrap().covered, Some(at(30)));
        // Without that, counters that fall once may be a restart, and twice within the window are none.
        let unknown = [1000, 7, 1010, 13];
        let mut unknown = unknown.iter().zip(0..).map(|(count, turn)| (30 * turn, pings(*count, 0)));
        let mut pages = pages(unknown.by_ref().take(3));
        assert!(!pages.are_of_several(at(60)));
        pages.read(unknown.next().unwrap().1, at(90));
        assert!(pages.are_of_several(at(90)));
    }

    #[test]
    fn pages_are_kept_for_five_minutes_and_never_too_many() {
        let kept = pages((0..=40).map(|page| (page * 30, pings(page * 6, 0))));
        let ping = kept.ping().unwrap();
        assert_eq!((ping.count(), ping.covered), (60, Some(at(300))));
        let rare = pages((0..=4).map(|page| (page * 3600, pings(page * 720, 0))));
        assert_eq!(rare.ping().unwrap().covered, Some(at(3600)), "two pages are always kept");
        let often = pages((0..=400).map(|page| (page, pings(page, 0))));
        assert!(often.pages.len() <= PAGES_AT_MOST);
    }

    #[test]
    fn gauges_are_gathered_from_page_to_page() {
        let gauge = |ms| {
            let send = Some(Latency::Gauge(Duration::from_millis(ms)));
            let pubsub = BTreeMap::from([(Backend::Postgres, Pubsub { send, receive: None })]);
            Page { pubsub, ..Page::default() }
        };
        let pubsub = pages([(0, gauge(7)), (30, gauge(900)), (60, gauge(3))]).pubsub();
        let send = pubsub[0].send.as_ref().unwrap();
        assert_eq!((send.count(), send.covered), (3, Some(at(60))));
        let exact = Duration::from_millis(7);
        assert_eq!(send.quantile(0.5), Some(Range { from: exact, to: Some(exact) }));
        assert_eq!((pubsub[0].backend, pubsub[0].receive.as_ref()), (Backend::Postgres, None));
    }

    #[test]
    fn an_old_page_says_nothing_about_now_and_a_failure_is_news_once() {
        let mut pages = pages([(0, pings(10, 0))]);
        assert!(pages.fresh(at(60)).is_some());
        assert!(pages.failed("gone".into()) && !pages.failed("still gone".into()));
        assert_eq!((pages.fresh(at(100)), pages.failure()), (None, Some("still gone")));
        assert!(pages.read(pings(11, 0), at(120)));
        assert_eq!(pages.failure(), None);
    }
}
