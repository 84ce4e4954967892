//! Why a link is over its budget: reasons out of a closed list, each with the figures that it rests on.
//!
//! What is looked at is the stretch since the exceedances began, not the whole window: a database that moved a minute ago
//! is far, although four of the last five minutes were fine. The first reason is the one to act on.

use std::fmt;
use std::time::Duration;

use probes::sample::Reason as FailureReason;
use serde::Serialize;

use super::floor::RouteChange;
use super::series::Series;
use super::window::View;

/// Why a verdict or a state is what it is. The words are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Pass: the quantile stays below the budget.
    WithinBudget,
    /// Half of the round trips and more are over the budget: the two are too far apart.
    Placement,
    /// Even the fastest round trip is over the budget, so no tuning helps. Comes with `placement`.
    Floor,
    /// The typical round trip is fine, too many are not.
    Jitter,
    /// Too many got no reply.
    Loss,
    /// PostgreSQL's own execution, or the time that a reflector holds the echo, takes most of the time.
    Server,
    /// Queries are slow while bare connects to the same server are fast: the server or a proxy before it is busy, or the
    /// way beyond that proxy is long. It is not the distance of what answers the connect.
    ServerOrProxy,
    /// There was no reply at all, or mostly this instead of one.
    NoReply(FailureReason),
    /// The path itself has got longer.
    RouteChange,
    /// Only the slowest hundredth is over the budget.
    Tail,
    /// Within the budget, but by less than a tenth of it.
    Margin,
    /// It has just come back from an outage.
    Recovering,
    /// It answers. This kind is measured too rarely for a verdict on its latency.
    Reachable,
    /// Fewer slots than a statement needs.
    TooFewSamples,
    /// Enough slots, too close to the border.
    Borderline,
    /// This machine was too busy to measure.
    SelfNoise,
    /// Measured for information only: this class of link has no budget.
    NoBudget,
}

impl Reason {
    /// The stable word of this reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WithinBudget => "within_budget",
            Self::Placement => "placement",
            Self::Floor => "floor",
            Self::Jitter => "jitter",
            Self::Loss => "loss",
            Self::Server => "server",
            Self::ServerOrProxy => "server_or_proxy",
            Self::NoReply(reason) => reason.as_str(),
            Self::RouteChange => "route_change",
            Self::Tail => "tail",
            Self::Margin => "margin",
            Self::Recovering => "recovering",
            Self::Reachable => "reachable",
            Self::TooFewSamples => "too_few_samples",
            Self::Borderline => "borderline",
            Self::SelfNoise => "self",
            Self::NoBudget => "no_budget",
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

/// A reason with the figures that it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable word.
    pub reason: Reason,
    /// One line for people.
    pub evidence: String,
}

impl Finding {
    /// A finding.
    pub fn new(reason: Reason, evidence: impl Into<String>) -> Self {
        Self { reason, evidence: evidence.into() }
    }
}

/// Why this series is over `budget` of which `share` may be exceeded; never empty. The first is the one to act on.
pub fn of(
    series: &Series,
    budget: Duration,
    share: f64,
    route: Option<RouteChange>,
    now: Duration,
) -> Vec<Finding> {
    // Twice the allowed share: a stray slow sample long before the onset must not stretch it.
    let view = series.window.all().since_onset(2.0 * share);
    let mut findings = vec![first(series, &view, budget, now)];
    let rtt = view.rtt();
    if findings[0].reason == Reason::Placement
        && let Some(min) = rtt.min().filter(|min| *min >= budget)
    {
        findings.push(Finding::new(
            Reason::Floor,
            format!("even the fastest of {} round trips took {}", rtt.len(), ms(min)),
        ));
    }
    if let Some(change) = route.filter(|change| change.to > change.from) {
        findings.push(Finding::new(
            Reason::RouteChange,
            format!(
                "the floor rose from {} to {} over {} samples",
                ms(change.from),
                ms(change.to),
                change.samples
            ),
        ));
    }
    findings
}

/// Silence when it has more of the exceedances than slowness, then who took the time, then how the slow ones lie.
fn first(series: &Series, view: &View<'_>, budget: Duration, now: Duration) -> Finding {
    let (exceeded, silent) = (view.exceeded(), view.silent());
    let connect = series.connect(now);
    if silent > 0 && silent >= exceeded - silent {
        return silence(view, silent, connect.filter(|connect| !is_far(*connect, budget)));
    }
    let resent = view.slow_and_resent();
    // Only what we sent can be seen; as much gets lost on the way back, and each delays the questions behind it.
    if resent >= 2 && resent * 8 >= exceeded {
        let text = format!("in {resent} of {exceeded} slow round trips TCP had to send something again");
        return Finding::new(Reason::Loss, text);
    }
    let rtt = view.rtt();
    let median = rtt.quantile(0.5).unwrap_or_default();
    let (network, server) = (view.slow_network(budget), view.slow_server(budget));
    if let (Some(network), Some(server)) = (network.quantile(0.5), server.quantile(0.5))
        && server > network
    {
        let text = format!(
            "of the slow queries' round trip, {} are the server's execution and {} the network's",
            ms(server),
            ms(network)
        );
        return Finding::new(Reason::Server, text);
    }
    let over = format!("p50 {} of {} round trips since it began", ms(median), rtt.len());
    // If the way were to blame, it would be so for some of the connects too.
    let connects: Vec<_> = series.connects(now).collect();
    let fast_all = !connects.iter().any(|connect| is_far(*connect, budget));
    let slow_share = f64::from(exceeded - silent) / f64::from(view.judged().max(1));
    let by_chance = (1.0 - slow_share).powi(i32::try_from(connects.len()).unwrap_or(i32::MAX));
    // Where segments get lost, connects whose first one did are not among them.
    if median < budget && !network.is_empty() && resent == 0 && fast_all && by_chance <= 0.05 {
        let text = format!(
            "{} of {} queries took {} or longer, none of {} bare connects did",
            exceeded - silent,
            view.judged(),
            ms(budget),
            connects.len()
        );
        return Finding::new(Reason::ServerOrProxy, text);
    }
    if median < budget {
        let again = if resent > 0 {
            format!("; in {resent} of them TCP sent something again")
        } else {
            String::new()
        };
        let slow = format!("{} of {} took {} or longer", exceeded - silent, view.judged(), ms(budget));
        return Finding::new(Reason::Jitter, format!("{over}, but {slow}{again}"));
    }
    match (network.quantile(0.5), connect) {
        (Some(network), Some(connect)) if !is_far(connect, budget) => Finding::new(
            Reason::ServerOrProxy,
            format!(
                "queries spend {} outside PostgreSQL's execution, a bare connect takes {}",
                ms(network),
                ms(connect)
            ),
        ),
        (Some(_), Some(connect)) => {
            Finding::new(Reason::Placement, format!("{over}; a bare connect takes {}", ms(connect)))
        }
        // Distance has no fast round trips; a squeezed server has them between its pauses.
        (Some(_), None) => {
            let fast = rtt.quantile(0.05).unwrap_or_default();
            let reason = if fast < budget { Reason::ServerOrProxy } else { Reason::Placement };
            let evidence = format!("{over}, p5 {}; no bare connect was measured", ms(fast));
            Finding::new(reason, evidence)
        }
        (None, _) => Finding::new(Reason::Placement, over),
    }
}

/// Whether the way by itself takes the budget, or so nearly that a query over it does: then nothing that is done at the
/// server helps. Where it does not, the server or what stands before it takes the rest, however long the way is.
fn is_far(connect: Duration, budget: Duration) -> bool {
    connect >= budget.mul_f64(0.9)
}

/// `near` is what a bare connect took, if it was fast.
fn silence(view: &View<'_>, silent: u32, near: Option<Duration>) -> Finding {
    let counts = view.counts();
    if let (Some((count, FailureReason::Timeout)), Some(connect)) = (view.main_failure(), near)
        && count * 2 > silent
    {
        let text = format!(
            "{silent} of {} queries got no answer in time, a bare connect takes {}",
            view.judged(),
            ms(connect)
        );
        return Finding::new(Reason::ServerOrProxy, text);
    }
    match view.main_failure() {
        Some((count, reason)) if counts.lost < counts.refused + counts.error => Finding::new(
            Reason::NoReply(reason),
            format!("{silent} of {} got no reply, {count} of them: {}", view.judged(), reason.as_str()),
        ),
        _ => {
            let (there, back) = view.lost_by_direction();
            let side = match (there, back) {
                (0, 0) => String::new(),
                _ => format!(" ({there} on the way there, {back} on the way back)"),
            };
            Finding::new(Reason::Loss, format!("{silent} of {} got no reply{side}", view.judged()))
        }
    }
}

/// Milliseconds with three significant digits: more than the instrument can promise.
pub fn ms(duration: Duration) -> String {
    format!("{} ms", ms_number(duration))
}

/// The same without the unit.
pub fn ms_number(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    match ms {
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms if ms < 100.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use probes::sample::{Failure, Sample, Timing};

    use super::super::window::Window;
    use super::*;

    const BUDGET: Duration = Duration::from_millis(10);

    fn duration(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1000.0)
    }

    fn reply(rtt: f64) -> Sample {
        Timing { rtt: duration(rtt), ..Timing::default() }.into()
    }

    fn query(rtt: f64, server: f64) -> Sample {
        Timing { rtt: duration(rtt), server: Some(duration(server)), ..Timing::default() }.into()
    }

    fn reasons(samples: impl IntoIterator<Item = Sample>, connects: &[f64]) -> Vec<&'static str> {
        let mut series = Series::new(Window::new(BUDGET, 1000));
        samples.into_iter().for_each(|sample| series.window.record(&sample, Duration::ZERO));
        connects.iter().for_each(|connect| series.connected(&reply(*connect), Duration::ZERO));
        let found = of(&series, BUDGET, 0.05, None, Duration::ZERO);
        found.iter().map(|finding| finding.reason.as_str()).collect()
    }

    #[test]
    fn a_far_path_is_placement_and_floor_and_one_that_moved_away_lately_as_well() {
        assert_eq!(reasons((0..120).map(|_| reply(23.0)), &[]), ["placement", "floor"]);
        assert_eq!(
            reasons((0..300).map(|i| reply(if i < 275 { 0.5 } else { 30.5 })), &[]),
            ["placement", "floor"]
        );
        assert_eq!(reasons((0..120).map(|i| reply(if i % 6 == 0 { 2.0 } else { 23.0 })), &[]), ["placement"]);
    }

    #[test]
    fn some_slow_ones_are_jitter_and_silence_is_loss_or_its_own_cause() {
        assert_eq!(reasons((0..300).map(|i| reply(if i % 8 == 0 { 30.0 } else { 0.5 })), &[]), ["jitter"]);
        let lost = |reason| Sample::from(Failure::new(reason, "x"));
        assert_eq!(
            reasons(
                (0..100).map(|i| if i % 5 == 0 { lost(FailureReason::Timeout) } else { reply(0.5) }),
                &[]
            ),
            ["loss"]
        );
        assert_eq!(
            reasons((0..100).map(|i| if i > 60 { lost(FailureReason::Closed) } else { reply(0.5) }), &[]),
            ["closed"]
        );
    }

    #[test]
    fn a_few_slow_ones_at_the_end_do_not_make_a_steady_share_a_distance() {
        let steady = (0..300).map(|i| reply(if i % 14 == 13 || i == 298 { 30.0 } else { 0.6 }));
        assert_eq!(reasons(steady, &[]), ["jitter"]);
    }

    #[test]
    fn a_distance_that_was_mended_stays_one_until_the_last_of_it_is_forgotten() {
        for left in [40, 29, 12] {
            let mended = (0..300).map(|i| reply(if i < left { 30.0 } else { 0.6 }));
            assert_eq!(reasons(mended, &[]), ["placement", "floor"], "{left} left");
        }
    }

    #[test]
    fn what_tcp_had_to_send_again_is_loss_although_it_arrived() {
        let resent = |rtt| Timing { rtt: duration(rtt), retransmits: Some(1), ..Timing::default() }.into();
        let lossy = (0..100).map(|i| if i % 8 == 0 { resent(210.0) } else { reply(2.0) });
        assert_eq!(reasons(lossy, &[]), ["loss"]);
    }

    #[test]
    fn a_busy_server_is_never_called_a_far_one() {
        assert_eq!(reasons((0..60).map(|_| query(30.0, 29.0)), &[0.2]), ["server"]);
        assert_eq!(reasons((0..60).map(|_| query(30.0, 0.1)), &[0.2, 0.3, 0.2]), ["server_or_proxy"]);
        assert_eq!(reasons((0..60).map(|_| query(30.0, 0.1)), &[29.0, 30.0, 0.2]), ["placement", "floor"]);
        assert_eq!(reasons((0..60).map(|_| query(12.0, 0.1)), &[9.0]), ["placement", "floor"]);
        assert_eq!(
            reasons((0..60).map(|_| query(30.0, 0.1)), &[11.0]),
            ["placement", "floor"],
            "far and busy"
        );
        assert_eq!(
            reasons((0..60).map(|_| query(14.0, 0.1)), &[8.0]),
            ["server_or_proxy"],
            "the way is short enough"
        );
        let now_and_then = |every| (0..200).map(move |i| query(if i % every == 0 { 40.0 } else { 0.4 }, 0.1));
        assert_eq!(
            reasons(now_and_then(3), &[0.3; 10]),
            ["server_or_proxy"],
            "a third of the connects would be slow"
        );
        assert_eq!(reasons(now_and_then(3), &[0.3; 3]), ["jitter"], "three connects may be fast by chance");
        assert_eq!(reasons(now_and_then(14), &[0.3; 10]), ["jitter"], "and ten where few are slow");
        let lossy = |i: u32| {
            let timing = |rtt, retransmits| Timing {
                rtt: duration(rtt),
                server: Some(duration(0.1)),
                retransmits: Some(retransmits),
                ..Timing::default()
            };
            timing(if i.is_multiple_of(3) { 210.0 } else { 0.4 }, u32::from(i == 3)).into()
        };
        assert_eq!(reasons((0..200).map(lossy), &[0.3; 10]), ["jitter"], "segments got lost on the way");
        let stopped = |i| match i % 25 {
            0..3 => Failure::new(FailureReason::Timeout, "no answer").into(),
            _ => query(0.4, 0.1),
        };
        assert_eq!(reasons((0..200).map(stopped), &[0.3]), ["server_or_proxy"], "stopped for seconds");
        // No connect to go by.
        let squeezed = |i| query(if i % 6 == 0 { 2.0 } else { 30.0 }, 0.1);
        assert_eq!(reasons((0..60).map(squeezed), &[]), ["server_or_proxy"]);
        assert_eq!(reasons((0..60).map(|_| query(30.0, 0.1)), &[]), ["placement", "floor"]);
    }
}
