//! The agents that are connected now, and what can be asked of them: take an assignment, measure something, go away.
//!
//! One live session per agent: a newer stream replaces the older one, which may be a connection that the network has
//! long forgotten.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use extranet_agent::shell::{Shutdown, Stage, error_chain, spawn_named};
use extranet_proto::assignment::{Check, Target};
use extranet_proto::id::AgentId;
use extranet_proto::record::Record;
use extranet_proto::session::MeasurementRequest;
use tokio::sync::{mpsc, oneshot, watch};

use crate::self_stats::{Stats, count};
use crate::store::Store;

/// Measurements that wait for a session; each is sent at once.
const ORDERS: usize = 16;
/// How long a newer stream waits for the older one to let go, so that the log shows them in order.
const HANDOVER: Duration = Duration::from_secs(5);
/// Pause after the catalogue could not be read.
const RETRY: Duration = Duration::from_secs(1);

/// "Measure this now, and answer here."
#[derive(Debug)]
pub struct Order {
    /// For the agent.
    pub request: MeasurementRequest,
    /// For the asker.
    pub reply: oneshot::Sender<Answer>,
}

/// One result with the definitions of what it names, or the agent's refusal.
pub type Answer = Result<Vec<Record>, String>;

/// Why a session is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Not at all.
    None,
    /// A newer stream of the same agent is there.
    Replaced,
    /// The agent's certificates are void.
    Revoked,
}

/// What is known of a live session, for the status page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Agent's wall clock minus ours, microseconds.
    pub clock_offset_us: i64,
    /// As the agent said.
    pub version: String,
    /// As the agent said.
    pub privilege_tier: u32,
}

/// Why a measurement brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// No stream of this agent is open.
    #[error("the agent is not connected")]
    NotConnected,
    /// The stream has too much to do.
    #[error("the agent has too many measurements under way")]
    Busy,
    /// Nothing came in time.
    #[error("the agent did not answer in time")]
    Timeout,
    /// The stream ended first.
    #[error("the agent's stream ended before it answered")]
    Gone,
}

impl MeasureError {
    /// Label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotConnected => "not_connected",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Gone => "gone",
        }
    }
}

struct Entry {
    session: u64,
    orders: mpsc::Sender<Order>,
    assignment: watch::Sender<u64>,
    end: Arc<watch::Sender<End>>,
    live: Live,
}

/// Handle to the registry; clones share it.
#[derive(Clone)]
pub struct Fleet {
    entries: Arc<Mutex<HashMap<AgentId, Entry>>>,
    sessions: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
    stats: Arc<Stats>,
}

/// A session's place in the fleet; gives it up when dropped.
pub struct Membership {
    fleet: Fleet,
    agent: AgentId,
    session: u64,
    /// Measurements that are wanted of the agent.
    pub orders: mpsc::Receiver<Order>,
    /// Changes when the agent's assignment has changed: read it and send it.
    pub assignment: watch::Receiver<u64>,
    /// When others want it to end.
    pub end: watch::Receiver<End>,
}

impl Fleet {
    /// Nobody is connected.
    pub fn new(stats: Arc<Stats>) -> Self {
        Self {
            entries: Arc::default(),
            sessions: Arc::default(),
            requests: Arc::default(),
            stats,
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<AgentId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a new session, and waits (not for long) until the agent's older one has ended.
    pub async fn join(&self, agent: AgentId, live: Live) -> Membership {
        let (orders, orders_receiver) = mpsc::channel(ORDERS);
        let (end, end_receiver) = watch::channel(End::None);
        let session = self.sessions.fetch_add(1, Ordering::Relaxed);
        let (assignment, assignment_receiver) = watch::channel(0);
        let entry = Entry {
            session,
            orders,
            assignment,
            end: Arc::new(end),
            live,
        };
        let replaced = self.entries().insert(agent.clone(), entry);
        let membership = Membership {
            fleet: self.clone(),
            agent,
            session,
            orders: orders_receiver,
            assignment: assignment_receiver,
            end: end_receiver,
        };
        if let Some(older) = replaced {
            older.end.send_replace(End::Replaced);
            // Closed as soon as the older session has dropped its receiver.
            if tokio::time::timeout(HANDOVER, older.end.closed())
                .await
                .is_err()
            {
                tracing::warn!(agent = %membership.agent, "an older stream does not let go");
            }
        }
        membership
    }

    /// Ends the session of an agent whose certificates are void; whether there was one.
    pub fn revoke(&self, agent: &AgentId) -> bool {
        let entries = self.entries();
        let Some(entry) = entries.get(agent) else {
            return false;
        };
        entry.end.send_replace(End::Revoked);
        true
    }

    /// What is known of the agent's live session.
    pub fn live(&self, agent: &AgentId) -> Option<Live> {
        self.entries().get(agent).map(|entry| entry.live.clone())
    }

    /// Asks an agent to measure now.
    pub async fn measure(
        &self,
        agent: &AgentId,
        target: Target,
        check: Check,
        timeout: Duration,
    ) -> Result<Answer, MeasureError> {
        let answer = self.measure_uncounted(agent, target, check, timeout).await;
        let label = match &answer {
            Ok(Ok(_)) => "answered",
            Ok(Err(_)) => "refused",
            Err(error) => error.label(),
        };
        count(&self.stats.fleet_measurements, label);
        answer
    }

    async fn measure_uncounted(
        &self,
        agent: &AgentId,
        target: Target,
        check: Check,
        timeout: Duration,
    ) -> Result<Answer, MeasureError> {
        let request_id = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let request = MeasurementRequest {
            request_id,
            target,
            check,
        };
        let (reply, answer) = oneshot::channel();
        let orders = self.entries().get(agent).map(|entry| entry.orders.clone());
        let orders = orders.ok_or(MeasureError::NotConnected)?;
        orders
            .try_send(Order { request, reply })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => MeasureError::Busy,
                mpsc::error::TrySendError::Closed(_) => MeasureError::NotConnected,
            })?;
        match tokio::time::timeout(timeout, answer).await {
            Ok(answer) => answer.map_err(|_| MeasureError::Gone),
            Err(_) => Err(MeasureError::Timeout),
        }
    }

    /// Tells sessions when the assignment of their agent has changed, until no new work is wanted.
    pub fn follow_assignments(&self, store: Store, shutdown: Shutdown) {
        let fleet = self.clone();
        spawn_named("fleet", async move {
            tokio::select! {
                () = fleet.push_changes(&store) => {}
                () = shutdown.reached(Stage::NoNewWork) => {}
            }
        });
    }

    async fn push_changes(&self, store: &Store) {
        let mut changes = store.assignment_changes();
        let mut seen = *changes.borrow_and_update();
        while changes.changed().await.is_ok() {
            let now = *changes.borrow_and_update();
            let agents = loop {
                match crate::lookup::read(store, move |store| store.changed_since(seen)).await {
                    Ok(agents) => break agents,
                    Err(error) => {
                        tracing::error!(
                            error = error_chain(&error),
                            "cannot read changed assignments"
                        );
                        tokio::time::sleep(RETRY).await;
                    }
                }
            };
            seen = now;
            for agent in agents {
                if let Some(entry) = self.entries().get(&agent) {
                    entry.assignment.send_modify(|changes| *changes += 1);
                }
            }
        }
    }
}

impl Membership {
    /// Whether this is still the agent's session. When it was replaced, the newer one speaks for the agent.
    pub fn is_current(&self) -> bool {
        self.fleet
            .entries()
            .get(&self.agent)
            .is_some_and(|entry| entry.session == self.session)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut entries = self.fleet.entries();
        if entries
            .get(&self.agent)
            .is_some_and(|entry| entry.session == self.session)
        {
            entries.remove(&self.agent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use extranet_proto::assignment::{Family, Probe, TargetAddress, TcpProbe};
    use extranet_proto::id::{CheckId, CheckName, TargetId};

    fn live() -> Live {
        Live {
            clock_offset_us: 0,
            version: "0".to_owned(),
            privilege_tier: 0,
        }
    }

    fn agent() -> AgentId {
        AgentId::new("a").unwrap()
    }

    fn tcp_check() -> (Target, Check) {
        let id = TargetId(1);
        let address = TargetAddress::Ip(std::net::Ipv4Addr::LOCALHOST.into());
        let check = Check {
            stretch_last: false,
            id: CheckId(1),
            target: id,
            name: CheckName::new("now").unwrap(),
            family: Family::V4,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            probe: Probe::Tcp(TcpProbe::to(9)),
        };
        (
            Target {
                id,
                vrf: String::new(),
                address,
            },
            check,
        )
    }

    #[tokio::test]
    async fn a_newer_session_replaces_the_older_one() {
        let fleet = Fleet::new(Arc::new(Stats::new()));
        let mut first = fleet.join(agent(), live()).await;
        let first_ends = spawn_named("first", async move {
            first
                .end
                .wait_for(|end| *end == End::Replaced)
                .await
                .unwrap();
            first.is_current()
        });
        let second = fleet.join(agent(), live()).await;
        assert!(!first_ends.await.unwrap());
        assert!(second.is_current());
        assert!(fleet.live(&agent()).is_some());
        assert!(fleet.revoke(&agent()));
        assert_eq!(*second.end.borrow(), End::Revoked);
        drop(second);
        assert!(fleet.live(&agent()).is_none() && !fleet.revoke(&agent()));
    }

    #[tokio::test]
    async fn a_measurement_is_answered_or_says_why_not() {
        let fleet = Fleet::new(Arc::new(Stats::new()));
        let ask = |timeout| {
            let fleet = fleet.clone();
            async move {
                let (target, check) = tcp_check();
                fleet.measure(&agent(), target, check, timeout).await
            }
        };
        let short = Duration::from_millis(1);
        assert_eq!(ask(short).await, Err(MeasureError::NotConnected));
        let mut membership = fleet.join(agent(), live()).await;
        assert_eq!(ask(short).await, Err(MeasureError::Timeout));
        let question = spawn_named("question", ask(Duration::from_secs(5)));
        // The first order is the one that nobody waited for.
        drop(membership.orders.recv().await);
        let Order { request, reply } = membership.orders.recv().await.unwrap();
        assert_eq!(request.request_id, 3);
        reply.send(Err("not allowed".to_owned())).unwrap();
        assert_eq!(question.await.unwrap(), Ok(Err("not allowed".to_owned())));
    }
}
