//! Puts the security watch together: the socket of the sensor, where one can be made, and the task.

use std::path::PathBuf;
use std::sync::Arc;

use extranet_proto::id::BootId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::Config;
use crate::control::Plan;
use crate::result::Recorder;
use crate::security::listen::Listener;
use crate::security::watch::Watch;
use crate::self_stats::Stats;
use crate::sensor::SOCKET_NAME;
use crate::shell::{Shutdown, error_chain, spawn_named};

/// Advertisements between the socket and the watch: a burst of the sensor's pace, and some.
const ADVERTS: usize = 64;

/// What it needs.
pub(super) struct Part {
    pub(super) config: Arc<Config>,
    pub(super) boot: BootId,
    pub(super) plans: watch::Receiver<Arc<Plan>>,
    pub(super) sensor: watch::Sender<bool>,
    pub(super) recorder: Recorder,
    pub(super) clock: Clock,
    pub(super) stats: Arc<Stats>,
}

impl Part {
    /// Starts the tasks. Without a socket the watch does what it can without a sensor (tier 0).
    pub(super) fn start(self, stages: &Shutdown) -> JoinHandle<()> {
        let (sender, adverts) = mpsc::channel(ADVERTS);
        let connected = self.sensor.subscribe();
        let configured = self.config.security.sensor_socket.clone();
        if let Some(path) = configured.or_else(in_runtime_folder) {
            let stats = Arc::clone(&self.stats);
            match Listener::bind(&path, sender, self.sensor, self.clock.clone(), stats) {
                Ok(listener) => {
                    spawn_named("sensor", listener.run(stages.clone()));
                }
                Err(error) => {
                    tracing::error!(error = error_chain(&error), "no sensor can connect");
                }
            }
        }
        let watch = Watch {
            config: self.config.security.clone(),
            state_dir: self.config.state_dir.clone(),
            boot: self.boot,
            plans: self.plans,
            adverts,
            sensor: connected,
            recorder: self.recorder,
            clock: self.clock,
            stats: self.stats,
        };
        spawn_named("security", watch.run(stages.clone()))
    }
}

/// systemd names the folder of `RuntimeDirectory=`; with several, the first is the service's own.
fn in_runtime_folder() -> Option<PathBuf> {
    let folders = std::env::var("RUNTIME_DIRECTORY").ok()?;
    let first = folders
        .split(':')
        .next()
        .filter(|first| !first.is_empty())?;
    Some(PathBuf::from(first).join(SOCKET_NAME))
}
