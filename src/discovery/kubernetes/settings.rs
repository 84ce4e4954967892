//! What of a cluster is watched, and how patiently.

use std::collections::BTreeMap;
use std::time::Duration;

use super::picture::Service;

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the services are; the pod's own, or the kubeconfig's, unless said.
    pub namespace: Option<String>,
    /// The agents' service: `NAME`, or `NAMESPACE/NAME` where it is in another.
    pub agents_service: Option<String>,
    /// coderd's service, written likewise. Coder's chart calls it `coder`.
    pub coderd_service: Option<String>,
    /// Where an agent's reflector listens if its service names no UDP port.
    pub peer_port: u16,
    /// How long, and how long not.
    pub pace: Pace,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: None,
            agents_service: None,
            coderd_service: None,
            peer_port: 9862,
            pace: Pace::default(),
        }
    }
}

/// The times of this source. The defaults suit any cluster; tests have shorter ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Changes within this are one piece of news.
    pub settle: Duration,
    /// But news never waits longer than this.
    pub settle_at_most: Duration,
    /// The server must have answered, or at least begun to.
    pub answer: Duration,
    /// How long a watch is asked to last.
    pub watch: Duration,
    /// A watch that is silent for longer may be dead and is opened anew. Servers send a bookmark a minute.
    pub quiet: Duration,
    /// A watch that has been open for this works.
    pub calm: Duration,
    /// The first wait after a failure; it doubles each time.
    pub retry_at_first: Duration,
    /// The longest wait after a failure.
    pub retry_at_most: Duration,
    /// When something that was denied is asked for again.
    pub denied: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            settle: Duration::from_millis(200),
            settle_at_most: Duration::from_secs(2),
            answer: Duration::from_secs(10),
            watch: Duration::from_secs(290),
            quiet: Duration::from_secs(90),
            calm: Duration::from_secs(5),
            retry_at_first: Duration::from_millis(500),
            retry_at_most: Duration::from_secs(30),
            denied: Duration::from_secs(120),
        }
    }
}

/// Settings with which nothing can be watched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No service at all.
    #[error("neither the agents' nor coderd's service is named: there is nothing to watch")]
    NoService,
    /// Not a name that Kubernetes would allow.
    #[error(
        "'{0}' is not the name of a service or a namespace: lower-case letters, digits and '-', at most 63"
    )]
    Name(String),
}

impl Settings {
    /// Whether these can be watched.
    ///
    /// # Errors
    /// When no service is named, or a name is none.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.services("default").map(drop)
    }

    /// Each service with its namespace and its name.
    pub(super) fn services(
        &self,
        default_namespace: &str,
    ) -> Result<BTreeMap<Service, (String, String)>, SettingsError> {
        let named = [(Service::Agents, &self.agents_service), (Service::Coderd, &self.coderd_service)];
        let mut services = BTreeMap::new();
        for (service, text) in named {
            let Some(text) = text else { continue };
            let (namespace, name) = match text.split_once('/') {
                Some((namespace, name)) => (namespace, name),
                None => (self.namespace.as_deref().unwrap_or(default_namespace), text.as_str()),
            };
            services.insert(service, (checked(namespace)?, checked(name)?));
        }
        if services.is_empty() { Err(SettingsError::NoService) } else { Ok(services) }
    }
}

/// Both stand in a path, so nothing else may.
fn checked(name: &str) -> Result<String, SettingsError> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(letter)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if is_name { Ok(name.to_owned()) } else { Err(SettingsError::Name(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(agents: Option<&str>, coderd: Option<&str>) -> Settings {
        Settings {
            agents_service: agents.map(str::to_owned),
            coderd_service: coderd.map(str::to_owned),
            ..Settings::default()
        }
    }

    #[test]
    fn a_service_stands_in_the_namespace_that_it_names_or_else_in_ours() {
        let settings =
            Settings { namespace: Some("mesh".into()), ..named(Some("probe"), Some("coder/coder")) };
        let services = settings.services("default").unwrap();
        assert_eq!(services[&Service::Agents], ("mesh".to_owned(), "probe".to_owned()));
        assert_eq!(services[&Service::Coderd], ("coder".to_owned(), "coder".to_owned()));
        assert_eq!(named(None, Some("c")).services("own").unwrap()[&Service::Coderd].0, "own");
    }

    #[test]
    fn what_is_no_name_never_gets_into_a_path() {
        assert_eq!(named(None, None).check(), Err(SettingsError::NoService));
        for name in ["", "a/b/c", "../x", "A", "a b", "-a", "a-", "a?b", "a%2f", "/a", "a/", &"a".repeat(64)]
        {
            let refused = named(Some(name), None).check();
            assert!(matches!(refused, Err(SettingsError::Name(_))), "{name}: {refused:?}");
        }
        assert_eq!(
            named(Some("probe-agents.x"), None).check().unwrap_err().to_string().split(':').next(),
            Some("'probe-agents.x' is not the name of a service or a namespace")
        );
        assert_eq!(named(Some("probe"), Some("coder-1/coder")).check(), Ok(()));
    }
}
