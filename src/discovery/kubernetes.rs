//! Who is there by the API of Kubernetes: the endpoints of the agents' and of coderd's service, and where their nodes stand.
//!
//! Everything is watched, nothing is polled (`kubernetes/follow.rs`). A namespaced Role is enough: without rights on nodes
//! their region, their provider and whether they are cordoned stay unknown, and that is said once. docs/kubernetes.md has
//! the roles.
//!
//! [`own()`] is what the downward API tells a pod of itself. An agent's own endpoint is seen like all others, since the place
//! of its node is a fact about itself; who measures must leave itself out.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::pin::pin;

use kube::Client;
pub use kube::Config;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::instrument::WithSubscriber;

use super::News;
use crate::mesh::roster::{Sighting, Source};

mod claims;
mod follow;
mod object;
mod own;
mod picture;
mod settings;

use follow::{Followed, Told};
use object::{Node, Slice};
pub use own::{LABELS_FILE, Own, own};
use picture::{Picture, Service};
pub use settings::{Pace, Settings, SettingsError};

/// Watches the cluster of the kubeconfig or, in a pod, its own until the receiver is gone.
pub async fn watch(settings: Settings, news: Sender<News>) {
    let mut said = None;
    loop {
        let failure = match Config::infer().await {
            Ok(config) => match connect(config, settings.pace) {
                Ok((client, namespace)) => return run(client, &namespace, settings, news).await,
                Err(failure) => failure,
            },
            // The error names both ways and what is wrong with each, over several lines.
            Err(_) => "there is no kubeconfig and no service account of a pod".to_owned(),
        };
        if said.as_ref() != Some(&failure) {
            let _ = news.send(News::Failed(Source::Kubernetes, failure.clone())).await;
            said = Some(failure);
        }
        tokio::select! {
            () = sleep(settings.pace.denied) => {}
            () = news.closed() => return,
        }
    }
}

/// Watches the cluster that this leads to until the receiver is gone.
pub async fn watch_with(config: Config, settings: Settings, news: Sender<News>) {
    match connect(config, settings.pace) {
        Ok((client, namespace)) => run(client, &namespace, settings, news).await,
        Err(failure) => {
            let _ = news.send(News::Failed(Source::Kubernetes, failure)).await;
            news.closed().await;
        }
    }
}

/// A client, and the namespace that goes without saying.
fn connect(mut config: Config, pace: Pace) -> Result<(Client, String), String> {
    // kube takes the process's provider. Whoever was first had the same one.
    let _ = probes::tls::provider().as_ref().clone().install_default();
    config.connect_timeout = Some(pace.answer);
    // It would wait and try again by itself, out of our limits.
    config.default_retry = false;
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config)
        .map_err(|error| format!("the way to the API of Kubernetes: {}", follow::cause(&error)))?;
    Ok((client, namespace))
}

/// One of the things that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Watched {
    Slices(Service),
    Nodes,
}

#[derive(Debug)]
enum Message {
    Slices(Service, Told<Slice>),
    Nodes(Told<Node>),
}

async fn run(client: Client, default_namespace: &str, settings: Settings, news: Sender<News>) {
    let services = match settings.services(default_namespace) {
        Ok(services) => services,
        Err(error) => {
            let _ = news.send(News::Failed(Source::Kubernetes, error.to_string())).await;
            return news.closed().await;
        }
    };
    let pace = settings.pace;
    let (to, from) = mpsc::channel(64);
    // Dropped with this future, and all that run in it.
    let mut followers = JoinSet::new();
    for (service, (namespace, name)) in &services {
        let followed = Followed {
            client: client.clone(),
            path: format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"),
            selector: Some(format!("kubernetes.io/service-name={name}")),
            pace,
        };
        let service = *service;
        let wrap = move |told| Message::Slices(service, told);
        // kube logs each failure of each try as an error; what is to be said is news.
        followers.spawn(followed.follow(wrap, to.clone()).with_subscriber(tracing::Dispatch::none()));
    }
    let nodes = Followed { client, path: "/api/v1/nodes".to_owned(), selector: None, pace };
    followers.spawn(nodes.follow(Message::Nodes, to).with_subscriber(tracing::Dispatch::none()));
    // It ends when nobody listens.
    let Err(Unheard) = Listener::new(services, &settings, news).listen(from).await;
}

/// Puts together what the followers tell, and tells it when it has settled.
struct Listener {
    services: BTreeMap<Service, (String, String)>,
    pace: Pace,
    news: Sender<News>,
    picture: Picture,
    /// Who has answered at all, be it with a failure.
    answered: BTreeSet<Watched>,
    /// What does not work now, and why.
    troubles: BTreeMap<Watched, String>,
    /// The last that was told.
    told: Option<Vec<Sighting>>,
    /// What is told as failing, and all that was since it last worked.
    failing: Option<String>,
    said: BTreeSet<String>,
    blind: bool,
}

/// Nobody wants to hear more.
struct Unheard;

impl Listener {
    fn new(services: BTreeMap<Service, (String, String)>, settings: &Settings, news: Sender<News>) -> Self {
        Self {
            services,
            pace: settings.pace,
            news,
            picture: Picture::new(settings.peer_port),
            answered: BTreeSet::new(),
            troubles: BTreeMap::new(),
            told: None,
            failing: None,
            said: BTreeSet::new(),
            blind: false,
        }
    }

    async fn listen(mut self, mut from: Receiver<Message>) -> Result<Infallible, Unheard> {
        loop {
            if !self.take(self.next(&mut from).await?).await? {
                continue;
            }
            let mut settled = pin!(sleep(self.pace.settle));
            let mut at_most = pin!(sleep(self.pace.settle_at_most));
            loop {
                let message = tokio::select! {
                    message = self.next(&mut from) => message?,
                    () = &mut settled => break,
                    () = &mut at_most => break,
                };
                if self.take(message).await? {
                    settled.set(sleep(self.pace.settle));
                }
            }
            self.tell().await?;
        }
    }

    async fn next(&self, from: &mut Receiver<Message>) -> Result<Message, Unheard> {
        tokio::select! {
            message = from.recv() => message.ok_or(Unheard),
            () = self.news.closed() => Err(Unheard),
        }
    }

    /// The answer is whether anything is different now.
    async fn take(&mut self, message: Message) -> Result<bool, Unheard> {
        let (watched, different) = match message {
            Message::Slices(service, told) => {
                let watched = Watched::Slices(service);
                let different = match told {
                    Told::Changed(change) => self.picture.slices(service, change),
                    Told::Denied(text) => self.trouble(watched, self.denied(service, &text)),
                    Told::Failed(cause) => self.trouble(watched, cause),
                    Told::Well => self.troubles.remove(&watched).is_some(),
                };
                (watched, different)
            }
            Message::Nodes(told) => {
                let different = match told {
                    Told::Changed(change) => self.picture.nodes(change),
                    Told::Denied(text) => {
                        self.say_blind(&text).await?;
                        // That is how it stays, and no failure.
                        self.troubles.remove(&Watched::Nodes).is_some()
                    }
                    Told::Failed(cause) => self.trouble(Watched::Nodes, cause),
                    Told::Well => self.troubles.remove(&Watched::Nodes).is_some(),
                };
                (Watched::Nodes, different)
            }
        };
        Ok(self.answered.insert(watched) || different)
    }

    fn trouble(&mut self, watched: Watched, cause: String) -> bool {
        let before = self.troubles.insert(watched, cause);
        before.as_ref() != self.troubles.get(&watched)
    }

    async fn say_blind(&mut self, text: &str) -> Result<(), Unheard> {
        if std::mem::replace(&mut self.blind, true) {
            return Ok(());
        }
        let text = format!(
            "the nodes are not to be seen: their region, their provider and whether they are cordoned stay unknown ({text}); \
             a ClusterRole with apiGroups [\"\"], resources [nodes], verbs [list, watch] would help"
        );
        self.send(News::Blind(Source::Kubernetes, text)).await
    }

    fn denied(&self, service: Service, text: &str) -> String {
        let namespace =
            self.services.get(&service).map(|(namespace, _)| namespace.as_str()).unwrap_or_default();
        format!(
            "denied ({text}); a Role in the namespace {namespace} with apiGroups [discovery.k8s.io], resources \
             [endpointslices], verbs [list, watch] would help"
        )
    }

    /// All that there is to be said now and was not.
    async fn tell(&mut self) -> Result<(), Unheard> {
        let failure = self.failure();
        let recovered = failure.is_none() && self.failing.is_some();
        let mut seen = false;
        // Until each service has answered, those that are missing would pass for gone.
        let all = self.services.keys().all(|service| self.answered.contains(&Watched::Slices(*service)));
        if all && self.picture.has_heard() {
            let sightings = self.picture.sightings();
            seen = recovered || self.told.as_ref() != Some(&sightings);
            if seen {
                self.told = Some(sightings.clone());
                self.send(News::Seen(Source::Kubernetes, sightings)).await?;
            }
        }
        match failure {
            // Who is seen makes the source a good one in the roster, and it is one only in part.
            Some(text) if seen || self.said.insert(text.clone()) => {
                self.said.insert(text.clone());
                self.failing = Some(text.clone());
                self.send(News::Failed(Source::Kubernetes, text)).await?;
            }
            Some(text) => self.failing = Some(text),
            None => {
                self.failing = None;
                self.said.clear();
            }
        }
        Ok(())
    }

    /// What does not work, those of one cause together.
    fn failure(&self) -> Option<String> {
        let mut causes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (watched, cause) in &self.troubles {
            let what = match watched {
                Watched::Slices(service) => {
                    let (namespace, name) = self.services.get(service)?;
                    format!("the endpoints of {namespace}/{name}")
                }
                Watched::Nodes => "the nodes".to_owned(),
            };
            causes.entry(cause).or_default().push(what);
        }
        let texts: Vec<_> =
            causes.iter().map(|(cause, what)| format!("{}: {cause}", what.join(" and "))).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    async fn send(&self, news: News) -> Result<(), Unheard> {
        self.news.send(news).await.map_err(|_| Unheard)
    }
}
