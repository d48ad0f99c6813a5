//! What the engine counts about itself; each packet that comes to nothing has its reason here.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident,)+) => {
        /// The counters, as the engine moves them.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)+
        }

        /// The counters at one moment. All only grow while the process lives.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$meta])* pub $name: u64,)+
        }

        impl Counters {
            pub(super) fn read(&self) -> Counts {
                Counts { $($name: self.$name.get(),)+ }
            }
        }

        impl Counts {
            /// Names and values, for self-statistics.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Requests handed to the kernel.
    sent,
    /// Replies that answered a request in time, once each.
    received,
    /// Replies that came again while their run was going on.
    duplicates,
    /// Replies that came after the deadline of their run, first or again.
    late,
    /// ICMP errors that were attributed to a request.
    errors,
    /// Messages for somebody else, or forged: no token of ours, or not from where the request went.
    foreign,
    /// Messages that could not be parsed, and replies with changed content.
    malformed,
    /// Round trips that were discarded because the system clock stepped in between.
    clock_steps,
    /// Packets that the kernel dropped because the receive queue was full.
    overflowed,
    /// Requests that this machine refused to send.
    refused,
    /// ICMP messages that the kernel dropped because their checksum was wrong: all of the machine's, by its counters.
    bad_checksums,
}

/// A counter that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn one(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_carry_their_names() {
        let counters = Counters::default();
        counters.late.one();
        counters.overflowed.add(3);
        let counts = counters.read();
        assert_eq!((counts.late, counts.overflowed, counts.sent), (1, 3, 0));
        let named: Vec<_> = counts.named().filter(|(_, value)| *value > 0).collect();
        assert_eq!(named, [("late", 1), ("overflowed", 3)]);
    }
}
