//! Workloads: what runs how often, with which labels and settings, and where it may run.

use std::fmt;

use super::environment::{Entry, Origin, Source};
use super::field::Field;
use super::selector::{Labels, Requirement, Selector, requirements_in};

/// The fields that keep pods apart.
pub(super) const ANTI_AFFINITY: &str = "podAntiAffinity";
/// See [`ANTI_AFFINITY`].
pub(super) const SPREAD: &str = "topologySpreadConstraints";

/// Which resource something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) kind: String,
    /// `None` goes where others without one go. Before facts are settled, see `Facts::settle`, it is what is written.
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) file: String,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl Resource {
    /// Whether both are in one namespace.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.namespace == other.namespace
    }

    /// Whether such a policy holds for all namespaces.
    pub(super) fn is_of_cluster(&self) -> bool {
        ["Global", "Cluster", "Admin"].iter().any(|word| self.kind.contains(word))
    }
}

/// So many pods of one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) resource: Resource,
    /// `None` where the cluster decides, as for a DaemonSet.
    pub(super) replicas: Option<u32>,
    pub(super) pod: Pod,
}

/// The form of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) labels: Labels,
    pub(super) annotations: Labels,
    /// Policies do not apply to such a pod.
    pub(super) host_network: bool,
    /// Those that run as long as the pod does.
    pub(super) containers: Vec<Container>,
    pub(super) node_selector: Labels,
    /// Of a node, all requirements of one of these must hold; without any, nothing must.
    pub(super) node_terms: Vec<Vec<Requirement>>,
    pub(super) apart: Vec<Apart>,
}

/// What keeps pods apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Apart {
    /// The field that says so.
    pub(super) field: &'static str,
    /// From which pods; `None` selects nothing.
    pub(super) selector: Option<Selector>,
    /// The label of nodes that must differ.
    pub(super) topology: String,
    /// Whether a pod rather waits than runs otherwise.
    pub(super) is_required: bool,
    /// Where those pods are; empty is their own namespace, `None` is not known.
    pub(super) namespaces: Option<Vec<String>>,
}

/// A container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) command: Vec<String>,
    pub(super) arguments: Vec<String>,
    pub(super) ports: Vec<Port>,
    pub(super) environment: Vec<Entry>,
    pub(super) sources: Vec<Source>,
}

/// A port of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: Option<String>,
    pub(super) number: u32,
}

impl Workload {
    /// Reads a Deployment, StatefulSet or DaemonSet.
    pub(super) fn read(resource: Resource, root: &Field<'_>) -> Option<Self> {
        let spec = root.needed("spec")?;
        let replicas = spec.count("replicas");
        let is_per_node = resource.kind == "DaemonSet";
        let replicas = if is_per_node { None } else { Some(replicas.unwrap_or(1)) };
        let template = spec.needed("template")?;
        Some(Self { resource, replicas, pod: Pod::read(&template) })
    }
}

impl Pod {
    fn read(template: &Field<'_>) -> Self {
        let metadata = template.get("metadata");
        let labels = |key| metadata.as_ref().map(|metadata| metadata.labels(key)).unwrap_or_default();
        let mut pod =
            Self { labels: labels("labels"), annotations: labels("annotations"), ..Self::default() };
        let Some(spec) = template.get("spec") else { return pod };
        pod.host_network = spec.truth("hostNetwork").unwrap_or(false);
        pod.containers = spec.list("containers").iter().map(Container::read).collect();
        let lasting = spec.list("initContainers");
        let lasting = lasting.iter().filter(|container| container.text("restartPolicy") == Some("Always"));
        pod.containers.extend(lasting.map(Container::read));
        pod.node_selector = spec.labels("nodeSelector");
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        if let Some(nodes) = spec.at("affinity.nodeAffinity").and_then(|nodes| nodes.get(required)) {
            let terms = nodes.list("nodeSelectorTerms");
            pod.node_terms = terms.iter().map(|term| requirements_in(term, "matchExpressions")).collect();
        }
        if let Some(others) = spec.at("affinity.podAntiAffinity") {
            pod.apart.extend(others.list(required).iter().filter_map(|term| Apart::affinity(term, true)));
            let preferred = others.list("preferredDuringSchedulingIgnoredDuringExecution");
            let terms = preferred.iter().filter_map(|preference| preference.get("podAffinityTerm"));
            pod.apart.extend(terms.filter_map(|term| Apart::affinity(&term, false)));
        }
        pod.apart.extend(spec.list("topologySpreadConstraints").iter().filter_map(Apart::spread));
        pod
    }
}

impl Apart {
    fn affinity(term: &Field<'_>, is_required: bool) -> Option<Self> {
        let namespaces = term.texts("namespaces");
        let everywhere = term.get("namespaceSelector").is_some();
        Some(Self {
            field: ANTI_AFFINITY,
            selector: term.get("labelSelector").map(|selector| Selector::read(&selector)),
            topology: term.text("topologyKey")?.to_owned(),
            is_required,
            namespaces: (!everywhere).then_some(namespaces),
        })
    }

    fn spread(constraint: &Field<'_>) -> Option<Self> {
        let skew = constraint.count("maxSkew").unwrap_or(1);
        let waits = constraint.text("whenUnsatisfiable").is_none_or(|what| what == "DoNotSchedule");
        Some(Self {
            field: SPREAD,
            selector: constraint.get("labelSelector").map(|selector| Selector::read(&selector)),
            topology: constraint.text("topologyKey")?.to_owned(),
            is_required: waits && skew == 1,
            namespaces: Some(Vec::new()),
        })
    }
}

impl Container {
    fn read(field: &Field<'_>) -> Self {
        let text = |key| field.text(key).unwrap_or_default().to_owned();
        let port = |port: &Field<'_>| {
            Some(Port { name: port.text("name").map(str::to_owned), number: port.count("containerPort")? })
        };
        Self {
            name: text("name"),
            image: text("image"),
            command: field.texts("command"),
            arguments: field.texts("args"),
            ports: field.list("ports").iter().filter_map(port).collect(),
            environment: field.list("env").iter().filter_map(entry).collect(),
            sources: field.list("envFrom").iter().filter_map(source).collect(),
        }
    }
}

fn entry(field: &Field<'_>) -> Option<Entry> {
    let name = field.text("name")?.to_owned();
    let origin = match field.get("valueFrom") {
        None => Origin::Text(field.text("value").unwrap_or_default().to_owned()),
        Some(from) => {
            if let Some(path) = from.get("fieldRef").and_then(|of| of.text("fieldPath")) {
                Origin::Pod(path.to_owned())
            } else if let Some(of) = from.get("configMapKeyRef") {
                let key = of.text("key")?.to_owned();
                Origin::ConfigMap { name: of.text("name")?.to_owned(), key }
            } else if let Some(of) = from.get("secretKeyRef") {
                Origin::Elsewhere(format!("Secret {}", of.text("name")?))
            } else {
                Origin::Elsewhere("its pod's resources".to_owned())
            }
        }
    };
    Some(Entry { name, origin })
}

fn source(field: &Field<'_>) -> Option<Source> {
    let prefix = field.text("prefix").unwrap_or_default().to_owned();
    let named = |kind| field.get(kind).and_then(|of| of.text("name"));
    let (name, is_secret) = match (named("configMapRef"), named("secretRef")) {
        (Some(name), _) => (name, false),
        (None, name) => (name?, true),
    };
    Some(Source { name: name.to_owned(), is_secret, prefix })
}
