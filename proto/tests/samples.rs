//! What earlier releases wrote is still read, and read as the same. Each folder of testdata holds what one release
//! wrote (`NAME.bin`) and what it means (`NAME.txt`); folders of releases are never written again.

#[path = "shared/samples.rs"]
mod samples;
#[path = "shared/workload.rs"]
#[expect(
    dead_code,
    reason = "shared with the benchmark, which uses other parts"
)]
mod workload;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

#[test]
fn every_release_is_still_understood() {
    for folder in fs::read_dir(testdata()).unwrap() {
        let folder = folder.unwrap().path();
        for (name, form) in samples::NAMES {
            let bytes = fs::read(folder.join(name).with_extension("bin")).unwrap();
            let expected = fs::read_to_string(folder.join(name).with_extension("txt")).unwrap();
            let found = samples::read(form, &bytes);
            assert!(
                found == expected,
                "{}/{name} is read as\n{found}",
                folder.display()
            );
        }
    }
}

#[test]
fn this_version_has_samples_and_no_file_is_forgotten() {
    let folder = testdata().join(env!("CARGO_PKG_VERSION"));
    let stem = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let found: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|file| stem(file.unwrap().path()))
        .collect();
    let expected: BTreeSet<String> = samples::NAMES.map(|(name, _)| name.to_owned()).into();
    assert_eq!(found, expected);
}

#[test]
fn what_is_written_now_means_the_same_as_the_samples() {
    let folder = testdata().join(env!("CARGO_PKG_VERSION"));
    for (name, form) in samples::NAMES {
        let expected = fs::read_to_string(folder.join(name).with_extension("txt")).unwrap();
        assert!(
            samples::read(form, &samples::write(name)) == expected,
            "{name}"
        );
    }
}

#[test]
fn the_samples_have_both_packings() {
    assert_eq!(samples::write("block-live")[1], 0, "plain");
    assert_eq!(samples::write("block-packed")[1], 1, "zstd");
}

/// Damage to a message from the network is an answer, whichever byte it hits.
#[test]
fn a_message_with_a_damaged_byte_is_an_answer() {
    use extranet_proto::session::{AgentMessage, CollectorMessage};
    use extranet_proto::wire;
    use prost::Message;

    let mut refused = 0;
    for (name, form) in samples::NAMES {
        let bytes = samples::write(name);
        for at in 0..bytes.len() {
            for damage in [0x01, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] ^= damage;
                let read = match form {
                    samples::Form::FromAgent => wire::AgentMessage::decode(bytes.as_slice())
                        .is_ok_and(|message| AgentMessage::try_from(message).is_ok()),
                    samples::Form::FromCollector => {
                        wire::CollectorMessage::decode(bytes.as_slice())
                            .is_ok_and(|message| CollectorMessage::try_from(message).is_ok())
                    }
                    samples::Form::Block | samples::Form::Ranges => continue,
                };
                refused += u32::from(!read);
            }
        }
    }
    assert!(refused > 0, "some damage must be noticed");
}
