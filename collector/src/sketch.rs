//! Distributions of rates that can be added up, for percentiles over months.
//!
//! Rates fall into classes each 2 % wider than the one before, so that a percentile is right within 1 % of itself, and a
//! sketch of a day takes a few hundred bytes. Two sketches are added class by class: the order does not matter.

use std::collections::BTreeMap;

/// A class ends this much higher than it begins.
const WIDTH: f64 = 1.02;
/// Rates below are all one class: what an idle line carries, bit/s.
const LOWEST: f64 = 1_000.0;
/// Classes up to 10 Tbit/s.
const CLASSES: u64 = 1_200;
/// Bytes of a class and its number.
const ENTRY_BYTES: usize = 6;

/// How often rates of each class were seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch(BTreeMap<u64, u64>);

impl Sketch {
    /// Adds a rate, bit/s, that held for so many five minutes.
    pub fn add(&mut self, rate: u64, times: u64) {
        let class = if (rate as f64) < LOWEST {
            0
        } else {
            let class = ((rate as f64) / LOWEST).ln() / WIDTH.ln();
            // Below 1,200 and never negative.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "bounded on both sides"
            )]
            let class = class.clamp(0.0, (CLASSES - 2) as f64) as u64;
            class + 1
        };
        *self.0.entry(class).or_default() += times;
    }

    /// Adds another one.
    pub fn merge(&mut self, other: &Self) {
        for (class, times) in &other.0 {
            *self.0.entry(*class).or_default() += times;
        }
    }

    /// The rate that this share of the time was not exceeded, in thousandths; `None` when nothing was seen.
    pub fn percentile(&self, thousandths: u64) -> Option<u64> {
        let total: u64 = self.0.values().sum();
        let wanted = (total * thousandths).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (class, times) in &self.0 {
            seen += times;
            if seen >= wanted {
                return Some(middle(*class));
            }
        }
        None
    }

    /// The form in the catalogue: each class with its number, little endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * ENTRY_BYTES);
        for (class, times) in &self.0 {
            let class = u16::try_from(*class).unwrap_or(u16::MAX);
            bytes.extend(class.to_le_bytes());
            bytes.extend(u32::try_from(*times).unwrap_or(u32::MAX).to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Self::encode`] wrote; what is damaged is left out.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut sketch = Self::default();
        let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
        for [low, high, times @ ..] in entries {
            let class = u64::from(u16::from_le_bytes([*low, *high]));
            if class < CLASSES {
                *sketch.0.entry(class).or_default() += u64::from(u32::from_le_bytes(*times));
            }
        }
        sketch
    }
}

/// The rate that stands for a class.
fn middle(class: u64) -> u64 {
    let Some(step) = class.checked_sub(1) else {
        return 0;
    };
    let rate = LOWEST * WIDTH.powf(step as f64 + 0.5);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive and at most 10^13"
    )]
    let rate = rate.round() as u64;
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_within_a_hundredth() {
        let mut sketch = Sketch::default();
        for rate in 1..=1_000_u64 {
            sketch.add(rate * 10_000, 1);
        }
        for (thousandths, exact) in [
            (500, 5_000_000.0),
            (950, 9_500_000.0),
            (1_000, 10_000_000.0),
        ] {
            let found = sketch.percentile(thousandths).unwrap() as f64;
            assert!((found / exact - 1.0).abs() <= 0.0101, "{found} for {exact}");
        }
        assert_eq!(Sketch::default().percentile(950), None);
    }

    #[test]
    fn adding_up_is_the_same_in_any_order_and_survives_its_form() {
        let (mut one, mut two, mut both) =
            (Sketch::default(), Sketch::default(), Sketch::default());
        for (index, rate) in [0, 999, 1_000, 5_000_000, u64::MAX].into_iter().enumerate() {
            let part = if index % 2 == 0 { &mut one } else { &mut two };
            part.add(rate, 3);
            both.add(rate, 3);
        }
        let mut sum = two.clone();
        sum.merge(&one);
        one.merge(&two);
        assert_eq!((&sum, &one), (&both, &both));
        assert_eq!(Sketch::decode(&both.encode()), both);
        assert_eq!(both.percentile(200), Some(0));
        assert_eq!(Sketch::decode(&[0xff; 9]), Sketch::default());
    }
}
