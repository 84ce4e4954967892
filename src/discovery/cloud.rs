//! Where this machine stands, by the cloud itself; and where a database does, by its host's name.
//!
//! The metadata services of the clouds are asked all at once, each once, with a second for each answer: on every other
//! cloud and in many containers nobody answers, and that is found out by waiting. Whatever answers there must show that
//! it is that service: a proxy that catches everything and answers 200 is not believed. Nothing is sent but the question,
//! always to the address itself: no proxy, no redirect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::mesh::roster::{Claim, RegionName};

mod get;
mod host_name;
mod metadata;
mod region;

pub use get::Why;
pub use host_name::{claim_of_host_name, claim_of_host_names};
use metadata::Place;

/// What is asked, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether the metadata services are asked at all.
    pub enabled: bool,
    /// How long each answer is waited for.
    pub timeout: Duration,
    /// AWS: all are asked at once, and the first that answers is believed.
    pub aws: Vec<SocketAddr>,
    /// Google Cloud. By address: the name `metadata.google.internal` would ask whoever answers DNS.
    pub gcp: SocketAddr,
    /// Azure.
    pub azure: SocketAddr,
    /// `ECS_CONTAINER_METADATA_URI_V4`: where ECS and Fargate answer.
    pub ecs: Option<String>,
    /// `AWS_REGION`, which EKS sets and people set too.
    pub aws_region: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let everybodys = SocketAddr::from((Ipv4Addr::new(169, 254, 169, 254), 80));
        let aws_v6 = SocketAddr::from((Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 80));
        Self {
            enabled: true,
            timeout: Duration::from_secs(1),
            aws: vec![everybodys, aws_v6],
            gcp: everybodys,
            azure: everybodys,
            ecs: None,
            aws_region: None,
        }
    }
}

impl Settings {
    /// The defaults, with what the environment says. `variable` is asked for the value of a variable.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        Self {
            ecs: set("ECS_CONTAINER_METADATA_URI_V4"),
            aws_region: set("AWS_REGION").or_else(|| set("AWS_DEFAULT_REGION")),
            ..Self::default()
        }
    }
}

/// What was found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// Where this machine stands: of trust 4 by the cloud, of trust 2 by the environment. Of AWS, the zone is its id.
    pub claims: Vec<Claim>,
    /// The machine, by its cloud's own id.
    pub instance: Option<String>,
    /// The zone by name, as in the labels of nodes. AWS gives the same name to different zones of different accounts.
    pub zone_name: Option<String>,
    /// Who was asked and did not tell, and why.
    pub not_found: Vec<NotFound>,
}

impl Whereabouts {
    /// Why the cloud does not tell where this machine stands; `None` where it does.
    pub fn explanation(&self) -> Option<String> {
        if self.claims.iter().any(|claim| claim.trust == 4) {
            return None;
        }
        if self.not_found.is_empty() {
            return Some("no cloud's metadata service was asked".to_owned());
        }
        let each: Vec<_> = self.not_found.iter().map(ToString::to_string).collect();
        Some(format!("no cloud's metadata service tells where this machine stands: {}", each.join("; ")))
    }
}

/// One service that did not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFound {
    /// The service.
    pub service: Service,
    /// Why.
    pub why: Why,
}

impl std::fmt::Display for NotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.service.as_str(), self.why)?;
        match (self.service, &self.why) {
            (Service::Aws, Why::Silence(_)) => {
                f.write_str(" (a hop limit of 1 keeps containers from it; 2 is what AWS recommends for them)")
            }
            (Service::Azure, Why::Silence(_)) => f.write_str(" (network policies often forbid it)"),
            _ => Ok(()),
        }
    }
}

/// The services that can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// EC2's instance metadata, version 2.
    Aws,
    /// The task metadata of ECS and Fargate, version 4.
    Ecs,
    /// Compute Engine's metadata server and GKE's.
    Gcp,
    /// Azure's instance metadata.
    Azure,
}

impl Service {
    /// What it is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "AWS IMDSv2",
            Self::Ecs => "ECS task metadata",
            Self::Gcp => "GCP metadata server",
            Self::Azure => "Azure IMDS",
        }
    }

    fn provider(self) -> &'static str {
        match self {
            Self::Aws | Self::Ecs => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
        }
    }
}

/// Asks all of them, and comes back at the latest after a few times [`Settings::timeout`]. Nothing should wait for it.
pub async fn ask(settings: &Settings) -> Whereabouts {
    let mut asking: JoinSet<(Service, Result<Place, Why>)> = JoinSet::new();
    if settings.enabled {
        let (limit, aws, gcp, azure) = (settings.timeout, settings.aws.clone(), settings.gcp, settings.azure);
        asking.spawn(async move { (Service::Aws, first_that_tells(aws, limit).await) });
        asking.spawn(async move { (Service::Gcp, metadata::gcp(gcp, limit).await) });
        asking.spawn(async move { (Service::Azure, metadata::azure(azure, limit).await) });
        if let Some(url) = settings.ecs.clone() {
            asking.spawn(async move { (Service::Ecs, metadata::ecs(&url, limit).await) });
        }
    }
    let mut answers = Vec::new();
    while let Some(answer) = asking.join_next().await {
        answers.extend(answer);
    }
    answers.sort_by_key(|(service, _)| *service);

    let mut found = Whereabouts::default();
    for (service, answer) in answers {
        match answer {
            Ok(place) => {
                found.claims.push(Claim {
                    trust: 4,
                    by: service.as_str().to_owned(),
                    region: RegionName {
                        provider: Some(service.provider().to_owned()),
                        region: place.region,
                    },
                    zone: place.zone,
                });
                found.instance = found.instance.or(place.instance);
                found.zone_name = found.zone_name.or(place.zone_name);
            }
            Err(why) => found.not_found.push(NotFound { service, why }),
        }
    }
    found.claims.extend(settings.aws_region.as_deref().and_then(claim_of_aws_region));
    found
}

/// What `AWS_REGION` says, if it is a region: a person's word, or EKS's.
fn claim_of_aws_region(value: &str) -> Option<Claim> {
    region::is_aws(value).then(|| Claim {
        trust: 2,
        by: "AWS_REGION".to_owned(),
        region: RegionName { provider: Some("aws".to_owned()), region: value.to_owned() },
        zone: None,
    })
}

/// The first good answer of several addresses; without one, why the first address had none.
async fn first_that_tells(addresses: Vec<SocketAddr>, limit: Duration) -> Result<Place, Why> {
    let mut asking = JoinSet::new();
    for (index, address) in addresses.into_iter().enumerate() {
        asking.spawn(async move { (index, metadata::aws(address, limit).await) });
    }
    let mut why = None;
    while let Some(answer) = asking.join_next().await {
        match answer {
            Ok((_, Ok(place))) => return Ok(place),
            Ok((index, Err(reason))) if why.as_ref().is_none_or(|(first, _)| index < *first) => {
                why = Some((index, reason));
            }
            _ => {}
        }
    }
    Err(why.map_or(Why::NoAddress, |(_, reason)| reason))
}

/// Whether metadata may be asked for at an address that the environment names: on this machine or its link, nowhere else.
fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_unique_local() || ip.is_loopback(),
    }
}
