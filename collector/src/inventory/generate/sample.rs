//! Drawing: a generator of its own, so that no release of a library changes what a seed means, and the distribution of
//! whole seats.

/// Metres of one degree of latitude: a quarter meridian of 10,001,966 m over 90.
const METRES_PER_DEGREE: f64 = 111_133.0;

/// Random numbers for one purpose at one place: adding a draw somewhere changes nothing elsewhere.
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64, purpose: &str, place: &str) -> Self {
        // FNV-1a over all three.
        let mut state = 0xcbf2_9ce4_8422_2325_u64;
        let bytes = seed.to_le_bytes();
        for byte in bytes
            .iter()
            .chain(purpose.as_bytes())
            .chain(&[0])
            .chain(place.as_bytes())
        {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Self(state)
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is small: the bias of the product is below 2^-32.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        let product = u128::from(self.next()) * limit as u128;
        usize::try_from(product >> 64).unwrap_or_default()
    }

    /// True in `percent` of a hundred cases.
    pub(super) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Fisher and Yates.
    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let other = self.below(last + 1);
            list.swap(last, other);
        }
    }

    /// Keeps `number` of them, in their order.
    pub(super) fn keep<T: Copy>(&mut self, list: &mut Vec<T>, number: usize) {
        let mut places: Vec<usize> = (0..list.len()).collect();
        self.shuffle(&mut places);
        places.truncate(number);
        places.sort_unstable();
        *list = places.into_iter().map(|place| list[place]).collect();
    }

    /// A place within `metres` of another one; longitude and latitude in degrees times 10^6.
    pub(super) fn near(&mut self, (lon, lat): (i32, i32), metres: i32) -> (i32, i32) {
        // A little inside, because the length of a degree varies by half a per cent.
        let radius = metres * 99 / 100;
        let wide = usize::try_from(2 * radius + 1).unwrap_or(1);
        let mut axis = || i32::try_from(self.below(wide)).unwrap_or_default() - radius;
        let (east, north) = loop {
            let (east, north) = (axis(), axis());
            let square = |metres: i32| i64::from(metres) * i64::from(metres);
            if square(east) + square(north) <= square(radius) {
                break (east, north);
            }
        };
        let shrink = (f64::from(lat) / 1e6).to_radians().cos();
        let micro = |metres: i32, per_degree: f64| {
            // To 10 m: the last bits of a cosine differ between machines.
            let hundredth = (f64::from(metres) / per_degree * 1e4).round();
            #[expect(
                clippy::cast_possible_truncation,
                reason = "below 10,000, and the cast saturates"
            )]
            let hundredth = hundredth as i32;
            hundredth * 100
        };
        (
            lon + micro(east, METRES_PER_DEGREE * shrink),
            lat + micro(north, METRES_PER_DEGREE),
        )
    }
}

/// Distributes whole seats in proportion to sizes by largest remainder; ties go to the first.
pub(super) fn apportion(seats: usize, sizes: &[usize]) -> Vec<usize> {
    let total: usize = sizes.iter().sum();
    if total == 0 {
        return vec![0; sizes.len()];
    }
    let mut quotas: Vec<usize> = sizes.iter().map(|size| seats * size / total).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|place| std::cmp::Reverse(seats * sizes[*place] % total));
    let left = seats - quotas.iter().sum::<usize>();
    for place in order.into_iter().take(left) {
        quotas[place] += 1;
    }
    quotas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_distributed_by_largest_remainder() {
        for (seats, sizes, expected) in [
            (10, vec![1, 1, 1], vec![4, 3, 3]),
            (7, vec![50, 30, 20], vec![4, 2, 1]),
            (100, vec![97, 2, 1], vec![97, 2, 1]),
            (701, vec![97, 2, 1], vec![680, 14, 7]),
            (0, vec![5, 5], vec![0, 0]),
            (3, vec![], vec![]),
        ] {
            assert_eq!(apportion(seats, &sizes), expected, "{seats} over {sizes:?}");
        }
    }

    #[test]
    fn draws_repeat_and_differ_by_purpose() {
        let numbers = |purpose| {
            let mut draw = Draw::new(1, purpose, "x");
            (0..4).map(|_| draw.below(1_000_000)).collect::<Vec<_>>()
        };
        assert_eq!(numbers("a"), numbers("a"));
        assert_ne!(numbers("a"), numbers("b"));
        let mut list: Vec<u8> = (0..100).collect();
        Draw::new(1, "a", "x").keep(&mut list, 10);
        assert!(list.len() == 10 && list.is_sorted());
    }
}
