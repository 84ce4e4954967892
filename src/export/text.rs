//! The report for people: one line per target in the manner of `linkerd check`, what is wrong and what to do beneath
//! it, then the figures as a table.

use std::fmt::{self, Write};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use probes::sample::Phases;
use probes::target::Kind;

use crate::mesh::cause::{Reason, ms, ms_number};
use crate::mesh::place::policy::Severity;
use crate::mesh::proxies::Nearest;
use crate::mesh::pubsub::Path;
use crate::mesh::report::{Report, TargetReport, percent};
use crate::mesh::series::Split;
use crate::mesh::standing::OpeningStanding;
use crate::mesh::verdict::Verdict;

/// Whether escape sequences for colour are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    Never,
    /// For a terminal.
    Always,
}

impl Colour {
    /// Colour for a terminal, unless `NO_COLOR` is set to something or the terminal is dumb.
    pub fn choose(is_terminal: bool, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let unwanted = env("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env("TERM").is_some_and(|value| value == "dumb");
        if is_terminal && !unwanted && !dumb { Self::Always } else { Self::Never }
    }

    /// A text in one of the terminal's colours.
    pub(crate) fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Never => text.to_owned(),
            Self::Always => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    /// The mark of a verdict.
    pub(crate) fn symbol(self, verdict: Verdict) -> String {
        match verdict {
            Verdict::Info => "·".to_owned(),
            Verdict::Pass => self.paint("32", "√"),
            Verdict::Inconclusive => self.warning(),
            Verdict::Fail => self.paint("31", "×"),
        }
    }

    /// The mark of a finding.
    pub(crate) fn severity(self, severity: Severity) -> String {
        match severity {
            Severity::Fail => self.symbol(Verdict::Fail),
            Severity::Warning => self.warning(),
            Severity::Info => self.symbol(Verdict::Info),
        }
    }

    fn warning(self) -> String {
        self.paint("33", "‼")
    }
}

/// The whole report as text with a newline at its end.
pub fn render(report: &Report, colour: Colour) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_report(&mut text, report, colour);
    text
}

fn write_report(out: &mut String, report: &Report, colour: Colour) -> fmt::Result {
    for kind in Kind::ALL {
        let group: Vec<_> = report.targets.iter().filter(|target| target.kind == kind).collect();
        if group.is_empty() {
            continue;
        }
        let title = title(kind);
        writeln!(out, "{}", colour.paint("1", title))?;
        writeln!(out, "{}", "-".repeat(title.chars().count()))?;
        for target in group {
            write_target(out, target, report, colour)?;
        }
        writeln!(out)?;
    }
    if !report.topology.is_empty() {
        let title = "who stands where";
        writeln!(out, "{}", colour.paint("1", title))?;
        writeln!(out, "{}", "-".repeat(title.len()))?;
        for finding in &report.topology {
            writeln!(out, "{} {}: {}", colour.severity(finding.severity), finding.code, finding.evidence)?;
            writeln!(out, "    hint: {}", finding.remedy)?;
        }
        writeln!(out)?;
    }
    if !report.attribution.is_empty() {
        let title = "Coder's own metrics";
        writeln!(out, "{}", colour.paint("1", title))?;
        writeln!(out, "{}", "-".repeat(title.len()))?;
        super::attribution::write(out, &report.attribution)?;
        writeln!(out)?;
    }
    if let Some(path) = report.pubsub {
        writeln!(out, "pubsub: {}\n", words(path))?;
    }
    if report.targets.iter().any(|target| target.rtt.min.is_some()) {
        writeln!(out, "{}\n", round_trips(report))?;
    }
    if let Some(proxy) = Nearest::of_targets(&report.targets) {
        let Nearest { name, p50, samples } = proxy;
        writeln!(out, "nearest workspace proxy: {name}, {} (median of {samples})\n", ms(p50))?;
    }
    if let Some(table) = database_split(report) {
        writeln!(out, "{table}\n")?;
    }
    write_conclusion(out, report, colour)
}

/// How the news of replicas gets to the others.
fn words(path: Path) -> &'static str {
    match path {
        Path::Nats => "replicas of coderd tell each other by NATS",
        Path::Postgres => "replicas of coderd tell each other through PostgreSQL (LISTEN, NOTIFY)",
        Path::Mixed => "some replicas of coderd tell each other by NATS and some through PostgreSQL",
        Path::Unknown => {
            "whether replicas of coderd tell each other by NATS or through PostgreSQL is not known"
        }
    }
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Peer => "peers (echo over QUIC)",
        Kind::Postgres => "PostgreSQL (query on a kept connection)",
        Kind::Tcp => "TCP (connect)",
        Kind::Http => "HTTP (request to first byte, fresh connection)",
        Kind::Relay => "coderd's relay (request to first byte, kept connection)",
        Kind::Nats => "coderd's NATS (connect, greeting)",
    }
}

fn write_target(out: &mut String, target: &TargetReport, report: &Report, colour: Colour) -> fmt::Result {
    let judgement = &target.judgement;
    let role = target.role.map_or_else(String::new, |role| format!(" [{role}]"));
    write!(out, "{} {}{role} ", colour.symbol(judgement.verdict), title_name(target))?;
    match target.limit {
        Some(limit) => write!(out, "answers within {}", humantime::format_duration(limit))?,
        None => write!(out, "is measured for information")?,
    }
    let quantile = percent(report.rule.quantile);
    match judgement.verdict {
        Verdict::Info => {
            writeln!(out, " (p{quantile} {})", target.judged_quantile.map_or_else(|| "–".to_owned(), ms))?;
        }
        Verdict::Pass => writeln!(
            out,
            " (p{quantile} {}, {} of {})",
            target.judged_quantile.map_or_else(|| "–".to_owned(), ms),
            target.samples - target.exceeded,
            target.samples
        )?,
        Verdict::Fail | Verdict::Inconclusive => {
            writeln!(out)?;
            for finding in &judgement.findings {
                let word = if judgement.verdict == Verdict::Fail { "" } else { "cannot tell: " };
                writeln!(out, "    {word}{}: {}", finding.reason, finding.evidence)?;
            }
            if target.samples > 1 {
                writeln!(out, "    {}", evidence(target, report))?;
            }
        }
    }
    if let Some(detail) = target
        .detail
        .as_ref()
        .filter(|_| !matches!(judgement.reason(), Reason::NoReply(_)) || target.rtt.min.is_some())
    {
        writeln!(out, "    {detail}")?;
    }
    if let Some(hint) = &target.hint {
        writeln!(out, "    hint: {hint}")?;
    }
    for warning in &target.warnings {
        writeln!(out, "  {} {}: {}", colour.warning(), warning.code, warning.text)?;
    }
    if target.coder_would_warn == Some(false) && judgement.verdict == Verdict::Fail {
        writeln!(out, "    note: Coder's own health page (median against 15 ms) would show this as healthy")?;
    }
    if let Some(Split { network, server_p50: Some(server), .. }) = target.split {
        let (network, server) = (ms(network), ms(server));
        writeln!(
            out,
            "    of the median query, {network} are the network's (bare connects) and {server} the server's"
        )?;
    }
    if let Some(openings) = openings(target) {
        writeln!(out, "    connection: {openings}")?;
    }
    if target.tcp_terminator_suspected {
        writeln!(
            out,
            "    note: connects are far faster than queries: something before the server ends TCP (a pooler, a mesh sidecar), or the server gets too little CPU"
        )?;
    }
    if target.kind == Kind::Postgres && target.encrypted == Some(false) {
        writeln!(out, "    note: this connection is not encrypted")?;
    }
    Ok(())
}

/// How a connection came to be that was opened more than once, newest first.
fn openings(target: &TargetReport) -> Option<String> {
    /// More would not fit into a line.
    const MOST: usize = 4;
    if target.connects.len() < 2 {
        return None;
    }
    let ago = |ago: Duration| humantime::format_duration(Duration::from_secs(ago.as_secs())).to_string();
    let one = |opening: &OpeningStanding| {
        let what = match opening.outcome {
            Ok(Phases { resolve, tcp, tls, auth, .. }) => {
                let whole = [tcp, tls, auth].into_iter().flatten().fold(resolve, |sum, phase| sum + phase);
                format!("opened in {}", ms(whole))
            }
            Err(reason) if opening.attempts > 1 => format!("{} times {}", opening.attempts, reason.as_str()),
            Err(reason) => reason.as_str().to_owned(),
        };
        format!("{what} {} ago", ago(opening.ago))
    };
    Some(target.connects.iter().take(MOST).map(one).collect::<Vec<_>>().join(", "))
}

/// The figures that the verdict rests on, in words.
fn evidence(target: &TargetReport, report: &Report) -> String {
    let budget = target.limit.map_or_else(String::new, |limit| humantime::format_duration(limit).to_string());
    let slow = match (target.exceeded.saturating_sub(target.lost), target.lost) {
        (slow, 0) => format!("{slow} of {} round trips took {budget} or longer", target.samples),
        (0, lost) => format!("{lost} of {} got no reply", target.samples),
        (slow, lost) => {
            format!("{slow} of {} took {budget} or longer and {lost} got no reply", target.samples)
        }
    };
    let (lower, upper) = target.judgement.exceeded_share;
    let spoilt = match target.marked_self {
        0 => String::new(),
        marked => format!("; {marked} more were spoilt by this machine"),
    };
    format!(
        "p{} {}; {slow} (true share {:.1}–{:.1} %, allowed {} %){spoilt}",
        percent(report.rule.quantile),
        target.judged_quantile.map_or_else(|| "is lost".to_owned(), ms),
        lower * 100.0,
        upper * 100.0,
        percent(1.0 - report.rule.quantile),
    )
}

fn round_trips(report: &Report) -> Table {
    let mut table = plain_table(&["round trip, ms", "n", "lost", "min", "p50", "p95", "p99", "max"]);
    for target in &report.targets {
        let rtt = &target.rtt;
        let mut row = vec![title_name(target), target.samples.to_string(), target.lost.to_string()];
        row.extend([rtt.min, rtt.p50, rtt.p95, rtt.p99, rtt.max].map(number));
        table.add_row(row);
    }
    table
}

fn database_split(report: &Report) -> Option<Table> {
    let mut table = plain_table(&[
        "PostgreSQL, ms",
        "network p50",
        "p95",
        "execution p50",
        "p95",
        "resolve",
        "tcp",
        "tls",
        "auth",
    ]);
    let mut rows = 0;
    for target in report.targets.iter().filter(|target| target.kind == Kind::Postgres) {
        let Some(connect) = target.connect else { continue };
        let (network, execution) = (target.network.unwrap_or_default(), target.execution.unwrap_or_default());
        let mut row = vec![title_name(target)];
        row.extend([network.p50, network.p95, execution.p50, execution.p95].map(number));
        row.extend([Some(connect.resolve), connect.tcp, connect.tls, connect.auth].map(number));
        table.add_row(row);
        rows += 1;
    }
    (rows > 0).then_some(table)
}

fn plain_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn write_conclusion(out: &mut String, report: &Report, colour: Colour) -> fmt::Result {
    let count = |verdict| report.targets.iter().filter(|target| target.judgement.verdict == verdict).count();
    let all = report.targets.len();
    let judged = all - count(Verdict::Info);
    let quantile = percent(report.rule.quantile);
    let sentence = match report.verdict {
        Verdict::Pass => format!(
            "{} p{quantile} is within the budget with {} % confidence",
            if judged == 1 { "the target's".to_owned() } else { format!("all {judged} judged targets'") },
            percent(1.0 - report.rule.alpha)
        ),
        Verdict::Fail if count(Verdict::Fail) == 0 => "something stands where it should not".to_owned(),
        Verdict::Fail => format!(
            "{} of {all} targets fail{}",
            count(Verdict::Fail),
            match count(Verdict::Inconclusive) {
                0 => String::new(),
                unknown => format!(", {unknown} cannot be told"),
            }
        ),
        Verdict::Inconclusive if all == 0 => {
            "nothing was measured: name a target with --postgres, --peer, --tcp or --http".to_owned()
        }
        Verdict::Inconclusive | Verdict::Info if judged == 0 => {
            "no target has a budget, so there is nothing to judge".to_owned()
        }
        Verdict::Inconclusive | Verdict::Info if count(Verdict::Inconclusive) == 0 => {
            "discovery could not tell whether these are all targets".to_owned()
        }
        Verdict::Inconclusive | Verdict::Info => {
            format!("{} of {all} targets cannot be told", count(Verdict::Inconclusive))
        }
    };
    for note in &report.notes {
        writeln!(out, "{} {}: {}", colour.warning(), note.code, note.text)?;
    }
    let word = report.verdict.as_str().to_uppercase();
    writeln!(
        out,
        "{} {} – {sentence} ({:.1} s)",
        colour.symbol(report.verdict),
        colour.paint("1", &word),
        report.elapsed.as_secs_f64()
    )?;
    let sight = report.targets.iter().filter(|target| target.samples > 1).map(|target| target.blind_beyond);
    if let Some(blind) = sight.min().filter(|_| report.verdict != Verdict::Fail) {
        let quick =
            if report.rule.quantile < 0.9 { "a quick look: only the median was judged; " } else { "" };
        writeln!(out, "  {quick}rare disturbances longer than {} would be missed", seconds(blind))?;
    }
    Ok(())
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn title_name(target: &TargetReport) -> String {
    match &target.source {
        Some(source) => format!("{source} → {}", target.name),
        None => target.name.clone(),
    }
}

fn number(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "–".to_owned(), ms_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        assert_eq!(Colour::choose(true, &env(&[])), Colour::Always);
        assert_eq!(Colour::choose(true, &env(&[("NO_COLOR", "")])), Colour::Always);
        assert_eq!(Colour::choose(true, &env(&[("NO_COLOR", "1")])), Colour::Never);
        assert_eq!(Colour::choose(true, &env(&[("TERM", "dumb")])), Colour::Never);
        assert_eq!(Colour::choose(false, &env(&[])), Colour::Never);
    }
}
