//! What this agent is told to do: assignments and measurements on demand.
//!
//! The last good assignment lies on disk as the bytes that came over the wire, and goes on while the collector is away,
//! across restarts too. Each check is judged against this agent's own limits; what is refused is reported and the rest
//! is done.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use extranet_proto::assignment::{Assignment, Check, Security, SnmpModule, Target};
use extranet_proto::id::AssignmentVersion;
use extranet_proto::record::{Body, EventKind, Record};
use extranet_proto::session::{AssignmentStatus, MeasurementAnswer, MeasurementRequest};
use extranet_proto::wire;
use prost::Message as _;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::measure::Targets;
use crate::result::Recorder;
use crate::schedule::{Prober, run_once};
use crate::self_stats::{Stats, count};
use crate::state_file;

/// Measurements on demand at the same time; more are refused. A guess: a person asks for one at a time.
const ON_DEMAND: usize = 4;

/// A check with everything that its runs need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedCheck {
    /// The assignment it belongs to.
    pub assignment: AssignmentVersion,
    /// What is done.
    pub check: Check,
    /// Where.
    pub target: Target,
}

/// The assignment at work, reduced to what this agent does of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// 0 = no assignment yet.
    pub version: AssignmentVersion,
    /// How long live results may be collected; zero = as the collector's welcome says.
    pub flush_interval: Duration,
    /// What the uplink may carry for us in 24 hours, bytes; 0 = no limit.
    pub daily_budget: u64,
    /// Each check that is done.
    pub checks: Vec<Arc<PlannedCheck>>,
    /// One line for each check that is not.
    pub problems: Vec<String>,
    /// What the access point may look like.
    pub security: Security,
    /// SNMP modules that the checks name and that this build does not have.
    pub snmp_modules: Vec<SnmpModule>,
}

impl Plan {
    /// Before the first assignment.
    pub fn empty() -> Self {
        Self {
            version: AssignmentVersion(0),
            flush_interval: Duration::ZERO,
            daily_budget: 0,
            checks: Vec::new(),
            problems: Vec::new(),
            security: Security::default(),
            snmp_modules: Vec::new(),
        }
    }

    /// What becomes of an assignment under this agent's own limits. An error refuses all of it.
    fn from_wire(assignment: wire::Assignment, targets: &Targets) -> Result<Self, String> {
        let (assignment, problems) =
            Assignment::from_wire(assignment).map_err(|error| error.to_string())?;
        let mut problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let mut checks = Vec::with_capacity(assignment.checks.len());
        for check in assignment.checks {
            let target = assignment
                .targets
                .iter()
                .find(|target| target.id == check.target);
            let refusal = match target {
                None => Some("its target is missing".to_owned()),
                Some(target) => targets.refusal(target, check.family),
            };
            match (target, refusal) {
                (Some(target), None) => checks.push(Arc::new(PlannedCheck {
                    assignment: assignment.version,
                    check,
                    target: target.clone(),
                })),
                (_, refusal) => problems.push(format!(
                    "check {} ({}): {}",
                    check.id,
                    check.name,
                    refusal.unwrap_or_default()
                )),
            }
        }
        Ok(Self {
            version: assignment.version,
            flush_interval: assignment.flush_interval,
            daily_budget: assignment.daily_budget,
            checks,
            problems,
            security: assignment.security,
            snmp_modules: assignment.snmp_modules,
        })
    }
}

/// Applies assignments and answers requests.
#[derive(Debug)]
pub struct Control<P> {
    path: PathBuf,
    targets: Targets,
    prober: P,
    recorder: Recorder,
    stats: Arc<Stats>,
    plans: watch::Sender<Arc<Plan>>,
    on_demand: Semaphore,
}

impl<P: Prober> Control<P> {
    /// Goes on with the last good assignment, if there is one. A damaged file is set aside: the collector sends the
    /// assignment again.
    pub fn open(
        state_dir: &Path,
        targets: Targets,
        prober: P,
        recorder: Recorder,
        stats: Arc<Stats>,
    ) -> Self {
        let path = state_dir.join("assignment");
        let plan = match last_good(&path, &targets) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::warn!(
                    error,
                    "the last assignment cannot be used, waiting for another"
                );
                if let Err(error) = state_file::set_aside(&path) {
                    tracing::warn!(error = crate::shell::error_chain(&error), "and stays");
                }
                None
            }
        };
        let control = Self {
            path,
            targets,
            prober,
            recorder,
            stats,
            plans: watch::channel(Arc::new(Plan::empty())).0,
            on_demand: Semaphore::new(ON_DEMAND),
        };
        if let Some(plan) = plan {
            tracing::info!(version = %plan.version, checks = plan.checks.len(), "going on with the last assignment");
            control.put_to_work(plan);
        }
        control
    }

    /// Follows what is at work.
    pub fn plans(&self) -> watch::Receiver<Arc<Plan>> {
        self.plans.subscribe()
    }

    /// An assignment came. Returns what to answer.
    pub async fn assign(&self, assignment: wire::Assignment) -> AssignmentStatus {
        let version = AssignmentVersion(assignment.version);
        let bytes = assignment.encode_to_vec();
        let plan = match Plan::from_wire(assignment, &self.targets) {
            Ok(plan) => plan,
            Err(problem) => {
                tracing::warn!(%version, problem, "assignment refused");
                count(&self.stats.control_assignments, "refused", 1);
                self.recorder
                    .event(EventKind::AssignmentRefused, i64::from(version.0), &problem);
                return AssignmentStatus {
                    version,
                    applied: false,
                    problems: vec![problem],
                };
            }
        };
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || state_file::write(&path, &bytes)).await;
        if let Ok(Err(error)) = written {
            // It is at work all the same; after a restart the collector sends it again.
            tracing::warn!(
                error = crate::shell::error_chain(&error),
                "assignment not kept"
            );
            count(&self.stats.control_assignments, "unkept", 1);
        }
        let problems = plan.problems.clone();
        tracing::info!(%version, checks = plan.checks.len(), problems = problems.len(), "assignment applied");
        count(&self.stats.control_assignments, "applied", 1);
        self.put_to_work(plan);
        self.recorder
            .event(EventKind::AssignmentApplied, i64::from(version.0), "");
        AssignmentStatus {
            version,
            applied: true,
            problems,
        }
    }

    fn put_to_work(&self, plan: Plan) {
        self.stats.control_assignment.set(plan.version.0.into());
        let problems = i64::try_from(plan.problems.len()).unwrap_or(i64::MAX);
        self.stats.control_problems.set(problems);
        self.recorder.follow(&plan);
        self.prober.prepare(&plan);
        self.plans.send_replace(Arc::new(plan));
    }

    /// "Measure this now", within the same limits as everything else.
    pub async fn measure(&self, request: wire::MeasurementRequest) -> MeasurementAnswer {
        let request_id = request.request_id;
        let answer = self.measured(request).await;
        let reason = if answer.is_ok() {
            "answered"
        } else {
            "refused"
        };
        count(&self.stats.control_measurements, reason, 1);
        MeasurementAnswer { request_id, answer }
    }

    async fn measured(&self, request: wire::MeasurementRequest) -> Result<Vec<Record>, String> {
        let request = MeasurementRequest::try_from(request)
            .map_err(|error| crate::shell::error_chain(&error))?;
        if let Some(refusal) = self.targets.refusal(&request.target, request.check.family) {
            return Err(refusal);
        }
        let _permit = self
            .on_demand
            .try_acquire()
            .map_err(|_| "busy with other measurements on demand".to_owned())?;
        let planned = PlannedCheck {
            assignment: AssignmentVersion(0),
            check: request.check,
            target: request.target,
        };
        let mut measured = run_once(&self.prober, &planned, Instant::now()).await;
        let definitions = std::mem::take(&mut measured.definitions);
        let result = self.recorder.result_record(&planned, measured);
        let mut records: Vec<Record> = definitions
            .into_iter()
            .map(|definition| Record {
                time: result.time,
                body: Body::Definition(definition),
            })
            .collect();
        records.push(result);
        Ok(records)
    }
}

/// The last good assignment under this agent's limits, for commands beside the running agent. What cannot be read
/// counts as none: the agent itself says why.
pub fn last_plan(state_dir: &Path, targets: &Targets) -> Option<Plan> {
    last_good(&state_dir.join("assignment"), targets).ok()?
}

fn last_good(path: &Path, targets: &Targets) -> Result<Option<Plan>, String> {
    let bytes = state_file::read(path).map_err(|error| crate::shell::error_chain(&error))?;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let assignment =
        wire::Assignment::decode(bytes.as_slice()).map_err(|error| error.to_string())?;
    Plan::from_wire(assignment, targets).map(Some)
}

#[cfg(test)]
mod tests;
