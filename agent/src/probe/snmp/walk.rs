//! Walks a table, several columns in one request, and trusts nothing that comes back.
//!
//! Rules, in the order in which the code applies them to every binding:
//!
//! 1. More bindings than were asked for: the device breaks the protocol ([`Reason::Malformed`]).
//! 2. An identifier that does not grow within its column ends the walk ([`Reason::NotIncreasing`]): RFC 3416 section
//!    4.2.2 promises the lexicographic successor, and a device that repeats itself would never finish.
//! 3. An identifier outside the column ends the column.
//! 4. An index that is not one number is no row of an interface table ([`Reason::Malformed`]).
//! 5. A column longer than [`ROWS_MAX`] ends the walk ([`Reason::TooLarge`]): it may grow for ever.

use std::collections::BTreeMap;

use extranet_proto::record::Reason;

use super::session::{Binding, Datum, Failure, Oid, Session};

/// Most rows of a table. With the 31 values of an interface it stays below `limits::RESULT_VALUES`.
pub(super) const ROWS_MAX: usize = 1_000;
/// Columns in one request. With [`REPETITIONS`] rows an answer holds 48 values of about 25 bytes, which fits a packet
/// of 1,472 bytes; a device may cut the answer anywhere.
const COLUMNS_PER_REQUEST: usize = 12;
/// Rows in one request.
const REPETITIONS: u32 = 4;

/// Rows by index; each holds (position of the column, value) in the order of arrival.
pub(super) type Rows = BTreeMap<u32, Vec<(usize, Datum)>>;

/// A column that is not finished.
#[derive(Debug, Clone)]
struct Cursor {
    /// Position in the caller's list.
    column: usize,
    /// The last identifier seen in it; at first the column itself.
    last: Oid,
    /// Rows seen.
    rows: usize,
}

/// Reads all rows of `columns`, which are columns of tables with the same single-number index.
pub(super) async fn table<S: Session>(session: &S, columns: &[Oid]) -> Result<Rows, Failure> {
    let mut rows = Rows::new();
    let cursors: Vec<Cursor> = (0_usize..)
        .zip(columns)
        .map(|(column, oid)| Cursor {
            column,
            last: oid.clone(),
            rows: 0,
        })
        .collect();
    let mut groups: Vec<Vec<Cursor>> = cursors
        .chunks(COLUMNS_PER_REQUEST)
        .rev()
        .map(<[Cursor]>::to_vec)
        .collect();
    let mut repetitions = REPETITIONS;
    while let Some(group) = groups.pop() {
        let oids: Vec<Oid> = group.iter().map(|cursor| cursor.last.clone()).collect();
        match session.successors(&oids, repetitions).await {
            Ok(bindings) => {
                let unfinished = take(columns, group, bindings, repetitions, &mut rows)?;
                if !unfinished.is_empty() {
                    groups.push(unfinished);
                }
            }
            Err(Failure::TooBig) if repetitions > 1 => {
                repetitions /= 2;
                groups.push(group);
            }
            Err(Failure::TooBig) if group.len() > 1 => {
                let (first, second) = group.split_at(group.len() / 2);
                groups.push(second.to_vec());
                groups.push(first.to_vec());
            }
            Err(Failure::TooBig) => return Err(Failure::failed(Reason::RemoteError)),
            Err(verdict) => return Err(verdict),
        }
    }
    Ok(rows)
}

/// Sorts one answer into the rows and gives back the cursors that are not at their end.
fn take(
    columns: &[Oid],
    mut group: Vec<Cursor>,
    bindings: Vec<Binding>,
    repetitions: u32,
    rows: &mut Rows,
) -> Result<Vec<Cursor>, Failure> {
    let asked = group.len().saturating_mul(repetitions as usize);
    if bindings.is_empty() || bindings.len() > asked {
        return Err(Failure::failed(Reason::Malformed));
    }
    let width = group.len();
    let mut finished = vec![false; width];
    for (position, Binding { oid, datum }) in bindings.into_iter().enumerate() {
        let slot = position % width;
        let (Some(cursor), Some(finished)) = (group.get_mut(slot), finished.get_mut(slot)) else {
            continue;
        };
        let Some(column) = columns.get(cursor.column) else {
            continue;
        };
        if *finished {
            continue;
        }
        if datum == Datum::EndOfView {
            *finished = true;
            continue;
        }
        if oid <= cursor.last {
            return Err(Failure::failed(Reason::NotIncreasing));
        }
        match oid.under(column) {
            None => *finished = true,
            Some(&[index]) => {
                cursor.rows += 1;
                if cursor.rows > ROWS_MAX {
                    return Err(Failure::failed(Reason::TooLarge));
                }
                if !rows.contains_key(&index) && rows.len() >= ROWS_MAX {
                    return Err(Failure::failed(Reason::TooLarge));
                }
                rows.entry(index).or_default().push((cursor.column, datum));
                cursor.last = oid;
            }
            Some(_) => return Err(Failure::failed(Reason::Malformed)),
        }
    }
    let mut at_end = finished.into_iter();
    group.retain(|_| at_end.next() == Some(false));
    Ok(group)
}

#[cfg(test)]
mod tests;
