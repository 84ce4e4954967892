//! `probe matrix` and `probe report`: what a running agent knows of the whole mesh.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// How a running agent is asked.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "The agent that is asked")]
pub struct AskArgs {
    /// File with the token that the agent asks for (its --web-token-file)
    #[arg(long, value_name = "FILE", env = "PROBE_WEB_TOKEN_FILE")]
    pub web_token_file: Option<PathBuf>,
    /// Authorities of its certificate, PEM, instead of the system's, where it is asked at https://
    #[arg(long, value_name = "FILE")]
    pub web_ca: Option<PathBuf>,
}

/// `probe matrix`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  probe matrix                              as the agent on this machine sees it
  probe matrix coderd-1:9863 --watch
  probe matrix https://coderd-1:9863 --show loss -o markdown

Exit codes: 0 shown · 2 usage or configuration · 3 the agent does not answer")]
pub struct MatrixArgs {
    /// Any agent of the mesh: HOST, HOST:PORT or an http(s):// address
    #[arg(value_name = "AGENT", default_value = "127.0.0.1:9863")]
    pub agent: String,
    /// Which figure stands in the cells
    #[arg(long, value_name = "FIGURE", default_value = "p95")]
    pub show: Shown,
    /// Zone by zone instead of agent by agent; by itself where the terminal is too narrow for all agents
    #[arg(long)]
    pub zones: bool,
    /// Show it anew every two seconds, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// Form on standard output
    #[arg(short, long, value_name = "FORM", default_value = "human")]
    pub output: MatrixOutput,
    /// Access.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Figures of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shown {
    /// Median
    P50,
    /// 95th percentile
    P95,
    /// 99th percentile
    P99,
    /// Share without a reply
    Loss,
}

/// Forms of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MatrixOutput {
    /// For people
    Human,
    /// For a ticket
    Markdown,
    /// As the agent answers: docs/api.md
    Json,
}

/// `probe report`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  probe report coderd-1:9863 > mesh.html            one file for a ticket: the page as it is now, which asks nobody
  probe report coderd-1:9863 -o json | jq .findings

Exit codes: 0 written · 2 usage or configuration · 3 the agent does not answer")]
pub struct ReportArgs {
    /// Any agent of the mesh: HOST, HOST:PORT or an http(s):// address
    #[arg(value_name = "AGENT", default_value = "127.0.0.1:9863")]
    pub agent: String,
    /// Form on standard output
    #[arg(short, long, value_name = "FORM", default_value = "html")]
    pub output: ReportOutput,
    /// Access.
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Forms of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportOutput {
    /// One self-contained page
    Html,
    /// For a ticket that takes text
    Markdown,
    /// What the page is made of
    Json,
}
