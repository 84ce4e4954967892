//! One shot: measure each target for a bounded time, judge, say it.
//!
//! All targets are measured side by side, ten slots a second each; bare TCP and HTTP targets, which cost a server a
//! fresh connection per sample, two a second. Every slot yields exactly one outcome.

use std::time::Duration;

use probes::Target;
use probes::sample::Outcome;
use probes::target::Kind;
use tokio::time::Instant;

use crate::agent::measuring::{Event, Job, Measuring, MeasuringError};
use crate::mesh::binomial;
use crate::mesh::peer::Link;
use crate::mesh::report::Report;
use crate::mesh::schedule::Schedule;
use crate::mesh::verdict::{Rule, Verdict};
use crate::mesh::window::Window;

pub use crate::agent::measuring::Settings as MeasuringSettings;

/// False passes, and false fails, are at most this likely.
const ALPHA: f64 = 0.05;
const INTERVAL: Duration = Duration::from_millis(100);
/// For kinds that open a fresh connection each time, so that no server feels the check.
const GENTLE_INTERVAL: Duration = Duration::from_millis(500);
/// Long enough to meet disturbances that come every few seconds.
const SHORTEST: Duration = Duration::from_secs(12);

/// What is checked, and against what.
#[derive(Debug)]
pub struct Settings {
    /// The targets with their names and roles.
    pub targets: Vec<(Link, Target)>,
    /// A round trip of this length or longer is over the budget.
    pub budget: Duration,
    /// The share of round trips that has to stay below it.
    pub quantile: f64,
    /// How long each target is measured; without it, [`span`].
    pub time_limit: Option<Duration>,
    /// Identity and certificates.
    pub measuring: MeasuringSettings,
}

impl Settings {
    /// The rule that follows from these settings.
    pub fn rule(&self) -> Rule {
        let targets = u32::try_from(self.targets.len()).unwrap_or(u32::MAX);
        Rule { budget: self.budget, quantile: self.quantile, alpha: ALPHA, targets }
    }

    /// The slots of one target.
    pub fn schedule(&self, link: &Link) -> Schedule {
        let interval = interval(link.kind);
        Schedule::over(
            self.time_limit.unwrap_or_else(|| span(link.kind, self.quantile)),
            interval,
            &link.target,
        )
    }

    /// The time that the slowest target takes.
    pub fn longest(&self) -> Duration {
        self.targets.iter().map(|(link, _)| self.schedule(link).span()).max().unwrap_or_default()
    }
}

/// How far apart the slots of a target of this kind are.
pub fn interval(kind: Kind) -> Duration {
    match kind {
        Kind::Peer | Kind::Postgres => INTERVAL,
        Kind::Tcp | Kind::Http => GENTLE_INTERVAL,
    }
}

/// How long a target of this kind is measured by default: 12 s, or as long as it takes at its rate to collect the
/// samples without which a pass at this quantile is impossible. A check that could only ever be inconclusive would be
/// none.
pub fn span(kind: Kind, quantile: f64) -> Duration {
    let fewest = binomial::fewest_to_pass(quantile, ALPHA);
    // One more slot than needed, for the one that a busy machine skips.
    let needed = interval(kind) * fewest.saturating_add(1);
    SHORTEST.max(needed)
}

/// What is going on, for whoever shows progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Slots with an outcome.
    pub done: u32,
    /// All slots.
    pub slots: u32,
}

/// Measures and judges. `progress` is called after each slot.
pub async fn run(settings: Settings, progress: impl FnMut(Progress)) -> Result<Report, MeasuringError> {
    let rule = settings.rule();
    let schedules: Vec<_> = settings.targets.iter().map(|(link, _)| settings.schedule(link)).collect();
    let measuring = Measuring::start(settings.measuring).await?;
    let (links, targets): (Vec<_>, Vec<_>) = settings.targets.into_iter().unzip();
    let jobs =
        targets.into_iter().zip(schedules).map(|(target, schedule)| Job { target, schedule }).collect();
    let start = now();
    let windows = collect(&measuring, jobs, rule.budget, progress).await;
    measuring.stop().await;
    Ok(Report::new(&links, &windows?, rule, now().duration_since(start)))
}

/// Runs the jobs and sorts their samples into one window each.
pub async fn collect(
    measuring: &Measuring,
    jobs: Vec<Job>,
    budget: Duration,
    mut progress: impl FnMut(Progress),
) -> Result<Vec<Window>, MeasuringError> {
    let slots: Vec<u32> = jobs.iter().map(|job| job.schedule.slots).collect();
    let mut windows: Vec<Window> = jobs.iter().map(|_| Window::new(budget)).collect();
    let mut state = Progress { done: 0, slots: slots.iter().sum() };
    let mut events = measuring.measure(jobs).await?;
    while let Some(event) = events.recv().await {
        match event {
            Event::Opened { job, sample } => {
                windows[job].opened(&sample);
                if !matches!(sample.outcome, Outcome::Ok(_)) {
                    // No slot will follow: the failed attempt is all there is to judge by.
                    windows[job].record(sample);
                    state.done += slots[job];
                }
            }
            Event::Slot { job, sample } => {
                windows[job].record(sample);
                state.done += 1;
            }
            Event::Done { job } => tracing::debug!(job, "all slots have their outcomes"),
        }
        progress(state);
    }
    Ok(windows)
}

/// The exit code of a verdict.
pub fn exit_code(report: &Report, fail_on_warning: bool) -> u8 {
    match report.verdict {
        Verdict::Fail => 1,
        Verdict::Inconclusive => 3,
        Verdict::Pass if fail_on_warning && report.has_warnings() => 1,
        Verdict::Pass => 0,
    }
}

#[expect(clippy::disallowed_methods, reason = "the length of the whole check, which no verdict depends on")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_time_lets_a_clean_path_pass_whatever_its_kind_and_quantile() {
        for kind in [Kind::Peer, Kind::Postgres, Kind::Tcp, Kind::Http] {
            for quantile in [0.5, 0.95, 0.99, 0.999] {
                let span = span(kind, quantile);
                let slots = Schedule::over(span, interval(kind), "x").slots;
                assert!(slots >= binomial::fewest_to_pass(quantile, ALPHA), "{kind:?} {quantile}: {slots}");
                assert!(span >= SHORTEST);
            }
        }
        assert_eq!(span(Kind::Peer, 0.95), SHORTEST);
        assert_eq!(span(Kind::Tcp, 0.95), Duration::from_secs(30));
    }
}
