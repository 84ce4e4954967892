//! Network policies, as Kubernetes means them: a pod that no policy selects for a direction is open in that direction, and
//! one that is selected may do what any of its policies allows. Both ends have to allow a connection.

use std::collections::BTreeMap;

use super::field::{Field, NumberOrText};
use super::selector::{Labels, Selector};
use super::workload::{Resource, Workload};

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) resource: Resource,
    selector: Selector,
    /// `None` does not restrict this direction.
    ingress: Option<Vec<Allowed>>,
    egress: Option<Vec<Allowed>>,
}

/// What one rule of a policy allows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Allowed {
    /// Empty is everybody.
    others: Vec<Other>,
    /// Empty is every port.
    ports: Vec<Ports>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Other {
    Pods {
        pods: Option<Selector>,
        namespaces: Option<Selector>,
    },
    /// Whether pods have one of these addresses cannot be told.
    Addresses,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Ports {
    is_tcp: bool,
    port: Option<NumberOrText>,
    last: Option<u32>,
}

/// One direction of a pod's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Whether something gets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Passage {
    Open,
    /// The policies that select the pod, and none of which allows it.
    Closed(Direction, Vec<String>),
    /// What cannot be told.
    Unknown(String),
}

impl Policy {
    pub(super) fn read(resource: Resource, root: &Field<'_>) -> Option<Self> {
        let spec = root.needed("spec")?;
        let selector = spec.get("podSelector").map(|field| Selector::read(&field)).unwrap_or_default();
        let types = spec.texts("policyTypes");
        // Kubernetes adds the type by itself only where there is a rule.
        let has_egress = !spec.list("egress").is_empty();
        let restricts = |name: &str, unless_said: bool| {
            if types.is_empty() { unless_said } else { types.iter().any(|kind| kind == name) }
        };
        let rules = |key, peers| spec.list(key).iter().map(|rule| Allowed::read(rule, peers)).collect();
        Some(Self {
            resource,
            selector,
            ingress: restricts("Ingress", true).then(|| rules("ingress", "from")),
            egress: restricts("Egress", has_egress).then(|| rules("egress", "to")),
        })
    }

    fn rules(&self, direction: Direction) -> Option<&[Allowed]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

impl Allowed {
    fn read(rule: &Field<'_>, peers: &str) -> Self {
        let other = |peer: &Field<'_>| {
            if peer.get("ipBlock").is_some() {
                return Other::Addresses;
            }
            let selector = |key| peer.get(key).map(|field| Selector::read(&field));
            Other::Pods { pods: selector("podSelector"), namespaces: selector("namespaceSelector") }
        };
        let ports = |port: &Field<'_>| Ports {
            is_tcp: port.text("protocol").is_none_or(|protocol| protocol == "TCP"),
            port: port.number_or_text("port"),
            last: port.count("endPort"),
        };
        Self {
            others: rule.list(peers).iter().map(other).collect(),
            ports: rule.list("ports").iter().map(ports).collect(),
        }
    }
}

/// All policies, with what else they go by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network<'a> {
    pub(super) policies: &'a [Policy],
    /// The labels of namespaces that were given.
    pub(super) namespaces: &'a BTreeMap<String, Labels>,
}

impl Network<'_> {
    /// Whether a pod of the one workload reaches a TCP port of a pod of the other.
    pub(super) fn passage(self, from: &Workload, to: &Workload, port: u32) -> Passage {
        let ends = [(Direction::Egress, from, to), (Direction::Ingress, to, from)];
        let ends = ends.map(|(direction, of, other)| self.end(direction, of, other, to, port));
        // Closed at one end is closed, whatever the other may be.
        let rank = |passage: &Passage| match passage {
            Passage::Closed(..) => 0,
            Passage::Unknown(_) => 1,
            Passage::Open => 2,
        };
        match ends.into_iter().min_by_key(rank) {
            None | Some(Passage::Open) => Passage::Open,
            Some(_) if from.pod.host_network || to.pod.host_network => Passage::Unknown(
                "whether policies hold for pods in their host's network is up to the cluster".to_owned(),
            ),
            Some(other) => other,
        }
    }

    fn end(self, direction: Direction, of: &Workload, other: &Workload, to: &Workload, port: u32) -> Passage {
        let selecting = self.policies.iter().filter(|policy| {
            policy.resource.is_beside(&of.resource) && policy.selector.selects(&of.pod.labels)
        });
        let selecting: Vec<_> =
            selecting.filter_map(|policy| Some((policy, policy.rules(direction)?))).collect();
        if selecting.is_empty() {
            return Passage::Open;
        }
        let mut unknown = None;
        for (policy, rules) in &selecting {
            for rule in *rules {
                if !rule.ports.is_empty() && !rule.ports.iter().any(|ports| ports.include(port, to)) {
                    continue;
                }
                match self.includes(policy, rule, other) {
                    Some(true) => return Passage::Open,
                    Some(false) => {}
                    None => unknown = Some(policy.resource.to_string()),
                }
            }
        }
        match unknown {
            Some(policy) => Passage::Unknown(format!(
                "whether {policy} allows it depends on addresses or labels of namespaces that are not written here"
            )),
            None => {
                let names = selecting.iter().map(|(policy, _)| policy.resource.to_string());
                Passage::Closed(direction, names.collect())
            }
        }
    }

    /// Whether the rule is about this pod.
    fn includes(self, policy: &Policy, rule: &Allowed, pod: &Workload) -> Option<bool> {
        let mut included = Some(rule.others.is_empty());
        for other in &rule.others {
            let this = match other {
                Other::Addresses => None,
                Other::Pods { pods, namespaces } => {
                    let selects = pods.as_ref().is_none_or(|selector| selector.selects(&pod.pod.labels));
                    let is_there = match namespaces {
                        None => Some(policy.resource.is_beside(&pod.resource)),
                        Some(selector) => self.selects_namespace(selector, pod),
                    };
                    if selects { is_there } else { Some(false) }
                }
            };
            match this {
                Some(true) => return Some(true),
                Some(false) => {}
                None => included = None,
            }
        }
        included
    }

    /// Every namespace has a label with its name; others are known only where the namespace was given, and even then
    /// somebody may have added more.
    fn selects_namespace(self, selector: &Selector, pod: &Workload) -> Option<bool> {
        const NAME: &str = "kubernetes.io/metadata.name";
        if selector.requirements.is_empty() {
            return Some(true);
        }
        let name = pod.resource.namespace.as_ref()?;
        let mut labels = self.namespaces.get(name).cloned().unwrap_or_default();
        labels.insert(NAME.to_owned(), name.clone());
        let is_known = |key: &String| labels.contains_key(key);
        if selector.requirements.iter().all(|requirement| is_known(&requirement.key)) {
            return Some(selector.selects(&labels));
        }
        let fails = selector
            .requirements
            .iter()
            .any(|requirement| is_known(&requirement.key) && !requirement.holds(&labels));
        if fails { Some(false) } else { None }
    }
}

impl Ports {
    /// Whether this TCP port of such a pod is one of them.
    fn include(&self, port: u32, of: &Workload) -> bool {
        let number = i64::from(port);
        self.is_tcp
            && match (&self.port, self.last) {
                (None, _) => true,
                (Some(NumberOrText::Number(first)), Some(last)) => *first <= number && port <= last,
                (Some(NumberOrText::Number(only)), None) => *only == number,
                (Some(NumberOrText::Text(name)), _) => {
                    let ports = of.pod.containers.iter().flat_map(|container| &container.ports);
                    ports.into_iter().any(|own| own.name.as_deref() == Some(name) && own.number == port)
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::manifests::field::Faults;

    fn resource(kind: &str, name: &str) -> Resource {
        Resource { kind: kind.into(), namespace: Some("coder".into()), name: name.into(), file: "f".into() }
    }

    fn coderd() -> Workload {
        let value = json!({"spec": {"replicas": 3, "template": {
            "metadata": {"labels": {"app": "coder"}},
            "spec": {"containers": [{"name": "coder", "ports": [{"name": "http", "containerPort": 8080}]}]},
        }}});
        let faults = Faults::default();
        Workload::read(resource("Deployment", "coder"), &Field::root(&value, &faults)).unwrap()
    }

    /// Of each policy's `spec`.
    fn passage(policies: &[Value], port: u32) -> Passage {
        let read = |spec: &Value| {
            let value = json!({"spec": spec});
            let faults = Faults::default();
            let policy = Policy::read(resource("NetworkPolicy", "p"), &Field::root(&value, &faults)).unwrap();
            assert_eq!(faults.into_found(), []);
            policy
        };
        let policies: Vec<_> = policies.iter().map(read).collect();
        let labels = Labels::from([("team".into(), "a".into())]);
        let namespaces = BTreeMap::from([("coder".to_owned(), labels)]);
        Network { policies: &policies, namespaces: &namespaces }.passage(&coderd(), &coderd(), port)
    }

    fn is_open(policies: &[Value]) -> bool {
        match passage(policies, 8080) {
            Passage::Open => true,
            Passage::Closed(..) => false,
            unknown @ Passage::Unknown(_) => panic!("{unknown:?}"),
        }
    }

    /// A policy for ingress with this list of rules.
    fn ingress(rules: &Value) -> Value {
        json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules})
    }

    #[test]
    fn who_is_selected_by_no_policy_is_open() {
        assert!(is_open(&[]));
        assert!(is_open(&[json!({"podSelector": {"matchLabels": {"app": "other"}}, "ingress": []})]));
        assert!(is_open(&[json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]})]));
    }

    #[test]
    fn a_policy_without_rules_denies_and_any_other_may_allow() {
        let deny = json!({"podSelector": {}});
        assert!(!is_open(std::slice::from_ref(&deny)), "without types it is about ingress");
        assert_eq!(
            passage(&[json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})], 8080),
            Passage::Closed(Direction::Egress, vec!["NetworkPolicy coder/p".into()])
        );
        let allow = json!({"podSelector": {"matchLabels": {"app": "coder"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "coder"}}}], "ports": [{"port": 8080}]}]});
        assert!(is_open(&[deny.clone(), allow.clone()]));
        assert!(is_open(&[allow.clone(), deny]), "their order does not matter");
        let egress = json!({"podSelector": {}, "egress": [{"to": [], "ports": [{"port": 443}]}]});
        assert!(!is_open(&[allow.clone(), egress]), "rules of egress make it about egress");
        let none = json!({"podSelector": {}, "ingress": [{}], "egress": []});
        assert!(is_open(&[allow, none]), "no rule of egress does not");
    }

    #[test]
    fn ports_are_numbers_ranges_names_or_all() {
        for (ports, open) in [
            (json!([]), true),
            (json!([{"port": 8080}]), true),
            (json!([{"port": 8081}]), false),
            (json!([{"port": 8080, "protocol": "UDP"}]), false),
            (json!([{"protocol": "TCP"}]), true),
            (json!([{"protocol": "UDP"}]), false),
            (json!([{"port": 8000, "endPort": 8080}]), true),
            (json!([{"port": 8000, "endPort": 8079}]), false),
            (json!([{"port": "http"}]), true),
            (json!([{"port": "https"}]), false),
            (json!([{"port": 1}, {"port": 8080}]), true),
        ] {
            assert_eq!(is_open(&[ingress(&json!([{"ports": ports}]))]), open, "{ports}");
        }
        assert!(is_open(&[ingress(&json!([{}]))]), "an empty rule allows everything");
    }

    #[test]
    fn others_are_pods_here_or_pods_in_namespaces() {
        for (from, open) in [
            (json!([]), true),
            (json!([{"podSelector": {}}]), true),
            (json!([{"podSelector": {"matchLabels": {"app": "other"}}}]), false),
            (
                json!([{"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["coder"]}]}}]),
                true,
            ),
            (json!([{"namespaceSelector": {}}]), true),
            (json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "coder"}}}]), true),
            (
                json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]),
                false,
            ),
            (json!([{"namespaceSelector": {"matchLabels": {"team": "a"}}}]), true),
            (json!([{"namespaceSelector": {"matchLabels": {"team": "b"}}}]), false),
            (json!([{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "other"}}}]), false),
        ] {
            assert_eq!(is_open(&[ingress(&json!([{"from": from}]))]), open, "{from}");
        }
    }

    #[test]
    fn addresses_and_labels_that_nobody_wrote_cannot_be_told() {
        for from in [
            json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]),
            json!([{"namespaceSelector": {"matchLabels": {"unwritten": "x"}}}]),
        ] {
            let found = passage(&[ingress(&json!([{"from": from}]))], 8080);
            assert!(matches!(found, Passage::Unknown(_)), "{found:?}");
            let other_port = passage(&[ingress(&json!([{"from": from, "ports": [{"port": 1}]}]))], 8080);
            assert!(matches!(other_port, Passage::Closed(Direction::Ingress, _)), "{other_port:?}");
            let open = passage(&[ingress(&json!([{"from": from}, {"from": [{"podSelector": {}}]}]))], 8080);
            assert_eq!(open, Passage::Open);
        }
    }
}
