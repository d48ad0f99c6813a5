//! The quick start does what it promises, twice at the same time, and leaves nothing behind.

use std::path::Path;
use std::process::{Command, Stdio};

use extranet_tests::binary;

#[test]
fn the_quick_start_works_twice_at_once_and_cleans_up() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let binaries = binary::path("extranet-agent");
    let folder = tempfile::tempdir().unwrap();
    let runs: Vec<_> = (0..2)
        .map(|_| {
            Command::new(root.join("deploy/quickstart.sh"))
                .arg("--once")
                .env("EXTRANET_TEST_BINARIES", binaries.parent().unwrap())
                .env("TMPDIR", folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for run in runs {
        let output = run.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}\n{text}\n{errors}",
            output.status
        );
        for shown in [
            "anchor-icmp",
            "anchor-tcp",
            "router-snmp",
            "AccessPointDown",
            "本机 IPv6 等级 IPv6 level of this machine: L",
            "files in ",
            "report.xlsx",
            "dashboards/province.json",
            "#1 active SEC-09 major demo: 127.0.0.1:",
            "known_fingerprint_sha256: ",
            "服务证书被更换",
        ] {
            assert!(text.contains(shown), "{shown} is not shown:\n{text}");
        }
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
