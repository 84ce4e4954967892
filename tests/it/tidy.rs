//! The house's own rules, read off its sources: who may import whom, a head for every file, files that fit a room.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const LONGEST: usize = 400;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{directory}");
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The lines before the file's own tests, without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn every_file_starts_by_saying_what_it_is() {
    for path in ["src", "probes/src", "tests", "benches"].iter().flat_map(|directory| sources(directory)) {
        assert!(read(&path).starts_with("//! "), "{} has no head", path.display());
    }
}

#[test]
fn no_file_outgrows_its_room() {
    for path in ["src", "probes/src"].iter().flat_map(|directory| sources(directory)) {
        let lines = read(&path).lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        assert!(
            lines <= LONGEST,
            "{} has {lines} lines before its tests, {LONGEST} are allowed",
            path.display()
        );
    }
}

/// A room (a file and the folder of its name) and what its code must not name.
fn rules() -> BTreeMap<&'static str, &'static [&'static str]> {
    const PURE: &[&str] = &[
        "tokio",
        "quinn::",
        "rustls",
        "tokio_postgres",
        "hyper::",
        "std::net::Tcp",
        "std::net::Udp",
        "std::fs",
        "Instant",
        "SystemTime",
        "async ",
        "tracing",
        "HashMap",
        "thread",
        "stopwatch",
        "rand::",
    ];
    /// Facts come in here, and go nowhere but to the heart.
    const DOOR: &[&str] = &[
        "crate::agent",
        "crate::check",
        "crate::config",
        "crate::cli",
        "crate::demo",
        "crate::export",
        "crate::web",
    ];
    /// It judges what it is given, and neither reads nor measures.
    const READ_ONLY: &[&str] = &[
        "tokio",
        "probes::",
        "std::fs",
        "std::io",
        "std::env",
        "std::net::Tcp",
        "std::net::Udp",
        "Instant",
        "SystemTime",
        "async ",
        "tracing",
        "HashMap",
        "std::thread",
        "crate::agent",
        "crate::check",
        "crate::config",
        "crate::cli",
        "crate::web",
        "crate::demo",
        "crate::discovery",
        "crate::exchange",
        "crate::plan",
    ];
    /// It makes messages of figures: no socket, no file, no clock. A wall clock's instant is a figure.
    const MESSAGES: &[&str] = &[
        "tokio",
        "rustls",
        "std::fs",
        "std::net",
        "Instant",
        "async ",
        "tracing",
        "HashMap",
        "thread",
        "stopwatch",
        "RandomState",
    ];
    /// Everything at the door out but what hands over.
    const DRESS: &[&str] =
        &["crate::agent", "crate::check", "crate::config", "crate::cli", "crate::web", "crate::demo"];
    const PLAY: &[&str] = &["crate::mesh", "crate::agent", "crate::check"];
    BTreeMap::from([
        ("probes/src", &["probe::", "anyhow", "clap", "crate::mesh"][..]),
        ("probes/src/sample.rs", PURE),
        ("probes/src/target.rs", PURE),
        ("probes/src/quic/packet.rs", PURE),
        ("probes/src/postgres/conninfo.rs", PURE),
        ("probes/src/postgres/conninfo", PURE),
        ("probes/src/postgres/passfile.rs", PURE),
        ("src/mesh.rs", PURE),
        ("src/mesh", PURE),
        (
            "src/export.rs",
            &[
                "tokio",
                "crate::agent",
                "crate::check",
                "crate::config",
                "crate::cli",
                "crate::web",
                "crate::demo",
            ],
        ),
        ("src/export", DRESS),
        ("src/export/otlp/encode.rs", MESSAGES),
        ("src/export/otlp/ledger.rs", MESSAGES),
        ("src/export/otlp/resource.rs", MESSAGES),
        ("src/export/otlp/settings.rs", MESSAGES),
        ("src/export/otlp/settings", MESSAGES),
        ("src/export/otlp/split.rs", MESSAGES),
        ("src/export/otlp/run/pause.rs", MESSAGES),
        ("src/export/otlp/run/size.rs", MESSAGES),
        (
            "src/exchange.rs",
            &["tokio", "crate::discovery", "crate::export", "crate::web", "crate::config", "crate::agent"],
        ),
        (
            "src/plan.rs",
            &[
                "tokio",
                "probes::",
                "std::net",
                "crate::agent",
                "crate::check",
                "crate::config",
                "crate::cli",
                "crate::web",
                "crate::demo",
            ],
        ),
        ("src/manifests.rs", READ_ONLY),
        ("src/manifests", READ_ONLY),
        ("src/discovery.rs", DOOR),
        ("src/discovery", DOOR),
        ("src/coder_metrics.rs", DOOR),
        ("src/coder_metrics", DOOR),
        ("src/coder_metrics/exposition.rs", PURE),
        ("src/coder_metrics/page.rs", PURE),
        ("src/export/api.rs", MESSAGES),
        ("src/export/api", MESSAGES),
        ("src/web.rs", &["crate::agent", "crate::check", "crate::config", "crate::cli", "crate::demo"]),
        ("src/web", &["crate::agent", "crate::check", "crate::config", "crate::cli", "crate::demo"]),
        ("src/agent.rs", &["crate::check", "crate::config", "crate::cli", "crate::demo"]),
        ("src/agent", &["crate::check", "crate::config", "crate::cli", "crate::demo", "crate::web"]),
        ("src/check.rs", &["crate::config", "crate::cli", "crate::demo", "crate::web"]),
        ("src/demo.rs", &["crate::config", "crate::cli", "crate::web"]),
        ("src/demo", &["crate::config", "crate::cli", "crate::web", "crate::check"]),
        // The stage alone sets agents up; the others see what anybody sees at an agent's door.
        ("src/demo/cluster.rs", PLAY),
        ("src/demo/layout.rs", PLAY),
        ("src/demo/picture.rs", PLAY),
        ("src/demo/report.rs", PLAY),
        ("src/demo/story.rs", PLAY),
        ("src/demo/wire.rs", PLAY),
        ("src/config.rs", &["tokio", "agent::run", "check::run", "crate::demo", "crate::web"]),
        ("src/config", &["tokio", "crate::agent", "crate::check", "crate::demo", "crate::web"]),
        ("src/cli.rs", &["crate::", "tokio"]),
    ])
}

#[test]
fn rooms_import_only_what_they_may() {
    for (room, forbidden) in rules() {
        let files = if room.ends_with(".rs") { vec![root().join(room)] } else { sources(room) };
        for path in files {
            let text = read(&path);
            for word in forbidden {
                let found = code(&text).find(|line| line.contains(word));
                assert!(
                    found.is_none(),
                    "{} must not name `{word}`: {}",
                    path.display(),
                    found.unwrap_or_default()
                );
            }
        }
    }
}

#[test]
fn of_the_door_out_only_what_hands_over_waits() {
    let hands = ["src/export/otlp/run", "src/export/otlp/send", "src/export/otlp/spool"];
    for path in sources("src/export").into_iter().chain([root().join("src/export.rs")]) {
        let inside = path.strip_prefix(root()).unwrap().to_str().unwrap();
        let may = hands
            .iter()
            .any(|hand| inside == format!("{hand}.rs") || inside.starts_with(&format!("{hand}/")));
        let text = read(&path);
        let found = code(&text).find(|line| line.contains("tokio"));
        assert!(may || found.is_none(), "{inside} must not name `tokio`: {}", found.unwrap_or_default());
    }
}

#[test]
fn the_mind_uses_of_the_hands_only_their_nouns() {
    for path in sources("src/mesh").into_iter().chain([root().join("src/mesh.rs")]) {
        let text = read(&path);
        for line in code(&text).filter(|line| line.contains("probes::")) {
            let allowed = line.contains("probes::sample") || line.contains("probes::target");
            assert!(allowed, "{}: {line}", path.display());
        }
    }
}

#[test]
fn the_clock_is_read_where_it_may_be() {
    let rooms = [
        "src/agent/measuring/job.rs",
        "src/agent.rs",
        "src/check.rs",
        "src/demo.rs",
        "src/ping.rs",
        "src/check/running.rs",
        "probes/src/stopwatch.rs",
    ];
    for path in ["src", "probes/src"].iter().flat_map(|directory| sources(directory)) {
        let reads = code(&read(&path))
            .any(|line| line.contains("Instant::now()") || line.contains("SystemTime::now()"));
        let allowed = rooms.iter().any(|room| path.ends_with(room));
        assert!(!reads || allowed, "{} reads a clock", path.display());
    }
}

#[test]
fn the_top_level_holds_what_was_agreed() {
    let agreed = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "probes",
        "deploy",
        "tests",
        "benches",
        "docs",
        "target",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "LICENSE",
    ];
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || agreed.contains(&name.as_str()), "{name} stands at the top level");
    }
}

#[test]
fn there_is_one_tls_stack_and_one_provider() {
    let lock = read(&root().join("Cargo.lock"));
    for unwanted in ["openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys", "openssl"] {
        assert!(!lock.contains(&format!("name = \"{unwanted}\"\n")), "{unwanted} came in");
    }
    assert_eq!(lock.matches("name = \"rustls\"\n").count(), 1);
    assert_eq!(lock.matches("name = \"ring\"\n").count(), 1);
}
