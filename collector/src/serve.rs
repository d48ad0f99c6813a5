//! The running service: opens everything in order, wires the stages, stops them in stages.
//!
//! Start: state folder, log (its lock keeps a second collector out), catalogue, certification authority, account of what
//! the log holds, ports; only then tasks. Whatever is wrong is said before anything runs.
//!
//! Stop: no new connections and streams, streams end with what is durable acknowledged; senders flush; the log gets its
//! last record and is closed; the catalogue takes over the rest.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use extranet_agent::clock::Clock;
use extranet_agent::shell::{
    self, Shutdown, ShutdownTrigger, Stage, error_chain, exit, spawn_named,
};
use extranet_journal::{Cursor, Journal, JournalError, Now, Options, WhenFull};
use extranet_proto::wire::enrolment_server::EnrolmentServer;
use extranet_proto::wire::log_record::Input;
use extranet_proto::wire::uplink_server::UplinkServer;
use extranet_proto::{limits, wire};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::admin::{self, Admin};
use crate::alert;
use crate::config::Config;
use crate::enrol::Enrolment;
use crate::export::{self, Exporters};
use crate::fleet::Fleet;
use crate::ingest::held::Held;
use crate::ingest::{Ingest, IngestThread, NotDurable};
use crate::listen::{self, Incoming, Tls};
use crate::lookup;
use crate::pki::{Authority, PkiError};
use crate::self_stats::Stats;
use crate::session::boots::Boots;
use crate::session::{Parts, Uplink};
use crate::store::{Follower, Position, Store, StoreError, StoreSettings};
use crate::syslog;
use crate::vantage::{self, Vantage, VantageError};

/// Length at which a segment of the log is sealed: the unit in which old records are dropped.
const SEGMENT_BYTES: u64 = 64 << 20;
/// How long streams may take to end.
const STREAMS_END: Duration = Duration::from_secs(10);
/// How long a connection to a metrics engine or an Alertmanager may take to open.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the senders behind the log may take to flush.
const FLUSH: Duration = Duration::from_secs(5);
/// Calls at a time on one connection: an agent has one stream.
const CALLS_PER_CONNECTION: u32 = 8;
/// Longest life of a connection for enrolment: one request takes a second.
const ENROLMENT_CONNECTION: Duration = Duration::from_mins(2);
/// Longest time for one enrolment or renewal.
const ENROLMENT_TIMEOUT: Duration = Duration::from_mins(1);

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state folder cannot be made.
    #[error("cannot create the state folder {}", path.display())]
    StateFolder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The log cannot be opened.
    #[error("cannot open the ingest log")]
    Log(#[from] JournalError),
    /// The catalogue cannot be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certification authority is not usable.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// What the log holds cannot be found out.
    #[error("cannot account for the ingest log")]
    Held(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A port or socket cannot be opened.
    #[error("cannot listen on {what}")]
    Listen {
        /// Which.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// The log does not take its first record.
    #[error("the ingest log takes nothing")]
    NotDurable(#[from] NotDurable),
    /// The plan that the configuration names cannot be used.
    #[error("plan_file {}: {problems}", path.display())]
    Plan {
        /// Which file.
        path: PathBuf,
        /// All that is wrong with it.
        problems: String,
    },
    /// There is no HTTP client for metrics engines and Alertmanagers.
    #[error("cannot set up the HTTP client")]
    HttpClient(#[source] reqwest::Error),
    /// The collector's own vantage cannot be set up.
    #[error(transparent)]
    Vantage(#[from] VantageError),
    /// The system refused a thread or a signal handler.
    #[error("the system refused a resource")]
    System(#[source] std::io::Error),
}

impl ServeError {
    /// Exit status of the process.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Plan { .. } => exit::BAD_CONFIGURATION,
            Self::StateFolder { .. }
            | Self::Log(_)
            | Self::Store(_)
            | Self::Pki(_)
            | Self::Held(_) => exit::BAD_STATE,
            _ => exit::FAILURE,
        }
    }
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: &Config, clock: Clock) -> Result<(), ServeError> {
    let running = Running::start(config, clock).await?;
    shell::stop_requested().await.map_err(ServeError::System)?;
    tracing::info!("stopping");
    running.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// A service that runs.
pub struct Running {
    /// Where agents connect.
    pub address: SocketAddr,
    /// Where statistics are served.
    pub self_address: Option<SocketAddr>,
    /// The Admin API, for use in the same process.
    pub admin: Admin,
    /// The service's statistics.
    pub stats: Arc<Stats>,
    trigger: ShutdownTrigger,
    vantage: Option<Vantage>,
    /// End when streams have ended.
    streams: Vec<JoinHandle<()>>,
    /// End when what they have is flushed.
    senders: Vec<JoinHandle<()>>,
    ingest: Ingest,
    ingest_thread: IngestThread,
    follower: Follower,
    socket: PathBuf,
}

impl Running {
    /// Opens everything and starts all stages.
    pub async fn start(config: &Config, clock: Clock) -> Result<Self, ServeError> {
        let stats = Arc::new(Stats::new());
        let (trigger, shutdown) = shell::shutdown();
        let opened = State::open(config, &clock, &stats)?;
        let ports = Ports::open(config).await?;
        let store = opened.store.clone();
        let follower = store.start(opened.journal.reader(after(store.applied())))?;
        let client = http_client()?;
        let senders_need = export::Parts {
            store: &store,
            client: &client,
            clock: &clock,
            stats: &stats,
            shutdown: &shutdown,
        };
        let reader_behind = |position| opened.journal.reader(after(position));
        let exporters = Exporters::start(&config.remote_write, reader_behind, &senders_need)?;
        let tellers = alert::start(
            &config.alertmanager,
            &store,
            &client,
            &clock,
            &stats,
            &shutdown,
        );
        let (syslog, receivers) = syslog::start(&config.syslog, &store, &clock, &stats, &shutdown);
        let (ingest, ingest_thread) = Ingest::start(
            opened.journal,
            opened.held,
            store.clone(),
            clock.clone(),
            Arc::clone(&stats),
        )
        .map_err(ServeError::System)?;
        first_records(config, &store, &ingest).await?;

        let fleet = Fleet::new(Arc::clone(&stats));
        fleet.follow_assignments(store.clone(), shutdown.clone());
        let admin = Admin {
            store,
            ingest: ingest.clone(),
            fleet,
            authority: opened.authority,
            clock: clock.clone(),
            stats: Arc::clone(&stats),
            exports: Arc::new({
                let exporters = exporters.clone();
                move || exporters.status()
            }),
            syslog,
        };
        let incoming = listen::start(
            ports.agents,
            opened.tls,
            clock.clone(),
            Arc::clone(&stats),
            shutdown.clone(),
        );
        tracing::info!(address = %ports.address, "agents connect here");
        let enrolment = enrolment(&admin);
        let streams = serve_agents(
            incoming,
            uplink(&admin, opened.boots, &shutdown),
            enrolment.clone(),
            &shutdown,
        );
        let mut senders = vec![admin::start(admin.clone(), ports.admin, shutdown.clone())];
        senders.extend(tellers);
        senders.extend(receivers);
        senders.push(tokio::task::spawn_blocking(move || exporters.join()));
        tracing::info!(path = %admin::socket_path(&config.state_dir).display(), "subcommands connect here");
        let self_address = ports
            .statistics
            .as_ref()
            .and_then(|listener| listener.local_addr().ok());
        if let Some(listener) = ports.statistics {
            tracing::info!(address = ?self_address, "statistics are served here");
            serve_statistics(listener, &stats, &shutdown);
        }
        spawn_named("tick", tick(config.tick, ingest.clone(), shutdown));
        let vantage = if config.vantage.enabled {
            Some(vantage::start(config, ports.address, &enrolment, clock).await?)
        } else {
            None
        };
        Ok(Self {
            address: ports.address,
            self_address,
            admin,
            stats,
            trigger,
            vantage,
            streams,
            senders,
            ingest,
            ingest_thread,
            follower,
            socket: admin::socket_path(&config.state_dir),
        })
    }

    /// Stops in stages; see the module.
    pub async fn stop(self) {
        if let Some(vantage) = self.vantage {
            vantage.stop().await;
        }
        self.trigger.advance(Stage::NoNewWork);
        all_end(self.streams, STREAMS_END, "streams").await;
        let stopping = Input::CollectorStopping(wire::CollectorStopping {});
        if let Err(error) = self.ingest.log(stopping).await {
            tracing::error!(
                error = error_chain(&error),
                "the log did not take its last record"
            );
        }
        // While the log's lock is still ours: a new collector makes the socket anew once it has the lock.
        drop(std::fs::remove_file(&self.socket));
        self.ingest.stop().await;
        let (ingest_thread, follower) = (self.ingest_thread, self.follower);
        let closed = tokio::task::spawn_blocking(move || {
            ingest_thread.join();
            follower.stop();
        });
        if closed.await.is_err() {
            tracing::error!("the log could not be closed");
        }
        // Now the catalogue holds everything that is still to be sent.
        self.trigger.advance(Stage::Flush);
        all_end(self.senders, FLUSH, "senders").await;
        self.trigger.advance(Stage::Stop);
    }
}

/// What lies in the state folder, opened in this order: the log's lock keeps a second collector out.
struct State {
    journal: Journal,
    store: Store,
    authority: Arc<Authority>,
    tls: Tls,
    held: Held,
    boots: Boots,
}

impl State {
    fn open(config: &Config, clock: &Clock, stats: &Arc<Stats>) -> Result<Self, ServeError> {
        let path = &config.state_dir;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| ServeError::StateFolder {
                path: path.clone(),
                source,
            })?;
        let now = clock.read();
        let journal = open_log(config, now.wall_ms())?;
        let store = Store::open(path, store_settings(config), Arc::clone(stats))?;
        let authority = Arc::new(Authority::open(&path.join("pki"), now.wall_us)?);
        let tls = Tls::new(&authority, now.wall_us)?;
        let (held, boots) = Held::load(&store, &journal).map_err(ServeError::Held)?;
        Ok(Self {
            journal,
            store,
            authority,
            tls,
            held,
            boots,
        })
    }
}

/// Everything that listens.
struct Ports {
    agents: TcpListener,
    address: SocketAddr,
    statistics: Option<TcpListener>,
    admin: UnixListener,
}

impl Ports {
    async fn open(config: &Config) -> Result<Self, ServeError> {
        let agents = listen::bind(config.listen).map_err(cannot_listen(config.listen))?;
        let address = agents.local_addr().map_err(ServeError::System)?;
        let statistics = match config.self_listen {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(cannot_listen(address))?,
            ),
            None => None,
        };
        let socket = admin::socket_path(&config.state_dir);
        let admin = admin::bind(&config.state_dir).map_err(cannot_listen(socket.display()))?;
        Ok(Self {
            agents,
            address,
            statistics,
            admin,
        })
    }
}

/// Engines and Alertmanagers stand in the operator's own network: an HTTP proxy of the environment is not for them.
fn http_client() -> Result<reqwest::Client, ServeError> {
    reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT)
        .build()
        .map_err(ServeError::HttpClient)
}

fn cannot_listen(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> ServeError {
    let what = what.to_string();
    move |source| ServeError::Listen { what, source }
}

fn enrolment(parts: &Admin) -> Enrolment {
    Enrolment::new(
        Arc::clone(&parts.authority),
        parts.store.clone(),
        parts.ingest.clone(),
        parts.clock.clone(),
        Arc::clone(&parts.stats),
    )
}

fn uplink(parts: &Admin, boots: Boots, shutdown: &Shutdown) -> Uplink {
    Uplink::new(Parts {
        store: parts.store.clone(),
        ingest: parts.ingest.clone(),
        fleet: parts.fleet.clone(),
        boots,
        clock: parts.clock.clone(),
        stats: Arc::clone(&parts.stats),
        shutdown: shutdown.clone(),
    })
}

/// Statistics are served to the very end, so that a stop can be watched.
fn serve_statistics(listener: TcpListener, stats: &Arc<Stats>, shutdown: &Shutdown) {
    let stats = Arc::clone(stats);
    let page = Arc::new(move || stats.page());
    let serving = extranet_agent::self_stats::serve(listener, page, shutdown.clone());
    spawn_named("self_stats", serving);
}

/// What the log gets first: that we are here, and the configured plan.
async fn first_records(config: &Config, store: &Store, ingest: &Ingest) -> Result<(), ServeError> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let started = ingest
        .log(Input::CollectorStarted(wire::CollectorStarted { version }))
        .await?;
    store.wait_applied(started).await?;
    first_plan(config.plan_file.as_deref(), store, ingest).await
}

/// Waits for tasks, but not for ever.
async fn all_end(tasks: Vec<JoinHandle<()>>, patience: Duration, what: &'static str) {
    let all = async {
        for task in tasks {
            // A panic was reported where it happened.
            drop(task.await);
        }
    };
    if tokio::time::timeout(patience, all).await.is_err() {
        tracing::warn!(what, "did not end in time");
    }
}

fn open_log(config: &Config, wall_ms: i64) -> Result<Journal, ServeError> {
    let options = Options {
        segment_bytes: SEGMENT_BYTES,
        max_bytes: config.ingest.max_bytes,
        max_age: Some(config.ingest.max_age),
        keep_acknowledged: true,
        when_full: WhenFull::Refuse,
    };
    let (journal, recovery) =
        Journal::open(&config.state_dir.join("ingest"), options, Now { wall_ms })?;
    if recovery.torn_bytes > 0 || recovery.damaged_records > 0 {
        tracing::warn!(?recovery, "ingest log recovered");
    } else {
        tracing::info!(
            segments = recovery.segments,
            records = recovery.records,
            "ingest log opened"
        );
    }
    Ok(journal)
}

fn store_settings(config: &Config) -> StoreSettings {
    StoreSettings {
        slot: config.state.slot,
        bad_slots: config.state.bad_slots,
        good_slots: config.state.good_slots,
        silent_after: config.state.silent_after,
        tick: config.tick,
        security_hold_down: config.security.hold_down,
    }
}

/// Where to read on behind a record.
fn after(applied: Option<Position>) -> Cursor {
    applied.map_or_else(Cursor::oldest, Cursor::after)
}

/// Puts the configured plan into force when none ever was.
async fn first_plan(file: Option<&Path>, store: &Store, ingest: &Ingest) -> Result<(), ServeError> {
    let Some(path) = file else { return Ok(()) };
    if lookup::read(store, Store::plan_version).await? > 0 {
        return Ok(());
    }
    let refused = |problems: String| ServeError::Plan {
        path: path.to_owned(),
        problems,
    };
    let toml = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    let (record, reply) =
        lookup::read(store, move |store| store.plan_plan(&toml, "plan_file")).await?;
    if !reply.problems.is_empty() {
        return Err(refused(reply.problems.join("; ")));
    }
    if let Some(record) = record {
        let position = ingest.log(Input::PlanChanged(record)).await?;
        store.wait_applied(position).await?;
    }
    Ok(())
}

/// Serves both services of the port until no new work is wanted and their connections have ended.
fn serve_agents(
    incoming: Incoming,
    uplink: Uplink,
    enrolment: Enrolment,
    shutdown: &Shutdown,
) -> Vec<JoinHandle<()>> {
    let uplink = UplinkServer::new(uplink)
        .max_decoding_message_size(limits::MESSAGE_BYTES)
        .max_encoding_message_size(limits::MESSAGE_BYTES);
    let enrolment =
        EnrolmentServer::new(enrolment).max_decoding_message_size(4 * limits::CERTIFICATE_BYTES);
    let builder =
        || tonic::transport::Server::builder().max_concurrent_streams(CALLS_PER_CONNECTION);
    let uplinks = builder().serve_with_incoming_shutdown(
        uplink,
        ReceiverStream::new(incoming.uplink).map(Ok::<_, std::io::Error>),
        no_new_work(shutdown.clone()),
    );
    let enrolments = builder()
        .timeout(ENROLMENT_TIMEOUT)
        .max_connection_age(ENROLMENT_CONNECTION)
        .serve_with_incoming_shutdown(
            enrolment,
            ReceiverStream::new(incoming.enrolment).map(Ok::<_, std::io::Error>),
            no_new_work(shutdown.clone()),
        );
    let report = |served: Result<(), tonic::transport::Error>| {
        if let Err(error) = served {
            tracing::error!(error = error_chain(&error), "service failed");
        }
    };
    vec![
        spawn_named("uplink", async move { report(uplinks.await) }),
        spawn_named("enrolment", async move { report(enrolments.await) }),
    ]
}

async fn no_new_work(shutdown: Shutdown) {
    shutdown.reached(Stage::NoNewWork).await;
}

/// Writes time itself to the log, so that silence is an input too.
async fn tick(every: Duration, ingest: Ingest, shutdown: Shutdown) {
    let mut interval = tokio::time::interval(every);
    // A tick that is late is not made up for: what counts is that time goes on.
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let ticking = async {
        loop {
            interval.tick().await;
            // Counted by the ingest thread when it fails; the next one says as much.
            drop(ingest.log(Input::Tick(wire::Tick {})).await);
        }
    };
    tokio::select! {
        () = ticking => {}
        () = shutdown.reached(Stage::NoNewWork) => {}
    }
}
