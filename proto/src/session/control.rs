//! What became of an assignment, and measurements on demand.

use std::time::Duration;

use super::cut;
use crate::assignment::{Check, Target};
use crate::error::ProtoError;
use crate::id::AssignmentVersion;
use crate::record::{Body, Record};
use crate::{block, limits, wire};

/// What became of an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentStatus {
    /// Which.
    pub version: AssignmentVersion,
    /// Whether the agent works with it now.
    pub applied: bool,
    /// One line for each refused check; only the first [`limits::PROBLEMS`] are sent.
    pub problems: Vec<String>,
}

impl TryFrom<wire::AssignmentStatus> for AssignmentStatus {
    type Error = ProtoError;

    fn try_from(status: wire::AssignmentStatus) -> Result<Self, ProtoError> {
        const FIELD: &str = "assignment_status.problems";
        ProtoError::check_len(FIELD, status.problems.len(), limits::PROBLEMS)?;
        for problem in &status.problems {
            ProtoError::check_len(FIELD, problem.len(), limits::TEXT_BYTES)?;
        }
        Ok(Self {
            version: AssignmentVersion(status.version),
            applied: status.applied,
            problems: status.problems,
        })
    }
}

impl From<AssignmentStatus> for wire::AssignmentStatus {
    fn from(status: AssignmentStatus) -> Self {
        let problems = status.problems.iter().take(limits::PROBLEMS);
        Self {
            version: status.version.0,
            applied: status.applied,
            problems: problems
                .map(|problem| cut(problem, limits::TEXT_BYTES).to_owned())
                .collect(),
        }
    }
}

/// "Measure this now", answered once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasurementRequest {
    /// Comes back in the answer.
    pub request_id: u64,
    /// What.
    pub target: Target,
    /// How; its target id is that of `target`.
    pub check: Check,
}

impl TryFrom<wire::MeasurementRequest> for MeasurementRequest {
    type Error = ProtoError;

    fn try_from(request: wire::MeasurementRequest) -> Result<Self, ProtoError> {
        let missing = |field| ProtoError::Missing { field };
        let target = request
            .target
            .ok_or(missing("measurement_request.target"))?;
        let check = request.check.ok_or(missing("measurement_request.check"))?;
        let target = Target::try_from(target)?;
        let check = Check::try_from(check)?;
        if check.target != target.id {
            return Err(ProtoError::Invalid {
                field: "measurement_request.check",
                rule: "must name the target of the request",
            });
        }
        check.fits(&target)?;
        if check.longest_run() > Duration::from_millis(limits::CHECK_TIMEOUT_MS_MAX.into()) {
            return Err(ProtoError::Invalid {
                field: "measurement_request.check",
                rule: "must be over within five minutes",
            });
        }
        Ok(Self {
            request_id: request.request_id,
            target,
            check,
        })
    }
}

impl From<MeasurementRequest> for wire::MeasurementRequest {
    fn from(request: MeasurementRequest) -> Self {
        Self {
            request_id: request.request_id,
            target: Some((&request.target).into()),
            check: Some((&request.check).into()),
        }
    }
}

/// What an on-demand measurement gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasurementAnswer {
    /// Of the request.
    pub request_id: u64,
    /// One result, with the definitions of the objects it names; or why the agent did not measure.
    pub answer: Result<Vec<Record>, String>,
}

impl TryFrom<wire::MeasurementAnswer> for MeasurementAnswer {
    type Error = ProtoError;

    fn try_from(answer: wire::MeasurementAnswer) -> Result<Self, ProtoError> {
        const BLOCK: &str = "measurement_answer.block";
        const REFUSAL: &str = "measurement_answer.refusal";
        ProtoError::check_len(BLOCK, answer.block.len(), limits::MESSAGE_BYTES)?;
        ProtoError::check_len(REFUSAL, answer.refusal.len(), limits::TEXT_BYTES)?;
        let request_id = answer.request_id;
        if !answer.refusal.is_empty() {
            return Ok(Self {
                request_id,
                answer: Err(answer.refusal),
            });
        }
        let records = block::decode(&answer.block).map_err(|source| ProtoError::Block {
            field: BLOCK,
            source,
        })?;
        let is_result = |record: &&Record| matches!(record.body, Body::Result(_));
        if records.iter().filter(is_result).count() != 1 {
            return Err(ProtoError::Invalid {
                field: BLOCK,
                rule: "must hold one result, or there must be a refusal",
            });
        }
        Ok(Self {
            request_id,
            answer: Ok(records),
        })
    }
}

impl From<MeasurementAnswer> for wire::MeasurementAnswer {
    fn from(answer: MeasurementAnswer) -> Self {
        let (block, refusal) = match answer.answer {
            Ok(records) => (block::encode(&records), String::new()),
            Err(refusal) if refusal.is_empty() => (Vec::new(), "refused".to_owned()),
            Err(refusal) => (Vec::new(), cut(&refusal, limits::TEXT_BYTES).to_owned()),
        };
        Self {
            request_id: answer.request_id,
            block,
            refusal,
        }
    }
}
