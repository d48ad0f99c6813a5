//! The binary as people meet it: exit statuses, clear errors, answers on standard output.

use std::process::{Command, Output};

use crate::place::Site;

fn collector(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_extranet-collector");
    Command::new(program)
        .args(arguments)
        .output()
        .expect("the binary was built with this test")
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn file(folder: &std::path::Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("the test's folder is writable");
    path.display().to_string()
}

#[test]
fn a_bad_configuration_is_refused_with_all_its_problems() {
    let folder = tempfile::tempdir().unwrap();
    let bad = file(
        folder.path(),
        "c.toml",
        "listen = 'nowhere'\nlisten_too = 1\n",
    );
    for command in ["check-config", "serve", "status"] {
        let (status, stdout, stderr) = said(&collector(&[command, "--config", &bad]));
        assert_eq!(status, Some(64), "{command}: {stderr}");
        assert!(
            stderr.contains("c.toml:1: listen") && stderr.contains("c.toml:2: listen_too"),
            "{stderr}"
        );
        assert_eq!(stdout, "");
    }
    let (status, _, stderr) = said(&collector(&["no-such-command"]));
    assert_eq!(status, Some(64), "{stderr}");
}

#[test]
fn a_service_that_does_not_run_is_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let config = file(
        folder.path(),
        "c.toml",
        &format!("state_dir = '{}'\n", folder.path().display()),
    );
    let (status, _, stderr) = said(&collector(&["status", "--config", &config]));
    assert_eq!(status, Some(1));
    assert!(stderr.contains("the collector is not running"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subcommands_ask_the_running_service() {
    let site = Site::start().await;
    let folder = site.folder();
    let config = file(
        folder,
        "c.toml",
        &format!("state_dir = '{}'\n", site.config.state_dir.display()),
    );
    let ask = |arguments: &[&str]| said(&collector(&[&["--config", &config], arguments].concat()));

    let (status, stdout, stderr) = ask(&["status", "--ap", "ap-1"]);
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stdout.contains("ap-1 甲 (village, agent)"), "{stdout}");
    let (_, json, _) = ask(&["status", "--json"]);
    assert!(json.contains("\"ap_id\": \"ap-2\""), "{json}");

    let out = folder.join("ticket").display().to_string();
    let (status, stdout, stderr) = ask(&["ticket", "new", "--ap", "ap-1", "--out", &out]);
    assert_eq!(status, Some(0), "{stderr}");
    let ticket = std::fs::read_to_string(&out).unwrap();
    assert!(ticket.starts_with("ext1-ap-1-") && !stdout.contains(ticket.trim()));

    let bad = file(
        folder,
        "ap.csv",
        "ap_id,name,level\nx,x,hamlet\ny,y,alley\n",
    );
    let (status, _, stderr) = ask(&["import", "--access-points", &bad]);
    assert_eq!(status, Some(1));
    assert!(
        stderr.contains("nothing was imported")
            && stderr.contains("hamlet")
            && stderr.contains("alley"),
        "{stderr}"
    );

    let (status, stdout, stderr) = ask(&["ap", "add", "r9", "--address", "192.0.2.9"]);
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stdout.contains("added"), "{stdout}");
    let (status, _, stderr) = ask(&["agent", "revoke", "nobody"]);
    assert_eq!(status, Some(1));
    assert!(stderr.contains("no agent nobody"), "{stderr}");
}
