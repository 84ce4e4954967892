//! From flags and environment to settings: flags win over environment, and every fault names its key and value.

use std::path::{Path, PathBuf};

use probes::http::HttpUrl;
use probes::postgres::conninfo::Conninfo;
use probes::secret::MeshSecret;
use probes::tls::{Identity, PemFiles};
use probes::{HostPort, Target};

use crate::agent;
use crate::agent::measuring;
use crate::check::{self, Depth};
use crate::cli::{AgentArgs, CheckArgs, IdentityArgs};
use crate::mesh::budget::{Budgets, Limit};
use crate::mesh::peer::{Link, Role, RoleError};

/// The port of a reflector that was given without one.
pub const PEER_PORT: u16 = 9862;

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
    let mut targets = Vec::new();
    for text in &args.peer {
        let (text, said) = split_role("--peer", text)?;
        let address = HostPort::parse(text, Some(PEER_PORT)).map_err(|error| fault("--peer", error))?;
        targets.push((Target::Peer(address), said));
    }
    for conninfo in postgres(args, env)? {
        targets
            .push((Target::Postgres(Box::new(conninfo)), Said { role: Some(Role::Postgres), limit: None }));
    }
    for text in &args.tcp {
        let (text, said) = split_role("--tcp", text)?;
        let address = text.parse::<HostPort>().map_err(|error| fault("--tcp", error))?;
        targets.push((Target::Tcp(address), said));
    }
    for text in &args.http {
        let (text, said) = split_url_role(text);
        let url = text.parse::<HttpUrl>().map_err(|error| fault("--http", error))?;
        targets.push((Target::Http(url), said));
    }
    let mut named = Vec::with_capacity(targets.len());
    for (target, Said { role, limit }) in targets {
        let link = Link { source: None, target: target.to_string(), kind: target.kind(), role, limit };
        if named
            .iter()
            .any(|(other, _): &(Link, Target)| other.target == link.target && other.kind == link.kind)
        {
            return Err(fault(
                format!("--{}", link.kind.as_str()),
                format!("'{}' is given twice", link.target),
            ));
        }
        named.push((link, target));
    }
    let has_peers = named.iter().any(|(_, target)| matches!(target, Target::Peer(_)));
    let identity = if has_peers { Some(identity(&args.identity, env)?) } else { None };
    let mut budgets = Budgets { quantile: args.quantile, ..Budgets::default() };
    if let Some(limit) = args.budget {
        budgets = budgets.with_limit(limit);
    }
    let depth = match (args.quick, args.thorough, args.time_limit) {
        (true, ..) => Depth::Quick,
        (_, true, _) => Depth::Thorough,
        (_, _, Some(limit)) => Depth::Limited(limit),
        (false, false, None) => Depth::Usual,
    };
    let role = match &args.role {
        Some(role) => Some(role.parse().map_err(|error| fault("--role", error))?),
        None => None,
    };
    Ok(check::Settings {
        targets: named,
        role,
        budgets,
        depth,
        measuring: measuring::Settings {
            identity,
            listen: None,
            http_sni: args.http_sni.clone(),
            http_ca: args.http_ca.clone(),
        },
    })
}

/// What `probe agent` needs to run.
pub fn agent(args: &AgentArgs, env: Environment<'_>) -> Result<agent::Settings, ConfigError> {
    Ok(agent::Settings {
        measuring: measuring::Settings {
            identity: Some(identity(&args.identity, env)?),
            listen: Some(args.listen),
            ..measuring::Settings::default()
        },
        web: args.web,
    })
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
    let (key, text) = match (secret_file, inline) {
        (Some(_), Some(_)) => {
            return Err(fault("PROBE_MESH_SECRET", "a mesh secret file is given too: use one or the other"));
        }
        (Some(path), None) => ("--mesh-secret-file", read("--mesh-secret-file", path)?),
        (None, inline) => ("PROBE_MESH_SECRET", inline.unwrap_or_default()),
    };
    MeshSecret::parse(&text).map(Identity::Secret).map_err(|error| fault(key, error))
}

/// Flags and files, or the variable that coderd itself reads when neither is given.
fn postgres(args: &CheckArgs, env: Environment<'_>) -> Result<Vec<Conninfo>, ConfigError> {
    let mut texts = Vec::new();
    for text in &args.postgres {
        texts.push(("--postgres", text.clone()));
    }
    for path in &args.postgres_url_file {
        texts.push(("--postgres-url-file", read("--postgres-url-file", path)?));
    }
    if texts.is_empty()
        && let Some(text) = env("CODER_PG_CONNECTION_URL").filter(|text| !text.trim().is_empty())
    {
        texts.push(("CODER_PG_CONNECTION_URL", text));
    }
    texts
        .into_iter()
        .map(|(key, text)| Conninfo::parse(&text, env).map_err(|error| fault(key, error)))
        .collect()
}

fn read(key: &'static str, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::File { key, path: path.to_owned(), source })
}

/// What was said of one target.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    role: Option<Role>,
    limit: Option<Limit>,
}

/// `HOST:PORT=role@budget`: no host has an equals sign, so what follows one must be a role.
fn split_role<'a>(key: &str, text: &'a str) -> Result<(&'a str, Said), ConfigError> {
    match text.rsplit_once('=') {
        None => Ok((text, Said::default())),
        Some((address, said)) => Ok((address, parse_said(said).map_err(|error| fault(key, error))?)),
    }
}

/// A URL may well have an equals sign of its own, so only a role behind a URL without a query is one.
fn split_url_role(text: &str) -> (&str, Said) {
    match text.rsplit_once('=') {
        Some((url, said)) if !url.contains('?') => match parse_said(said) {
            Ok(said) => (url, said),
            Err(_) => (text, Said::default()),
        },
        _ => (text, Said::default()),
    }
}

fn parse_said(text: &str) -> Result<Said, String> {
    let (role, limit) = match text.split_once('@') {
        Some((role, limit)) => (role, Some(parse_limit(limit)?)),
        None => (text, None),
    };
    Ok(Said { role: Some(role.parse().map_err(|error: RoleError| error.to_string())?), limit })
}

/// A duration, or `none` for information only.
fn parse_limit(text: &str) -> Result<Limit, String> {
    if text == "none" { Ok(None) } else { crate::cli::duration(text).map(Some) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

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
