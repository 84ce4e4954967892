//! TLS to PostgreSQL in all of libpq's modes, and to HTTPS with a name and an authority of one's own.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use probe::demo::cluster::Cluster;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;

use crate::house::{Run, Secret, check_until_told, probe, shared_postgres, sql};

/// An authority with what it signed, as PEM files.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of the tests");
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), directory }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// Certificate (PEM) and key for this name.
    pub(crate) fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        self.issue_until(name, 4096)
    }

    /// The same, which expires when this year begins.
    pub(crate) fn issue_until(&self, name: &str, year: i32) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes both to files and returns their paths.
    pub(crate) fn issue_files(&self, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue(name);
        let paths = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        std::fs::write(&paths.0, certificate.pem()).unwrap();
        std::fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }
}

/// A PostgreSQL with TLS whose certificate is for `localhost`, and roles that may come only in one way.
fn encrypted() -> &'static (Cluster, Authority) {
    static SHARED: OnceLock<(Cluster, Authority)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let authority = Authority::new();
        let cluster = shared_postgres(&[]);
        let data = cluster.directory().join("data");
        let (certificate, key) = authority.issue("localhost");
        install(&data, "server.crt", &certificate.pem());
        install(&data, "server.key", &key.serialize_pem());
        install(&data, "root.crt", &std::fs::read_to_string(authority.path("ca.pem")).unwrap());
        let rules = std::fs::read_to_string(data.join("pg_hba.conf")).unwrap();
        let ours = "hostssl all by_certificate all cert\n\
                    hostnossl all only_encrypted all reject\n\
                    hostssl all only_plain all reject\n";
        install(&data, "pg_hba.conf", &format!("{ours}{rules}"));
        sql(
            &cluster,
            "CREATE ROLE by_certificate LOGIN; CREATE ROLE only_encrypted LOGIN PASSWORD 'p'; CREATE ROLE only_plain LOGIN PASSWORD 'p';",
        );
        for setting in ["ssl_ca_file = 'root.crt'", "ssl = on"] {
            sql(&cluster, &format!("ALTER SYSTEM SET {setting}"));
        }
        reload(&cluster);
        (cluster, authority)
    })
}

fn reload(cluster: &Cluster) {
    sql(cluster, "SELECT pg_reload_conf()");
    let patience = probes::stopwatch::Stopwatch::start();
    while !cluster.log().contains("reloading configuration files") {
        assert!(patience.elapsed() < std::time::Duration::from_secs(10), "{}", cluster.log());
    }
}

fn install(data: &Path, file: &str, contents: &str) {
    let path = data.join(file);
    std::fs::write(&path, contents).unwrap();
    let owner = data.metadata().unwrap();
    // Without being root the files are the tests' own, as the server is.
    let _ = chown(&path, Some(owner.uid()), Some(owner.gid()));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn database(url: &str) -> (Option<i32>, Value) {
    let run = check_until_told(&Secret::new(), &["--postgres", url, "--quick"]);
    (run.code, run.target())
}

#[test]
fn every_sslmode_does_what_libpq_says_it_does() {
    let (cluster, authority) = encrypted();
    let stranger = Authority::new();
    let (ca, other) = (authority.path("ca.pem"), stranger.path("ca.pem"));
    let (ca, other) = (ca.display(), other.display());
    let (password, port) = (cluster.password(), cluster.port());
    // (user, host, parameters, what comes of it: encrypted or the reason of the failure)
    let cases: &[(&str, &str, String, Result<bool, &str>)] = &[
        ("probe", "localhost", "sslmode=disable".into(), Ok(false)),
        ("probe", "localhost", "sslmode=allow".into(), Ok(false)),
        ("probe", "localhost", "sslmode=prefer".into(), Ok(true)),
        ("probe", "localhost", String::new(), Ok(true)),
        ("probe", "localhost", "sslmode=require".into(), Ok(true)),
        ("probe", "127.0.0.1", format!("sslmode=require&sslrootcert={other}"), Err("tls")),
        ("probe", "127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ca}"), Ok(true)),
        ("probe", "127.0.0.1", format!("sslmode=verify-ca&sslrootcert={other}"), Err("tls")),
        ("probe", "localhost", format!("sslmode=verify-full&sslrootcert={ca}"), Ok(true)),
        ("probe", "127.0.0.1", format!("sslmode=verify-full&sslrootcert={ca}"), Err("tls")),
        ("probe", "localhost", "sslmode=verify-full&sslrootcert=system".into(), Err("tls")),
        (
            "probe",
            "localhost",
            format!("sslmode=verify-full&sslrootcert={ca}&channel_binding=require"),
            Ok(true),
        ),
        ("only_encrypted", "localhost", "sslmode=allow".into(), Ok(true)),
        ("only_encrypted", "localhost", "sslmode=disable".into(), Err("auth")),
        ("only_plain", "localhost", "sslmode=prefer".into(), Ok(false)),
        ("only_plain", "localhost", "sslmode=require".into(), Err("auth")),
    ];
    std::thread::scope(|scope| {
        for (user, host, parameters, expected) in cases {
            scope.spawn(move || {
                let password = if *user == "probe" { password } else { "p" };
                let url = format!("postgres://{user}:{password}@{host}:{port}/postgres?{parameters}");
                let (_, target) = database(&url);
                let case = format!("{user}@{host} {parameters}: {target:#}");
                match expected {
                    Ok(encrypted) => {
                        assert_eq!(target["verdict"], "pass", "{case}");
                        assert_eq!(target["encrypted"], *encrypted, "{case}");
                        assert_eq!(target["connect_us"]["tls"].is_number(), *encrypted, "{case}");
                    }
                    Err(reason) => {
                        assert_eq!(
                            (&target["verdict"], &target["reason"]),
                            (&"fail".into(), &(*reason).into()),
                            "{case}"
                        );
                    }
                }
            });
        }
    });
}

#[test]
fn a_client_certificate_logs_in_where_the_server_asks_for_one() {
    let (cluster, authority) = encrypted();
    let (cert, key) = authority.issue_files("by_certificate");
    let url = format!(
        "host=localhost port={} user=by_certificate dbname=postgres sslmode=require sslcert='{}' sslkey='{}'",
        cluster.port(),
        cert.display(),
        key.display()
    );
    let (code, target) = database(&url);
    assert_eq!((code, &target["encrypted"]), (Some(0), &Value::Bool(true)), "{target:#}");
    let (code, target) = database(&format!(
        "host=localhost port={} user=by_certificate dbname=postgres sslmode=require",
        cluster.port()
    ));
    assert_eq!((code, target["verdict"].as_str()), (Some(1), Some("fail")), "without it: {target:#}");
}

#[test]
fn a_server_without_tls_is_an_error_where_tls_is_demanded_and_said_where_it_is_preferred() {
    let plain = crate::house::postgres();
    let with = |mode: &str| plain.url().replace("sslmode=disable", &format!("sslmode={mode}"));
    for mode in ["require", "verify-full"] {
        let (code, target) = database(&with(mode));
        assert_eq!((code, target["reason"].as_str()), (Some(1), Some("tls")), "{target:#}");
        assert!(target["detail"].as_str().unwrap().contains("offers no TLS"), "{target:#}");
    }
    let run = Run::of(&mut probe(&["check", "--postgres", &with("prefer"), "--quick"]));
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    assert!(run.stdout.contains("not encrypted"), "{}", run.stdout);
}

#[test]
fn a_password_may_come_from_a_file_and_the_first_host_that_fits_is_taken() {
    let plain = crate::house::postgres();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pgpass");
    std::fs::write(&file, format!("*:{}:*:probe:{}\n", plain.port(), plain.password())).unwrap();
    let closed = crate::house::closed_port();
    let url = format!(
        "host=127.0.0.1,127.0.0.1 port={closed},{} user=probe dbname=postgres sslmode=disable passfile='{}'",
        plain.port(),
        file.display()
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (_, target) = database(&url);
    assert_eq!(target["reason"], "auth", "a file that others can read is not used: {target:#}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    for (attributes, passes) in [
        ("any", true),
        ("read-write", true),
        ("primary", true),
        ("prefer-standby", true),
        ("standby", false),
        ("read-only", false),
    ] {
        let (code, target) = database(&format!("{url} target_session_attrs={attributes}"));
        assert_eq!(code, Some(if passes { 0 } else { 1 }), "{attributes}: {target:#}");
        if !passes {
            assert!(target["detail"].as_str().unwrap().contains("target_session_attrs"), "{target:#}");
        }
    }
}

#[test]
fn https_is_checked_against_the_given_name_and_authority() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("coder.example.com");
    let address = https_server(certificate.der().clone(), &key);
    let ca = authority.path("ca.pem");
    let url = format!("https://{address}/derp/latency-check");
    let ask = |more: &[&str]| {
        let mut arguments = vec!["--http", url.as_str(), "--quick"];
        arguments.extend(more);
        let run = check_until_told(&Secret::new(), &arguments);
        (run.code, run.target())
    };
    let ca = ca.to_str().unwrap();
    let (code, target) = ask(&["--http-ca", ca, "--http-sni", "coder.example.com"]);
    assert_eq!(code, Some(0), "{target:#}");
    assert_eq!(target["encrypted"], true);
    assert!(target["connect_us"]["tls"].as_f64().unwrap() > 0.0, "{target:#}");
    for wrong in [&["--http-ca", ca][..], &["--http-sni", "coder.example.com"]] {
        let (code, target) = ask(wrong);
        assert_eq!((code, target["reason"].as_str()), (Some(1), Some("tls")), "{wrong:?}: {target:#}");
    }
}

/// Answers 200 with an empty body, as coderd's relay does.
fn https_server(certificate: CertificateDer<'static>, key: &KeyPair) -> std::net::SocketAddr {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(probes::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            // A client that does not believe us leaves in the middle of the handshake.
            if stream.read(&mut [0; 4096]).is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    address
}

#[test]
fn agents_with_certificates_of_their_own_believe_their_authority_and_no_other() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let files = |authority: &Authority, name: &str| {
        let (cert, key) = authority.issue_files(name);
        [
            "--tls-cert",
            cert.to_str().unwrap(),
            "--tls-key",
            key.to_str().unwrap(),
            "--tls-ca",
            authority.path("ca.pem").to_str().unwrap(),
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let mut command = probe(&["agent", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"]);
    let agent = crate::house::Agent::with(command.args(files(&authority, "agent-a.example")));
    let peer = agent.reflector.to_string();
    let ask = |identity: Vec<String>, name: &[&str]| {
        let mut command = probe(&["check", "-o", "json", "--peer", &peer, "--quick"]);
        let run = Run::of(command.args(identity).args(name));
        (run.code, run.target())
    };
    let (code, target) = ask(files(&authority, "agent-b.example"), &["--tls-server-name", "agent-a.example"]);
    assert_eq!(code, Some(0), "{target:#}");
    let (_, target) = ask(files(&authority, "agent-b.example"), &[]);
    assert_eq!(target["reason"], "auth", "the certificate is not for 127.0.0.1: {target:#}");
    let (_, target) = ask(files(&stranger, "agent-c.example"), &["--tls-server-name", "agent-a.example"]);
    assert_eq!(target["reason"], "auth", "{target:#}");
}
