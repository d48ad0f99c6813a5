//! Enrolment and renewal: a ticket or an old key becomes a certificate.
//!
//! Order of an enrolment: the ticket is looked up by the digest of its secret (known? not expired? for this access
//! point? unused?), the certificate is made, the log takes it, the catalogue takes it over, and only then the agent gets
//! its answer: a certificate that is out is always known, and its ticket always used up.
//!
//! An answer may be lost on its way. Whoever asks again with the same key before the ticket expires gets another
//! certificate for the same agent; the request's own signature proves that he holds the key.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use extranet_agent::clock::Clock;
use extranet_agent::shell::{error_chain, spawn_named};
use extranet_proto::id::{AgentId, ApId};
use extranet_proto::wire::enrolment_server::Enrolment as EnrolmentApi;
use extranet_proto::wire::log_record::Input;
use extranet_proto::wire::{CertificateIssued, EnrolReply, EnrolRequest, RenewRequest};
use tonic::{Request, Response, Status};

use crate::ingest::{Ingest, NotDurable};
use crate::listen::Peer;
use crate::lookup;
use crate::pki::{self, Authority, Issued, Refused};
use crate::self_stats::{Stats, count};
use crate::store::{Store, StoreError, TicketInfo, UsedTicket};

/// Characters of an access point's id that an agent's id begins with; 64 less a dash and the random part.
const AGENT_ID_PREFIX: usize = 55;

/// Why nobody was enrolled.
#[derive(Debug, thiserror::Error)]
enum EnrolError {
    #[error("the request is not valid: {0}")]
    Malformed(&'static str),
    #[error("this ticket is not known here")]
    UnknownTicket,
    #[error("this ticket has been used already")]
    UsedTicket,
    #[error("this ticket has expired")]
    ExpiredTicket,
    #[error("this ticket is for another access point")]
    OtherAccessPoint,
    #[error("this agent is not known here")]
    UnknownAgent,
    #[error("this agent has been revoked")]
    Revoked,
    #[error(transparent)]
    Certificate(#[from] Refused),
    #[error(transparent)]
    NotDurable(#[from] NotDurable),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EnrolError {
    fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::UnknownTicket => "unknown_ticket",
            Self::UsedTicket => "used_ticket",
            Self::ExpiredTicket => "expired_ticket",
            Self::OtherAccessPoint => "other_access_point",
            Self::UnknownAgent => "unknown_agent",
            Self::Revoked => "revoked",
            Self::Certificate(Refused::NotOurs) => "not_ours",
            Self::Certificate(Refused::Expired) => "expired_certificate",
            Self::Certificate(Refused::Signature) => "bad_signature",
            Self::Certificate(_) => "bad_request",
            Self::NotDurable(_) => "not_durable",
            Self::Store(_) => "store",
        }
    }

    /// What the agent is told: what is wrong with its request, but nothing about our disk.
    fn status(&self) -> Status {
        match self {
            Self::Malformed(_) => Status::invalid_argument(self.to_string()),
            Self::Certificate(Refused::Ours) | Self::Store(_) => {
                Status::internal("the collector cannot enrol now")
            }
            Self::NotDurable(_) => {
                Status::unavailable("the collector cannot enrol now, try again later")
            }
            _ => Status::permission_denied(self.to_string()),
        }
    }
}

/// The enrolment service.
#[derive(Clone)]
pub struct Enrolment {
    authority: Arc<Authority>,
    store: Store,
    ingest: Ingest,
    clock: Clock,
    stats: Arc<Stats>,
    /// Tickets that are being used right now: two agents cannot share one.
    in_hand: Arc<Mutex<HashSet<[u8; 32]>>>,
}

/// Holds a ticket while it is being used.
struct InHand {
    tickets: Arc<Mutex<HashSet<[u8; 32]>>>,
    digest: [u8; 32],
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.tickets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.digest);
    }
}

impl Enrolment {
    /// The service over its parts.
    pub fn new(
        authority: Arc<Authority>,
        store: Store,
        ingest: Ingest,
        clock: Clock,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            authority,
            store,
            ingest,
            clock,
            stats,
            in_hand: Arc::default(),
        }
    }

    async fn enrol_agent(&self, request: EnrolRequest) -> Result<EnrolReply, EnrolError> {
        let ap = ApId::new(request.ap_id).map_err(|_| EnrolError::Malformed("access point id"))?;
        let digest = pki::digest(&request.ticket_secret);
        let _in_hand = self.take_in_hand(digest).ok_or(EnrolError::UsedTicket)?;
        let ticket = lookup::read(&self.store, move |store| store.ticket(&digest)).await?;
        let now_us = self.clock.read().wall_us;
        let asked_before = check_ticket(ticket, &ap, now_us)?;
        let agent = match &asked_before {
            Some(used) => used.agent.clone(),
            None => draw_agent_id(&ap),
        };
        let issued = self
            .authority
            .issue(&request.certificate_request, &agent, &ap, now_us)?;
        if let Some(used) = asked_before {
            return self.answer_again(&ap, digest, &used, &issued).await;
        }
        self.record(&agent, &ap, digest.to_vec(), &issued, false)
            .await?;
        count(&self.stats.enrol_issued, "ticket");
        tracing::info!(%agent, %ap, "agent enrolled");
        Ok(self.reply(&agent, &issued))
    }

    /// The answer to an enrolment that succeeded before: only for the same key, and not for an agent that was revoked.
    async fn answer_again(
        &self,
        ap: &ApId,
        secret_digest: [u8; 32],
        used: &UsedTicket,
        issued: &Issued,
    ) -> Result<EnrolReply, EnrolError> {
        if used.key_digest.as_deref() != Some(issued.key_digest.as_slice()) {
            return Err(EnrolError::UsedTicket);
        }
        let asked = used.agent.clone();
        let known = lookup::read(&self.store, move |store| store.agent(&asked)).await?;
        if known.is_none_or(|agent| agent.revoked) {
            return Err(EnrolError::Revoked);
        }
        self.record(&used.agent, ap, secret_digest.to_vec(), issued, true)
            .await?;
        count(&self.stats.enrol_issued, "asked_again");
        tracing::info!(agent = %used.agent, %ap, "agent enrolled again with the same key: the first answer was lost");
        Ok(self.reply(&used.agent, issued))
    }

    async fn renew_agent(&self, request: RenewRequest) -> Result<EnrolReply, EnrolError> {
        let now_us = self.clock.read().wall_us;
        let RenewRequest {
            certificate,
            certificate_request,
            signature,
        } = request;
        let subject =
            self.authority
                .check_renewal(&certificate, &certificate_request, &signature, now_us)?;
        let agent = subject.agent;
        let asked = agent.clone();
        let known = lookup::read(&self.store, move |store| store.agent(&asked)).await?;
        let known = known.ok_or(EnrolError::UnknownAgent)?;
        if known.revoked {
            return Err(EnrolError::Revoked);
        }
        let issued = self
            .authority
            .issue(&certificate_request, &agent, &known.ap_id, now_us)?;
        self.record(&agent, &known.ap_id, Vec::new(), &issued, true)
            .await?;
        count(&self.stats.enrol_issued, "renewal");
        tracing::info!(%agent, "certificate renewed");
        Ok(self.reply(&agent, &issued))
    }

    /// Issues a certificate for the vantage inside this process, for the public key in `certificate_request`.
    pub(crate) async fn issue_own(
        &self,
        agent: &AgentId,
        ap: &ApId,
        certificate_request: &[u8],
    ) -> Result<EnrolReply, Box<dyn std::error::Error + Send + Sync>> {
        let now_us = self.clock.read().wall_us;
        let issued = self
            .authority
            .issue(certificate_request, agent, ap, now_us)?;
        self.record(agent, ap, Vec::new(), &issued, false).await?;
        count(&self.stats.enrol_issued, "own");
        Ok(self.reply(agent, &issued))
    }

    /// SHA-256 of the authority's certificate.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        self.authority.fingerprint()
    }

    /// Logs an issued certificate and waits until the catalogue knows it.
    async fn record(
        &self,
        agent: &AgentId,
        ap: &ApId,
        secret_digest: Vec<u8>,
        issued: &Issued,
        renewal: bool,
    ) -> Result<(), EnrolError> {
        let record = CertificateIssued {
            agent_id: agent.as_str().to_owned(),
            ap_id: ap.as_str().to_owned(),
            secret_digest,
            certificate_digest: issued.digest.to_vec(),
            not_after_wall_us: issued.not_after_wall_us,
            renewal,
            public_key_digest: issued.key_digest.to_vec(),
        };
        let position = self.ingest.log(Input::CertificateIssued(record)).await?;
        Ok(self.store.wait_applied(position).await?)
    }

    fn reply(&self, agent: &AgentId, issued: &Issued) -> EnrolReply {
        EnrolReply {
            certificate_chain: vec![issued.certificate.to_vec()],
            trusted_roots: vec![self.authority.certificate().to_vec()],
            agent_id: agent.as_str().to_owned(),
        }
    }

    fn take_in_hand(&self, digest: [u8; 32]) -> Option<InHand> {
        let mut tickets = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        // Lazily: a guard that is made and dropped would take the ticket out of another's hand.
        tickets.insert(digest).then(|| InHand {
            tickets: Arc::clone(&self.in_hand),
            digest,
        })
    }

    fn answer(
        &self,
        what: &'static str,
        peer: Option<&Peer>,
        outcome: Result<EnrolReply, EnrolError>,
    ) -> Result<Response<EnrolReply>, Status> {
        outcome.map(Response::new).map_err(|error| {
            count(&self.stats.enrol_refused, error.label());
            let address = peer.map(|peer| peer.address.to_string()).unwrap_or_default();
            tracing::warn!(%address, reason = error.label(), error = error_chain(&error), "{what} refused");
            error.status()
        })
    }
}

/// The three questions to a ticket, in this order; who has used it already.
fn check_ticket(
    ticket: Option<TicketInfo>,
    ap: &ApId,
    now_us: i64,
) -> Result<Option<UsedTicket>, EnrolError> {
    let ticket = ticket.ok_or(EnrolError::UnknownTicket)?;
    if ticket.expires_wall_us <= now_us {
        return Err(EnrolError::ExpiredTicket);
    }
    if ticket.ap_id != *ap {
        return Err(EnrolError::OtherAccessPoint);
    }
    Ok(ticket.used)
}

/// The access point's id, so that people see where an agent stands, and 32 random bits: an access point may have
/// several agents, one after another or at once.
fn draw_agent_id(ap: &ApId) -> AgentId {
    let mut random = [0; 4];
    getrandom::fill(&mut random).expect("the kernel's random source works");
    let prefix: String = ap.as_str().chars().take(AGENT_ID_PREFIX).collect();
    let suffix = u32::from_be_bytes(random);
    AgentId::new(format!("{prefix}-{suffix:08x}")).expect("made of characters that an id may have")
}

#[tonic::async_trait]
impl EnrolmentApi for Enrolment {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let this = self.clone();
        let request = request.into_inner();
        // On a task of its own: an agent that hangs up does not leave a ticket half used.
        let outcome = spawn_named("enrol", async move { this.enrol_agent(request).await }).await;
        let outcome = outcome.map_err(|_| Status::internal("the collector failed"))?;
        self.answer("enrolment", peer.as_ref(), outcome)
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<EnrolReply>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let outcome = self.renew_agent(request.into_inner()).await;
        self.answer("renewal", peer.as_ref(), outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_ids_fit_whatever_the_access_point_is_called() {
        let long = ApId::new("x".repeat(64)).unwrap();
        assert_eq!(draw_agent_id(&long).as_str().len(), 64);
        assert_ne!(draw_agent_id(&long), draw_agent_id(&long));
    }

    #[test]
    fn a_ticket_answers_three_questions() {
        let ap = ApId::new("ap-1").unwrap();
        let good = TicketInfo {
            ap_id: ap.clone(),
            expires_wall_us: 10,
            used: None,
        };
        let label = |ticket, ap: &str, now| {
            let checked = check_ticket(ticket, &ApId::new(ap).unwrap(), now);
            checked.map_or_else(|error| error.label(), |_| "good")
        };
        assert_eq!(label(Some(good.clone()), "ap-1", 9), "good");
        assert_eq!(label(None, "ap-1", 9), "unknown_ticket");
        assert_eq!(label(Some(good.clone()), "ap-1", 10), "expired_ticket");
        assert_eq!(label(Some(good), "ap-2", 9), "other_access_point");
    }
}
