//! The page that every agent serves: its own tests, by Node in a real Chromium, as one test here.

use std::path::{Path, PathBuf};
use std::process::Command;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page")
}

#[test]
fn the_page_shows_the_mesh_in_a_real_browser() {
    assert!(
        directory().join("node_modules/playwright-core").is_dir(),
        "tests/page/node_modules is missing: bash tests/run.sh installs it"
    );
    let mut tests: Vec<_> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".test.mjs"))
        .collect();
    tests.sort();
    assert!(tests.len() >= 5, "{tests:?}");
    let _busy = crate::house::busy();
    let output = Command::new("node")
        .arg("--test")
        .args(tests)
        .current_dir(directory())
        .output()
        .expect("node is missing: bash tests/run.sh installs it");
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
