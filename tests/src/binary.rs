//! The real binaries, as this workspace builds them.
//!
//! `tests/run.sh` builds them before the tests and says where they are in `EXTRANET_TEST_BINARIES`. Any other run
//! builds them here, once per process, into the target folder of the test itself: an up-to-date build takes cargo
//! half a second.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Environment variable with the folder of binaries that are up to date.
const FOLDER_VARIABLE: &str = "EXTRANET_TEST_BINARIES";

/// Variables that cargo or nextest sets for the test itself. Some build scripts look at them, so that handing them on
/// would compile half of the workspace again.
const NOT_HANDED_ON: &[&str] = &[
    "CARGO_BIN_",
    "CARGO_CRATE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_PACKAGE",
    "NEXTEST",
];

/// Path of a binary of the workspace, as `extranet-agent`.
pub fn path(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let path = FOLDER.get_or_init(folder).join(name);
    assert!(
        path.try_exists().unwrap_or(false),
        "{} is not there",
        path.display()
    );
    path
}

/// Where the profile of this test puts binaries, as `target/debug`.
pub fn profile_folder() -> PathBuf {
    let own = std::env::current_exe().expect("the kernel knows the running program");
    let folder = own.parent().expect("a program lies in a folder");
    let inside = if folder.ends_with("deps") {
        folder.parent()
    } else {
        Some(folder)
    };
    inside.expect("deps lies in a folder").to_owned()
}

fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE) {
        return PathBuf::from(folder);
    }
    let folder = profile_folder();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => panic!("{} names no profile", folder.display()),
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let mut build = Command::new(cargo);
    build
        // Together with the tests, as the caller built them: the same features, nothing compiled twice.
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--bins",
            "--tests",
            "--profile",
            profile,
        ])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(
            folder
                .parent()
                .expect("a profile folder lies in a target folder"),
        );
    for (name, _) in std::env::vars_os() {
        let handed_on = name
            .to_str()
            .is_none_or(|name| !NOT_HANDED_ON.iter().any(|prefix| name.starts_with(prefix)));
        if !handed_on {
            build.env_remove(name);
        }
    }
    let status = build
        .status()
        .unwrap_or_else(|error| panic!("cannot run {build:?}: {error}"));
    assert!(status.success(), "{build:?}: {status}");
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_binaries_are_there_and_say_their_version() {
        for name in ["extranet-agent", "extranet-collector", "extranet-sensor"] {
            let output = Command::new(path(name)).arg("--version").output().unwrap();
            assert!(output.status.success(), "{name}: {output:?}");
            let version = String::from_utf8(output.stdout).unwrap();
            assert_eq!(
                version.trim(),
                format!("{name} {}", env!("CARGO_PKG_VERSION"))
            );
        }
    }
}
