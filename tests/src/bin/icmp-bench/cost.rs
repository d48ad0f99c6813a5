//! What a process costs.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

/// CPU seconds of this process.
pub(crate) fn own_cpu() -> f64 {
    used(UsageWho::RUSAGE_SELF)
}

fn used(who: UsageWho) -> f64 {
    let usage = getrusage(who).expect("the kernel counts");
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
        .sum()
}

/// CPU seconds of another process, to a hundredth.
pub(crate) fn cpu_of(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    // proc(5): the name in parentheses may hold anything; utime and stime are the 12th and 13th field behind it.
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = behind
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    ticks as f64 / 100.0
}

/// Largest memory of a process until now, KiB.
pub(crate) fn memory_kib(pid: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

/// A program that ran to its end.
pub(crate) struct Ran {
    pub(crate) output: Output,
    pub(crate) cpu: f64,
    pub(crate) memory_kib: u64,
}

impl Ran {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}

/// Runs a program and says what it cost; its output must fit into a pipe's buffer or come at its end.
pub(crate) fn watch(mut command: Command) -> Ran {
    let before = used(UsageWho::RUSAGE_CHILDREN);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = child.id().to_string();
    let watcher = std::thread::spawn(move || {
        let mut largest = 0;
        loop {
            let now = memory_kib(&pid);
            if now == 0 {
                return largest;
            }
            largest = now;
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    // Reads both pipes while it waits.
    let stdin = child.stdin.take();
    drop(stdin);
    let output = child.wait_with_output().expect("a child can be waited for");
    let cpu = used(UsageWho::RUSAGE_CHILDREN) - before;
    Ran {
        output,
        cpu,
        memory_kib: watcher.join().unwrap_or(0),
    }
}
