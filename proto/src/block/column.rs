//! One column of 64-bit numbers: foretold from earlier ones, then written in the shortest of several forms.
//!
//! ```text
//! column = tag byte (predictor in the upper 3 bits, form in the lower 5), data of the form; nothing at all for 0 values
//! form 0..=23   every residual is this number
//! form 24       every residual is the number that follows
//! form 25       runs: (residual, how often) until the column is full
//! form 26       one varint for each residual
//! form 27       base, width byte, residuals in `width` bits each
//! form 28       base, k byte, residuals as Rice codes: quotient by 2^k in unary, k bits; 24 ones = 64 bits as they are
//! ```
//! Without a predictor the residuals are the values and `base` is the smallest one, subtracted from all; with one they
//! are zigzagged differences (modulo 2^64) and `base` is the first of them, which seldom resembles the others.

use super::bits::{BitReader, BitWriter};
use crate::varint::{self, Malformed, Reader};

/// No earlier value.
pub(super) const NONE: u32 = u32::MAX;

const FORM_CONSTANT: u8 = 24;
const FORM_RUNS: u8 = 25;
const FORM_VARINTS: u8 = 26;
const FORM_PACKED: u8 = 27;
const FORM_RICE: u8 = 28;
/// Quotients from here on are escaped.
const RICE_ONES_MAX: u32 = 24;

/// Which forms the encoder may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// All: shortest without a compressor behind.
    Bits,
    /// Only whole bytes, in which a compressor finds repetitions.
    Bytes,
}

/// What a value is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Predictor {
    /// Nothing.
    None = 0,
    /// The value before it in the column.
    Previous = 1,
    /// The previous value of its slot (same check, metric, object); without one as `Previous`.
    Slot = 2,
    /// The line through the previous two values of its slot; without them as `Slot`.
    Line = 3,
    /// The value to its left in the same result (the metric before it); without one as `Previous`.
    Left = 4,
}

impl Predictor {
    const ALL: [Self; 5] = [
        Self::None,
        Self::Previous,
        Self::Slot,
        Self::Line,
        Self::Left,
    ];
}

/// The values of a group of columns, and which earlier value each can be foretold from. All are indices into one array
/// of values, in the order of the records.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    /// Previous value of the same slot, or [`NONE`]. Empty: no value has one.
    pub(super) slot_before: Vec<u32>,
    /// Whether the value at `index - 1` belongs to the same result and is decoded earlier. Empty: never.
    pub(super) has_left: Vec<bool>,
}

impl Neighbours {
    /// Index of the previous value of the slot of the value at `at`.
    fn before(&self, at: usize) -> Option<usize> {
        let before = *self.slot_before.get(at)?;
        (before != NONE).then_some(before as usize)
    }

    fn left(&self, at: usize) -> Option<usize> {
        self.has_left
            .get(at)
            .copied()
            .unwrap_or(false)
            .then(|| at - 1)
    }

    /// What the value at `at` is compared with. Looks at values only that a decoder knows by then; `previous` is the
    /// index of the value before it in the column.
    fn foretell(
        &self,
        predictor: Predictor,
        values: &[u64],
        at: usize,
        previous: Option<usize>,
    ) -> u64 {
        let source = match predictor {
            Predictor::None => return 0,
            Predictor::Previous => previous,
            Predictor::Slot => self.before(at).or(previous),
            Predictor::Line => match self.before(at) {
                Some(one) => {
                    if let Some(two) = self.before(one) {
                        return values[one].wrapping_mul(2).wrapping_sub(values[two]);
                    }
                    Some(one)
                }
                None => previous,
            },
            Predictor::Left => self.left(at).or(previous),
        };
        source.map_or(0, |index| values[index])
    }

    /// Whether the predictor can differ from [`Predictor::Previous`] here.
    fn offers(&self, predictor: Predictor) -> bool {
        match predictor {
            Predictor::None | Predictor::Previous => true,
            Predictor::Slot | Predictor::Line => {
                self.slot_before.iter().any(|before| *before != NONE)
            }
            Predictor::Left => self.has_left.contains(&true),
        }
    }
}

/// How residuals are written, with the length that takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Form {
    tag: u8,
    /// Width or k.
    parameter: u32,
    len: usize,
}

/// Appends the values at `positions` (indices into `values`, growing) as a column.
pub(super) fn write(
    out: &mut Vec<u8>,
    style: Style,
    positions: &[u32],
    near: &Neighbours,
    values: &[u64],
) {
    if positions.is_empty() {
        return;
    }
    let mut best: Option<(Predictor, Form, Vec<u64>)> = None;
    for predictor in Predictor::ALL.into_iter().filter(|p| near.offers(*p)) {
        let residuals = residuals(predictor, positions, near, values);
        let form = shortest(&residuals, predictor, style);
        if best
            .as_ref()
            .is_none_or(|(_, known, _)| form.len < known.len)
        {
            best = Some((predictor, form, residuals));
        }
    }
    let (predictor, form, residuals) = best.expect("Predictor::None is always offered");
    out.push((predictor as u8) << 5 | form.tag);
    put_residuals(out, form, &residuals, predictor);
}

fn residuals(
    predictor: Predictor,
    positions: &[u32],
    near: &Neighbours,
    values: &[u64],
) -> Vec<u64> {
    if predictor == Predictor::None {
        return positions.iter().map(|at| values[*at as usize]).collect();
    }
    let mut previous = None;
    positions
        .iter()
        .map(|at| {
            let at = *at as usize;
            let foretold = near.foretell(predictor, values, at, previous);
            previous = Some(at);
            varint::zigzag(values[at].wrapping_sub(foretold))
        })
        .collect()
}

/// The number that packed and Rice forms keep apart, and the residuals that remain to be written.
fn split_base(residuals: &[u64], predictor: Predictor) -> (u64, &[u64]) {
    match (predictor, residuals) {
        (Predictor::None, all) => (all.iter().copied().min().unwrap_or(0), all),
        (_, [first, rest @ ..]) => (*first, rest),
        (_, []) => (0, residuals),
    }
}

/// What packed and Rice forms subtract from each residual.
fn subtrahend(base: u64, predictor: Predictor) -> u64 {
    if predictor == Predictor::None {
        base
    } else {
        0
    }
}

fn shortest(residuals: &[u64], predictor: Predictor, style: Style) -> Form {
    let first = residuals[0];
    if residuals.iter().all(|r| *r == first) {
        let small = u8::try_from(first).ok().filter(|f| *f < FORM_CONSTANT);
        return Form {
            tag: small.unwrap_or(FORM_CONSTANT),
            parameter: 0,
            len: small.map_or(varint::len(first), |_| 0),
        };
    }
    let runs_len = residuals
        .chunk_by(|a, b| a == b)
        .map(|run| varint::len(run[0]) + varint::len(run.len() as u64))
        .sum();
    let varints_len = residuals.iter().map(|r| varint::len(*r)).sum();
    let mut forms = vec![
        Form {
            tag: FORM_RUNS,
            parameter: 0,
            len: runs_len,
        },
        Form {
            tag: FORM_VARINTS,
            parameter: 0,
            len: varints_len,
        },
    ];
    if style == Style::Bits {
        let (base, rest) = split_base(residuals, predictor);
        let off = subtrahend(base, predictor);
        let largest = rest.iter().map(|r| r - off).max().unwrap_or(0);
        let width = 64 - largest.leading_zeros();
        let head = varint::len(base) + 1;
        forms.push(Form {
            tag: FORM_PACKED,
            parameter: width,
            len: head + (rest.len() * width as usize).div_ceil(8),
        });
        let (k, bits) = best_rice(rest, off);
        forms.push(Form {
            tag: FORM_RICE,
            parameter: k,
            len: head + usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX - head),
        });
    }
    // The first of equals: runs and varints decode faster than bits.
    forms
        .into_iter()
        .min_by_key(|form| form.len)
        .expect("there are at least two forms")
}

/// The best k near the logarithm of the mean, with the bits it takes.
fn best_rice(residuals: &[u64], off: u64) -> (u32, u64) {
    let total: u128 = residuals.iter().map(|r| u128::from(r - off)).sum();
    let mean = total / residuals.len().max(1) as u128;
    let middle = (128 - mean.leading_zeros()).min(62);
    (middle.saturating_sub(2)..=middle + 1)
        .map(|k| {
            let bits = residuals.iter().map(|r| rice_bits(r - off, k)).sum();
            (k, bits)
        })
        .min_by_key(|(_, bits)| *bits)
        .expect("the span of k is not empty")
}

fn rice_bits(residual: u64, k: u32) -> u64 {
    let quotient = residual >> k;
    if quotient >= u64::from(RICE_ONES_MAX) {
        return u64::from(RICE_ONES_MAX) + 64;
    }
    quotient + 1 + u64::from(k)
}

fn put_residuals(out: &mut Vec<u8>, form: Form, residuals: &[u64], predictor: Predictor) {
    match form.tag {
        FORM_RUNS => {
            for run in residuals.chunk_by(|a, b| a == b) {
                varint::put(out, run[0]);
                varint::put(out, run.len() as u64);
            }
        }
        FORM_VARINTS => residuals.iter().for_each(|r| varint::put(out, *r)),
        FORM_PACKED | FORM_RICE => {
            let (base, rest) = split_base(residuals, predictor);
            let off = subtrahend(base, predictor);
            varint::put(out, base);
            out.push(varint::low_byte(form.parameter.into()));
            let mut bits = BitWriter::new(out);
            for residual in rest {
                if form.tag == FORM_PACKED {
                    bits.put(residual - off, form.parameter);
                } else {
                    put_rice(&mut bits, residual - off, form.parameter);
                }
            }
            bits.finish();
        }
        FORM_CONSTANT => varint::put(out, residuals[0]),
        _constant_in_the_tag => {}
    }
}

fn put_rice(bits: &mut BitWriter<'_>, residual: u64, k: u32) {
    let quotient = residual >> k;
    if quotient >= u64::from(RICE_ONES_MAX) {
        bits.put(u64::MAX, RICE_ONES_MAX);
        bits.put(residual, 64);
    } else {
        let ones = (1 << quotient) - 1;
        bits.put(ones, varint::low_byte(quotient).into());
        bits.put(0, 1);
        bits.put(residual, k);
    }
}

/// Reads a column and puts its values at `positions` of `values`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    positions: &[u32],
    near: &Neighbours,
    values: &mut [u64],
) -> Result<(), Malformed> {
    if positions.is_empty() {
        return Ok(());
    }
    let tag = reader.byte()?;
    let predictor = *Predictor::ALL.get(usize::from(tag >> 5)).ok_or(Malformed)?;
    let residuals = take_residuals(reader, tag & 31, positions.len(), predictor)?;
    let mut previous = None;
    for (at, residual) in positions.iter().zip(residuals) {
        let at = *at as usize;
        values[at] = if predictor == Predictor::None {
            residual
        } else {
            let foretold = near.foretell(predictor, values, at, previous);
            foretold.wrapping_add(varint::unzigzag(residual))
        };
        previous = Some(at);
    }
    Ok(())
}

/// `count` is bounded by the caller, whatever the bytes say.
fn take_residuals(
    reader: &mut Reader<'_>,
    form: u8,
    count: usize,
    predictor: Predictor,
) -> Result<Vec<u64>, Malformed> {
    match form {
        FORM_RUNS => {
            let mut residuals = Vec::with_capacity(count);
            while residuals.len() < count {
                let residual = reader.varint()?;
                let times = reader.count(count - residuals.len())?;
                if times == 0 {
                    return Err(Malformed);
                }
                residuals.resize(residuals.len() + times, residual);
            }
            Ok(residuals)
        }
        FORM_VARINTS => (0..count).map(|_| reader.varint()).collect(),
        FORM_PACKED | FORM_RICE => take_bits(reader, form, count, predictor),
        FORM_CONSTANT => Ok(vec![reader.varint()?; count]),
        small if small < FORM_CONSTANT => Ok(vec![small.into(); count]),
        _ => Err(Malformed),
    }
}

fn take_bits(
    reader: &mut Reader<'_>,
    form: u8,
    count: usize,
    predictor: Predictor,
) -> Result<Vec<u64>, Malformed> {
    let base = reader.varint()?;
    let parameter = u32::from(reader.byte()?);
    if parameter > 64 || (form == FORM_RICE && parameter > 63) {
        return Err(Malformed);
    }
    let off = subtrahend(base, predictor);
    let mut residuals = Vec::with_capacity(count);
    if predictor != Predictor::None {
        residuals.push(base);
    }
    let mut bits = BitReader::new(reader.rest());
    while residuals.len() < count {
        let residual = if form == FORM_PACKED {
            bits.take(parameter)?
        } else {
            take_rice(&mut bits, parameter)?
        };
        residuals.push(residual.wrapping_add(off));
    }
    reader.bytes(bits.bytes_used())?;
    Ok(residuals)
}

fn take_rice(bits: &mut BitReader<'_>, k: u32) -> Result<u64, Malformed> {
    let ones = bits.take_ones(RICE_ONES_MAX)?;
    if ones == RICE_ONES_MAX {
        return bits.take(64);
    }
    Ok(u64::from(ones) << k | bits.take(k)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[u64], near: &Neighbours, style: Style) -> usize {
        let positions: Vec<u32> = (0..).take(values.len()).collect();
        let mut bytes = Vec::new();
        write(&mut bytes, style, &positions, near, values);
        let mut reader = Reader::new(&bytes);
        let mut read_back = vec![0; values.len()];
        read(&mut reader, &positions, near, &mut read_back).unwrap();
        assert_eq!(read_back, values);
        assert!(reader.is_empty(), "the whole column was read");
        bytes.len()
    }

    #[test]
    fn typical_columns_are_short() {
        let none = Neighbours::default();
        let len = |values: &[u64]| round_trip(values, &none, Style::Bits);
        assert_eq!(len(&[]), 0);
        assert_eq!(len(&[7; 500]), 1, "a small constant is in the tag");
        assert_eq!(len(&[64; 500]), 2);
        assert_eq!(len(&(1..500).collect::<Vec<_>>()), 1, "steps of one");
        assert_eq!(len(&[u64::MAX; 300]), 3, "minus one, then no change");
        let mut status = vec![1; 40];
        status.extend([2; 8]);
        assert_eq!(len(&status), 5, "two runs");
        let round_trips: Vec<u64> = (0..100).map(|i| 20_000 + i * 7919 % 1024).collect();
        assert!(len(&round_trips) <= 132, "ten bits each and a head");
    }

    #[test]
    fn an_outlier_does_not_widen_the_others() {
        let mut values = vec![3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3];
        values.push(u64::MAX / 2);
        let len = round_trip(&values, &Neighbours::default(), Style::Bits);
        assert!(len <= 27, "{len}");
    }

    #[test]
    fn a_slot_foretells_better_than_the_neighbour() {
        // Two counters in turn, far apart, each growing by its own step.
        let values: Vec<u64> = (0..20)
            .map(|i| {
                if i % 2 == 0 {
                    i * 500
                } else {
                    (1 << 50) + i * 90
                }
            })
            .collect();
        let slot_before = (0..20).map(|i: u32| i.checked_sub(2).unwrap_or(NONE));
        let near = Neighbours {
            slot_before: slot_before.collect(),
            ..Neighbours::default()
        };
        assert!(round_trip(&values, &near, Style::Bits) < 24);
    }

    #[test]
    fn claims_beyond_the_input_are_refused() {
        let near = Neighbours::default();
        let cases: [&[u8]; 8] = [
            &[],
            &[FORM_CONSTANT],
            &[FORM_RUNS, 1, 9],
            &[FORM_RUNS, 1, 0],
            &[FORM_PACKED, 0, 65, 0],
            &[FORM_RICE, 0, 64, 0],
            &[31],
            &[7 << 5],
        ];
        for bytes in cases {
            let read = read(&mut Reader::new(bytes), &[0, 1, 2], &near, &mut [0; 3]);
            assert_eq!(read, Err(Malformed), "{bytes:?}");
        }
    }

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0_u64..4, 0_u64..100_000, any::<u64>(), Just(u64::MAX)]
    }

    proptest! {
        #[test]
        fn every_column_round_trips(
            rows in prop::collection::vec((number(), prop::option::of(0_u32..20), any::<bool>()), 1..80)
        ) {
            let values: Vec<u64> = rows.iter().map(|row| row.0).collect();
            let near = Neighbours {
                slot_before: (0..).zip(&rows).map(|(i, row)| row.1.filter(|b| *b < i).unwrap_or(NONE)).collect(),
                has_left: rows.iter().enumerate().map(|(i, row)| i > 0 && row.2).collect(),
            };
            round_trip(&values, &near, Style::Bits);
            round_trip(&values, &near, Style::Bytes);
            round_trip(&values, &Neighbours::default(), Style::Bits);
        }

        #[test]
        fn reading_anything_is_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..40), count in 0_u32..50) {
            let positions: Vec<u32> = (0..count).collect();
            let mut values = vec![0; count as usize];
            let near = Neighbours::default();
            let _answer = read(&mut Reader::new(&bytes), &positions, &near, &mut values);
        }
    }
}
