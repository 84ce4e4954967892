//! State changes as log lines: values as fields, the same words as everywhere.

use crate::mesh::cause::ms;
use crate::mesh::peer::{Link, Role};
use crate::mesh::place::policy::Severity;
use crate::mesh::rules::TopologyFinding;
use crate::mesh::state::{Change, State};

/// One line a change: a warning where somebody may want to be woken, else news.
pub(super) fn log(agent: &str, link: &Link, change: &Change) {
    let (target, kind) = (link.target.as_str(), link.kind.as_str());
    let role = link.role.map_or("-", Role::as_str);
    match change {
        Change::State { from, to, findings } => {
            let reason = findings.first().map_or("-", |finding| finding.reason.as_str());
            let evidence: Vec<_> =
                findings.iter().map(|finding| format!("{}: {}", finding.reason, finding.evidence)).collect();
            let (from, evidence) = (from.as_str(), evidence.join("; "));
            match to {
                State::Ok | State::Left | State::Unknown => {
                    tracing::info!(
                        agent,
                        target,
                        kind,
                        role,
                        from,
                        to = to.as_str(),
                        reason,
                        evidence,
                        "state changed"
                    );
                }
                State::AtRisk | State::Stale | State::Breach | State::Unreachable => {
                    tracing::warn!(
                        agent,
                        target,
                        kind,
                        role,
                        from,
                        to = to.as_str(),
                        reason,
                        evidence,
                        "state changed"
                    );
                }
            }
        }
        Change::Route(change) => {
            let (from, to) = (ms(change.from), ms(change.to));
            tracing::info!(agent, target, kind, role, from, to, samples = change.samples, "route changed");
        }
    }
}

/// One line a finding, when it has lasted and when it is no more.
pub(super) fn log_finding(agent: &str, finding: &TopologyFinding, raised: bool) {
    let (code, severity) = (finding.code.as_str(), finding.severity.as_str());
    let (subjects, evidence) = (finding.subjects.join(", "), finding.evidence.as_str());
    if !raised {
        tracing::info!(agent, code, severity, subjects, evidence, "finding cleared");
    } else if finding.severity >= Severity::Warning {
        tracing::warn!(agent, code, severity, subjects, evidence, remedy = finding.remedy, "finding");
    } else {
        tracing::info!(agent, code, severity, subjects, evidence, remedy = finding.remedy, "finding");
    }
}
