//! Where a node stands, by what Kubernetes writes on it. Pure.
//!
//! The cloud's own controller sets `spec.providerID` once, and nobody can change it: belief 4. Labels are 3 where such a
//! controller set them and 2 where a person did, which is so on a node that no cloud claims. Without rights on nodes, the
//! zone that an endpoint carries still tells the region where its shape is one of AWS's or Google's: a reading, so 2.

use std::collections::BTreeMap;

use crate::mesh::roster::{Claim, RegionName};

use super::object::Node;

const REGION: [&str; 2] = ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];
const ZONE: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];
/// Distributions that fill in a provider's id without a cloud behind it.
const NO_CLOUD: [&str; 6] = ["k3s", "kind", "rke2", "minikube", "talos", "metal3"];

/// What the id and the labels of a node say, most believed first.
pub(super) fn of_node(node: &Node) -> Vec<Claim> {
    let id = node.spec.provider_id.as_deref().unwrap_or_default();
    let scheme = id.split_once("://").map(|(scheme, _)| scheme).unwrap_or_default();
    let provider = match scheme {
        "aws" => Some("aws"),
        "gce" => Some("gcp"),
        "azure" => Some("azure"),
        _ => None,
    };
    let set_by_a_cloud = !scheme.is_empty() && !NO_CLOUD.contains(&scheme);
    let by_label =
        of_labels(&node.metadata.labels, provider, if set_by_a_cloud { 3 } else { 2 }, "node label");
    of_provider_id(id).into_iter().chain(by_label).collect()
}

/// `aws:///us-east-1a/i-…`, `gce://project/us-central1-a/name`. Azure's has no region in it.
fn of_provider_id(id: &str) -> Option<Claim> {
    let (scheme, path) = id.split_once("://")?;
    let zone = path.split('/').nth(1)?;
    let (provider, region) = match scheme {
        "aws" => ("aws", aws_region(zone)?),
        "gce" => ("gcp", gcp_region(zone)?),
        _ => return None,
    };
    Some(Claim {
        trust: 4,
        by: "providerID".to_owned(),
        region: RegionName { provider: Some(provider.to_owned()), region },
        zone: Some(zone.to_owned()),
    })
}

/// What labels of today or of before Kubernetes 1.17 say, on a node or copied to its pods.
pub(super) fn of_labels(
    labels: &BTreeMap<String, String>,
    provider: Option<&str>,
    trust: u8,
    by: &str,
) -> Option<Claim> {
    let first = |names: [&str; 2]| {
        names
            .into_iter()
            .filter_map(|name| labels.get(name))
            .map(|value| value.trim())
            .find(|v| !v.is_empty())
    };
    let zone = first(ZONE);
    let region = match (first(REGION), provider, zone) {
        (Some(region), ..) => region.to_owned(),
        (None, Some("aws"), Some(zone)) => aws_region(zone)?,
        (None, Some("gcp"), Some(zone)) => gcp_region(zone)?,
        _ => return None,
    };
    Some(Claim {
        trust,
        by: by.to_owned(),
        region: RegionName { provider: provider.map(str::to_owned), region },
        zone: zone.filter(|zone| is_zone(zone)).map(str::to_owned),
    })
}

/// The region of a zone whose provider nobody named, where its shape leaves no doubt.
pub(super) fn of_zone(zone: &str) -> Option<Claim> {
    let (provider, region) = provider_of(zone)?;
    Some(Claim {
        trust: 2,
        by: "zone of the endpoint".to_owned(),
        region: RegionName { provider: Some(provider.to_owned()), region },
        zone: Some(zone.to_owned()),
    })
}

/// Whose zone this is, and its region, by shape: `us-east-1a` or `us-central1-a`.
fn provider_of(zone: &str) -> Option<(&'static str, String)> {
    if let Some(region) = aws_region(zone).filter(|region| is_aws(region)) {
        return Some(("aws", region));
    }
    gcp_region(zone).filter(|region| is_gcp(region)).map(|region| ("gcp", region))
}

/// Whose region this is, by shape; Azure's names have none.
pub(super) fn provider_of_region(region: &str) -> Option<&'static str> {
    match region {
        _ if is_aws(region) => Some("aws"),
        _ if is_gcp(region) => Some("gcp"),
        _ => None,
    }
}

/// Azure numbers the fault domains of a machine without zones from 0; that is not a place.
fn is_zone(zone: &str) -> bool {
    !zone.bytes().all(|byte| byte.is_ascii_digit())
}

const DIRECTIONS: [&str; 9] =
    ["north", "south", "east", "west", "central", "northeast", "northwest", "southeast", "southwest"];

fn is_aws(region: &str) -> bool {
    const AREAS: [&str; 11] = ["us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx", "cn", "eusc"];
    let parts: Vec<_> = region.split('-').collect();
    let [area, .., direction, number] = parts[..] else {
        return false;
    };
    AREAS.contains(&area) && DIRECTIONS.contains(&direction) && is_number(number)
}

fn is_gcp(region: &str) -> bool {
    const AREAS: [&str; 8] =
        ["us", "europe", "asia", "australia", "northamerica", "southamerica", "me", "africa"];
    let Some((area, rest)) = region.split_once('-') else {
        return false;
    };
    let direction = rest.trim_end_matches(|letter: char| letter.is_ascii_digit());
    AREAS.contains(&area) && DIRECTIONS.contains(&direction) && direction.len() < rest.len()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Up to the first number: `us-gov-west-1a` is in `us-gov-west-1`, and the local zone `us-west-2-lax-1a` and the wavelength
/// zone `us-east-1-wl1-bos-wlz-1` are in the region that they begin with.
fn aws_region(zone: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in zone.split('-') {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        if !digits.is_empty() {
            parts.push(digits);
            return (parts.len() > 2).then(|| parts.join("-"));
        }
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return None;
        }
        parts.push(part.to_owned());
    }
    None
}

/// `us-central1-a` is in `us-central1`.
fn gcp_region(zone: &str) -> Option<String> {
    let (region, letter) = zone.rsplit_once('-')?;
    let written = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let ends_in_a_number = region.ends_with(|letter: char| letter.is_ascii_digit());
    (written(letter) && written(region) && region.contains('-') && ends_in_a_number)
        .then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::kubernetes::object::{Metadata, NodeSpec};

    fn node(id: &str, labels: &[(&str, &str)]) -> Node {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Node {
            metadata: Metadata { labels, ..Metadata::default() },
            spec: NodeSpec {
                provider_id: Some(id.to_owned()).filter(|id| !id.is_empty()),
                unschedulable: None,
            },
            ..Node::default()
        }
    }

    /// `trust by provider/region zone`.
    fn said(claims: &[Claim]) -> Vec<String> {
        claims
            .iter()
            .map(|claim| {
                let provider = claim.region.provider.as_deref().unwrap_or("?");
                let zone = claim.zone.as_deref().unwrap_or("-");
                format!("{} {} {provider}/{} {zone}", claim.trust, claim.by, claim.region.region)
            })
            .collect()
    }

    const LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

    #[test]
    fn the_id_of_the_provider_tells_region_and_zone_where_it_has_them() {
        for (id, expected) in [
            ("aws:///us-east-1a/i-0abc", &["4 providerID aws/us-east-1 us-east-1a"][..]),
            ("aws:///us-gov-west-1b/i-0abc", &["4 providerID aws/us-gov-west-1 us-gov-west-1b"]),
            ("aws:///us-west-2-lax-1a/i-0", &["4 providerID aws/us-west-2 us-west-2-lax-1a"]),
            ("aws:///us-east-1-wl1-bos-wlz-1/i-0", &["4 providerID aws/us-east-1 us-east-1-wl1-bos-wlz-1"]),
            ("aws:///eu-west-1c/0123/fargate-ip-10-0-0-1", &["4 providerID aws/eu-west-1 eu-west-1c"]),
            ("gce://my-project/us-central1-a/gke-1", &["4 providerID gcp/us-central1 us-central1-a"]),
            ("gce://p/us-central1-ai1a/gke-1", &["4 providerID gcp/us-central1 us-central1-ai1a"]),
            ("azure:///subscriptions/0/resourceGroups/g/providers/x", &[]),
            ("kind://docker/kind/kind-worker", &[]),
            ("aws:///", &[]),
            ("aws://", &[]),
            ("aws:///../../etc/i-0", &[]),
            ("nonsense", &[]),
            ("", &[]),
        ] {
            assert_eq!(said(&of_node(&node(id, &[]))), expected, "{id}");
        }
    }

    #[test]
    fn labels_are_believed_as_much_as_whoever_set_them() {
        let [region, zone] = LABELS;
        let both = [(region, "us-east-1"), (zone, "us-east-1a")];
        assert_eq!(
            said(&of_node(&node("aws:///us-east-1a/i-0", &both))),
            ["4 providerID aws/us-east-1 us-east-1a", "3 node label aws/us-east-1 us-east-1a"]
        );
        assert_eq!(said(&of_node(&node("", &both))), ["2 node label ?/us-east-1 us-east-1a"]);
        assert_eq!(said(&of_node(&node("k3s://node-1", &both))), ["2 node label ?/us-east-1 us-east-1a"]);
        assert_eq!(
            said(&of_node(&node("digitalocean://1234", &[(region, "nyc1")]))),
            ["3 node label ?/nyc1 -"]
        );
        assert_eq!(
            said(&of_node(&node("azure:///subscriptions/0", &[(region, "eastus"), (zone, "eastus-1")]))),
            ["3 node label azure/eastus eastus-1"]
        );
        // Without zones, Azure's label has the number of a fault domain.
        assert_eq!(
            said(&of_node(&node("azure:///subscriptions/0", &[(region, "westus"), (zone, "0")]))),
            ["3 node label azure/westus -"]
        );
    }

    #[test]
    fn labels_of_before_are_read_where_there_are_none_of_today() {
        let old = [
            ("failure-domain.beta.kubernetes.io/region", "eu-west-1"),
            ("failure-domain.beta.kubernetes.io/zone", "eu-west-1b"),
        ];
        assert_eq!(said(&of_node(&node("", &old))), ["2 node label ?/eu-west-1 eu-west-1b"]);
        let both = [old[0], (LABELS[0], "eu-central-1"), (LABELS[1], " ")];
        assert_eq!(said(&of_node(&node("", &both))), ["2 node label ?/eu-central-1 -"]);
    }

    #[test]
    fn a_zone_alone_tells_its_region_where_its_shape_leaves_no_doubt() {
        for (zone, region) in [
            ("us-east-1a", Some("aws/us-east-1")),
            ("ap-southeast-2b", Some("aws/ap-southeast-2")),
            ("us-central1-f", Some("gcp/us-central1")),
            ("europe-west4-a", Some("gcp/europe-west4")),
            ("northamerica-northeast2-b", Some("gcp/northamerica-northeast2")),
            ("eastus-1", None),
            ("rack-1", None),
            ("dc-west-1a", None),
            ("hall-3-b", None),
            ("zone-a", None),
            ("", None),
            ("--", None),
        ] {
            let found = of_zone(zone).map(|claim| {
                assert_eq!((claim.trust, claim.zone.as_deref()), (2, Some(zone)));
                format!("{}/{}", claim.region.provider.unwrap(), claim.region.region)
            });
            assert_eq!(found.as_deref(), region, "{zone}");
        }
        // A label for the zone alone is enough where the provider is known.
        let aws = node("aws:///", &[(LABELS[1], "us-east-1a")]);
        assert_eq!(said(&of_node(&aws)), ["3 node label aws/us-east-1 us-east-1a"]);
        assert_eq!(said(&of_node(&node("", &[(LABELS[1], "us-east-1a")]))), Vec::<String>::new());
    }
}
