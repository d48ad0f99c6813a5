//! Puts the time of the build into the binary: no certificate is verified at an earlier time, so that a machine that
//! boots in 1970 can still connect. `SOURCE_DATE_EPOCH` makes builds reproducible.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=Cargo.toml");
    #[expect(
        clippy::disallowed_methods,
        reason = "a build script has no clock module"
    )]
    let now = SystemTime::now();
    let seconds = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
        .unwrap_or_else(|| {
            now.duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs())
        });
    println!("cargo:rustc-env=EXTRANET_BUILD_TIME={seconds}");
}
