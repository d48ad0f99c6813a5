//! A fleet in one process: up to 6,918 agents that speak the real protocol over real TLS connections, each with its own
//! key, its own assignment and results as its medium gives them. The load for figures about collectors.
//!
//! What is real: tickets and certificates, TLS with resumption, HTTP/2, hello, batches in the encoding of agents,
//! acknowledgements as ranges, assignments, backoff with full jitter (the agent's own code). What is not: nothing is
//! measured, results are drawn ([`results`]), and what waits for an acknowledgement lies in memory instead of a spool.

pub mod results;
mod site;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use extranet_agent::clock::Clock;
use extranet_agent::config::{Config, HostPort};
use extranet_agent::identity::tls::CertificateTime;
use extranet_agent::identity::{self, Identity};
use extranet_agent::shell::spawn_named;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::clock::now;

/// Enrolments at the same time.
const ENROLLING: usize = 32;
/// Latencies that are kept for percentiles; beyond, every other one is.
const LATENCIES: usize = 1_000_000;

/// An agent before it has an identity.
#[derive(Debug, Clone)]
pub struct Ticketed {
    /// Its access point.
    pub ap_id: String,
    /// What it enrols with.
    pub ticket: String,
}

/// What the whole fleet did.
#[derive(Debug, Default)]
pub struct Counts {
    /// Streams that the collector has welcomed and that stand.
    pub connected: AtomicU64,
    /// Streams that were welcomed, ever.
    pub welcomed: AtomicU64,
    /// Attempts that failed.
    pub failed: AtomicU64,
    /// Records made.
    pub produced: AtomicU64,
    /// Records that the collector has acknowledged.
    pub acknowledged: AtomicU64,
    /// Records that it refused.
    pub refused: AtomicU64,
    /// Samples in the records made: values, and what the collector makes of each result itself.
    pub samples: AtomicU64,
    /// Assignments received.
    pub assignments: AtomicU64,
    /// Measurement results are made while this holds.
    pub measuring: AtomicBool,
    /// Sites that have had a record acknowledged since [`Fleet::forget_freshness`].
    pub fresh: AtomicU64,
    /// Which round of freshness that is.
    pub round: AtomicU64,
    latencies: Mutex<Vec<Duration>>,
}

impl Counts {
    fn add(counter: &AtomicU64, many: usize) {
        counter.fetch_add(many as u64, Ordering::Relaxed);
    }

    fn took(&self, latency: Duration) {
        let mut latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if latencies.len() >= LATENCIES {
            let mut nth = 0_u32;
            latencies.retain(|_| {
                nth += 1;
                nth.is_multiple_of(2)
            });
        }
        latencies.push(latency);
    }
}

/// A running fleet.
#[derive(Debug)]
pub struct Fleet {
    runtime: Runtime,
    counts: Arc<Counts>,
    sites: usize,
}

/// Configuration of agents that know one collector.
fn configuration(collector: SocketAddr) -> Config {
    Config {
        collectors: vec![HostPort {
            host: collector.ip().to_string(),
            port: collector.port(),
        }],
        ..Config::default()
    }
}

fn time() -> CertificateTime {
    CertificateTime::new(Clock::system(), 0)
}

async fn enrol(
    collector: SocketAddr,
    tickets: Vec<Ticketed>,
) -> Result<Vec<(String, Identity)>, String> {
    let permits = Arc::new(Semaphore::new(ENROLLING));
    let mut tasks = tokio::task::JoinSet::new();
    for Ticketed { ap_id, ticket } in tickets {
        let permits = Arc::clone(&permits);
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await.map_err(|e| e.to_string())?;
            let ticket = ticket
                .parse()
                .map_err(|error| format!("{ap_id}: {error}"))?;
            let identity = identity::enrol(&configuration(collector), &ticket, time())
                .await
                .map_err(|error| {
                    format!("{ap_id}: {}", extranet_agent::shell::error_chain(&error))
                })?;
            Ok::<_, String>((ap_id, identity))
        });
    }
    let mut identities = Vec::new();
    while let Some(done) = tasks.join_next().await {
        identities.push(done.map_err(|error| error.to_string())??);
    }
    identities.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(identities)
}

impl Fleet {
    /// A fleet without sites, on two threads.
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let counts = Arc::new(Counts::default());
        counts.measuring.store(true, Ordering::Relaxed);
        Self {
            runtime,
            counts,
            sites: 0,
        }
    }

    /// Turns tickets into identities.
    ///
    /// # Errors
    /// The first refusal.
    pub fn enrol(
        &self,
        collector: SocketAddr,
        tickets: Vec<Ticketed>,
    ) -> Result<Vec<(String, Identity)>, String> {
        self.runtime.block_on(enrol(collector, tickets))
    }

    /// Lets every site connect, at a random moment of `ramp`, and stay connected.
    pub fn start(
        &mut self,
        collector: SocketAddr,
        identities: Vec<(String, Identity)>,
        ramp: Duration,
    ) {
        let _inside = self.runtime.enter();
        self.sites += identities.len();
        for (number, (ap_id, identity)) in identities.into_iter().enumerate() {
            let config = configuration(collector);
            let site = site::Site::new(
                number as u64,
                ap_id,
                identity,
                config,
                Arc::clone(&self.counts),
            );
            spawn_named("site", site.run(ramp));
        }
    }

    /// What it did so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many sites there are.
    pub fn sites(&self) -> usize {
        self.sites
    }

    /// Forgets which sites have had something acknowledged.
    pub fn forget_freshness(&self) {
        self.counts.fresh.store(0, Ordering::Relaxed);
        self.counts.round.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until `done`; the time it took, or `None` after `patience`.
    pub fn wait(&self, patience: Duration, done: impl Fn(&Counts) -> bool) -> Option<Duration> {
        let begin = now();
        while begin.elapsed() < patience {
            if done(&self.counts) {
                return Some(begin.elapsed());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        None
    }

    /// Times from the making of a batch to its acknowledgement since the last call, sorted.
    pub fn latencies(&self) -> Vec<Duration> {
        let kept = &self.counts.latencies;
        let mut latencies =
            std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
        latencies.sort_unstable();
        latencies
    }
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}

/// The moment `per_mille` of the way through sorted times; zero without any.
pub fn percentile(sorted: &[Duration], per_mille: usize) -> Duration {
    let at = sorted.len().saturating_sub(1) * per_mille / 1_000;
    sorted.get(at).copied().unwrap_or_default()
}
