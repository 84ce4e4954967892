//! What is to be measured: from the words of flags, environment and file to named targets.

use probes::http::HttpUrl;
use probes::postgres::conninfo::{Conninfo, PasswordCommand, PasswordSource};
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
    let password_source = password_source(args)?;
    texts
        .into_iter()
        .map(|(key, text)| {
            let conninfo = Conninfo::parse(&text, env).map_err(|error| fault(key, error))?;
            Ok(Conninfo { password_source: password_source.clone(), ..conninfo })
        })
        .collect()
}

/// Who knows the password, where that is not the connection string. No error shows a word of the command, any of which may
/// be a secret.
fn password_source(args: &TargetArgs) -> Result<Option<PasswordSource>, ConfigError> {
    const COMMAND: &str = "--postgres-password-command";
    // A variable that a template leaves empty is one that is not set.
    let file = args.postgres_password_file.as_ref().filter(|path| !path.as_os_str().is_empty());
    let command = args.postgres_password_command.as_ref().filter(|command| !command.trim().is_empty());
    match (file, command) {
        (None, None) => Ok(None),
        (Some(path), None) => Ok(Some(PasswordSource::File(path.clone()))),
        (None, Some(text)) => {
            let words = shell_words::split(text).map_err(|_| fault(COMMAND, "a quote in it has no end"))?;
            let command = PasswordCommand::new(words);
            let command = command.ok_or_else(|| fault(COMMAND, "its first word, the program, is empty"))?;
            Ok(Some(PasswordSource::Command(command)))
        }
        (Some(_), Some(_)) => Err(fault(COMMAND, "a password file is given too: use one or the other")),
    }
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
