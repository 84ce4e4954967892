//! What can be measured: a peer's reflector, a PostgreSQL server, a TCP port, an HTTP address, coderd's relay and its NATS
//! port. Pure.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::http::HttpUrl;
use crate::postgres::conninfo::Conninfo;

/// One thing to measure, with all that is needed to reach it.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// The reflector of another agent.
    Peer(HostPort),
    /// A PostgreSQL server, by its connection string.
    Postgres(Box<Conninfo>),
    /// A TCP port, by the time of a bare connect.
    Tcp(HostPort),
    /// An HTTP address, by a GET.
    Http(HttpUrl),
    /// The health of a replica of coderd, by a GET.
    Health(HttpUrl),
    /// A workspace proxy, by a GET under its own name: what is told of coderd's certificates is not meant for it.
    Proxy(HttpUrl),
    /// coderd's relay, by a GET on a kept connection and now and then by one on a fresh connection, as coderd's own pings
    /// are.
    Relay(HttpUrl),
    /// The port where coderd's embedded NATS takes in the other replicas, by its greeting.
    Nats(HostPort),
}

impl Target {
    /// Which of them it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Peer(_) => Kind::Peer,
            Self::Postgres(_) => Kind::Postgres,
            Self::Tcp(_) => Kind::Tcp,
            Self::Http(_) | Self::Health(_) | Self::Proxy(_) => Kind::Http,
            Self::Relay(_) => Kind::Relay,
            Self::Nats(_) => Kind::Nats,
        }
    }
}

impl fmt::Display for Target {
    /// The name for reports: address and database, never a user, a password or a URL's query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(address) | Self::Tcp(address) | Self::Nats(address) => address.fmt(f),
            Self::Postgres(conninfo) => conninfo.fmt(f),
            Self::Http(url) | Self::Health(url) | Self::Proxy(url) | Self::Relay(url) => url.fmt(f),
        }
    }
}

/// The kinds of target. The same words stand in flags, JSON and reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Echo datagrams over QUIC.
    Peer,
    /// A query on a persistent connection.
    Postgres,
    /// A bare connect.
    Tcp,
    /// A GET on a fresh connection.
    Http,
    /// A GET of coderd's relay on a kept connection.
    Relay,
    /// A connect to the NATS port of a replica, and its greeting.
    Nats,
}

impl Kind {
    /// All kinds, in the order in which reports show them.
    pub const ALL: [Self; 6] = [Self::Peer, Self::Postgres, Self::Tcp, Self::Http, Self::Relay, Self::Nats];

    /// The stable word of this kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Postgres => "postgres",
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Relay => "relay",
            Self::Nats => "nats",
        }
    }
}

/// A host name or address with a port. IPv6 addresses are kept without brackets and shown with them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Name or literal address.
    pub host: String,
    /// Port, never 0.
    pub port: u16,
}

/// What is wrong with a `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostPortError {
    /// Nothing before the port.
    #[error("'{0}' has no host: write HOST:PORT")]
    NoHost(String),
    /// No port and no default for it.
    #[error("'{0}' has no port: write HOST:PORT")]
    NoPort(String),
    /// The port is not a number from 1 to 65535.
    #[error("'{text}' has the port '{port}', which is not a number from 1 to 65535")]
    Port {
        /// What was given.
        text: String,
        /// The part that should be a port.
        port: String,
    },
    /// A character that no host name or address has.
    #[error("'{0}' is not a host name or address: it must have no scheme, path, user or space")]
    Host(String),
}

impl HostPort {
    /// Reads `HOST`, `HOST:PORT`, `1.2.3.4:PORT`, `[::1]:PORT`, `[::1]` or `::1`; the port may be left out where a
    /// default is given.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, HostPortError> {
        if text.contains('@') {
            // What stands before it may be a password.
            return Err(HostPortError::Host("…@…".to_owned()));
        }
        if text.contains('/') {
            return Err(HostPortError::Host(text.to_owned()));
        }
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return Err(HostPortError::Host(text.to_owned())),
            },
            // More than one colon and no bracket: a bare IPv6 address, which has no room for a port.
            None if text.matches(':').count() > 1 => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.is_empty() {
            return Err(HostPortError::NoHost(text.to_owned()));
        }
        let name_like = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '%');
        let is_address = host.parse::<std::net::Ipv6Addr>().is_ok()
            || host.split_once('%').is_some_and(|(address, _)| address.parse::<std::net::Ipv6Addr>().is_ok());
        if !is_address && !host.chars().all(name_like) {
            return Err(HostPortError::Host(text.to_owned()));
        }
        let port = match port {
            None => default_port.ok_or_else(|| HostPortError::NoPort(text.to_owned()))?,
            Some(port) => match port.parse::<u16>() {
                Ok(number) if number > 0 => number,
                _ => return Err(HostPortError::Port { text: text.to_owned(), port: port.to_owned() }),
            },
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, None)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_an_address_is_understood() {
        for (text, host, port) in [
            ("coderd-1", "coderd-1", 9862),
            ("coderd-1:7", "coderd-1", 7),
            ("10.0.0.1:7", "10.0.0.1", 7),
            ("[::1]:7", "::1", 7),
            ("[::1]", "::1", 9862),
            ("fd00::12", "fd00::12", 9862),
            ("fe80::1%eth0", "fe80::1%eth0", 9862),
            ("a.b.svc.cluster.local.:65535", "a.b.svc.cluster.local.", 65535),
        ] {
            let parsed = HostPort::parse(text, Some(9862)).unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port), "{text}");
            assert_eq!(HostPort::parse(&parsed.to_string(), None).unwrap(), parsed, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_is_wrong() {
        for (text, part) in [
            ("", "no host"),
            (":7", "no host"),
            ("a:", "port ''"),
            ("a:0", "port '0'"),
            ("a:65536", "65536"),
            ("a:b", "port 'b'"),
            ("https://a", "scheme"),
            ("a/b:7", "not a host name"),
            ("[::1]7", "not a host name"),
            ("a:b:c", "not a host name"),
            ("user:hunter2@a:7", "not a host name"),
        ] {
            let error = HostPort::parse(text, Some(9862)).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(HostPort::parse("a", None).unwrap_err().to_string().contains("no port"));
    }
}
