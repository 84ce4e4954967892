//! A finished look at all targets, as data. Text, JSON and whatever comes later differ in dress only.

use std::time::Duration;

use probes::sample::Phases;
use probes::target::Kind;

use super::binomial;
use super::peer::{Link, Role};
use super::verdict::{Judgement, Reason, Rule, Verdict, judge};
use super::window::{Counts, Distribution, Window};

/// The whole report.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The worst verdict of all targets; inconclusive when there is none.
    pub verdict: Verdict,
    /// What the targets were held against.
    pub rule: Rule,
    /// How long it took, from the first question to the last outcome.
    pub elapsed: Duration,
    /// One entry per target, in the order they were given.
    pub targets: Vec<TargetReport>,
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
    /// Verdict, reason and bounds.
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
    /// Slots without a reply, whatever the cause.
    pub lost: u32,
    /// Losses known to be on the way there, and on the way back.
    pub lost_by_direction: (u32, u32),
    /// Slots by outcome.
    pub outcomes: Counts,
    /// The rule's quantile over all judged slots; `None` when it falls among those without a reply.
    pub judged_quantile: Option<Duration>,
    /// Round trips of the slots that got a reply.
    pub rtt: Figures,
    /// PostgreSQL: the share of the network.
    pub network: Option<Figures>,
    /// PostgreSQL: the share of the server's execution.
    pub execution: Option<Figures>,
    /// HTTP: whole requests on a fresh connection each.
    pub total: Option<Figures>,
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
    fn of(distribution: &Distribution) -> Self {
        Self {
            min: distribution.min(),
            p50: distribution.quantile(0.5),
            p95: distribution.quantile(0.95),
            p99: distribution.quantile(0.99),
            max: distribution.max(),
        }
    }

    fn unless_empty(distribution: &Distribution) -> Option<Self> {
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
    /// Judges all windows.
    pub fn new(links: &[Link], windows: &[Window], rule: Rule, elapsed: Duration) -> Self {
        let targets: Vec<_> =
            links.iter().zip(windows).map(|(link, window)| target(link, window, &rule)).collect();
        let verdict =
            targets.iter().map(|target| target.judgement.verdict).max().unwrap_or(Verdict::Inconclusive);
        Self { verdict, rule, elapsed, targets }
    }

    /// Whether any target has a warning.
    pub fn has_warnings(&self) -> bool {
        self.targets.iter().any(|target| !target.warnings.is_empty())
    }
}

fn target(link: &Link, window: &Window, rule: &Rule) -> TargetReport {
    let judgement = judge(window, rule);
    TargetReport {
        name: link.target.clone(),
        source: link.source.clone(),
        kind: link.kind,
        role: link.role,
        judgement,
        detail: detail(window, &judgement),
        hint: hint(link, window, &judgement, rule),
        warnings: warnings(window, &judgement, rule),
        samples: window.judged(),
        exceeded: window.exceeded(),
        lost: window.without_reply(),
        lost_by_direction: window.lost_by_direction(),
        outcomes: window.counts(),
        judged_quantile: window.judged_quantile(rule.quantile),
        rtt: Figures::of(&window.rtt()),
        network: Figures::unless_empty(&window.network()),
        execution: Figures::unless_empty(&window.server()),
        total: Figures::unless_empty(&window.total()),
        connect: window.connect(),
        encrypted: window.encrypted(),
    }
}

/// What was seen instead of replies.
fn detail(window: &Window, judgement: &Judgement) -> Option<String> {
    let (count, failure) = window.main_failure()?;
    if window.counts().ok == 0 {
        return Some(failure.detail.clone());
    }
    if judgement.verdict == Verdict::Pass {
        return None;
    }
    let side = match window.lost_by_direction() {
        (0, 0) => String::new(),
        (there, back) => format!(" ({there} got lost on the way there, {back} on the way back)"),
    };
    let mostly = if count == window.without_reply() { "" } else { "mostly " };
    Some(format!(
        "{} of {} slots got no reply: {mostly}{}{side}",
        window.without_reply(),
        window.slots(),
        failure.detail
    ))
}

fn warnings(window: &Window, judgement: &Judgement, rule: &Rule) -> Vec<Warning> {
    let slow_tail = window.judged_quantile(0.99).is_none_or(|p99| p99 >= rule.budget);
    if judgement.verdict != Verdict::Pass || !slow_tail || rule.quantile >= 0.99 {
        return Vec::new();
    }
    let text = format!(
        "{} of {} slots were over the budget: p99 is not within it, although p{} is",
        window.exceeded(),
        window.judged(),
        percent(rule.quantile)
    );
    vec![Warning { code: "tail", text }]
}

/// The next step for whoever reads the report.
fn hint(link: &Link, window: &Window, judgement: &Judgement, rule: &Rule) -> Option<String> {
    use probes::sample::Reason as Failed;
    let text = match judgement.reason {
        Reason::WithinBudget => return None,
        Reason::Floor | Reason::Placement => {
            "the two are too far apart: put them into one region, or look for a detour (VPN, proxy, firewall) on the way"
        }
        Reason::Jitter => {
            "the way is short enough but not steady: look for a saturated link, CPU limits or a noisy neighbour"
        }
        Reason::Loss => {
            "look for an overloaded link, a full connection-tracking table or a firewall that drops on the way"
        }
        Reason::Server => {
            "the time is spent in PostgreSQL, not in the network: look at its CPU, locks and disk"
        }
        Reason::Borderline => "too close to the budget to tell: give it longer with --time-limit",
        Reason::SelfNoise => {
            "this machine was too busy to measure: give the probe CPU (no CPU limit) and run it again"
        }
        Reason::TooFewSamples => {
            let fewest = binomial::fewest_to_pass(rule.quantile, rule.alpha);
            return Some(format!(
                "a pass at p{} needs at least {fewest} round trips within the budget, {} were measured: give it longer with --time-limit",
                percent(rule.quantile),
                window.judged()
            ));
        }
        Reason::NoReply(failed) => match (failed, link.kind) {
            (Failed::Resolve, _) => "check the spelling of the name and this machine's DNS",
            (Failed::Unreachable | Failed::Timeout, Kind::Peer) => {
                "check that `probe agent` runs there and that UDP to its port is allowed (firewall, NetworkPolicy)"
            }
            (Failed::Refused, Kind::Peer) => "check that `probe agent` runs there and listens on this port",
            (Failed::Auth, Kind::Peer) => {
                "give both agents the same mesh secret (PROBE_MESH_SECRET_FILE), or certificates of one CA"
            }
            (Failed::Unreachable | Failed::Timeout, _) => {
                "check the address and that TCP to this port is allowed (firewall, NetworkPolicy, security group)"
            }
            (Failed::Refused, _) => "check that the server runs and listens on this address and port",
            (Failed::Auth, _) => {
                "check user and password in the connection string, and the server's pg_hba.conf"
            }
            (Failed::Database, _) => {
                "check the database's name in the connection string, and the role's rights on it"
            }
            (Failed::Tls, Kind::Postgres) => "check sslmode and sslrootcert in the connection string",
            (Failed::Tls, _) => {
                "check the CA (--http-ca) and the name (--http-sni) that the certificate is for"
            }
            (Failed::ConnectionsLow, _) => {
                "raise max_connections or close idle connections, then run it again"
            }
            (Failed::Closed, _) => {
                "the other side ended the connection: see its log for a restart or a crash"
            }
            (Failed::Status, _) => "ask the server's log why it does not answer with success",
            (Failed::Protocol, _) => "check that the address is that of the kind of server that was named",
            (Failed::Local, _) => {
                "this machine refused: check open files (ulimit -n), permissions and local firewall"
            }
        },
    };
    Some(text.to_owned())
}

/// 0.95 → "95", 0.999 → "99.9".
pub fn percent(quantile: f64) -> String {
    let text = format!("{:.4}", quantile * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use probes::sample::{Failure, Sample, Timing};

    use super::*;

    const RULE: Rule = Rule { budget: Duration::from_millis(10), quantile: 0.95, alpha: 0.05, targets: 1 };

    fn link(name: &str) -> Link {
        Link { source: None, target: name.to_owned(), kind: Kind::Peer, role: None }
    }

    fn window(good: u32, slow: u32) -> Window {
        let mut window = Window::new(RULE.budget);
        let ok = |ms| Sample::from(Timing { rtt: Duration::from_millis(ms), ..Timing::default() });
        (0..good).for_each(|_| window.record(ok(1)));
        (0..slow).for_each(|_| window.record(ok(50)));
        window
    }

    #[test]
    fn the_worst_target_decides_and_no_target_decides_nothing() {
        let report = |windows: &[Window]| {
            let links: Vec<_> = (0..windows.len()).map(|i| link(&i.to_string())).collect();
            Report::new(&links, windows, RULE, Duration::ZERO).verdict
        };
        assert_eq!(report(&[]), Verdict::Inconclusive);
        assert_eq!(report(&[window(120, 0)]), Verdict::Pass);
        assert_eq!(report(&[window(120, 0), window(20, 0)]), Verdict::Inconclusive);
        assert_eq!(report(&[window(120, 0), window(20, 0), window(0, 120)]), Verdict::Fail);
    }

    #[test]
    fn a_slow_tail_of_a_good_target_is_a_warning() {
        let report = Report::new(&[link("a")], &[window(198, 2)], RULE, Duration::ZERO);
        assert_eq!(report.verdict, Verdict::Pass);
        assert!(!report.has_warnings(), "p99 of 200 is the 198th");
        let report = Report::new(&[link("a")], &[window(197, 3)], RULE, Duration::ZERO);
        assert_eq!(report.verdict, Verdict::Pass);
        assert_eq!(report.targets[0].warnings[0].code, "tail");
    }

    #[test]
    fn everything_but_a_pass_has_a_hint() {
        let mut refused = Window::new(RULE.budget);
        refused.record(Failure::new(probes::Reason::Refused, "no").into());
        for window in [window(0, 120), window(60, 60), window(97, 3), window(10, 0), refused] {
            let report = Report::new(&[link("a")], &[window], RULE, Duration::ZERO);
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
