//! `probe demo`: three agents and a PostgreSQL on this machine, without configuration, network or root.
//!
//! Each agent has its measuring thread and its sockets as it would have in a process of its own; all echoes really go
//! through loopback with mutual TLS under a mesh secret that lives as long as the demo.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use probes::postgres::conninfo::{Conninfo, ConninfoError};
use probes::secret::{MeshSecret, SecretError};
use probes::tls::Identity;
use probes::{HostPort, Target};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::agent::measuring::{self, Measuring, MeasuringError};
use crate::check::{self, Progress};
use crate::mesh::budget::{Budgets, Limit};
use crate::mesh::peer::{Link, Role};
use crate::mesh::report::Report;
use crate::mesh::verdict::Rule;

pub mod cluster;
pub mod wire;

use cluster::Cluster;

/// Ten slots a second: enough for a pass, and over within 20 s in all unless this machine is very busy.
const LEAST: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(15);

/// Why the demo did not run as scripted.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// An agent.
    #[error(transparent)]
    Measuring(#[from] MeasuringError),
    /// The mesh secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The private server's own connection string.
    #[error(transparent)]
    Conninfo(#[from] ConninfoError),
    /// A task of the demo panicked.
    #[error("an agent of the demo ended unexpectedly")]
    Agent,
}

/// The story and its report. `tell` gets one line at a time, `progress` is called after each slot of the first agent.
///
/// `postgres_bin` is where the server's programs are, if not in their usual places.
pub async fn run(
    postgres_bin: Option<PathBuf>,
    mut tell: impl FnMut(&str),
    progress: impl FnMut(Progress) + Send + 'static,
) -> Result<Report, DemoError> {
    let secret = MeshSecret::parse(&MeshSecret::generate_hex()?)?;
    let cluster = tokio::task::spawn_blocking(move || Cluster::start(postgres_bin.as_deref(), &[]))
        .await
        .map_err(|_| DemoError::Agent)?;
    let postgres = match &cluster {
        Ok(cluster) => Some(Conninfo::parse(&cluster.url(), &|_| None)?),
        Err(error) => {
            tell(&format!("left out: PostgreSQL ({error})"));
            None
        }
    };
    let mut agents = Vec::new();
    for name in ["agent-a", "agent-b", "agent-c"] {
        let settings = measuring::Settings {
            identity: Some(Identity::Secret(secret.clone())),
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            ..measuring::Settings::default()
        };
        agents.push((name, Measuring::start(settings).await?));
    }
    tell(&format!(
        "three agents on loopback measure each other{} for {} s",
        if postgres.is_some() { " and a private PostgreSQL" } else { "" },
        LEAST.as_secs()
    ));
    let addresses: Vec<_> = agents.iter().map(|(name, agent)| (*name, agent.listening())).collect();
    let start = now();
    let mut running = JoinSet::new();
    let mut progress = Some(progress);
    // Two peers and, where there is one, the database.
    let targets = u32::try_from(addresses.len() * (2 + usize::from(postgres.is_some()))).unwrap_or(u32::MAX);
    let rule = Rule { quantile: 0.95, alpha: 0.05, targets, least: LEAST, most: MOST };
    for (index, (name, agent)) in agents.into_iter().enumerate() {
        let targets = targets_of(name, &addresses, postgres.as_ref());
        let mut progress = progress.take();
        running.spawn(async move {
            let report = move |state| progress.iter_mut().for_each(|progress| progress(state));
            let looks = check::look(&agent, targets, &rule, report).await;
            (index, agent, looks)
        });
    }
    let mut finished = Vec::new();
    while let Some(one) = running.join_next().await {
        finished.push(one.map_err(|_| DemoError::Agent)?);
    }
    // An agent that is done early must go on answering the others until all are.
    finished.sort_by_key(|(index, ..)| *index);
    let elapsed = now().duration_since(start);
    let mut looks = Vec::new();
    for (_, agent, agent_looks) in finished {
        agent.stop().await;
        looks.extend(agent_looks?);
    }
    // Stopping the server takes a moment and must not hold up a runtime's thread.
    let _ = tokio::task::spawn_blocking(move || drop(cluster)).await;
    Ok(Report::new(&looks, rule, elapsed))
}

/// What one agent measures: the other two, and the database.
fn targets_of(
    source: &str,
    addresses: &[(&str, Option<SocketAddr>)],
    postgres: Option<&Conninfo>,
) -> Vec<(Link, Target, Limit)> {
    let mut targets = Vec::new();
    for (name, address) in addresses {
        if let Some(address) = address.filter(|_| *name != source) {
            let address = HostPort { host: address.ip().to_string(), port: address.port() };
            targets.push(((*name).to_owned(), Target::Peer(address), Role::Coderd));
        }
    }
    if let Some(conninfo) = postgres {
        targets.push(("postgres".to_owned(), Target::Postgres(Box::new(conninfo.clone())), Role::Postgres));
    }
    targets
        .into_iter()
        .map(|(name, target, role)| {
            let limit = Budgets::default().limit(Some(Role::Coderd), Some(role));
            let (source, kind) = (Some(source.to_owned()), target.kind());
            (Link { source, ..Link::to(name, kind, Some(role)) }, target, limit)
        })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "the length of the whole demo, which no verdict depends on")]
fn now() -> Instant {
    Instant::now()
}
