//! The binary as a technician meets it: exit statuses and messages, and no secret in either.

#![expect(
    clippy::unwrap_used,
    reason = "a test says by panicking what went wrong"
)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A ticket of the right form that no collector ever gave.
fn ticket() -> String {
    format!("ext1-540121-001-{}-{}", "ab".repeat(16), "cd".repeat(32))
}

fn agent(folder: &Path, config: &str, arguments: &[&str], input: &str) -> Output {
    let path = folder.join("agent.toml");
    std::fs::write(&path, config).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_extranet-agent"))
        .arg("--config")
        .arg(&path)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends without reading its input is fine.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

fn config(folder: &Path) -> String {
    format!(
        "collectors = ['127.0.0.1:1']\nstate_dir = '{}'\n",
        folder.join("state").display()
    )
}

fn check(output: &Output, status: i32, said: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    for part in said {
        assert!(text.contains(part), "{text} should contain {part}");
    }
    assert!(!text.contains(&"ab".repeat(16)), "a secret was shown");
}

#[test]
fn a_wrong_configuration_exits_with_64_and_lists_everything() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = format!(
        "{}colour = 1\n[spool]\nmax_bytes = '1'\n",
        config(folder.path())
    );
    for arguments in [["run"], ["check-config"]] {
        let output = agent(folder.path(), &wrong, &arguments, "");
        check(
            &output,
            64,
            &[":3: colour: unknown key", ":5: spool.max_bytes: "],
        );
    }
    assert!(
        !folder.path().join("state").try_exists().unwrap(),
        "nothing was touched"
    );
    let output = agent(folder.path(), &config(folder.path()), &["check-config"], "");
    check(&output, 0, &[]);
    let output = agent(folder.path(), &config(folder.path()), &["fly"], "");
    check(&output, 64, &["fly"]);
}

#[test]
fn an_agent_that_is_not_enrolled_exits_with_69_and_says_how_to_enrol() {
    let folder = tempfile::tempdir().unwrap();
    let output = agent(folder.path(), &config(folder.path()), &["run"], "");
    check(
        &output,
        69,
        &["not enrolled", "extranet-agent enrol --ticket-file"],
    );
}

#[test]
fn tickets_are_taken_from_files_and_standard_input_only() {
    let folder = tempfile::tempdir().unwrap();
    let good = config(folder.path());
    let output = agent(folder.path(), &good, &["enrol", "--ticket", &ticket()], "");
    check(&output, 64, &["--ticket-file"]);
    let output = agent(
        folder.path(),
        &good,
        &["enrol", "--ticket", "-"],
        ticket().get(..60).unwrap(),
    );
    check(&output, 69, &["was it cut off?"]);
    let output = agent(folder.path(), &good, &["enrol", "--ticket", "-"], "hello");
    check(&output, 69, &["a ticket starts with"]);
    let output = agent(folder.path(), &good, &["enrol", "--ticket", "-"], &ticket());
    check(&output, 69, &["cannot connect to 127.0.0.1:1"]);
    let output = agent(
        folder.path(),
        &good,
        &["enrol", "--ticket-file", "/nonexistent"],
        "",
    );
    check(&output, 69, &["cannot read the ticket in /nonexistent"]);
}

#[test]
fn a_state_folder_that_cannot_be_used_exits_with_73() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("state"), "not a folder").unwrap();
    let output = agent(folder.path(), &config(folder.path()), &["run"], "");
    check(&output, 73, &["cannot use the state folder"]);

    std::fs::remove_file(folder.path().join("state")).unwrap();
    std::fs::create_dir(folder.path().join("state")).unwrap();
    std::fs::write(folder.path().join("state/identity"), "damaged").unwrap();
    let output = agent(folder.path(), &config(folder.path()), &["run"], "");
    check(&output, 73, &["state/identity"]);
}
