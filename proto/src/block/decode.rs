//! The body of a block to records; the layout stands in [`super`].
//!
//! Every count is checked against [`limits`] before anything is allocated by it, and text that a table repeats is
//! counted as often as it is repeated: a block of a few bytes must not become gigabytes.

use super::column::{self, Neighbours};
use super::layout::{self, Layout, Shape};
use super::{BlockError, kind, within};
use crate::id::{AssignmentVersion, CheckId, Incarnation, ObjectId};
use crate::limits;
use crate::metric::Metric;
use crate::record::{
    AgentEvent, Body, CheckResult, Definition, DropReason, DroppedRange, EventKind, ObjectKind,
    Outcome, Reason, Record, RecordTime, SecurityAction, SecurityEvent, SecurityRule, Severity,
    Value,
};
use crate::varint::{Malformed, Reader};

/// Unpacks a body of `count` records.
pub(super) fn body(bytes: &[u8], count: usize) -> Result<Vec<Record>, BlockError> {
    let mut reader = Reader::new(bytes);
    let kinds = alone(&mut reader, count).map_err(|_| BlockError::Malformed("kinds"))?;
    let kinds: Vec<u8> = narrow(&kinds).map_err(|_| BlockError::Malformed("kinds"))?;

    let mut number_of = [0_usize; 256];
    let mut in_order = Vec::new();
    for kind in &kinds {
        let number = &mut number_of[usize::from(*kind)];
        if *number == 0 {
            in_order.push(*kind);
        }
        *number += 1;
    }
    let mut sections: [std::vec::IntoIter<Record>; 256] =
        std::array::from_fn(|_| Vec::new().into_iter());
    for kind in in_order {
        let bytes = reader
            .count(bytes.len())
            .and_then(|len| reader.bytes(len))
            .map_err(|_| BlockError::Malformed("section"))?;
        let records = Section::read(bytes, number_of[usize::from(kind)], kind)?;
        sections[usize::from(kind)] = records.into_iter();
    }
    if !reader.is_empty() {
        return Err(BlockError::Malformed("bytes behind the last section"));
    }
    Ok(kinds
        .iter()
        .filter_map(|kind| sections[usize::from(*kind)].next())
        .collect())
}

/// The columns that every section begins with, and what follows them.
struct Section<'a> {
    reader: Reader<'a>,
    keys: Vec<u64>,
    positions: Vec<u32>,
    near: Neighbours,
}

/// Why a section could not be read, before its kind is added.
enum Fault {
    Malformed,
    TooMany(BlockError),
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<BlockError> for Fault {
    fn from(error: BlockError) -> Self {
        Self::TooMany(error)
    }
}

impl<'a> Section<'a> {
    fn read(bytes: &'a [u8], count: usize, kind: u8) -> Result<Vec<Record>, BlockError> {
        let name = match kind {
            kind::RESULT => "results",
            kind::DEFINITION => "definitions",
            kind::DROPPED => "dropped ranges",
            kind::EVENT => "events",
            kind::SECURITY => "security events",
            _ => "records of an unknown kind",
        };
        Self::records(bytes, count, kind).map_err(|fault| match fault {
            Fault::Malformed => BlockError::Malformed(name),
            Fault::TooMany(error) => error,
        })
    }

    fn records(bytes: &'a [u8], count: usize, kind: u8) -> Result<Vec<Record>, Fault> {
        let mut reader = Reader::new(bytes);
        let keys = alone(&mut reader, count)?;
        let (positions, near) = layout::scalars(&keys);
        let mut section = Self {
            reader,
            keys,
            positions,
            near,
        };
        let boottimes = section.scalar()?;
        let offsets = section.scalar()?;
        let bodies = match kind {
            kind::RESULT => section.results()?,
            kind::DEFINITION => section.definitions()?,
            kind::DROPPED => section.dropped()?,
            kind::EVENT => section.events()?,
            kind::SECURITY => section.security(&boottimes)?,
            kind => vec![Body::Unknown { kind }; count],
        };
        let times = boottimes
            .into_iter()
            .zip(offsets)
            .map(|(boottime_ms, offset)| RecordTime {
                boottime_ms,
                wall_ms: boottime_ms.wrapping_add(offset).cast_signed(),
            });
        Ok(times
            .zip(bodies)
            .map(|(time, body)| Record { time, body })
            .collect())
    }

    /// A column with one number for each record.
    fn scalar(&mut self) -> Result<Vec<u64>, Malformed> {
        let mut values = vec![0; self.keys.len()];
        column::read(&mut self.reader, &self.positions, &self.near, &mut values)?;
        Ok(values)
    }

    /// The same in a smaller integer.
    fn narrow<T: TryFrom<u64>>(&mut self) -> Result<Vec<T>, Malformed> {
        narrow(&self.scalar()?)
    }

    fn results(&mut self) -> Result<Vec<Body>, Fault> {
        let checks: Vec<u32> = narrow(&self.keys)?;
        let assignments: Vec<u32> = self.narrow()?;
        let outcomes: Vec<u64> = self.scalar()?;
        let reasons: Vec<u64> = self.scalar()?;
        let durations = self.scalar()?;
        let shape_indices: Vec<u32> = self.narrow()?;
        let shapes = self.shapes()?;

        let mut total = 0;
        for index in &shape_indices {
            total += shapes.get(*index as usize).ok_or(Malformed)?.len() as u64;
        }
        within("values", total, limits::BLOCK_VALUES)?;
        let placed: Vec<(u64, u32)> = self
            .keys
            .iter()
            .copied()
            .zip(shape_indices.iter().copied())
            .collect();
        let layout = Layout::new(&shapes, &placed);
        let mut raw = vec![0; layout.len];
        for positions in &layout.columns {
            column::read(&mut self.reader, positions, &layout.near, &mut raw)?;
        }

        let mut rest = raw.as_slice();
        let mut bodies = Vec::with_capacity(checks.len());
        for (i, check) in checks.into_iter().enumerate() {
            let shape = &shapes[shape_indices[i] as usize];
            let (own, behind) = rest.split_at(shape.len());
            rest = behind;
            let (outcome, reason) = verdict(outcomes[i], reasons[i]);
            bodies.push(Body::Result(CheckResult {
                assignment: AssignmentVersion(assignments[i]),
                check: CheckId(check),
                outcome,
                reason,
                duration_us: durations[i],
                values: shape
                    .iter()
                    .zip(own)
                    .map(|(&(metric, object), &raw)| Value {
                        metric,
                        object,
                        raw,
                    })
                    .collect(),
            }));
        }
        Ok(bodies)
    }

    fn shapes(&mut self) -> Result<Vec<Shape>, Fault> {
        // A shape that no result has is of no use.
        let count = self.reader.count(self.keys.len())?;
        let lens = alone(&mut self.reader, count)?;
        let mut total = 0_u64;
        for len in &lens {
            within("values in a result", *len, limits::RESULT_VALUES)?;
            total += len;
        }
        let total = within("values", total, limits::BLOCK_VALUES)?;
        let metrics: Vec<u16> = narrow(&alone(&mut self.reader, total)?)?;
        let objects: Vec<u32> = narrow(&alone(&mut self.reader, total)?)?;
        let mut pairs = metrics
            .into_iter()
            .map(Metric)
            .zip(objects.into_iter().map(ObjectId));
        let take = |len: u64| {
            pairs
                .by_ref()
                .take(usize::try_from(len).unwrap_or(0))
                .collect()
        };
        Ok(lens.into_iter().map(take).collect())
    }

    fn definitions(&mut self) -> Result<Vec<Body>, Fault> {
        let objects: Vec<u32> = narrow(&self.keys)?;
        let checks: Vec<u32> = self.narrow()?;
        let kinds = self.scalar()?;
        let label_counts = self.scalar()?;
        let mut total = 0_u64;
        for count in &label_counts {
            within("labels", *count, limits::DEFINITION_LABELS)?;
            total += count;
        }
        let total = usize::try_from(total).map_err(|_| Malformed)?;
        let text_count = self.reader.count(2 * total)?;
        let texts = self.texts(text_count, limits::LABEL_VALUE_BYTES)?;
        let names = alone(&mut self.reader, total)?;
        let values = alone(&mut self.reader, total)?;

        let mut bytes_left = limits::BLOCK_BYTES_UNPACKED;
        let mut text = |index: u64, limit: usize| {
            let index = usize::try_from(index).map_err(|_| Malformed)?;
            let text = *texts.get(index).ok_or(Malformed)?;
            within("bytes in a label name", text.len() as u64, limit)?;
            bytes_left = bytes_left
                .checked_sub(text.len() + size_of::<String>())
                .ok_or(BlockError::TooMany {
                    what: "bytes of labels",
                    limit: limits::BLOCK_BYTES_UNPACKED,
                })?;
            Ok::<_, Fault>(text.to_owned())
        };
        let mut labels = names.into_iter().zip(values);
        let mut bodies = Vec::with_capacity(objects.len());
        for (i, object) in objects.into_iter().enumerate() {
            let count = usize::try_from(label_counts[i]).map_err(|_| Malformed)?;
            let labels = labels
                .by_ref()
                .take(count)
                .map(|(name, value)| {
                    Ok((
                        text(name, limits::LABEL_NAME_BYTES)?,
                        text(value, limits::LABEL_VALUE_BYTES)?,
                    ))
                })
                .collect::<Result<_, Fault>>()?;
            bodies.push(Body::Definition(Definition {
                object: ObjectId(object),
                check: CheckId(checks[i]),
                kind: known(kinds[i], ObjectKind::from_number).unwrap_or(ObjectKind::Other),
                labels,
            }));
        }
        Ok(bodies)
    }

    fn dropped(&mut self) -> Result<Vec<Body>, Fault> {
        let incarnations = self.scalar()?;
        let firsts = self.scalar()?;
        let lens = self.scalar()?;
        let body = |i: usize| {
            let to_exclusive = firsts[i].checked_add(lens[i]).ok_or(Malformed)?;
            Ok(Body::Dropped(DroppedRange {
                incarnation: Incarnation(incarnations[i]),
                from_inclusive: firsts[i],
                to_exclusive,
                reason: known(self.keys[i], DropReason::from_number).unwrap_or(DropReason::Other),
            }))
        };
        (0..self.keys.len()).map(body).collect()
    }

    fn events(&mut self) -> Result<Vec<Body>, Fault> {
        let values = self.scalar()?;
        let texts = self.texts(values.len(), limits::EVENT_TEXT_BYTES)?;
        let kinds = self.keys.iter();
        Ok(kinds
            .zip(values)
            .zip(texts)
            .map(|((kind, value), text)| {
                Body::Event(AgentEvent {
                    kind: known(*kind, EventKind::from_number).unwrap_or(EventKind::Other),
                    value: value.cast_signed(),
                    text: text.to_owned(),
                })
            })
            .collect())
    }

    fn security(&mut self, boottimes: &[u64]) -> Result<Vec<Body>, Fault> {
        let actions = self.scalar()?;
        let severities = self.scalar()?;
        let ages = self.scalar()?;
        let offsets = self.scalar()?;
        let pair_counts = self.scalar()?;
        let mut total = 0_u64;
        for count in &pair_counts {
            within("pieces of evidence", *count, limits::EVIDENCE_PAIRS)?;
            total += count;
        }
        // Empty texts take no bytes of the block, but they do in memory.
        let longest = limits::BLOCK_BYTES_UNPACKED / (2 * size_of::<String>());
        let total = within("pieces of evidence", total, longest)?;
        let objects = self.texts(actions.len(), limits::TEXT_BYTES)?;
        let names = self.texts(total, limits::EVIDENCE_KEY_BYTES)?;
        let values = self.texts(total, limits::EVIDENCE_BYTES)?;

        let mut pairs = names.into_iter().zip(values);
        let mut bodies = Vec::with_capacity(objects.len());
        for (i, object) in objects.into_iter().enumerate() {
            let count = usize::try_from(pair_counts[i]).map_err(|_| Malformed)?;
            let evidence: Vec<(String, String)> = pairs
                .by_ref()
                .take(count)
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let bytes: usize = evidence.iter().map(|(n, v)| n.len() + v.len()).sum();
            within("bytes of evidence", bytes as u64, limits::EVIDENCE_BYTES)?;
            let boottime_ms = boottimes[i].wrapping_sub(ages[i]);
            bodies.push(Body::Security(SecurityEvent {
                rule: known(self.keys[i], SecurityRule::from_number).unwrap_or(SecurityRule::Other),
                action: known(actions[i], SecurityAction::from_number)
                    .unwrap_or(SecurityAction::Other),
                severity: known(severities[i], Severity::from_number).unwrap_or(Severity::Other),
                object: object.to_owned(),
                first_seen: RecordTime {
                    boottime_ms,
                    wall_ms: boottime_ms.wrapping_add(offsets[i]).cast_signed(),
                },
                evidence,
            }));
        }
        Ok(bodies)
    }

    fn texts(&mut self, count: usize, limit: usize) -> Result<Vec<&'a str>, Fault> {
        let lens = alone(&mut self.reader, count)?;
        lens.into_iter()
            .map(|len| {
                let len = within("bytes in a text", len, limit)?;
                Ok(std::str::from_utf8(self.reader.bytes(len)?).map_err(|_| Malformed)?)
            })
            .collect()
    }
}

/// A verdict of a newer peer that this build does not know says nothing about the target.
fn verdict(outcome: u64, reason: u64) -> (Outcome, Reason) {
    let reason = known(reason, Reason::from_number).unwrap_or(Reason::Other);
    match known(outcome, Outcome::from_number) {
        Some(outcome) => (outcome, reason),
        None => (Outcome::NotMeasured, Reason::Other),
    }
}

/// The member of a closed set with this number.
fn known<T>(number: u64, from_number: fn(u8) -> Option<T>) -> Option<T> {
    u8::try_from(number).ok().and_then(from_number)
}

/// A column without slots, of a length that the caller has checked.
fn alone(reader: &mut Reader<'_>, len: usize) -> Result<Vec<u64>, Malformed> {
    let mut values = vec![0; len];
    let positions = layout::positions(len);
    column::read(reader, &positions, &Neighbours::default(), &mut values)?;
    Ok(values)
}

fn narrow<T: TryFrom<u64>>(numbers: &[u64]) -> Result<Vec<T>, Malformed> {
    numbers
        .iter()
        .map(|number| T::try_from(*number).map_err(|_| Malformed))
        .collect()
}
