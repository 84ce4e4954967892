//! What the samples of one series amount to: the last outcomes kept raw, counters since the start, an hour in brief.
//!
//! Durations are kept to the nanosecond, so quantiles are exact order statistics and no verdict depends on a bucket's
//! edge. A window is counted in outcomes, not in seconds, so that it means the same at every rate.
//!
//! **Our own noise.** A sample during which either end waited for a CPU longer than 0.3 ms is *marked*: it leaves n, k
//! and the figures; one that would be over the budget is *spoilt* besides, for nobody knows whose fault that is. In
//! measurements under eight kinds of load, samples below that wait never showed a false value above
//! 2 ms. Two exceptions, both certain whatever we waited: a reply that took the budget or longer even after our whole
//! wait is taken off is an exceedance, and silence is marked only when we did not run for half of the deadline. For a
//! *fail*, marked samples count as good ones (see `verdict`): our noise can neither pass nor fail anybody.

use std::collections::VecDeque;
use std::time::Duration;

use probes::sample::{Direction, Failure, Outcome, Phases, Sample};

use super::hour::Hour;
use super::meter::Meters;
use super::outcomes::{Counts, Record};

mod view;

pub use view::View;

/// How many outcomes a continuous series keeps: five minutes at one a second.
pub const KEPT: usize = 300;
/// With longer waits than this on either end, a sample says more about us than about the path.
pub const WAIT_AT_MOST: Duration = Duration::from_micros(300);
/// Exceedances are also counted at these round trips, whatever the budget is.
pub const MARKS: [Duration; 4] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(15),
    Duration::from_millis(20),
];

/// The outcomes of one series.
#[derive(Debug, Clone)]
pub struct Window {
    budget: Duration,
    keep: usize,
    kept: VecDeque<Record>,
    totals: Totals,
    hour: Option<Hour>,
    /// In a box, so that a bounded look does not carry it.
    meters: Option<Box<Meters>>,
    last_failure: Option<Failure>,
    connect: Option<Phases>,
    encrypted: Option<bool>,
}

/// Counters since the start of the series; they only ever rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Slots by outcome.
    pub outcomes: Counts,
    /// Samples that our own noise made useless.
    pub marked_self: u64,
    /// Judged samples, and those of them that took the budget or longer or got no reply.
    pub judged: u64,
    /// See `judged`.
    pub exceeded: u64,
    /// Judged samples that took 5, 10, 15 and 20 ms or longer, or got no reply.
    pub exceeded_at: [u64; 4],
    /// Losses known to be on the way there.
    pub lost_there: u64,
    /// Losses known to be on the way back.
    pub lost_back: u64,
    /// Replies that came after their deadline.
    pub late: u64,
    /// TCP segments sent again on PostgreSQL's connection.
    pub retransmits: u64,
}

impl Totals {
    /// Each counter changed by another series' one: to add it, or to take it off.
    pub fn with(&mut self, other: &Self, change: fn(&mut u64, u64)) {
        let Self {
            outcomes,
            marked_self,
            judged,
            exceeded,
            exceeded_at,
            lost_there,
            lost_back,
            late,
            retransmits,
        } = self;
        outcomes.with(&other.outcomes, change);
        exceeded_at.iter_mut().zip(other.exceeded_at).for_each(|(count, other)| change(count, other));
        for (count, other) in [
            (marked_self, other.marked_self),
            (judged, other.judged),
            (exceeded, other.exceeded),
            (lost_there, other.lost_there),
            (lost_back, other.lost_back),
            (late, other.late),
            (retransmits, other.retransmits),
        ] {
            change(count, other);
        }
    }
}

impl Window {
    /// A window that keeps this many outcomes, and no hour: for one bounded look.
    pub fn new(budget: Duration, keep: usize) -> Self {
        Self {
            budget,
            keep: keep.max(1),
            kept: VecDeque::new(),
            totals: Totals::default(),
            hour: None,
            meters: None,
            last_failure: None,
            connect: None,
            encrypted: None,
        }
    }

    /// A window for a series without an end: [`KEPT`] outcomes and the hour in brief. At most 16 KiB.
    pub fn continuous(budget: Duration) -> Self {
        let mut window = Self::new(budget, KEPT);
        window.kept.reserve_exact(KEPT);
        window.hour = Some(Hour::new());
        window
    }

    /// Counts in these buckets from now on; what was counted is forgotten.
    pub fn set_meters(&mut self, meters: Meters) {
        self.meters = Some(Box::new(meters));
    }

    /// What is counted in buckets, where it is.
    pub fn meters(&self) -> Option<&Meters> {
        self.meters.as_deref()
    }

    pub(super) fn meters_mut(&mut self) -> Option<&mut Meters> {
        self.meters.as_deref_mut()
    }

    /// The round trip at which an exceedance begins.
    pub fn budget(&self) -> Duration {
        self.budget
    }

    /// Judges by another budget from now on. What is kept is judged anew; counters since the start stay.
    pub fn set_budget(&mut self, budget: Duration) {
        self.budget = budget;
        for record in &mut self.kept {
            record.judge(budget);
        }
    }

    /// Forgets all but the last `count` outcomes and keeps what is counted: after a change of route or an outage the
    /// past says nothing about the present.
    pub fn keep_last(&mut self, count: usize) {
        self.kept.drain(..self.kept.len().saturating_sub(count));
    }

    /// Takes in what opening the connection brought. It is no slot, so only its facts are kept.
    pub fn opened(&mut self, sample: &Sample) {
        match &sample.outcome {
            Outcome::Ok(timing) => {
                self.connect = timing.phases.or(self.connect);
                self.encrypted = timing.encrypted.or(self.encrypted);
            }
            outcome => self.last_failure = outcome.failure().cloned().or(self.last_failure.take()),
        }
    }

    /// Takes in the outcome of one slot, at `at` since the series began.
    pub fn record(&mut self, sample: &Sample, at: Duration) {
        let record = Record::of(sample, self.budget);
        self.opened(sample);
        self.count(&record, sample);
        if let (Some(hour), Some(rtt)) = (&mut self.hour, record.judged_rtt()) {
            hour.record(rtt, at);
        }
        if self.kept.len() >= self.keep {
            self.kept.pop_front();
        }
        self.kept.push_back(record);
    }

    /// Counts the outcome of a slot that is no part of what is kept.
    pub fn count_only(&mut self, sample: &Sample) {
        let record = Record::of(sample, self.budget);
        self.count(&record, sample);
    }

    fn count(&mut self, record: &Record, sample: &Sample) {
        let totals = &mut self.totals;
        totals.outcomes.add(&sample.outcome);
        totals.late += u64::from(sample.late);
        totals.marked_self += u64::from(record.marked());
        totals.judged += u64::from(record.judged());
        totals.exceeded += u64::from(record.exceeds());
        if record.judged() {
            for (count, mark) in totals.exceeded_at.iter_mut().zip(MARKS) {
                *count += u64::from(record.rtt().is_none_or(|rtt| rtt >= mark));
            }
        }
        if let (Some(meters), true) = (&mut self.meters, record.judged()) {
            let duration = if meters.to_the_end { record.total() } else { record.rtt() };
            duration.into_iter().for_each(|duration| meters.slots.record(duration));
        }
        match &sample.outcome {
            Outcome::Lost(_, Direction::There) => totals.lost_there += 1,
            Outcome::Lost(_, Direction::Back) => totals.lost_back += 1,
            Outcome::Ok(timing) => totals.retransmits += u64::from(timing.retransmits.unwrap_or(0)),
            _ => {}
        }
    }

    /// Counters since the start.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The hour in brief, where it is kept.
    pub fn hour(&self) -> Option<&Hour> {
        self.hour.as_ref()
    }

    /// What is kept, as one view.
    pub fn all(&self) -> View<'_> {
        self.last(usize::MAX)
    }

    /// The last `count` of what is kept.
    pub fn last(&self, count: usize) -> View<'_> {
        let skip = self.kept.len().saturating_sub(count);
        View { records: self.kept.range(skip..), window: self }
    }

    /// The line that was seen instead of a reply, most recently.
    pub fn last_failure(&self) -> Option<&Failure> {
        self.last_failure.as_ref()
    }

    /// Phases of the last connection that was opened.
    pub fn connect(&self) -> Option<Phases> {
        self.connect
    }

    /// Whether the line is encrypted; `None` where nobody said.
    pub fn encrypted(&self) -> Option<bool> {
        self.encrypted
    }

    /// Bytes that this window takes at most, its heap included.
    pub fn most_bytes(&self) -> usize {
        /// A failure's detail is cut at 300 characters of at most 4 bytes.
        const DETAIL: usize = 1200;
        size_of::<Self>()
            + self.keep.max(self.kept.capacity()) * size_of::<Record>()
            + self.hour.as_ref().map_or(0, Hour::heap_bytes)
            + self.meters.as_ref().map_or(0, |meters| size_of::<Meters>() + meters.heap_bytes())
            + DETAIL
    }
}

#[cfg(test)]
mod tests {
    use probes::sample::{Reason, Timing};

    use super::*;

    const BUDGET: Duration = Duration::from_millis(10);

    fn ok(us: u64) -> Sample {
        Timing { rtt: Duration::from_micros(us), ..Timing::default() }.into()
    }

    fn failed(reason: Reason) -> Sample {
        Failure::new(reason, "because").into()
    }

    fn window(samples: impl IntoIterator<Item = Sample>) -> Window {
        let mut window = Window::new(BUDGET, 1000);
        samples.into_iter().for_each(|sample| window.record(&sample, Duration::ZERO));
        window
    }

    #[test]
    fn exactly_the_budget_is_an_exceedance_and_a_nanosecond_less_is_not() {
        let almost = Timing { rtt: BUDGET - Duration::from_nanos(1), ..Timing::default() };
        let mut window = window([almost.into()]);
        assert_eq!((window.all().judged(), window.all().exceeded()), (1, 0));
        window.record(&ok(10_000), Duration::ZERO);
        assert_eq!((window.all().judged(), window.all().exceeded()), (2, 1));
    }

    #[test]
    fn a_slot_without_reply_is_infinitely_slow() {
        let mut window = window((0..94).map(|_| ok(300)));
        assert_eq!(window.all().judged_quantile(0.95), Some(Duration::from_micros(300)));
        use Reason::{Closed, Refused, Timeout};
        for reason in [Timeout, Closed, Refused, Timeout, Timeout, Timeout] {
            window.record(&failed(reason), Duration::ZERO);
        }
        let view = window.all();
        assert_eq!(view.judged_quantile(0.95), None);
        assert_eq!(view.rtt().quantile(0.95), Some(Duration::from_micros(300)));
        assert_eq!((view.judged(), view.exceeded(), view.without_reply()), (100, 6, 6));
        assert_eq!(view.main_failure(), Some((4, Reason::Timeout)));
        assert_eq!(view.failures_in_a_row(), 6);
    }

    #[test]
    fn what_says_nothing_about_the_path_is_not_judged() {
        let window = window([failed(Reason::ConnectionsLow), failed(Reason::Local), Sample::skipped_self()]);
        let view = window.all();
        assert_eq!((view.slots(), view.judged(), view.exceeded(), view.skipped()), (3, 0, 0, 1));
    }

    #[test]
    fn a_continuous_window_keeps_300_outcomes_and_counts_all() {
        let mut window = Window::continuous(BUDGET);
        for second in 0..1000 {
            window.record(&ok(if second < 500 { 12_000 } else { 500 }), Duration::from_secs(second));
        }
        assert_eq!((window.all().judged(), window.all().exceeded()), (300, 0));
        let totals = window.totals();
        assert_eq!((totals.judged, totals.exceeded), (1000, 500));
        assert_eq!(totals.exceeded_at, [500, 500, 0, 0], "at 5, 10, 15 and 20 ms");
        assert_eq!(window.hour().unwrap().len(), 1000);
        window.keep_last(10);
        assert_eq!(window.all().slots(), 10);
    }

    #[test]
    fn the_stretch_since_the_onset_holds_the_bad_ones_and_none_of_the_good_ones_before() {
        let view_of = |slow: &dyn Fn(u64) -> bool, n| {
            let window = window((0..n).map(|i| ok(if slow(i) { 30_000 } else { 500 })));
            (window.all().since_onset(0.1).judged(), window.all().since_onset(0.1).exceeded())
        };
        assert_eq!(view_of(&|i| i >= 275, 300), (25, 25));
        assert_eq!(view_of(&|i| i == 20 || i >= 275, 300), (25, 25), "a stray one long before");
        assert_eq!(view_of(&|_| false, 300), (300, 0));
        assert_eq!(view_of(&|i| i < 12, 300), (12, 12), "mended long ago");
        assert_eq!(view_of(&|i| (270..295).contains(&i), 300), (30, 25), "mended just now");
        let (n, _) = view_of(&|i| i % 14 == 13, 294);
        assert_eq!(n, 294, "the last slow one alone is no onset");
        let (n, k) = view_of(&|i| i % 5 == 0, 300);
        assert!(n >= 290 && k >= 58, "a steady fifth began at the beginning: {k} of {n}");
    }
}
