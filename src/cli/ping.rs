//! `probe ping`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{IdentityArgs, TargetArgs, duration};

/// `probe ping`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  probe ping coderd-2                          another agent, over QUIC at port 9862
  probe ping tcp://db.internal:5432            a port
  probe ping https://coder.example.com/healthz
  probe ping --postgres-url-file url.txt       a query on a kept connection

It ends after --count slots, or with Ctrl-C, and sums up. Exit code 0 when there was a reply, 1 when there was none,
2 usage or configuration, 3 when nothing could be sent. To judge a path, use `probe check`.")]
pub struct PingArgs {
    /// What is measured; its help stands apart, since rustdoc would take `[:PORT]` for a link.
    #[arg(
        value_name = "TARGET",
        help = "HOST[:PORT] of another agent, tcp://HOST:PORT, an http(s):// address or a postgres:// string"
    )]
    pub target: Option<String>,
    /// How many slots [default: until Ctrl-C]
    #[arg(short, long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub count: Option<u64>,
    /// How long a slot is; 50ms at least, and 500ms where each sample opens a connection
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub interval: Duration,
    /// What round trips are held against instead of Coder's figure for this kind of path
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub budget: Option<Duration>,
    /// Form of the lines on standard output
    #[arg(short, long, value_name = "FORM", default_value = "human")]
    pub output: LineOutput,
    /// Targets.
    #[command(flatten)]
    pub targets: TargetArgs,
    /// Identity.
    #[command(flatten)]
    pub identity: IdentityArgs,
}

/// Forms of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LineOutput {
    /// For people
    Human,
    /// One JSON object a line; see docs/ping.md
    JsonLines,
}
