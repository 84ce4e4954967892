//! What a container runs: coderd, a workspace proxy or a provisioner. The command decides; without one that says it, an
//! annotation or a label of the pod does, and at last the image.

use super::workload::{Container, Pod};
use crate::mesh::peer::Role;

const BY_COMMAND: &str = "command";
const BY_ANNOTATION: &str = "annotation";
const BY_LABEL: &str = "label";
const BY_IMAGE: &str = "image";

/// A container that runs something of Coder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recognised<'a> {
    pub(super) role: Role,
    pub(super) container: &'a Container,
    pub(super) by: &'static str,
}

/// All containers of the pod that run something of Coder.
pub(super) fn recognised(pod: &Pod) -> Vec<Recognised<'_>> {
    let by_command = pod
        .containers
        .iter()
        .filter_map(|container| Some(Recognised { role: command(container)?, container, by: BY_COMMAND }));
    let by_command: Vec<_> = by_command.collect();
    if !by_command.is_empty() {
        return by_command;
    }
    let annotation = |key: &str| pod.annotations.get(key).map(String::as_str);
    let annotated = match (annotation("app.kubernetes.io/component"), annotation("com.coder/component")) {
        (Some("coderd"), _) => Some(Role::Coderd),
        (Some("wsproxy"), _) => Some(Role::Proxy),
        // The former in newer charts, the latter in older ones.
        (Some("provisionerd"), _) | (_, Some("provisionerd")) => Some(Role::Provisioner),
        _ => None,
    };
    if let Some(role) = annotated {
        let container = main(pod).or(match pod.containers.as_slice() {
            [only] => Some(only),
            _ => None,
        });
        return container
            .map(|container| Recognised { role, container, by: BY_ANNOTATION })
            .into_iter()
            .collect();
    }
    let labelled = match pod.labels.get("app.kubernetes.io/name").map(String::as_str) {
        Some("coder") => Some(Role::Coderd),
        Some("coder-provisioner") => Some(Role::Provisioner),
        _ => None,
    };
    // Tools put one label on all that is deployed together, PostgreSQL as well.
    if let Some((role, container)) = labelled.zip(main(pod)) {
        return vec![Recognised { role, container, by: BY_LABEL }];
    }
    let bare = |container: &&Container| {
        // The image's own entry point is `coder server`.
        let flags_only = container.arguments.iter().all(|argument| argument.starts_with('-'));
        container.command.is_empty() && flags_only && repository(&container.image) == "coder"
    };
    let bare = pod.containers.iter().filter(bare);
    bare.map(|container| Recognised { role: Role::Coderd, container, by: BY_IMAGE }).collect()
}

/// The container of a pod that is Coder's by its name or its image.
fn main(pod: &Pod) -> Option<&Container> {
    let named = pod.containers.iter().find(|container| container.name == "coder");
    named.or_else(|| pod.containers.iter().find(|container| is_of_coder(&container.image)))
}

fn command(container: &Container) -> Option<Role> {
    let words = container.command.iter().chain(&container.arguments);
    let words: Vec<_> = words.flat_map(|word| word.split_whitespace()).collect();
    let program = words.iter().position(|word| word.rsplit('/').next() == Some("coder"));
    let after = match program {
        Some(at) => at + 1,
        // The image's own entry point is the program.
        None if container.command.is_empty() && is_of_coder(&container.image) => 0,
        None => return None,
    };
    let has = |word: &str| words[after..].contains(&word);
    let provisions = ["provisionerd", "provisioner", "provisioners"].iter().any(|word| has(word));
    if has("wsproxy") && has("server") {
        Some(Role::Proxy)
    } else if provisions && (has("start") || has("run")) {
        Some(Role::Provisioner)
    } else if has("server") {
        Some(Role::Coderd)
    } else {
        None
    }
}

/// The last part of an image's name, without tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default()
}

fn is_of_coder(image: &str) -> bool {
    repository(image).split(['-', '_', '.']).any(|word| word == "coder")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::selector::Labels;

    fn container(image: &str, command: &[&str], arguments: &[&str]) -> Container {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Container {
            name: "main".into(),
            image: image.into(),
            command: owned(command),
            arguments: owned(arguments),
            ..Container::default()
        }
    }

    fn role(pod: &Pod) -> Option<(Role, &'static str)> {
        recognised(pod).first().map(|recognised| (recognised.role, recognised.by))
    }

    fn alone(image: &str, command: &[&str], arguments: &[&str]) -> Pod {
        Pod { containers: vec![container(image, command, arguments)], ..Pod::default() }
    }

    #[test]
    fn the_command_decides() {
        const IMAGE: &str = "ghcr.io/coder/coder:v2.35.3";
        for (image, command, arguments, expected) in [
            (IMAGE, &["/opt/coder"][..], &["server"][..], Some(Role::Coderd)),
            (IMAGE, &[], &["server"], Some(Role::Coderd)),
            (IMAGE, &["/opt/coder"], &["wsproxy", "server"], Some(Role::Proxy)),
            (IMAGE, &["/opt/coder"], &["provisionerd", "start"], Some(Role::Provisioner)),
            (IMAGE, &["coder", "provisioner", "start"], &[], Some(Role::Provisioner)),
            (
                "mirror.example/base@sha256:0",
                &["sh", "-c", "exec /opt/coder server"],
                &[],
                Some(Role::Coderd),
            ),
            (IMAGE, &["/opt/coder"], &["--verbose", "server", "--cache-dir=/x"], Some(Role::Coderd)),
            (IMAGE, &["/opt/coder"], &["users", "list"], None),
            ("nginx:1", &[], &["server"], None),
            ("codercom/code-server:4", &["code-server"], &["server"], None),
            ("ghcr.io/coder/coder-logstream-kube:v0", &[], &[], None),
        ] {
            let found = role(&alone(image, command, arguments));
            assert_eq!(found.map(|(role, _)| role), expected, "{image} {command:?} {arguments:?}");
            assert!(found.is_none_or(|(_, by)| by == BY_COMMAND));
        }
    }

    #[test]
    fn without_a_command_that_says_it_annotation_label_and_image_do_in_this_order() {
        let mut pod = alone("mirror.example/x", &["/start.sh"], &[]);
        assert_eq!(role(&pod), None);
        pod.labels = Labels::from([("app.kubernetes.io/name".into(), "coder".into())]);
        assert_eq!(role(&pod), None, "what is labelled together is not all coderd");
        let mut of_coder = pod.clone();
        of_coder.containers[0].name = "coder".into();
        assert_eq!(role(&of_coder), Some((Role::Coderd, BY_LABEL)));
        of_coder.containers[0].name = "main".into();
        of_coder.containers[0].image = "mirror.example/our-coder:1".into();
        assert_eq!(role(&of_coder), Some((Role::Coderd, BY_LABEL)));
        pod.annotations = Labels::from([("app.kubernetes.io/component".into(), "wsproxy".into())]);
        assert_eq!(role(&pod), Some((Role::Proxy, BY_ANNOTATION)));
        assert_eq!(role(&alone("ghcr.io/coder/coder:latest", &[], &[])), Some((Role::Coderd, BY_IMAGE)));
    }

    #[test]
    fn several_provisioners_in_one_pod_are_several() {
        let one = container("ghcr.io/coder/coder", &["/opt/coder"], &["provisionerd", "start"]);
        let pod = Pod { containers: vec![one.clone(), one], ..Pod::default() };
        assert_eq!(recognised(&pod).len(), 2);
    }
}
