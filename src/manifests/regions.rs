//! Rules about where coderd may run: one geographic region is what Coder demands.

use std::collections::BTreeSet;

use super::answer::{Answer, Deployment, Running};
use super::selector::{Operator, Requirement};
use super::workload::{ANTI_AFFINITY, Pod, SPREAD};
use crate::mesh::rules::Code;

/// Labels of nodes that name their zone, and those that name their region: today's and those before.
pub(super) const ZONE_LABELS: [&str; 2] =
    ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];
/// See [`ZONE_LABELS`].
pub(super) const REGION_LABELS: [&str; 2] =
    ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];

/// The values that one of these labels may have on the nodes of such a pod; `None` is any.
pub(super) fn allowed(pod: &Pod, keys: &[&str]) -> Option<BTreeSet<String>> {
    let is_meant = |key: &String| keys.contains(&key.as_str());
    let selected = pod.node_selector.iter().filter(|(key, _)| is_meant(key));
    let mut allowed = selected.map(|(_, value)| BTreeSet::from([value.clone()])).reduce(both);
    let in_term = |term: &Vec<Requirement>| {
        let named = term.iter().filter(|requirement| is_meant(&requirement.key));
        let named = named.filter(|requirement| requirement.operator == Operator::In);
        named.map(|requirement| requirement.values.iter().cloned().collect::<BTreeSet<_>>()).reduce(both)
    };
    // Any one of the terms is enough, so each has to name some.
    let terms: Option<Vec<_>> = pod.node_terms.iter().map(in_term).collect();
    if let Some(terms) = terms.filter(|terms| !terms.is_empty()) {
        let any = terms.into_iter().flatten().collect();
        allowed = Some(match allowed {
            Some(before) => both(before, any),
            None => any,
        });
    }
    allowed
}

#[expect(clippy::needless_pass_by_value, reason = "as `reduce` has it")]
fn both(one: BTreeSet<String>, other: BTreeSet<String>) -> BTreeSet<String> {
    one.intersection(&other).cloned().collect()
}

fn regions(running: &Running<'_>) -> Option<BTreeSet<String>> {
    allowed(&running.workload.pod, &REGION_LABELS).filter(|regions| !regions.is_empty())
}

fn listed(regions: &BTreeSet<String>) -> String {
    regions.iter().cloned().collect::<Vec<_>>().join(", ")
}

/// What surely puts replicas into different regions.
pub(super) fn cross_region(deployment: &Deployment<'_>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for site in deployment.sites_of_several() {
        let placed: Vec<_> = site.iter().filter_map(|running| Some((*running, regions(running)?))).collect();
        for (index, (one, here)) in placed.iter().enumerate() {
            for (other, there) in &placed[index + 1..] {
                if here.is_disjoint(there) {
                    answers.push(Answer::Wrong {
                        code: Code::CoderdCrossRegion,
                        subjects: vec![one.name(), other.name()],
                        evidence: format!(
                            "{} has to run in {}, {} in {}",
                            one.name(),
                            listed(here),
                            other.name(),
                            listed(there)
                        ),
                    });
                }
            }
        }
        for running in site.into_iter().filter(|running| running.are_several()) {
            let apart = running.workload.pod.apart.iter().any(|rule| {
                let selects = rule
                    .selector
                    .as_ref()
                    .is_some_and(|selector| selector.selects(&running.workload.pod.labels));
                let by_region = REGION_LABELS.contains(&rule.topology.as_str());
                by_region && rule.is_required && selects && rule.field == ANTI_AFFINITY
            });
            if apart {
                let evidence =
                    format!("podAntiAffinity keeps the replicas of {} in different regions", running.name());
                answers.push(running.wrong(Code::CoderdCrossRegion, evidence));
            }
        }
    }
    answers
}

/// What lets them run in different regions.
pub(super) fn several_regions(deployment: &Deployment<'_>) -> Vec<Answer> {
    let several = deployment.coderd.iter().filter(|running| running.are_several());
    let wrong = |running: &Running<'_>| {
        let spreads = running
            .workload
            .pod
            .apart
            .iter()
            .any(|rule| rule.field == SPREAD && REGION_LABELS.contains(&rule.topology.as_str()));
        let name = running.name();
        let evidence = match regions(running).filter(|regions| regions.len() > 1) {
            Some(regions) => format!("the replicas of {name} may run in any of {}", listed(&regions)),
            None if spreads => {
                format!("topologySpreadConstraints spread the replicas of {name} over regions")
            }
            None => return None,
        };
        Some(running.wrong(Code::SeveralRegions, evidence))
    };
    several.filter_map(wrong).collect()
}
