//! From flags, environment and a TOML file to settings: flags win over environment, environment over file, file over
//! defaults; every fault names its key and value.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use probes::Target;
use probes::secret::MeshSecrets;
use probes::tls::{Identity, PemFiles};

use crate::agent;
use crate::agent::measuring;
use crate::check::{self, Depth};
use crate::cli::{AgentArgs, CheckArgs, IdentityArgs, Output};
use crate::export::otlp::Asked;
use crate::mesh::budget::Budgets;
use crate::mesh::peer::{Own, Role};
use crate::mesh::place::policy::Policy;
use crate::mesh::region::Atlas;
use crate::plan::{self, Spot};

mod ask;
mod discovery;
mod file;
mod manifests;
mod metrics;
mod ping;
mod rules;
mod targets;
mod words;

pub use ask::ask;
use file::{File, Layers};
pub use manifests::manifests;
pub use ping::ping;

/// The port of a reflector that was given without one.
pub const PEER_PORT: u16 = 9862;
/// Where a reflector listens unless told otherwise: both families.
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), PEER_PORT);
/// Where HTTP is served unless told otherwise: to this machine only.
pub const WEB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9863);

/// A fault in what the user gave. No message holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag or variable with a value that cannot be used.
    #[error("{key}: {cause}")]
    Value {
        /// The flag or variable.
        key: String,
        /// What is wrong, with the value where it is no secret.
        cause: String,
    },
    /// A file that cannot be read.
    #[error("{key}: cannot read {path}: {source}")]
    File {
        /// The flag or variable.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nobody to be.
    #[error(
        "peers need an identity: set PROBE_MESH_SECRET_FILE or --mesh-secret-file (`probe secret new > FILE` makes one), \
         or give --tls-cert, --tls-key and --tls-ca"
    )]
    NoIdentity,
}

/// A look-up of environment variables, so that tests need not change the process.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

fn fault(key: impl Into<String>, cause: impl std::fmt::Display) -> ConfigError {
    ConfigError::Value { key: key.into(), cause: cause.to_string() }
}

/// What `probe check` needs to run.
pub fn check(args: &CheckArgs, env: Environment<'_>) -> Result<check::Settings, ConfigError> {
    let targets = targets::targets(&args.targets, env)?;
    let has_peers = targets.iter().any(|(_, target)| matches!(target, Target::Peer(_)));
    // Peers that are found are measured where there is an identity, and left to a connect where there is none.
    let identity = match identity(&args.identity, env) {
        Err(ConfigError::NoIdentity) if !has_peers => None,
        _ if !has_peers && args.discovery.discover.is_empty() => None,
        given => Some(given?),
    };
    let own = Own { name: "check".to_owned(), ..Own::default() };
    let discovery = discovery::asked_for(&args.discovery, &own, &targets)?;
    let depth = match (args.quick, args.thorough, args.time_limit) {
        (true, ..) => Depth::Quick,
        (_, true, _) => Depth::Thorough,
        (_, _, Some(limit)) => Depth::Limited(limit),
        (false, false, None) => Depth::Usual,
    };
    Ok(check::Settings {
        targets,
        role: role(args.role.as_deref())?,
        budgets: budgets(args),
        depth,
        measuring: measuring::Settings {
            identity,
            listen: None,
            http_sni: args.targets.http_sni.clone(),
            http_ca: args.targets.http_ca.clone(),
        },
        discovery,
        metrics: metrics::of_check(&args.metrics, args.targets.http_ca.as_ref())?,
    })
}

fn budgets(args: &CheckArgs) -> Budgets {
    let budgets = Budgets { quantile: args.quantile, ..Budgets::default() };
    args.budget.map_or(budgets, |limit| budgets.with_limit(limit))
}

/// What `probe check --plan` is about.
pub fn plan(args: &CheckArgs) -> Result<plan::Settings, ConfigError> {
    let atlas = Atlas::built_in();
    let spots = args.plan.iter().map(|text| Spot::parse(text, &atlas)).collect::<Result<_, _>>();
    let spots = spots.map_err(|error| fault("--plan", error))?;
    Ok(plan::Settings { spots, budgets: budgets(args), policy: Policy::default() })
}

/// The form of the agent's log. What is wrong with the rest of the configuration is not its business.
pub fn log_format(args: &AgentArgs, env: Environment<'_>) -> Output {
    let path = args.config.as_ref();
    let file = path.and_then(|path| File::parse(&read("--config", path).ok()?).ok()).unwrap_or_default();
    let filled = Layers { file, env }.fill(args);
    filled.ok().and_then(|args| args.log_format).or(args.log_format).unwrap_or(Output::Human)
}

/// What `probe agent` needs to run: flags, then environment, then the file, then the defaults.
pub fn agent(args: &AgentArgs, env: Environment<'_>) -> Result<agent::Settings, ConfigError> {
    let file = match &args.config {
        Some(path) => File::parse(&read("--config", path)?)
            .map_err(|cause| fault(format!("--config {}", path.display()), cause))?,
        None => File::default(),
    };
    let layers = Layers { file, env };
    let given = args;
    let args = layers.fill(given)?;
    let mut own = Own {
        name: args.name.clone().unwrap_or_else(host_name),
        role: role(args.role.as_deref())?,
        host_name: Some(host_name()),
        node: args.node.clone(),
        zone: args.zone.clone(),
        region: args.region.clone(),
    };
    let claims = discovery::complete(&mut own, env);
    let targets = targets::targets(&args.targets, env)?;
    let found = discovery::discovery(&args.discovery, &args.targets, &own, &targets, env)?;
    let book = layers.book()?;
    Ok(agent::Settings {
        measuring: measuring::Settings {
            identity: Some(identity(&args.identity, env)?),
            listen: Some(args.listen.unwrap_or(LISTEN)),
            http_sni: args.targets.http_sni.clone(),
            http_ca: args.targets.http_ca.clone(),
        },
        web: web(&args)?,
        discovery: crate::discovery::Settings { claims, ..found },
        metrics: metrics::of_agent(&args.metrics, args.targets.http_ca.as_ref(), layers.metrics_every()?)?,
        targets,
        rules: layers.rules()?,
        in_words: words::settings(given, &layers, &own.name, &book.severities)?,
        book,
        shown: layers.shown()?,
        otlp: Asked::of(&own.name, &host_name(), args.event_spool.clone(), env),
        own,
    })
}

/// Where HTTP is served, and to whom. A variable that a template leaves empty is one that is not set.
fn web(args: &AgentArgs) -> Result<agent::WebSettings, ConfigError> {
    let set = |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
    let tls = match (set(&args.web_certificate), set(&args.web_key)) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        _ => {
            return Err(fault("--web-certificate", "--web-certificate and --web-key go together: give both"));
        }
    };
    let address = args.web.unwrap_or(WEB);
    Ok(agent::WebSettings { address, token_file: set(&args.web_token_file), tls })
}

fn role(text: Option<&str>) -> Result<Option<Role>, ConfigError> {
    text.map(|role| role.parse().map_err(|error| fault("--role", error))).transpose()
}

/// The name of this machine, which in a pod is the pod's.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "agent".to_owned() } else { name.to_owned() }
}

/// Who we are: one way of saying it, never two that might disagree.
fn identity(args: &IdentityArgs, env: Environment<'_>) -> Result<Identity, ConfigError> {
    let inline = env("PROBE_MESH_SECRET").filter(|secret| !secret.trim().is_empty());
    // A variable that a template leaves empty is one that is not set.
    let secret_file = args.mesh_secret_file.as_ref().filter(|path| !path.as_os_str().is_empty());
    let has_secret = secret_file.is_some() || inline.is_some();
    let has_files = args.tls_cert.is_some() || args.tls_key.is_some() || args.tls_ca.is_some();
    match (has_secret, has_files, args.insecure_no_auth) {
        (false, false, true) => return Ok(Identity::Insecure),
        (_, _, true) => {
            return Err(fault(
                "--insecure-no-auth",
                "an identity is given too: remove this flag, or the mesh secret and certificates",
            ));
        }
        (true, true, _) => {
            return Err(fault("--tls-cert", "a mesh secret is given too: use one or the other"));
        }
        (false, false, false) => return Err(ConfigError::NoIdentity),
        (true, false, false) | (false, true, false) => {}
    }
    if has_files {
        let (Some(cert), Some(key), Some(ca)) = (&args.tls_cert, &args.tls_key, &args.tls_ca) else {
            return Err(fault(
                "--tls-cert",
                "--tls-cert, --tls-key and --tls-ca go together: give all three",
            ));
        };
        let server_name = args.tls_server_name.clone();
        return Ok(Identity::Files(PemFiles {
            cert: cert.clone(),
            key: key.clone(),
            ca: ca.clone(),
            server_name,
        }));
    }
    let (key, text, file) = match (secret_file, inline) {
        (Some(_), Some(_)) => {
            return Err(fault("PROBE_MESH_SECRET", "a mesh secret file is given too: use one or the other"));
        }
        (Some(path), None) => ("--mesh-secret-file", read("--mesh-secret-file", path)?, Some(path)),
        (None, inline) => ("PROBE_MESH_SECRET", inline.unwrap_or_default(), None),
    };
    let secrets = MeshSecrets::parse(&text).map_err(|error| fault(key, error))?;
    Ok(Identity::Secret(match file {
        Some(path) => secrets.from_file(path),
        None => secrets,
    }))
}

fn read(key: &'static str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::File { key, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use probes::postgres::conninfo::{PasswordCommand, PasswordSource};

    use super::*;
    use crate::cli::{Cli, Command};

    const SECRET: &str = "8f1d3c5b7a99e0426d83c1f7b5a49e0d2c6b8a7f9e1d3c5b7a99e0426d83c1f7";

    fn with(line: &str, variables: &[(&str, &str)]) -> Result<check::Settings, String> {
        let cli = Cli::try_parse_from(std::iter::once("probe").chain(line.split_whitespace()))
            .map_err(|error| error.to_string())?;
        let env =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        match cli.command {
            Command::Check(args) => check(&args, &env).map_err(|error| error.to_string()),
            _ => Err("not a check".to_owned()),
        }
    }

    #[test]
    fn targets_keep_their_roles_and_get_the_default_port() {
        let settings = with(
            "check --peer a=coderd --peer b:7 --tcp c:5432=postgres --http http://d/healthz=proxy --http http://e/?a=proxy",
            &[("PROBE_MESH_SECRET", SECRET)],
        )
        .unwrap();
        let seen: Vec<_> = settings
            .targets
            .iter()
            .map(|(link, _)| {
                format!("{} {} {}", link.kind.as_str(), link.target, link.role.map_or("-", Role::as_str))
            })
            .collect();
        assert_eq!(
            seen,
            [
                "peer a:9862 coderd",
                "peer b:7 -",
                "tcp c:5432 postgres",
                "http http://d/healthz proxy",
                "http http://e/ -"
            ]
        );
    }

    #[test]
    fn coderds_own_variable_names_the_database_unless_a_flag_does() {
        let coder = [("CODER_PG_CONNECTION_URL", "postgres://coder:hunter2@db/coder?sslmode=disable")];
        assert_eq!(with("check", &coder).unwrap().targets[0].0.target, "db:5432/coder");
        let given = with("check --postgres postgres://u@other/x", &coder).unwrap();
        assert_eq!(given.targets.len(), 1);
        assert_eq!(given.targets[0].0.target, "other:5432/x");
        assert!(with("check", &[("CODER_PG_CONNECTION_URL", "")]).unwrap().targets.is_empty());
    }

    #[test]
    fn a_password_source_goes_with_every_database_and_its_words_are_those_of_a_shell() {
        let source = |arguments: &[&str]| {
            let line = ["probe", "check", "--postgres", "postgres://u:old@h/d"].iter().chain(arguments);
            let Command::Check(args) = Cli::try_parse_from(line).unwrap().command else {
                panic!("not a check")
            };
            let settings = check(&args, &|_| None).map_err(|error| error.to_string())?;
            let Target::Postgres(conninfo) = settings.targets[0].1.clone() else { panic!("not PostgreSQL") };
            Ok(conninfo.password_source)
        };
        assert_eq!(source(&[]), Ok(None));
        let file = source(&["--postgres-password-file", "/x"]);
        assert_eq!(file, Ok(Some(PasswordSource::File("/x".into()))));
        let words = ["aws", "a b", "c$d"].map(str::to_owned).to_vec();
        let command = source(&["--postgres-password-command", "aws 'a b' c$d"]);
        assert_eq!(command, Ok(PasswordCommand::new(words).map(PasswordSource::Command)));
        let both = ["--postgres-password-command", "aws hunter2", "--postgres-password-file", "/x"];
        for (arguments, part) in [
            (&both[..], "use one or the other"),
            (&["--postgres-password-command", "aws 'hunter2"], "no end"),
            (&["--postgres-password-command", "'' hunter2"], "the program, is empty"),
        ] {
            let error: String = source(arguments).unwrap_err();
            assert!(error.starts_with("--postgres-password-command: ") && error.contains(part), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn several_mesh_secrets_may_be_given_by_a_variable_or_a_file_and_a_repeated_one_is_told_by_its_place() {
        let other = SECRET.replacen("8f", "f8", 1);
        let identity = |text: &str| {
            with("check --peer a", &[("PROBE_MESH_SECRET", text)]).map(|settings| settings.measuring.identity)
        };
        let both = identity(&format!("{SECRET},{other}")).unwrap();
        let Some(Identity::Secret(secrets)) = &both else { panic!("{both:?}") };
        assert_eq!((secrets.count(), secrets.file()), (2, None));
        assert_eq!(both, identity(&format!("{SECRET}\n{other}\n")).unwrap());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mesh-secret");
        std::fs::write(&path, format!("{SECRET}\n\n{other}")).unwrap();
        let line = format!("check --peer a --mesh-secret-file {}", path.display());
        let of_file = with(&line, &[]).unwrap().measuring.identity;
        assert!(
            matches!(&of_file, Some(Identity::Secret(all)) if all.file() == Some(&path) && all.count() == 2)
        );
        let error = identity(&format!("{SECRET},{SECRET}")).unwrap_err();
        assert!(error.starts_with("PROBE_MESH_SECRET: line 1, secret 2 has the same"), "{error}");
        assert!(!error.contains(&SECRET[..8]), "{error}");
    }

    #[test]
    fn every_fault_names_its_key_and_no_fault_shows_a_secret() {
        for (line, variables, part) in [
            ("check --peer a", &[][..], "PROBE_MESH_SECRET_FILE"),
            ("check --peer a:0", &[("PROBE_MESH_SECRET", SECRET)], "--peer: 'a:0'"),
            ("check --peer a=chief", &[("PROBE_MESH_SECRET", SECRET)], "'chief' is not a role"),
            ("check --peer a --peer a:9862", &[("PROBE_MESH_SECRET", SECRET)], "given twice"),
            (
                "check --peer a",
                &[("PROBE_MESH_SECRET", "hunter2hunter2")],
                "PROBE_MESH_SECRET: the mesh secret",
            ),
            (
                "check --peer a --mesh-secret-file /nowhere/secret",
                &[],
                "--mesh-secret-file: cannot read /nowhere/secret",
            ),
            ("check --peer a --tls-cert x", &[], "all three"),
            ("check --peer a --insecure-no-auth", &[("PROBE_MESH_SECRET", SECRET)], "--insecure-no-auth"),
            ("check --tcp a", &[], "--tcp: 'a' has no port"),
            ("check --http a/healthz", &[], "--http: not a URL"),
            ("check --postgres mysql://u:hunter2@h/d", &[], "--postgres: "),
            ("check --postgres-url-file /nowhere/url", &[], "--postgres-url-file: cannot read /nowhere/url"),
            ("check --budget 10", &[], "10ms or 30s"),
            ("check --quantile 95", &[], "between 0.5 and 0.999"),
            ("check --pear a", &[], "--peer"),
        ] {
            let error = with(line, variables).map(|_| ()).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
            assert!(!error.contains("hunter2"), "{line}: {error}");
        }
    }
}
