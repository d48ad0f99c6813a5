//! The uplink service: one bidirectional stream per agent.
//!
//! A stream goes through three steps, each in a file of its own: who is it ([`Uplink::exchange`], here), the greeting
//! ([`greeting`]: hello, welcome, assignment), and then batches, acknowledgements and orders until one side ends it
//! ([`stream`]). Where the agent's boots lie on the wall clock is kept in [`boots`].

use std::sync::Arc;
use std::time::Duration;

use extranet_agent::clock::Clock;
use extranet_agent::shell::{Shutdown, error_chain, spawn_named};
use extranet_proto::wire;
use extranet_proto::wire::log_record::Input;
use extranet_proto::wire::uplink_server::Uplink as UplinkApi;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::fleet::Fleet;
use crate::ingest::Ingest;
use crate::listen::Peer;
use crate::lookup;
use crate::pki::Subject;
use crate::self_stats::{Stats, count};
use crate::store::Store;

pub mod boots;
mod greeting;
mod rationed;
mod stream;

use boots::Boots;

/// Messages to an agent that wait for the network; behind them the session waits.
const OUTGOING: usize = 8;
/// How long an agent may take to read what waits for it before its stream is given up.
const SEND_TIMEOUT: Duration = Duration::from_mins(1);

/// What every session works with.
#[derive(Clone)]
pub struct Parts {
    /// Catalogue: is the agent revoked, what is its assignment.
    pub store: Store,
    /// The log.
    pub ingest: Ingest,
    /// Who is connected.
    pub fleet: Fleet,
    /// Times of boots.
    pub boots: Boots,
    /// Our clock.
    pub clock: Clock,
    /// Counters.
    pub stats: Arc<Stats>,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// The uplink service.
#[derive(Clone)]
pub struct Uplink(Arc<Parts>);

/// Why a stream ended; also the label `reason`.
#[derive(Debug)]
enum Ended {
    /// The agent closed it.
    Closed,
    /// The connection broke.
    Lost,
    /// Nothing came for too long.
    Idle,
    /// The agent did not read what it was sent.
    NotReading,
    /// A newer stream took over.
    Replaced,
    /// The agent's certificates are void.
    Revoked,
    /// It has lasted long enough.
    Lifetime,
    /// The collector stops.
    Stopping,
    /// The log cannot be written: come back later.
    NotDurable,
    /// The agent broke a rule of the contract.
    Refused(Status),
    /// The collector's own fault.
    Failed(Status),
}

impl Ended {
    const fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Lost => "lost",
            Self::Idle => "idle",
            Self::NotReading => "not_reading",
            Self::Replaced => "replaced",
            Self::Revoked => "revoked",
            Self::Lifetime => "lifetime",
            Self::Stopping => "stopping",
            Self::NotDurable => "not_durable",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }

    /// What the agent is told as the last word of the stream.
    fn status(self) -> Option<Status> {
        match self {
            Self::Closed | Self::Lost | Self::NotReading | Self::Lifetime | Self::NotDurable => {
                None
            }
            Self::Idle => Some(Status::deadline_exceeded("nothing came for too long")),
            Self::Replaced => Some(Status::aborted("a newer stream of this agent took over")),
            Self::Revoked => Some(revoked()),
            Self::Stopping => Some(Status::unavailable("the collector stops")),
            Self::Refused(status) | Self::Failed(status) => Some(status),
        }
    }
}

fn revoked() -> Status {
    Status::permission_denied("this agent has been revoked")
}

/// The way to the agent.
#[derive(Debug, Clone)]
struct Outgoing(mpsc::Sender<Result<wire::CollectorMessage, Status>>);

impl Outgoing {
    async fn send(&self, message: impl Into<wire::CollectorMessage>) -> Result<(), Ended> {
        match self.0.send_timeout(Ok(message.into()), SEND_TIMEOUT).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Ended::NotReading),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Ended::Lost),
        }
    }
}

impl Uplink {
    /// The service over its parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Deny by default: an agent is let in when the catalogue knows it and it is not revoked. One that holds our
    /// certificate and is not in the catalogue was enrolled after the backup from which the catalogue was restored:
    /// it is entered again, since nobody will travel to it.
    async fn admit(&self, subject: &Subject) -> Result<(), Status> {
        let parts = &self.0;
        let agent = subject.agent.clone();
        let unavailable = || Status::unavailable("the collector cannot answer now");
        let known = lookup::read(&parts.store, move |store| store.agent(&agent)).await;
        let known = known.map_err(|error| {
            tracing::error!(error = error_chain(&error), "cannot look up an agent");
            unavailable()
        })?;
        match known {
            Some(known) if known.revoked => Err(revoked()),
            Some(_) => Ok(()),
            None => {
                let record = wire::CertificateIssued {
                    agent_id: subject.agent.as_str().to_owned(),
                    ap_id: subject.ap.as_str().to_owned(),
                    secret_digest: Vec::new(),
                    certificate_digest: subject.digest.to_vec(),
                    not_after_wall_us: subject.not_after_wall_us,
                    renewal: false,
                    public_key_digest: Vec::new(),
                };
                let logged = parts.ingest.log(Input::CertificateIssued(record)).await;
                let position = logged.map_err(|_| unavailable())?;
                tracing::warn!(agent = %subject.agent, "agent with our certificate entered again");
                parts
                    .store
                    .wait_applied(position)
                    .await
                    .map_err(|_| unavailable())
            }
        }
    }
}

#[tonic::async_trait]
impl UplinkApi for Uplink {
    type ExchangeStream = ReceiverStream<Result<wire::CollectorMessage, Status>>;

    async fn exchange(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let Some(Peer {
            address,
            subject: Some(subject),
        }) = peer
        else {
            return Err(Status::unauthenticated("a client certificate is needed"));
        };
        self.admit(&subject).await.inspect_err(|status| {
            count(&self.0.stats.session_closed, "not_admitted");
            tracing::warn!(agent = %subject.agent, %address, reason = status.message(), "agent not admitted");
        })?;
        let (sender, receiver) = mpsc::channel(OUTGOING);
        let parts = Arc::clone(&self.0);
        let inbound = request.into_inner();
        spawn_named("session", async move {
            stream::run(&parts, subject.agent, address, inbound, Outgoing(sender)).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
