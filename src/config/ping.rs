//! `probe ping`: one target, however it was named.

use std::time::Duration;

use probes::Target;
use probes::target::Kind;

use super::{ConfigError, Environment, fault, identity, targets};
use crate::cli::{PingArgs, TargetArgs};
use crate::mesh::budget::Budgets;
use crate::ping;

/// So short that nobody feels it where a connection is kept.
const SHORTEST: Duration = Duration::from_millis(50);
/// And where each sample opens one.
const SHORTEST_FRESH: Duration = Duration::from_millis(500);
/// A connect to a NATS port is a line in coderd's log where it is done wrong, and is not meant to be made often.
const SHORTEST_NATS: Duration = Duration::from_secs(60);

/// What `probe ping` needs to run.
pub fn ping(args: &PingArgs, env: Environment<'_>) -> Result<ping::Settings, ConfigError> {
    let mut given = args.targets.clone();
    if let Some(target) = &args.target {
        add(&mut given, target);
    }
    let is_named = [&given.peer, &given.tcp, &given.http, &given.postgres].iter().any(|all| !all.is_empty())
        || !given.postgres_url_file.is_empty();
    // Coderd's own variable is for who names nothing, and an answer to no other question.
    let coders = |name: &str| env(name).filter(|_| name != "CODER_PG_CONNECTION_URL" || !is_named);
    let mut all = targets::targets(&given, &coders)?;
    let (Some((link, target)), true) = (all.pop(), all.is_empty()) else {
        let cause = match all.len() {
            0 => "no target: name one, like `probe ping coderd-2` or `probe ping tcp://db:5432`".to_owned(),
            more => format!("{} targets: ping watches one path; `probe check` takes several", more + 1),
        };
        return Err(fault("TARGET", cause));
    };
    let shortest = match link.kind {
        Kind::Peer | Kind::Postgres => SHORTEST,
        Kind::Tcp | Kind::Http | Kind::Relay => SHORTEST_FRESH,
        Kind::Nats => SHORTEST_NATS,
    };
    if args.interval < shortest {
        let [asked, shortest] = [args.interval, shortest].map(humantime::format_duration);
        return Err(fault(
            "--interval",
            format!("{asked} is too often for this target: {shortest} at least"),
        ));
    }
    let budgets = args.budget.map_or(Budgets::default(), |limit| Budgets::default().with_limit(limit));
    let limit = args.budget.map(Some).or(link.limit).unwrap_or_else(|| budgets.limit(None, link.role));
    let identity = match &target {
        Target::Peer(_) => Some(identity(&args.identity, env)?),
        _ => None,
    };
    Ok(ping::Settings {
        link,
        target,
        limit,
        count: args.count,
        interval: args.interval,
        measuring: ping::MeasuringSettings {
            identity,
            listen: None,
            http_sni: given.http_sni,
            http_ca: given.http_ca,
        },
    })
}

/// By its scheme; without one it is another agent.
fn add(targets: &mut TargetArgs, text: &str) {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("tcp") => targets.tcp.push(text["tcp://".len()..].to_owned()),
        Some("http" | "https") => targets.http.push(text.to_owned()),
        // Any other scheme is the database's parser's to refuse, which shows no secret.
        Some(_) => targets.postgres.push(text.to_owned()),
        None => targets.peer.push(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    const SECRET: &str = "8f1d3c5b7a99e0426d83c1f7b5a49e0d2c6b8a7f9e1d3c5b7a99e0426d83c1f7";

    fn with(line: &str) -> Result<ping::Settings, String> {
        let cli = Cli::try_parse_from(std::iter::once("probe").chain(line.split_whitespace()))
            .map_err(|error| error.to_string())?;
        let env = |name: &str| match name {
            "PROBE_MESH_SECRET" => Some(SECRET.to_owned()),
            "CODER_PG_CONNECTION_URL" => Some("postgres://coder:hunter2@db/coder".to_owned()),
            _ => None,
        };
        match cli.command {
            Command::Ping(args) => ping(&args, &env).map_err(|error| error.to_string()),
            _ => Err("not a ping".to_owned()),
        }
    }

    #[test]
    fn a_target_is_what_its_scheme_says_and_another_agent_without_one() {
        for (line, kind, name) in [
            ("ping coderd-2", Kind::Peer, "coderd-2:9862"),
            ("ping coderd-2:7=coderd", Kind::Peer, "coderd-2:7"),
            ("ping tcp://db:5432", Kind::Tcp, "db:5432"),
            ("ping https://a/healthz", Kind::Http, "https://a/healthz"),
            ("ping postgres://u@other/d", Kind::Postgres, "other:5432/d"),
            ("ping --tcp db:5432", Kind::Tcp, "db:5432"),
            ("ping", Kind::Postgres, "db:5432/coder"),
        ] {
            let settings = with(line).unwrap();
            assert_eq!((settings.link.kind, settings.link.target.as_str()), (kind, name), "{line}");
            assert_eq!(settings.measuring.identity.is_some(), kind == Kind::Peer, "{line}");
        }
    }

    #[test]
    fn two_targets_too_short_an_interval_and_a_wrong_scheme_are_told_without_a_secret() {
        for (line, part) in [
            ("ping a --tcp b:1", "2 targets"),
            ("ping tcp://b:1 -i 100ms", "500ms at least"),
            ("ping a -i 10ms", "50ms at least"),
            ("ping mysql://u:hunter2@h/d", "--postgres"),
            ("ping a -c 0", "0 is not in"),
        ] {
            let error = with(line).map(|_| ()).unwrap_err();
            assert!(error.contains(part) && !error.contains("hunter2"), "{line}: {error}");
        }
    }

    #[test]
    fn it_is_held_against_coders_figure_unless_another_is_given() {
        let limit = |line: &str| with(line).unwrap().limit.map(|limit| limit.as_millis());
        assert_eq!(limit("ping a=coderd"), Some(10));
        assert_eq!(limit("ping a=coderd@20ms"), Some(20));
        assert_eq!(limit("ping a=coderd --budget 3ms"), Some(3));
    }
}
