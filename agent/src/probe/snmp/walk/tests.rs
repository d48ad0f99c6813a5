use std::sync::Mutex;

use super::*;
use crate::probe::snmp::session::Cost;

/// A device with a table of two columns that can be told to answer badly.
struct Table {
    rows: u32,
    /// Most bindings it puts into one answer.
    answer_max: usize,
    /// Fails with tooBig when asked for more bindings than this.
    too_big_above: usize,
    /// Answers GET with an object more.
    talks_too_much: bool,
    requests: Mutex<Vec<usize>>,
}

fn column(number: u32) -> Oid {
    Oid(vec![1, 3, number])
}

impl Table {
    fn new(rows: u32) -> Self {
        Self {
            rows,
            answer_max: usize::MAX,
            too_big_above: usize::MAX,
            talks_too_much: false,
            requests: Mutex::default(),
        }
    }

    /// What follows `oid` in a MIB that holds columns 1 to 14 and nothing else.
    fn successor(&self, oid: &Oid) -> Binding {
        let (number, index) = match oid.0.as_slice() {
            [1, 3, number] => (*number, 0),
            [1, 3, number, index] => (*number, *index),
            _ => panic!("asked for {oid}"),
        };
        let (number, index) = if index < self.rows {
            (number, index + 1)
        } else {
            (number + 1, 1)
        };
        if number > 14 || self.rows == 0 {
            return Binding {
                oid: oid.clone(),
                datum: Datum::EndOfView,
            };
        }
        cell(number, index)
    }

    fn note(&self, objects: usize) -> Result<(), Failure> {
        self.requests.lock().unwrap().push(objects);
        if objects > self.too_big_above {
            return Err(Failure::TooBig);
        }
        Ok(())
    }
}

fn cell(number: u32, index: u32) -> Binding {
    Binding {
        oid: column(number).with(&[index]),
        datum: Datum::Unsigned(u64::from(number * 10_000 + index)),
    }
}

impl Session for Table {
    fn has_counter64(&self) -> bool {
        true
    }

    fn cost(&self) -> Cost {
        Cost::default()
    }

    async fn get(&self, oids: &[Oid]) -> Result<Vec<Binding>, Failure> {
        self.note(oids.len())?;
        let mut answer: Vec<Binding> = oids
            .iter()
            .filter(|oid| oid.0[3] <= self.rows)
            .map(|oid| cell(oid.0[2], oid.0[3]))
            .collect();
        if self.talks_too_much {
            answer.push(cell(99, 1));
        }
        Ok(answer)
    }

    async fn successors(&self, oids: &[Oid], repetitions: u32) -> Result<Vec<Binding>, Failure> {
        self.note(oids.len() * repetitions as usize)?;
        let mut answer = Vec::new();
        let mut cursors = oids.to_vec();
        for _ in 0..repetitions {
            for cursor in &mut cursors {
                let binding = self.successor(cursor);
                *cursor = binding.oid.clone();
                answer.push(binding);
            }
        }
        answer.truncate(self.answer_max);
        Ok(answer)
    }
}

fn expected(rows: u32) -> Rows {
    (1..=rows)
        .map(|index| {
            let cells = (1..=2_u32).map(|number| {
                let value = u64::from(number * 10_000 + index);
                (number as usize - 1, Datum::Unsigned(value))
            });
            (vec![index], cells.collect())
        })
        .collect()
}

async fn walk(device: &Table) -> Result<Rows, Failure> {
    let columns: Vec<Oid> = (1..=2).map(column).collect();
    let mut rows = rows(device, &columns, &Window::new()).await?;
    for cells in rows.values_mut() {
        cells.sort_by_key(|(column, _)| *column);
    }
    Ok(rows)
}

async fn read(device: &Table, columns: u32) -> Result<HashMap<Oid, Datum>, Failure> {
    let wanted = (1..=device.rows + 1)
        .flat_map(|index| (1..=columns).map(move |number| column(number).with(&[index])));
    objects(device, wanted.collect(), &Window::new()).await
}

#[tokio::test]
async fn a_table_of_any_length_is_found_and_read_whole() {
    for rows in [0, 1, 3, 4, 5, 48, 1_000] {
        let device = Table::new(rows);
        assert_eq!(walk(&device).await, Ok(expected(rows)), "{rows}");
        let cells = read(&device, 14).await.unwrap();
        assert_eq!(cells.len(), rows as usize * 14, "{rows}");
        for (oid, datum) in cells {
            assert_eq!(datum, cell(oid.0[2], oid.0[3]).datum);
        }
    }
}

#[tokio::test]
async fn answers_may_be_cut_anywhere() {
    for answer_max in 1..=20 {
        let mut device = Table::new(9);
        device.answer_max = answer_max;
        assert_eq!(walk(&device).await, Ok(expected(9)), "{answer_max}");
    }
}

#[tokio::test]
async fn a_device_for_which_answers_are_too_big_is_asked_for_less() {
    for too_big_above in [1, 5, 12, 29] {
        let mut device = Table::new(7);
        device.too_big_above = too_big_above;
        assert_eq!(walk(&device).await, Ok(expected(7)), "{too_big_above}");
        assert_eq!(read(&device, 14).await.unwrap().len(), 7 * 14);
    }
    let mut hopeless = Table::new(7);
    hopeless.too_big_above = 0;
    let verdict = Failure::failed(Reason::RemoteError);
    assert_eq!(walk(&hopeless).await, Err(verdict));
    assert_eq!(read(&hopeless, 14).await, Err(verdict));
}

#[tokio::test]
async fn what_was_not_asked_for_is_malformed() {
    let mut device = Table::new(3);
    device.talks_too_much = true;
    let verdict = Err(Failure::failed(Reason::Malformed));
    assert_eq!(read(&device, 1).await, verdict);
}

#[tokio::test]
async fn one_row_too_many_is_too_large() {
    let verdict = Err(Failure::failed(Reason::TooLarge));
    assert_eq!(walk(&Table::new(1_001)).await, verdict);
}

#[tokio::test]
async fn requests_are_as_large_as_a_frame_allows() {
    let device = Table::new(100);
    read(&device, 14).await.unwrap();
    let requests = device.requests.lock().unwrap().clone();
    // 14 columns of 101 rows, one of which does not exist.
    assert_eq!(
        requests
            .iter()
            .filter(|objects| **objects > 0)
            .sum::<usize>(),
        14 * 101
    );
    assert!(requests.len() <= 30, "{requests:?}");
}
