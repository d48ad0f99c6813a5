//! What a run found, as values, definitions and a verdict.

use std::time::Duration;

use extranet_proto::assignment::PathProbe;
use extranet_proto::metric::{self, Metric};
use extranet_proto::record::{Definition, EventKind, Outcome, Reason, Value};

use super::known::Known;
use super::mtu::Discovered;
use super::walk::{End, Responder, Row, Walk};
use crate::net::refusal::Refusal;
use crate::probe::{Measured, ObjectIds, Run, micros, own_value};

/// The result of a run in the making.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    values: Vec<Value>,
    definitions: Vec<Definition>,
    notes: Vec<(EventKind, i64, String)>,
}

/// Why a trace is not good; `None` if it is.
pub(super) const fn refusal_of(end: End) -> Option<Refusal> {
    match end {
        End::Arrived | End::ArrivedBehindSilence => None,
        End::Refused(reason) => Some(Refusal::failed(reason)),
        End::Loop => Some(Refusal::failed(Reason::RoutingLoop)),
        End::Silent | End::Cut => Some(Refusal::failed(Reason::Timeout)),
        End::TooFar => Some(Refusal::failed(Reason::TimeExceeded)),
    }
}

impl Gathered {
    /// Takes in a trace.
    pub(super) fn trace(&mut self, walk: &Walk, known: &mut Known, ids: &ObjectIds, run: &Run<'_>) {
        let rows = walk.rows();
        if let Some(change) = known.see(&rows) {
            let text = format!(
                "{} to {}: {} -> {}",
                run.check.name, run.address, change.before, change.after
            );
            let fingerprint = i64::try_from(known.fingerprint()).unwrap_or(0);
            self.notes.push((EventKind::PathChanged, fingerprint, text));
        }
        let distance = walk.distance();
        let reached = matches!(walk.end(), End::Arrived | End::ArrivedBehindSilence);
        let before_last = rows.iter().filter(|row| row.hop < distance);
        let silent = before_last.filter(|row| row.responders.is_empty()).count();
        let sent: u64 = rows.iter().map(|row| row.sent).sum();
        let answers = rows.iter().flat_map(|row| &row.responders);
        let received: u64 = answers.map(|responder| responder.received).sum();
        self.values.extend([
            own_value(metric::PATH_REACHED, reached.into()),
            own_value(metric::PATH_HOPS, distance.into()),
            own_value(metric::PATH_SILENT_HOPS, silent as u64),
            own_value(metric::PATH_FINGERPRINT, known.fingerprint()),
            own_value(metric::PATH_CHANGES, known.changes()),
            own_value(metric::PATH_SENT, sent),
            own_value(metric::PATH_RECEIVED, received),
        ]);
        for row in &rows {
            self.row(row, known, ids, run);
        }
    }

    fn row(&mut self, row: &Row, known: &mut Known, ids: &ObjectIds, run: &Run<'_>) {
        let Some((first, others)) = row.responders.split_first() else {
            let definition = known.object(row.hop, None, ids, run);
            self.object_values(
                &definition,
                &[
                    (metric::PATH_HOP_SENT, row.sent),
                    (metric::PATH_HOP_RECEIVED, 0),
                ],
            );
            self.definitions.push(definition);
            return;
        };
        self.responder(row.hop, first, Some(row.sent), known, ids, run);
        for other in others {
            self.responder(row.hop, other, None, known, ids, run);
        }
    }

    fn responder(
        &mut self,
        hop: u8,
        responder: &Responder,
        sent: Option<u64>,
        known: &mut Known,
        ids: &ObjectIds,
        run: &Run<'_>,
    ) {
        let definition = known.object(hop, Some(responder.address), ids, run);
        let mut found: Vec<(Metric, u64)> = Vec::new();
        found.extend(sent.map(|sent| (metric::PATH_HOP_SENT, sent)));
        found.push((metric::PATH_HOP_RECEIVED, responder.received));
        let times = &responder.round_trips;
        let sum: Duration = times.iter().sum();
        let many = u32::try_from(times.len()).unwrap_or(u32::MAX);
        if let (Some(min), Some(avg), Some(max)) = (
            times.iter().min(),
            sum.checked_div(many),
            times.iter().max(),
        ) {
            found.push((metric::PATH_HOP_RTT_MIN, micros(*min)));
            found.push((metric::PATH_HOP_RTT_AVG, micros(avg)));
            found.push((metric::PATH_HOP_RTT_MAX, micros(*max)));
        }
        self.object_values(&definition, &found);
        self.definitions.push(definition);
    }

    fn object_values(&mut self, definition: &Definition, values: &[(Metric, u64)]) {
        let object = definition.object;
        self.values.extend(values.iter().map(|(metric, raw)| Value {
            metric: *metric,
            object,
            raw: *raw,
        }));
    }

    /// Takes in a path MTU; gives why it is not good.
    pub(super) fn mtu(
        &mut self,
        discovered: &Discovered,
        probe: &PathProbe,
        known: &mut Known,
        ids: &ObjectIds,
        run: &Run<'_>,
    ) -> Option<Refusal> {
        let found = match discovered.found {
            Ok(found) => found,
            Err(refusal) => return Some(refusal),
        };
        known.mtu = Some(found.mtu);
        self.values.extend([
            own_value(metric::PATH_MTU, found.mtu.into()),
            own_value(
                metric::PATH_MTU_LOCAL,
                found.local.unwrap_or(found.mtu).into(),
            ),
            own_value(metric::PATH_MTU_TOO_BIG, discovered.too_big),
            own_value(metric::PATH_MTU_BLACK_HOLE, found.black_hole.into()),
            own_value(metric::PATH_MTU_DISCOVERY, micros(discovered.took)),
        ]);
        if let Some((told, Some(from))) = discovered.told {
            let definition = known.object_at(from, ids, run);
            self.object_values(&definition, &[(metric::PATH_MTU_LIMIT, told.into())]);
            if !self.definitions.contains(&definition) {
                self.definitions.push(definition);
            }
        }
        if found.black_hole {
            return Some(Refusal::failed(Reason::PathMtuBlackHole));
        }
        let unexpected = probe.expected_path_mtu.is_some_and(|mtu| mtu != found.mtu);
        unexpected.then_some(Refusal::failed(Reason::PathMtuUnexpected))
    }

    /// The whole result.
    pub(super) fn measured(mut self, refusal: Option<Refusal>, duration: Duration) -> Measured {
        self.values
            .sort_by_key(|value| (value.metric, value.object));
        let mut measured = match refusal {
            Some(Refusal {
                outcome: Outcome::NotMeasured,
                reason,
            }) if self.values.is_empty() => Measured::not_measured(reason, duration),
            // With a refusal: the trace is good; the path MTU is not known, and not there.
            None
            | Some(Refusal {
                outcome: Outcome::NotMeasured,
                ..
            }) => Measured::ok(duration, self.values),
            Some(refusal) => Measured::failed(refusal.reason, duration, self.values),
        };
        measured.definitions = self.definitions;
        measured.notes = self.notes;
        measured
    }
}
