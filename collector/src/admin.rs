//! What the subcommands ask of the running service: the Admin API on a Unix socket that only our own user can open.
//!
//! Every change goes the same way as everything else: it is checked against the catalogue, logged, applied, and
//! answered when the catalogue holds it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use extranet_agent::clock::Clock;
use extranet_agent::identity::ticket::Ticket;
use extranet_agent::shell::{Shutdown, Stage, error_chain, spawn_named};
use extranet_proto::id::{AgentId, ApId};
use extranet_proto::session::MeasurementRequest;
use extranet_proto::wire::admin_server::{Admin as AdminApi, AdminServer};
use extranet_proto::wire::log_record::Input;
use extranet_proto::{limits, wire};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::fleet::Fleet;
use crate::ingest::Ingest;
use crate::inventory::import::Files;
use crate::lookup;
use crate::pki::Authority;
use crate::self_stats::{Stats, count};
use crate::store::{Planned, Store, StoreError};
use crate::syslog;

mod security;
mod shown;

/// How long a ticket can be used when nobody says otherwise.
const TICKET_HOURS: u32 = 24;
/// Longest life of a ticket: a technician's journey through a prefecture.
const TICKET_HOURS_MAX: u32 = 90 * 24;
/// How long a measurement may take when nobody says otherwise, on top of the check's own timeout.
const MEASURE_SLACK: Duration = Duration::from_secs(5);

/// The socket's place in the state folder.
pub fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join("admin.sock")
}

/// The Admin API.
#[derive(Clone)]
pub struct Admin {
    /// Checks and queries.
    pub store: Store,
    /// Where changes are logged.
    pub ingest: Ingest,
    /// Who is connected.
    pub fleet: Fleet,
    /// Its fingerprint goes into tickets.
    pub authority: Arc<Authority>,
    /// Our clock.
    pub clock: Clock,
    /// Counters.
    pub stats: Arc<Stats>,
    /// What the exporters say about themselves.
    pub exports: Arc<dyn Fn() -> Vec<wire::ExportStatus> + Send + Sync>,
    /// What the syslog exports say about themselves.
    pub syslog: syslog::Exports,
}

/// Opens the socket, mode 0600. A socket that a dead process left is replaced; the log's lock has made sure by now that
/// no other collector uses this folder.
pub fn bind(state_dir: &Path) -> std::io::Result<UnixListener> {
    let path = socket_path(state_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The folder is 0700, so nobody can connect between these two calls.
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until the process flushes: a `status` during the shutdown still gets its answer.
pub fn start(admin: Admin, listener: UnixListener, shutdown: Shutdown) -> JoinHandle<()> {
    spawn_named("admin", async move {
        let service = AdminServer::new(admin).max_decoding_message_size(limits::IMPORT_BYTES);
        let served = tonic::transport::Server::builder()
            .serve_with_incoming_shutdown(
                service,
                UnixListenerStream::new(listener),
                shutdown.reached(Stage::Flush),
            )
            .await;
        if let Err(error) = served {
            tracing::error!(error = error_chain(&error), "admin socket failed");
        }
    })
}

/// Connects to the running service.
pub async fn connect(
    state_dir: &Path,
) -> Result<wire::admin_client::AdminClient<tonic::transport::Channel>, tonic::transport::Error> {
    let path = socket_path(state_dir);
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            UnixStream::connect(path)
                .await
                .map(hyper_util::rt::TokioIo::new)
        }
    });
    // The address is never used, the connector goes to the socket.
    let endpoint = tonic::transport::Endpoint::from_static("http://admin");
    let channel = endpoint.connect_with_connector(connector).await?;
    Ok(wire::admin_client::AdminClient::new(channel)
        .max_decoding_message_size(limits::IMPORT_BYTES)
        .max_encoding_message_size(limits::IMPORT_BYTES))
}

impl Admin {
    /// Logs a change and waits until the catalogue holds it.
    async fn log(&self, input: Input) -> Result<(), Status> {
        let position = self
            .ingest
            .log(input)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        self.store
            .wait_applied(position)
            .await
            .map_err(|error| store_failed(&error))
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        lookup::read(&self.store, query)
            .await
            .map_err(|error| store_failed(&error))
    }

    async fn change_inventory(&self, planned: Planned) -> Result<wire::ImportReply, Status> {
        if let Some(record) = planned.record {
            self.log(Input::InventoryChanged(record)).await?;
        }
        Ok(planned.reply)
    }

    fn called(&self, call: &'static str) {
        count(&self.stats.admin_calls, call);
    }
}

fn store_failed(error: &StoreError) -> Status {
    tracing::error!(error = error_chain(error), "an admin call failed");
    Status::internal(error_chain(error))
}

fn agent_id(text: String) -> Result<AgentId, Status> {
    AgentId::new(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

#[tonic::async_trait]
impl AdminApi for Admin {
    async fn new_ticket(
        &self,
        request: Request<wire::NewTicketRequest>,
    ) -> Result<Response<wire::NewTicketReply>, Status> {
        self.called("new_ticket");
        let wire::NewTicketRequest { ap_id, valid_hours } = request.into_inner();
        let ap = ApId::new(ap_id).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let asked = ap.clone();
        if !self
            .read(move |store| store.access_point_exists(&asked))
            .await?
        {
            return Err(Status::not_found(format!(
                "no access point {ap} in the inventory: import it first, or add it with \"ap add\""
            )));
        }
        let hours = match valid_hours {
            0 => TICKET_HOURS,
            hours if hours <= TICKET_HOURS_MAX => hours,
            hours => {
                let limit =
                    format!("a ticket is valid for at most {TICKET_HOURS_MAX} hours, not {hours}");
                return Err(Status::invalid_argument(limit));
            }
        };
        let ticket = Ticket::draw(ap.clone(), self.authority.fingerprint())
            .map_err(|error| Status::internal(error.to_string()))?;
        let expires_wall_us = self.clock.read().wall_us + i64::from(hours) * 3_600_000_000;
        self.log(Input::TicketIssued(wire::TicketIssued {
            secret_digest: ticket.secret_digest().to_vec(),
            ap_id: ap.as_str().to_owned(),
            expires_wall_us,
        }))
        .await?;
        tracing::info!(%ap, hours, "ticket issued");
        Ok(Response::new(wire::NewTicketReply {
            ticket: ticket.to_text(),
            expires_wall_us,
        }))
    }

    async fn import(
        &self,
        request: Request<wire::ImportRequest>,
    ) -> Result<Response<wire::ImportReply>, Status> {
        self.called("import");
        let request = request.into_inner();
        let plan = move |store: &Store| {
            let files = Files {
                access_points: &request.access_points_csv,
                targets: &request.targets_csv,
                villages: &request.villages_csv,
            };
            store.plan_inventory(&files, &request.actor)
        };
        let planned = self.read(plan).await?;
        Ok(Response::new(self.change_inventory(planned).await?))
    }

    async fn add_access_point(
        &self,
        request: Request<wire::AddAccessPointRequest>,
    ) -> Result<Response<wire::ImportReply>, Status> {
        self.called("add_access_point");
        let request = request.into_inner();
        let planned = self.read(move |store| store.plan_add_ap(&request)).await?;
        Ok(Response::new(self.change_inventory(planned).await?))
    }

    async fn apply_plan(
        &self,
        request: Request<wire::ApplyPlanRequest>,
    ) -> Result<Response<wire::ApplyPlanReply>, Status> {
        self.called("apply_plan");
        let wire::ApplyPlanRequest { plan_toml, actor } = request.into_inner();
        let (record, reply) = self
            .read(move |store| store.plan_plan(&plan_toml, &actor))
            .await?;
        if let Some(record) = record {
            self.log(Input::PlanChanged(record)).await?;
        }
        Ok(Response::new(reply))
    }

    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusReply>, Status> {
        self.called("status");
        let request = request.into_inner();
        let mut reply = self.read(move |store| store.status(&request)).await?;
        env!("CARGO_PKG_VERSION").clone_into(&mut reply.collector_version);
        reply.collector_wall_us = self.clock.read().wall_us;
        for agent in reply.access_points.iter_mut().flat_map(|ap| &mut ap.agents) {
            let live = AgentId::new(agent.agent_id.clone())
                .ok()
                .and_then(|id| self.fleet.live(&id));
            agent.connected = live.is_some();
            if let Some(live) = live {
                agent.clock_offset_us = live.clock_offset_us;
                agent.version = live.version;
                agent.privilege_tier = live.privilege_tier;
            }
        }
        let (records, bytes) = self.ingest.size();
        let applied_lag_records = records.saturating_sub(self.store.applied_records());
        reply.log = Some(wire::LogStatus {
            records,
            bytes,
            applied_lag_records,
        });
        reply.exports = (self.exports)();
        reply.syslog = self.syslog.status();
        Ok(Response::new(reply))
    }

    async fn measure(
        &self,
        request: Request<wire::MeasureRequest>,
    ) -> Result<Response<wire::MeasureReply>, Status> {
        self.called("measure");
        let wire::MeasureRequest {
            agent_id: agent,
            target,
            check,
            timeout_ms,
            actor,
        } = request.into_inner();
        let agent = agent_id(agent)?;
        let checked = wire::MeasurementRequest {
            request_id: 1,
            target,
            check,
        };
        let MeasurementRequest { target, check, .. } = MeasurementRequest::try_from(checked)
            .map_err(|error| Status::invalid_argument(error_chain(&error)))?;
        let timeout = match timeout_ms {
            0 => check.longest_run() + MEASURE_SLACK,
            ms => Duration::from_millis(ms.into()),
        };
        tracing::info!(%agent, actor, probe = check.probe.kind(), "measurement asked for");
        let shown = shown::Asked::new(&target, &check);
        let reply = match self.fleet.measure(&agent, target, check, timeout).await {
            Ok(Ok(records)) => shown.measured(&agent, &records),
            Ok(Err(refusal)) => wire::MeasureReply {
                measurement: None,
                refusal,
            },
            Err(error) => wire::MeasureReply {
                measurement: None,
                refusal: error.to_string(),
            },
        };
        Ok(Response::new(reply))
    }

    async fn revoke_agent(
        &self,
        request: Request<wire::RevokeAgentRequest>,
    ) -> Result<Response<wire::RevokeAgentReply>, Status> {
        self.called("revoke_agent");
        let wire::RevokeAgentRequest {
            agent_id: agent,
            actor,
        } = request.into_inner();
        let agent = agent_id(agent)?;
        let asked = agent.clone();
        if self.read(move |store| store.agent(&asked)).await?.is_none() {
            return Err(Status::not_found(format!("no agent {agent} is enrolled")));
        }
        tracing::warn!(%agent, actor, "agent revoked");
        self.log(Input::AgentRevoked(wire::AgentRevoked {
            agent_id: agent.as_str().to_owned(),
            actor,
        }))
        .await?;
        // Behind the catalogue: a stream that opens now is refused already.
        let was_connected = self.fleet.revoke(&agent);
        Ok(Response::new(wire::RevokeAgentReply { was_connected }))
    }

    async fn security_events(
        &self,
        request: Request<wire::SecurityEventsRequest>,
    ) -> Result<Response<wire::SecurityEventsReply>, Status> {
        self.called("security_events");
        let reply = self.list_security_events(request.into_inner()).await?;
        Ok(Response::new(reply))
    }

    async fn close_security_event(
        &self,
        request: Request<wire::CloseSecurityEventRequest>,
    ) -> Result<Response<wire::CloseSecurityEventReply>, Status> {
        self.called("close_security_event");
        Ok(Response::new(self.close_event(request.into_inner()).await?))
    }

    async fn add_security_window(
        &self,
        request: Request<wire::AddSecurityWindowRequest>,
    ) -> Result<Response<wire::AddSecurityWindowReply>, Status> {
        self.called("add_security_window");
        Ok(Response::new(self.add_window(request.into_inner()).await?))
    }

    async fn security_windows(
        &self,
        _request: Request<wire::SecurityWindowsRequest>,
    ) -> Result<Response<wire::SecurityWindowsReply>, Status> {
        self.called("security_windows");
        Ok(Response::new(self.list_windows().await?))
    }
}
