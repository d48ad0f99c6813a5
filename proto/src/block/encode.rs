//! Records to the body of a block; the layout stands in [`super`].

use std::collections::HashMap;

use super::column::{self, Neighbours, Style};
use super::kind;
use super::layout::{self, Layout, Shape};
use crate::record::{
    AgentEvent, Body, CheckResult, Definition, DroppedRange, Record, RecordTime, SecurityEvent,
};
use crate::varint;

/// The body with columns in the given style.
pub(super) fn body(records: &[Record], style: Style) -> Vec<u8> {
    let mut out = Columns::new(style);
    let kinds: Vec<u64> = records.iter().map(|r| kind_of(&r.body).into()).collect();
    out.alone(&kinds);
    let mut written = Vec::new();
    for kind in kinds {
        if !written.contains(&kind) {
            written.push(kind);
            out.section(&section(records, kind, style));
        }
    }
    out.bytes
}

fn kind_of(body: &Body) -> u8 {
    match body {
        Body::Result(_) => kind::RESULT,
        Body::Definition(_) => kind::DEFINITION,
        Body::Dropped(_) => kind::DROPPED,
        Body::Event(_) => kind::EVENT,
        Body::Security(_) => kind::SECURITY,
        // A known number would promise columns that are not there.
        Body::Unknown { kind } if kind::is_known(*kind) => kind::UNKNOWN,
        Body::Unknown { kind } => *kind,
    }
}

/// The section of one kind of record.
fn section(records: &[Record], kind: u64, style: Style) -> Vec<u8> {
    let chosen: Vec<&Record> = records
        .iter()
        .filter(|r| u64::from(kind_of(&r.body)) == kind)
        .collect();
    let keys: Vec<u64> = chosen.iter().map(|r| key_of(&r.body)).collect();
    let times: Vec<RecordTime> = chosen.iter().map(|r| r.time).collect();
    let mut out = Columns::new(style);
    out.alone(&keys);
    out.keyed(&keys);
    out.scalar(times.iter().map(|t| t.boottime_ms));
    out.scalar(
        times
            .iter()
            .map(|t| t.wall_ms.cast_unsigned().wrapping_sub(t.boottime_ms)),
    );
    let bodies = chosen.iter().map(|r| &r.body);
    match u8::try_from(kind) {
        Ok(kind::RESULT) => results(&mut out, &pick(bodies, as_result)),
        Ok(kind::DEFINITION) => definitions(&mut out, &pick(bodies, as_definition)),
        Ok(kind::DROPPED) => dropped(&mut out, &pick(bodies, as_dropped)),
        Ok(kind::EVENT) => events(&mut out, &pick(bodies, as_event)),
        Ok(kind::SECURITY) => security(&mut out, &times, &pick(bodies, as_security)),
        _unknown => {}
    }
    out.bytes
}

/// By which number records of a kind resemble each other.
fn key_of(body: &Body) -> u64 {
    match body {
        Body::Result(result) => result.check.0.into(),
        Body::Definition(definition) => definition.object.0.into(),
        Body::Dropped(dropped) => dropped.reason.number().into(),
        Body::Event(event) => event.kind.number().into(),
        Body::Security(event) => event.rule.number().into(),
        Body::Unknown { .. } => 0,
    }
}

fn results(out: &mut Columns, results: &[&CheckResult]) {
    let mut known: HashMap<Shape, u32> = HashMap::new();
    let mut shapes: Vec<Shape> = Vec::new();
    let mut indices = Vec::with_capacity(results.len());
    for result in results {
        let shape: Shape = result.values.iter().map(|v| (v.metric, v.object)).collect();
        let next = layout::index(shapes.len());
        let index = *known.entry(shape).or_insert_with_key(|shape| {
            shapes.push(shape.clone());
            next
        });
        indices.push(index);
    }

    out.scalar(results.iter().map(|r| r.assignment.0.into()));
    out.scalar(results.iter().map(|r| r.outcome.number().into()));
    out.scalar(results.iter().map(|r| r.reason.number().into()));
    out.scalar(results.iter().map(|r| r.duration_us));
    out.scalar(indices.iter().map(|i| (*i).into()));

    out.number(shapes.len());
    out.alone(&collect(shapes.iter().map(|shape| shape.len() as u64)));
    out.alone(&collect(shapes.iter().flatten().map(|(m, _)| m.0.into())));
    out.alone(&collect(shapes.iter().flatten().map(|(_, o)| o.0.into())));

    let placed: Vec<(u64, u32)> = results
        .iter()
        .zip(indices)
        .map(|(result, index)| (result.check.0.into(), index))
        .collect();
    let layout = Layout::new(&shapes, &placed);
    let values = collect(results.iter().flat_map(|r| &r.values).map(|v| v.raw));
    for positions in &layout.columns {
        out.column(positions, &layout.near, &values);
    }
}

fn definitions(out: &mut Columns, definitions: &[&Definition]) {
    out.scalar(definitions.iter().map(|d| d.check.0.into()));
    out.scalar(definitions.iter().map(|d| d.kind.number().into()));
    out.scalar(definitions.iter().map(|d| d.labels.len() as u64));
    let mut table: HashMap<&str, u64> = HashMap::new();
    let mut texts: Vec<&str> = Vec::new();
    let mut intern = |text| {
        *table.entry(text).or_insert_with(|| {
            texts.push(text);
            texts.len() as u64 - 1
        })
    };
    let labels = definitions.iter().flat_map(|d| &d.labels);
    let names = collect(labels.clone().map(|(name, _)| intern(name)));
    let values = collect(labels.map(|(_, value)| intern(value)));
    out.number(texts.len());
    out.texts(&texts);
    out.alone(&names);
    out.alone(&values);
}

fn dropped(out: &mut Columns, ranges: &[&DroppedRange]) {
    out.scalar(ranges.iter().map(|d| d.incarnation.0));
    out.scalar(ranges.iter().map(|d| d.from_inclusive));
    out.scalar(
        ranges
            .iter()
            .map(|d| d.to_exclusive.wrapping_sub(d.from_inclusive)),
    );
}

fn events(out: &mut Columns, events: &[&AgentEvent]) {
    out.scalar(events.iter().map(|e| e.value.cast_unsigned()));
    out.texts(&events.iter().map(|e| e.text.as_str()).collect::<Vec<_>>());
}

fn security(out: &mut Columns, times: &[RecordTime], events: &[&SecurityEvent]) {
    out.scalar(events.iter().map(|e| e.action.number().into()));
    out.scalar(events.iter().map(|e| e.severity.number().into()));
    let first = || events.iter().map(|e| e.first_seen);
    out.scalar(
        times
            .iter()
            .zip(first())
            .map(|(time, first)| time.boottime_ms.wrapping_sub(first.boottime_ms)),
    );
    out.scalar(first().map(|f| f.wall_ms.cast_unsigned().wrapping_sub(f.boottime_ms)));
    out.scalar(events.iter().map(|e| e.evidence.len() as u64));
    let objects: Vec<&str> = events.iter().map(|e| e.object.as_str()).collect();
    let (names, values): (Vec<&str>, Vec<&str>) = events
        .iter()
        .flat_map(|e| &e.evidence)
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .unzip();
    out.texts(&objects);
    out.texts(&names);
    out.texts(&values);
}

fn collect(numbers: impl Iterator<Item = u64>) -> Vec<u64> {
    numbers.collect()
}

fn pick<'a, T>(
    bodies: impl Iterator<Item = &'a Body>,
    as_kind: fn(&'a Body) -> Option<&'a T>,
) -> Vec<&'a T> {
    bodies.filter_map(as_kind).collect()
}

fn as_result(body: &Body) -> Option<&CheckResult> {
    match body {
        Body::Result(result) => Some(result),
        _ => None,
    }
}

fn as_definition(body: &Body) -> Option<&Definition> {
    match body {
        Body::Definition(definition) => Some(definition),
        _ => None,
    }
}

fn as_dropped(body: &Body) -> Option<&DroppedRange> {
    match body {
        Body::Dropped(dropped) => Some(dropped),
        _ => None,
    }
}

fn as_event(body: &Body) -> Option<&AgentEvent> {
    match body {
        Body::Event(event) => Some(event),
        _ => None,
    }
}

fn as_security(body: &Body) -> Option<&SecurityEvent> {
    match body {
        Body::Security(event) => Some(event),
        _ => None,
    }
}

/// Columns written one after the other.
struct Columns {
    bytes: Vec<u8>,
    style: Style,
    /// Of the scalar columns: one number for each record of the section.
    positions: Vec<u32>,
    near: Neighbours,
}

impl Columns {
    fn new(style: Style) -> Self {
        Self {
            bytes: Vec::new(),
            style,
            positions: Vec::new(),
            near: Neighbours::default(),
        }
    }

    /// From here on [`Columns::scalar`] belongs to records with these keys.
    fn keyed(&mut self, keys: &[u64]) {
        (self.positions, self.near) = layout::scalars(keys);
    }

    fn scalar(&mut self, numbers: impl Iterator<Item = u64>) {
        let values: Vec<u64> = numbers.collect();
        column::write(
            &mut self.bytes,
            self.style,
            &self.positions,
            &self.near,
            &values,
        );
    }

    /// A column without slots.
    fn alone(&mut self, values: &[u64]) {
        let positions = layout::positions(values.len());
        self.column(&positions, &Neighbours::default(), values);
    }

    fn column(&mut self, positions: &[u32], near: &Neighbours, values: &[u64]) {
        column::write(&mut self.bytes, self.style, positions, near, values);
    }

    /// Lengths, then all texts in one piece. The reader knows how many.
    fn texts(&mut self, texts: &[&str]) {
        self.alone(&collect(texts.iter().map(|text| text.len() as u64)));
        for text in texts {
            self.bytes.extend_from_slice(text.as_bytes());
        }
    }

    fn number(&mut self, number: usize) {
        varint::put(&mut self.bytes, number as u64);
    }

    fn section(&mut self, section: &[u8]) {
        self.number(section.len());
        self.bytes.extend_from_slice(section);
    }
}
