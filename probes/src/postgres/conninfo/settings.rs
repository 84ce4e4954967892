//! The keys of a connection string, and what their values mean.
//!
//! The keys are a closed list, so that a misspelt `sslmode` is not taken for one more server setting, which is what
//! lib/pq does with a key that it does not know.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::syntax::pairs;
use super::{ConninfoError, Host, HostName, RootCert, SslMode};

const DEFAULT_PORT: u16 = 5432;

/// What was given: in the string, or else in the environment. An empty value counts as not given.
pub(super) struct Settings<'a> {
    written: BTreeMap<&'static str, String>,
    run_time: BTreeMap<&'static str, String>,
    env: &'a dyn Fn(&str) -> Option<String>,
}

/// One value, and the key or the variable that it came from.
struct Setting {
    name: &'static str,
    value: String,
}

impl<'a> Settings<'a> {
    pub(super) fn read(text: &str, env: &'a dyn Fn(&str) -> Option<String>) -> Result<Self, ConninfoError> {
        let mut settings = Self { written: BTreeMap::new(), run_time: BTreeMap::new(), env };
        for pair in pairs(text)? {
            let Some(key) = Key::of(&pair.key) else {
                let closest = closest_key(&pair.key);
                let shown = !pair.hidden && is_plain(&pair.key);
                return Err(ConninfoError::UnknownKey { key: shown.then_some(pair.key), closest });
            };
            let (settings, key) = match key {
                Key::Unsupported(key, instead) => return Err(ConninfoError::Unsupported { key, instead }),
                Key::Ignored => continue,
                Key::Read(key) => (&mut settings.written, key),
                Key::RunTime(key) => (&mut settings.run_time, key),
            };
            if !pair.value.is_empty() {
                settings.insert(key, pair.value);
            }
        }
        Ok(settings)
    }

    fn written(&self, key: &'static str) -> Option<Setting> {
        self.written.get(key).map(|value| Setting { name: key, value: value.clone() })
    }

    fn env(&self, variable: &'static str) -> Option<Setting> {
        let value = (self.env)(variable).filter(|value| !value.is_empty())?;
        Some(Setting { name: variable, value })
    }

    fn get(&self, key: &'static str, variable: &'static str) -> Option<Setting> {
        self.written(key).or_else(|| self.env(variable))
    }

    pub(super) fn text(&self, key: &'static str, variable: &'static str) -> Option<String> {
        self.get(key, variable).map(|setting| setting.value)
    }

    pub(super) fn path(&self, key: &'static str, variable: &'static str) -> Option<PathBuf> {
        self.text(key, variable).map(PathBuf::from)
    }

    /// The value of an enum, where one is given.
    pub(super) fn one_of<T: Copy + fmt::Display>(
        &self,
        key: &'static str,
        variable: &'static str,
        values: &[T],
    ) -> Result<Option<T>, ConninfoError> {
        self.get(key, variable).map(|setting| setting.one_of(values)).transpose()
    }

    /// Whether the second of the two words is given.
    pub(super) fn switch(
        &self,
        key: &'static str,
        [off, on]: [&str; 2],
    ) -> Result<Option<bool>, ConninfoError> {
        self.written(key).map(|setting| Ok(setting.one_of(&[off, on])? == on)).transpose()
    }

    pub(super) fn user(&self) -> Result<String, ConninfoError> {
        let account = || self.env("USER").or_else(|| self.env("LOGNAME"));
        self.get("user", "PGUSER").or_else(account).ok_or(ConninfoError::NoUser)?.on_one_line()
    }

    pub(super) fn dbname(&self, user: &str) -> Result<String, ConninfoError> {
        self.get("dbname", "PGDATABASE").map_or_else(|| Ok(user.to_owned()), Setting::on_one_line)
    }

    /// `ssl` and `requiressl` are the short forms of JDBC and of old libpq; an explicit `sslmode` goes before them.
    pub(super) fn sslmode(&self, sslrootcert: Option<&RootCert>) -> Result<SslMode, ConninfoError> {
        let given = if let Some(sslmode) = self.written("sslmode") {
            Some((sslmode.one_of(SslMode::ALL)?, sslmode))
        } else if let Some(ssl) = self.written("ssl") {
            ssl.one_of(&["true"]).map_err(|_| ssl.invalid("sslmode=require or sslmode=disable instead"))?;
            Some((SslMode::Require, ssl))
        } else if let Some(requiressl) = self.written("requiressl") {
            let required = requiressl.one_of(&["0", "1"])? == "1";
            Some((if required { SslMode::Require } else { SslMode::Prefer }, requiressl))
        } else if let Some(variable) = self.env("PGSSLMODE") {
            Some((variable.one_of(SslMode::ALL)?, variable))
        } else {
            None
        };
        match (given, sslrootcert) {
            // As in libpq: anyone can get a certificate that the system trusts, so the name must be checked.
            (Some((mode, setting)), Some(RootCert::System)) if mode != SslMode::VerifyFull => {
                Err(setting.invalid("sslmode=verify-full beside sslrootcert=system"))
            }
            (None, Some(RootCert::System)) => Ok(SslMode::VerifyFull),
            (given, _) => Ok(given.map_or(SslMode::Prefer, |(mode, _)| mode)),
        }
    }

    pub(super) fn connect_timeout(&self) -> Result<Option<Duration>, ConninfoError> {
        let Some(setting) = self.get("connect_timeout", "PGCONNECT_TIMEOUT") else { return Ok(None) };
        let seconds: i32 =
            setting.value.trim().parse().map_err(|_| setting.invalid("a number of whole seconds"))?;
        Ok(u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs))
    }

    /// The server splits this at white space, and reads a backslash as "take the next character as it is".
    pub(super) fn options(&self) -> String {
        let mut options = self.text("options", "PGOPTIONS").unwrap_or_default();
        for (name, value) in &self.run_time {
            if !options.is_empty() {
                options.push(' ');
            }
            options.push_str("-c ");
            options.push_str(name);
            options.push('=');
            for c in value.chars() {
                if matches!(c, '\\' | ' ' | '\t'..='\r') {
                    options.push('\\');
                }
                options.push(c);
            }
        }
        options
    }

    /// The lists `host`, `hostaddr` and `port`, one entry for each server.
    pub(super) fn hosts(&self) -> Result<Vec<Host>, ConninfoError> {
        let host_list = self.get("host", "PGHOST");
        let hostaddr_list = self.written("hostaddr");
        let port_list = self.get("port", "PGPORT");
        let names = host_list.as_ref().map_or_else(Vec::new, Setting::entries);
        let addresses = hostaddr_list.as_ref().map_or_else(Vec::new, Setting::entries);
        let ports = port_list.as_ref().map_or_else(Vec::new, Setting::entries);

        let hosts = names.len().max(addresses.len()).max(1);
        for (list, entries, one_for_all) in
            [(&host_list, &names, false), (&hostaddr_list, &addresses, false), (&port_list, &ports, true)]
        {
            let Some(list) = list else { continue };
            let count = entries.len();
            if count != hosts && !(one_for_all && count == 1) {
                return Err(ConninfoError::Count { key: list.name, count, hosts });
            }
        }
        (0..hosts)
            .map(|i| {
                let hostaddr = match (&hostaddr_list, addresses.get(i)) {
                    (Some(list), Some(entry)) => list.address(entry)?,
                    _ => None,
                };
                let host = match (&host_list, names.get(i)) {
                    (Some(list), Some(entry)) => list.host_name(entry)?,
                    _ => None,
                };
                let port = match (&port_list, ports.as_slice()) {
                    (Some(list), [only]) => list.port(only)?,
                    (Some(list), many) => list.port(many.get(i).unwrap_or(&""))?,
                    (None, _) => DEFAULT_PORT,
                };
                let unnamed = || hostaddr.map_or("localhost".to_owned(), |address| address.to_string());
                Ok(Host { host: host.unwrap_or_else(|| HostName::Tcp(unnamed())), hostaddr, port })
            })
            .collect()
    }
}

impl Setting {
    fn invalid(&self, expected: &str) -> ConninfoError {
        self.entry_invalid(&self.value, expected)
    }

    /// Only a plain word is quoted: anything else may hold a password, as in `port=5432;password=…`.
    fn entry_invalid(&self, entry: &str, expected: &str) -> ConninfoError {
        let value =
            if is_plain(entry) { format!("\"{entry}\"") } else { "what it is (not shown)".to_owned() };
        ConninfoError::Value { key: self.name, value, expected: expected.to_owned() }
    }

    fn one_of<T: Copy + fmt::Display>(&self, values: &[T]) -> Result<T, ConninfoError> {
        let words: Vec<String> = values.iter().map(ToString::to_string).collect();
        match words.iter().position(|word| *word == self.value) {
            Some(i) => Ok(values[i]),
            None => Err(self.invalid(&format!("one of {}", words.join(", ")))),
        }
    }

    /// The value of a name that is shown in reports.
    fn on_one_line(self) -> Result<String, ConninfoError> {
        if self.value.contains(char::is_control) {
            return Err(self.invalid("it without control characters"));
        }
        Ok(self.value)
    }

    fn entries(&self) -> Vec<&str> {
        self.value.split(',').map(str::trim).collect()
    }

    fn host_name(&self, entry: &str) -> Result<Option<HostName>, ConninfoError> {
        if entry.is_empty() {
            return Ok(None);
        }
        if entry.starts_with(['/', '@']) && !entry.contains(char::is_control) {
            return Ok(Some(HostName::Unix(entry.into())));
        }
        let name = without_brackets(entry);
        let is_ipv6 = name.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
        let no_name = |c: char| c.is_whitespace() || c.is_control() || "=@/?#&;'\"\\[]".contains(c);
        if name.contains(no_name) || (name.contains(':') && !is_ipv6) {
            return Err(self.entry_invalid(entry, "a host name or an address alone, and the port as port=…"));
        }
        Ok(Some(HostName::Tcp(name.to_owned())))
    }

    fn address(&self, entry: &str) -> Result<Option<IpAddr>, ConninfoError> {
        if entry.is_empty() {
            return Ok(None);
        }
        match without_brackets(entry).parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(self.entry_invalid(entry, "an IP address, or a name as host=…")),
        }
    }

    fn port(&self, entry: &str) -> Result<u16, ConninfoError> {
        if entry.is_empty() {
            return Ok(DEFAULT_PORT);
        }
        match entry.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(self.entry_invalid(entry, "a number from 1 to 65535")),
        }
    }
}

fn without_brackets(entry: &str) -> &str {
    entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')).unwrap_or(entry)
}

/// Whether a text may stand in a message: one short word.
fn is_plain(text: &str) -> bool {
    (1..=40).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:".contains(c))
}

/// What a key is to us.
enum Key {
    /// A part of `Conninfo`.
    Read(&'static str),
    /// A run-time parameter of the server, which lib/pq takes beside the others.
    RunTime(&'static str),
    /// It does not change what is measured.
    Ignored,
    /// Ignoring it would connect otherwise than asked; what to do instead.
    Unsupported(&'static str, &'static str),
}

impl Key {
    /// What `name` is, `None` if there is no such key. As for the server, the case of a run-time parameter is free.
    fn of(name: &str) -> Option<Self> {
        if let Some(key) = READ.iter().find(|key| **key == name) {
            return Some(Self::Read(key));
        }
        if let Some((key, instead)) = UNSUPPORTED.iter().find(|(key, _)| *key == name) {
            return Some(Self::Unsupported(key, instead));
        }
        if IGNORED.contains(&name) || name.starts_with("keepalives") || name.starts_with("pool_") {
            return Some(Self::Ignored);
        }
        RUN_TIME.iter().find(|key| key.eq_ignore_ascii_case(name)).map(|key| Self::RunTime(key))
    }
}

/// The known key that was probably meant.
fn closest_key(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    if let Some((_, key)) = HABITS.iter().find(|(habit, _)| *habit == name) {
        return Some(key);
    }
    let unsupported = UNSUPPORTED.iter().map(|(key, _)| key);
    READ.iter()
        .chain(IGNORED)
        .chain(RUN_TIME)
        .chain(unsupported)
        .map(|key| (edits(&name, key), *key))
        .filter(|(edits, key)| *edits <= 2 && edits * 2 < key.len())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, key)| key)
}

/// The Levenshtein distance.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, from_char) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to_char) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(from_char != *to_char);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[rustfmt::skip]
const READ: &[&str] = &[
    "host", "hostaddr", "port", "dbname", "user", "password", "passfile", "sslmode", "ssl", "requiressl",
    "sslrootcert", "sslcert", "sslkey", "sslnegotiation", "sslsni", "channel_binding", "target_session_attrs",
    "load_balance_hosts", "connect_timeout", "options",
];

#[rustfmt::skip]
const RUN_TIME: &[&str] = &[
    "search_path", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout",
    "idle_session_timeout", "transaction_timeout", "timezone", "datestyle", "intervalstyle",
    "client_min_messages", "role", "default_transaction_isolation", "default_transaction_read_only",
    "default_transaction_deferrable", "synchronous_commit", "standard_conforming_strings", "bytea_output",
    "extra_float_digits", "work_mem", "maintenance_work_mem", "temp_buffers", "default_tablespace",
    "temp_tablespaces", "lc_messages", "lc_monetary", "lc_numeric", "lc_time", "row_security", "jit",
    "plan_cache_mode", "session_replication_role", "log_statement", "log_min_duration_statement",
];

/// Of libpq, lib/pq and pgx, besides `keepalives*` and `pool_*`.
#[rustfmt::skip]
const IGNORED: &[&str] = &[
    "tcp_user_timeout", "application_name", "fallback_application_name", "client_encoding", "gssencmode",
    "gssdelegation", "gsslib", "krbsrvname", "krbspn", "sslcompression", "ssl_min_protocol_version",
    "ssl_max_protocol_version", "min_protocol_version", "max_protocol_version", "sslkeylogfile", "requirepeer",
    "authtype", "tty", "binary_parameters", "disable_prepared_binary_result", "default_query_exec_mode",
    "statement_cache_capacity", "description_cache_capacity",
];

const LEAVE_OUT: &str = "leave it out";
const WRITE_OUT: &str = "write out host, port, dbname and user";
const NO_CRL: &str = "leave it out; revoked certificates then go unnoticed";
const USE_PASSWORD: &str = "leave it out and use a password";
#[rustfmt::skip]
const UNSUPPORTED: &[(&str, &str)] = &[
    ("service", WRITE_OUT), ("servicefile", WRITE_OUT),
    ("sslcrl", NO_CRL), ("sslcrldir", NO_CRL),
    ("sslpassword", "leave it out and use an unencrypted key file"),
    ("sslinline", "put the certificates and the key in files and name those"),
    ("sslcertmode", LEAVE_OUT), ("require_auth", LEAVE_OUT), ("replication", LEAVE_OUT),
    ("scram_client_key", USE_PASSWORD), ("scram_server_key", USE_PASSWORD), ("oauth_issuer", USE_PASSWORD),
    ("oauth_client_id", USE_PASSWORD), ("oauth_client_secret", USE_PASSWORD), ("oauth_scope", USE_PASSWORD),
];

/// What other drivers call it.
#[rustfmt::skip]
const HABITS: &[(&str, &str)] = &[
    ("username", "user"), ("pass", "password"), ("passwd", "password"), ("pwd", "password"),
    ("database", "dbname"), ("db", "dbname"), ("hostname", "host"), ("server", "host"),
    ("currentschema", "search_path"), ("schema", "search_path"), ("sslca", "sslrootcert"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_key_is_suggested_only_when_it_is_close() {
        for (written, expected) in [
            ("sslmod", Some("sslmode")),
            ("sslMode", Some("sslmode")),
            ("hots", None),
            ("hosts", Some("host")),
            ("conect_timeout", Some("connect_timeout")),
            ("searchpath", Some("search_path")),
            ("servce", Some("service")),
            ("database", Some("dbname")),
            ("username", Some("user")),
            ("currentSchema", Some("search_path")),
            ("zzz", None),
            ("", None),
            ("żółć", None),
        ] {
            assert_eq!(closest_key(written), expected, "{written}");
        }
    }

    #[test]
    fn every_key_is_in_one_list_only() {
        let unsupported = UNSUPPORTED.iter().map(|(key, _)| *key);
        let mut keys: Vec<&str> = [READ, RUN_TIME, IGNORED].concat().into_iter().chain(unsupported).collect();
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all);
        assert!(HABITS.iter().all(|(habit, key)| !keys.contains(habit) && keys.contains(key)));
    }
}
