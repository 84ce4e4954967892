//! Pass, fail or inconclusive, and why.

use std::fmt;
use std::time::Duration;

use probes::sample::Reason as FailureReason;
use serde::Serialize;

use super::binomial;
use super::window::{Distribution, Window};

/// Of all slots, at most this share may be skipped because we ourselves were late.
const SKIPPED_SHARE_AT_MOST: f64 = 0.1;

/// What a target is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// A round trip of this length or longer is an exceedance.
    pub budget: Duration,
    /// The quantile that has to stay below the budget, for example 0.95.
    pub quantile: f64,
    /// How likely a path that breaks the budget may be passed, and one that keeps it be failed.
    pub alpha: f64,
    /// How many targets are judged together. Passing needs all of them, so that a bad one is passed with probability
    /// `alpha` at most; failing takes one, so each gets only its part of `alpha`.
    pub targets: u32,
}

/// The verdict. The order is that of severity: the worst of several is their maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
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
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "fail",
        }
    }
}

/// Why the verdict is what it is. The words are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Pass: the quantile stays below the budget.
    WithinBudget,
    /// Fail: even the fastest round trip is over the budget, so no tuning helps.
    Floor,
    /// Fail: half of the round trips and more are over the budget: the two are too far apart.
    Placement,
    /// Fail: the typical round trip is fine, too many are not.
    Jitter,
    /// Fail: too many got no reply.
    Loss,
    /// Fail: PostgreSQL's own execution takes most of the time.
    Server,
    /// Fail or inconclusive: there was no reply at all, or mostly this instead of one.
    NoReply(FailureReason),
    /// Inconclusive: fewer slots than a pass needs.
    TooFewSamples,
    /// Inconclusive: enough slots, too close to the border.
    Borderline,
    /// Inconclusive: this machine was too busy to measure.
    SelfNoise,
}

impl Reason {
    /// The stable word of this reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WithinBudget => "within_budget",
            Self::Floor => "floor",
            Self::Placement => "placement",
            Self::Jitter => "jitter",
            Self::Loss => "loss",
            Self::Server => "server",
            Self::NoReply(reason) => reason.as_str(),
            Self::TooFewSamples => "too_few_samples",
            Self::Borderline => "borderline",
            Self::SelfNoise => "self",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A verdict with its reason and the bounds that it rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Its reason.
    pub reason: Reason,
    /// Lower and upper Clopper–Pearson bound of the true share of exceedances, each at confidence 1 − alpha;
    /// (0, 1) when nothing was judged.
    pub exceeded_share: (f64, f64),
}

/// Judges one target by all its slots.
pub fn judge(window: &Window, rule: &Rule) -> Judgement {
    let (n, k) = (window.judged(), window.exceeded());
    let (verdict, reason) = decide(window, rule, n, k);
    let exceeded_share = if n == 0 {
        (0.0, 1.0)
    } else {
        (binomial::lower_bound(k, n, rule.alpha), binomial::upper_bound(k, n, rule.alpha))
    };
    Judgement { verdict, reason, exceeded_share }
}

fn decide(window: &Window, rule: &Rule, n: u32, k: u32) -> (Verdict, Reason) {
    let share = 1.0 - rule.quantile;
    if window.counts().ok == 0
        && let Some((_, failure)) = window.main_failure()
    {
        // Statistics have nothing to add: nothing ever came back. Our own retreat is no one's fault, though.
        let verdict = if n == 0 { Verdict::Inconclusive } else { Verdict::Fail };
        return (verdict, Reason::NoReply(failure.reason));
    }
    if f64::from(window.counts().skipped_self) > SKIPPED_SHARE_AT_MOST * f64::from(window.slots()) {
        return (Verdict::Inconclusive, Reason::SelfNoise);
    }
    if binomial::at_most(k, n, share) <= rule.alpha {
        return (Verdict::Pass, Reason::WithinBudget);
    }
    if binomial::at_least(k, n, share) < rule.alpha / f64::from(rule.targets.max(1)) {
        return (Verdict::Fail, why_over(window, rule, k));
    }
    if n == 0
        && let Some((_, failure)) = window.main_failure()
    {
        return (Verdict::Inconclusive, Reason::NoReply(failure.reason));
    }
    let fewest = binomial::fewest_to_pass(rule.quantile, rule.alpha);
    (Verdict::Inconclusive, if n < fewest { Reason::TooFewSamples } else { Reason::Borderline })
}

/// Which of the causes made the target fail: silence when it has more of the exceedances than slowness, then the
/// structural causes before the passing ones.
fn why_over(window: &Window, rule: &Rule, exceeded: u32) -> Reason {
    let silent = window.without_reply();
    if silent >= exceeded.saturating_sub(silent) {
        let counts = window.counts();
        return match window.main_failure() {
            Some((_, failure)) if counts.lost < counts.refused + counts.error => {
                Reason::NoReply(failure.reason)
            }
            _ => Reason::Loss,
        };
    }
    let over = |duration: Option<Duration>| duration.is_some_and(|duration| duration >= rule.budget);
    let median = |distribution: &Distribution| distribution.quantile(0.5).unwrap_or_default();
    if median(&window.server()) > median(&window.network()) {
        return Reason::Server;
    }
    let rtt = window.rtt();
    if over(rtt.min()) {
        Reason::Floor
    } else if over(rtt.quantile(0.5)) {
        Reason::Placement
    } else {
        Reason::Jitter
    }
}

#[cfg(test)]
mod tests {
    use probes::sample::{Failure, Outcome, Sample, Timing};
    use proptest::prelude::*;

    use super::*;

    const RULE: Rule = Rule { budget: Duration::from_millis(10), quantile: 0.95, alpha: 0.05, targets: 1 };

    fn ok(ms: f64) -> Sample {
        Timing { rtt: Duration::from_secs_f64(ms / 1000.0), ..Timing::default() }.into()
    }

    fn failed(reason: FailureReason) -> Sample {
        Failure::new(reason, "because").into()
    }

    fn window(samples: impl IntoIterator<Item = Sample>) -> Window {
        let mut window = Window::new(RULE.budget);
        samples.into_iter().for_each(|sample| window.record(sample));
        window
    }

    fn with(good: u32, bad: u32, ms: f64) -> Window {
        window((0..good).map(|_| ok(0.5)).chain((0..bad).map(|_| ok(ms))))
    }

    fn verdict(window: &Window) -> (Verdict, &'static str) {
        let judgement = judge(window, &RULE);
        (judgement.verdict, judgement.reason.as_str())
    }

    #[test]
    fn the_decision_integers_are_those_of_the_table() {
        // n, most exceedances that pass, fewest that fail; one-sided 5 % each.
        for (quantile, alpha, n, pass, fail) in [
            (0.95, 0.05, 60, Some(0), 7),
            (0.95, 0.05, 100, Some(1), 10),
            (0.95, 0.05, 200, Some(4), 16),
            (0.95, 0.05, 300, Some(8), 22),
            (0.95, 0.05, 1000, Some(38), 63),
            (0.95, 0.05, 3000, Some(130), 171),
            (0.95, 0.01, 60, None, 8),
            (0.95, 0.01, 300, Some(6), 25),
            (0.99, 0.05, 60, None, 3),
            (0.99, 0.05, 300, Some(0), 7),
            (0.99, 0.05, 1000, Some(4), 16),
            (0.5, 0.05, 60, Some(23), 37),
            (0.5, 0.05, 1000, Some(473), 527),
        ] {
            let rule = Rule { quantile, alpha, ..RULE };
            let of = |bad: u32| judge(&with(n - bad, bad, 20.0), &rule).verdict;
            let case = format!("p{quantile} α={alpha} n={n}");
            if let Some(pass) = pass {
                assert_eq!(of(pass), Verdict::Pass, "{case}");
                assert_eq!(of(pass + 1), Verdict::Inconclusive, "{case}");
            } else {
                assert_eq!(of(0), Verdict::Inconclusive, "{case}");
            }
            assert_eq!(of(fail), Verdict::Fail, "{case}");
            assert_eq!(of(fail - 1), Verdict::Inconclusive, "{case}");
        }
    }

    #[test]
    fn each_way_to_fail_has_its_own_reason() {
        assert_eq!(verdict(&with(0, 120, 23.0)), (Verdict::Fail, "floor"));
        assert_eq!(verdict(&with(20, 100, 23.0)), (Verdict::Fail, "placement"));
        assert_eq!(verdict(&with(90, 30, 23.0)), (Verdict::Fail, "jitter"));
        let lossy =
            window((0..120).map(|i| if i % 5 == 0 { failed(FailureReason::Timeout) } else { ok(0.5) }));
        assert_eq!(verdict(&lossy), (Verdict::Fail, "loss"));
        let cut = window((0..120).map(|i| if i > 60 { failed(FailureReason::Closed) } else { ok(0.5) }));
        assert_eq!(verdict(&cut), (Verdict::Fail, "closed"));
        let busy = Timing {
            rtt: Duration::from_millis(30),
            server: Some(Duration::from_millis(29)),
            ..Timing::default()
        };
        assert_eq!(verdict(&window((0..120).map(|_| busy.clone().into()))), (Verdict::Fail, "server"));
    }

    #[test]
    fn what_never_answered_fails_at_once_with_its_cause() {
        for reason in
            [FailureReason::Resolve, FailureReason::Refused, FailureReason::Auth, FailureReason::Timeout]
        {
            assert_eq!(verdict(&window([failed(reason)])), (Verdict::Fail, reason.as_str()));
        }
    }

    #[test]
    fn what_is_not_known_is_never_good() {
        assert_eq!(verdict(&window([])), (Verdict::Inconclusive, "too_few_samples"));
        assert_eq!(verdict(&with(58, 0, 0.0)), (Verdict::Inconclusive, "too_few_samples"));
        assert_eq!(verdict(&with(97, 3, 20.0)), (Verdict::Inconclusive, "borderline"));
        let kept_away = window([failed(FailureReason::ConnectionsLow)]);
        assert_eq!(verdict(&kept_away), (Verdict::Inconclusive, "connections_low"));
        let skipped = Sample { outcome: Outcome::SkippedSelf };
        let starved = window((0..120).map(|i| if i % 6 == 0 { skipped.clone() } else { ok(0.5) }));
        assert_eq!(verdict(&starved), (Verdict::Inconclusive, "self"));
    }

    #[test]
    fn with_many_targets_one_of_them_needs_stronger_evidence_to_fail_all() {
        let ten_of_hundred = with(90, 10, 20.0);
        assert_eq!(judge(&ten_of_hundred, &RULE).verdict, Verdict::Fail);
        assert_eq!(judge(&ten_of_hundred, &Rule { targets: 12, ..RULE }).verdict, Verdict::Inconclusive);
    }

    proptest! {
        #[test]
        fn a_faster_sample_never_worsens_a_verdict(mut ms in proptest::collection::vec(0.1..30.0_f64, 1..200), index: prop::sample::Index) {
            let before = judge(&window(ms.iter().map(|ms| ok(*ms))), &RULE).verdict;
            let slot = index.index(ms.len());
            ms[slot] /= 10.0;
            let after = judge(&window(ms.iter().map(|ms| ok(*ms))), &RULE).verdict;
            prop_assert!(after <= before, "{before:?} became {after:?}");
        }
    }
}
