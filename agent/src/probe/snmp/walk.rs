//! Finds the rows of a table, and reads their cells, and trusts nothing that comes back.
//!
//! The rows are found by walking a column or two ([`rows`]); their cells are asked for by name, many in a request and
//! several requests at a time ([`objects`]), so that the time does not grow with the number of columns times the delay of
//! the link, and so that only the walk can be led astray. Its rules, in the order in which the code applies them:
//!
//! 1. More bindings than were asked for: the device breaks the protocol ([`Reason::Malformed`]).
//! 2. An identifier that does not grow within its column ends the walk ([`Reason::NotIncreasing`]): RFC 3416 section
//!    4.2.2 promises the lexicographic successor, and a device that repeats itself would never finish.
//! 3. An identifier outside the column ends the column.
//! 4. More rows than [`ROWS_MAX`] end the walk ([`Reason::TooLarge`]): it may grow for ever.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use extranet_proto::record::Reason;

use super::session::{Binding, Datum, Failure, Oid, Session};
use super::window::Window;

/// Most rows of a table.
pub(super) const ROWS_MAX: usize = 1_000;

/// Rows by index; each holds (position of the column, value) in the order of arrival.
pub(super) type Rows = BTreeMap<Vec<u32>, Vec<(usize, Datum)>>;

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

/// Finds all rows that have a cell in one of `columns`, with these cells.
pub(super) async fn rows<S: Session>(
    session: &S,
    columns: &[Oid],
    window: &Window,
) -> Result<Rows, Failure> {
    let mut rows = Rows::new();
    let mut groups: Vec<Vec<Cursor>> = vec![
        (0_usize..)
            .zip(columns)
            .map(|(column, oid)| Cursor {
                column,
                last: oid.clone(),
                rows: 0,
            })
            .collect(),
    ];
    while let Some(group) = groups.pop() {
        if group.is_empty() {
            continue;
        }
        let oids: Vec<Oid> = group.iter().map(|cursor| cursor.last.clone()).collect();
        let repetitions = (window.objects() / group.len()).max(1);
        let asked = group.len() * repetitions;
        let repetitions = u32::try_from(repetitions).unwrap_or(1);
        let _permit = window.open().await;
        match watched(session, window, session.successors(&oids, repetitions)).await {
            Ok(bindings) => {
                if bindings.is_empty() || bindings.len() > asked {
                    return Err(Failure::failed(Reason::Malformed));
                }
                groups.push(take(columns, group, bindings, &mut rows)?);
            }
            Err(Failure::TooBig) if asked > 1 => {
                window.too_big(asked);
                if window.objects() < group.len() {
                    let (first, second) = group.split_at(group.len() / 2);
                    groups.push(second.to_vec());
                    groups.push(first.to_vec());
                } else {
                    groups.push(group);
                }
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
    rows: &mut Rows,
) -> Result<Vec<Cursor>, Failure> {
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
            Some(index) => {
                cursor.rows += 1;
                let is_new = !rows.contains_key(index);
                if cursor.rows > ROWS_MAX || (is_new && rows.len() >= ROWS_MAX) {
                    return Err(Failure::failed(Reason::TooLarge));
                }
                let cells = rows.entry(index.to_vec()).or_default();
                cells.push((cursor.column, datum));
                cursor.last = oid;
            }
        }
    }
    let mut at_end = finished.into_iter();
    group.retain(|_| at_end.next() == Some(false));
    Ok(group)
}

/// Reads objects by name, several requests at a time. What the device does not have is not in the answer.
pub(super) async fn objects<S: Session>(
    session: &S,
    oids: Vec<Oid>,
    window: &Window,
) -> Result<HashMap<Oid, Datum>, Failure> {
    let reading = Reading {
        session,
        window,
        waiting: Mutex::new(oids.into()),
        read: Mutex::default(),
    };
    // Boxed, so that a run that reads nothing costs no memory for eight requests. As many as `window::REQUESTS_MAX`; the window says how many of them may do something.
    tokio::try_join!(
        Box::pin(reading.work()),
        Box::pin(reading.work()),
        Box::pin(reading.work()),
        Box::pin(reading.work()),
        Box::pin(reading.work()),
        Box::pin(reading.work()),
        Box::pin(reading.work()),
        Box::pin(reading.work()),
    )?;
    Ok(reading
        .read
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}

struct Reading<'a, S> {
    session: &'a S,
    window: &'a Window,
    waiting: Mutex<VecDeque<Oid>>,
    read: Mutex<HashMap<Oid, Datum>>,
}

impl<S: Session> Reading<'_, S> {
    /// One request after the other until nothing waits.
    async fn work(&self) -> Result<(), Failure> {
        loop {
            let _permit = self.window.open().await;
            let asked = self.next();
            if asked.is_empty() {
                return Ok(());
            }
            match watched(self.session, self.window, self.session.get(&asked)).await {
                Ok(bindings) => self.keep(&asked, bindings)?,
                Err(Failure::TooBig) if asked.len() > 1 => {
                    self.window.too_big(asked.len());
                    self.lock(&self.waiting).extend(asked);
                }
                Err(Failure::TooBig) => return Err(Failure::failed(Reason::RemoteError)),
                Err(verdict) => return Err(verdict),
            }
        }
    }

    fn next(&self) -> Vec<Oid> {
        let mut waiting = self.lock(&self.waiting);
        let count = self.window.objects().min(waiting.len());
        waiting.drain(..count).collect()
    }

    /// A device may leave out what it does not have, but not tell of anything else.
    fn keep(&self, asked: &[Oid], bindings: Vec<Binding>) -> Result<(), Failure> {
        if bindings.len() > asked.len() {
            return Err(Failure::failed(Reason::Malformed));
        }
        let mut asked = asked.iter();
        let mut read = self.lock(&self.read);
        for Binding { oid, datum } in bindings {
            if !asked.any(|wanted| *wanted == oid) {
                return Err(Failure::failed(Reason::Malformed));
            }
            if !matches!(datum, Datum::Missing | Datum::EndOfView) {
                read.insert(oid, datum);
            }
        }
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "reads better at the callers")]
    fn lock<'m, T>(&self, mutex: &'m Mutex<T>) -> std::sync::MutexGuard<'m, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a request and tells the window how it went.
async fn watched<S: Session>(
    session: &S,
    window: &Window,
    request: impl Future<Output = Result<Vec<Binding>, Failure>>,
) -> Result<Vec<Binding>, Failure> {
    let before = session.cost();
    let answer = request.await;
    let after = session.cost();
    if after.repeated > before.repeated {
        window.lost();
    } else if let Ok(bindings) = &answer {
        window.answered(
            bindings.len(),
            bindings.iter().map(Binding::size).sum::<u64>(),
        );
    }
    answer
}

#[cfg(test)]
mod tests;
