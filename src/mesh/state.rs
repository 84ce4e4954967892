//! The continuous verdict of one link: a state with hysteresis, told the time, never wrong twice in a row.
//!
//! Two windows, counted in outcomes: the long one of 300 (five minutes at one a second) and the short one of 60.
//!
//! | to | when |
//! |---|---|
//! | `breach` | in the long window, the share of exceedances is above the allowed one with 99 % confidence (25 of 300 at p95), and in the short one it is not below it; or not one of at least 20 was within the budget |
//! | out of it | in the long window the share is below with 95 % confidence (8 of 300), in the short one as well, and nothing waits for its reply: about five minutes after a breach at one a second, or one minute where the floor shows that the route is another |
//! | `at_risk` | the same is true of p99 (`tail`), or p95 has less than a tenth of the budget left (`margin`), or the peer's agent holds most echoes for longer than the budget (`server`), or the link is just back from an outage (`recovering`) |
//! | `unreachable` | five failures in a row (three for slow kinds) over at least 5 s, more where so many fail anyway that chance brings such rows; out of it after three replies in a row. A link that never answered is `unknown` for the start-up grace first |
//! | `left` | the peer said goodbye, for the roll-out grace; what is not back by then is `unreachable` |
//! | `stale` | no outcome for five intervals and 10 s, or more than half of the short window was spoilt by our own noise (`self`) or by the other agent's (`server`) |
//! | `unknown` | anything else; it is never good |
//!
//! Between raising and clearing a state holds, so a path at the border does not flap.
//!
//! What our own noise has marked raises nothing: it counts among the good ones there. For clearing, a marked reply that was
//! within the budget in any case counts as good, and no more than a tenth of the short window may be spoilt.

use std::collections::BTreeMap;
use std::time::Duration;

use probes::sample::{Outcome, Reason as FailureReason, Sample};
use probes::target::Kind;
use serde::{Deserialize, Serialize};

use super::budget::Limit;
use super::cause::{Finding, Reason};
use super::floor::RouteChange;
use super::history::History;
use super::meter::{Meters, Scale};
use super::outcomes;
use super::peer::Link;
use super::series::Series;
use super::window::Window;

mod assess;
mod evidence;
mod past;
mod server;

pub use server::Leads;

const SHORT: usize = 60;
const SILENT_FOR: Duration = Duration::from_secs(5);
const STALE_AFTER: Duration = Duration::from_secs(10);
/// Bare connects on the same suspicion, at most this often.
const CONNECTS_AGAIN: Duration = Duration::from_secs(300);
/// The same on a new one, after it was calm again: what the former connects told may be over. And where none has told
/// anything of late.
const CONNECTS_ANEW: Duration = Duration::from_secs(60);
/// An outage ends with so many replies in a row.
const BACK: u32 = 3;
/// A shorter row of failures is no outage that would deserve to be forgotten: the path is like that.
const OUTAGE: u32 = 20;
/// A breach waits so long for so many of them, so that it need not guess its reason.
const CONNECTS_PATIENCE: Duration = Duration::from_secs(6);
const CONNECTS_TELL: usize = 5;

/// How a link stands. The order is that of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Within the budget, with confidence.
    Ok,
    /// The peer said goodbye and may be back soon.
    Left,
    /// Too little is known.
    Unknown,
    /// Nothing new is known.
    Stale,
    /// Within the budget, but not by much or not always.
    AtRisk,
    /// Over the budget, with confidence.
    Breach,
    /// It does not answer.
    Unreachable,
}

impl State {
    /// All states, in the order of severity.
    pub const ALL: [Self; 7] =
        [Self::Ok, Self::Left, Self::Unknown, Self::Stale, Self::AtRisk, Self::Breach, Self::Unreachable];

    /// The stable word of this state.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Left => "left",
            Self::Unknown => "unknown",
            Self::Stale => "stale",
            Self::AtRisk => "at_risk",
            Self::Breach => "breach",
            Self::Unreachable => "unreachable",
        }
    }
}

/// How long things may be missing before that is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Graces {
    /// After a link is new.
    pub start: Duration,
    /// After a peer said goodbye.
    pub rollout: Duration,
}

impl Default for Graces {
    fn default() -> Self {
        Self { start: Duration::from_secs(60), rollout: Duration::from_secs(60) }
    }
}

/// What a link is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// The budget; `None` is for information only.
    pub limit: Limit,
    /// The quantile that has to stay below it.
    pub quantile: f64,
    /// How often it is measured.
    pub interval: Duration,
    /// PostgreSQL: whether bare connects may be made on suspicion.
    pub connects: bool,
    /// How long it may be missing.
    pub graces: Graces,
}

/// What somebody may want to hear of.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The state is another.
    State {
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// Why, with evidence; the first is the one to act on.
        findings: Vec<Finding>,
    },
    /// The path's floor has moved.
    Route(RouteChange),
}

/// One link under watch.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Who measures what.
    pub link: Link,
    terms: Terms,
    series: Series,
    born: Duration,
    state: State,
    reason: Reason,
    since: Duration,
    unanswered: BTreeMap<u64, Duration>,
    replied: bool,
    left_at: Option<Duration>,
    /// When its source said last that it is about to stop.
    leaving_at: Option<Duration>,
    silent_since: Option<Duration>,
    last_outcome: Option<Duration>,
    route: Option<(Duration, RouteChange)>,
    connects_at: Option<Duration>,
    calm_since_connects: bool,
    leads: Option<Leads>,
    came_to: [u64; State::ALL.len()],
    history: History,
}

impl Watch {
    /// Begins to watch a link at `now`.
    pub fn new(link: Link, terms: Terms, now: Duration) -> Self {
        let window = Window::continuous(terms.limit.unwrap_or(Duration::MAX));
        Self {
            link,
            terms,
            series: Series::new(window),
            born: now,
            state: State::Unknown,
            reason: Reason::TooFewSamples,
            since: now,
            unanswered: BTreeMap::new(),
            replied: false,
            left_at: None,
            leaving_at: None,
            silent_since: None,
            last_outcome: None,
            route: None,
            connects_at: None,
            calm_since_connects: false,
            leads: None,
            came_to: [0; State::ALL.len()],
            history: History::default(),
        }
    }

    /// Counts by this scale from now on; what was counted in buckets is forgotten.
    pub fn set_scale(&mut self, scale: &Scale, now: Duration) {
        self.series.window.set_meters(Meters::new(self.link.kind, scale, now));
    }

    /// How often it came to this state.
    pub fn came_to(&self, state: State) -> u64 {
        self.came_to[state as usize]
    }

    /// Since when it is watched.
    pub fn born(&self) -> Duration {
        self.born
    }

    /// How it stands, and since when.
    pub fn standing(&self) -> (State, Duration) {
        (self.state, self.since)
    }

    /// How long it has been watched.
    pub fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.born)
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether it has answered, and did so when it was asked last.
    pub fn answers(&self) -> bool {
        self.replied && self.silent_since.is_none()
    }

    /// What it is held against.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Its samples.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// The last change of route.
    pub fn route(&self) -> Option<(Duration, RouteChange)> {
        self.route
    }

    /// Holds it against something else from now on.
    pub fn set_terms(&mut self, terms: Terms) {
        if terms.limit != self.terms.limit {
            self.series.window.set_budget(terms.limit.unwrap_or(Duration::MAX));
        }
        self.terms = terms;
    }

    /// A slot's question has left.
    pub fn sent(&mut self, slot: u64, now: Duration) {
        self.unanswered.insert(slot, now);
    }

    /// A bare connect has its outcome, or a GET of the relay on a fresh connection.
    pub fn connected(&mut self, sample: &Sample, now: Duration) {
        let at = now.saturating_sub(self.born);
        if self.link.kind == Kind::Relay {
            self.series.asked_afresh(sample, at);
        } else {
            self.series.connected(sample, at);
        }
    }

    /// Its source says that it is about to stop: from its next silence on it has left. It may well answer until then.
    pub fn leaves(&mut self, now: Duration) {
        self.leaving_at = Some(now);
    }

    /// A slot has its outcome.
    pub fn outcome(&mut self, slot: u64, sample: &Sample, now: Duration) -> Vec<Change> {
        let sent = self.unanswered.remove(&slot).unwrap_or(now);
        if self.is_of_another_server(sent) {
            self.series.window.count_only(sample);
            return self.tick(now).into_iter().collect();
        }
        match &sample.outcome {
            Outcome::Ok(_) => {
                let all = self.series.window.all();
                if self.state == State::Left || all.failures_in_a_row() >= OUTAGE {
                    // The outage was told as one; it is no part of what is judged from now on.
                    self.series.window.keep_last(0);
                }
                (self.replied, self.left_at, self.silent_since) = (true, None, None);
                self.last_outcome = Some(now);
            }
            Outcome::SkippedSelf => {}
            outcome => {
                let reason = outcome.failure().map(|failure| failure.reason);
                let announced =
                    self.leaving_at.is_some_and(|at| now.saturating_sub(at) < self.terms.graces.rollout);
                if announced {
                    // For as long as its source says so.
                    self.left_at = Some(now);
                } else if reason == Some(FailureReason::Left) {
                    self.left_at.get_or_insert(now);
                }
                // Our own retreat and our own machine's refusal are no news of the path.
                if !reason.is_some_and(outcomes::is_withheld) {
                    self.silent_since.get_or_insert(sent);
                    self.last_outcome = Some(now);
                }
            }
        }
        let change = self.series.record(sample, now.saturating_sub(self.born));
        self.remember(now);
        let mut changes = Vec::new();
        if let Some(change) = change {
            self.route = Some((now, change));
            changes.push(Change::Route(change));
        }
        changes.extend(self.tick(now));
        changes
    }

    /// Looks at the clock.
    pub fn tick(&mut self, now: Duration) -> Option<Change> {
        // What is unanswered after so long was lost together with whoever should have told.
        self.unanswered.retain(|_, sent| now.saturating_sub(*sent) < STALE_AFTER);
        let (state, reason) = self.assess(now);
        self.reason = reason;
        if state == self.state {
            return None;
        }
        let from = std::mem::replace(&mut self.state, state);
        self.since = now;
        self.came_to[state as usize] += 1;
        Some(Change::State { from, to: state, findings: self.findings(now) })
    }

    /// When to look at the clock again after `now`, if no sample comes before.
    pub fn next_wake(&self, now: Duration) -> Option<Duration> {
        let mut wakes = Vec::with_capacity(4);
        if self.state == State::Left {
            wakes.extend(self.left_at.map(|left| left + self.terms.graces.rollout));
        }
        if self.state != State::Unreachable {
            wakes.extend(self.silent_since.map(|silent| silent + SILENT_FOR));
        }
        if !self.replied {
            wakes.push(self.born + self.terms.graces.start);
        }
        wakes.extend(self.connects_at.map(|asked| asked + CONNECTS_PATIENCE));
        if self.state != State::Stale {
            wakes.push(self.last_outcome.unwrap_or(self.born) + self.stale_after());
        }
        wakes.into_iter().filter(|wake| *wake > now).min()
    }

    /// Whether bare connects should tell now a busy server from a far one; asked once, answered with yes once.
    pub fn wants_connects(&mut self, now: Duration) -> bool {
        if self.link.kind != Kind::Postgres || self.terms.limit.is_none() || !self.terms.connects {
            return false;
        }
        let exceeded = self.series.window.last(10).exceeded();
        self.calm_since_connects |= exceeded == 0;
        let anew = self.calm_since_connects || self.series.connect(self.age(now)).is_none();
        let pause = if anew { CONNECTS_ANEW } else { CONNECTS_AGAIN };
        let lately = self.connects_at.is_some_and(|at| now.saturating_sub(at) < pause);
        if exceeded < 3 || lately {
            return false;
        }
        (self.connects_at, self.calm_since_connects) = (Some(now), false);
        self.series.forget_connects();
        true
    }

    /// Bare connects were asked for, and too few have come yet.
    fn waits_for_connect(&self, now: Duration) -> bool {
        self.connects_at.is_some_and(|asked| now.saturating_sub(asked) < CONNECTS_PATIENCE)
            && self.series.connects(self.age(now)).count() < CONNECTS_TELL
    }

    /// Slots that wait for their reply longer than the budget.
    pub fn overdue(&self, now: Duration) -> u32 {
        let budget = self.terms.limit.unwrap_or(Duration::MAX);
        let waiting = self.unanswered.values().filter(|sent| now.saturating_sub(**sent) >= budget);
        u32::try_from(waiting.count()).unwrap_or(u32::MAX)
    }

    /// Whether it is sampled too rarely for a latency verdict.
    fn is_slow(&self) -> bool {
        matches!(self.link.kind, Kind::Tcp | Kind::Http | Kind::Relay | Kind::Nats)
    }

    fn stale_after(&self) -> Duration {
        STALE_AFTER.max(self.terms.interval * 5)
    }
}
