//! One child process: its log in a file, ready by condition, ended by its id, its log shown when the test fails.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock;

/// Lines of a log that are shown when a test fails.
const LOG_LINES_SHOWN: usize = 60;

/// A running child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; standard output and error go to `NAME.log` in `folder`, appended to that of an earlier
    /// process of the same name.
    pub fn start(name: &str, mut command: Command, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap_or_else(|error| panic!("cannot open {}: {error}", log.display()));
        let err = out.try_clone().expect("a file handle can be duplicated");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything the process (and those of its name before it) wrote.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits for a condition; gives up at once when the process has ended.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        patience: Duration,
        mut probe: impl FnMut() -> Result<T, String>,
    ) -> T {
        clock::wait_until(&format!("{}: {what}", self.name), patience, || {
            if let Some(status) = self.try_wait() {
                panic!("{} ended ({status}) before: {what}", self.name);
            }
            probe()
        })
    }

    /// The exit status, if the process has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("own child can be waited for")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("process ids fit");
        kill(Pid::from_raw(pid), signal)
            .unwrap_or_else(|errno| panic!("cannot send {signal} to {}: {errno}", self.name));
    }

    /// Ends the process like a power cut would: it gets no chance to write anything.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks the process to stop (SIGTERM) and waits for it.
    pub fn stop(mut self, patience: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        clock::wait_until(
            &format!("{} to stop after SIGTERM", self.name),
            patience,
            || self.try_wait().ok_or_else(|| "still running".to_owned()),
        )
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        clock::wait_until(&format!("{} to end", self.name), patience, || {
            self.try_wait().ok_or_else(|| "still running".to_owned())
        })
    }

    fn end(&mut self) {
        // Fails only when the process has ended already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "this is the report of a failed test")]
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- last lines of {} ---\n{}", self.name, shown.join("\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;

    fn shell(script: &str) -> Command {
        let mut command = Place::Host.command("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_process_writes_its_log_and_stops_on_request() {
        let folder = tempfile::tempdir().unwrap();
        let script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
        let mut process = Process::start("polite", shell(script), folder.path());
        process.wait_until("its first line", Duration::from_secs(10), || {
            process_log(folder.path(), "polite", "ready")
        });
        assert_eq!(process.stop(Duration::from_secs(10)).code(), Some(7));
        process_log(folder.path(), "polite", "bye").unwrap();
    }

    fn process_log(folder: &Path, name: &str, wanted: &str) -> Result<(), String> {
        let log = std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap();
        if log.contains(wanted) {
            Ok(())
        } else {
            Err(log)
        }
    }

    #[test]
    fn dropping_ends_exactly_the_own_process() {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start("sleeper", shell("exec sleep 600"), folder.path());
        let proc = PathBuf::from(format!("/proc/{}", process.id()));
        assert!(proc.try_exists().unwrap());
        drop(process);
        assert!(!proc.try_exists().unwrap());
    }

    #[test]
    #[should_panic(expected = "ended (exit status: 3) before: readiness")]
    fn a_process_that_ends_is_noticed_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::start("fragile", shell("exit 3"), folder.path());
        process.wait_until(
            "readiness",
            Duration::from_mins(1),
            || -> Result<(), String> { Err("not ready".to_owned()) },
        );
    }
}
