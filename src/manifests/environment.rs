//! The settings of a container, as far as they are written in what was given: flags, then `env`, then `envFrom`.
//!
//! The last of two entries of one name counts, `env` wins over `envFrom`, and `$(NAME)` stands for what was defined
//! before. What comes from a Secret, or from a ConfigMap that was not given, is unknown, and so is whatever that may hide.

use std::collections::BTreeMap;

use super::selector::Labels;
use super::workload::Container;

/// A variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) origin: Origin,
}

/// Where its value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Text(String),
    /// A field of the pod.
    Pod(String),
    ConfigMap {
        name: String,
        key: String,
    },
    /// Somewhere that is not looked at.
    Elsewhere(String),
}

/// Where several variables come from at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) is_secret: bool,
    pub(super) prefix: String,
}

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Word(String),
    Pod(String),
    Unseen(String),
}

/// A value that is known, but for what only a pod knows of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Value {
    pieces: Vec<Piece>,
}

/// What is known of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    Unset,
    Value(Value),
    /// With where it comes from.
    Unknown(String),
}

/// Fields that differ from pod to pod.
const OF_EACH_POD: [&str; 6] =
    ["status.podIP", "status.podIPs", "status.hostIP", "metadata.name", "metadata.uid", "spec.nodeName"];
/// What stands for a field of a pod in a text.
const PLACEHOLDER: &str = "pod";

impl Value {
    fn word(text: impl Into<String>) -> Self {
        Self { pieces: vec![Piece::Word(text.into())] }
    }

    fn unseen(from: impl Into<String>) -> Self {
        Self { pieces: vec![Piece::Unseen(from.into())] }
    }

    /// Whether it differs from pod to pod.
    pub(super) fn is_of_each_pod(&self) -> bool {
        let differs =
            |piece: &Piece| matches!(piece, Piece::Pod(path) if OF_EACH_POD.contains(&path.as_str()));
        self.pieces.iter().any(differs)
    }

    /// Whether it is the pod's own address and nothing else but the brackets of one of IPv6.
    pub(super) fn is_pod_address(&self) -> bool {
        let means =
            |piece: &&Piece| !matches!(piece, Piece::Word(text) if text.trim_matches(['[', ']']).is_empty());
        let pieces: Vec<_> = self.pieces.iter().filter(means).collect();
        matches!(pieces.as_slice(), [Piece::Pod(path)] if path.starts_with("status.podIP") || path == "status.hostIP")
    }

    /// As one text, with a word for what only the pod knows.
    pub(super) fn text(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Word(text) => text.clone(),
            Piece::Pod(_) | Piece::Unseen(_) => PLACEHOLDER.to_owned(),
        };
        self.pieces.iter().map(piece).collect()
    }

    /// As people write it.
    pub(super) fn in_words(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Word(text) => text.clone(),
            Piece::Pod(path) => format!("$({path})"),
            Piece::Unseen(_) => "…".to_owned(),
        };
        self.pieces.iter().map(piece).collect()
    }

    /// The host of a URL, keeping what only the pod knows.
    pub(super) fn host(&self) -> Self {
        let mut host = Self::default();
        let text = self.text();
        let start = text.find("://").map_or(0, |at| at + 3);
        let rest = &text[start..];
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = &rest[..end];
        let end = match authority.rfind(':') {
            Some(colon) if authority[colon..].bytes().skip(1).all(|byte| byte.is_ascii_digit()) => colon,
            _ => authority.len(),
        };
        let (from, to) = (start, start + end);
        let mut at = 0;
        for piece in &self.pieces {
            let width = match piece {
                Piece::Word(text) => text.len(),
                Piece::Pod(_) | Piece::Unseen(_) => PLACEHOLDER.len(),
            };
            let (first, last) = (from.clamp(at, at + width), to.clamp(at, at + width));
            if first < last {
                host.pieces.push(match piece {
                    Piece::Word(text) => Piece::Word(text[first - at..last - at].to_owned()),
                    whole => whole.clone(),
                });
            }
            at += width;
        }
        host
    }

    fn origin_unseen(&self) -> Option<&str> {
        self.pieces.iter().find_map(|piece| match piece {
            Piece::Unseen(from) => Some(from.as_str()),
            Piece::Word(_) | Piece::Pod(_) => None,
        })
    }
}

/// All settings of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Environment {
    variables: BTreeMap<String, Value>,
    flags: BTreeMap<String, Value>,
    /// What may define more, with the beginning of their names.
    hidden: Vec<(String, String)>,
}

/// The way to a ConfigMap's values by its name; `None` where it was not given.
pub(super) type ConfigMaps<'a> = &'a dyn Fn(&str) -> Option<&'a Labels>;

impl Environment {
    pub(super) fn of(container: &Container, config_maps: ConfigMaps<'_>) -> Self {
        let mut all = Self::default();
        for source in &container.sources {
            match config_maps(&source.name).filter(|_| !source.is_secret) {
                Some(values) => {
                    let named = |(key, text): (&String, &String)| {
                        (format!("{}{key}", source.prefix), Value::word(text))
                    };
                    all.variables.extend(values.iter().map(named));
                }
                None => all.hide(source),
            }
        }
        for entry in &container.environment {
            let value = match &entry.origin {
                Origin::Text(text) => all.expanded(text),
                Origin::Pod(path) => Value { pieces: vec![Piece::Pod(path.clone())] },
                Origin::Elsewhere(from) => Value::unseen(from),
                Origin::ConfigMap { name, key } => match config_maps(name).map(|values| values.get(key)) {
                    Some(Some(text)) => Value::word(text),
                    // The pod does not start without the key, unless it is optional.
                    Some(None) => Value::unseen(format!("ConfigMap {name}, which has no {key}")),
                    None => Value::unseen(format!("ConfigMap {name}, which was not given")),
                },
            };
            all.variables.insert(entry.name.clone(), value);
        }
        all.read_flags(container);
        all
    }

    /// Whatever was defined before may be overwritten by this source.
    fn hide(&mut self, source: &Source) {
        let from = if source.is_secret {
            format!("Secret {}", source.name)
        } else {
            format!("ConfigMap {}, which was not given", source.name)
        };
        for (name, value) in &mut self.variables {
            if name.starts_with(&source.prefix) {
                *value = Value::unseen(&from);
            }
        }
        self.hidden.push((source.prefix.clone(), from));
    }

    /// A text with `$(NAME)` replaced; `$$` is a dollar.
    fn expanded(&self, text: &str) -> Value {
        let mut pieces = Vec::new();
        let mut word = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            word.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                word.push('$');
                rest = after;
            } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
                pieces.push(Piece::Word(std::mem::take(&mut word)));
                match self.variables.get(name) {
                    Some(value) => pieces.extend(value.pieces.iter().cloned()),
                    None => pieces.push(Piece::Unseen(format!("$({name}), which is not defined before it"))),
                }
                rest = after;
            } else {
                word.push('$');
            }
        }
        word.push_str(rest);
        pieces.push(Piece::Word(word));
        pieces.retain(|piece| !matches!(piece, Piece::Word(text) if text.is_empty()));
        Value { pieces }
    }

    fn read_flags(&mut self, container: &Container) {
        let words = container.command.iter().chain(&container.arguments);
        let words: Vec<_> = words.flat_map(|word| word.split_whitespace()).collect();
        for (index, word) in words.iter().enumerate() {
            let Some(flag) = word.strip_prefix("--") else { continue };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value),
                None => match words.get(index + 1).filter(|next| !next.starts_with('-')) {
                    Some(value) => (flag, *value),
                    None => (flag, "true"),
                },
            };
            let value = value.trim_matches(['"', '\'']);
            let mut expanded = self.expanded(value);
            if expanded.text().contains('$') {
                expanded = Value::unseen("a variable of a shell");
            }
            self.flags.insert(name.to_owned(), expanded);
        }
    }

    /// What is known of the setting that has this variable, like `CODER_ACCESS_URL`, and the flag that goes with it.
    pub(super) fn setting(&self, variable: &str) -> Setting {
        let flag = variable.strip_prefix("CODER_").unwrap_or(variable).to_lowercase().replace('_', "-");
        if let Some(value) = self.flags.get(&flag).or_else(|| self.variables.get(variable)) {
            return match value.origin_unseen() {
                Some(from) => Setting::Unknown(from.to_owned()),
                // coderd takes an empty variable for one that is not set.
                None if value.text().is_empty() => Setting::Unset,
                None => Setting::Value(value.clone()),
            };
        }
        let hidden = self.hidden.iter().find(|(prefix, _)| variable.starts_with(prefix.as_str()));
        let file = || {
            let has_file = ["config", "c"].iter().any(|flag| self.flags.contains_key(*flag));
            has_file || self.variables.contains_key("CODER_CONFIG_PATH")
        };
        match hidden {
            Some((_, from)) => Setting::Unknown(format!("{from}, if it is set there")),
            None if file() => Setting::Unknown("coderd's configuration file, if it is set there".to_owned()),
            None => Setting::Unset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, text: &str) -> Entry {
        Entry { name: name.into(), origin: Origin::Text(text.into()) }
    }

    fn source(name: &str, is_secret: bool) -> Source {
        Source { name: name.into(), is_secret, prefix: String::new() }
    }

    fn settings(container: &Container) -> Environment {
        let maps = BTreeMap::from([
            ("one", Labels::from([("A".into(), "1".into()), ("B".into(), "1".into())])),
            ("two", Labels::from([("B".into(), "2 $(A)".into())])),
        ]);
        Environment::of(container, &|name| maps.get(name))
    }

    fn known(environment: &Environment, name: &str) -> String {
        match environment.setting(name) {
            Setting::Value(value) => value.in_words(),
            Setting::Unset => "unset".into(),
            Setting::Unknown(from) => format!("? {from}"),
        }
    }

    #[test]
    fn later_entries_win_and_env_wins_over_sources_whose_values_are_not_expanded() {
        let container = Container {
            sources: vec![source("one", false), source("two", false)],
            environment: vec![text("A", "x"), text("A", "y"), text("C", "$(A)-$(B)-$$(A)-$A")],
            ..Container::default()
        };
        let environment = settings(&container);
        assert_eq!(known(&environment, "A"), "y");
        assert_eq!(known(&environment, "B"), "2 $(A)");
        assert_eq!(known(&environment, "C"), "y-2 $(A)-$(A)-$A");
        assert_eq!(known(&environment, "D"), "unset");
    }

    #[test]
    fn what_a_secret_may_hold_is_unknown_and_what_it_cannot_hold_is_not() {
        let container = Container {
            sources: vec![source("one", false), source("hidden", true)],
            environment: vec![
                text("C", "c"),
                Entry { name: "D".into(), origin: Origin::Elsewhere("Secret db".into()) },
                text("E", "x$(D)"),
                text("F", "$(NOWHERE)"),
            ],
            ..Container::default()
        };
        let environment = settings(&container);
        assert_eq!(known(&environment, "A"), "? Secret hidden", "it may be overwritten");
        assert_eq!(known(&environment, "C"), "c");
        assert_eq!(known(&environment, "E"), "? Secret db");
        assert_eq!(known(&environment, "F"), "? $(NOWHERE), which is not defined before it");
        assert_eq!(known(&environment, "Z"), "? Secret hidden, if it is set there");
        let missing = Container { sources: vec![source("three", false)], ..Container::default() };
        assert_eq!(
            known(&settings(&missing), "Z"),
            "? ConfigMap three, which was not given, if it is set there"
        );
    }

    #[test]
    fn flags_win_and_a_configuration_file_hides_what_is_not_set() {
        let container = Container {
            command: vec!["/opt/coder".into()],
            arguments: vec![
                "server".into(),
                "--access-url=https://$(HOST)".into(),
                "--prometheus-enable".into(),
                "--provisioner-daemons".into(),
                "0".into(),
                "--config=/etc/coder.yaml".into(),
            ],
            environment: vec![text("HOST", "coder.example"), text("CODER_ACCESS_URL", "https://other")],
            ..Container::default()
        };
        let environment = settings(&container);
        assert_eq!(known(&environment, "CODER_ACCESS_URL"), "https://coder.example");
        assert_eq!(known(&environment, "CODER_PROMETHEUS_ENABLE"), "true");
        assert_eq!(known(&environment, "CODER_PROVISIONER_DAEMONS"), "0");
        assert_eq!(
            known(&environment, "CODER_CLUSTER_HOST"),
            "? coderd's configuration file, if it is set there"
        );
    }

    #[test]
    fn what_a_pod_knows_of_itself_stays_in_its_place() {
        let container = Container {
            environment: vec![
                Entry { name: "IP".into(), origin: Origin::Pod("status.podIP".into()) },
                text("URL", "http://$(IP):8080/x"),
                text("SIX", "http://[$(IP)]:8080"),
                text("SAME", "http://coder.svc:8080"),
                Entry { name: "NS".into(), origin: Origin::Pod("metadata.namespace".into()) },
            ],
            ..Container::default()
        };
        let environment = settings(&container);
        let value = |name| match environment.setting(name) {
            Setting::Value(value) => value,
            other => panic!("{other:?}"),
        };
        assert!(value("URL").is_of_each_pod() && !value("URL").is_pod_address());
        assert!(value("URL").host().is_pod_address());
        assert_eq!(value("URL").text(), "http://pod:8080/x");
        assert_eq!(value("SAME").host().text(), "coder.svc");
        assert!(!value("NS").is_of_each_pod());
        assert!(value("SIX").host().is_pod_address());
    }
}
