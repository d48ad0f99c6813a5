//! Puts an agent together, runs it, and stops it in stages. The binary, the collector's own vantage and the tests all
//! come through here.

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use extranet_proto::record::EventKind;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::account::{self, Account};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::Control;
use crate::identity::ticket::{Ticket, TicketError};
use crate::identity::tls::{self, CertificateTime};
use crate::identity::{Identity, IdentityError, enrol_here};
use crate::measure::{Measurer, Targets};
use crate::probe::{ObjectIds, Probes, snmp};
use crate::result::Recorder;
use crate::schedule::Schedule;
use crate::self_stats::{Stats, serve};
use crate::shell::{Shutdown, ShutdownTrigger, Stage, error_chain, exit, shutdown, spawn_named};
use crate::spool::{Spool, SpoolError};
use crate::uplink::{About, Credentials, Uplink, learnt_time_path, read_learnt_time};

mod renewal;
mod security;

/// What the runs in hand get to end, when the agent stops.
const FINISH_TIME: Duration = Duration::from_secs(5);
/// What the last batch gets to be acknowledged.
const FLUSH_TIME: Duration = Duration::from_secs(5);
/// A ticket in the configuration is tried again after this time while no collector can be reached.
const ENROL_RETRY: Duration = Duration::from_secs(10);
/// Largest ticket file that is read, bytes: several times the longest ticket.
const TICKET_BYTES: u64 = 4_096;

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state folder.
    #[error("cannot use the state folder {}", path.display())]
    StateDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is neither certificate nor ticket.
    #[error(
        "this agent is not enrolled: get a ticket from the collector's administrator (extranet-collector ticket new --ap ID), then run: extranet-agent enrol --ticket-file FILE (no identity in {})",
        state_dir.display()
    )]
    NotEnrolled {
        /// Where the identity should be.
        state_dir: PathBuf,
    },
    /// The ticket file cannot be read.
    #[error("cannot read the ticket in {}", path.display())]
    TicketFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It does not hold a ticket.
    #[error("{} holds no ticket", path.display())]
    Ticket {
        /// Which.
        path: PathBuf,
        /// Why.
        source: TicketError,
    },
    /// Key, certificate or enrolment.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The certificate and key do not work with TLS.
    #[error("cannot set up TLS with the agent's certificate")]
    Tls(#[source] rustls::Error),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The sockets for notifications of SNMP devices.
    #[error("cannot receive SNMP notifications")]
    Traps(#[source] std::io::Error),
    /// The address for statistics.
    #[error("cannot listen on {address} for statistics")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl RunError {
    /// The exit status that tells them apart for scripts and systemd.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::NotEnrolled { .. }
            | Self::TicketFile { .. }
            | Self::Ticket { .. }
            | Self::Identity(IdentityError::Refused(_)) => exit::NOT_ENROLLED,
            Self::StateDir { .. } | Self::Spool(_) | Self::Identity(_) => exit::BAD_STATE,
            Self::Tls(_) | Self::Traps(_) | Self::Listen { .. } => exit::FAILURE,
        }
    }
}

/// Makes the state folder, for its owner only, when it is not there.
pub fn prepare_state_dir(path: &Path) -> Result<(), RunError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| RunError::StateDir {
            path: path.to_owned(),
            source,
        })
}

/// The time for certificates, with what was learnt from the collector before.
pub fn certificate_time(state_dir: &Path, clock: Clock) -> CertificateTime {
    CertificateTime::new(clock, read_learnt_time(&learnt_time_path(state_dir)))
}

/// Reads a ticket from a file.
pub fn read_ticket(path: &Path) -> Result<Ticket, RunError> {
    use std::io::Read as _;
    let file_error = |source| RunError::TicketFile {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    std::fs::File::open(path)
        .map_err(file_error)?
        .take(TICKET_BYTES)
        .read_to_string(&mut text)
        .map_err(file_error)?;
    text.parse().map_err(|source| RunError::Ticket {
        path: path.to_owned(),
        source,
    })
}

/// Runs an agent until `stop` begins, then finishes what is in hand, sends it, and returns.
pub async fn run(config: Config, clock: Clock, stop: Shutdown) -> Result<(), RunError> {
    let config = Arc::new(config);
    prepare_state_dir(&config.state_dir)?;
    let stats = Arc::new(Stats::new());
    let time = certificate_time(&config.state_dir, clock.clone());
    let (trigger, stages) = shutdown();
    // Opens no socket before its first run.
    let account = Account::new(clock.clone());
    let probes = Probes::new(ObjectIds::new())
        .with_certificate_time(time.clone())
        .with_account(account.clone());
    if let Some(address) = config.self_listen {
        serve_statistics(address, &stats, &probes, &account, &stages).await?;
    }
    let Some(identity) = identity(&config, &time, &stop).await? else {
        return Ok(());
    };
    let tls = tls::mutual(&identity, time.clone()).map_err(RunError::Tls)?;
    let (credentials_sender, credentials) = watch::channel(Credentials {
        tls,
        not_after_us: identity.not_after_us(),
    });

    let spool = Spool::open(&config, clock.clone(), Arc::clone(&stats))?;
    let recorder = Recorder::new(clock.clone(), spool.clone(), Arc::clone(&stats));
    recorder.event(EventKind::Started, 0, crate::identity::AGENT_VERSION);
    let (sensor_sender, sensor) = watch::channel(false);
    let sockets = snmp::trap::sockets(config.traps_listen).map_err(RunError::Traps)?;
    probes.serve_traps(sockets, &recorder, &stats, &stages);
    let about = About {
        capabilities: probes.capabilities(),
        privilege_tier: probes.privilege_tier(),
        sensor: sensor.clone(),
    };
    let targets = Targets::new(&config.allowed_prefixes);
    let measurer = Measurer::new(targets.clone(), probes);
    let control = Arc::new(Control::open(
        &config.state_dir,
        targets,
        measurer.clone(),
        recorder.clone(),
        Arc::clone(&stats),
    ));
    let security = security::Part {
        config: Arc::clone(&config),
        boot: spool.boot_id(),
        plans: control.plans(),
        sensor: sensor_sender,
        recorder: recorder.clone(),
        clock: clock.clone(),
        stats: Arc::clone(&stats),
    };
    let security = security.start(&stages);
    account.follow(&control.plans().borrow());
    let account_path = account::path(&config.state_dir);
    account.resume(&account_path);
    let kept = account.clone();
    spawn_named("account", kept.run(account_path.clone(), stages.clone()));
    let schedule = Schedule::new(
        identity.agent_id.clone(),
        measurer,
        recorder.clone(),
        &clock,
        Arc::clone(&stats),
    )
    .with_account(account.clone());
    let schedule = spawn_named("schedule", schedule.run(control.plans(), stages.clone()));
    let renewal = renewal::Renewal {
        config: Arc::clone(&config),
        time: time.clone(),
        stats: Arc::clone(&stats),
        credentials: credentials_sender,
    };
    spawn_named("renewal", renewal.run(identity.clone(), stages.clone()));
    let uplink = Uplink {
        config,
        credentials,
        time,
        spool: spool.clone(),
        control,
        recorder: recorder.clone(),
        about,
        account,
        stats,
    };
    let uplink = spawn_named("uplink", uplink.run(stages));
    tracing::info!(agent = %identity.agent_id, "agent runs");

    let running = Running {
        schedule,
        security,
        uplink,
    };
    running
        .stop_in_stages(&stop, &trigger, &spool, &recorder)
        .await;
    Ok(())
}

/// Serves what the agent counts.
async fn serve_statistics(
    address: SocketAddr,
    stats: &Arc<Stats>,
    probes: &Probes,
    account: &Account,
    stop: &Shutdown,
) -> Result<(), RunError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Listen { address, source })?;
    let (stats, probes, account) = (Arc::clone(stats), probes.clone(), account.clone());
    let render = Arc::new(move || {
        stats.follow_icmp(&probes.icmp_counts());
        stats.follow_account(&account);
        stats.render()
    });
    spawn_named("self_stats", serve(listener, render, stop.clone()));
    Ok(())
}

/// The tasks that have something in hand when the agent stops.
struct Running {
    schedule: JoinHandle<()>,
    security: JoinHandle<()>,
    uplink: JoinHandle<()>,
}

impl Running {
    /// What is in hand is finished, then sent, then kept.
    async fn stop_in_stages(
        self,
        stop: &Shutdown,
        trigger: &ShutdownTrigger,
        spool: &Spool,
        recorder: &Recorder,
    ) {
        stop.reached(Stage::NoNewWork).await;
        trigger.advance(Stage::NoNewWork);
        // Whatever is not done in time is given up; the spool keeps what was measured.
        let finished = async {
            hurried(stop, self.schedule).await;
            hurried(stop, self.security).await;
        };
        drop(timeout(FINISH_TIME, finished).await);
        recorder.event(EventKind::Stopping, 0, "");
        // The answer comes after everything that was appended before: the flush must see it.
        if spool.ledger().await.is_err() {
            tracing::error!("the spool ended before the agent");
        }
        trigger.advance(Stage::Flush);
        drop(timeout(FLUSH_TIME, hurried(stop, self.uplink)).await);
        trigger.advance(Stage::Stop);
        if spool.close().await.is_err() {
            tracing::error!("the spool did not close in order");
        }
        tracing::info!("agent stopped");
    }
}

/// Waits for a task, but no longer than until whoever runs the agent loses patience.
async fn hurried(stop: &Shutdown, task: JoinHandle<()>) {
    tokio::select! {
        // A panic was reported where it happened.
        ended = task => drop(ended),
        () = stop.reached(Stage::Stop) => {}
    }
}

/// The identity on disk, or one for the ticket in the configuration. `None`: asked to stop before there was one.
async fn identity(
    config: &Config,
    time: &CertificateTime,
    stop: &Shutdown,
) -> Result<Option<Identity>, RunError> {
    if let Some(identity) = Identity::load(&config.state_dir)? {
        return Ok(Some(identity));
    }
    let Some(ticket_file) = &config.ticket_file else {
        return Err(RunError::NotEnrolled {
            state_dir: config.state_dir.clone(),
        });
    };
    let ticket = read_ticket(ticket_file)?;
    loop {
        let result = tokio::select! {
            result = enrol_here(config, &ticket, time.clone()) => result,
            () = stop.reached(Stage::NoNewWork) => return Ok(None),
        };
        match result {
            Ok(identity) => {
                tracing::info!(agent = %identity.agent_id, "enrolled");
                return Ok(Some(identity));
            }
            Err(IdentityError::Dial(error)) => {
                tracing::warn!(error = error_chain(&error), "cannot enrol yet");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = sleep(ENROL_RETRY) => {}
            () = stop.reached(Stage::NoNewWork) => return Ok(None),
        }
    }
}
