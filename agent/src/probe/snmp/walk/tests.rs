use std::sync::Mutex;

use super::*;

/// A device with a table of two columns that can be told to answer badly.
struct Table {
    rows: u32,
    /// Most bindings it puts into one answer.
    answer_max: usize,
    /// Fails with tooBig when asked for more bindings than this.
    too_big_above: usize,
    requests: Mutex<Vec<(usize, u32)>>,
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
        Binding {
            oid: column(number).with(&[index]),
            datum: Datum::Unsigned(u64::from(number * 10_000 + index)),
        }
    }
}

impl Session for Table {
    async fn get(&self, _oids: &[Oid]) -> Result<Vec<Binding>, Failure> {
        panic!("a walk does not use GET");
    }

    async fn successors(&self, oids: &[Oid], repetitions: u32) -> Result<Vec<Binding>, Failure> {
        self.requests
            .lock()
            .unwrap()
            .push((oids.len(), repetitions));
        if oids.len() * repetitions as usize > self.too_big_above {
            return Err(Failure::TooBig);
        }
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
            let cells = (1..=14_u32).map(|number| {
                let value = u64::from(number * 10_000 + index);
                (number as usize - 1, Datum::Unsigned(value))
            });
            (index, cells.collect())
        })
        .collect()
}

async fn walk(device: &Table) -> Result<Rows, Failure> {
    let columns: Vec<Oid> = (1..=14).map(column).collect();
    let mut rows = table(device, &columns).await?;
    for cells in rows.values_mut() {
        cells.sort_by_key(|(column, _)| *column);
    }
    Ok(rows)
}

#[tokio::test]
async fn a_table_of_any_length_is_read_whole() {
    for rows in [0, 1, 3, 4, 5, 48, 1_000] {
        assert_eq!(walk(&Table::new(rows)).await, Ok(expected(rows)), "{rows}");
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
    for too_big_above in [1, 5, 12, 30] {
        let mut device = Table::new(7);
        device.too_big_above = too_big_above;
        assert_eq!(walk(&device).await, Ok(expected(7)), "{too_big_above}");
    }
    let mut hopeless = Table::new(7);
    hopeless.too_big_above = 0;
    let verdict = Err(Failure::failed(Reason::RemoteError));
    assert_eq!(walk(&hopeless).await, verdict);
}

#[tokio::test]
async fn one_row_too_many_is_too_large() {
    let verdict = Err(Failure::failed(Reason::TooLarge));
    assert_eq!(walk(&Table::new(1_001)).await, verdict);
}

#[tokio::test]
async fn ten_rows_take_six_requests() {
    let device = Table::new(10);
    walk(&device).await.unwrap();
    let requests = device.requests.lock().unwrap().clone();
    assert_eq!(requests, [[(12, 4); 3], [(2, 4); 3]].concat());
}
