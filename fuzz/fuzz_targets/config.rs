//! Any text as a configuration: the agent's, and one that asks the reader for every kind of value.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use extranet_agent::config::Config;
use extranet_agent::config::reader::{Problems, Reader, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Config::parse("agent.toml", text) {
        Ok(config) => {
            assert!(!config.collectors.is_empty());
            for collector in &config.collectors {
                assert_eq!(collector.to_string().parse().as_ref(), Ok(collector));
            }
        }
        Err(problems) => name_lines_of(text, &problems),
    }
    if let Err(problems) = read("any.toml", text, every_kind) {
        name_lines_of(text, &problems);
    }
});

/// A problem that names a line names one of the file.
fn name_lines_of(text: &str, problems: &Problems) {
    assert!(!problems.list.is_empty());
    assert!(!problems.to_string().is_empty());
    let lines = text.split('\n').count();
    for problem in &problems.list {
        assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)));
    }
}

/// Keys of one letter, which a fuzzer finds soon.
fn every_kind(top: &mut Reader<'_>) {
    let second = Duration::from_secs(1);
    top.string("a", "");
    top.optional_string("b");
    top.required_string("c");
    top.path("d", "/");
    top.boolean("e", false);
    let number = top.integer("f", 5, 1..=9);
    assert!((1..=9).contains(&number));
    let duration = top.duration("g", second, second..=60 * second);
    assert!((second..=60 * second).contains(&duration));
    let bytes = top.bytes("h", 1, 1..=1 << 20);
    assert!((1..=1 << 20).contains(&bytes));
    top.parsed("i", SocketAddr::from(([0, 0, 0, 0], 1)));
    top.listen("j", None);
    top.list::<u16>("k", Vec::new());
    top.section("l", |inner| inner.string("a", ""));
    top.sections("m", |inner| inner.integer("a", 0, 0..=u64::MAX));
}
