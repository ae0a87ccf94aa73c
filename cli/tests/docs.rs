//! The commands of the book, run as a reader would: every `sh` block of `docs/first-steps.md`, in order, in one shell.

use std::path::Path;
use std::process::Command;

/// The shell blocks of a page.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "```sh" {
            let block: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

#[test]
fn the_first_steps_lead_where_they_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/first-steps.md")).expect("the page");
    let blocks = blocks(&page);
    assert!(blocks.len() >= 8, "the page has lost its commands");
    let program = Path::new(env!("CARGO_BIN_EXE_timerose")).parent().expect("a folder").display().to_string();
    let home = tempfile::tempdir().expect("a folder");
    // The mesh stands in another terminal; it ends with this shell.
    let mut script = String::from("set -euo pipefail\nmesh=\ntrap 'kill -INT $mesh 2>/dev/null; wait' EXIT\n");
    for block in &blocks {
        let block =
            block.replace("$PWD/target/release", &program).replace("$PWD/target/first-steps", &home.path().display().to_string());
        if block.contains("timerose up") {
            script.push_str(&format!("{block} & mesh=$!\n"));
            script.push_str("for i in $(seq 600); do [ -s \"$TIMEROSE_PATH/api\" ] && break; sleep 0.1; done\n");
        } else {
            script.push_str(&format!("{block}\n"));
        }
    }
    let ran = Command::new("bash").arg("-c").arg(&script).current_dir(&root).output().expect("run");
    let (stdout, stderr) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains(r#"{"and":1,"rose":1,"the":2,"time":1}"#), "{stdout}");
    assert!(stdout.contains("verified") && stdout.contains("in south, API"), "{stdout}");
}
