//! Writes what this version encodes into `testdata/VERSION`: once before a release, and while a form that no release
//! has written yet changes. `cargo run -p extranet-proto --example write-samples`

#[path = "../tests/shared/samples.rs"]
mod samples;
#[path = "../tests/shared/workload.rs"]
#[expect(
    dead_code,
    reason = "shared with the benchmark, which uses other parts"
)]
mod workload;

use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(env!("CARGO_PKG_VERSION"));
    fs::create_dir_all(&folder)?;
    for (name, form) in samples::NAMES {
        let bytes = samples::write(name);
        let file = folder.join(name);
        fs::write(file.with_extension("txt"), samples::read(form, &bytes))?;
        fs::write(file.with_extension("bin"), bytes)?;
    }
    Ok(())
}
