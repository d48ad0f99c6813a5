//! A device that answers whatever bytes say, below the library and above the wire: for fuzzing.

use std::sync::{Mutex, PoisonError};

use super::module::{Module, built_in};
use super::numbers::Numbers;
use super::scrape::scrape;
use super::session::{Binding, Cost, Datum, Failure, Oid, Session};
use super::walk::ROWS_MAX;
use super::window::Window;

/// Most requests that are answered: an endless table must end by its own rules long before.
const REQUESTS_MAX: usize = 4_096;

struct Device<'a> {
    script: Mutex<(&'a [u8], usize)>,
}

impl Device<'_> {
    /// The next byte of the script.
    fn byte(&self) -> Option<u8> {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, rest) = script.0.split_first()?;
        script.0 = rest;
        Some(*first)
    }

    /// Bindings to what was asked: as they should be, or changed in one of many ways.
    fn answer(&self, oids: &[Oid], count: usize) -> Result<Vec<Binding>, Failure> {
        {
            let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
            script.1 += 1;
            assert!(script.1 < REQUESTS_MAX, "a scrape does not end");
        }
        if self.byte() == Some(0) {
            return Err(Failure::TooBig);
        }
        let mut answer = Vec::new();
        for index in 0..count {
            let Some(asked) = oids.get(index % oids.len().max(1)) else {
                break;
            };
            let Some(what) = self.byte() else {
                break;
            };
            let mut arcs = asked.0.clone();
            match what % 8 {
                0 => arcs.push(self.byte().unwrap_or(1).into()),
                1 => drop(arcs.pop()),
                2 => {
                    if let Some(last) = arcs.last_mut() {
                        *last = last.wrapping_add(self.byte().unwrap_or(1).into());
                    }
                }
                3 => arcs.extend([u32::MAX; 3]),
                _ => {}
            }
            let datum = match what >> 3 {
                0 => Datum::Missing,
                1 => Datum::EndOfView,
                2 => Datum::Octets(vec![what; usize::from(what)]),
                3 => Datum::Oid(Oid(Vec::new())),
                4 => Datum::Signed(i64::MIN),
                5 => Datum::Other,
                _ => Datum::Unsigned(u64::MAX - u64::from(what)),
            };
            let oid = Oid(arcs);
            answer.push(Binding { oid, datum });
        }
        Ok(answer)
    }
}

impl Session for Device<'_> {
    fn has_counter64(&self) -> bool {
        true
    }

    fn cost(&self) -> Cost {
        Cost::default()
    }

    async fn get(&self, oids: &[Oid]) -> Result<Vec<Binding>, Failure> {
        self.answer(oids, oids.len())
    }

    async fn successors(&self, oids: &[Oid], repetitions: u32) -> Result<Vec<Binding>, Failure> {
        self.answer(oids, oids.len().saturating_mul(repetitions as usize))
    }
}

/// Runs a built-in module against the script; the number of objects that it found.
///
/// # Panics
/// When a scrape does not end, or finds more than a table may have: a mistake of ours.
pub async fn replay(module: &str, script: &[u8]) -> usize {
    let Some(mut module) = built_in(module) else {
        return 0;
    };
    Numbers::default().give_to(&mut module);
    let device = Device {
        script: Mutex::new((script, 0)),
    };
    let found = run(&device, &module, &[]).await;
    if let Some(indexes) = &found {
        // Again, knowing the rows: what was learnt from a liar must not harm either.
        run(&device, &module, indexes).await;
    }
    found.map_or(0, |indexes| indexes.iter().map(Vec::len).sum())
}

async fn run(
    device: &Device<'_>,
    module: &Module,
    known: &[Vec<Vec<u32>>],
) -> Option<Vec<Vec<Vec<u32>>>> {
    let found = scrape(device, module, known, &Window::new()).await.ok()?;
    for table in &found.indexes {
        assert!(table.len() <= ROWS_MAX, "a table with too many rows");
    }
    Some(found.indexes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_script_leads_a_scrape_astray() {
        for seed in 0..200_u32 {
            let byte =
                |i: u32| (seed.wrapping_mul(2_654_435_761).wrapping_add(i * 40_503) >> 13) & 0xff;
            let script: Vec<u8> = (0..400).map(|i| u8::try_from(byte(i)).unwrap()).collect();
            for name in ["if_mib", "lldp", "entity_sensor"] {
                assert!(replay(name, &script).await <= 3 * ROWS_MAX);
            }
        }
    }
}
