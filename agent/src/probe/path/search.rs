//! Which packet sizes are tried to find the path MTU. No clock and no socket in here.
//!
//! After RFC 8899 (packetization layer path MTU discovery), with all the time of a check instead of a connection's: first
//! a size that every path has (the *base*), so that a silent target is not taken for a narrow path; then the largest
//! that leaves this machine. What a router tells in "packet too big" is a hint to be tried, never believed: it may be
//! forged, outdated, or about the next narrow link only. Where large packets vanish and nobody says why, sizes in
//! between are tried until two neighbours are found of which one passes: a black hole (RFC 2923 section 2.1).

use std::collections::BTreeMap;

use extranet_proto::assignment::Family;

/// No IP packet is larger.
const LARGEST: u16 = 65_535;
/// Where the machine does not say what it can send (guess: Ethernet).
const USUAL: u16 = 1_500;
/// Rounds after which a search that contradicts itself ends; a search from 576 to 65,535 in halves takes 17.
const ROUNDS: usize = 40;

/// Why a size does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The device of this machine is narrower.
    Local,
    /// A router said so.
    Told,
    /// It vanished.
    Silent,
}

/// A search in the making.
#[derive(Debug)]
pub(super) struct Search {
    base: u16,
    /// Sizes tried at the same time.
    width: u16,
    largest_passed: Option<u16>,
    failed: BTreeMap<u16, Cause>,
    /// What this machine can send.
    local: Option<u16>,
    /// A hint that was not tried yet.
    hint: Option<u16>,
    /// What the last search found: most often it still is so.
    before: Option<u16>,
    rounds: usize,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Packets of these sizes are to be sent, ascending.
    Try(Vec<u16>),
    /// It is found.
    Found(Found),
    /// Not even the smallest packet is answered.
    NoAnswer,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The largest size that passes, bytes.
    pub(super) mtu: u16,
    /// The MTU of the device of this machine, if it is known.
    pub(super) local: Option<u16>,
    /// Larger packets vanish, and nobody says so.
    pub(super) black_hole: bool,
}

impl Search {
    /// `before` is what the last search of the same path found.
    pub(super) fn new(family: Family, width: u16, before: Option<u16>) -> Self {
        Self {
            base: match family {
                // RFC 791 section 3.1: what every host takes. A path may be narrower, but none of today's is.
                Family::V4 => 576,
                // RFC 8200 section 5: what every link has.
                Family::V6 => 1_280,
            },
            width,
            largest_passed: None,
            failed: BTreeMap::new(),
            local: None,
            hint: None,
            before,
            rounds: 0,
        }
    }

    /// The next round.
    pub(super) fn next(&mut self) -> Next {
        let Some(passed) = self.largest_passed else {
            if self.failed.contains_key(&self.base) {
                return Next::NoAnswer;
            }
            return Next::Try(vec![self.base]);
        };
        let Some((failed, _)) = self.bound() else {
            return if passed == LARGEST {
                Next::Found(self.found(passed))
            } else {
                Next::Try(vec![self.local.unwrap_or(LARGEST)])
            };
        };
        self.rounds += 1;
        if failed - passed == 1 || self.rounds > ROUNDS {
            return Next::Found(self.found(passed));
        }
        let tried = |size: &u16| *size > passed && *size < failed;
        if let Some(hint) = self.hint.take().filter(tried) {
            return Next::Try(vec![hint]);
        }
        // What is left when the machine itself said what it cannot send: its largest.
        if let Some(local) = self.local.filter(tried)
            && failed == local + 1
        {
            return Next::Try(vec![local]);
        }
        if let Some(before) = self.before.take().filter(tried) {
            let both = [before, before + 1].into_iter().filter(tried);
            return Next::Try(both.take(usize::from(self.width)).collect());
        }
        Next::Try(between(passed, failed, self.width))
    }

    /// The smallest size above everything that passed which does not pass.
    fn bound(&self) -> Option<(u16, Cause)> {
        let above = self.largest_passed.unwrap_or(0);
        let mut failed = self.failed.iter().map(|(size, cause)| (*size, *cause));
        failed.find(|(size, _)| *size > above)
    }

    fn found(&self, mtu: u16) -> Found {
        Found {
            mtu,
            local: self.local,
            black_hole: matches!(self.bound(), Some((_, Cause::Silent))),
        }
    }

    /// What can be said when there is no time left: `mtu` passes, perhaps more does.
    pub(super) fn so_far(&self) -> Option<Found> {
        self.largest_passed.map(|passed| self.found(passed))
    }

    /// A packet arrived.
    pub(super) fn passed(&mut self, size: u16) {
        self.largest_passed = self.largest_passed.max(Some(size));
        // Two reports that contradict each other: what arrived did arrive.
        self.failed.remove(&size);
    }

    /// A router said that a packet is too big for its next link, and how large that is. Returns the size that is now
    /// believed to be the largest one to pass there, if it told one that can be.
    pub(super) fn too_big(&mut self, size: u16, told: u32) -> Option<u16> {
        let above = self.largest_passed.unwrap_or(0);
        if size <= above {
            return None;
        }
        // Smaller than what passed, or not smaller than what did not: nonsense, except that something was too big.
        let told = u16::try_from(told)
            .ok()
            .filter(|told| *told >= above && *told < size && *told > 0);
        match told {
            Some(told) => {
                self.failed.insert(told + 1, Cause::Told);
                self.hint = Some(told);
            }
            None => {
                self.failed.insert(size, Cause::Told);
            }
        }
        told
    }

    /// A packet and those after it got no answer.
    pub(super) fn silent(&mut self, size: u16) {
        self.failed.entry(size).or_insert(Cause::Silent);
    }

    /// This machine cannot send so much; `mtu` is what it can, if it said so.
    pub(super) fn too_large_here(&mut self, size: u16, mtu: Option<u16>) {
        let told = mtu.filter(|mtu| *mtu < size && *mtu >= self.base);
        // The first refusal comes without a number only from kernels that do not queue it.
        let mtu = told.or((size == LARGEST).then_some(USUAL));
        match mtu {
            Some(mtu) => {
                self.local = Some(mtu);
                self.failed.insert(mtu + 1, Cause::Local);
            }
            None => {
                self.failed.insert(size, Cause::Local);
            }
        }
    }
}

/// Up to `width` sizes strictly between two, evenly spread.
fn between(passed: u16, failed: u16, width: u16) -> Vec<u16> {
    let gap = failed - passed;
    if gap - 1 <= width {
        return (passed + 1..failed).collect();
    }
    let step = |i: u16| u32::from(gap) * u32::from(i) / (u32::from(width) + 1);
    (1..=width)
        .map(|i| passed + u16::try_from(step(i)).unwrap_or(0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path: what this machine can send, then for each narrower link its MTU and whether its router tells.
    struct Path {
        local: u16,
        links: Vec<(u16, bool)>,
        before: Option<u16>,
    }

    /// Searches; gives what was found and how many rounds went over the network.
    fn search(family: Family, width: u16, path: &Path) -> (Next, usize) {
        let mut search = Search::new(family, width, path.before);
        for round in 0..100 {
            let sizes = match search.next() {
                Next::Try(sizes) => sizes,
                end => return (end, round),
            };
            assert!(sizes.len() <= usize::from(width));
            assert!(sizes.is_sorted() && !sizes.is_empty(), "{sizes:?}");
            for size in sizes {
                if size > path.local {
                    search.too_large_here(size, Some(path.local));
                    continue;
                }
                match path.links.iter().find(|(mtu, _)| *mtu < size) {
                    None => search.passed(size),
                    Some((_, false)) => search.silent(size),
                    Some((mtu, true)) => {
                        search.too_big(size, u32::from(*mtu));
                    }
                }
            }
        }
        panic!("does not end");
    }

    #[test]
    fn every_path_is_measured_to_the_byte() {
        // Local MTU, links, path MTU, black hole, most rounds (with eight sizes at once).
        type Links = [(u16, bool)];
        let cases: [(u16, &Links, u16, bool, usize); 9] = [
            (1_500, &[], 1_500, false, 3),
            (1_500, &[(1_400, true)], 1_400, false, 4),
            (
                1_500,
                &[(1_450, true), (1_300, true), (1_280, true)],
                1_280,
                false,
                6,
            ),
            (1_500, &[(1_300, false)], 1_300, true, 6),
            // The first router tells, the second does not.
            (1_500, &[(1_400, true), (1_350, false)], 1_350, true, 7),
            (9_000, &[(1_500, true)], 1_500, false, 4),
            (9_000, &[(1_499, false)], 1_499, true, 8),
            (65_535, &[], 65_535, false, 2),
            (1_280, &[], 1_280, false, 3),
        ];
        for family in [Family::V4, Family::V6] {
            for width in [1, 8] {
                for (local, links, mtu, black_hole, rounds) in cases {
                    let path = Path {
                        local,
                        links: links.to_vec(),
                        before: None,
                    };
                    let (end, took) = search(family, width, &path);
                    let Next::Found(found) = end else {
                        panic!("{end:?}");
                    };
                    assert_eq!(
                        (found.mtu, found.black_hole),
                        (mtu, black_hole),
                        "{local} {links:?}"
                    );
                    if local < LARGEST {
                        assert_eq!(found.local, Some(local));
                    }
                    if width == 8 {
                        assert!(took <= rounds, "{local} {links:?}: {took} rounds");
                    }
                }
            }
        }
    }

    #[test]
    fn a_black_hole_that_is_known_is_only_looked_at_again() {
        for (before, rounds) in [(1_300, 4), (1_299, 6), (1_301, 6), (9_000, 6), (300, 6)] {
            let path = Path {
                local: 1_500,
                links: vec![(1_300, false)],
                before: Some(before),
            };
            let (end, took) = search(Family::V6, 8, &path);
            assert!(matches!(end, Next::Found(found) if found.mtu == 1_300 && found.black_hole));
            assert!(took <= rounds + 1, "{before}: {took} rounds");
        }
    }

    #[test]
    fn a_silent_target_is_no_narrow_path() {
        let mut search = Search::new(Family::V6, 8, None);
        assert_eq!(search.next(), Next::Try(vec![1_280]));
        search.silent(1_280);
        assert_eq!(search.next(), Next::NoAnswer);
        assert_eq!(search.so_far(), None);
    }

    #[test]
    fn nonsense_and_contradictions_come_to_an_end() {
        let mut search = Search::new(Family::V4, 8, None);
        search.passed(576);
        search.too_large_here(65_535, Some(1_500));
        assert_eq!(search.next(), Next::Try(vec![1_500]));
        // Larger than what was too big, smaller than what passed, none at all.
        for told in [1_500, 9_000, 100, 0, 70_000] {
            assert_eq!(search.too_big(1_500, told), None);
        }
        assert_eq!(search.too_big(500, 400), None, "smaller ones passed");
        for _ in 0..100 {
            match search.next() {
                Next::Try(sizes) => {
                    // A network that lets through what it just said it would not.
                    search.passed(sizes[0]);
                    search.too_big(sizes[0] + 2, u32::from(sizes[0]) + 1);
                }
                Next::Found(found) => {
                    assert!(found.mtu < 1_500 && !found.black_hole, "{found:?}");
                    return;
                }
                Next::NoAnswer => panic!("576 bytes passed"),
            }
        }
        panic!("does not end");
    }

    #[test]
    fn a_lost_packet_below_one_that_passed_means_nothing() {
        let mut search = Search::new(Family::V4, 8, None);
        search.passed(576);
        search.too_large_here(65_535, Some(1_500));
        search.silent(1_500);
        let Next::Try(sizes) = search.next() else {
            panic!("in between");
        };
        search.silent(sizes[2]);
        search.passed(sizes[5]);
        search.silent(sizes[6]);
        let Next::Try(closer) = search.next() else {
            panic!("in between");
        };
        assert!(
            closer
                .iter()
                .all(|size| *size > sizes[5] && *size < sizes[6])
        );
    }

    #[test]
    fn sizes_lie_evenly_between() {
        assert_eq!(between(10, 12, 8), [11]);
        assert_eq!(between(10, 19, 8), [11, 12, 13, 14, 15, 16, 17, 18]);
        assert_eq!(between(576, 1_500, 1), [1_038]);
        assert_eq!(between(0, 65_535, 3), [16_383, 32_767, 49_151]);
    }
}
