//! What a person sees: help texts and reports, kept as snapshots so that a change of words is a decision.

use std::time::Duration;

use probe::export::text::Colour;
use probe::export::{json, text};
use probe::mesh::budget::Budgets;
use probe::mesh::peer::{Link, Role};
use probe::mesh::report::{Look, Report};
use probe::mesh::series::Series;
use probe::mesh::verdict::{Progress, Rule};
use probe::mesh::window::Window;
use probes::sample::{Direction, Failure, Outcome, Phases, Reason, Sample, Timing};
use probes::target::Kind;

use crate::house::{Run, probe};

#[test]
fn help_is_what_it_was() {
    for command in ["", "check", "agent", "matrix", "report", "ping", "demo", "secret"] {
        let arguments: Vec<_> =
            [command, "--help"].into_iter().filter(|argument| !argument.is_empty()).collect();
        let run = Run::of(probe(&arguments).env("COLUMNS", "100"));
        assert_eq!(run.code, Some(0));
        let name = if command.is_empty() { "help".to_owned() } else { format!("help_{command}") };
        insta::assert_snapshot!(name, run.stdout);
    }
}

#[test]
fn usage_errors_exit_2_and_suggest() {
    for (arguments, part) in [
        (&["chek"][..], "check"),
        (&["check", "--postgre", "x"], "--postgres"),
        (&["check", "--fail-on", "brech"], "breach"),
        (&["check", "--budget", "fast"], "10ms"),
        (&[], "Usage"),
    ] {
        let run = Run::of(&mut probe(arguments));
        assert_eq!(run.code, Some(2), "{arguments:?}");
        assert!(run.stderr.contains(part), "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn a_new_secret_is_accepted_as_one() {
    let run = Run::of(&mut probe(&["secret", "new"]));
    assert_eq!(run.code, Some(0));
    assert_eq!(run.stdout.len(), 65);
    assert!(probes::secret::MeshSecret::parse(&run.stdout).is_ok());
    assert_ne!(run.stdout, Run::of(&mut probe(&["secret", "new"])).stdout);
}

/// One target for each thing that a report can say.
fn report() -> Report {
    let budget = Duration::from_millis(10);
    let (least, most) = (Duration::from_secs(12), Duration::from_secs(60));
    let rule = Rule { quantile: 0.95, alpha: 0.05, targets: 7, least, most };
    let ok = |us: u64| Sample::from(Timing { rtt: Duration::from_micros(us), ..Timing::default() });
    let query = |us: u64| {
        Sample::from(Timing {
            rtt: Duration::from_micros(us),
            server: Some(Duration::from_micros(40)),
            encrypted: Some(false),
            ..Timing::default()
        })
    };
    let lost = |direction| {
        Sample::new(Outcome::Lost(Failure::new(Reason::Timeout, "no reply within 2.0 s"), direction))
    };
    let near = (0..120).map(|i| ok(300 + i)).collect::<Vec<_>>();
    let far = (0..120).map(|i| ok(23_000 + 10 * i)).collect();
    let lossy = (0..120).map(|i| if i % 4 == 0 { lost(Direction::There) } else { ok(300 + i) }).collect();
    let tail = (0..120).map(|i| if i == 7 || i == 70 { ok(12_000) } else { query(900 + i) }).collect();
    let short = near[..20].to_vec();
    let refused =
        vec![Failure::new(Reason::Refused, "connection refused: nothing listens on 10.0.0.9:443").into()];
    let mut looks = Vec::new();
    for (kind, name, role, samples) in [
        (Kind::Peer, "coderd-1:9862", Some(Role::Coderd), near),
        (Kind::Peer, "coderd-2:9862", Some(Role::Coderd), far),
        (Kind::Peer, "coderd-3:9862", None, lossy),
        (Kind::Postgres, "db.internal:5432/coder", Some(Role::Postgres), tail),
        (Kind::Tcp, "10.0.0.8:6222", None, short),
        (Kind::Http, "https://10.0.0.9/healthz", None, refused),
        (Kind::Tcp, "10.0.0.10:443", Some(Role::Proxy), (0..24).map(|i| ok(81_000 + i)).collect()),
    ] {
        let mut series = Series::new(Window::new(budget, 1000));
        let window = &mut series.window;
        let phases = Phases {
            resolve: Duration::from_micros(150),
            tcp: Some(Duration::from_micros(410)),
            tls: None,
            auth: Some(Duration::from_micros(9_300)),
            total: None,
        };
        window.opened(&Timing { phases: Some(phases), ..Timing::default() }.into());
        samples.into_iter().for_each(|sample| window.record(&sample, Duration::ZERO));
        let limit = Budgets::default().limit(None, role);
        let link = Link::to(name, kind, role);
        let progress = Progress { elapsed: least, overdue: 0, ended: true };
        looks.push(Look { link, limit, series, progress });
    }
    Report::new(&looks, rule, Duration::from_millis(12_345))
}

#[test]
fn a_report_reads_as_it_did() {
    insta::assert_snapshot!("report_human", text::render(&report(), Colour::Never));
    insta::assert_snapshot!("report_json", json::render(&report()).unwrap());
}

#[test]
fn colour_changes_nothing_but_colour() {
    let coloured = text::render(&report(), Colour::Always);
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    assert_ne!(coloured, plain);
    assert_eq!(plain, text::render(&report(), Colour::Never));
}
