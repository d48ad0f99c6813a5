//! The shell of a daemon, for both binaries: tasks with names whose panics are seen, stopping in stages, logging, exit
//! statuses, and errors printed with their whole chain.

use std::error::Error;
use std::fmt::Write as _;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// Exit statuses, after sysexits.h where it has one. systemd units list [`exit::BAD_CONFIGURATION`] under
/// `RestartPreventExitStatus`.
pub mod exit {
    /// Something failed at run time.
    pub const FAILURE: u8 = 1;
    /// The configuration or the command line is wrong (`EX_USAGE`). Nothing was opened.
    pub const BAD_CONFIGURATION: u8 = 64;
    /// The agent holds no certificate and no ticket (`EX_UNAVAILABLE`).
    pub const NOT_ENROLLED: u8 = 69;
    /// The state folder cannot be used: not writable, locked by another process, or newer than this build
    /// (`EX_CANTCREAT`).
    pub const BAD_STATE: u8 = 73;
}

/// Panics of tasks and threads since the process started.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Panics of tasks and threads since the process started. For self-statistics.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Reports on being dropped by an unwinding panic.
struct PanicReport {
    name: &'static str,
}

impl Drop for PanicReport {
    fn drop(&mut self) {
        if std::thread::panicking() {
            PANICS.fetch_add(1, Ordering::Relaxed);
            tracing::error!(task = self.name, "task panicked");
        }
    }
}

/// Spawns a task on the current runtime. The name appears in its log lines; a panic is logged and counted even if
/// nobody ever awaits the handle.
pub fn spawn_named<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let reported = async move {
        let _report = PanicReport { name };
        future.await
    };
    #[expect(clippy::disallowed_methods, reason = "this is the replacement")]
    tokio::spawn(reported.instrument(tracing::debug_span!("task", name)))
}

/// Spawns a thread with a name for blocking work; panics are reported like those of tasks.
pub fn spawn_thread_named<T: Send + 'static>(
    name: &'static str,
    body: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _report = PanicReport { name };
            body()
        })
}

/// How far the process is on its way out. Stages only move forward.
///
/// ```text
/// Running -> NoNewWork -> Flush -> Stop
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Business as usual.
    Running,
    /// Start nothing new; finish what is in hand.
    NoNewWork,
    /// Write and send what was finished.
    Flush,
    /// Return now.
    Stop,
}

/// Moves the stages. When it is dropped, everybody who waits sees [`Stage::Stop`].
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<Stage>);

/// Sees the stages; cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Stage>);

/// A trigger and what it triggers.
pub fn shutdown() -> (ShutdownTrigger, Shutdown) {
    let (sender, receiver) = watch::channel(Stage::Running);
    (ShutdownTrigger(sender), Shutdown(receiver))
}

impl ShutdownTrigger {
    /// Moves on to `stage`; moving back is ignored.
    pub fn advance(&self, stage: Stage) {
        self.0.send_if_modified(|current| {
            let moves = stage > *current;
            *current = (*current).max(stage);
            moves
        });
    }
}

impl Shutdown {
    /// The stage now.
    pub fn stage(&self) -> Stage {
        if self.0.has_changed().is_err() {
            return Stage::Stop;
        }
        *self.0.borrow()
    }

    /// Returns as soon as `stage` (or a later one) is reached. Cancel safe.
    pub async fn reached(&self, stage: Stage) {
        let mut receiver = self.0.clone();
        // An error means that the trigger is gone, which counts as the last stage.
        drop(receiver.wait_for(|current| *current >= stage).await);
    }
}

/// Returns when the process is asked to stop, by SIGTERM or SIGINT.
pub async fn stop_requested() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Starts logging to standard error with a filter such as `info,extranet_agent::uplink=debug`. An unreadable filter is
/// an error; so is a second call.
pub fn start_logging(filter: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    use std::io::IsTerminal as _;
    let filter = tracing_subscriber::EnvFilter::try_new(filter)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
}

/// The error and everything that caused it, on one line. The one way errors are printed, once, where they are handled.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        write!(text, ": {cause}").expect("writing into a string cannot fail");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_counted_and_the_handle_says_so() {
        let before = panics();
        let result = spawn_named("doomed", async { panic!("on purpose") }).await;
        assert!(result.unwrap_err().is_panic());
        assert!(panics() > before);
    }

    #[tokio::test]
    async fn stages_only_move_forward() {
        let (trigger, shutdown) = shutdown();
        assert_eq!(shutdown.stage(), Stage::Running);
        trigger.advance(Stage::Flush);
        trigger.advance(Stage::NoNewWork);
        assert_eq!(shutdown.stage(), Stage::Flush);
        shutdown.reached(Stage::NoNewWork).await;
        let waiting = spawn_named("waiting", {
            let shutdown = shutdown.clone();
            async move { shutdown.reached(Stage::Stop).await }
        });
        drop(trigger);
        waiting.await.unwrap();
        assert_eq!(shutdown.stage(), Stage::Stop);
    }

    #[test]
    fn the_whole_chain_is_printed_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("open /x")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("no space"));
        assert_eq!(error_chain(&error), "open /x: no space");
    }
}
