//! Rules about how many there are, and what changes that.

use super::answer::{Answer, Deployment, Running};
use super::selector::Labels;
use crate::mesh::rules::{Code, FEW_CODERD, MANY_CODERD};

pub(super) fn few_or_many(deployment: &Deployment<'_>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for site in deployment.sites() {
        let names: Vec<_> = site.iter().map(|running| running.name()).collect();
        let Some(counts) = site.iter().map(|running| running.replicas).collect::<Option<Vec<_>>>() else {
            let text = format!("how many replicas {} has is up to the cluster", names.join(", "));
            answers.push(Answer::Unjudged { code: Code::FewCoderd, text });
            continue;
        };
        let sum = |of: fn(&(u32, u32)) -> u32| counts.iter().map(of).fold(0, u32::saturating_add);
        let (least, most) = (sum(|(least, _)| *least), sum(|(_, most)| *most));
        let wrong = |code, evidence| Answer::Wrong { code, subjects: names.clone(), evidence };
        if usize::try_from(least).unwrap_or(usize::MAX) < FEW_CODERD {
            let count = if least == 1 { "one replica".to_owned() } else { format!("{least} replicas") };
            let evidence = match (least, most > least) {
                (0, true) => {
                    "at times no replica of coderd at all: an autoscaler may scale it to zero".to_owned()
                }
                (_, true) => format!("at least {count} of coderd"),
                (_, false) => format!("{count} of coderd"),
            };
            answers.push(wrong(Code::FewCoderd, evidence));
        }
        // What an autoscaler without a limit may do is told as such.
        if most != u32::MAX && usize::try_from(most).unwrap_or(usize::MAX) > MANY_CODERD {
            let up_to = if most > least { "up to " } else { "" };
            let evidence = format!("{up_to}{most} replicas of coderd; every one of them talks to all others");
            answers.push(wrong(Code::ManyCoderd, evidence));
        }
    }
    answers
}

pub(super) fn autoscaled(deployment: &Deployment<'_>) -> Vec<Answer> {
    let of = |all: &[Running<'_>], code| {
        let mut answers = Vec::new();
        for running in all {
            for scaler in &deployment.facts.autoscalers {
                if scaler.scales(running.workload) {
                    let most =
                        scaler.most.map_or_else(|| "as many as it likes".to_owned(), |most| most.to_string());
                    let evidence = format!(
                        "{} scales {} from {} to {most} replicas",
                        scaler.resource,
                        running.name(),
                        scaler.least
                    );
                    answers.push(running.wrong(code, evidence));
                }
            }
        }
        answers
    };
    let mut answers = of(&deployment.coderd, Code::AutoscaledCoderd);
    answers.extend(of(&deployment.proxies, Code::AutoscaledProxy));
    answers
}

pub(super) fn disruption_budget(deployment: &Deployment<'_>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for running in deployment.coderd.iter().filter(|running| running.are_several()) {
        let budgets = deployment.facts.disruption_budgets.iter();
        let selecting: Vec<_> = budgets.filter(|budget| budget.selects(running.workload)).collect();
        let replicas = running.replicas.map_or(2, |(least, _)| least.max(2));
        if selecting.iter().any(|budget| budget.keeps_some(replicas)) {
            continue;
        }
        if deployment.facts.faulty.contains("PodDisruptionBudget") {
            let text = format!("a PodDisruptionBudget that may cover {} cannot be read", running.name());
            answers.push(Answer::Unjudged { code: Code::NoDisruptionBudget, text });
            continue;
        }
        let evidence = match selecting.first() {
            None => format!("no PodDisruptionBudget selects the pods of {}", running.name()),
            Some(budget) => format!("{} lets all pods of {} go at once", budget.resource, running.name()),
        };
        answers.push(running.wrong(Code::NoDisruptionBudget, evidence));
    }
    answers
}

pub(super) fn provisioners_share_pod(deployment: &Deployment<'_>) -> Vec<Answer> {
    let sharing = deployment.provisioners.iter().filter(|running| running.containers > 1);
    let wrong = |running: &Running<'_>| {
        let evidence =
            format!("{} containers of each pod of {} run a provisioner", running.containers, running.name());
        running.wrong(Code::ProvisionersSharePod, evidence)
    };
    sharing.map(wrong).collect()
}

/// Only where somebody chose nodes for both, and chose the same.
pub(super) fn provisioners_beside_coderd(deployment: &Deployment<'_>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for coderd in &deployment.coderd {
        for provisioner in &deployment.provisioners {
            let pool = pool(&coderd.workload.pod.node_selector);
            let beside = coderd.workload.resource.is_beside(&provisioner.workload.resource);
            if beside && !pool.is_empty() && pool == self::pool(&provisioner.workload.pod.node_selector) {
                let labels: Vec<_> = pool.iter().map(|(key, value)| format!("{key}={value}")).collect();
                let evidence = format!(
                    "{} runs on the nodes of {}: {}",
                    provisioner.name(),
                    coderd.name(),
                    labels.join(", ")
                );
                answers.push(provisioner.wrong(Code::ProvisionersBesideCoderd, evidence));
            }
        }
    }
    answers
}

/// What of a selector of nodes means a pool, and not an architecture or a place.
fn pool(selector: &Labels) -> Labels {
    let is_general = |key: &str| {
        ["kubernetes.io/os", "kubernetes.io/arch"].contains(&key)
            || key.starts_with("topology.kubernetes.io/")
    };
    let of_pool = selector.iter().filter(|(key, _)| !is_general(key));
    of_pool.map(|(key, value)| (key.clone(), value.clone())).collect()
}
