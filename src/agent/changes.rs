//! Events as log lines: values as fields, the same words as everywhere, and the event's name and id, by which the same record
//! is found at the OTLP receiver.

use std::time::Duration;

use crate::export::events::{Event, Gravity, Happening};
use crate::mesh::cause::ms;
use crate::mesh::failover::Move;
use crate::mesh::peer::{Link, Role};

/// One line at the level that its gravity asks for. What wakes people is for alerts: a line of an agent that does its work is a
/// warning at most.
macro_rules! line {
    ($event:expr, $($fields:tt)+) => {
        match $event.gravity {
            Gravity::Info => tracing::info!(event = &*$event.name, event_id = $event.id, $($fields)+),
            Gravity::Warn | Gravity::Error => {
                tracing::warn!(event = &*$event.name, event_id = $event.id, $($fields)+);
            }
        }
    };
}

pub(super) fn log(agent: &str, what: &Happening<'_>, event: &Event) {
    match what {
        Happening::Started { targets, reflector, web } => {
            let (reflector, version) = (reflector.map(tracing::field::display), env!("CARGO_PKG_VERSION"));
            line!(event, agent, reflector, %web, targets, version, "probe agent is ready");
        }
        Happening::Stopping => line!(event, agent, "probe agent is stopping"),
        Happening::State { link, from, to, findings, .. } => {
            let (target, kind, role) = named(link);
            let reason = findings.first().map_or("-", |finding| finding.reason.as_str());
            let evidence: Vec<_> =
                findings.iter().map(|finding| format!("{}: {}", finding.reason, finding.evidence)).collect();
            let (from, to, evidence) = (from.as_str(), to.as_str(), evidence.join("; "));
            line!(event, agent, target, kind, role, from, to, reason, evidence, "state changed");
        }
        Happening::Route { link, change } => {
            let (target, kind, role) = named(link);
            let (from, to, samples) = (ms(change.from), ms(change.to), change.samples);
            line!(event, agent, target, kind, role, from, to, samples, "route changed");
        }
        Happening::Finding { finding, raised } => {
            let (code, severity) = (finding.code.as_str(), finding.severity.as_str());
            let (subjects, evidence) = (finding.subjects.join(", "), finding.evidence.as_str());
            if *raised {
                let remedy = finding.remedy;
                line!(event, agent, code, severity, subjects, evidence, remedy, "finding");
            } else {
                line!(event, agent, code, severity, subjects, evidence, "finding cleared");
            }
        }
        Happening::Moved(one) => moved(agent, one, event),
        Happening::Added(link) => {
            let (target, kind, role) = named(link);
            line!(event, agent, target, kind, role, "target added");
        }
        Happening::Removed(link) => {
            let (target, kind, role) = named(link);
            line!(event, agent, target, kind, role, "target removed");
        }
        Happening::Reloaded { why, changed } => {
            line!(event, agent, why, changed, "the new configuration is in force");
        }
        Happening::Refused { why, error } => {
            tracing::error!(
                event = &*event.name,
                event_id = event.id,
                agent,
                error,
                why,
                "the new configuration is not taken over"
            );
        }
        Happening::SourceFailed { source, error } => {
            line!(
                event,
                agent,
                source,
                error,
                "a source of discovery cannot tell who is there; who was there last is still measured"
            );
        }
        Happening::SourceBack { source } => line!(event, agent, source, "a source of discovery tells again"),
        Happening::Throttled { periods } => {
            let reason = "self";
            line!(
                event,
                agent,
                times = periods,
                reason,
                "the CPU limit of this container throttles the probe, which spoils its samples: remove the limit"
            );
        }
    }
}

fn named(link: &Link) -> (&str, &'static str, &'static str) {
    (&link.target, link.kind.as_str(), link.role.map_or("-", Role::as_str))
}

fn moved(agent: &str, one: &Move, event: &Event) {
    let [from, to] = one.in_words();
    let rtt = match (one.rtt_before, one.rtt_after) {
        (Some(before), Some(after)) => format!(", RTT {} → {}", ms(before), ms(after)),
        (Some(before), None) => format!(", RTT {} → not known", ms(before)),
        _ => String::new(),
    };
    let us = |rtt: Option<Duration>| rtt.map(|rtt| rtt.as_micros());
    line!(
        event,
        agent,
        database = one.database,
        from,
        to,
        timeline_from = one.from.timeline.as_deref(),
        timeline_to = one.to.timeline.as_deref(),
        rtt_before_us = us(one.rtt_before),
        rtt_after_us = us(one.rtt_after),
        "database moved from {from} to {to}{rtt}"
    );
}
