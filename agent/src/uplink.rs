//! The way to the collector: one stream at a time, as long as it lasts, then the next one.
//!
//! ```text
//!        +--------------------- delay <---------------------+
//!        v                                                  |
//!     dialling --failed--------------------------------> backoff (next collector)
//!        | connected                                        ^
//!        v                                                  |
//!     greeting (Hello) --Wait(d)--> backoff (at least d) ---|
//!        | Welcome                                          |
//!        v                                                  |
//!     exchanging --lost, refused, lifetime over, Wait ------+
//! ```
//!
//! Measuring never depends on any of this: what cannot be sent stays in the spool.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use extranet_proto::UPLINK_SERVER_NAME;
use extranet_proto::wire;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::account::Account;
use crate::config::Config;
use crate::control::Control;
use crate::dial::dial;
use crate::identity::tls::CertificateTime;
use crate::result::Recorder;
use crate::schedule::Prober;
use crate::self_stats::{Stats, count};
use crate::shell::{Shutdown, Stage, error_chain};
use crate::spool::Spool;
use crate::state_file;

pub mod backoff;
mod flow;
mod stream;

use backoff::Backoff;

/// The collector's time is written down again when it has advanced by so much, µs: an hour, to spare flash memory.
const LEARNT_TIME_STEP_US: i64 = 3_600_000_000;

/// What the agent says about itself in each hello.
#[derive(Debug, Clone)]
pub struct About {
    /// What its probes can do here.
    pub capabilities: Vec<wire::Capability>,
    /// SEC-G0, without the sensor.
    pub privilege_tier: u8,
    /// Whether the sensor is connected.
    pub sensor: watch::Receiver<bool>,
}

/// Privilege tier of an agent whose sensor is connected (SEC-G0).
const SENSOR_TIER: u8 = 2;
/// The sensor must have come or gone for so long before the collector is told, which takes a new stream: one that
/// starts again and again must not cost the uplink a handshake each time.
const SENSOR_SETTLES: Duration = Duration::from_secs(5);

impl About {
    /// What is said while the sensor is there or not.
    fn capabilities(&self, sensor: bool) -> (Vec<wire::Capability>, u8) {
        let mut capabilities = self.capabilities.clone();
        if !sensor {
            return (capabilities, self.privilege_tier);
        }
        capabilities.push(wire::Capability::Sensor);
        (capabilities, self.privilege_tier.max(SENSOR_TIER))
    }

    /// Returns once the sensor has come or gone since `said`, for good.
    async fn differs(&self, said: bool) {
        let mut sensor = self.sensor.clone();
        loop {
            if sensor
                .wait_for(|connected| *connected != said)
                .await
                .is_err()
            {
                // The security watch has ended: nothing will change any more.
                return std::future::pending().await;
            }
            let back = sensor.wait_for(|connected| *connected == said);
            if tokio::time::timeout(SENSOR_SETTLES, back).await.is_err() {
                return;
            }
        }
    }
}

/// How the agent shows itself: replaced when its certificate is renewed.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// TLS with the agent's certificate and a cache of sessions.
    pub tls: Arc<rustls::ClientConfig>,
    /// When the certificate ends, µs since 1970.
    pub not_after_us: i64,
}

/// Everything a stream needs.
#[derive(Debug)]
pub struct Uplink<P> {
    /// Collectors and limits.
    pub config: Arc<Config>,
    /// The newest certificate.
    pub credentials: watch::Receiver<Credentials>,
    /// Time for certificates, which learns from the collector.
    pub time: CertificateTime,
    /// Records to send.
    pub spool: Spool,
    /// Who takes assignments and requests.
    pub control: Arc<Control<P>>,
    /// Clock readings that notice steps.
    pub recorder: Recorder,
    /// For the hello.
    pub about: About,
    /// What the stream costs is charged here.
    pub account: Account,
    /// Where everything is counted.
    pub stats: Arc<Stats>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Dial(#[from] crate::dial::DialError),
    #[error("the collector asks to wait {}s: {reason}", delay.as_secs())]
    Wait { delay: Duration, reason: String },
    #[error("the collector closed the stream: {} ({:?})", .0.message(), .0.code())]
    Status(Box<tonic::Status>),
    #[error("the collector ended the stream")]
    Ended,
    #[error("the collector broke the protocol: {0}")]
    Protocol(String),
    #[error("no answer to the hello in time")]
    GreetingTimeout,
    #[error("no acknowledgement in time")]
    AckTimeout,
    #[error("the stream has reached its lifetime")]
    Lifetime,
    #[error("this agent can do something else than it said")]
    Changed,
    #[error("this agent stops")]
    Stopping,
    #[error(transparent)]
    Spool(#[from] crate::spool::Closed),
}

impl End {
    /// Label form.
    fn label(&self) -> &'static str {
        match self {
            Self::Dial(error) => error.label(),
            Self::Wait { .. } => "wait",
            Self::Status(status) => match status.code() {
                tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => "denied",
                tonic::Code::InvalidArgument => "invalid",
                tonic::Code::Unavailable => "unavailable",
                _ => "status",
            },
            Self::Ended => "ended",
            Self::Protocol(_) => "protocol",
            Self::GreetingTimeout => "greeting_timeout",
            Self::AckTimeout => "ack_timeout",
            Self::Lifetime => "lifetime",
            Self::Changed => "changed",
            Self::Stopping => "stopping",
            Self::Spool(_) => "spool",
        }
    }
}

/// How far a stream came, for the next delay.
#[derive(Debug, Default)]
struct Progress {
    welcomed: bool,
    /// The collector acknowledged something, or the stream lasted: a real success.
    useful: bool,
}

impl<P: Prober> Uplink<P> {
    /// Until the shutdown: keeps a stream open. When the shutdown reaches its flush stage, sends what there is, waits
    /// for the acknowledgements, and returns.
    pub async fn run(self, shutdown: Shutdown) {
        let limits = &self.config.uplink;
        let mut backoff = Backoff::new(limits.backoff_min, limits.backoff_max);
        let mut turn = 0;
        loop {
            let start = Instant::now();
            let mut progress = Progress::default();
            let end = tokio::select! {
                end = self.stream(turn, &shutdown, &mut progress) => end,
                // Before the welcome nothing can be flushed.
                () = shutdown.reached(Stage::Stop) => End::Stopping,
            };
            self.stats.uplink_connected.set(0);
            if progress.welcomed {
                count(&self.stats.uplink_closed, end.label(), 1);
            } else {
                count(&self.stats.uplink_connects, end.label(), 1);
            }
            if shutdown.stage() >= Stage::Flush || matches!(end, End::Spool(_)) {
                return;
            }
            if progress.useful || (progress.welcomed && start.elapsed() >= limits.backoff_max) {
                backoff.reset();
            }
            if !progress.welcomed {
                turn += 1;
            }
            if matches!(end, End::Changed) {
                tracing::info!("the sensor came or went: connecting again, to say so");
                continue;
            }
            let delay = match end {
                End::Wait { delay, .. } => backoff.after_wait(delay),
                _ => backoff.delay(),
            };
            tracing::warn!(
                reason = error_chain(&end),
                retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                "not connected"
            );
            tokio::select! {
                () = sleep(delay) => {}
                () = shutdown.reached(Stage::Flush) => return,
            }
        }
    }

    /// One stream from dialling to its end.
    async fn stream(&self, turn: usize, shutdown: &Shutdown, progress: &mut Progress) -> End {
        let collectors = &self.config.collectors;
        let Some(collector) = collectors.get(turn % collectors.len().max(1)) else {
            return End::Protocol("no collector is configured".to_owned());
        };
        let tls = Arc::clone(&self.credentials.borrow().tls);
        let dialled = tokio::select! {
            dialled = dial(collector, tls, UPLINK_SERVER_NAME, &self.config.uplink, Some(&self.account)) => dialled,
            () = shutdown.reached(Stage::Flush) => return End::Stopping,
        };
        match dialled {
            Ok(channel) => match self.exchange(collector, channel, shutdown, progress).await {
                Err(end) => end,
                Ok(never) => match never {},
            },
            Err(error) => error.into(),
        }
    }

    /// Learns the collector's time, and writes it down when it has advanced.
    fn learn_time(&self, collector_us: i64) {
        // A collector with a wrong clock must not lock its agents out: never beyond our own certificate.
        let collector_us = collector_us.min(self.credentials.borrow().not_after_us);
        self.time.learn(collector_us);
        let path = learnt_time_path(&self.config.state_dir);
        tokio::task::spawn_blocking(move || {
            if collector_us.saturating_sub(read_learnt_time(&path)) < LEARNT_TIME_STEP_US {
                return;
            }
            if let Err(error) = state_file::write(&path, &collector_us.to_le_bytes()) {
                tracing::warn!(
                    error = error_chain(&error),
                    "the collector's time is not kept"
                );
            }
        });
    }
}

/// Where the collector's time is kept.
pub fn learnt_time_path(state_dir: &Path) -> PathBuf {
    state_dir.join("collector-time")
}

/// The collector's time as it was kept, µs since 1970; 0 when there is none or it is damaged.
pub fn read_learnt_time(path: &Path) -> i64 {
    state_file::read(path)
        .ok()
        .flatten()
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, i64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What "differs" says about a sensor that is there or not at the given milliseconds.
    async fn differs_after(said: bool, changes: &[(u64, bool)]) -> Option<u128> {
        let (sender, sensor) = watch::channel(said);
        let about = About {
            capabilities: vec![wire::Capability::Ipv4],
            privilege_tier: 1,
            sensor,
        };
        let begin = Instant::now();
        let play = async {
            for (at_ms, connected) in changes {
                tokio::time::sleep_until(begin + Duration::from_millis(*at_ms)).await;
                sender.send_replace(*connected);
            }
            sleep(Duration::from_mins(10)).await;
        };
        tokio::select! {
            () = about.differs(said) => Some(begin.elapsed().as_millis()),
            () = play => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_collector_is_told_of_a_sensor_that_stays_or_stays_away() {
        assert_eq!(differs_after(false, &[]).await, None);
        assert_eq!(differs_after(false, &[(1_000, true)]).await, Some(6_000));
        assert_eq!(differs_after(true, &[(0, false)]).await, Some(5_000));
        // One that starts again and again costs no stream.
        let flapping: Vec<_> = (0..100).map(|n| (n * 2_000, n % 2 == 0)).collect();
        assert_eq!(differs_after(false, &flapping).await, None);
    }

    #[test]
    fn a_sensor_is_a_capability_and_a_tier() {
        let about = About {
            capabilities: vec![wire::Capability::Ipv4],
            privilege_tier: 1,
            sensor: watch::channel(false).1,
        };
        assert_eq!(about.capabilities(false), (vec![wire::Capability::Ipv4], 1));
        let (capabilities, tier) = about.capabilities(true);
        assert!(capabilities.contains(&wire::Capability::Sensor));
        assert_eq!(tier, 2);
    }
}
