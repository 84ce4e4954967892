//! One bounded look: pass, fail, inconclusive, or not yet.
//!
//! The sequential test may be asked after every sample. Around it stand rules that statistics cannot give:
//!
//! * no answer before [`Rule::least`] and a least number of clean samples, so that one stall fails nobody;
//! * but a fail after 3 s when there was not a single reply within the budget among at least 20, and hardly one spoilt;
//! * no pass while a slot waits for its reply longer than the budget, nor with more than 10 % of the slots spoilt by our
//!   own noise. (A disturbed reply within the budget spoils nothing: it would have come sooner yet.)
//! * disturbed samples leave n and k of a pass and count as good ones for a fail, so our noise decides nothing. (Leaving
//!   them out of both would fail a path whose good samples are disturbed more often than its certainly bad ones.)

use std::time::Duration;

use serde::Serialize;

use super::binomial;
use super::budget::Limit;
use super::cause::{self, Finding, Reason};
use super::sequential::{Bets, Dependence};
use super::series::Series;
use super::window::View;

/// Of all slots, at most this share may be spoilt by our own noise.
const SPOILT_SHARE_AT_MOST: f64 = 0.1;
/// When nothing at all was within the budget, so many slots over so long are enough.
const HOPELESS_SLOTS: u32 = 20;
const HOPELESS_AFTER: Duration = Duration::from_secs(3);

/// What a look is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// The quantile that has to stay below the budget, for example 0.95.
    pub quantile: f64,
    /// How likely a path that breaks the budget may be passed, and one that keeps it be failed.
    pub alpha: f64,
    /// How many targets are judged together. Passing needs all of them, so that a bad one is passed with probability
    /// `alpha` at most; failing takes one, so each gets only its part of `alpha`.
    pub targets: u32,
    /// No pass, and no fail of what answers in time now and then, before this.
    pub least: Duration,
    /// What has no answer by then is inconclusive.
    pub most: Duration,
}

impl Rule {
    /// The fewest clean samples that can pass: what the test needs, and at least so many that five exceedances would be
    /// expected at the border.
    pub fn fewest_to_pass(&self) -> u32 {
        let five = binomial::whole((5.0 / (1.0 - self.quantile) - 1e-9).ceil());
        five.max(Bets::on(self.quantile).fewest_to_pass(self.alpha))
    }

    /// The longest spells of slowness that a look of this length meets with 95 %, if they take the allowed share of the
    /// time: T·p₀/3. Rarer and longer ones may all fall outside of it.
    pub fn blind_beyond(&self, elapsed: Duration) -> Duration {
        elapsed.mul_f64((1.0 - self.quantile) / 3.0)
    }
}

/// The verdict. The order is that of severity: the worst of several is their maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Measured for information only.
    Info,
    /// The quantile is below the budget, with confidence 1 − alpha.
    Pass,
    /// The samples do not suffice to say either.
    Inconclusive,
    /// The quantile is over the budget with that confidence, or the target cannot be reached at all.
    Fail,
}

impl Verdict {
    /// The stable word of this verdict.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "fail",
        }
    }
}

/// A verdict with its reasons and the bounds that it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why; never empty, the first is the one to act on.
    pub findings: Vec<Finding>,
    /// More samples will not change it.
    pub settled: bool,
    /// Lower and upper Clopper–Pearson bound of the true share of exceedances, each at confidence 1 − alpha, for
    /// independent slots; (0, 1) when nothing was judged.
    pub exceeded_share: (f64, f64),
}

impl Judgement {
    /// The reason to act on.
    pub fn reason(&self) -> Reason {
        self.findings.first().map_or(Reason::TooFewSamples, |finding| finding.reason)
    }
}

/// How far a look has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Since the first slot.
    pub elapsed: Duration,
    /// Slots that wait for their reply longer than the budget.
    pub overdue: u32,
    /// No further slot will come.
    pub ended: bool,
}

/// Judges one target by all its slots so far.
pub fn judge(series: &Series, limit: Limit, rule: &Rule, progress: Progress) -> Judgement {
    let view = series.window.all();
    let (n, k) = (view.judged(), view.exceeded());
    let (verdict, findings) = match limit {
        Some(budget) => decide(series, &view, budget, rule, progress),
        None => (Verdict::Info, vec![Finding::new(Reason::NoBudget, "this class of link has no budget")]),
    };
    let settled = match verdict {
        Verdict::Pass | Verdict::Fail => true,
        Verdict::Info => progress.elapsed >= rule.least || progress.ended,
        Verdict::Inconclusive => progress.ended || progress.elapsed >= rule.most,
    };
    let exceeded_share = if n == 0 {
        (0.0, 1.0)
    } else {
        (binomial::lower_bound(k, n, rule.alpha), binomial::upper_bound(k, n, rule.alpha))
    };
    Judgement { verdict, findings, settled, exceeded_share }
}

fn decide(
    series: &Series,
    view: &View<'_>,
    budget: Duration,
    rule: &Rule,
    progress: Progress,
) -> (Verdict, Vec<Finding>) {
    let (n, k, marked) = (view.judged(), view.exceeded(), view.marked());
    let elapsed = progress.elapsed;
    let why = || cause::of(series, budget, 1.0 - rule.quantile, None, elapsed);
    if progress.ended
        && view.replies() == 0
        && let Some((_, reason)) = view.main_failure()
    {
        // Statistics have nothing to add: nothing ever came back. Our own retreat is no one's fault, though.
        let verdict = if n == 0 { Verdict::Inconclusive } else { Verdict::Fail };
        let detail = series.window.last_failure().map_or_else(String::new, ToString::to_string);
        return (verdict, vec![Finding::new(Reason::NoReply(reason), detail)]);
    }
    let spoilt = view.spoilt();
    let clean = f64::from(spoilt) <= SPOILT_SHARE_AT_MOST * f64::from(view.slots());
    let hopeless = k == n && n >= HOPELESS_SLOTS && clean && view.within_although_marked() == 0;
    if hopeless && elapsed >= HOPELESS_AFTER {
        return (Verdict::Fail, why());
    }
    let bets = Bets::on(rule.quantile);
    let worth = 1.0 / Dependence::of(view.exceedances()).design_effect();
    let (nf, kf) = (f64::from(n) * worth, f64::from(k) * worth);
    let within = bets.ln_pass(nf, kf) >= -rule.alpha.ln();
    if elapsed >= rule.least || progress.ended {
        if within && clean && progress.overdue == 0 && n >= rule.fewest_to_pass() {
            return (Verdict::Pass, vec![Finding::new(Reason::WithinBudget, within_budget(view, rule))]);
        }
        let with_spoilt = f64::from(n + marked) * worth;
        let needed = (f64::from(rule.targets.max(1)) / rule.alpha).ln();
        if n >= HOPELESS_SLOTS && bets.ln_fail(with_spoilt, kf) >= needed {
            return (Verdict::Fail, why());
        }
    }
    if (progress.ended || elapsed >= rule.most) && view.failures_in_a_row() >= HOPELESS_SLOTS {
        // However long it was fine before: it does not answer now, and the time is up.
        return (Verdict::Fail, why());
    }
    let finding = if !clean && view.spoilt_by_peer() * 2 > spoilt {
        let text =
            format!("{spoilt} of {} slots were spoilt: the other agent waited for a CPU", view.slots());
        Finding::new(Reason::Server, text)
    } else if !clean {
        Finding::new(
            Reason::SelfNoise,
            format!("{spoilt} of {} slots were spoilt by this machine itself", view.slots()),
        )
    } else if n == 0 && view.main_failure().is_some() {
        let reason = view.main_failure().map_or(Reason::TooFewSamples, |(_, reason)| Reason::NoReply(reason));
        let detail = series.window.last_failure().map_or_else(String::new, ToString::to_string);
        Finding::new(reason, detail)
    } else if n < rule.fewest_to_pass() {
        Finding::new(Reason::TooFewSamples, format!("{n} clean samples, {} needed", rule.fewest_to_pass()))
    } else {
        Finding::new(Reason::Borderline, format!("{k} of {n} were over the budget: too close to tell"))
    };
    (Verdict::Inconclusive, vec![finding])
}

fn within_budget(view: &View<'_>, rule: &Rule) -> String {
    let quantile = view.judged_quantile(rule.quantile).map_or_else(|| "–".to_owned(), cause::ms);
    format!(
        "p{} {quantile}, {} of {} within",
        super::report::percent(rule.quantile),
        view.judged() - view.exceeded(),
        view.judged()
    )
}

#[cfg(test)]
mod tests {
    use probes::sample::{Failure, Reason as FailureReason, Sample, Timing};
    use proptest::prelude::*;

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

    fn ok(ms: f64) -> Sample {
        Timing { rtt: Duration::from_secs_f64(ms / 1000.0), ..Timing::default() }.into()
    }

    fn marked(ms: f64) -> Sample {
        Sample { own_wait: Duration::from_millis(1), ..ok(ms) }
    }

    fn failed(reason: FailureReason) -> Sample {
        Failure::new(reason, "because").into()
    }

    fn series(samples: impl IntoIterator<Item = Sample>) -> Series {
        let mut series = Series::new(Window::new(BUDGET, 10_000));
        samples.into_iter().for_each(|sample| series.window.record(&sample, Duration::ZERO));
        series
    }

    /// After so many tenths of a second, with ten slots a second.
    fn after(samples: impl IntoIterator<Item = Sample>) -> (Verdict, &'static str) {
        let series = series(samples);
        let elapsed = Duration::from_millis(100) * series.window.all().slots();
        let judgement = judge(&series, Some(BUDGET), &RULE, Progress { elapsed, overdue: 0, ended: false });
        (judgement.verdict, judgement.reason().as_str())
    }

    #[test]
    fn a_clean_path_passes_at_twelve_seconds_and_not_before() {
        assert_eq!(after((0..119).map(|_| ok(0.5))), (Verdict::Inconclusive, "borderline"));
        assert_eq!(after((0..120).map(|_| ok(0.5))), (Verdict::Pass, "within_budget"));
        assert_eq!(RULE.fewest_to_pass(), 100);
        let unanswered = Progress { elapsed: Duration::from_secs(12), overdue: 1, ended: false };
        let clean = series((0..120).map(|_| ok(0.5)));
        assert_eq!(judge(&clean, Some(BUDGET), &RULE, unanswered).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn a_far_path_fails_after_three_seconds_and_one_stall_fails_nobody() {
        assert_eq!(after((0..29).map(|_| ok(20.0))).0, Verdict::Inconclusive);
        assert_eq!(after((0..30).map(|_| ok(20.0))), (Verdict::Fail, "placement"));
        assert_eq!(after((0..30).map(|_| failed(FailureReason::Timeout))), (Verdict::Fail, "loss"));
        assert_eq!(after((0..30).map(|i| ok(if i == 3 { 0.5 } else { 20.0 }))).0, Verdict::Inconclusive);
        assert_eq!(after((0..120).map(|i| ok(if i < 5 { 90.0 } else { 0.5 }))).0, Verdict::Inconclusive);
        assert_eq!(
            after((0..120).map(|i| ok(if i % 4 == 0 { 20.0 } else { 0.5 }))),
            (Verdict::Fail, "jitter")
        );
    }

    #[test]
    fn what_never_answered_fails_at_once_with_its_cause() {
        let ended = Progress { ended: true, ..Progress::default() };
        for reason in
            [FailureReason::Resolve, FailureReason::Refused, FailureReason::Auth, FailureReason::Timeout]
        {
            let judgement = judge(&series([failed(reason)]), Some(BUDGET), &RULE, ended);
            assert_eq!((judgement.verdict, judgement.reason().as_str()), (Verdict::Fail, reason.as_str()));
            assert!(judgement.settled);
        }
        let kept_away = judge(&series([failed(FailureReason::ConnectionsLow)]), Some(BUDGET), &RULE, ended);
        assert_eq!(
            (kept_away.verdict, kept_away.reason().as_str()),
            (Verdict::Inconclusive, "connections_low")
        );
    }

    #[test]
    fn what_is_not_known_is_never_good() {
        let nothing =
            judge(&series([]), Some(BUDGET), &RULE, Progress { ended: true, ..Progress::default() });
        assert_eq!(nothing.verdict, Verdict::Inconclusive);
        assert_eq!(after((0..60).map(|_| ok(0.5))), (Verdict::Inconclusive, "too_few_samples"));
        let endless = Progress { elapsed: RULE.most, overdue: 0, ended: false };
        let close = judge(
            &series((0..600).map(|i| ok(if i % 19 == 0 { 20.0 } else { 0.5 }))),
            Some(BUDGET),
            &RULE,
            endless,
        );
        assert_eq!((close.verdict, close.reason().as_str()), (Verdict::Inconclusive, "borderline"));
        assert!(close.settled);
    }

    #[test]
    fn what_has_died_by_the_end_fails_although_it_was_fine_for_long() {
        let died = || {
            let good = (0..80).map(|_| ok(0.5));
            series(good.chain((0..25).map(|_| failed(FailureReason::Closed))))
        };
        let at = |ended| Progress { elapsed: Duration::from_secs(10), overdue: 0, ended };
        assert_eq!(judge(&died(), Some(BUDGET), &RULE, at(false)).verdict, Verdict::Inconclusive);
        let judgement = judge(&died(), Some(BUDGET), &RULE, at(true));
        assert_eq!((judgement.verdict, judgement.reason().as_str()), (Verdict::Fail, "closed"));
    }

    #[test]
    fn our_own_noise_neither_passes_nor_fails_anybody() {
        // 40 ms, of which we ourselves may have slept through 35.
        let stalled = || Sample { own_wait: Duration::from_millis(35), ..ok(40.0) };
        let spoilt = |every: u32| (0..200).map(move |i| if i % every == 0 { stalled() } else { ok(0.5) });
        assert_eq!(after(spoilt(20)), (Verdict::Pass, "within_budget"), "5 % are left out");
        assert_eq!(after(spoilt(5)), (Verdict::Inconclusive, "self"));
        let skipped = (0..200).map(|i| if i % 6 == 0 { Sample::skipped_self() } else { ok(0.5) });
        assert_eq!(after(skipped), (Verdict::Inconclusive, "self"));
        // A tenth is certainly over the budget; that most good ones are spoilt must not make it more.
        let half_spoilt = (0..400).map(|i| match i % 100 {
            0..3 => ok(20.0),
            3..60 => marked(0.5),
            _ => ok(0.5),
        });
        assert_eq!(after(half_spoilt).0, Verdict::Inconclusive, "3 % are not over 5 %");
        // What is judged at all is certainly over the budget; nine times as much nobody knows.
        let biased = (0..300).map(|i| if i % 10 == 0 { ok(20.0) } else { stalled() });
        assert_eq!(after(biased), (Verdict::Inconclusive, "self"));
        let starved_peer = (0..200).map(|_| Sample { peer_wait: Duration::from_millis(39), ..ok(40.0) });
        assert_eq!(after(starved_peer), (Verdict::Inconclusive, "server"), "it is not our machine");
    }

    #[test]
    fn with_many_targets_one_of_them_needs_stronger_evidence_to_fail_all() {
        let some = series((0..150).map(|i| ok(if i % 9 == 4 { 20.0 } else { 0.5 })));
        let progress = Progress { elapsed: Duration::from_secs(15), overdue: 0, ended: false };
        let of = |targets| judge(&some, Some(BUDGET), &Rule { targets, ..RULE }, progress).verdict;
        assert_eq!((of(1), of(500)), (Verdict::Fail, Verdict::Inconclusive));
    }

    #[test]
    fn a_link_without_a_budget_is_for_information() {
        let far = series((0..150).map(|_| ok(80.0)));
        let judgement = judge(&far, None, &RULE, Progress { elapsed: RULE.least, ..Progress::default() });
        assert_eq!((judgement.verdict, judgement.settled), (Verdict::Info, true));
    }

    #[test]
    fn a_look_is_blind_to_rare_spells_longer_than_a_sixtieth_of_it() {
        assert_eq!(RULE.blind_beyond(Duration::from_secs(12)).as_millis(), 200);
        assert_eq!(RULE.blind_beyond(Duration::from_secs(60)).as_millis(), 1000);
    }

    proptest! {
        /// Only with a design effect of its own can a faster sample cost anything: where it breaks up a burst, what
        /// remains looks less dependent. So a verdict may become less certain by it, but never the opposite.
        #[test]
        fn a_faster_sample_never_turns_a_pass_into_a_fail(slow in proptest::collection::vec(0..20_u8, 120..400), index: prop::sample::Index) {
            let mut ms: Vec<_> = slow.into_iter().map(|dice| if dice == 0 { 20.0 } else { 0.5 }).collect();
            let before = after(ms.iter().map(|ms| ok(*ms))).0;
            let slot = index.index(ms.len());
            ms[slot] /= 10.0;
            let after = after(ms.iter().map(|ms| ok(*ms))).0;
            prop_assert!(before != Verdict::Pass || after != Verdict::Fail);
        }

        #[test]
        fn with_fewer_exceedances_the_test_is_never_worse(n in 1_u32..3000, share in 0.0..1.0_f64, quantile in 0.5..0.999_f64) {
            let (n, k) = (f64::from(n), (f64::from(n) * share).floor());
            let bets = Bets::on(quantile);
            prop_assert!(bets.ln_pass(n, (k - 1.0).max(0.0)) >= bets.ln_pass(n, k));
            prop_assert!(bets.ln_fail(n, (k - 1.0).max(0.0)) <= bets.ln_fail(n, k));
        }
    }
}
