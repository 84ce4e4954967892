//! `probe ping`'s lines, for people and as JSON: one for each slot, and one sum at the end.
//!
//! JSON: durations are microseconds with at most one decimal; `null` is «not known» or «does not apply», never zero.

use std::time::Duration;

use probes::sample::{Direction, Outcome, Phases, Sample, Timing};
use serde::Serialize;

use super::json::micros;
use super::text::Colour;
use crate::mesh::budget::Limit;
use crate::mesh::cause::{ms, ms_number};
use crate::mesh::peer::Link;
use crate::mesh::series::Series;

/// The budget is at this column of the bar; the bar ends somewhat later.
const BUDGET_AT: u32 = 16;
const COLUMNS: u32 = 24;

/// What happened.
#[derive(Debug, Clone, Copy)]
pub enum Line<'a> {
    /// A connection was opened, or could not be.
    Opened {
        /// Phases or reason.
        sample: &'a Sample,
    },
    /// A slot has its outcome.
    Slot {
        /// From one on.
        number: u64,
        /// How it ended.
        sample: &'a Sample,
        /// What it is held against.
        limit: Limit,
        /// Our own noise disturbed it, so it says nothing about the path.
        is_marked: bool,
    },
}

impl Line<'_> {
    /// For people, without a newline.
    pub fn human(&self, colour: Colour) -> String {
        match self {
            Self::Opened { sample } => opened(sample),
            Self::Slot { number, sample, limit, is_marked } => {
                let what = match &sample.outcome {
                    Outcome::Ok(timing) => reply(timing, *limit, *is_marked, colour),
                    Outcome::Lost(failure, direction) => {
                        let way = match direction {
                            Direction::There => ", on the way there",
                            Direction::Back => ", on the way back",
                            Direction::Unknown => "",
                        };
                        colour.paint("31", &format!("lost{way}: {failure}"))
                    }
                    Outcome::Refused(failure) => colour.paint("31", &format!("refused: {failure}")),
                    Outcome::Error(failure) => colour.paint("31", &format!("error: {failure}")),
                    Outcome::SkippedSelf => colour.paint(
                        "33",
                        "not sent: this machine was too late, which says nothing about the path",
                    ),
                };
                format!("{number:>4}  {what}")
            }
        }
    }

    /// One JSON object, without a newline.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Opened { sample } => serde_json::to_string(&OpenedJson::of(sample)),
            Self::Slot { number, sample, limit, is_marked } => {
                serde_json::to_string(&SlotJson::of(*number, sample, *limit, *is_marked))
            }
        }
    }
}

fn opened(sample: &Sample) -> String {
    match &sample.outcome {
        Outcome::Ok(Timing { phases: Some(phases), .. }) => {
            let Phases { resolve, tcp, tls, auth, .. } = phases;
            let all = [("resolve", Some(*resolve)), ("tcp", *tcp), ("tls", *tls), ("auth", *auth)];
            let known = all.into_iter().filter_map(|(name, took)| Some((name, took?)));
            let taken: Vec<_> = known
                .filter(|(_, took)| !took.is_zero())
                .map(|(name, took)| format!("{name} {}", ms(took)))
                .collect();
            format!("connected: {}", if taken.is_empty() { "at once".to_owned() } else { taken.join(", ") })
        }
        Outcome::Ok(_) => "connected".to_owned(),
        outcome => {
            let why = outcome.failure().map_or_else(String::new, ToString::to_string);
            format!("no connection: {why}")
        }
    }
}

fn reply(timing: &Timing, limit: Limit, is_marked: bool, colour: Colour) -> String {
    let rtt = format!("{:>9}", ms(timing.rtt));
    let mut parts = Vec::new();
    if let (Some(server), Some(network)) = (timing.server, timing.network()) {
        parts.push(format!("network {}, server {}", ms(network), ms(server)));
    }
    if let Some(hold) = timing.hold.filter(|hold| *hold >= Duration::from_millis(1)) {
        parts.push(format!("held for {} more by the other end", ms(hold)));
    }
    if is_marked {
        parts.push("waited for a CPU: does not count".to_owned());
    }
    let Some(limit) = limit else { return [vec![rtt], parts].concat().join("  ") };
    let is_over = timing.rtt >= limit;
    let bar = bar(timing.rtt, limit);
    let bar = if is_over && !is_marked { colour.paint("31", &bar) } else { colour.paint("34", &bar) };
    if is_over {
        parts.insert(0, format!("over {}", ms(limit)));
    }
    [vec![rtt, bar], parts].concat().join("  ").trim_end().to_owned()
}

/// Filled in steps of an eighth of a column, with the budget's place marked; `▶` where it would be longer than the bar.
fn bar(rtt: Duration, limit: Duration) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = rtt.as_nanos() * u128::from(BUDGET_AT) * 8 / limit.as_nanos().max(1);
    let eighths = usize::try_from(eighths).unwrap_or(usize::MAX);
    (0..COLUMNS as usize)
        .map(|column| match eighths.saturating_sub(column * 8) {
            _ if column + 1 == COLUMNS as usize && eighths > COLUMNS as usize * 8 => '▶',
            8.. => '█',
            0 if column == BUDGET_AT as usize => '│',
            part => EIGHTHS[part],
        })
        .collect()
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sum {
    /// Always `sum`.
    pub event: &'static str,
    /// What was measured.
    pub target: String,
    /// How.
    pub kind: &'static str,
    /// What it was held against, in microseconds.
    pub budget_us: Option<f64>,
    /// Questions that were sent.
    pub sent: u64,
    /// Those with a reply.
    pub replies: u64,
    /// Those that say something about the path, and how many of them took the budget or longer or got no reply.
    pub judged: u64,
    /// See `judged`.
    pub exceeded: u64,
    /// Those that this machine or the other one spoilt by waiting for a CPU.
    pub marked_self: u64,
    /// Of the last 3,600: fastest, median, 95th and 99th percentile, slowest.
    pub rtt_us: [Option<f64>; 5],
    #[serde(skip)]
    rtt: [Option<Duration>; 5],
    #[serde(skip)]
    limit: Limit,
    #[serde(skip)]
    skipped: u64,
}

impl Sum {
    /// Of this series.
    pub fn of(link: &Link, limit: Limit, series: &Series) -> Self {
        let (totals, rtt) = (series.window.totals(), series.window.all().rtt());
        let figures = [rtt.min(), rtt.quantile(0.5), rtt.quantile(0.95), rtt.quantile(0.99), rtt.max()];
        let outcomes = &totals.outcomes;
        Self {
            event: "sum",
            target: link.target.clone(),
            kind: link.kind.as_str(),
            budget_us: limit.map(micros),
            sent: outcomes.all() - outcomes.skipped_self,
            replies: outcomes.ok,
            judged: totals.judged,
            exceeded: totals.exceeded,
            marked_self: totals.marked_self,
            rtt_us: figures.map(|figure| figure.map(micros)),
            rtt: figures,
            limit,
            skipped: outcomes.skipped_self,
        }
    }

    /// 0 when there was a reply, 1 when there was none, 3 when nothing could be sent.
    pub fn exit_code(&self) -> u8 {
        match (self.sent, self.replies) {
            (0, _) => 3,
            (_, 0) => 1,
            _ => 0,
        }
    }

    /// For people, with a newline at its end.
    pub fn human(&self) -> String {
        let Self { target, sent, replies, judged, exceeded, marked_self, skipped, .. } = self;
        let mut lines = vec![format!("--- {target}: {sent} sent, {replies} replies")];
        if let Some(limit) = self.limit {
            lines.push(format!("{exceeded} of {judged} took {} or longer, or got no reply", ms(limit)));
        }
        if *marked_self > 0 {
            lines.push(format!("{marked_self} waited for a CPU, here or there, and do not count"));
        }
        if *skipped > 0 {
            lines.push(format!("{skipped} were not sent: this machine was too late"));
        }
        if let [Some(min), Some(p50), Some(p95), Some(p99), Some(max)] =
            self.rtt.map(|rtt| rtt.map(ms_number))
        {
            lines.push(format!("min/p50/p95/p99/max {min}/{p50}/{p95}/{p99}/{max} ms"));
        }
        lines.join("\n") + "\n"
    }

    /// One JSON object with a newline.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

#[derive(Serialize)]
struct OpenedJson<'a> {
    event: &'static str,
    outcome: &'static str,
    reason: Option<&'static str>,
    detail: Option<&'a str>,
    resolve_us: Option<f64>,
    tcp_us: Option<f64>,
    tls_us: Option<f64>,
    auth_us: Option<f64>,
}

impl<'a> OpenedJson<'a> {
    fn of(sample: &'a Sample) -> Self {
        let failure = sample.outcome.failure();
        let phases = match &sample.outcome {
            Outcome::Ok(timing) => timing.phases,
            _ => None,
        };
        Self {
            event: "opened",
            outcome: sample.outcome.as_str(),
            reason: failure.map(|failure| failure.reason.as_str()),
            detail: failure.map(|failure| failure.detail.as_str()),
            resolve_us: phases.map(|phases| micros(phases.resolve)),
            tcp_us: phases.and_then(|phases| phases.tcp).map(micros),
            tls_us: phases.and_then(|phases| phases.tls).map(micros),
            auth_us: phases.and_then(|phases| phases.auth).map(micros),
        }
    }
}

#[derive(Serialize)]
struct SlotJson<'a> {
    event: &'static str,
    slot: u64,
    outcome: &'static str,
    reason: Option<&'static str>,
    detail: Option<&'a str>,
    rtt_us: Option<f64>,
    network_us: Option<f64>,
    execution_us: Option<f64>,
    hold_us: Option<f64>,
    over_budget: Option<bool>,
    marked_self: bool,
}

impl<'a> SlotJson<'a> {
    fn of(slot: u64, sample: &'a Sample, limit: Limit, is_marked: bool) -> Self {
        let (failure, timing) = (
            sample.outcome.failure(),
            match &sample.outcome {
                Outcome::Ok(timing) => Some(timing),
                _ => None,
            },
        );
        Self {
            event: "slot",
            slot,
            outcome: sample.outcome.as_str(),
            reason: failure.map(|failure| failure.reason.as_str()),
            detail: failure.map(|failure| failure.detail.as_str()),
            rtt_us: timing.map(|timing| micros(timing.rtt)),
            network_us: timing.and_then(Timing::network).map(micros),
            execution_us: timing.and_then(|timing| timing.server).map(micros),
            hold_us: timing.and_then(|timing| timing.hold).map(micros),
            over_budget: limit.and_then(|limit| Some(timing?.rtt >= limit)),
            marked_self: is_marked,
        }
    }
}

#[cfg(test)]
mod tests {
    use probes::sample::{Failure, Reason};
    use probes::target::Kind;

    use super::*;
    use crate::mesh::window::Window;

    const LIMIT: Duration = Duration::from_millis(10);

    fn took(us: u64) -> Sample {
        Timing { rtt: Duration::from_micros(us), ..Timing::default() }.into()
    }

    fn line(sample: &Sample) -> Line<'_> {
        Line::Slot { number: 7, sample, limit: Some(LIMIT), is_marked: false }
    }

    #[test]
    fn the_bar_reaches_the_mark_at_the_budget_and_no_sooner() {
        assert_eq!(bar(Duration::ZERO, LIMIT), format!("{}│{}", " ".repeat(16), " ".repeat(7)));
        assert_eq!(
            bar(Duration::from_micros(5_000), LIMIT),
            format!("{}{}│{}", "█".repeat(8), " ".repeat(8), " ".repeat(7))
        );
        assert!(bar(Duration::from_micros(9_999), LIMIT).contains('│'));
        assert!(!bar(Duration::from_micros(10_100), LIMIT).contains('│'));
        let long = bar(Duration::from_secs(100), LIMIT);
        assert!(long.ends_with('▶') && long.chars().count() == COLUMNS as usize, "{long}");
    }

    #[test]
    fn a_line_says_what_came_of_a_slot_in_words() {
        let text = |sample: &Sample| line(sample).human(Colour::Never);
        assert_eq!(
            text(&took(10_000)),
            format!("   7    10.0 ms  {}{}  over 10.0 ms", "█".repeat(16), "│       ")
        );
        assert!(text(&took(9_990)).ends_with('│'), "{}", text(&took(9_990)));
        assert_eq!(
            text(&Failure::new(Reason::Timeout, "no reply within 2 s").into()),
            "   7  lost: no reply within 2 s"
        );
        assert!(text(&Sample::skipped_self()).contains("not sent"));
        let split = Timing {
            rtt: Duration::from_millis(3),
            server: Some(Duration::from_millis(2)),
            ..Timing::default()
        };
        assert!(text(&split.into()).ends_with("network 1.00 ms, server 2.00 ms"));
    }

    #[test]
    fn a_json_line_has_null_for_what_is_not_known() {
        let json: serde_json::Value = serde_json::from_str(&line(&took(10_000)).json().unwrap()).unwrap();
        assert_eq!((&json["rtt_us"], &json["over_budget"]), (&10_000.0.into(), &true.into()));
        assert!(json["execution_us"].is_null() && json["reason"].is_null());
    }

    #[test]
    fn a_sum_counts_what_was_sent_and_its_exit_code_says_whether_anything_answered() {
        let sum = |samples: &[Sample]| {
            let mut series = Series::new(Window::new(LIMIT, 10));
            samples.iter().zip(1..).for_each(|(sample, second)| {
                series.record(sample, Duration::from_secs(second));
            });
            Sum::of(&Link::to("a", Kind::Peer, None), Some(LIMIT), &series)
        };
        let lost = || Sample::from(Failure::new(Reason::Timeout, "x"));
        let some = sum(&[took(1_000), took(11_000), lost(), Sample::skipped_self()]);
        assert_eq!((some.sent, some.replies, some.exceeded, some.exit_code()), (3, 2, 2, 0));
        assert!(some.human().contains("2 of 3 took 10.0 ms or longer"), "{}", some.human());
        assert_eq!((sum(&[lost()]).exit_code(), sum(&[]).exit_code()), (1, 3));
    }
}
