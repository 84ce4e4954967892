//! All settings in words, each with where it comes from, for who asks an agent which are in force. No secret is in them.

use probes::http::HttpUrl;

use super::file::{FINDINGS, File, KEYS, Layers, variable};
use super::{ConfigError, fault};
use crate::cli::AgentArgs;
use crate::export::api::config::{HIDDEN, Setting, Value};
use crate::mesh::rules::{Code, Severities};

/// The file of all defaults, which a test holds against the real ones.
const DEFAULTS: &str = include_str!("../../deploy/probe.toml");
const LISTS: [&str; 9] = [
    "targets.postgres_url_file",
    "targets.postgres",
    "targets.peer",
    "targets.tcp",
    "targets.http",
    "discovery.from",
    "discovery.advertise",
    "attribution.coderd_metrics",
    "placement.workspaces",
];
/// Variables that are read beside the keys, and hold secrets.
const SECRET_VARIABLES: [&str; 2] = ["PROBE_MESH_SECRET", "CODER_PG_CONNECTION_URL"];

/// Of these arguments over these layers.
pub(super) fn settings(
    args: &AgentArgs,
    layers: &Layers<'_>,
    name: &str,
    severities: &Severities,
) -> Result<Vec<Setting>, ConfigError> {
    let set = |variable: &str| (layers.env)(variable).filter(|text| !text.trim().is_empty());
    let file = File::parse(DEFAULTS).map_err(|cause| fault("deploy/probe.toml", cause))?;
    let defaults = Layers { file, env: &|_| None };
    let origin_below = |key: &str| {
        let variable = variable(key);
        if set(&variable).is_some() { variable } else { "file".to_owned() }
    };
    let mut all = Vec::new();
    for key in KEYS {
        let (mut values, mut origin) = match given(args, key) {
            values if values.is_empty() => (layers.list(key)?, origin_below(key)),
            values => {
                let flag = flag(key);
                let variable = format!("PROBE_{}", flag.to_uppercase());
                // The parser does not tell them apart; where both say the same it makes no difference.
                let is_variable = set(&variable).is_some_and(|text| text == values.join(","));
                (values, if is_variable { variable } else { format!("--{}", flag.replace('_', "-")) })
            }
        };
        if values.is_empty() {
            let default = if key == "name" { vec![name.to_owned()] } else { defaults.list(key)? };
            (values, origin) = (default, "default".to_owned());
        }
        values.iter_mut().for_each(|value| *value = safe(key, value));
        let value = match values.len() {
            _ if LISTS.contains(&key) => Some(Value::Many(values)),
            _ => values.pop().map(Value::One),
        };
        all.push(Setting { key: key.to_owned(), value, origin });
    }
    for code in Code::ALL {
        let key = format!("{FINDINGS}.{code}");
        let is_said = !layers.list(&key)?.is_empty();
        let origin = if is_said { origin_below(&key) } else { "default".to_owned() };
        let word = severities.of(code).map_or("off", |severity| severity.as_str());
        all.push(Setting { key, value: Some(Value::One(word.to_owned())), origin });
    }
    let secrets = SECRET_VARIABLES.into_iter().filter(|name| set(name).is_some());
    all.extend(secrets.map(|name| Setting {
        key: name.to_owned(),
        value: Some(Value::One(HIDDEN.to_owned())),
        origin: name.to_owned(),
    }));
    Ok(all)
}

/// The flag of this key, in the words of its variable.
fn flag(key: &str) -> &str {
    match key {
        "discovery.from" => "discover",
        _ => key.rsplit('.').next().unwrap_or(key),
    }
}

/// What may be seen of a value.
fn safe(key: &str, value: &str) -> String {
    match key {
        "targets.postgres" | "targets.postgres_password_command" => HIDDEN.to_owned(),
        "targets.http" | "attribution.coderd_metrics" if value != "auto" => {
            // It is shown as everywhere, without what stands behind its question mark.
            value.parse::<HttpUrl>().map_or_else(|_| HIDDEN.to_owned(), |url| url.to_string())
        }
        _ => value.to_owned(),
    }
}

/// What flags or their variables say of this key; nothing where it has no flag.
fn given(args: &AgentArgs, key: &str) -> Vec<String> {
    fn one(value: Option<impl ToString>) -> Vec<String> {
        value.into_iter().map(|value| value.to_string()).collect()
    }
    fn path(value: &Option<std::path::PathBuf>) -> Vec<String> {
        one(value.as_ref().map(|path| path.display()))
    }
    let (identity, targets, discovery) = (&args.identity, &args.targets, &args.discovery);
    match key {
        "name" => one(args.name.as_ref()),
        "role" => one(args.role.as_ref()),
        "node" => one(args.node.as_ref()),
        "zone" => one(args.zone.as_ref()),
        "region" => one(args.region.as_ref()),
        "listen" => one(args.listen),
        "web" => one(args.web),
        "web_token_file" => path(&args.web_token_file),
        "web_certificate" => path(&args.web_certificate),
        "web_key" => path(&args.web_key),
        "identity.mesh_secret_file" => path(&identity.mesh_secret_file),
        "identity.tls_cert" => path(&identity.tls_cert),
        "identity.tls_key" => path(&identity.tls_key),
        "identity.tls_ca" => path(&identity.tls_ca),
        "identity.tls_server_name" => one(identity.tls_server_name.as_ref()),
        "insecure_no_auth" => one(identity.insecure_no_auth.then_some(true)),
        "targets.postgres_url_file" => {
            targets.postgres_url_file.iter().map(|path| path.display().to_string()).collect()
        }
        "targets.postgres" => targets.postgres.clone(),
        "targets.postgres_password_file" => path(&targets.postgres_password_file),
        "targets.postgres_password_command" => one(targets.postgres_password_command.as_ref()),
        "targets.peer" => targets.peer.clone(),
        "targets.tcp" => targets.tcp.clone(),
        "targets.http" => targets.http.clone(),
        "targets.http_sni" => one(targets.http_sni.as_ref()),
        "targets.http_ca" => path(&targets.http_ca),
        "discovery.from" => discovery.discover.clone(),
        "discovery.advertise" => discovery.advertise.clone(),
        "discovery.peer_port" => one(discovery.peer_port),
        "discovery.no_cloud_metadata" => one(discovery.no_cloud_metadata.then_some(true)),
        "discovery.kubernetes_namespace" => one(discovery.kubernetes_namespace.as_ref()),
        "discovery.kubernetes_coderd" => one(discovery.kubernetes_coderd.as_ref()),
        "discovery.kubernetes_agents" => one(discovery.kubernetes_agents.as_ref()),
        "attribution.coderd_metrics" => args.metrics.coderd_metrics.clone(),
        "log_format" => one(args.log_format.map(|format| match format {
            crate::cli::Output::Human => "human",
            crate::cli::Output::Json => "json",
        })),
        "event_spool" => path(&args.event_spool),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn shown(line: &str, file: &str, variables: &[(&str, &str)]) -> Vec<Setting> {
        let words = ["probe", "agent"].into_iter().chain(line.split_whitespace());
        let Command::Agent(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("not an agent")
        };
        let env =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let layers = Layers { file: File::parse(file).unwrap(), env: &env };
        let severities = layers.severities().unwrap();
        settings(&args, &layers, "host-1", &severities).unwrap()
    }

    fn of<'a>(all: &'a [Setting], key: &str) -> (Option<&'a Value>, &'a str) {
        let setting = all.iter().find(|setting| setting.key == key).unwrap();
        (setting.value.as_ref(), &setting.origin)
    }

    #[test]
    fn each_setting_says_where_it_comes_from() {
        let file = "region = \"cellar\"\n[budgets]\nproxy = \"80ms\"\n[findings]\nfew_coderd = \"off\"\n";
        let all = shown("--zone left --peer a --peer b", file, &[("PROBE_INTERVALS__PEER", "2s")]);
        let one = |text: &str| Value::One(text.to_owned());
        let peers = Value::Many(["a", "b"].map(str::to_owned).to_vec());
        assert_eq!(of(&all, "zone"), (Some(&one("left")), "--zone"));
        assert_eq!(of(&all, "targets.peer"), (Some(&peers), "--peer"));
        assert_eq!(of(&all, "region"), (Some(&one("cellar")), "file"));
        assert_eq!(of(&all, "budgets.proxy"), (Some(&one("80ms")), "file"));
        assert_eq!(of(&all, "intervals.peer"), (Some(&one("2s")), "PROBE_INTERVALS__PEER"));
        assert_eq!(of(&all, "web"), (Some(&one("127.0.0.1:9863")), "default"));
        assert_eq!(of(&all, "name"), (Some(&one("host-1")), "default"));
        assert_eq!(of(&all, "node"), (None, "default"));
        assert_eq!(of(&all, "findings.few_coderd"), (Some(&one("off")), "file"));
        assert_eq!(of(&all, "discovery.from"), (Some(&Value::Many(Vec::new())), "default"));
        assert!(KEYS.iter().all(|key| all.iter().any(|setting| setting.key == *key)));
    }

    #[test]
    fn no_secret_is_shown() {
        let line = "--postgres postgres://u:hunter2@h/d --postgres-password-command hunter2 \
                    --http http://h/?t=hunter2 --coderd-metrics http://h/?t=hunter2 --http nonsense-hunter2";
        let file =
            "[targets]\npostgres = \"postgres://u:hunter2@h/d\"\npostgres_password_command = [\"hunter2\"]";
        let variables =
            [("PROBE_MESH_SECRET", "hunter2"), ("CODER_PG_CONNECTION_URL", "postgres://u:hunter2@h/d")];
        for all in [shown(line, "", &variables), shown("", file, &variables)] {
            let text = serde_json::to_string(&all).unwrap();
            assert!(!text.contains("hunter2"), "{text}");
            assert_eq!(of(&all, "PROBE_MESH_SECRET").0, Some(&Value::One(HIDDEN.to_owned())));
        }
    }
}
