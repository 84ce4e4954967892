//! The report as JSON, `schema_version` 1. Durations are microseconds with at most one decimal; `null` is «not known»
//! or «does not apply», never zero. Fields are only ever added within a schema version.

use std::time::Duration;

use probes::sample::Phases;
use serde::Serialize;

use super::attribution::AttributionJson;
use super::database::{BareConnectsJson, OpeningJson, SplitJson};
use crate::mesh::cause::{Finding, Reason};
use crate::mesh::outcomes::Counts;
use crate::mesh::pubsub::Path;
use crate::mesh::report::{Figures, Report, TargetReport, Warning};
use crate::mesh::rules::TopologyFinding;
use crate::mesh::verdict::Verdict;

/// The version of the shape below.
pub const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    version: &'static str,
    verdict: Verdict,
    quantile: f64,
    confidence: f64,
    elapsed_us: f64,
    targets: Vec<Target<'a>>,
    notes: &'a [Warning],
    topology: &'a [TopologyFinding],
    attribution: Vec<AttributionJson<'a>>,
    pubsub: Option<Pubsub>,
}

#[derive(Serialize)]
struct Pubsub {
    path: Path,
}

#[derive(Serialize)]
struct Target<'a> {
    name: &'a str,
    source: Option<&'a str>,
    kind: &'static str,
    role: Option<&'static str>,
    budget_us: Option<f64>,
    verdict: Verdict,
    reason: Reason,
    findings: &'a [Finding],
    detail: Option<&'a str>,
    hint: Option<&'a str>,
    warnings: &'a [Warning],
    samples: u32,
    exceeded: u32,
    exceeded_share: Bounds,
    marked_self: u32,
    lost: u32,
    lost_there: u32,
    lost_back: u32,
    late: u64,
    retransmits: u64,
    outcomes: Counts,
    measured_us: f64,
    blind_beyond_us: f64,
    judged_quantile_us: Option<f64>,
    p99: Option<Verdict>,
    rtt_us: Spread,
    pdv_us: Option<Spread>,
    network_us: Option<Spread>,
    execution_us: Option<Spread>,
    total_us: Option<Spread>,
    bare_connect_us: Option<f64>,
    fresh_us: Option<Spread>,
    fresh_failed: Option<u32>,
    bare_connects_us: Option<BareConnectsJson>,
    split_us: Option<SplitJson>,
    connects: Vec<OpeningJson>,
    tcp_terminator_suspected: bool,
    coder_would_warn: Option<bool>,
    connect_us: Option<Connect>,
    encrypted: Option<bool>,
}

#[derive(Serialize)]
struct Bounds {
    lower: f64,
    upper: f64,
}

#[derive(Serialize)]
pub(super) struct Spread {
    pub(super) min: Option<f64>,
    pub(super) p50: Option<f64>,
    pub(super) p95: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) max: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct Connect {
    pub(super) resolve: f64,
    pub(super) tcp: Option<f64>,
    pub(super) tls: Option<f64>,
    pub(super) auth: Option<f64>,
}

/// One pretty-printed document with a newline at its end.
pub fn render(report: &Report) -> Result<String, serde_json::Error> {
    let document = Document {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION"),
        verdict: report.verdict,
        quantile: report.rule.quantile,
        confidence: 1.0 - report.rule.alpha,
        elapsed_us: micros(report.elapsed),
        targets: report.targets.iter().map(target).collect(),
        notes: &report.notes,
        topology: &report.topology,
        attribution: report.attribution.iter().map(AttributionJson::of).collect(),
        pubsub: report.pubsub.map(|path| Pubsub { path }),
    };
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}

fn target(target: &TargetReport) -> Target<'_> {
    let (lower, upper) = target.judgement.exceeded_share;
    Target {
        name: &target.name,
        source: target.source.as_deref(),
        kind: target.kind.as_str(),
        role: target.role.map(crate::mesh::peer::Role::as_str),
        budget_us: target.limit.map(micros),
        verdict: target.judgement.verdict,
        reason: target.judgement.reason(),
        findings: &target.judgement.findings,
        detail: target.detail.as_deref(),
        hint: target.hint.as_deref(),
        warnings: &target.warnings,
        samples: target.samples,
        exceeded: target.exceeded,
        marked_self: target.marked_self,
        exceeded_share: Bounds { lower: share(lower), upper: share(upper) },
        lost: target.lost,
        lost_there: target.lost_by_direction.0,
        lost_back: target.lost_by_direction.1,
        late: target.late,
        retransmits: target.retransmits,
        outcomes: target.outcomes,
        measured_us: micros(target.measured),
        blind_beyond_us: micros(target.blind_beyond),
        judged_quantile_us: target.judged_quantile.map(micros),
        p99: target.p99,
        rtt_us: spread(&target.rtt),
        pdv_us: target.pdv.as_ref().map(spread),
        network_us: target.network.as_ref().map(spread),
        execution_us: target.execution.as_ref().map(spread),
        total_us: target.total.as_ref().map(spread),
        bare_connect_us: target.bare_connect.map(micros),
        fresh_us: target.fresh.as_ref().map(spread),
        fresh_failed: target.fresh_failed,
        bare_connects_us: target.bare_connects.map(BareConnectsJson::of),
        split_us: target.split.map(SplitJson::of),
        connects: target.connects.iter().map(OpeningJson::of).collect(),
        tcp_terminator_suspected: target.tcp_terminator_suspected,
        coder_would_warn: target.coder_would_warn,
        connect_us: target.connect.as_ref().map(connect),
        encrypted: target.encrypted,
    }
}

pub(super) fn spread(figures: &Figures) -> Spread {
    Spread {
        min: figures.min.map(micros),
        p50: figures.p50.map(micros),
        p95: figures.p95.map(micros),
        p99: figures.p99.map(micros),
        max: figures.max.map(micros),
    }
}

pub(super) fn connect(phases: &Phases) -> Connect {
    Connect {
        resolve: micros(phases.resolve),
        tcp: phases.tcp.map(micros),
        tls: phases.tls.map(micros),
        auth: phases.auth.map(micros),
    }
}

pub(super) fn micros(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e7).round() / 10.0
}

/// Six decimals: a share of one in a million is finer than any run.
pub(super) fn share(share: f64) -> f64 {
    (share * 1e6).round() / 1e6
}
