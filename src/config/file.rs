//! The agent's TOML file, and how it lies between the environment and the defaults.
//!
//! The file is read into a flat table of known keys: what is not known is an error with a suggestion. A key without a
//! flag can be set by the environment as well: `budgets.proxy` is `PROBE_BUDGETS__PROXY`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;

use super::{ConfigError, Environment, fault};
use crate::cli::{self, AgentArgs, Output, TargetArgs};
use crate::coder_metrics::EVERY_AT_LEAST;
use crate::mesh::region;
use crate::mesh::rules::{Book, Code, Severities};

/// Every key there is.
pub(super) const KEYS: [&str; 58] = [
    "name",
    "role",
    "node",
    "zone",
    "region",
    "listen",
    "web",
    "web_token_file",
    "web_certificate",
    "web_key",
    "identity.mesh_secret_file",
    "identity.tls_cert",
    "identity.tls_key",
    "identity.tls_ca",
    "identity.tls_server_name",
    "targets.postgres_url_file",
    "targets.postgres",
    "targets.postgres_password_file",
    "targets.postgres_password_command",
    "targets.peer",
    "targets.tcp",
    "targets.http",
    "targets.http_sni",
    "targets.http_ca",
    "discovery.from",
    "discovery.advertise",
    "discovery.peer_port",
    "discovery.no_cloud_metadata",
    "discovery.kubernetes_namespace",
    "discovery.kubernetes_coderd",
    "discovery.kubernetes_agents",
    "attribution.coderd_metrics",
    "attribution.every",
    "placement.regions",
    "placement.workspaces",
    "budgets.quantile",
    "budgets.coderd_coderd",
    "budgets.coderd_postgres",
    "budgets.postgres_postgres",
    "budgets.proxy",
    "budgets.provisioner",
    "budgets.other",
    "intervals.peer",
    "intervals.postgres",
    "intervals.postgres_connect",
    "intervals.tcp",
    "intervals.http",
    "intervals.relay",
    "intervals.relay_fresh",
    "intervals.nats",
    "intervals.proxy",
    "metrics.targets",
    "metrics.pairs",
    "graces.start",
    "graces.rollout",
    "insecure_no_auth",
    "log_format",
    "event_spool",
];

/// The file's keys with their values.
#[derive(Debug, Default)]
pub(super) struct File(BTreeMap<String, toml::Value>);

/// Keys of this table are the codes of findings.
pub(super) const FINDINGS: &str = "findings";

impl File {
    /// Reads a file's text; the error names the line or the key.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // Without the line itself, which may hold a password.
        let wrong = |error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            format!("line {line}, column {column}: {}", error.message())
        };
        let table: toml::Table = text.parse().map_err(wrong)?;
        let mut keys = BTreeMap::new();
        flatten("", table, &mut keys)?;
        Ok(Self(keys))
    }
}

fn flatten(prefix: &str, table: toml::Table, keys: &mut BTreeMap<String, toml::Value>) -> Result<(), String> {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match (KEYS.iter().find(|known| **known == key), value) {
            (Some(known), value) => drop(keys.insert((*known).to_owned(), value)),
            (None, toml::Value::Table(inner)) if key == FINDINGS => {
                for (code, value) in inner {
                    code.parse::<Code>().map_err(|error| format!("{FINDINGS}.{code}: {error}"))?;
                    keys.insert(format!("{FINDINGS}.{code}"), value);
                }
            }
            (None, toml::Value::Table(inner))
                if KEYS.iter().any(|known| known.starts_with(&format!("{key}."))) =>
            {
                flatten(&format!("{key}."), inner, keys)?;
            }
            (None, _) => return Err(unknown(&key)),
        }
    }
    Ok(())
}

fn unknown(key: &str) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    // A good key in the wrong table is as near as a misspelt one in the right one.
    let distance = |known: &str| {
        strsim::damerau_levenshtein(known, key).min(1 + strsim::damerau_levenshtein(&last(known), &last(key)))
    };
    match KEYS.iter().map(|known| (distance(known), known)).min() {
        Some((distance, known)) if distance <= 3 => format!("unknown key '{key}'; did you mean '{known}'?"),
        _ => format!("unknown key '{key}'; deploy/probe.toml shows all keys"),
    }
}

/// Environment over file.
pub(super) struct Layers<'a> {
    pub(super) file: File,
    pub(super) env: Environment<'a>,
}

impl Layers<'_> {
    /// The text of a key with the name of where it comes from.
    fn text(&self, key: &str) -> Result<Option<(String, String)>, ConfigError> {
        let variable = variable(key);
        if let Some(text) = (self.env)(&variable).filter(|text| !text.is_empty()) {
            return Ok(Some((variable, text)));
        }
        let Some(value) = self.file.0.get(key) else { return Ok(None) };
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            other => {
                let given = other.type_str();
                return Err(fault(key, format!("a {given} was given, where a text or a number is wanted")));
            }
        };
        Ok(Some((key.to_owned(), text)))
    }

    pub(super) fn list(&self, key: &str) -> Result<Vec<String>, ConfigError> {
        match self.file.0.get(key) {
            Some(toml::Value::Array(values)) => values
                .iter()
                .map(|value| {
                    let wrong =
                        || fault(key, format!("a {} was given in the list of texts", value.type_str()));
                    value.as_str().map(str::to_owned).ok_or_else(wrong)
                })
                .collect(),
            _ => Ok(self.text(key)?.into_iter().map(|(_, text)| text).collect()),
        }
    }

    /// A program with its arguments: one text as on a command line, or a list of words. No error shows any of them.
    fn command(&self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.file.0.get(key) {
            Some(toml::Value::Array(_)) if (self.env)(&variable(key)).is_none_or(|text| text.is_empty()) => {
                Ok(Some(shell_words::join(self.list(key)?)))
            }
            _ => Ok(self.text(key)?.map(|(_, text)| text)),
        }
    }

    pub(super) fn parse<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((origin, text)) = self.text(key)? else { return Ok(None) };
        parse(&text).map(Some).map_err(|cause| fault(origin, format!("'{text}': {cause}")))
    }

    /// The arguments, with what they leave open taken from here.
    pub(super) fn fill(&self, args: &AgentArgs) -> Result<AgentArgs, ConfigError> {
        let mut args = args.clone();
        leave_out_empty(&mut args);
        let text = |key| self.parse(key, |text| Ok(text.to_owned()));
        let path = |key| self.parse(key, |text| Ok(text.into()));
        let address = |key| {
            self.parse(key, |text| {
                text.parse().map_err(|_| "it is not IP:PORT, like 127.0.0.1:9863".to_owned())
            })
        };
        fill(&mut args.name, || text("name"))?;
        fill(&mut args.role, || text("role"))?;
        fill(&mut args.node, || text("node"))?;
        fill(&mut args.zone, || text("zone"))?;
        fill(&mut args.region, || text("region"))?;
        fill(&mut args.listen, || address("listen"))?;
        fill(&mut args.web, || address("web"))?;
        fill(&mut args.web_token_file, || path("web_token_file"))?;
        fill(&mut args.web_certificate, || path("web_certificate"))?;
        fill(&mut args.web_key, || path("web_key"))?;
        fill(&mut args.log_format, || self.parse("log_format", |text| Output::from_str(text, false)))?;
        fill(&mut args.event_spool, || path("event_spool"))?;
        let identity = &mut args.identity;
        fill(&mut identity.mesh_secret_file, || path("identity.mesh_secret_file"))?;
        fill(&mut identity.tls_cert, || path("identity.tls_cert"))?;
        fill(&mut identity.tls_key, || path("identity.tls_key"))?;
        fill(&mut identity.tls_ca, || path("identity.tls_ca"))?;
        fill(&mut identity.tls_server_name, || text("identity.tls_server_name"))?;
        identity.insecure_no_auth |= self
            .parse("insecure_no_auth", |text| text.parse().map_err(|_| "true or false".to_owned()))?
            .unwrap_or(false);
        let targets = &mut args.targets;
        fill(&mut targets.http_sni, || text("targets.http_sni"))?;
        fill(&mut targets.http_ca, || path("targets.http_ca"))?;
        for (list, key) in [
            (&mut targets.postgres, "targets.postgres"),
            (&mut targets.peer, "targets.peer"),
            (&mut targets.tcp, "targets.tcp"),
            (&mut targets.http, "targets.http"),
        ] {
            if list.is_empty() {
                *list = self.list(key)?;
            }
        }
        if targets.postgres_url_file.is_empty() {
            targets.postgres_url_file =
                self.list("targets.postgres_url_file")?.into_iter().map(Into::into).collect();
        }
        if args.metrics.coderd_metrics.is_empty() {
            args.metrics.coderd_metrics = self.list("attribution.coderd_metrics")?;
        }
        let targets = &mut args.targets;
        // One of them from nearer by replaces both from further away.
        if targets.postgres_password_file.is_none() && targets.postgres_password_command.is_none() {
            targets.postgres_password_file = path("targets.postgres_password_file")?;
            targets.postgres_password_command = self.command("targets.postgres_password_command")?;
        }
        let discovery = &mut args.discovery;
        if discovery.discover.is_empty() {
            discovery.discover = self.list("discovery.from")?;
        }
        if discovery.advertise.is_empty() {
            discovery.advertise = self.list("discovery.advertise")?;
        }
        fill(&mut discovery.kubernetes_namespace, || text("discovery.kubernetes_namespace"))?;
        fill(&mut discovery.kubernetes_coderd, || text("discovery.kubernetes_coderd"))?;
        fill(&mut discovery.kubernetes_agents, || text("discovery.kubernetes_agents"))?;
        discovery.no_cloud_metadata |= self
            .parse("discovery.no_cloud_metadata", |text| {
                text.parse().map_err(|_| "true or false".to_owned())
            })?
            .unwrap_or(false);
        fill(&mut discovery.peer_port, || {
            self.parse("discovery.peer_port", |text| {
                text.parse().map_err(|_| "it is not a number from 1 to 65535".to_owned())
            })
        })?;
        Ok(args)
    }

    /// How often each coderd's metrics are read.
    pub(super) fn metrics_every(&self) -> Result<Option<Duration>, ConfigError> {
        self.parse("attribution.every", |text| match cli::duration(text)? {
            every if every < EVERY_AT_LEAST => {
                Err(format!("no coderd is asked more often: {EVERY_AT_LEAST:?} or longer"))
            }
            every => Ok(every),
        })
    }

    /// What the whole mesh is judged by.
    pub(super) fn book(&self) -> Result<Book, ConfigError> {
        let mut book = Book { severities: self.severities()?, ..Book::default() };
        if let Some((origin, path)) = self.text("placement.regions")? {
            let table =
                std::fs::read_to_string(&path).map_err(|error| fault(&origin, format!("{path}: {error}")))?;
            book.atlas.extend(&table).map_err(|error| fault(origin, format!("{path}: {error}")))?;
        }
        for text in self.list("placement.workspaces")? {
            let (proxy, region) = text
                .split_once('=')
                .map(|(proxy, region)| (proxy.trim(), region.trim()))
                .filter(|(proxy, region)| !proxy.is_empty() && !region.is_empty())
                .ok_or_else(|| {
                    fault("placement.workspaces", format!("'{text}': write PROXY=PROVIDER/REGION"))
                })?;
            book.workspaces.entry(proxy.to_owned()).or_default().push(region::name(region));
        }
        Ok(book)
    }

    /// How bad each finding is.
    pub(super) fn severities(&self) -> Result<Severities, ConfigError> {
        let mut severities = Severities::default();
        for code in Code::ALL {
            let key = format!("{FINDINGS}.{code}");
            if let Some((origin, value)) = self.text(&key)? {
                severities.set(code.as_str(), &value).map_err(|error| fault(origin, error))?;
            }
        }
        Ok(severities)
    }
}

/// `budgets.proxy` → `PROBE_BUDGETS__PROXY`.
pub(super) fn variable(key: &str) -> String {
    format!("PROBE_{}", key.replace('.', "__").to_uppercase())
}

/// A variable that a template leaves empty is one that is not set; clap itself refuses an empty path.
fn leave_out_empty(args: &mut AgentArgs) {
    let AgentArgs { name, role, node, zone, region, targets, discovery, metrics, .. } = args;
    for text in [name, role, node, zone, region, &mut targets.http_sni] {
        text.take_if(|text| text.trim().is_empty());
    }
    let TargetArgs { peer, tcp, http, postgres, .. } = targets;
    for list in [
        peer,
        tcp,
        http,
        postgres,
        &mut discovery.discover,
        &mut discovery.advertise,
        &mut metrics.coderd_metrics,
    ] {
        list.retain(|text| !text.trim().is_empty());
    }
}

fn fill<T>(
    slot: &mut Option<T>,
    otherwise: impl FnOnce() -> Result<Option<T>, ConfigError>,
) -> Result<(), ConfigError> {
    if slot.is_none() {
        *slot = otherwise()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::mesh::links::Rules;
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    const SAMPLE: &str = include_str!("../../deploy/probe.toml");

    fn rules(text: &str, env: Environment<'_>) -> Result<Rules, String> {
        let file = File::parse(text)?;
        Layers { file, env }.rules().map_err(|error| error.to_string())
    }

    #[test]
    fn the_sample_file_equals_the_defaults_and_shows_every_key() {
        assert_eq!(rules(SAMPLE, &|_| None), Ok(Rules::default()));
        // Keys without a default stand there as comments; without the comment sign they must be known as well.
        let all: String = SAMPLE
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n");
        let file = File::parse(&all).unwrap();
        let missing: Vec<_> = KEYS.iter().filter(|key| !file.0.contains_key(**key)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn what_a_template_leaves_empty_is_not_set() {
        let line = "probe agent --zone= --region= --role= --discover= --peer=";
        let Command::Agent(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!("not an agent")
        };
        let file = File::parse("zone = \"az-1\"").unwrap();
        let args = Layers { file, env: &|_| None }.fill(&args).unwrap();
        assert_eq!((args.zone.as_deref(), args.region, args.role), (Some("az-1"), None, None));
        assert!(args.discovery.discover.is_empty() && args.targets.peer.is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_by_its_place_and_not_by_its_words() {
        let text = "[targets]\npostgres_password_command = [\"vault\", hunter2]\n";
        let error = File::parse(text).unwrap_err();
        assert!(error.starts_with("line 2, column ") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn environment_goes_before_the_file_and_the_file_before_the_defaults() {
        let text =
            "[budgets]\nproxy = \"80ms\"\ncoderd_coderd = \"5ms\"\n[intervals]\npostgres_connect = \"never\"";
        let env = |name: &str| (name == "PROBE_BUDGETS__CODERD_CODERD").then(|| "7ms".to_owned());
        let rules = rules(text, &env).unwrap();
        assert_eq!(rules.budgets.coderd_coderd, Some(Duration::from_millis(7)));
        assert_eq!(rules.budgets.proxy, Some(Duration::from_millis(80)));
        assert_eq!(rules.budgets.provisioner, None);
        assert_eq!(rules.intervals.postgres_connect, Duration::ZERO);
        assert_eq!(rules.intervals.peer, Duration::from_secs(1));
    }

    #[test]
    fn a_password_command_is_one_text_or_a_list_of_words_and_a_flag_replaces_either_source() {
        let filled = |text: &str, flags: &str| {
            let line = std::iter::once("probe agent").chain([flags]).flat_map(str::split_whitespace);
            let cli::Command::Agent(args) = cli::Cli::try_parse_from(line).unwrap().command else {
                panic!("not an agent")
            };
            let file = File::parse(text).unwrap();
            let targets = Layers { file, env: &|_| None }.fill(&args).unwrap().targets;
            (targets.postgres_password_file, targets.postgres_password_command)
        };
        let list = "[targets]\npostgres_password_command = [\"aws\", \"a b\"]";
        assert_eq!(filled(list, ""), (None, Some("aws 'a b'".to_owned())));
        let text = "[targets]\npostgres_password_command = \"aws 'a b'\"";
        assert_eq!(filled(text, ""), (None, Some("aws 'a b'".to_owned())));
        assert_eq!(filled(list, "--postgres-password-file /x"), (Some("/x".into()), None));
    }

    #[test]
    fn how_bad_a_finding_is_can_be_said_by_its_code() {
        let book = |text: &str| {
            let file = File::parse(text)?;
            Layers { file, env: &|_| None }.book().map_err(|error| error.to_string())
        };
        let changed = book("[findings]\nfew_coderd = \"off\"\nmany_coderd = \"fail\"").unwrap();
        assert_eq!(changed.severities.of(Code::FewCoderd), None);
        assert_eq!(changed.severities.of(Code::ManyCoderd).unwrap().as_str(), "fail");
        for (text, part) in [
            ("[findings]\nfew = \"off\"", "findings.few"),
            ("[findings]\nfew_coderd = \"bad\"", "use fail, warning, info or off"),
            ("[placement]\nregions = \"/nowhere/regions.csv\"", "/nowhere/regions.csv"),
            ("[placement]\nworkspaces = [\"sydney.example.com\"]", "write PROXY=PROVIDER/REGION"),
        ] {
            let error = book(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn no_coderd_is_asked_more_often_than_every_15_seconds() {
        let every = |text: &str| {
            let file = File::parse(text)?;
            Layers { file, env: &|_| None }.metrics_every().map_err(|error| error.to_string())
        };
        assert_eq!(every("[attribution]\nevery = \"15s\""), Ok(Some(Duration::from_secs(15))));
        assert_eq!(every(SAMPLE), Ok(Some(crate::coder_metrics::Settings::default().every)));
        let error = every("[attribution]\nevery = \"14s\"").unwrap_err();
        assert!(error.contains("attribution.every: '14s': no coderd is asked more often: 15s"), "{error}");
    }

    #[test]
    fn a_fault_names_its_key_and_what_to_do() {
        for (text, part) in [
            ("nmae = \"a\"", "did you mean 'name'?"),
            ("[budgets]\nprox = \"1ms\"", "did you mean 'budgets.proxy'?"),
            ("[intervals]\nproxi = \"1s\"", "did you mean 'intervals.proxy'?"),
            ("[nonsense]\nx = 1", "unknown key 'nonsense'"),
            ("[budgets]\nproxy = 10", "budgets.proxy: '10'"),
            ("[budgets]\nproxy = []", "budgets.proxy: a array"),
            ("[budgets]\nquantile = 95", "between 0.5 and 0.999"),
            ("[intervals]\npeer = \"1ms\"", "50ms or longer"),
            ("name = ", "line 1"),
        ] {
            let error = rules(text, &|_| None).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
