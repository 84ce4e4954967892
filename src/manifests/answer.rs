//! What the rules look at, what they answer, and how bad that is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::environment::{Environment, Setting};
use super::facts::Facts;
use super::network::Network;
use super::recognise::recognised;
use super::workload::Workload;
use super::{Part, Unjudged, apart, count, reach, regions, settings};
use crate::mesh::peer::Role;
use crate::mesh::rules::{Code, Severities, TopologyFinding};

/// What a rule says. Of what is good it says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Wrong { code: Code, subjects: Vec<String>, evidence: String },
    Unjudged { code: Code, text: String },
}

/// A workload that runs something of Coder.
#[derive(Debug)]
pub(super) struct Running<'a> {
    pub(super) workload: &'a Workload,
    pub(super) environment: Environment,
    pub(super) by: &'static str,
    /// How many there are at least and at most; `None` where the cluster decides.
    pub(super) replicas: Option<(u32, u32)>,
    /// How many of its containers do so.
    pub(super) containers: usize,
}

impl Running<'_> {
    pub(super) fn name(&self) -> String {
        self.workload.resource.to_string()
    }

    /// How many there may be. A DaemonSet is there to be on several nodes.
    pub(super) fn most(&self) -> u32 {
        self.replicas.map_or(u32::MAX, |(_, most)| most)
    }

    /// Whether there may be more than one.
    pub(super) fn are_several(&self) -> bool {
        self.most() > 1
    }

    pub(super) fn wrong(&self, code: Code, evidence: impl Into<String>) -> Answer {
        Answer::Wrong { code, subjects: vec![self.name()], evidence: evidence.into() }
    }

    /// A setting, or the answer that it cannot be judged.
    pub(super) fn known(&self, variable: &str, code: Code) -> Result<Setting, Answer> {
        match self.environment.setting(variable) {
            Setting::Unknown(from) => {
                let text = format!("{variable} of {} was not seen: it comes from {from}", self.name());
                Err(Answer::Unjudged { code, text })
            }
            known => Ok(known),
        }
    }
}

/// A deployment of Coder as the rules see it.
#[derive(Debug)]
pub(super) struct Deployment<'a> {
    pub(super) facts: &'a Facts,
    pub(super) budget: Duration,
    pub(super) coderd: Vec<Running<'a>>,
    pub(super) proxies: Vec<Running<'a>>,
    pub(super) provisioners: Vec<Running<'a>>,
}

type Rule = fn(&Deployment<'_>) -> Vec<Answer>;

const RULES: [Rule; 15] = [
    count::few_or_many,
    count::autoscaled,
    count::disruption_budget,
    count::provisioners_share_pod,
    count::provisioners_beside_coderd,
    apart::apart,
    regions::cross_region,
    regions::several_regions,
    reach::relay,
    reach::cluster_host,
    reach::relay_blocked,
    reach::nats_blocked,
    settings::built_in_provisioners,
    settings::health_threshold,
    settings::metrics,
];

impl<'a> Deployment<'a> {
    pub(super) fn of(facts: &'a Facts, budget: Duration) -> Self {
        let empty = Vec::new;
        let mut all = Self { facts, budget, coderd: empty(), proxies: empty(), provisioners: empty() };
        for workload in &facts.workloads {
            for role in [Role::Coderd, Role::Proxy, Role::Provisioner] {
                let found = recognised(&workload.pod);
                let found: Vec<_> = found.into_iter().filter(|found| found.role == role).collect();
                let Some(first) = found.first() else { continue };
                let scaler = facts.autoscalers.iter().find(|scaler| scaler.acts_on(workload));
                let replicas = match scaler {
                    Some(scaler) => Some((scaler.least, scaler.most.unwrap_or(u32::MAX).max(scaler.least))),
                    None => workload.replicas.map(|replicas| (replicas, replicas)),
                };
                let config_maps = |name: &str| facts.config_map(name, &workload.resource);
                let running = Running {
                    workload,
                    environment: Environment::of(first.container, &config_maps),
                    by: first.by,
                    replicas,
                    containers: found.len(),
                };
                match role {
                    Role::Coderd => all.coderd.push(running),
                    Role::Proxy => all.proxies.push(running),
                    _ => all.provisioners.push(running),
                }
            }
        }
        all
    }

    /// coderd by namespace: each is a deployment of Coder by itself. What is scaled to zero stands by, and counts only
    /// where nothing else runs.
    pub(super) fn sites(&self) -> Vec<Vec<&Running<'a>>> {
        let namespace = |running: &Running<'_>| running.workload.resource.namespace.clone();
        // Who has no namespace goes where the first goes that has one.
        let home = self.coderd.iter().find_map(namespace);
        let mut sites: BTreeMap<Option<String>, Vec<&Running<'a>>> = BTreeMap::new();
        for running in &self.coderd {
            sites.entry(namespace(running).or_else(|| home.clone())).or_default().push(running);
        }
        let mut sites: Vec<_> = sites.into_values().collect();
        for site in &mut sites {
            if site.iter().any(|running| running.most() > 0) {
                site.retain(|running| running.most() > 0);
            }
        }
        sites
    }

    /// Those sites that have more than one replica, or may have.
    pub(super) fn sites_of_several(&self) -> Vec<Vec<&Running<'a>>> {
        let mut sites = self.sites();
        sites.retain(|site| site.iter().map(|running| running.most()).fold(0, u32::saturating_add) > 1);
        sites
    }

    pub(super) fn network(&self) -> Network<'a> {
        Network { policies: &self.facts.policies, namespaces: &self.facts.namespaces }
    }

    /// What runs something of Coder.
    pub(super) fn parts(&self) -> Vec<Part> {
        let all = [
            (Role::Coderd, &self.coderd),
            (Role::Proxy, &self.proxies),
            (Role::Provisioner, &self.provisioners),
        ];
        let part = |role: Role, running: &Running<'_>| Part {
            resource: running.name(),
            role: role.as_str(),
            recognised_by: running.by,
            replicas: running.replicas.map(|(least, _)| least),
            file: running.workload.resource.file.clone(),
        };
        all.into_iter().flat_map(|(role, list)| list.iter().map(move |running| part(role, running))).collect()
    }
}

/// All answers with their severities, the worst first; what is switched off is neither wrong nor unjudged.
pub(super) fn weighed(
    deployment: &Deployment<'_>,
    severities: &Severities,
) -> (Vec<TopologyFinding>, Vec<Unjudged>) {
    let (mut findings, mut unjudged) = (Vec::new(), Vec::new());
    for answer in RULES.iter().flat_map(|rule| rule(deployment)) {
        match answer {
            Answer::Wrong { code, subjects, evidence } => {
                let Some(severity) = severities.of(code) else { continue };
                findings.push(TopologyFinding {
                    code,
                    severity,
                    subjects,
                    evidence,
                    remedy: code.remedy(),
                    anchor: code.anchor(),
                    vantage: Vec::new(),
                });
            }
            Answer::Unjudged { code, text } => {
                let Some(severity) = severities.of(code) else { continue };
                unjudged.push(Unjudged { code, severity, text });
            }
        }
    }
    findings.sort_by(|one, other| {
        let key = |finding: &TopologyFinding| (std::cmp::Reverse(finding.severity), finding.code);
        key(one).cmp(&key(other)).then_with(|| one.subjects.cmp(&other.subjects))
    });
    findings.dedup();
    unjudged.sort_by_key(|unjudged| std::cmp::Reverse(unjudged.severity));
    unjudged.dedup();
    (findings, unjudged)
}
