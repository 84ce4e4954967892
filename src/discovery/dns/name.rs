//! A name as users write it: `HOST[:PORT][=ROLE]`, or `_service._proto.domain[=ROLE]` for SRV records. Pure.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::mesh::peer::{Role, RoleError};

/// A name whose records are the members of a mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    host: String,
    port: Option<u16>,
    role: Option<Role>,
}

/// What is wrong with a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is an address, which DNS has nothing to tell about.
    #[error("'{0}' is an address, not a name in DNS: give it as a peer")]
    Address(String),
    /// It cannot be a name in DNS.
    #[error(
        "'{0}' is not a name in DNS: write HOST[:PORT][=ROLE], or _SERVICE._PROTO.DOMAIN[=ROLE] for SRV records"
    )]
    Host(String),
    /// The port is not a number from 1 to 65535.
    #[error("'{name}' has the port '{port}', which is not a number from 1 to 65535")]
    Port {
        /// The name without its role.
        name: String,
        /// The part that should be a port.
        port: String,
    },
    /// SRV records bring their own ports.
    #[error("'{0}' asks for SRV records, which bring their own ports: leave the port out")]
    PortOfService(String),
    /// What stands behind the `=` is no role.
    #[error(transparent)]
    Role(#[from] RoleError),
}

impl Name {
    /// The name without port and role.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port of its addresses, where one was given.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// What its members stand beside, where that was given.
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// Whether it is asked for SRV records rather than for addresses.
    pub fn is_service(&self) -> bool {
        self.host.starts_with('_')
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('@') {
            // What stands before it may be a password.
            return Err(NameError::Host("…@…".to_owned()));
        }
        if text.contains('/') {
            return Err(NameError::Host(text.to_owned()));
        }
        let (name, role) = match text.split_once('=') {
            Some((name, role)) => (name, Some(role.parse()?)),
            None => (text, None),
        };
        let bare = name.trim_start_matches('[').split(']').next().unwrap_or_default();
        if bare.parse::<IpAddr>().is_ok() || name.rsplit_once(':').is_some_and(|(host, _)| is_address(host)) {
            return Err(NameError::Address(name.to_owned()));
        }
        let (host, port) = match name.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (name, None),
        };
        let labels = host.strip_suffix('.').unwrap_or(host).split('.');
        let label_like = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if host.len() > 254 || !labels.into_iter().all(label_like) {
            return Err(NameError::Host(name.to_owned()));
        }
        let port = match port {
            None => None,
            Some(port) => match port.parse::<u16>() {
                Ok(number) if number > 0 => Some(number),
                _ => return Err(NameError::Port { name: name.to_owned(), port: port.to_owned() }),
            },
        };
        let name = Self { host: host.to_owned(), port, role };
        if name.is_service() && name.port.is_some() {
            return Err(NameError::PortOfService(name.host));
        }
        Ok(name)
    }
}

fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if let Some(role) = self.role {
            write!(f, "={role}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_and_without_port_and_role() {
        for (text, host, port, role) in [
            ("coderd-headless.coder.svc", "coderd-headless.coder.svc", None, None),
            (
                "coderd-headless.coder.svc:9862=coderd",
                "coderd-headless.coder.svc",
                Some(9862),
                Some(Role::Coderd),
            ),
            ("agents.example.com.=postgres", "agents.example.com.", None, Some(Role::Postgres)),
            ("_probe._udp.example.com", "_probe._udp.example.com", None, None),
            ("_probe._udp.example.com=proxy", "_probe._udp.example.com", None, Some(Role::Proxy)),
        ] {
            let name: Name = text.parse().unwrap();
            assert_eq!((name.host(), name.port(), name.role()), (host, port, role), "{text}");
            assert_eq!(name.is_service(), text.starts_with('_'));
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_is_wrong() {
        for (text, part) in [
            ("", "not a name"),
            (".", "not a name"),
            ("a..b", "not a name"),
            ("a b", "not a name"),
            ("https://a", "not a name"),
            ("user:hunter2@a", "not a name"),
            ("10.0.0.1", "is an address"),
            ("10.0.0.1:7=coderd", "is an address"),
            ("::1", "is an address"),
            ("[fd00::1]:7", "is an address"),
            ("a:0", "port '0'"),
            ("a:65536", "65536"),
            ("a:", "port ''"),
            ("a=coder", "not a role"),
            ("_probe._udp.a:7", "their own ports"),
        ] {
            let error = text.parse::<Name>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!("a".repeat(64).parse::<Name>().is_err());
        assert!(vec!["a".repeat(60); 5].join(".").parse::<Name>().is_err());
    }
}
