//! The Helm chart and all that is made of it: rendered and judged by tests/chart/check.py, and its configuration taken by
//! an agent.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::house::{Agent, Secret, probe};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where tests/run.sh puts what the checks need.
fn modules() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("tests/chart")
}

#[test]
fn the_chart_and_all_that_is_made_of_it_are_what_they_should_be() {
    let output = Command::new("python3")
        .arg(root().join("tests/chart/check.py"))
        .args(["--probe", env!("CARGO_BIN_EXE_probe")])
        .env("PYTHONPATH", modules())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|error| panic!("python3: {error}"));
    let (said, failed) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        !failed.contains("ModuleNotFoundError"),
        "{failed}\n`bash tests/run.sh` installs what the tests need"
    );
    assert!(output.status.success(), "{said}{failed}");
}

#[test]
fn an_agent_takes_the_file_that_the_chart_makes_of_its_values() {
    let golden = std::fs::read_to_string(root().join("tests/chart/golden/config.yaml")).unwrap();
    let (_, rest) = golden.split_once("  probe.toml: |\n").unwrap();
    let file: Vec<_> =
        rest.lines().map_while(|line| line.strip_prefix("    ").or(line.is_empty().then_some(""))).collect();
    let secret = Secret::new();
    let config = secret.file("probe.toml", &file.join("\n"));
    let agent = Agent::with(
        probe(&["agent", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"])
            .env("PROBE_MESH_SECRET_FILE", &secret.path)
            .env("PROBE_CONFIG", config),
    );
    let answer = agent.get("/api/v1/config");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let settings: Value = serde_json::from_str(body).unwrap();
    let of = |key: &str| {
        let all = settings["settings"].as_array().unwrap();
        let setting = all.iter().find(|setting| setting["key"] == key).unwrap();
        (setting["value"].clone(), setting["origin"].as_str().unwrap().to_owned())
    };
    for (key, value) in [
        // Helm writes whole numbers as broken ones.
        ("metrics.targets", "128"),
        ("metrics.pairs", "false"),
        ("budgets.proxy", "80ms"),
        ("budgets.quantile", "0.99"),
        ("intervals.postgres_connect", "never"),
        ("findings.few_coderd", "off"),
    ] {
        assert_eq!(of(key), (Value::from(value), "file".to_owned()), "{key}");
    }
}
