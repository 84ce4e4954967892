//! Where to look for whom: from words to the settings of discovery.

use std::time::Duration;

use probes::{HostPort, Target};

use super::{ConfigError, Environment, PEER_PORT, fault};
use crate::cli::{DiscoveryArgs, TargetArgs};
use crate::discovery::dns::Name;
use crate::discovery::{Settings, cloud, coder, dns};
use crate::mesh::peer::{Link, Own};
use crate::mesh::roster::Claim;

/// How often Coder's tables are read: a replica writes its row every 5 s, and is taken for alive for 15 s.
const READ_EVERY: Duration = Duration::from_secs(10);

/// What an agent's arguments ask for, and Coder's tables by themselves. `targets` are those that were given.
pub(super) fn discovery(
    args: &DiscoveryArgs,
    given: &TargetArgs,
    own: &Own,
    targets: &[(Link, Target)],
    env: Environment<'_>,
) -> Result<Settings, ConfigError> {
    let mut settings = if args.discover.is_empty() && is_coders(given, env) {
        Settings { coder: Some(coder(args, own, targets)?), ..Settings::default() }
    } else {
        asked_for(args, own, targets)?
    };
    if !settings.is_empty() && !args.no_cloud_metadata {
        settings.cloud = Some(cloud::Settings::from_environment(env));
    }
    Ok(settings)
}

/// The sources that are asked for by name.
pub(super) fn asked_for(
    args: &DiscoveryArgs,
    own: &Own,
    targets: &[(Link, Target)],
) -> Result<Settings, ConfigError> {
    let (mut settings, mut names) = (Settings::default(), Vec::new());
    let sources = &args.discover;
    for source in sources {
        match source.as_str() {
            "none" if sources.len() == 1 => {}
            "none" => return Err(fault("--discover", "none goes with no other source")),
            "coder" => settings.coder = Some(coder(args, own, targets)?),
            "kubernetes" => kubernetes(args, &mut settings)?,
            other => match other.strip_prefix("dns:") {
                Some(name) => names.push(name.parse::<Name>().map_err(|error| fault("--discover", error))?),
                None => {
                    let text = format!("'{other}' is not a source: use coder, kubernetes, dns:NAME or none");
                    return Err(fault("--discover", text));
                }
            },
        }
    }
    if !names.is_empty() {
        settings.dns = Some(dns::Settings::new(names, args.peer_port.unwrap_or(PEER_PORT)));
    }
    Ok(settings)
}

/// Whether the database is known from the variable that coderd itself reads.
fn is_coders(given: &TargetArgs, env: Environment<'_>) -> bool {
    given.postgres.is_empty()
        && given.postgres_url_file.is_empty()
        && env("CODER_PG_CONNECTION_URL").is_some_and(|text| !text.trim().is_empty())
}

#[cfg(feature = "kubernetes")]
fn kubernetes(args: &DiscoveryArgs, settings: &mut Settings) -> Result<(), ConfigError> {
    use crate::discovery::kubernetes;
    let or = |given: &Option<String>, otherwise: &str| given.clone().or_else(|| Some(otherwise.to_owned()));
    let asked = kubernetes::Settings {
        namespace: args.kubernetes_namespace.clone(),
        agents_service: or(&args.kubernetes_agents, "probe"),
        coderd_service: or(&args.kubernetes_coderd, "coder"),
        peer_port: args.peer_port.unwrap_or(PEER_PORT),
        pace: kubernetes::Pace::default(),
    };
    asked.check().map_err(|error| fault("--discover kubernetes", error))?;
    settings.kubernetes = Some(asked);
    Ok(())
}

#[cfg(not(feature = "kubernetes"))]
fn kubernetes(_args: &DiscoveryArgs, _settings: &mut Settings) -> Result<(), ConfigError> {
    Err(fault("--discover kubernetes", "this program was built without the feature `kubernetes`"))
}

/// What this pod was told of itself, where it is one and anybody told it.
pub(super) fn complete(own: &mut Own, env: Environment<'_>) -> Vec<Claim> {
    #[cfg(feature = "kubernetes")]
    {
        use crate::discovery::kubernetes::{LABELS_FILE, own as own_pod};
        let labels = env(LABELS_FILE).and_then(|path| std::fs::read_to_string(path).ok());
        if let Some(pod) = own_pod(env, labels.as_deref()) {
            own.node = own.node.take().or(pod.sighting.node);
            own.host_name = pod.sighting.host_name.or(own.host_name.take());
            return pod.sighting.claims;
        }
    }
    #[cfg(not(feature = "kubernetes"))]
    let _ = (own, env);
    Vec::new()
}

fn coder(
    args: &DiscoveryArgs,
    own: &Own,
    targets: &[(Link, Target)],
) -> Result<coder::Settings, ConfigError> {
    let mut databases = targets.iter().filter_map(|(_, target)| match target {
        Target::Postgres(conninfo) => Some(conninfo),
        _ => None,
    });
    let (Some(conninfo), None) = (databases.next(), databases.next()) else {
        return Err(fault(
            "--discover coder",
            "it needs one connection string, that of Coder's database: set CODER_PG_CONNECTION_URL or --postgres-url-file",
        ));
    };
    let peer_port = args.peer_port.unwrap_or(PEER_PORT);
    let advertise: Result<_, _> =
        args.advertise.iter().map(|text| HostPort::parse(text, Some(PEER_PORT))).collect();
    Ok(coder::Settings {
        conninfo: (**conninfo).clone(),
        own: own.clone(),
        reflector: None,
        advertise: advertise.map_err(|error| fault("--advertise", error))?,
        peer_port,
        every: READ_EVERY,
    })
}
