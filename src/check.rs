//! One shot: measure each target until there is an answer or the time is up, judge, say it.
//!
//! All targets are measured side by side, ten slots a second each; bare TCP and HTTP targets, which cost a server a
//! fresh connection per sample, two a second. Every slot yields exactly one outcome. A target that has its answer is left
//! in peace while the others go on.

use std::collections::BTreeMap;
use std::time::Duration;

use probes::Target;
use probes::sample::Outcome;
use probes::target::Kind;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::agent::measuring::{Event, Job, Measuring, MeasuringError};
use crate::coder_metrics;
use crate::discovery;
use crate::mesh::budget::{Budgets, Limit};
use crate::mesh::links::Intervals;
use crate::mesh::peer::{Link, Role};
use crate::mesh::report::{Look, Report};
use crate::mesh::schedule::{Schedule, stretch};
use crate::mesh::series::Series;
use crate::mesh::verdict::{self, Rule, Verdict, judge};
use crate::mesh::window::Window;

mod attributing;
mod discover;
pub mod running;

pub use crate::agent::measuring::Settings as MeasuringSettings;

/// False passes, and false fails, are at most this likely.
const ALPHA: f64 = 0.05;
const INTERVAL: Duration = Duration::from_millis(100);
/// For kinds that open a fresh connection each time, so that no server feels the check.
const GENTLE_INTERVAL: Duration = Duration::from_millis(500);
/// For what an agent asks once a minute only.
const RARE_INTERVAL: Duration = Duration::from_secs(4);
/// Long enough to meet disturbances of 200 ms that come every few seconds.
const LEAST: Duration = Duration::from_secs(12);
const MOST: Duration = Duration::from_secs(60);
const THOROUGH: Duration = Duration::from_secs(300);
const QUICK_LEAST: Duration = Duration::from_secs(2);
const QUICK_MOST: Duration = Duration::from_secs(10);
/// Beside the queries, so that the way to whatever accepts the connection is known of each database.
const CONNECT_EVERY: Duration = Duration::from_millis(2500);
/// And more often beside slow ones: is the server far, or busy?
const CONNECT_INTERVAL: Duration = Duration::from_millis(500);
const CONNECTS_FOR: Duration = Duration::from_secs(10);
const CONNECTS_AGAIN: Duration = Duration::from_secs(60);

/// How long and how deep a look is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Until there is an answer, 12 to 60 s.
    Usual,
    /// About 2 s, and only the median.
    Quick,
    /// 5 minutes, with p99.
    Thorough,
    /// At most this long.
    Limited(Duration),
}

/// What is checked, and against what.
#[derive(Debug)]
pub struct Settings {
    /// The targets with their names and roles.
    pub targets: Vec<(Link, Target)>,
    /// What we stand beside, as far as the budgets ask.
    pub role: Option<Role>,
    /// What each class of link is held against.
    pub budgets: Budgets,
    /// How long each target is measured.
    pub depth: Depth,
    /// Identity and certificates.
    pub measuring: MeasuringSettings,
    /// Where to look for more targets.
    pub discovery: discovery::Settings,
    /// Whose own metrics are held beside what is measured.
    pub metrics: coder_metrics::Settings,
}

impl Settings {
    /// The rule that follows from these settings.
    pub fn rule(&self) -> Rule {
        let quantile = if self.depth == Depth::Quick { 0.5 } else { self.budgets.quantile };
        // What is for information only can neither pass nor fail falsely.
        let judged = || self.targets.iter().map(|(link, _)| link).filter(|link| self.limit(link).is_some());
        let targets = u32::try_from(judged().count()).unwrap_or(u32::MAX).max(1);
        let mut rule = Rule { quantile, alpha: ALPHA, targets, least: LEAST, most: MOST };
        (rule.least, rule.most) = match self.depth {
            Depth::Quick => (QUICK_LEAST, QUICK_MOST),
            Depth::Thorough => (THOROUGH, THOROUGH),
            Depth::Limited(limit) => (LEAST.min(limit), limit),
            // A look that could only ever be inconclusive would be none: where the rate needs longer, it takes longer.
            Depth::Usual => {
                let slowest = judged().map(interval).max();
                let slowest = slowest.unwrap_or_default().mul_f64(stretched(&self.targets));
                let needed = slowest * rule.fewest_to_pass().saturating_add(1);
                (LEAST, MOST.max(needed + needed / 10))
            }
        };
        rule
    }

    fn limit(&self, link: &Link) -> Limit {
        link.limit.unwrap_or_else(|| self.budgets.limit(self.role, link.role))
    }
}

fn stretched(targets: &[(Link, Target)]) -> f64 {
    stretch(targets.iter().map(|(link, _)| interval(link)))
}

/// How far apart the slots of a target are.
pub fn interval(link: &Link) -> Duration {
    match link.kind {
        // What an agent asks rarely, a check does not ask as often as it can.
        _ if link.every.is_some() => RARE_INTERVAL,
        Kind::Peer | Kind::Postgres => INTERVAL,
        Kind::Tcp | Kind::Http | Kind::Relay => GENTLE_INTERVAL,
        Kind::Nats => Intervals::default().nats,
    }
}

/// What is going on, for whoever shows progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Targets with an answer.
    pub done: u32,
    /// All targets.
    pub targets: u32,
    /// Since the first target's first slot.
    pub elapsed: Duration,
}

/// Measures and judges. `progress` is called after each slot.
pub async fn run(mut settings: Settings, progress: impl FnMut(Progress)) -> Result<Report, MeasuringError> {
    let mut found = discover::Found::default();
    if !settings.discovery.is_empty() {
        found = discover::look(&settings.discovery, settings.measuring.identity.is_some()).await;
        for (link, target) in std::mem::take(&mut found.targets) {
            let is_given = settings.targets.iter().any(|(given, other)| {
                *other == target || (given.target == link.target && given.kind == link.kind)
            });
            if !is_given {
                settings.targets.push((link, target));
            }
        }
    }
    let rule = settings.rule();
    let limits: Vec<_> = settings.targets.iter().map(|(link, _)| settings.limit(link)).collect();
    let measuring = Measuring::start(settings.measuring).await?;
    let targets = settings.targets.into_iter().zip(limits);
    let targets = targets.map(|((link, target), limit)| (link, target, limit)).collect();
    let start = now();
    let attributing = attributing::Attributing::begin(settings.metrics);
    let looks = look(&measuring, targets, &rule, progress).await;
    measuring.stop().await;
    let looks = looks?;
    let (topology, pubsub) = (found.topology(&looks), found.pubsub());
    let report = Report::new(&looks, rule, now().duration_since(start));
    let report = report.with_notes(found.notes, found.failed).with_topology(topology);
    let attribution = attributing.end(&report.targets).await;
    Ok(Report { pubsub, ..report.with_attribution(attribution) })
}

/// A look under way.
struct Running {
    look: Look,
    first_slot: Option<Instant>,
    /// Slots that wait for their reply, since when.
    unanswered: BTreeMap<u64, Instant>,
    asked_for_connects: Option<Duration>,
    settled: bool,
}

/// Looks at all of these until each has its answer.
pub async fn look(
    measuring: &Measuring,
    targets: Vec<(Link, Target, Limit)>,
    rule: &Rule,
    mut progress: impl FnMut(Progress),
) -> Result<Vec<Look>, MeasuringError> {
    let stretch = stretch(targets.iter().map(|(link, ..)| interval(link)));
    let (mut running, mut jobs) = (Vec::new(), Vec::new());
    for ((link, target, limit), id) in targets.into_iter().zip(0..) {
        let name = format!("{} {}", link.source.as_deref().unwrap_or_default(), link.target);
        let schedule = Schedule::over(rule.most, interval(&link).mul_f64(stretch), &name);
        // A NATS port is connected to once.
        let schedule = match link.kind {
            Kind::Nats => Schedule { slots: Some(1), steady: true, ..schedule },
            _ => schedule,
        };
        let connects = matches!(link.kind, Kind::Postgres | Kind::Relay)
            .then(|| Schedule::over(rule.most, CONNECT_EVERY, &name));
        let trial = !matches!(target, Target::Nats(_));
        jobs.push(Job { id, target, schedule, connects, trial, persistent: false });
        let slots = usize::try_from(schedule.slots.unwrap_or(0)).unwrap_or(usize::MAX);
        // Without a limit nothing is an exceedance but silence.
        let series = Series::new(Window::new(limit.unwrap_or(Duration::MAX), slots + 1));
        let look = Look { link, limit, series, progress: verdict::Progress::default() };
        running.push(Running {
            look,
            first_slot: None,
            unanswered: BTreeMap::new(),
            asked_for_connects: None,
            settled: false,
        });
    }
    let (sender, mut events) = mpsc::unbounded_channel();
    measuring.begin(jobs, sender).await?;
    let all = u32::try_from(running.len()).unwrap_or(u32::MAX);
    while running.iter().any(|look| !look.settled) {
        let Some(event) = events.recv().await else { return Err(MeasuringError::Ended) };
        let id = event.job();
        let Some(one) = running.get_mut(id as usize).filter(|one| !one.settled) else { continue };
        one.take(event, now());
        if one.suspicious() {
            one.asked_for_connects = Some(one.look.progress.elapsed);
            let name = format!("{} on suspicion", one.look.link.target);
            measuring.connects(id, Schedule::over(CONNECTS_FOR, CONNECT_INTERVAL, &name))?;
        }
        let judged = judge(&one.look.series, one.look.limit, rule, one.look.progress);
        if judged.settled || one.look.progress.ended {
            one.settled = true;
            measuring.end(id)?;
        }
        let done = running.iter().filter(|one| one.settled).count();
        let elapsed = running.iter().map(|one| one.look.progress.elapsed).max().unwrap_or_default();
        progress(Progress { done: u32::try_from(done).unwrap_or(all), targets: all, elapsed });
    }
    Ok(running.into_iter().map(|one| one.look).collect())
}

impl Running {
    fn take(&mut self, event: Event, now: Instant) {
        let start = *self.first_slot.get_or_insert(now);
        let at = now.duration_since(start);
        let look = &mut self.look;
        match event {
            Event::Opened { sample, .. } => {
                look.series.opened(&sample, at);
                if matches!(sample.outcome, Outcome::Ok(_)) {
                    self.first_slot = Some(now);
                } else {
                    // No slot will follow: the failed attempt is all there is to judge by.
                    look.series.record(&sample, at);
                }
            }
            Event::Reopened { reopened, .. } => {
                look.series.opened(&reopened.sample, at.saturating_sub(reopened.ago));
            }
            Event::Sent { slot, .. } => drop(self.unanswered.insert(slot, now)),
            Event::Slot { slot, sample, .. } => {
                self.unanswered.remove(&slot);
                look.series.record(&sample, at);
            }
            Event::Connected { sample, .. } if look.link.kind == Kind::Relay => {
                look.series.asked_afresh(&sample, at);
            }
            Event::Connected { sample, .. } => look.series.connected(&sample, at),
            Event::Done { .. } => look.progress.ended = true,
        }
        let budget = look.limit.unwrap_or(Duration::MAX);
        let waiting = self.unanswered.values().filter(|sent| now.duration_since(**sent) >= budget);
        look.progress.overdue = u32::try_from(waiting.count()).unwrap_or(u32::MAX);
        look.progress.elapsed = at;
    }

    /// Slow queries ask for bare connects.
    fn suspicious(&self) -> bool {
        let Look { link, series, progress, .. } = &self.look;
        let lately = self.asked_for_connects.is_some_and(|at| progress.elapsed < at + CONNECTS_AGAIN);
        link.kind == Kind::Postgres && !lately && series.window.last(10).exceeded() >= 3
    }
}

/// The exit code of a verdict.
pub fn exit_code(report: &Report, fail_on_warning: bool) -> u8 {
    match report.verdict {
        Verdict::Fail => 1,
        Verdict::Inconclusive | Verdict::Info => 3,
        Verdict::Pass if fail_on_warning && report.has_warnings() => 1,
        Verdict::Pass => 0,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "when an outcome came in; the round trips themselves are the hands'"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use probes::HostPort;

    use super::*;

    fn settings(kind: Kind, quantile: f64, depth: Depth) -> Settings {
        let link = Link::to("a", kind, None);
        let target = Target::Tcp(HostPort { host: "a".into(), port: 1 });
        Settings {
            targets: vec![(link, target)],
            role: None,
            budgets: Budgets { quantile, ..Budgets::default() },
            depth,
            measuring: MeasuringSettings::default(),
            discovery: discovery::Settings::default(),
            metrics: coder_metrics::Settings::default(),
        }
    }

    #[test]
    fn the_default_time_lets_a_clean_path_pass_whatever_its_kind_and_quantile() {
        for kind in [Kind::Peer, Kind::Postgres, Kind::Tcp, Kind::Http, Kind::Relay] {
            for quantile in [0.5, 0.95, 0.99, 0.999] {
                let rule = settings(kind, quantile, Depth::Usual).rule();
                let slots =
                    Schedule::over(rule.most, interval(&Link::to("a", kind, None)), "x").slots.unwrap();
                assert!(slots >= u64::from(rule.fewest_to_pass()), "{kind:?} {quantile}: {slots}");
                assert_eq!(rule.least, LEAST);
            }
        }
        assert_eq!(settings(Kind::Peer, 0.95, Depth::Usual).rule().most, MOST);
        assert_eq!(settings(Kind::Tcp, 0.95, Depth::Usual).rule().most, MOST);
    }

    #[test]
    fn a_quick_look_is_about_the_median_only() {
        for kind in [Kind::Peer, Kind::Tcp] {
            let rule = settings(kind, 0.95, Depth::Quick).rule();
            assert!((rule.quantile - 0.5).abs() < 1e-9);
            let slots = Schedule::over(rule.most, interval(&Link::to("a", kind, None)), "x").slots.unwrap();
            assert!(slots >= u64::from(rule.fewest_to_pass()), "{kind:?}");
        }
    }
}
