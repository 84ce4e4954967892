//! All resources of interest that were given. One with a field of a wrong type is left out as a whole, and told.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::field::{Fault, Faults, Field};
use super::guards::{Autoscaler, DisruptionBudget};
use super::network::Policy;
use super::recognise::recognised;
use super::selector::Labels;
use super::workload::{Resource, Workload};
use super::yaml;
use crate::mesh::peer::Role;

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) workloads: Vec<Workload>,
    pub(super) policies: Vec<Policy>,
    pub(super) autoscalers: Vec<Autoscaler>,
    pub(super) disruption_budgets: Vec<DisruptionBudget>,
    pub(super) config_maps: Vec<(Resource, Labels)>,
    pub(super) services: Vec<Resource>,
    /// The labels of namespaces.
    pub(super) namespaces: BTreeMap<String, Labels>,
    /// All namespaces that any resource says it is in.
    named: BTreeSet<String>,
    pub(super) faults: Vec<Fault>,
    /// Kinds of which one could not be read.
    pub(super) faulty: BTreeSet<String>,
    /// Policies of a form that is not understood.
    pub(super) foreign_policies: Vec<Resource>,
    pub(super) read: usize,
    pub(super) ignored: BTreeMap<String, usize>,
    /// Those that were given again later, with their files. Only the last one counts, as it does for `kubectl apply`.
    pub(super) replaced: Vec<String>,
}

/// What is no resource is counted as this.
const NO_RESOURCE: &str = "(no resource)";

impl Facts {
    /// Takes in a document of this file.
    pub(super) fn take(&mut self, value: &Value, file: &str) {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        let (kind, version) = (text("kind"), text("apiVersion"));
        if kind.is_empty() {
            *self.ignored.entry(NO_RESOURCE.to_owned()).or_default() += 1;
            return;
        }
        if let (true, Some(Value::Array(items))) = (kind.ends_with("List"), value.get("items")) {
            // Parsers bound how deep lists of lists can be.
            items.iter().for_each(|item| self.take(item, file));
            return;
        }
        let namespace = value.pointer("/metadata/namespace").and_then(Value::as_str);
        self.named.extend(namespace.filter(|namespace| !namespace.is_empty()).map(str::to_owned));
        let group = version.rsplit_once('/').map_or("", |(group, _)| group);
        let of_interest = matches!(
            (group, kind),
            ("apps", "Deployment" | "StatefulSet" | "DaemonSet")
                | ("autoscaling", "HorizontalPodAutoscaler")
                | ("keda.sh", "ScaledObject")
                | ("policy", "PodDisruptionBudget")
                | ("networking.k8s.io", "NetworkPolicy")
                | ("", "ConfigMap" | "Service" | "Namespace")
        );
        if !of_interest {
            *self.ignored.entry(kind.to_owned()).or_default() += 1;
            if kind.ends_with("NetworkPolicy") {
                let text = |path| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
                self.foreign_policies.push(Resource {
                    kind: kind.to_owned(),
                    namespace: text("/metadata/namespace"),
                    name: text("/metadata/name").unwrap_or_default(),
                    file: file.to_owned(),
                });
            }
            return;
        }
        self.read += 1;
        let faults = Faults::default();
        let root = Field::root(value, &faults);
        let metadata = root.needed("metadata");
        let name = metadata.as_ref().and_then(|metadata| metadata.needed("name"));
        let namespace = metadata.as_ref().and_then(|metadata| metadata.text("namespace"));
        let name_text = name.as_ref().and_then(Field::as_text).unwrap_or_default();
        if let Some(name) = name.filter(|_| name_text.contains("{{")) {
            name.tell(format!("is no name{}", yaml::hint(name_text)));
        }
        let resource = Resource {
            kind: kind.to_owned(),
            namespace: namespace.filter(|namespace| !namespace.is_empty()).map(str::to_owned),
            name: name_text.to_owned(),
            file: file.to_owned(),
        };
        let title = resource.to_string();
        let read = Read::of(resource, &root);
        let found = faults.into_found();
        if found.is_empty() {
            self.put(read);
            return;
        }
        self.faulty.insert(kind.to_owned());
        self.faults.extend(found.into_iter().map(|(field, text)| Fault {
            file: file.to_owned(),
            resource: title.clone(),
            field,
            text,
        }));
    }

    fn put(&mut self, read: Option<Read>) {
        match read {
            Some(Read::Workload(workload)) => self.workloads.push(workload),
            Some(Read::Autoscaler(autoscaler)) => self.autoscalers.push(autoscaler),
            Some(Read::DisruptionBudget(budget)) => self.disruption_budgets.push(budget),
            Some(Read::Policy(policy)) => self.policies.push(policy),
            Some(Read::ConfigMap(resource, values)) => self.config_maps.push((resource, values)),
            Some(Read::Service(resource)) => self.services.push(resource),
            Some(Read::Namespace(name, labels)) => drop(self.namespaces.insert(name, labels)),
            None => {}
        }
    }

    /// What can be said only once all are there: where those without a namespace go, and which were given twice.
    pub(super) fn settle(&mut self) {
        self.go_home();
        let replaced = &mut self.replaced;
        keep_last(&mut self.workloads, |workload| &workload.resource, replaced);
        keep_last(&mut self.policies, |policy| &policy.resource, replaced);
        keep_last(&mut self.autoscalers, |scaler| &scaler.resource, replaced);
        keep_last(&mut self.disruption_budgets, |budget| &budget.resource, replaced);
        keep_last(&mut self.config_maps, |(resource, _)| resource, replaced);
        keep_last(&mut self.services, |service| service, replaced);
    }

    /// Puts those without a namespace to where they go: the only namespace that is named at all, else that of coderd. Where
    /// several are named and none by coderd they stay without one, beside each other.
    fn go_home(&mut self) {
        let is_coderd = |workload: &&Workload| {
            recognised(&workload.pod).iter().any(|recognised| recognised.role == Role::Coderd)
        };
        let coderd = self.workloads.iter().filter(is_coderd);
        let of_coderd = coderd.filter_map(|workload| workload.resource.namespace.clone()).next();
        let only = self.named.first().filter(|_| self.named.len() == 1).cloned();
        let Some(home) = only.or(of_coderd) else { return };
        let workloads = self.workloads.iter_mut().map(|workload| &mut workload.resource);
        let all = workloads
            .chain(self.policies.iter_mut().map(|policy| &mut policy.resource))
            .chain(self.autoscalers.iter_mut().map(|scaler| &mut scaler.resource))
            .chain(self.disruption_budgets.iter_mut().map(|budget| &mut budget.resource))
            .chain(self.config_maps.iter_mut().map(|(resource, _)| resource))
            .chain(&mut self.services)
            .chain(self.foreign_policies.iter_mut().filter(|policy| !policy.is_of_cluster()));
        for resource in all {
            resource.namespace.get_or_insert_with(|| home.clone());
        }
    }

    /// The values of a ConfigMap beside this resource.
    pub(super) fn config_map(&self, name: &str, beside: &Resource) -> Option<&Labels> {
        let found = self.config_maps.iter().rfind(|(map, _)| map.name == name && map.is_beside(beside));
        found.map(|(_, values)| values)
    }
}

/// Of those with one kind, namespace and name keeps the last.
fn keep_last<T>(all: &mut Vec<T>, resource: fn(&T) -> &Resource, replaced: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    let mut is_last = |one: &T| {
        let resource = resource(one);
        let name = resource.to_string();
        let is_last = !seen.contains(&name);
        if is_last {
            seen.insert(name);
        } else {
            replaced.push(format!("{name} ({})", resource.file));
        }
        is_last
    };
    let mut kept: Vec<_> = std::mem::take(all).into_iter().rev().filter(|one| is_last(one)).collect();
    kept.reverse();
    *all = kept;
}

/// A resource of interest.
enum Read {
    Workload(Workload),
    Autoscaler(Autoscaler),
    DisruptionBudget(DisruptionBudget),
    Policy(Policy),
    ConfigMap(Resource, Labels),
    Service(Resource),
    Namespace(String, Labels),
}

impl Read {
    fn of(resource: Resource, root: &Field<'_>) -> Option<Self> {
        Some(match resource.kind.as_str() {
            "HorizontalPodAutoscaler" | "ScaledObject" => Self::Autoscaler(Autoscaler::read(resource, root)?),
            "PodDisruptionBudget" => Self::DisruptionBudget(DisruptionBudget::read(resource, root)?),
            "NetworkPolicy" => Self::Policy(Policy::read(resource, root)?),
            "ConfigMap" => Self::ConfigMap(resource, root.labels("data")),
            "Service" => Self::Service(resource),
            "Namespace" => Self::Namespace(resource.name, root.get("metadata")?.labels("labels")),
            _ => Self::Workload(Workload::read(resource, root)?),
        })
    }
}
