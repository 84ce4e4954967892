//! Rules about what keeps the replicas of coderd on different machines and in different zones.

use super::answer::{Answer, Deployment, Running};
use super::regions::{REGION_LABELS, ZONE_LABELS, allowed};
use super::workload::{ANTI_AFFINITY, Apart};
use crate::mesh::rules::Code;

pub(super) fn apart(deployment: &Deployment<'_>) -> Vec<Answer> {
    // A DaemonSet has one pod a node by itself.
    let spread =
        deployment.coderd.iter().filter(|running| running.replicas.is_some() && running.are_several());
    spread.flat_map(|running| of_one(running, deployment)).collect()
}

fn of_one(running: &Running<'_>, deployment: &Deployment<'_>) -> Vec<Answer> {
    let mut answers = Vec::new();
    let (own, others): (Vec<_>, Vec<_>) =
        running.workload.pod.apart.iter().partition(|rule| is_about(rule, running));
    let is_zonal = |rule: &&Apart| is_zone(&rule.topology);
    // A rule about other pods is none of ours, unless it looks as if it was meant for these.
    let missing: Vec<_> = others
        .into_iter()
        .filter(|rule| {
            let covered = own.iter().any(|kept| is_zone(&kept.topology) == is_zone(&rule.topology));
            !covered && !is_about_another(rule, running, deployment)
        })
        .collect();
    for rule in &missing {
        answers.push(running.wrong(Code::SelectorMismatch, mismatch(rule, running)));
    }
    // Two zones are two machines; a spread over zones may put several replicas into each.
    let insists =
        |rule: &&Apart| rule.is_required && (rule.field == ANTI_AFFINITY || !is_zone(&rule.topology));
    if own.is_empty() && missing.is_empty() {
        let evidence = format!("nothing keeps the replicas of {} on different machines", running.name());
        answers.push(running.wrong(Code::NoAntiAffinity, evidence));
    } else if !own.is_empty() && !own.iter().any(insists) {
        let evidence = format!(
            "{} of {} does not insist: its replicas may run on one machine",
            own[0].field,
            running.name()
        );
        answers.push(running.wrong(Code::SoftAntiAffinity, evidence));
    }
    let zones = allowed(&running.workload.pod, &ZONE_LABELS);
    match zones.filter(|zones| zones.len() == 1) {
        Some(zones) => {
            let zone = zones.into_iter().next().unwrap_or_default();
            let evidence = format!("all replicas of {} have to run in {zone}", running.name());
            answers.push(running.wrong(Code::SingleZone, evidence));
        }
        None if own.iter().any(is_zonal) || missing.iter().any(is_zonal) => {}
        None => {
            let evidence = format!("nothing spreads the replicas of {} over zones", running.name());
            answers.push(running.wrong(Code::NoZoneSpread, evidence));
        }
    }
    answers
}

/// Whether it is about the replicas themselves.
fn is_about(rule: &Apart, running: &Running<'_>) -> bool {
    let selects =
        rule.selector.as_ref().is_some_and(|selector| selector.selects(&running.workload.pod.labels));
    selects && is_in_namespaces(rule, running)
}

fn is_in_namespaces(rule: &Apart, running: &Running<'_>) -> bool {
    match (&rule.namespaces, &running.workload.resource.namespace) {
        (Some(named), Some(own)) => named.is_empty() || named.contains(own),
        _ => true,
    }
}

/// Whether it keeps them apart from pods of something else that was given. A spread is always about the pods themselves.
fn is_about_another(rule: &Apart, running: &Running<'_>, deployment: &Deployment<'_>) -> bool {
    let selects = |labels| rule.selector.as_ref().is_some_and(|selector| selector.selects(labels));
    let mut others =
        deployment.facts.workloads.iter().filter(|other| other.resource != running.workload.resource);
    rule.field == ANTI_AFFINITY && others.any(|other| selects(&other.pod.labels))
}

fn mismatch(rule: &Apart, running: &Running<'_>) -> String {
    let name = running.name();
    let field = rule.field;
    let Some(selector) = &rule.selector else {
        return format!("{field} of {name} by {} has no selector, so it is about no pod", rule.topology);
    };
    let labels = &running.workload.pod.labels;
    let unmet = selector.unmet(labels);
    if unmet.is_empty() {
        return format!(
            "{field} of {name} is about pods in {}",
            rule.namespaces.clone().unwrap_or_default().join(", ")
        );
    }
    let keys = selector.requirements.iter().filter(|requirement| !requirement.holds(labels));
    let carried = keys.map(|requirement| match labels.get(&requirement.key) {
        Some(value) => format!("{}={value}", requirement.key),
        None => format!("no {}", requirement.key),
    });
    let carried = carried.collect::<Vec<_>>().join(", ");
    format!("{field} of {name} selects {unmet}, but its pods carry {carried}")
}

/// Zones and whatever is larger.
fn is_zone(topology: &str) -> bool {
    ZONE_LABELS.contains(&topology) || REGION_LABELS.contains(&topology)
}
