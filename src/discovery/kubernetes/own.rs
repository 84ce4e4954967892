//! What Kubernetes tells a pod of itself through the downward API: no rights and no request are needed. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::mesh::roster::{Claim, Sighting};

use super::claims;
use super::picture::host_name;

/// The variable that names the file into which the downward API writes the pod's labels.
pub const LABELS_FILE: &str = "POD_LABELS_FILE";

/// What this pod is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    /// Its namespace.
    pub namespace: Option<String>,
    /// Host name, addresses, node and place. It says nothing about a role.
    pub sighting: Sighting,
}

/// Reads `POD_NAME`, `POD_NAMESPACE`, `POD_IP`, `POD_IPS`, `NODE_NAME`, `POD_REGION` and `POD_ZONE`, and the text of the
/// file of labels. `None` where there is no name and no address: then this is no pod, or nobody told it.
pub fn own(env: &dyn Fn(&str) -> Option<String>, labels: Option<&str>) -> Option<Own> {
    let told = |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let pod = told("POD_NAME");
    let addresses: BTreeSet<IpAddr> = [told("POD_IP"), told("POD_IPS")]
        .iter()
        .flatten()
        .flat_map(|list| list.split(','))
        .filter_map(|address| address.trim().parse().ok())
        .collect();
    if pod.is_none() && addresses.is_empty() {
        return None;
    }
    let labels = parse_labels(labels.unwrap_or_default());
    let variables =
        [("topology.kubernetes.io/region", "POD_REGION"), ("topology.kubernetes.io/zone", "POD_ZONE")];
    let variables = variables.into_iter().filter_map(|(label, name)| Some((label.to_owned(), told(name)?)));
    let sighting = Sighting {
        key: format!("own/{}", pod.clone().unwrap_or_default()),
        host_name: pod.as_deref().map(host_name),
        addresses,
        node: told("NODE_NAME"),
        claims: of_pod(&variables.collect()).or_else(|| of_pod(&labels)).into_iter().collect(),
        ..Sighting::default()
    };
    Some(Own { namespace: told("POD_NAMESPACE"), sighting })
}

/// Kubernetes 1.35 and later copies the labels of the node's place to its pods; set by a machine, so 3.
fn of_pod(labels: &BTreeMap<String, String>) -> Option<Claim> {
    let mut claim = claims::of_labels(labels, None, 3, "pod label")
        .or_else(|| claims::of_zone(labels.get("topology.kubernetes.io/zone")?))?;
    if claim.region.provider.is_none() {
        claim.region.provider = claims::provider_of_region(&claim.region.region).map(str::to_owned);
    }
    Some(claim)
}

/// A line is `key="value"`, the value in the manner of Go: what a label may hold needs no escape but for the quote itself.
fn parse_labels(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| {
            let value = value.trim();
            let bare = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
            (key.trim().to_owned(), bare.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)], labels: Option<&str>) -> Option<Own> {
        let env =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        own(&env, labels)
    }

    #[test]
    fn a_pod_learns_its_name_addresses_node_and_place_without_any_right() {
        let variables = [
            ("POD_NAME", "probe-0"),
            ("POD_NAMESPACE", "coder"),
            ("POD_IP", "10.0.0.7"),
            ("POD_IPS", "10.0.0.7,fd00::7"),
            ("NODE_NAME", "node-a"),
        ];
        let labels = "app=\"probe\"\ntopology.kubernetes.io/region=\"us-east-1\"\ntopology.kubernetes.io/zone=\"us-east-1a\"\n";
        let own = from(&variables, Some(labels)).unwrap();
        assert_eq!(own.namespace.as_deref(), Some("coder"));
        let sighting = own.sighting;
        assert_eq!(sighting.host_name.as_deref(), Some("probe-0"));
        assert_eq!(sighting.node.as_deref(), Some("node-a"));
        let expected: BTreeSet<IpAddr> =
            ["10.0.0.7", "fd00::7"].iter().map(|ip| ip.parse().unwrap()).collect();
        assert_eq!(sighting.addresses, expected);
        let claim = &sighting.claims[0];
        assert_eq!(
            (claim.trust, claim.by.as_str(), claim.zone.as_deref()),
            (3, "pod label", Some("us-east-1a"))
        );
        assert_eq!(claim.region.provider.as_deref(), Some("aws"));
        assert!(sighting.role.is_none() && sighting.reflectors.is_empty());
    }

    #[test]
    fn variables_for_region_and_zone_go_before_the_file_of_labels() {
        let variables = [("POD_NAME", "p"), ("POD_REGION", "eastus"), ("POD_ZONE", "eastus-1")];
        let claim = from(&variables, Some("topology.kubernetes.io/region=\"westus\""));
        let claim = &claim.unwrap().sighting.claims[0];
        assert_eq!((claim.region.region.as_str(), claim.zone.as_deref()), ("eastus", Some("eastus-1")));
        assert_eq!(claim.region.provider, None);
        let claim =
            &from(&[("POD_NAME", "p"), ("POD_ZONE", "us-central1-b")], None).unwrap().sighting.claims[0];
        assert_eq!((claim.region.region.as_str(), claim.trust), ("us-central1", 2));
    }

    #[test]
    fn what_is_empty_or_nonsense_is_left_out_and_without_a_pod_there_is_nothing() {
        assert_eq!(from(&[], None), None);
        assert_eq!(from(&[("POD_NAME", " "), ("POD_IP", "none"), ("NODE_NAME", "n")], None), None);
        let own = from(&[("POD_IP", "10.0.0.7"), ("NODE_NAME", "")], Some("no equals sign\n=\n")).unwrap();
        assert_eq!((own.sighting.node, own.sighting.host_name, own.namespace), (None, None, None));
        assert!(own.sighting.claims.is_empty());
    }
}
