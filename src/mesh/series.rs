//! All that is kept of one link: its outcomes, its floor, and the bare connects that tell a busy server from a far one.

use std::collections::VecDeque;
use std::time::Duration;

use probes::sample::{Outcome, Sample, Timing};

use super::distribution::Distribution;
use super::floor::{Floor, RouteChange};
use super::openings::Openings;
use super::window::{WAIT_AT_MOST, Window};

const CONNECTS_KEPT: usize = 10;
/// Older connects say nothing about what is slow now.
const CONNECTS_COUNT_FOR: Duration = Duration::from_secs(90);
/// But of how far the server is they tell for longer, unless it is another one.
const CONNECTS_MEASURE_FOR: Duration = Duration::from_secs(600);
/// So many connects and so many replies before a round trip is split by them.
const CONNECTS_TO_SPLIT: u32 = 3;
const REPLIES_FOR_P95: usize = 20;
/// So many comparisons are needed before a terminator is suspected, and between two of them so much time, lest one stall
/// of a server be taken for a pooler.
const COMPARISONS: u32 = 5;
const COMPARE_EVERY: Duration = Duration::from_secs(20);
const COMPARE_EVERY_IN_A_LOOK: Duration = Duration::from_secs(2);
/// How many GETs on a fresh connection are kept: ten minutes of them.
const FRESH_KEPT: usize = 10;
/// A kernel sends a lost SYN again after so long: such a connect tells of a loss, not of a distance.
const SYN_SENT_AGAIN: Duration = Duration::from_secs(1);

/// Bare connects of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BareConnects {
    /// How many.
    pub count: u32,
    /// The fastest.
    pub min: Duration,
    /// Their median; of an even number the lower one of the middle.
    pub p50: Duration,
}

/// A database's round trip in two: the network, by bare connects, and the rest, which is the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// The median of the bare connects.
    pub network: Duration,
    /// The median query less the network.
    pub server_p50: Option<Duration>,
    /// The 95th percentile of the queries less the network, which is the most that the server takes: jitter of the network
    /// is in it.
    pub server_p95_at_most: Option<Duration>,
}

/// One link's samples.
#[derive(Debug, Clone)]
pub struct Series {
    /// Outcomes.
    pub window: Window,
    /// Fastest round trips.
    pub floor: Floor,
    /// The relay on a fresh connection, newest last: how long the whole of it took, or that it failed.
    fresh: VecDeque<Option<Duration>>,
    /// How its connection was opened.
    pub openings: Openings,
    /// When, and how many nanoseconds: less than a second.
    connects: VecDeque<(Duration, u32)>,
    /// One bit a comparison, newest lowest: the connect was far faster than the query's way through the network.
    compared: u16,
    comparisons: u32,
    compared_at: Option<Duration>,
}

impl Series {
    /// An empty series over this window.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            floor: Floor::default(),
            openings: Openings::default(),
            connects: VecDeque::with_capacity(CONNECTS_KEPT),
            fresh: VecDeque::new(),
            compared: 0,
            comparisons: 0,
            compared_at: None,
        }
    }

    /// Takes in an attempt to open the connection, at `at` since the series began.
    pub fn opened(&mut self, sample: &Sample, at: Duration) {
        self.window.opened(sample);
        self.openings.record(sample, at);
    }

    /// Forgets what was measured: from now on it is about another server. What is counted since the start stays.
    pub fn begin_anew(&mut self) {
        self.window.keep_last(0);
        self.floor = Floor::default();
        self.connects.clear();
        (self.compared, self.comparisons, self.compared_at) = (0, 0, None);
    }

    /// Takes in the outcome of one slot, at `at` since the series began.
    pub fn record(&mut self, sample: &Sample, at: Duration) -> Option<RouteChange> {
        self.window.record(sample, at);
        let record = self.window.last(1).records().next().copied()?;
        let change = self.floor.record(record.judged_rtt()?, at)?;
        // What came before went another way.
        self.window.keep_last(usize::try_from(change.samples).unwrap_or(usize::MAX));
        Some(change)
    }

    /// Takes in a bare connect.
    pub fn connected(&mut self, sample: &Sample, at: Duration) {
        let Outcome::Ok(timing) = &sample.outcome else { return };
        if sample.own_wait > WAIT_AT_MOST {
            return;
        }
        if let Some(meter) = self.window.meters_mut().and_then(|meters| meters.connects.as_mut()) {
            meter.record(timing.rtt);
        }
        if timing.rtt >= SYN_SENT_AGAIN {
            return;
        }
        if self.connects.len() == CONNECTS_KEPT {
            self.connects.pop_front();
        }
        self.connects.push_back((at, timing.rtt.subsec_nanos()));
        let pause = if self.window.hour().is_some() { COMPARE_EVERY } else { COMPARE_EVERY_IN_A_LOOK };
        if self.compared_at.is_some_and(|before| at.saturating_sub(before) < pause) {
            return;
        }
        if let Some(network) = self.window.last(30).network().quantile(0.5) {
            let far_faster = timing.rtt.as_secs_f64() < 0.3 * network.as_secs_f64();
            let by_a_millisecond = network.saturating_sub(timing.rtt) > Duration::from_millis(1);
            self.compared = self.compared << 1 | u16::from(far_faster && by_a_millisecond);
            self.comparisons += 1;
            self.compared_at = Some(at);
        }
    }

    /// Takes in a GET of the relay on a fresh connection.
    pub fn asked_afresh(&mut self, sample: &Sample, at: Duration) {
        let phases = match &sample.outcome {
            Outcome::Ok(timing) => timing.phases,
            Outcome::SkippedSelf => return,
            _ => None,
        };
        if self.fresh.len() == FRESH_KEPT {
            self.fresh.pop_front();
        }
        let total = phases.and_then(|phases| phases.total);
        self.fresh.push_back(total);
        let meter = self.window.meters_mut().and_then(|meters| meters.afresh.as_mut());
        if let (Some(meter), Some(total), true) = (meter, total, sample.own_wait <= WAIT_AT_MOST) {
            meter.record(total);
        }
        if let Some(tcp) = phases.and_then(|phases| phases.tcp) {
            let connect =
                Sample { outcome: Outcome::Ok(Timing { rtt: tcp, ..Timing::default() }), ..sample.clone() };
            self.connected(&connect, at);
        }
    }

    /// How long the last ten GETs on a fresh connection took as a whole, and how many of the ten failed.
    pub fn fresh(&self) -> (Distribution, u32) {
        let totals: Vec<_> = self.fresh.iter().flatten().copied().collect();
        let failed = self.fresh.len() - totals.len();
        (Distribution::of(totals), u32::try_from(failed).unwrap_or(u32::MAX))
    }

    /// The bare connects of late, newest first.
    pub fn connects(&self, now: Duration) -> impl Iterator<Item = Duration> {
        let late = move |at: Duration| now.saturating_sub(at) <= CONNECTS_COUNT_FOR;
        self.connects
            .iter()
            .rev()
            .filter(move |(at, _)| late(*at))
            .map(|(_, ns)| Duration::from_nanos(u64::from(*ns)))
    }

    /// The median of the last five of them; `None` when there is none. More of them would reach back behind a failover.
    pub fn connect(&self, now: Duration) -> Option<Duration> {
        let mut last: Vec<_> = self.connects(now).take(5).collect();
        last.sort_unstable();
        last.get(last.len().checked_sub(1)? / 2).copied()
    }

    /// The last bare connects; `None` where there is none of the last ten minutes.
    pub fn bare_connects(&self, now: Duration) -> Option<BareConnects> {
        let late = |at: Duration| now.saturating_sub(at) <= CONNECTS_MEASURE_FOR;
        let connects = self.connects.iter().filter(|(at, _)| late(*at));
        let mut all: Vec<_> = connects.map(|(_, ns)| Duration::from_nanos(u64::from(*ns))).collect();
        all.sort_unstable();
        let p50 = *all.get(all.len().checked_sub(1)? / 2)?;
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
        Some(BareConnects { count, min: *all.first()?, p50 })
    }

    /// The round trip in two. `None` where too few connects were made, or where they end before the server; a share is `None`
    /// where there are too few replies, or where the connects took longer than the queries.
    pub fn split(&self, now: Duration) -> Option<Split> {
        let connects = self.bare_connects(now).filter(|connects| connects.count >= CONNECTS_TO_SPLIT)?;
        if self.tcp_terminator_suspected() {
            return None;
        }
        let (network, rtt) = (connects.p50, self.window.all().rtt());
        let rest = |quantile| rtt.quantile(quantile).and_then(|rtt| rtt.checked_sub(network));
        let server_p95_at_most = rest(0.95).filter(|_| rtt.len() >= REPLIES_FOR_P95);
        Some(Split { network, server_p50: rest(0.5), server_p95_at_most })
    }

    /// Forgets the bare connects so far: what they told was before the slowness that is to be explained.
    pub fn forget_connects(&mut self) {
        self.connects.clear();
    }

    /// Something between us and the server seems to end TCP early (a pooler, a mesh sidecar, a load balancer): in at
    /// least 80 % of the comparisons, a connect took less than 0.3 of the query's share of the network, by more than 1 ms.
    /// Then no figure of TCP says anything about the server's distance.
    pub fn tcp_terminator_suspected(&self) -> bool {
        let count = self.comparisons.min(u16::BITS);
        count >= COMPARISONS && self.compared.count_ones() * 5 >= count * 4
    }

    /// Bytes that this series takes at most.
    pub fn most_bytes(&self) -> usize {
        size_of::<Self>() - size_of::<Window>()
            + self.window.most_bytes()
            + self.openings.heap_bytes()
            + CONNECTS_KEPT.max(self.connects.capacity()) * size_of::<(Duration, u32)>()
            + self.fresh.capacity() * size_of::<Option<Duration>>()
    }
}

#[cfg(test)]
mod tests {
    use probes::sample::{Failure, Phases, Reason};
    use probes::target::Kind;

    use super::super::meter::{Meters, Scale};
    use super::*;

    fn ms(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1000.0)
    }

    #[test]
    fn a_continuous_series_takes_at_most_16_kib() {
        let mut series = Series::new(Window::continuous(ms(10.0)));
        // The kind that counts most.
        series.window.set_meters(Meters::new(Kind::Relay, &Scale::default(), Duration::ZERO));
        for second in 0..5000 {
            series.record(&Timing { rtt: ms(1.0), ..Timing::default() }.into(), Duration::from_secs(second));
            series
                .connected(&Timing { rtt: ms(1.0), ..Timing::default() }.into(), Duration::from_secs(second));
        }
        assert!(series.most_bytes() <= 16 * 1024, "{} bytes", series.most_bytes());
    }

    #[test]
    fn a_terminator_is_suspected_only_when_connects_are_far_faster_again_and_again() {
        let mut series = Series::new(Window::continuous(ms(10.0)));
        let query = |rtt| Timing { rtt: ms(rtt), server: Some(ms(0.1)), ..Timing::default() }.into();
        let connect = |rtt| Timing { rtt: ms(rtt), ..Timing::default() }.into();
        for second in 0..30 {
            assert_eq!(series.record(&query(4.0), Duration::from_secs(second)), None);
        }
        (30..50).for_each(|second| series.connected(&connect(0.05), Duration::from_secs(second)));
        for minute in 1..4 {
            series.connected(&connect(0.05), Duration::from_secs(60 * minute));
            assert!(!series.tcp_terminator_suspected(), "one stall is one comparison");
        }
        series.connected(&connect(0.05), Duration::from_secs(240));
        assert!(series.tcp_terminator_suspected());
        (5..9).for_each(|minute| series.connected(&connect(3.9), Duration::from_secs(60 * minute)));
        assert!(!series.tcp_terminator_suspected());
    }

    #[test]
    fn a_round_trip_is_split_by_the_median_of_the_connects() {
        let mut series = Series::new(Window::continuous(ms(10.0)));
        let reply = |rtt| Timing { rtt: ms(rtt), ..Timing::default() }.into();
        let now = Duration::from_secs(100);
        series.connected(&reply(0.6), Duration::from_secs(1));
        series.connected(&reply(0.4), Duration::from_secs(31));
        assert_eq!(series.split(now), None, "two connects are too few");
        series.connected(&reply(0.5), Duration::from_secs(61));
        let connects = series.bare_connects(now).unwrap();
        assert_eq!((connects.count, connects.min, connects.p50), (3, ms(0.4), ms(0.5)));
        let nothing = Split { network: ms(0.5), server_p50: None, server_p95_at_most: None };
        assert_eq!(series.split(now), Some(nothing), "nothing was asked yet");
        for n in 0..19 {
            series.record(&reply(if n == 3 { 3.0 } else { 0.8 }), now);
        }
        assert_eq!(series.split(now), Some(Split { server_p50: Some(ms(0.8) - ms(0.5)), ..nothing }));
        for _ in 0..2 {
            series.record(&reply(3.0), now);
        }
        assert_eq!(series.split(now).unwrap().server_p95_at_most, Some(ms(2.5)));
        assert_eq!(series.split(Duration::from_secs(900)), None, "they are too old");
        series.begin_anew();
        assert_eq!(series.bare_connects(now), None);
        (0..4).for_each(|n| series.connected(&reply(5.0), Duration::from_secs(n)));
        series.record(&reply(0.8), now);
        assert_eq!(series.split(now).unwrap().server_p50, None, "connects that are slower than queries");
    }

    #[test]
    fn a_connect_whose_first_packet_got_lost_tells_no_distance() {
        let mut series = Series::new(Window::continuous(ms(10.0)));
        series.connected(&Timing { rtt: ms(1002.0), ..Timing::default() }.into(), Duration::ZERO);
        assert_eq!(series.connect(Duration::ZERO), None);
    }

    #[test]
    fn of_fresh_requests_the_whole_time_counts_and_failed_ones_are_told() {
        let mut series = Series::new(Window::continuous(ms(10.0)));
        for total in [9.0, 4.0] {
            let phases = Phases { tcp: Some(ms(1.5)), total: Some(ms(total)), ..Phases::default() };
            let timing = Timing { rtt: ms(2.0), phases: Some(phases), ..Timing::default() };
            series.asked_afresh(&timing.into(), Duration::ZERO);
        }
        series.asked_afresh(&Failure::new(Reason::Status, "503").into(), Duration::ZERO);
        series.asked_afresh(&Sample::skipped_self(), Duration::ZERO);
        let (totals, failed) = series.fresh();
        assert_eq!((totals.min(), totals.max(), totals.len(), failed), (Some(ms(4.0)), Some(ms(9.0)), 2, 1));
        assert_eq!(series.connect(Duration::ZERO), Some(ms(1.5)), "the connect in it is one");
    }

    #[test]
    fn old_connects_are_forgotten() {
        let mut series = Series::new(Window::continuous(ms(10.0)));
        series.connected(&Timing { rtt: ms(2.0), ..Timing::default() }.into(), Duration::from_secs(10));
        assert_eq!(series.connect(Duration::from_secs(60)), Some(ms(2.0)));
        assert_eq!(series.connect(Duration::from_secs(200)), None);
    }
}
