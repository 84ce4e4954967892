//! What of an EndpointSlice and a Node is read, and nothing else of them is kept.
//!
//! The full types of the API would be most of a node's 30 kB in memory and most of the parser in the binary. Everything
//! here may be missing or null, as Go writes an empty list, so that one odd object does not hide the others.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Something with a name that can be listed and watched.
pub(super) trait Object: Clone + PartialEq + serde::de::DeserializeOwned + Send + 'static {
    fn metadata(&mut self) -> &mut Metadata;
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    pub(super) resource_version: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) labels: BTreeMap<String, String>,
}

/// One page of a list.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(super) struct Page<T> {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) metadata: PageMetadata,
    #[serde(default = "Vec::new", deserialize_with = "or_default")]
    pub(super) items: Vec<T>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PageMetadata {
    pub(super) resource_version: Option<String>,
    #[serde(rename = "continue")]
    pub(super) next: Option<String>,
}

/// Some of the endpoints of a service, all of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Slice {
    pub(super) metadata: Metadata,
    #[serde(deserialize_with = "or_default")]
    pub(super) endpoints: Vec<Endpoint>,
    #[serde(deserialize_with = "or_default")]
    pub(super) ports: Vec<Port>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Endpoint {
    #[serde(deserialize_with = "or_default")]
    pub(super) addresses: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) conditions: Conditions,
    /// The host's own name where the pod's specification sets one.
    pub(super) hostname: Option<String>,
    pub(super) node_name: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) target_ref: Option<Reference>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Conditions {
    pub(super) ready: Option<bool>,
    pub(super) serving: Option<bool>,
    pub(super) terminating: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Reference {
    pub(super) kind: Option<String>,
    pub(super) name: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Port {
    pub(super) name: Option<String>,
    pub(super) protocol: Option<String>,
    /// Missing where all ports are meant. Wider than a port, since a number that is none must not hide the slice.
    pub(super) port: Option<i64>,
}

/// A machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    pub(super) metadata: Metadata,
    #[serde(deserialize_with = "or_default")]
    pub(super) spec: NodeSpec,
    #[serde(deserialize_with = "or_default")]
    pub(super) status: NodeStatus,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct NodeSpec {
    #[serde(rename = "providerID")]
    pub(super) provider_id: Option<String>,
    pub(super) unschedulable: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct NodeStatus {
    #[serde(deserialize_with = "or_default")]
    pub(super) conditions: Vec<NodeCondition>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct NodeCondition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
}

impl Node {
    /// Whether work may go there: not cordoned, and its kubelet says that it is ready. Of a node that has not said
    /// anything yet nothing is held against its pods.
    pub(super) fn is_well(&self) -> bool {
        let ready = self.status.conditions.iter().find(|condition| condition.kind == "Ready");
        self.spec.unschedulable != Some(true) && ready.is_none_or(|condition| condition.status == "True")
    }
}

impl Object for Slice {
    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

impl Object for Node {
    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(value: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_may_lack_everything_or_have_nulls_there() {
        let slice: Slice = serde_json::from_str(
            r#"{"metadata":{"name":"a","labels":null},"addressType":"IPv4","ports":null,
                "endpoints":[{"addresses":null,"conditions":null,"zone":null},{}]}"#,
        )
        .unwrap();
        assert_eq!(slice.endpoints, [Endpoint::default(), Endpoint::default()]);
        assert_eq!(serde_json::from_str::<Slice>("{}").unwrap(), Slice::default());
        let node: Node = serde_json::from_str(r#"{"spec":{},"status":{"conditions":null}}"#).unwrap();
        assert!(node.is_well());
        let page: Page<Node> = serde_json::from_str(r#"{"metadata":{},"items":null}"#).unwrap();
        assert!(page.items.is_empty() && page.metadata.next.is_none());
    }

    #[test]
    fn a_node_that_is_cordoned_or_whose_kubelet_is_silent_is_not_well() {
        let node = |json: &str| serde_json::from_str::<Node>(json).unwrap();
        let ready = |status: &str| {
            format!(
                r#"{{"status":{{"conditions":[{{"type":"DiskPressure","status":"False"}},{{"type":"Ready","status":"{status}"}}]}}}}"#
            )
        };
        assert!(node(&ready("True")).is_well());
        assert!(!node(&ready("False")).is_well());
        assert!(!node(&ready("Unknown")).is_well());
        assert!(!node(r#"{"spec":{"unschedulable":true}}"#).is_well());
        assert!(node(r#"{"spec":{"unschedulable":false}}"#).is_well());
    }
}
