//! Who is speaking: the resource of every message, by OpenTelemetry's semantic conventions.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;

/// Of the attributes that we set ourselves.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

/// What is known at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    attributes: BTreeMap<String, String>,
    given: Vec<(String, String)>,
}

/// Where this agent stands, which may become known later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// `aws`, `gcp` or `azure`, as OpenTelemetry calls them too.
    pub provider: Option<String>,
    /// The region, as the provider calls it.
    pub region: Option<String>,
    /// The zone.
    pub zone: Option<String>,
}

impl Speaker {
    /// An agent of this name on this host. Of the environment it takes what the downward API writes: `POD_NAME`,
    /// `POD_NAMESPACE`, `POD_UID`, `NODE_NAME`, `CONTAINER_NAME`, and `K8S_CLUSTER_NAME`. `given` wins over all of it.
    pub fn new(
        name: &str,
        host: &str,
        given: Vec<(String, String)>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let told =
            |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let (pod, namespace) = (told("POD_NAME"), told("POD_NAMESPACE"));
        let container = told("CONTAINER_NAME");
        let instance = match (&pod, &namespace) {
            (Some(pod), Some(namespace)) => {
                format!("{namespace}.{pod}.{}", container.as_deref().unwrap_or("probe"))
            }
            _ if name == host => name.to_owned(),
            _ => format!("{name}.{host}"),
        };
        let pairs = [
            ("service.name", Some("probe".to_owned())),
            ("service.namespace", namespace.clone()),
            ("service.version", Some(env!("CARGO_PKG_VERSION").to_owned())),
            ("service.instance.id", Some(instance)),
            ("host.name", Some(told("NODE_NAME").unwrap_or_else(|| host.to_owned()))),
            ("k8s.pod.name", pod),
            ("k8s.pod.uid", told("POD_UID")),
            ("k8s.namespace.name", namespace),
            ("k8s.node.name", told("NODE_NAME")),
            ("k8s.container.name", container),
            ("k8s.cluster.name", told("K8S_CLUSTER_NAME")),
        ];
        let attributes =
            pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        Self { attributes, given }
    }

    /// The resource, with the place as it is known now.
    pub fn resource(&self, place: &Place) -> Resource {
        let mut attributes = self.attributes.clone();
        let place = [
            ("cloud.provider", &place.provider),
            ("cloud.region", &place.region),
            ("cloud.availability_zone", &place.zone),
        ];
        for (key, value) in place {
            if let Some(value) = value {
                attributes.insert(key.to_owned(), value.clone());
            }
        }
        attributes.extend(self.given.iter().cloned());
        let attributes = attributes.into_iter().map(|(key, value)| text(key, value)).collect();
        Resource { attributes, ..Resource::default() }
    }
}

/// An attribute that is a text.
pub(super) fn text(key: impl Into<String>, value: impl Into<String>) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.into()))
}

/// An attribute.
pub(super) fn attribute(key: impl Into<String>, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(resource: &Resource) -> Vec<(&str, &str)> {
        let value = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(any_value::Value::StringValue(text)) => text.clone().leak() as &str,
            other => panic!("{other:?}"),
        };
        resource.attributes.iter().map(|pair| (pair.key.as_str(), value(pair))).collect()
    }

    #[test]
    fn a_pod_is_called_as_the_conventions_say() {
        let env = |name: &str| {
            let value = match name {
                "POD_NAME" => "probe-x",
                "POD_NAMESPACE" => "coder",
                "POD_UID" => "0-1",
                "NODE_NAME" => "node-a",
                "K8S_CLUSTER_NAME" => "blue",
                "CONTAINER_NAME" => " ",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let speaker = Speaker::new("coderd-1", "probe-x", Vec::new(), &env);
        let place = Place {
            provider: Some("aws".to_owned()),
            region: Some("eu-west-1".to_owned()),
            zone: Some("eu-west-1a".to_owned()),
        };
        let expected = [
            ("cloud.availability_zone", "eu-west-1a"),
            ("cloud.provider", "aws"),
            ("cloud.region", "eu-west-1"),
            ("host.name", "node-a"),
            ("k8s.cluster.name", "blue"),
            ("k8s.namespace.name", "coder"),
            ("k8s.node.name", "node-a"),
            ("k8s.pod.name", "probe-x"),
            ("k8s.pod.uid", "0-1"),
            ("service.instance.id", "coder.probe-x.probe"),
            ("service.name", "probe"),
            ("service.namespace", "coder"),
            ("service.version", env!("CARGO_PKG_VERSION")),
        ];
        assert_eq!(read(&speaker.resource(&place)), expected);
    }

    #[test]
    fn outside_of_kubernetes_an_agent_is_the_same_after_a_restart_and_what_was_given_wins() {
        let given = vec![
            ("service.name".to_owned(), "mine".to_owned()),
            ("cloud.region".to_owned(), "here".to_owned()),
            ("team".to_owned(), "a".to_owned()),
        ];
        let speaker = Speaker::new("coderd-1", "machine", given, &|_| None);
        let place = Place { region: Some("eu-west-1".to_owned()), ..Place::default() };
        let expected = [
            ("cloud.region", "here"),
            ("host.name", "machine"),
            ("service.instance.id", "coderd-1.machine"),
            ("service.name", "mine"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("team", "a"),
        ];
        assert_eq!(read(&speaker.resource(&place)), expected);
        assert!(
            read(&Speaker::new("m", "m", Vec::new(), &|_| None).resource(&Place::default()))
                .contains(&("service.instance.id", "m"))
        );
    }
}
