//! What is to be measured: from the words of flags, environment and file to named targets.

use probes::http::HttpUrl;
use probes::postgres::conninfo::Conninfo;
use probes::{HostPort, Target};

use super::{ConfigError, Environment, PEER_PORT, fault, read};
use crate::cli::TargetArgs;
use crate::mesh::budget::Limit;
use crate::mesh::peer::{Link, Role, RoleError};

/// All targets that these arguments name, in the order peers, PostgreSQL, TCP, HTTP.
pub(super) fn targets(args: &TargetArgs, env: Environment<'_>) -> Result<Vec<(Link, Target)>, ConfigError> {
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
    let mut named: Vec<(Link, Target)> = Vec::with_capacity(targets.len());
    for (target, Said { role, limit }) in targets {
        let link = Link { limit, ..Link::to(target.to_string(), target.kind(), role) };
        if named.iter().any(|(other, _)| other.target == link.target && other.kind == link.kind) {
            let key = format!("--{}", link.kind.as_str());
            return Err(fault(key, format!("'{}' is given twice", link.target)));
        }
        named.push((link, target));
    }
    Ok(named)
}

/// Flags and files, or the variable that coderd itself reads when neither is given.
fn postgres(args: &TargetArgs, env: Environment<'_>) -> Result<Vec<Conninfo>, ConfigError> {
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
pub(super) fn parse_limit(text: &str) -> Result<Limit, String> {
    if text == "none" { Ok(None) } else { crate::cli::duration(text).map(Some) }
}
