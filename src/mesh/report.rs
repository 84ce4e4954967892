//! A finished look at all targets, as data. Text, JSON and whatever comes later differ in dress only.

use std::time::Duration;

use probes::sample::Phases;
use probes::target::Kind;

use super::attribution::Attribution;
use super::budget::Limit;
use super::distribution::Distribution;
use super::outcomes::Counts;
use super::peer::{Link, Role};
use super::place::policy::Severity;
use super::pubsub::Path;
use super::rules::TopologyFinding;
use super::sequential::{Bets, Dependence};
use super::series::{BareConnects, Series, Split};
use super::standing::OpeningStanding;
use super::verdict::{Judgement, Progress, Rule, Verdict, judge};
use super::window::View;

mod hint;

use hint::hint;

/// Coder's health page warns about the database when the median of five pings takes this long or longer
/// (coderd/healthcheck/database.go).
pub const CODER_WARNS_AT: Duration = Duration::from_millis(15);

/// The whole report.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The worst verdict of all judged targets; inconclusive when there is none.
    pub verdict: Verdict,
    /// What the targets were held against.
    pub rule: Rule,
    /// How long it took, from the first question to the last outcome.
    pub elapsed: Duration,
    /// One entry per target, in the order they were given.
    pub targets: Vec<TargetReport>,
    /// What discovery could not tell or see.
    pub notes: Vec<Warning>,
    /// What is wrong with who stands where, where discovery told who is there; the worst first.
    pub topology: Vec<TopologyFinding>,
    /// Whose slowness it is, by each coderd whose metrics were read. It explains and judges nothing.
    pub attribution: Vec<Attribution>,
    /// What the news of replicas goes by; `None` where Coder's database was not asked.
    pub pubsub: Option<Path>,
}

/// One target's bounded look: what came of it and how far it got.
#[derive(Debug, Clone)]
pub struct Look {
    /// Who measured what.
    pub link: Link,
    /// What it is held against.
    pub limit: Limit,
    /// All samples.
    pub series: Series,
    /// How far it got.
    pub progress: Progress,
}

/// The part of one target.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetReport {
    /// Target's name, without any secret.
    pub name: String,
    /// Who measured it, where that is not this process alone.
    pub source: Option<String>,
    /// How it was measured.
    pub kind: Kind,
    /// What it is for.
    pub role: Option<Role>,
    /// What it was held against.
    pub limit: Limit,
    /// Verdict, reasons and bounds.
    pub judgement: Judgement,
    /// One line on what was seen instead of a reply, where something was.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Things that do not fail the target.
    pub warnings: Vec<Warning>,
    /// n of the verdict.
    pub samples: u32,
    /// k of the verdict.
    pub exceeded: u32,
    /// Samples that our own noise spoilt.
    pub marked_self: u32,
    /// Slots without a reply, whatever the cause.
    pub lost: u32,
    /// Losses known to be on the way there, and on the way back.
    pub lost_by_direction: (u32, u32),
    /// Replies that came after their deadline.
    pub late: u64,
    /// PostgreSQL: TCP segments sent again.
    pub retransmits: u64,
    /// Slots by outcome.
    pub outcomes: Counts,
    /// How long it was measured.
    pub measured: Duration,
    /// Rare spells of slowness longer than this may have been missed.
    pub blind_beyond: Duration,
    /// The rule's quantile over all judged slots; `None` when it falls among those without a reply.
    pub judged_quantile: Option<Duration>,
    /// What the same test says of p99.
    pub p99: Option<Verdict>,
    /// Round trips of the slots that got a reply.
    pub rtt: Figures,
    /// How much longer than the fastest they took.
    pub pdv: Option<Figures>,
    /// PostgreSQL: the share of the network.
    pub network: Option<Figures>,
    /// PostgreSQL: the share of the server's execution.
    pub execution: Option<Figures>,
    /// HTTP and NATS: whole requests on a fresh connection each, until the body or the greeting was read.
    pub total: Option<Figures>,
    /// PostgreSQL: the median of bare connects beside the queries, where there were any. Relay: of the connects of its
    /// fresh connections.
    pub bare_connect: Option<Duration>,
    /// Relay: the last ten GETs on a fresh connection, from the first phase to the end.
    pub fresh: Option<Figures>,
    /// Relay: how many of the last ten failed.
    pub fresh_failed: Option<u32>,
    /// PostgreSQL: something before the server seems to end TCP, so no figure of TCP tells how far the server is.
    pub tcp_terminator_suspected: bool,
    /// PostgreSQL: whether Coder's own health page would warn.
    pub coder_would_warn: Option<bool>,
    /// PostgreSQL: the last bare connects.
    pub bare_connects: Option<BareConnects>,
    /// PostgreSQL: the round trip in two.
    pub split: Option<Split>,
    /// How the kept connection was opened, the newest first.
    pub connects: Vec<OpeningStanding>,
    /// The phases of the last connection that was opened.
    pub connect: Option<Phases>,
    /// Whether the line is encrypted.
    pub encrypted: Option<bool>,
}

/// The five figures of a distribution; all `None` when there is no value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Fastest.
    pub min: Option<Duration>,
    /// Median.
    pub p50: Option<Duration>,
    /// 95th percentile.
    pub p95: Option<Duration>,
    /// 99th percentile.
    pub p99: Option<Duration>,
    /// Slowest.
    pub max: Option<Duration>,
}

impl Figures {
    pub(super) fn of(distribution: &Distribution) -> Self {
        Self {
            min: distribution.min(),
            p50: distribution.quantile(0.5),
            p95: distribution.quantile(0.95),
            p99: distribution.quantile(0.99),
            max: distribution.max(),
        }
    }

    pub(super) fn unless_empty(distribution: &Distribution) -> Option<Self> {
        distribution.min().map(|_| Self::of(distribution))
    }
}

/// Something worth a look that does not fail the target.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Warning {
    /// Stable word.
    pub code: &'static str,
    /// One sentence.
    pub text: String,
}

impl Report {
    /// Judges all looks.
    pub fn new(looks: &[Look], rule: Rule, elapsed: Duration) -> Self {
        let targets: Vec<_> = looks.iter().map(|look| target(look, &rule)).collect();
        let verdicts = targets.iter().map(|target| target.judgement.verdict);
        let verdict = verdicts.filter(|verdict| *verdict != Verdict::Info).max();
        Self {
            verdict: verdict.unwrap_or(Verdict::Inconclusive),
            rule,
            elapsed,
            targets,
            notes: Vec::new(),
            topology: Vec::new(),
            attribution: Vec::new(),
            pubsub: None,
        }
    }

    /// The same with what discovery could not tell or see. Where it `failed`, there may be targets that nobody looked at,
    /// so nothing passes.
    pub fn with_notes(self, notes: Vec<Warning>, failed: bool) -> Self {
        let verdict = if failed { self.verdict.max(Verdict::Inconclusive) } else { self.verdict };
        Self { verdict, notes, ..self }
    }

    /// The same with what is wrong with who stands where; a finding that fails, fails all.
    pub fn with_topology(self, topology: Vec<TopologyFinding>) -> Self {
        let fails = topology.iter().any(|finding| finding.severity == Severity::Fail);
        let verdict = if fails { Verdict::Fail } else { self.verdict };
        Self { verdict, topology, ..self }
    }

    /// The same with whose slowness it is; the verdict stays.
    pub fn with_attribution(self, attribution: Vec<Attribution>) -> Self {
        Self { attribution, ..self }
    }

    /// Whether any target, or who stands where, has a warning.
    pub fn has_warnings(&self) -> bool {
        self.targets.iter().any(|target| !target.warnings.is_empty())
            || self.topology.iter().any(|finding| finding.severity == Severity::Warning)
    }
}

fn target(look: &Look, rule: &Rule) -> TargetReport {
    let Look { link, limit, series, progress } = look;
    let judgement = judge(series, *limit, rule, *progress);
    let (window, view) = (&series.window, series.window.all());
    let rtt = view.rtt();
    let is_postgres = link.kind == Kind::Postgres;
    TargetReport {
        name: link.target.clone(),
        source: link.source.clone(),
        kind: link.kind,
        role: link.role,
        limit: *limit,
        detail: detail(series, &view, &judgement),
        hint: hint(link, &view, &judgement, rule),
        warnings: warnings(&view, &judgement, rule),
        samples: view.judged(),
        exceeded: view.exceeded(),
        marked_self: view.marked(),
        lost: view.without_reply(),
        lost_by_direction: view.lost_by_direction(),
        late: window.totals().late,
        retransmits: window.totals().retransmits,
        outcomes: view.counts(),
        measured: progress.elapsed,
        blind_beyond: rule.blind_beyond(progress.elapsed),
        judged_quantile: view.judged_quantile(rule.quantile),
        p99: limit.and_then(|_| p99(&view, rule)),
        pdv: Figures::unless_empty(&view.pdv()),
        network: Figures::unless_empty(&view.network()),
        execution: Figures::unless_empty(&view.server()),
        total: Figures::unless_empty(&view.total()),
        bare_connect: series.connect(progress.elapsed),
        fresh: Figures::unless_empty(&series.fresh().0),
        fresh_failed: (link.kind == Kind::Relay).then(|| series.fresh().1),
        bare_connects: series.bare_connects(progress.elapsed),
        split: series.split(progress.elapsed),
        connects: OpeningStanding::all(&series.openings, progress.elapsed),
        tcp_terminator_suspected: series.tcp_terminator_suspected(),
        coder_would_warn: rtt.quantile(0.5).filter(|_| is_postgres).map(|p50| p50 >= CODER_WARNS_AT),
        rtt: Figures::of(&rtt),
        connect: window.connect(),
        encrypted: window.encrypted(),
        judgement,
    }
}

/// The same test at p99; it needs 362 clean samples.
fn p99(view: &View<'_>, rule: &Rule) -> Option<Verdict> {
    if rule.quantile >= 0.99 {
        return None;
    }
    let bets = Bets::on(0.99);
    let worth = 1.0 / Dependence::of(view.exceedances()).design_effect();
    let (n, k) = (f64::from(view.judged()) * worth, f64::from(view.exceeded()) * worth);
    let with_marked = n + f64::from(view.marked()) * worth;
    Some(if bets.ln_pass(n, k) >= -rule.alpha.ln() {
        Verdict::Pass
    } else if view.judged() > 0 && bets.ln_fail(with_marked, k) >= -rule.alpha.ln() {
        Verdict::Fail
    } else {
        Verdict::Inconclusive
    })
}

/// What was seen instead of replies.
fn detail(series: &Series, view: &View<'_>, judgement: &Judgement) -> Option<String> {
    let (count, _) = view.main_failure()?;
    let last = series.window.last_failure()?.detail.clone();
    if view.replies() == 0 {
        return Some(last);
    }
    if judgement.verdict == Verdict::Pass {
        return None;
    }
    let side = match view.lost_by_direction() {
        (0, 0) => String::new(),
        (there, back) => format!(" ({there} got lost on the way there, {back} on the way back)"),
    };
    let lost = view.without_reply();
    let mostly = if count == lost { "" } else { "lastly " };
    Some(format!("{lost} of {} slots got no reply: {mostly}{last}{side}", view.slots()))
}

fn warnings(view: &View<'_>, judgement: &Judgement, rule: &Rule) -> Vec<Warning> {
    let budget = view.budget();
    let slow_tail = view.judged_quantile(0.99).is_none_or(|p99| p99 >= budget);
    if judgement.verdict != Verdict::Pass || !slow_tail || rule.quantile >= 0.99 {
        return Vec::new();
    }
    let text = format!(
        "{} of {} slots were over the budget: p99 is not within it, although p{} is",
        view.exceeded(),
        view.judged(),
        percent(rule.quantile)
    );
    vec![Warning { code: "tail", text }]
}

/// 0.95 → "95", 0.999 → "99.9".
pub fn percent(quantile: f64) -> String {
    let text = format!("{:.4}", quantile * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use probes::sample::{Failure, Sample, Timing};

    use super::super::window::Window;
    use super::*;

    const BUDGET: Duration = Duration::from_millis(10);
    const RULE: Rule = Rule {
        quantile: 0.95,
        alpha: 0.05,
        targets: 1,
        least: Duration::from_secs(12),
        most: Duration::from_secs(60),
    };

    fn look(limit: Limit, samples: impl IntoIterator<Item = Sample>) -> Look {
        let link = Link::to("a", Kind::Peer, None);
        let mut series = Series::new(Window::new(BUDGET, 10_000));
        samples.into_iter().for_each(|sample| series.window.record(&sample, Duration::ZERO));
        let progress = Progress { elapsed: RULE.most, overdue: 0, ended: true };
        Look { link, limit, series, progress }
    }

    fn of(good: u32, slow: u32) -> Look {
        let ok = |ms| Sample::from(Timing { rtt: Duration::from_millis(ms), ..Timing::default() });
        // Slow ones apart from each other, so that each counts in full.
        let every = (good + slow).checked_div(slow).unwrap_or(u32::MAX);
        let mut left = slow;
        look(
            Some(BUDGET),
            (0..good + slow).map(|i| {
                let is_slow = left > 0 && i % every == every - 1;
                left -= u32::from(is_slow);
                ok(if is_slow { 50 } else { 1 })
            }),
        )
    }

    #[test]
    fn the_worst_judged_target_decides_and_no_target_decides_nothing() {
        let verdict = |looks: &[Look]| Report::new(looks, RULE, Duration::ZERO).verdict;
        let informative = || look(None, [Failure::new(probes::Reason::Refused, "no").into()]);
        assert_eq!(verdict(&[]), Verdict::Inconclusive);
        assert_eq!(verdict(&[informative()]), Verdict::Inconclusive, "nothing was judged");
        assert_eq!(verdict(&[of(120, 0), informative()]), Verdict::Pass);
        assert_eq!(verdict(&[of(120, 0), of(20, 0)]), Verdict::Inconclusive);
        assert_eq!(verdict(&[of(120, 0), of(20, 0), of(0, 120)]), Verdict::Fail);
    }

    #[test]
    fn a_slow_tail_of_a_good_target_is_a_warning() {
        let report = Report::new(&[of(594, 6)], RULE, Duration::ZERO);
        assert_eq!(report.verdict, Verdict::Pass);
        assert!(!report.has_warnings(), "p99 of 600 is the 594th");
        let report = Report::new(&[of(593, 7)], RULE, Duration::ZERO);
        assert_eq!(report.verdict, Verdict::Pass, "{:?}", report.targets[0].judgement);
        assert_eq!(report.targets[0].warnings[0].code, "tail");
    }

    #[test]
    fn p99_is_told_apart() {
        let p99 = |look: Look| Report::new(&[look], RULE, Duration::ZERO).targets[0].p99;
        assert_eq!(p99(of(361, 0)), Some(Verdict::Inconclusive));
        assert_eq!(p99(of(362, 0)), Some(Verdict::Pass));
        assert_eq!(p99(of(285, 15)), Some(Verdict::Fail));
    }

    #[test]
    fn everything_but_a_pass_has_a_hint() {
        let refused = look(Some(BUDGET), [Failure::new(probes::Reason::Refused, "no").into()]);
        for look in [of(0, 120), of(60, 60), of(97, 3), of(10, 0), refused] {
            let report = Report::new(&[look], RULE, Duration::ZERO);
            assert!(report.targets[0].hint.is_some(), "{:?}", report.targets[0].judgement);
        }
    }

    #[test]
    fn quantiles_are_named_shortly() {
        for (quantile, name) in [(0.95, "95"), (0.5, "50"), (0.999, "99.9"), (0.99, "99")] {
            assert_eq!(percent(quantile), name);
        }
    }
}
