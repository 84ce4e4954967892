//! `probe check`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{
    AskArgs, DiscoveryArgs, FailOn, IdentityArgs, MetricsArgs, Output, TargetArgs, duration, quantile,
};

/// `probe check`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  probe check --postgres-url-file url.txt --peer coderd-1=coderd --peer coderd-2=coderd
  probe check --tcp db.internal:5432 --http http://10.0.0.7:8080/healthz -o json
  probe check --peer coderd-1 --fail-on never       report, but never stop a deployment
  probe check --plan aws/us-east-1=coderd aws/us-west-2=postgres     before anything is deployed
  probe check --agent coderd-1:9863                  judge a mesh that runs already, from outside
  helm template coder coder-v2/coder -f values.yaml | probe check --manifests -

Exit codes: 0 pass · 1 at least one target fails or cannot be reached · 2 usage or configuration ·
3 inconclusive (no target, too few samples, own noise) · 130/143 stopped by a signal.
`--fail-on never` turns 1, 2 and 3 into 0.")]
pub struct CheckArgs {
    /// Targets.
    #[command(flatten)]
    pub targets: TargetArgs,

    /// A round trip that takes this long or longer is over the budget [default: 10ms]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Judgement")]
    pub budget: Option<Duration>,
    /// The share of round trips that must stay below the budget
    #[arg(long, value_name = "SHARE", default_value = "0.95", value_parser = quantile, help_heading = "Judgement")]
    pub quantile: f64,
    /// How long each target is measured at most [default: 60s, or as long as its rate needs for a pass; an answer may
    /// come after 12s, a fail beyond doubt after 3s]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Judgement", conflicts_with_all = ["quick", "thorough"])]
    pub time_limit: Option<Duration>,
    /// About 2 s, and only the median: enough to tell another continent, not to pass a budget
    #[arg(long, help_heading = "Judgement", conflicts_with = "thorough")]
    pub quick: bool,
    /// 5 minutes, with p99
    #[arg(long, help_heading = "Judgement")]
    pub thorough: bool,
    /// What this machine stands beside: coderd, postgres, proxy, provisioner or standby. Links of proxies and
    /// provisioners are measured for information only
    #[arg(long, value_name = "ROLE", env = "PROBE_ROLE", help_heading = "Judgement")]
    pub role: Option<String>,
    /// Measure nothing, and judge where things would stand: one or more regions, each with what would run there
    /// (coderd, postgres, standby, proxy or provisioner), like aws/us-east-1=coderd aws/us-west-2=postgres. Targets
    /// are left alone
    #[arg(
        long,
        value_name = "PROVIDER/REGION=ROLE",
        num_args = 1..,
        help_heading = "Judgement",
        conflicts_with_all = ["quick", "thorough", "time_limit", "postgres", "http_sni", "http_ca"]
    )]
    pub plan: Vec<String>,
    /// Measure nothing, and judge a rendered deployment: a file of Kubernetes YAML or JSON, a directory of such files, or -
    /// for standard input. May be given several times. Targets are left alone
    #[arg(
        long,
        value_name = "DIR|FILE|-",
        help_heading = "Judgement",
        conflicts_with_all = ["plan", "quick", "thorough", "time_limit", "postgres", "http_sni", "http_ca"]
    )]
    pub manifests: Vec<PathBuf>,
    /// Measure nothing, and judge a mesh that runs already by what its agents have measured: any of them, HOST, HOST:PORT or an
    /// http(s):// address. Targets are left alone; with --time-limit it waits so long for an answer
    #[arg(
        long,
        value_name = "AGENT",
        help_heading = "Judgement",
        conflicts_with_all = ["plan", "manifests", "quick", "thorough", "budget", "quantile", "postgres", "http_sni", "http_ca"]
    )]
    pub agent: Option<String>,
    /// What makes the exit code other than 0
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "breach",
        env = "PROBE_FAIL_ON",
        help_heading = "Judgement"
    )]
    pub fail_on: FailOn,
    /// Form of the report on standard output
    #[arg(short, long, value_name = "FORM", default_value = "human")]
    pub output: Output,

    /// Coder's own metrics.
    #[command(flatten)]
    pub metrics: MetricsArgs,
    /// Discovery.
    #[command(flatten)]
    pub discovery: DiscoveryArgs,
    /// Identity.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Access to a running agent.
    #[command(flatten)]
    pub ask: AskArgs,
}
