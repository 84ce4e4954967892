//! The connection string of PostgreSQL, read without connecting.
//!
//! `probe` is given the very string that coderd is (`CODER_PG_CONNECTION_URL`), which Go's lib/pq reads there, and
//! which people copy from libpq tools. The parser of tokio-postgres refuses many of its forms: several hosts with
//! empty ports, `sslrootcert`, `passfile`, run-time parameters such as `search_path`. So it is read here, with the
//! rules of libpq and, where the two differ within a URL, those of lib/pq.
//!
//! Nothing here touches a file, a socket or the environment, and no message and no `Debug` shows a password.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

mod password;
mod settings;
mod syntax;

pub use password::{PasswordCommand, PasswordSource};
use settings::Settings;

/// A password. It is shown as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The password itself, to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(password: String) -> Self {
        Self(password)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a connection string cannot be used. One line; never the password, never the whole string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConninfoError {
    /// Nothing but white space.
    #[error("the connection string is empty: write postgres://user:password@host:5432/dbname")]
    Empty,
    /// A URL, but not PostgreSQL's.
    #[error(
        "a `{0}://` URL does not name a PostgreSQL server: write postgres://user:password@host:5432/dbname"
    )]
    Scheme(String),
    /// A URL that cannot be taken apart: what is wrong, and what to do.
    #[error("the connection URL cannot be read: {0}; {1}")]
    Url(&'static str, &'static str),
    /// No URL, and no keywords that can be taken apart.
    #[error("the connection string cannot be read: {0}")]
    Syntax(&'static str),
    /// A key that does not exist. It is `None` where it may be a piece of the password.
    #[error("{}", unknown_key(.key.as_deref(), *.closest))]
    UnknownKey {
        /// The key as written.
        key: Option<String>,
        /// The known key that was probably meant.
        closest: Option<&'static str>,
    },
    /// A key that changes the connection in a way that `probe` cannot.
    #[error("`{key}` is not supported: {instead}")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// A value that its key does not take.
    #[error("`{key}` cannot be {value}: write {expected}")]
    Value {
        /// The key, or the environment variable that stood in for it.
        key: &'static str,
        /// The value in quotes, or words for it where it may hold something else.
        value: String,
        /// What it takes.
        expected: String,
    },
    /// Lists of different lengths.
    #[error("`{key}` has {count} entries for {hosts} hosts: write as many (one port may stand for all)")]
    Count {
        /// The list that does not fit.
        key: &'static str,
        /// How many entries it has.
        count: usize,
        /// How many hosts there are.
        hosts: usize,
    },
    /// Neither the string nor the environment names a user.
    #[error(
        "the connection string names no user: write user=… or postgres://user@host/dbname, or set PGUSER"
    )]
    NoUser,
}

fn unknown_key(key: Option<&str>, closest: Option<&'static str>) -> String {
    let what = key.map_or("a parameter (not shown, it may be a piece of a password)".to_owned(), |key| {
        format!("`{key}`")
    });
    match closest {
        Some(closest) => format!("{what} is not known: did you mean `{closest}`?"),
        None if key.is_none() => {
            format!("{what} is not known: quote the password, or percent-encode it in a URL")
        }
        None => {
            format!("{what} is not known: remove it, or pass a server setting as options='-c name=value'")
        }
    }
}

/// An enum whose variants are the values of a key.
macro_rules! values {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$about])* $variant,)+ }

        impl $name {
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it in a connection string.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

values! {
    /// How much TLS is asked for.
    SslMode {
        /// No TLS.
        Disable = "disable",
        /// TLS only if the server insists.
        Allow = "allow",
        /// TLS if the server has it.
        Prefer = "prefer",
        /// TLS, whoever the server is.
        Require = "require",
        /// TLS with a certificate that a trusted authority signed.
        VerifyCa = "verify-ca",
        /// TLS with a certificate that also carries the host's name.
        VerifyFull = "verify-full",
    }
}

values! {
    /// How TLS begins.
    SslNegotiation {
        /// After PostgreSQL's own request for it.
        Postgres = "postgres",
        /// At once, as of PostgreSQL 17.
        Direct = "direct",
    }
}

values! {
    /// Whether SCRAM is bound to the TLS channel.
    ChannelBinding {
        /// Never.
        Disable = "disable",
        /// If the server can.
        Prefer = "prefer",
        /// Or the connection fails.
        Require = "require",
    }
}

values! {
    /// Which server of several is acceptable.
    TargetSessionAttrs {
        /// The first that answers.
        Any = "any",
        /// One whose sessions can write.
        ReadWrite = "read-write",
        /// One whose sessions cannot write.
        ReadOnly = "read-only",
        /// One that is not in recovery.
        Primary = "primary",
        /// One that is in recovery.
        Standby = "standby",
        /// A standby, or else any.
        PreferStandby = "prefer-standby",
    }
}

/// Who is trusted to sign the server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCert {
    /// The authorities that the operating system trusts.
    System,
    /// Those in this PEM file.
    File(PathBuf),
}

/// The name of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// A DNS name or an IP address, IPv6 without brackets. A host that is left out is `localhost`; libpq would try
    /// its own socket directory first, but where that is was settled when libpq was built.
    Tcp(String),
    /// The directory of a Unix-domain socket, or an abstract one's name after `@`.
    Unix(PathBuf),
}

/// One of the servers to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name. With only a `hostaddr`, that address.
    pub host: HostName,
    /// Where to connect without looking the name up.
    pub hostaddr: Option<IpAddr>,
    /// Its port; for a socket, the number that its file's name ends with.
    pub port: u16,
}

impl Host {
    /// The name that the server's certificate must carry. A Unix-domain socket has none.
    pub fn server_name(&self) -> Option<&str> {
        match &self.host {
            HostName::Tcp(name) => Some(name),
            HostName::Unix(_) => None,
        }
    }
}

/// `host:port`
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostName::Tcp(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            HostName::Tcp(name) => write!(f, "{name}:{}", self.port),
            HostName::Unix(path) => write!(f, "{}:{}", path.display(), self.port),
        }
    }
}

/// Everything that a connection string says about how to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conninfo {
    /// The servers to try; at least one.
    pub hosts: Vec<Host>,
    /// The database; the user's name if none is given.
    pub dbname: String,
    /// Whom to connect as.
    pub user: String,
    /// Who knows the password; goes before `password`. No connection string has it.
    pub password_source: Option<PasswordSource>,
    /// The password, unless it is to be found in `passfile`.
    pub password: Option<Secret>,
    /// The password file that was named. Where none was, libpq looks in `~/.pgpass`.
    pub passfile: Option<PathBuf>,
    /// How much TLS is asked for. libpq and lib/pq read `require` beside a `sslrootcert` as `verify-ca`.
    pub sslmode: SslMode,
    /// Who is trusted to sign the server's certificate.
    pub sslrootcert: Option<RootCert>,
    /// The client's certificate.
    pub sslcert: Option<PathBuf>,
    /// The key to `sslcert`.
    pub sslkey: Option<PathBuf>,
    /// How TLS begins.
    pub sslnegotiation: SslNegotiation,
    /// Whether the server's name is sent in clear as TLS begins.
    pub sslsni: bool,
    /// Whether SCRAM is bound to the TLS channel.
    pub channel_binding: ChannelBinding,
    /// Which server of several is acceptable.
    pub target_session_attrs: TargetSessionAttrs,
    /// Whether to try the hosts in random order.
    pub load_balance_hosts: bool,
    /// How long one host may take; `None` is forever.
    pub connect_timeout: Option<Duration>,
    /// The `options` of the startup packet: those given, then each run-time parameter as `-c name=value`.
    pub options: String,
}

/// `host:port,host2:port2/dbname`, for reports: no user, no password.
impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, host) in self.hosts.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{host}")?;
        }
        write!(f, "/{}", self.dbname)
    }
}

impl Conninfo {
    /// Reads a URL or `key=value` pairs. `env` is asked for the variables that libpq falls back to, such as
    /// `PGHOST`. An empty value counts as one that was not given.
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConninfoError> {
        let settings = Settings::read(text, env)?;
        let hosts = settings.hosts()?;
        let user = settings.user()?;
        let sslrootcert = settings.text("sslrootcert", "PGSSLROOTCERT").map(|cert| match cert.as_str() {
            "system" => RootCert::System,
            _ => RootCert::File(cert.into()),
        });
        let sslmode = settings.sslmode(sslrootcert.as_ref())?;
        let sslnegotiation = settings
            .one_of("sslnegotiation", "PGSSLNEGOTIATION", SslNegotiation::ALL)?
            .unwrap_or(SslNegotiation::Postgres);
        // Without the request there is no answer "no TLS" to fall back on.
        let may_go_without = matches!(sslmode, SslMode::Disable | SslMode::Allow | SslMode::Prefer);
        if sslnegotiation == SslNegotiation::Direct && may_go_without {
            return Err(ConninfoError::Value {
                key: "sslmode",
                value: format!("\"{sslmode}\""),
                expected: "require, verify-ca or verify-full beside sslnegotiation=direct".to_owned(),
            });
        }
        Ok(Self {
            hosts,
            dbname: settings.dbname(&user)?,
            user,
            password_source: None,
            password: settings.text("password", "PGPASSWORD").map(Secret),
            passfile: settings.path("passfile", "PGPASSFILE"),
            sslmode,
            sslrootcert,
            sslcert: settings.path("sslcert", "PGSSLCERT"),
            sslkey: settings.path("sslkey", "PGSSLKEY"),
            sslnegotiation,
            sslsni: settings.switch("sslsni", ["0", "1"])?.unwrap_or(true),
            channel_binding: settings
                .one_of("channel_binding", "PGCHANNELBINDING", ChannelBinding::ALL)?
                .unwrap_or(ChannelBinding::Prefer),
            target_session_attrs: settings
                .one_of("target_session_attrs", "PGTARGETSESSIONATTRS", TargetSessionAttrs::ALL)?
                .unwrap_or(TargetSessionAttrs::Any),
            load_balance_hosts: settings
                .switch("load_balance_hosts", ["disable", "random"])?
                .unwrap_or(false),
            connect_timeout: settings.connect_timeout()?,
            options: settings.options(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn no_env(_: &str) -> Option<String> {
        None
    }

    fn parse(text: &str) -> Result<Conninfo, ConninfoError> {
        Conninfo::parse(text, &no_env)
    }

    fn parse_in(text: &str, env: &[(&str, &str)]) -> Result<Conninfo, ConninfoError> {
        Conninfo::parse(text, &|name| {
            env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn error(text: &str) -> String {
        let error = parse(text).expect_err(text).to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    fn tcp(name: &str, port: u16) -> Host {
        Host { host: HostName::Tcp(name.to_owned()), hostaddr: None, port }
    }

    #[test]
    fn both_forms_of_one_connection_are_read_alike() {
        let url = parse(
            "postgres://coder:s%20%27cret@db.internal:6432/coder_db?sslmode=verify-full&connect_timeout=7",
        );
        let keywords = parse(
            "host=db.internal port = 6432 dbname=coder_db user=coder password='s \\'cret'\n \
            sslmode=verify-full connect_timeout=7",
        );
        let conninfo = url.unwrap();
        assert_eq!(keywords.unwrap(), conninfo);
        let expected = Conninfo {
            hosts: vec![tcp("db.internal", 6432)],
            dbname: "coder_db".to_owned(),
            user: "coder".to_owned(),
            password: Some(Secret::from("s 'cret".to_owned())),
            password_source: None,
            passfile: None,
            sslmode: SslMode::VerifyFull,
            sslrootcert: None,
            sslcert: None,
            sslkey: None,
            sslnegotiation: SslNegotiation::Postgres,
            sslsni: true,
            channel_binding: ChannelBinding::Prefer,
            target_session_attrs: TargetSessionAttrs::Any,
            load_balance_hosts: false,
            connect_timeout: Some(Duration::from_secs(7)),
            options: String::new(),
        };
        assert_eq!(conninfo, expected);
    }

    #[test]
    fn the_server_and_the_database_are_read_in_every_form() {
        for (text, expected) in [
            ("postgres://u@h/d", "h:5432/d"),
            ("  postgresql://u@h/d\r\n", "h:5432/d"),
            ("POSTGRES://u@h/d", "h:5432/d"),
            ("postgres://u@", "localhost:5432/u"),
            ("postgres://u@/", "localhost:5432/u"),
            ("postgres://?user=u", "localhost:5432/u"),
            ("postgres:///d?user=u&host=h&port=1", "h:1/d"),
            ("postgres://u@h:5/d?host=other&port=6&dbname=e", "other:6/e"),
            ("postgres://u@:6432/d", "localhost:6432/d"),
            ("postgres://u@h?dbname=d", "h:5432/d"),
            ("postgres://u@h1:1,h2:2/d", "h1:1,h2:2/d"),
            ("postgres://u@h1,h2:2/d", "h1:5432,h2:2/d"),
            ("postgres://u@h1,h2/d?port=7", "h1:7,h2:7/d"),
            ("postgres://u@h1,/d", "h1:5432,localhost:5432/d"),
            ("postgres://u@[::1]/d", "[::1]:5432/d"),
            ("postgres://u@[2001:db8::1]:1,[::2]:2/d", "[2001:db8::1]:1,[::2]:2/d"),
            ("postgres://u@[fe80::1%25eth0]:1/d", "[fe80::1%eth0]:1/d"),
            ("postgres://u@%2Fvar%2Frun:1/d", "/var/run:1/d"),
            ("postgres://u@%68/%64", "h:5432/d"),
            ("postgres:///d?host=/var/run&user=u", "/var/run:5432/d"),
            ("host=/var/run user=u", "/var/run:5432/u"),
            ("host=@abstract user=u", "@abstract:5432/u"),
            ("host=a,b port=1,2 user=u", "a:1,b:2/u"),
            ("host=a,b port=1 user=u", "a:1,b:1/u"),
            ("host=a,b port=,2 user=u", "a:5432,b:2/u"),
            ("host='a, b' user=u", "a:5432,b:5432/u"),
            ("host=::1 user=u", "[::1]:5432/u"),
            ("host=[::1] user=u", "[::1]:5432/u"),
            ("hostaddr=10.0.0.1,::1 user=u", "10.0.0.1:5432,[::1]:5432/u"),
            ("user=u host=a host=b", "b:5432/u"),
            ("user=u host='' port=''", "localhost:5432/u"),
            ("user = 'u'", "localhost:5432/u"),
            ("user=u\tdbname=a\\ b", "localhost:5432/a b"),
        ] {
            let conninfo = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(conninfo.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn a_socket_has_no_server_name_and_an_address_keeps_its_hosts_name() {
        let conninfo =
            parse("host=db.internal,/run,@abstract,,[::1] hostaddr=10.0.0.1,,,10.0.0.4, user=u").unwrap();
        let names: Vec<_> = conninfo.hosts.iter().map(Host::server_name).collect();
        assert_eq!(names, [Some("db.internal"), None, None, Some("10.0.0.4"), Some("::1")]);
        assert_eq!(conninfo.hosts[0].hostaddr, Some([10, 0, 0, 1].into()));
        assert_eq!(conninfo.hosts[1].host, HostName::Unix("/run".into()));
        assert_eq!(conninfo.hosts[4].hostaddr, None);
    }

    #[test]
    fn the_user_and_the_password_are_decoded() {
        for (text, user, password) in [
            ("postgres://u:p@h", "u", Some("p")),
            ("postgres://u@h", "u", None),
            ("postgres://u:@h", "u", None),
            ("postgres://u:a:b@h", "u", Some("a:b")),
            ("postgres://u:a@b@h", "u", Some("a@b")),
            ("postgres://u:a%2Fb%40c%23d%3Fe%25@h", "u", Some("a/b@c#d?e%")),
            ("postgres://u%40tenant:%C3%A9@h", "u@tenant", Some("é")),
            ("postgres://u:a+b@h", "u", Some("a+b")),
            ("postgres://h?user=u&password=a+b%2Bc", "u", Some("a b+c")),
            ("postgres://u:old@h?password=new", "u", Some("new")),
            ("postgres://h/d?user=u&password=p@ss", "u", Some("p@ss")),
            ("user=u password='it\\'s \\\\ ok'", "u", Some("it's \\ ok")),
            ("user=u password=it's", "u", Some("it's")),
            ("user=u password=a\\ b", "u", Some("a b")),
            ("user=u password=''", "u", None),
            ("user=u password=mypassword=1", "u", Some("mypassword=1")),
        ] {
            let conninfo = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(conninfo.user, user, "{text}");
            assert_eq!(conninfo.password.as_ref().map(Secret::expose), password, "{text}");
        }
    }

    #[test]
    fn the_environment_fills_in_what_the_string_leaves_out() {
        let env = [
            ("PGHOST", "/run"),
            ("PGPORT", "6432"),
            ("PGUSER", "me"),
            ("PGDATABASE", "db"),
            ("PGPASSWORD", "pw"),
            ("PGPASSFILE", "/passfile"),
            ("PGSSLMODE", "require"),
            ("PGSSLROOTCERT", "/root.crt"),
            ("PGSSLCERT", "/c.crt"),
            ("PGSSLKEY", "/c.key"),
            ("PGOPTIONS", "-c geqo=off"),
            ("PGTARGETSESSIONATTRS", "primary"),
            ("PGCONNECT_TIMEOUT", "3"),
            ("PGCHANNELBINDING", "require"),
        ];
        let filled = parse_in("postgres://", &env).unwrap();
        let written = "host=/run port=6432 user=me dbname=db password=pw passfile=/passfile sslmode=require \
            sslrootcert=/root.crt sslcert=/c.crt sslkey=/c.key options='-c geqo=off' target_session_attrs=primary \
            connect_timeout=3 channel_binding=require";
        assert_eq!(filled, parse(written).unwrap());
        assert_eq!(filled.password.as_ref().map(Secret::expose), Some("pw"));

        let string = "host=h port=1 user=u dbname=d password=p passfile=/p sslmode=disable sslrootcert=/r sslcert=/s \
            sslkey=/k options=-cjit=off target_session_attrs=any connect_timeout=9 channel_binding=disable";
        assert_eq!(parse_in(string, &env).unwrap(), parse(string).unwrap());
    }

    #[test]
    fn a_user_that_is_not_named_is_the_account() {
        assert_eq!(parse_in("host=h", &[("USER", "a"), ("LOGNAME", "b")]).unwrap().user, "a");
        assert_eq!(parse_in("host=h", &[("USER", ""), ("LOGNAME", "b")]).unwrap().user, "b");
        assert_eq!(parse_in("host=h", &[("PGUSER", "p"), ("USER", "a")]).unwrap().user, "p");
        assert_eq!(parse("host=h"), Err(ConninfoError::NoUser));
    }

    #[test]
    fn a_bad_variable_is_named_as_such() {
        let error = parse_in("user=u", &[("PGSSLMODE", "on")]).unwrap_err().to_string();
        assert!(error.starts_with("`PGSSLMODE` cannot be \"on\": write one of disable, allow"), "{error}");
    }

    #[test]
    fn sslmode_follows_its_short_forms_and_the_root_certificate() {
        for (text, expected) in [
            ("", SslMode::Prefer),
            ("sslmode=disable", SslMode::Disable),
            ("sslmode=allow", SslMode::Allow),
            ("sslmode=verify-ca", SslMode::VerifyCa),
            ("ssl=true", SslMode::Require),
            ("requiressl=1", SslMode::Require),
            ("requiressl=0", SslMode::Prefer),
            ("sslmode=verify-full requiressl=1 ssl=true", SslMode::VerifyFull),
            ("sslrootcert=system", SslMode::VerifyFull),
            ("sslrootcert=system sslmode=verify-full", SslMode::VerifyFull),
            ("sslrootcert=/ca.pem", SslMode::Prefer),
        ] {
            assert_eq!(parse(&format!("user=u {text}")).unwrap().sslmode, expected, "{text}");
        }
        assert_eq!(parse("user=u sslrootcert=system").unwrap().sslrootcert, Some(RootCert::System));
        let file = RootCert::File("/ca.pem".into());
        assert_eq!(parse("user=u sslrootcert=/ca.pem").unwrap().sslrootcert, Some(file));
        assert!(parse_in("user=u sslrootcert=system", &[("PGSSLMODE", "prefer")]).is_err());
    }

    #[test]
    fn the_other_choices_are_read() {
        let text = "user=u sslsni=0 sslnegotiation=direct sslmode=require channel_binding=disable \
            target_session_attrs=prefer-standby load_balance_hosts=random";
        let conninfo = parse(text).unwrap();
        assert!(!conninfo.sslsni);
        assert!(conninfo.load_balance_hosts);
        assert_eq!(conninfo.sslnegotiation, SslNegotiation::Direct);
        assert_eq!(conninfo.channel_binding, ChannelBinding::Disable);
        assert_eq!(conninfo.target_session_attrs, TargetSessionAttrs::PreferStandby);
    }

    #[test]
    fn a_timeout_of_zero_or_less_is_none() {
        for (text, expected) in [("0", None), ("-1", None), ("1", Some(1)), ("' 10 '", Some(10))] {
            let timeout = parse(&format!("user=u connect_timeout={text}")).unwrap().connect_timeout;
            assert_eq!(timeout, expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn run_time_parameters_join_the_options_escaped() {
        for (text, expected) in [
            ("search_path=coder", "-c search_path=coder"),
            ("options='-c geqo=off' TimeZone=UTC", "-c geqo=off -c timezone=UTC"),
            ("search_path='a, b\\\\c'", r"-c search_path=a,\ b\\c"),
            ("search_path='a\tb'", "-c search_path=a\\\tb"),
            ("STATEMENT_TIMEOUT=1 statement_timeout=2", "-c statement_timeout=2"),
            ("options=-csearch_path=x", "-csearch_path=x"),
        ] {
            assert_eq!(parse(&format!("user=u {text}")).unwrap().options, expected, "{text}");
        }
        let url = parse("postgres://u@h/d?options=-c+geqo%3Doff&lock_timeout=1").unwrap();
        assert_eq!(url.options, "-c geqo=off -c lock_timeout=1");
    }

    #[test]
    fn what_does_not_change_the_measurement_is_ignored() {
        let ignored = "keepalives=1 keepalives_idle=3 tcp_user_timeout=1 application_name=a client_encoding=UTF8 \
            gssencmode=disable krbsrvname=k gsslib=g sslcompression=0 ssl_min_protocol_version=TLSv1.2 \
            fallback_application_name=f ssl_max_protocol_version='' binary_parameters=yes requirepeer=p \
            disable_prepared_binary_result=yes pool_max_conns=4 default_query_exec_mode=exec";
        assert_eq!(parse(&format!("user=u {ignored}")), parse("user=u"));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_next_step() {
        for (text, expected) in [
            ("", "the connection string is empty"),
            (" \n", "the connection string is empty"),
            ("mysql://u:pw@h/d", "a `mysql://` URL does not"),
            ("jdbc:postgresql://h/d", "a `jdbc:postgresql://` URL does not"),
            ("\"postgres://u:pw@h/d\"", "remove the quotes"),
            ("user=u sslmod=require", "`sslmod` is not known: did you mean `sslmode`?"),
            ("user=u zzz=1", "`zzz` is not known: remove it"),
            ("user=u sslmode=requre", "`sslmode` cannot be \"requre\": write one of disable, allow, prefer"),
            ("user=u sslmode=require ssl=no sslsni=x", "`sslsni` cannot be \"x\": write one of 0, 1"),
            ("user=u ssl=false", "`ssl` cannot be \"false\": write sslmode=require or"),
            ("user=u requiressl=2", "`requiressl` cannot be \"2\""),
            ("user=u port=0", "`port` cannot be \"0\""),
            ("user=u port=65536", "`port` cannot be \"65536\": write a number from 1 to 65535"),
            ("user=u port=x", "`port` cannot be \"x\""),
            ("user=u host=h:5432", "`host` cannot be \"h:5432\": write a host name or an address alone"),
            ("user=u hostaddr=h", "`hostaddr` cannot be \"h\": write an IP address"),
            ("user=u host=a,b hostaddr=::1", "`hostaddr` has 1 entries for 2 hosts"),
            ("user=u host=a hostaddr=::1,::2", "`host` has 1 entries for 2 hosts"),
            ("user=u host=a,b,c port=1,2", "`port` has 2 entries for 3 hosts"),
            ("user=u host=a port=1,2", "`port` has 2 entries for 1 hosts"),
            (
                "user=u connect_timeout=10s",
                "`connect_timeout` cannot be \"10s\": write a number of whole seconds",
            ),
            (
                "user=u sslrootcert=system sslmode=require",
                "`sslmode` cannot be \"require\": write sslmode=verify-full",
            ),
            ("user=u sslrootcert=system ssl=true", "`ssl` cannot be \"true\": write sslmode=verify-full"),
            ("user=u sslnegotiation=direct", "`sslmode` cannot be \"prefer\": write require"),
            ("user=u sslcrl=/crl", "`sslcrl` is not supported: leave it out"),
            ("user=u service=s", "`service` is not supported: write out host"),
            ("user=u sslpassword=pw", "`sslpassword` is not supported"),
            ("user=u replication=1", "`replication` is not supported"),
            ("user=u require_auth=md5", "`require_auth` is not supported"),
            ("user='u", "no closing quote"),
            ("user=u dbname='a\nb'", "`dbname` cannot be what it is (not shown): write it without control"),
            ("user=u =1", "a parameter (not shown"),
            ("postgres://u@h:0/d", "not a port from 1 to 65535"),
            ("postgres://u@[::1/d", "not an IPv6 address"),
            ("postgres://u@[zz]/d", "not an IPv6 address"),
            ("postgres://u@[::1]x/d", "not an IPv6 address"),
            ("postgres://u@h/%zz", "write a bare `%` as %25"),
            ("postgres://u@h/%00", "holds a NUL"),
            ("postgres://u@h/%ff", "is not UTF-8"),
            ("postgres://u@h/d?sslmode", "has no `=`"),
            ("postgres://u@h/d#x", "a bare `#`"),
        ] {
            let error = error(text);
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_password_with_a_slash_is_refused_without_being_shown() {
        for text in ["postgres://user:hunter/two@host/db", "postgres://user:12/hunter@host/db"] {
            let error = error(text);
            assert!(error.contains("percent-encode") && error.contains("%2F"), "{error}");
            assert!(!error.contains("hunter") && !error.contains("two") && !error.contains("12"), "{error}");
        }
    }

    #[test]
    fn a_broken_string_never_shows_a_piece_of_its_password() {
        for text in [
            "postgres://user:hunter2?x@host/db",
            "postgres://user:1?hunter2=x@host/db",
            "postgres://user:1?x=hunter2@host/db",
            "postgres://user:1?user=u&dbname=hunter2@host/db",
            "postgres://user:1/2?hunter2=x@host/db",
            "postgres://user:hunter2#x@host/db",
            "postgres://user:1#hunter2@host/db",
            "postgres://user:x@y/hunter2@host/db",
            "postgres://user:x@y?hunter2@host/db",
            "postgres://user:hunter2%zz@host/db",
            "postgres://user:hunter2%ff@host/db",
            "postgres://user:hunter2/db",
            "postgres://user:[hunter2/db",
            "postgres://user:pw\nhunter2@host/db",
            "postgres://host/db?user=u&password=a&hunter2=b",
            "postgres://host/db?user=u&password=a&hunter2",
            "postgres://host/db&password=hunter2",
            "postgres://host/db?user=u?password=hunter2",
            "postgres://host/db?user=u;password=hunter2",
            "postgres://u@host/db?sslmode=require;password=hunter2",
            "postgre://user:hunter2@host/db",
            "jdbc:mysql://user:hunter2@host/db",
            "postgres:/user:hunter2@host/db?sslmode=disable",
            "user:hunter2@host/db",
            "user:hunter2@host/db?sslmode=disable",
            "hunter2",
            "hunter2=",
            "hunter2==",
            "host=h password=abc hunter2",
            "host=h password=abc hunter2=x",
            "host=h password=abc hunter2 = x",
            "host=h password='it's hunter2'",
            "host=h password='it'hunter2=x",
            "host=h password='hunter2",
            "host=h passwort=hunter2",
            "host=h port=5432password=hunter2",
            "host=h port=5432;pw=hunter2",
            "host=h sslmode=requirepassword=hunter2",
            "host=h dbname=dpassword=hunter2",
            "user=upassword=hunter2",
            "user= password=hunter2",
            "host= pw=hunter2",
            "host=u:hunter2@h",
            "host=postgres://u:hunter2@h/d",
        ] {
            let error = parse(text).expect_err(text);
            assert!(!error.to_string().contains("hunter2"), "{text}: {error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{text}: {error:?}");
        }
    }

    #[test]
    fn a_misspelt_key_after_the_password_is_still_suggested() {
        let error = error("host=h password=abc sslmod=require");
        assert!(error.contains("not shown") && error.ends_with("did you mean `sslmode`?"), "{error}");
    }

    #[test]
    fn a_secret_is_shown_as_stars() {
        let secret = Secret::from("hunter2".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.expose(), "hunter2");
        let conninfo = parse("postgres://u:hunter2@h/d").unwrap();
        assert!(!format!("{conninfo:#?} {conninfo}").contains("hunter2"));
    }

    /// What libpq, or Go's url.PathEscape, would write.
    fn percent_encoded(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02X}")).collect()
    }

    /// A string with the password `PLANTED` in one of the places for it, and one edit made anywhere outside it.
    fn edited() -> impl Strategy<Value = String> {
        let around = prop::sample::select(vec![
            ("postgres://coder:", "@db:5432/coder?sslmode=require&application_name=x"),
            ("postgresql://coder:", "@[::1]:1,h2:2/coder"),
            ("postgres://db:5432/coder?user=coder&password=", "&sslmode=require"),
            ("host=db port=5432 user=coder password=", " dbname=coder sslmode=require"),
            ("host=db user=coder dbname=coder password='", "' sslmode=require"),
            ("password=", " user=coder"),
        ]);
        let piece = prop_oneof!["[ -~]", "[:/?#@%=&' \\\\\n,;+]", any::<char>().prop_map(String::from)];
        (around, any::<prop::sample::Index>(), 0..2_usize, piece, any::<bool>()).prop_map(
            |((before, after), at, removed, piece, in_the_middle)| {
                let (password, split) = ("PLANTED", 3);
                let text = format!("{before}{password}{after}");
                let mut chars: Vec<char> = text.chars().collect();
                if in_the_middle {
                    chars.splice(before.len() + split..before.len() + split, piece.chars());
                } else {
                    let at = at.index(chars.len() - password.len());
                    let at = if at < before.len() { at } else { at + password.len() };
                    chars.splice(at..at + removed, piece.chars());
                }
                chars.into_iter().collect()
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), form in "(postgres://)?[ -~]{0,40}") {
            for text in [text.as_str(), form.as_str()] {
                if let Err(error) = parse(text) {
                    prop_assert!(!error.to_string().contains('\n'));
                }
            }
        }

        #[test]
        fn one_typing_error_never_shows_the_password(text in edited()) {
            let shown = match parse(&text) {
                // Without its `:` the password is a part of the user, which is no secret.
                Ok(conninfo) if conninfo.user.contains("PLA") => conninfo.to_string(),
                Ok(conninfo) => format!("{conninfo} {conninfo:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!shown.contains("PLA") && !shown.contains("NTED"), "{}", shown);
        }

        #[test]
        fn every_password_can_be_written_in_every_form(password in "[^\0]{1,12}") {
            let encoded = percent_encoded(&password);
            let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
            for text in [
                format!("postgres://u:{encoded}@h/d"),
                format!("postgres://u@h/d?password={encoded}&sslmode=require"),
                format!("user=u password='{quoted}' host=h"),
            ] {
                let conninfo = parse(&text);
                let found = conninfo.as_ref().map(|conninfo| conninfo.password.as_ref().map(Secret::expose));
                prop_assert_eq!(found, Ok(Some(password.as_str())), "{}", text);
            }
        }

        #[test]
        fn the_server_splits_the_options_back_into_the_values(path in "[ -~\t]{1,12}", zone in "[A-Z/ ]{1,8}") {
            prop_assume!(!path.contains("password="));
            let (encoded_path, encoded_zone) = (percent_encoded(&path), percent_encoded(&zone));
            let text = format!("postgres://u@h/d?search_path={encoded_path}&TimeZone={encoded_zone}");
            let words = pg_split_opts(&parse(&text).unwrap().options);
            let (path, zone) = (format!("search_path={path}"), format!("timezone={zone}"));
            prop_assert_eq!(words, ["-c", path.as_str(), "-c", zone.as_str()]);
        }
    }

    /// As in PostgreSQL's src/backend/utils/init/postinit.c.
    fn pg_split_opts(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut chars = text.chars().peekable();
        loop {
            while chars.next_if(char::is_ascii_whitespace).is_some() {}
            if chars.peek().is_none() {
                return words;
            }
            let mut word = String::new();
            while let Some(c) = chars.next_if(|c| !c.is_ascii_whitespace()) {
                word.extend(if c == '\\' { chars.next() } else { Some(c) });
            }
            words.push(word);
        }
    }
}
