//! The systemd unit: systemd understands it, it is hardened, and what it names is there.

use std::process::Command;

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/probe.service");

fn analyze(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("{error}: `bash tests/run.sh` installs what the tests need"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn systemd_understands_every_line() {
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("probe.service");
    let text = std::fs::read_to_string(UNIT).unwrap();
    std::fs::write(&unit, text.replace("/usr/bin/probe", env!("CARGO_BIN_EXE_probe"))).unwrap();
    let (good, said) = analyze(&["verify", "--man=no", unit.to_str().unwrap()]);
    // What it says of the machine's own units is not about ours.
    let ours: Vec<_> = said.lines().filter(|line| line.contains("probe.service")).collect();
    assert!(good && ours.is_empty(), "{said}");
}

#[test]
fn its_exposure_is_at_most_two_of_ten() {
    let (good, said) = analyze(&["security", "--offline=true", "--threshold=20", UNIT]);
    assert!(good, "{said}");
}

#[test]
fn every_variable_that_it_sets_is_one_that_the_agent_reads() {
    let text = std::fs::read_to_string(UNIT).unwrap();
    let help = crate::house::Run::of(&mut crate::house::probe(&["agent", "--help"])).stdout;
    let set = text.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    let names: Vec<_> = set.map(|(name, _)| name).collect();
    assert!(!names.is_empty());
    for name in names {
        assert!(help.contains(name), "{name}");
    }
}
