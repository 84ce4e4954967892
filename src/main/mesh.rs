//! The commands that ask a running agent.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use probe::cli::{CheckArgs, FailOn, MatrixArgs, MatrixOutput, Output, ReportArgs, ReportOutput, Shown};
use probe::client::{self, AskError};
use probe::config::{self, ConfigError};
use probe::export::matrix::{self, Figure, View};
use probe::{check, report};

use super::{INCONCLUSIVE, colour, env, fail, print};

pub(crate) async fn check_running(agent: &str, args: &CheckArgs) -> anyhow::Result<u8> {
    let settings = config::ask(agent, &args.ask)?;
    match check::running::check(&settings, args.time_limit.unwrap_or_default()).await {
        Ok(running) => {
            print(&match args.output {
                Output::Human => running.text(colour()),
                Output::Json => running.json()?,
            })?;
            Ok(running.exit_code(args.fail_on == FailOn::Warning))
        }
        Err(error) => no_answer(error),
    }
}

pub(crate) async fn run_matrix(args: MatrixArgs) -> anyhow::Result<u8> {
    const AGAIN: Duration = Duration::from_secs(2);
    let settings = config::ask(&args.agent, &args.ask)?;
    let in_place = args.watch && io::stdout().is_terminal();
    loop {
        let text = match mesh_text(&settings, &args).await {
            Ok(text) => text,
            // Who watches sees it come back; a program that reads along is told elsewhere.
            Err(error) if in_place => format!("{error}\n"),
            Err(error) if args.watch => {
                fail(&error.into());
                String::new()
            }
            Err(error) => return no_answer(error),
        };
        // Home, the text, and nothing of what was there before: without a moment of emptiness.
        let text = if in_place { format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")) } else { text };
        if !args.watch || io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()).is_err()
        {
            return print(if args.watch { "" } else { &text }).map(|()| 0);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn mesh_text(settings: &client::Settings, args: &MatrixArgs) -> Result<String, AskError> {
    const PATH: &str = "/api/v1/matrix";
    let figure = match args.show {
        Shown::P50 => Figure::P50,
        Shown::P95 => Figure::P95,
        Shown::P99 => Figure::P99,
        Shown::Loss => Figure::Loss,
    };
    Ok(match args.output {
        MatrixOutput::Json => client::text(settings, PATH).await? + "\n",
        MatrixOutput::Markdown => matrix::markdown(&client::get(settings, PATH).await?, figure),
        MatrixOutput::Human => {
            let view = View { figure, zones: args.zones, width: width(), colour: colour() };
            matrix::render(&client::get(settings, PATH).await?, view)
        }
    })
}

pub(crate) async fn run_report(args: ReportArgs) -> anyhow::Result<u8> {
    let settings = config::ask(&args.agent, &args.ask)?;
    let report = match report::ask(&settings).await {
        Ok(report) => report,
        Err(error) => return no_answer(error),
    };
    print(&match args.output {
        ReportOutput::Html => report.html(&probes::secret::random_hex(16)?)?,
        ReportOutput::Markdown => report.markdown(),
        ReportOutput::Json => report.json()?,
    })?;
    Ok(0)
}

/// How many characters fit into a line of standard output; a file takes all.
fn width() -> usize {
    let said = env("COLUMNS").and_then(|columns| columns.parse().ok());
    let seen = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    said.or(seen).filter(|columns| *columns > 0).unwrap_or(usize::MAX)
}

/// A wrong token or address is the user's to mend; a silent agent leaves everything open.
fn no_answer(error: AskError) -> anyhow::Result<u8> {
    match error {
        AskError::Silent { .. } | AskError::Foreign { .. } => {
            fail(&error.into());
            Ok(INCONCLUSIVE)
        }
        _ => Err(ConfigError::Value { key: "AGENT".to_owned(), cause: error.to_string() }.into()),
    }
}
