//! The command line: clap's shapes, turned into settings by [`crate::config`] and then forgotten.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod check;
mod mesh;
mod ping;

pub use check::CheckArgs;
pub use mesh::{AskArgs, MatrixArgs, MatrixOutput, ReportArgs, ReportOutput, Shown};
pub use ping::{LineOutput, PingArgs};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "probe",
    version,
    about = "Measures and judges the latencies that Coder's scaling guide demands",
    long_about = "Measures the round trips between coderd replicas and PostgreSQL and judges them against the 10 ms \
                  that Coder's scaling guide demands.",
    after_help = "Examples:
  probe demo                                          see it work: a small deployment on this machine
  probe check --postgres-url-file url.txt             is the database close enough?
  probe check --peer coderd-1 --peer coderd-2         are the other replicas?
  probe secret new > mesh-secret                      make the secret that the agents share"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure once and judge: exit code 0 pass, 1 fail, 2 usage or configuration, 3 inconclusive
    Check(CheckArgs),
    /// Measure all the time, say when a link's state changes, and answer the echoes of other agents
    Agent(AgentArgs),
    /// Show the whole mesh as any agent of it sees it
    Matrix(MatrixArgs),
    /// Write what an agent knows of the whole mesh as one file, for a ticket
    Report(ReportArgs),
    /// Watch one path live: a line for each round trip
    Ping(PingArgs),
    /// Show it all on this machine, with a story; no configuration
    Demo(DemoArgs),
    /// Make a mesh secret
    Secret(SecretArgs),
}

/// Who we are in the mesh.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Identity in the mesh")]
pub struct IdentityArgs {
    /// File with the mesh secret that all agents share (`probe secret new` makes one); the secret itself may also
    /// stand in PROBE_MESH_SECRET. Of several, one a line, the first is who we are, and all are believed
    #[arg(long, value_name = "FILE", env = "PROBE_MESH_SECRET_FILE")]
    pub mesh_secret_file: Option<PathBuf>,
    /// Certificate chain of this agent, PEM, instead of a mesh secret
    #[arg(long, value_name = "FILE", env = "PROBE_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of this agent, PEM
    #[arg(long, value_name = "FILE", env = "PROBE_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// Authorities that the other agents' certificates come from, PEM
    #[arg(long, value_name = "FILE", env = "PROBE_TLS_CA")]
    pub tls_ca: Option<PathBuf>,
    /// Name that the other agents' certificates carry; without it, the host that is dialled
    #[arg(long, value_name = "NAME", env = "PROBE_TLS_SERVER_NAME")]
    pub tls_server_name: Option<String>,
    /// Encrypt, but let anybody echo with us and pose as a peer. For experiments only
    #[arg(long)]
    pub insecure_no_auth: bool,
}

/// What is measured.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Targets")]
pub struct TargetArgs {
    /// PostgreSQL to measure, as URL or key=value string. It may hold a password, which is never printed but can be
    /// seen in the process list: prefer --postgres-url-file or CODER_PG_CONNECTION_URL [env: CODER_PG_CONNECTION_URL]
    #[arg(long, value_name = "URL")]
    pub postgres: Vec<String>,
    /// File that holds such a string
    #[arg(long, value_name = "FILE", env = "PROBE_POSTGRES_URL_FILE", value_delimiter = ',')]
    pub postgres_url_file: Vec<PathBuf>,
    /// File whose first line is the password of these databases, read anew at each connect; goes before a password in
    /// the string
    #[arg(long, value_name = "FILE", env = "PROBE_POSTGRES_PASSWORD_FILE")]
    pub postgres_password_file: Option<PathBuf>,
    /// Program whose first printed line is that password, run at each connect for at most 10 s, as for the tokens of a
    /// cloud: 'aws rds generate-db-auth-token …'. Words and quotes as in a shell, but without one
    #[arg(long, value_name = "COMMAND", env = "PROBE_POSTGRES_PASSWORD_COMMAND", hide_env_values = true)]
    pub postgres_password_command: Option<String>,
    /// Another agent to echo with; port 9862 unless given; role coderd, postgres, proxy or provisioner
    #[arg(long, value_name = "HOST[:PORT][=ROLE[@BUDGET]]", env = "PROBE_PEER", value_delimiter = ',')]
    pub peer: Vec<String>,
    /// TCP port to connect to
    #[arg(long, value_name = "HOST:PORT[=ROLE[@BUDGET]]", env = "PROBE_TCP", value_delimiter = ',')]
    pub tcp: Vec<String>,
    /// Address to GET on a fresh connection, judged from request to first byte
    #[arg(long, value_name = "URL[=ROLE[@BUDGET]]", env = "PROBE_HTTP")]
    pub http: Vec<String>,
    /// Name for the TLS handshake and the certificate of https targets, instead of the URL's host
    #[arg(long, value_name = "NAME")]
    pub http_sni: Option<String>,
    /// Authorities of https targets, PEM, instead of the system's
    #[arg(long, value_name = "FILE")]
    pub http_ca: Option<PathBuf>,
}

/// Who is looked for.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Discovery")]
pub struct DiscoveryArgs {
    /// Where to look for replicas and agents: coder (the tables of Coder's own PostgreSQL, and agents that announce
    /// themselves through it), kubernetes (the endpoints of coderd's and the agents' services), dns:NAME (agents behind a
    /// name, with port and role as --peer has them) or none. An agent looks into Coder's tables by itself where CODER_PG_CONNECTION_URL names the
    /// database
    #[arg(long, value_name = "SOURCE", env = "PROBE_DISCOVER", value_delimiter = ',')]
    pub discover: Vec<String>,
    /// Where other agents reach this one, if that is not the address that it has towards the database
    #[arg(long, value_name = "HOST[:PORT]", env = "PROBE_ADVERTISE", value_delimiter = ',')]
    pub advertise: Vec<String>,
    /// Port of agents beside replicas that cannot announce themselves [default: 9862]
    #[arg(long, value_name = "PORT", env = "PROBE_PEER_PORT")]
    pub peer_port: Option<u16>,
    /// Kubernetes: the namespace of the services, if not this pod's own
    #[arg(long, value_name = "NAME", env = "PROBE_KUBERNETES_NAMESPACE")]
    pub kubernetes_namespace: Option<String>,
    /// Kubernetes: coderd's service; NAMESPACE/NAME where it is in another namespace [default: coder]
    #[arg(long, value_name = "NAME", env = "PROBE_KUBERNETES_CODERD")]
    pub kubernetes_coderd: Option<String>,
    /// Kubernetes: the agents' own service, likewise [default: probe]
    #[arg(long, value_name = "NAME", env = "PROBE_KUBERNETES_AGENTS")]
    pub kubernetes_agents: Option<String>,
    /// Do not ask the cloud's metadata service where this machine stands
    #[arg(long, env = "PROBE_NO_CLOUD_METADATA")]
    pub no_cloud_metadata: bool,
}

/// Coder's own account of itself.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Coder's own metrics")]
pub struct MetricsArgs {
    /// Address of coderd's metrics (CODER_PROMETHEUS_ADDRESS), like http://coderd-1:2112/metrics, to tell whether
    /// slowness is the network's, the database's or coderd's own. In an agent also auto: those of the replica that it
    /// stands beside, at port 2112
    #[arg(
        long,
        value_name = "URL",
        env = "PROBE_CODERD_METRICS",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub coderd_metrics: Vec<String>,
}

/// When `check` ends with something else than 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// When a target fails, or nothing can be said
    Breach,
    /// On warnings too
    Warning,
    /// Never: report only
    Never,
}

/// Forms of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Human,
    /// For programs; see docs/check.md
    Json,
}

/// `probe agent`.
#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    /// TOML file with any of these settings and more: see deploy/probe.toml. Read anew on SIGHUP and when it changes
    #[arg(long, value_name = "FILE", env = "PROBE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Name of this agent in the mesh [default: this machine's name]
    #[arg(long, value_name = "NAME", env = "PROBE_NAME")]
    pub name: Option<String>,
    /// What this agent stands beside: coderd, postgres, proxy, provisioner or standby
    #[arg(long, value_name = "ROLE", env = "PROBE_ROLE")]
    pub role: Option<String>,
    /// Machine, for example the Kubernetes node
    #[arg(long, value_name = "NAME", env = "PROBE_NODE")]
    pub node: Option<String>,
    /// Zone of that machine
    #[arg(long, value_name = "NAME", env = "PROBE_ZONE")]
    pub zone: Option<String>,
    /// Region of that zone
    #[arg(long, value_name = "NAME", env = "PROBE_REGION")]
    pub region: Option<String>,
    /// UDP address of the reflector; its help stands apart, since rustdoc would take `[::]` for a link.
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "PROBE_LISTEN",
        help = "UDP address of the reflector [default: [::]:9862, which serves both families]"
    )]
    pub listen: Option<SocketAddr>,
    /// TCP address for health, metrics and the API [default: 127.0.0.1:9863]
    #[arg(long, value_name = "IP:PORT", env = "PROBE_WEB")]
    pub web: Option<SocketAddr>,
    /// File of a token that everybody has to send who asks that address for more than health
    #[arg(long, value_name = "FILE", env = "PROBE_WEB_TOKEN_FILE")]
    pub web_token_file: Option<PathBuf>,
    /// Certificate of that address with its chain, PEM; without one it is plain HTTP
    #[arg(long, value_name = "FILE", env = "PROBE_WEB_CERTIFICATE")]
    pub web_certificate: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long, value_name = "FILE", env = "PROBE_WEB_KEY")]
    pub web_key: Option<PathBuf>,
    /// Form of the log on standard error [default: human]
    #[arg(long, value_name = "FORM", env = "PROBE_LOG_FORMAT")]
    pub log_format: Option<Output>,
    /// Directory of this agent's own where events wait for the OTLP receiver, so that they outlive a restart [default: memory]
    #[arg(long, value_name = "DIR", env = "PROBE_EVENT_SPOOL")]
    pub event_spool: Option<PathBuf>,
    /// Targets.
    #[command(flatten)]
    pub targets: TargetArgs,
    /// Coder's own metrics.
    #[command(flatten)]
    pub metrics: MetricsArgs,
    /// Discovery.
    #[command(flatten)]
    pub discovery: DiscoveryArgs,
    /// Identity.
    #[command(flatten)]
    pub identity: IdentityArgs,
}

/// `probe demo`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: 0 the agents found all that happened · 1 they did not, or there was no demo · 2 usage ·
130/143 stopped by a signal before the story was told once. What the agents say of the deployment counts for nothing."
)]
pub struct DemoArgs {
    /// What happens
    #[arg(long, value_name = "NAME", default_value = "all")]
    pub story: DemoStory,
    /// End after so long, with the report [default: on a terminal until Ctrl-C, elsewhere when the story has been told once]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub length: Option<Duration>,
    /// Say where each agent answers
    #[arg(short, long)]
    pub verbose: bool,
    /// Where PostgreSQL's initdb, postgres and pg_ctl are, if neither on PATH nor under /usr/lib/postgresql
    #[arg(long, value_name = "DIR")]
    pub postgres_bin: Option<PathBuf>,
    /// Form of the report on standard output
    #[arg(short, long, value_name = "FORM", default_value = "human")]
    pub output: Output,
}

/// What happens in the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DemoStory {
    /// Nothing but a replica in the wrong region
    Calm,
    /// A path gets 12 ms longer, and recovers
    SlowLink,
    /// A replica is killed, and comes back
    ReplicaLeaves,
    /// One after the other
    All,
}

/// `probe secret`.
#[derive(Debug, Clone, Args)]
pub struct SecretArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: SecretCommand,
}

/// `probe secret …`.
#[derive(Debug, Clone, Subcommand)]
pub enum SecretCommand {
    /// Print 32 random bytes as hex: `probe secret new > mesh-secret`
    New,
}

/// A duration with its unit, longer than nothing.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a number with a unit, like 10ms or 30s"))?;
    if duration.is_zero() { Err("it must be longer than nothing".to_owned()) } else { Ok(duration) }
}

/// A share between 0.5 and 0.999.
pub fn quantile(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.5..=0.999).contains(&share) => Ok(share),
        Ok(_) => Err("it must be between 0.5 and 0.999".to_owned()),
        Err(error) => Err(format!("{error}; write a share like 0.95")),
    }
}

/// Whether the raw arguments ask for `--fail-on never`: needed when the rest of them cannot be understood.
pub fn asks_never_to_fail(arguments: &[String], environment: Option<&str>) -> bool {
    let mut asked = environment == Some("never");
    for (index, argument) in arguments.iter().enumerate() {
        if let Some(value) = argument.strip_prefix("--fail-on=") {
            asked = value == "never";
        } else if argument == "--fail-on" {
            asked = arguments.get(index + 1).is_some_and(|value| value == "never");
        }
    }
    asked && arguments.iter().any(|argument| argument == "check")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn never_failing_is_understood_even_in_a_broken_command_line() {
        let asks = |line: &str, environment| {
            let arguments: Vec<_> = line.split(' ').map(str::to_owned).collect();
            asks_never_to_fail(&arguments, environment)
        };
        assert!(asks("probe check --nonsense --fail-on never", None));
        assert!(asks("probe check --fail-on=never --nonsense", None));
        assert!(asks("probe check --nonsense", Some("never")));
        assert!(!asks("probe check --nonsense --fail-on=breach", Some("never")));
        assert!(!asks("probe agent --nonsense", Some("never")));
        assert!(!asks("probe check --fail-on", None));
    }
}
