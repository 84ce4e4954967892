//! The front door: arguments in, exit code out.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use probe::check::Progress;
use probe::cli::{
    self, AgentArgs, CheckArgs, Cli, Command, DemoArgs, DemoStory, FailOn, LineOutput, Output, PingArgs,
    SecretCommand,
};
use probe::config::{self, ConfigError};
use probe::demo::{Length, Story, Word};
use probe::export::ping::Line;
use probe::export::text::Colour;
use probe::export::{json, text};
use probe::mesh::report::Report;
use probe::{agent, check, demo, manifests, ping, plan};
use probes::secret::MeshSecret;
use tokio::signal::unix::{SignalKind, signal};

#[path = "main/mesh.rs"]
mod mesh;

use mesh::{check_running, run_matrix, run_report};

const USAGE: u8 = 2;
const INCONCLUSIVE: u8 = 3;
const STOPS_WITHIN: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let never_fails = cli::asks_never_to_fail(&arguments, env("PROBE_FAIL_ON").as_deref());
    let code = match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(error) => {
            // Help and version are answers, not errors. A closed pipe is nobody's fault.
            let _ = error.print();
            u8::try_from(error.exit_code()).unwrap_or(USAGE)
        }
    };
    ExitCode::from(if never_fails && code < 128 { 0 } else { code })
}

fn run(cli: Cli) -> u8 {
    log_to_stderr(&cli.command);
    if let Command::Check(args) = &cli.command
        && !args.manifests.is_empty()
    {
        // It waits for nothing but files and a pipe, so a signal may simply end it.
        return run_manifests(args).unwrap_or_else(|error| fail(&error));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start")),
    };
    // The demo's thread may be setting up a server, which it takes down again when it is through.
    let takes_down = matches!(cli.command, Command::Demo(_));
    let result = runtime.block_on(async {
        match cli.command {
            Command::Check(args) => until_signal(run_check(args)).await,
            Command::Matrix(args) => until_signal(run_matrix(args)).await,
            Command::Report(args) => until_signal(run_report(args)).await,
            Command::Ping(args) => run_ping(&args).await,
            Command::Demo(args) => run_demo(args).await,
            Command::Agent(args) => {
                let settings = config::agent(&args, &env)?;
                let reload = reload(args)?;
                let ran = agent::run(settings, reload, stop_signal()).await;
                ran.map_err(as_agent_configuration)?;
                Ok(0)
            }
            Command::Secret(args) => match args.command {
                SecretCommand::New => print(&format!("{}\n", MeshSecret::generate_hex()?)).map(|()| 0),
            },
        }
    });
    let code = result.unwrap_or_else(|error| fail(&error));
    if takes_down {
        drop(runtime);
    } else {
        // A thread that waits for a file or a name server must not keep a process alive that is done.
        runtime.shutdown_timeout(STOPS_WITHIN);
    }
    code
}

async fn run_check(args: CheckArgs) -> anyhow::Result<u8> {
    if !args.plan.is_empty() {
        return run_plan(&args);
    }
    if let Some(agent) = &args.agent {
        return check_running(agent, &args).await;
    }
    let settings = config::check(&args, &env)?;
    let line = ProgressLine::over("measuring");
    let measured = check::run(settings, line.updater()).await;
    line.clear();
    let report = match measured.map_err(as_configuration) {
        Ok(report) => report,
        Err(error) if error.downcast_ref::<ConfigError>().is_some() => return Err(error),
        Err(error) => {
            // Our own machine is at fault, so nothing is known about any target.
            fail(&error);
            return Ok(INCONCLUSIVE);
        }
    };
    print(&dress(&report, args.output)?)?;
    Ok(check::exit_code(&report, args.fail_on == FailOn::Warning))
}

fn run_plan(args: &CheckArgs) -> anyhow::Result<u8> {
    let plan = plan::judge(&config::plan(args)?);
    print(&match args.output {
        Output::Human => plan::render_text(&plan, colour()),
        Output::Json => plan::render_json(&plan)?,
    })?;
    Ok(plan.exit_code(args.fail_on == FailOn::Warning))
}

fn run_manifests(args: &CheckArgs) -> anyhow::Result<u8> {
    let (settings, sources) = config::manifests(args, &env)?;
    let judged = manifests::judge(&sources, &settings)
        .map_err(|error| ConfigError::Value { key: "--manifests".to_owned(), cause: error.to_string() })?;
    print(&match args.output {
        Output::Human => manifests::text::render(&judged, colour()),
        Output::Json => manifests::json::render(&judged)?,
    })?;
    Ok(judged.exit_code(args.fail_on == FailOn::Warning))
}

async fn run_ping(args: &PingArgs) -> anyhow::Result<u8> {
    let settings = config::ping(args, &env)?;
    let colour = colour();
    let show = |line: Line<'_>| {
        let text = match args.output {
            LineOutput::Human => Ok(line.human(colour)),
            LineOutput::JsonLines => line.json(),
        };
        // A reader that went away has seen enough.
        text.is_ok_and(|text| writeln!(io::stdout(), "{text}").and_then(|()| io::stdout().flush()).is_ok())
    };
    let sum = ping::run(settings, show, stop_signal()).await.map_err(as_configuration)?;
    print(&match args.output {
        LineOutput::Human => sum.human(),
        LineOutput::JsonLines => sum.json()?,
    })?;
    Ok(sum.exit_code())
}

async fn run_demo(args: DemoArgs) -> anyhow::Result<u8> {
    let settings = demo::Settings {
        postgres_bin: args.postgres_bin,
        story: match args.story {
            DemoStory::Calm => Story::Calm,
            DemoStory::SlowLink => Story::SlowLink,
            DemoStory::ReplicaLeaves => Story::ReplicaLeaves,
            DemoStory::All => Story::All,
        },
        length: match args.length {
            Some(length) => Length::For(length),
            None if io::stdout().is_terminal() => Length::UntilStopped,
            None => Length::OnePass,
        },
        is_verbose: args.verbose,
    };
    let line = ProgressLine::over("");
    let mut say = |word: Word<'_>| match word {
        Word::Line(text) => {
            line.clear();
            tell(text);
        }
        Word::Meanwhile(text) => line.show(text),
    };
    let ended = demo::run(settings, &mut say, signalled()?).await;
    line.clear();
    let ended = ended?;
    print(&match args.output {
        Output::Human => ended.report.to_text(colour()),
        Output::Json => ended.report.to_json()?,
    })?;
    Ok(ended.exit_code())
}

/// A target that cannot be measured with what was given is a fault of the configuration, not of the target.
fn as_configuration(error: probe::agent::measuring::MeasuringError) -> anyhow::Error {
    use probe::agent::measuring::MeasuringError;
    match error {
        MeasuringError::Kit(_) | MeasuringError::Tls(_) | MeasuringError::NoIdentity => {
            anyhow::Error::new(ConfigError::Value { key: "targets".to_owned(), cause: error.to_string() })
        }
        other => anyhow::Error::new(other),
    }
}

fn dress(report: &Report, output: Output) -> anyhow::Result<String> {
    Ok(match output {
        Output::Human => text::render(report, colour()),
        Output::Json => json::render(report)?,
    })
}

fn colour() -> Colour {
    Colour::choose(io::stdout().is_terminal(), &env)
}

/// Runs to the end, or to the first SIGINT or SIGTERM, whichever comes first.
async fn until_signal(work: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    let signalled = signalled()?;
    tokio::select! {
        result = work => result,
        code = signalled => Ok(code),
    }
}

/// The exit code of the first SIGINT or SIGTERM from now on.
fn signalled() -> io::Result<impl Future<Output = u8>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
        }
    })
}

/// How the agent reads its settings anew, on SIGHUP or when its file changes.
fn reload(args: AgentArgs) -> anyhow::Result<agent::Reload> {
    let (demand, demands) = tokio::sync::mpsc::channel(1);
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            // One that waits already stands for this one too.
            let _ = demand.try_send(());
        }
    });
    let file = args.config.clone();
    let load = Box::new(move || config::agent(&args, &env).map_err(|error| error.to_string()));
    Ok(agent::Reload { file, load, demands })
}

fn as_agent_configuration(error: agent::AgentError) -> anyhow::Error {
    match error {
        agent::AgentError::Measuring(error) => as_configuration(error).context("the agent cannot run"),
        agent::AgentError::Access(error) => {
            anyhow::Error::new(ConfigError::Value { key: error.key.to_owned(), cause: error.cause })
        }
        error @ (agent::AgentError::Web { .. } | agent::AgentError::Spool(_)) => {
            anyhow::Error::new(error).context("the agent cannot run")
        }
    }
}

/// Done when this process is told to stop. It listens from the call on, not only once it is awaited: a signal that comes while
/// the agent is still starting must not end it without a goodbye.
fn stop_signal() -> impl Future<Output = ()> {
    let both = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = both else {
            tracing::error!("signals cannot be caught; stop this process by its pid");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

fn fail(error: &anyhow::Error) -> u8 {
    tell(&format!("error: {error:#}"));
    if error.downcast_ref::<ConfigError>().is_some() { USAGE } else { 1 }
}

/// Results. A reader that went away (`| head`) is success.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write the result"),
    }
}

/// Messages.
fn tell(line: &str) {
    // There is nowhere left to complain to.
    let _ = writeln!(io::stderr(), "{line}");
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn log_to_stderr(command: &Command) {
    let default = match command {
        Command::Agent(_) => "info,quinn=error,quinn_proto=error",
        // What its agents find is the story, which is told once.
        Command::Demo(_) => "error",
        _ => "warn,quinn=error,quinn_proto=error",
    };
    let filter = env("PROBE_LOG").unwrap_or_else(|| default.to_owned());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match command {
        Command::Agent(args) if config::log_format(args, &env) == Output::Json => {
            // Without the module's path, whose key would be that of the target which a line is about.
            lines.json().flatten_event(true).with_target(false).init();
        }
        _ => lines.init(),
    }
}

/// One line on a terminal that is rewritten as slots come in; silent elsewhere.
struct ProgressLine {
    text: String,
    shown: bool,
}

impl ProgressLine {
    fn over(text: &str) -> Self {
        Self { text: text.to_owned(), shown: io::stderr().is_terminal() }
    }

    fn updater(&self) -> impl FnMut(Progress) + Send + 'static {
        let (text, shown, mut last) = (self.text.clone(), self.shown, u64::MAX);
        move |state| {
            let second = state.elapsed.as_secs();
            if shown && second != last {
                last = second;
                let _ = write!(
                    io::stderr(),
                    "\r\x1b[K{text}: {second} s, {} of {} targets have their answer",
                    state.done,
                    state.targets
                );
            }
        }
    }

    /// Something that is so for the moment. A longer text would fill more than one line, which cannot be cleared.
    fn show(&self, text: &str) {
        if self.shown {
            let text: String = text.chars().take(76).collect();
            let _ = write!(io::stderr(), "\r\x1b[K… {text}");
        }
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
